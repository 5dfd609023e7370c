"""The checks of events: which can be used, which are copies, and which are refused with a sentence.

None is dropped silently and none is corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import digest_bytes
from mangaassist.core.language import Language
from mangaassist.labels.events import (
    EVENT_SCHEMA,
    KINDS,
    LONGEST_QUERY,
    MOST_POSITIONS,
    EventLimits,
    Refusal,
    Unreadable,
    clean,
    refuse,
)

_TEXT: frozenset[type] = frozenset({str, type(None)})
_TYPES: Mapping[str, frozenset[type]] = {
    **dict.fromkeys(EVENT_SCHEMA.names, _TEXT),
    "items": frozenset({list, type(None)}),
    "randomised": frozenset({list, type(None)}),
    "position": frozenset({int, type(None)}),
    "dwell_ms": frozenset({int, float, type(None)}),
}
_INNER: Mapping[str, type] = {"items": str, "randomised": int}
_RAW = pl.Schema(
    {
        **{name: pl.String() for name in EVENT_SCHEMA.names},
        "items": pl.List(pl.String()),
        "randomised": pl.List(pl.Int64()),
        "position": pl.Int64(),
        "dwell_ms": pl.Float64(),
    }
)
_IS_DIGEST = r"^[0-9a-f]{32}$"
_LONGEST_DWELL_MS = 24 * 3600 * 1000.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch after the checks.

    Attributes:
        rows: usable events in the columns of EVENT_SCHEMA, instants spelled as text for the spool.
        refusals: the others.
        duplicates: events that occurred again, unchanged, in the same batch.
    """

    rows: pl.DataFrame
    refusals: tuple[Refusal, ...]
    duplicates: int


def judge(events: Sequence[Any] | pl.DataFrame | pa.Table, *, now: datetime, limits: EventLimits) -> Judged:
    """Separate what can be used from what cannot.

    Args:
        events: objects with the keys of EVENT_SCHEMA, or a frame of such columns; absent ones are empty.
        now: when the batch arrived; an event that does not say when it became known became known now.

    Raises:
        InputError: for a frame with an unknown column or a column of another type.
    """
    if isinstance(events, pl.DataFrame | pa.Table):
        frame, refusals = _typed(events), list[Refusal]()
    else:
        frame, refusals = _from_objects(events)
    timed = frame.with_columns(
        at=_instant(frame, "at"),
        known_at=pl.when(pl.col("known_at").is_null())
        .then(pl.lit(now))
        .otherwise(_instant(frame, "known_at")),
    )
    rules = _rules(now, limits)
    hit = timed.select(pl.coalesce(pl.when(one.broken).then(index) for index, one in enumerate(rules)))
    broken = hit.to_series()
    good = broken.is_null()
    if not good.all():
        found = zip(frame.filter(~good).rows(named=True), broken.filter(~good), strict=True)
        refusals += [rules[index].refuse(row) for row, index in found]
        timed = timed.filter(good)
    rows, again, reused = _once(_stored(timed))
    return Judged(rows, (*refusals, *reused), again)


@dataclass(frozen=True, slots=True, eq=False)
class _Rule:
    """``broken`` is true for events that are refused for ``reason``, which lies in ``field``."""

    reason: str
    field: str
    expected: str
    broken: pl.Expr

    def refuse(self, row: Mapping[str, Any]) -> Refusal:
        return refuse(row, self.reason, self.field, self.expected)


def _rules(now: datetime, limits: EventLimits) -> tuple[_Rule, ...]:
    """In the order they are asked; the first broken one is named."""
    return (*_rules_of_all(now, limits), *_rules_of_lists(), *_rules_of_acts())


def _rules_of_all(now: datetime, limits: EventLimits) -> tuple[_Rule, ...]:
    at, known_at, user = pl.col("at"), pl.col("known_at"), pl.col("user")
    oldest, digest = limits.oldest, "a digest of 32 hexadecimal characters or nothing"
    early = (at > known_at + limits.skew) | (known_at > pl.lit(now) + limits.skew)
    raw = user.is_not_null() & ~user.str.contains(_IS_DIGEST)
    return (
        _Rule("no_event_id", "event_id", "a key of 1 to 200 characters", ~_named(pl.col("event_id"))),
        _Rule("unknown_kind", "kind", " or ".join(KINDS), ~pl.col("kind").is_in(KINDS).fill_null(False)),
        _Rule("no_request_id", "request_id", "1 to 200 characters", ~_named(pl.col("request_id"))),
        _Rule("no_time", "at", "a time with an offset such as 2026-11-20T09:30:00Z", at.is_null()),
        _Rule("no_time", "known_at", "a time with an offset, or nothing", known_at.is_null()),
        _Rule("from_the_future", "at", f"a time that had come when it arrived ({_when(now)})", early),
        _Rule("too_old", "at", f"at most {oldest.days} days before it arrived", at < known_at - oldest),
        _Rule("raw_user", "user", digest, raw),
    )


def _rules_of_lists() -> tuple[_Rule, ...]:
    shown = pl.col("kind") == "impression"
    items, shuffled, query = pl.col("items"), pl.col("randomised"), pl.col("query")
    languages = [str(one) for one in Language]
    bad_language = pl.col("language").is_in(languages).fill_null(False).not_()
    good_query = query.str.contains(r"\S") & (query.str.len_chars() <= LONGEST_QUERY)
    wanted = f"what the list was shown for, up to {LONGEST_QUERY:,} characters"
    bad_list = (
        items.is_null()
        | ~items.list.len().is_between(1, MOST_POSITIONS)
        | (items.list.n_unique() != items.list.len())
        | items.list.eval(pl.element().is_null() | ~_named(pl.element())).list.any()
    )
    bad_shuffle = shuffled.list.len().fill_null(0).gt(0) & (
        (shuffled.list.len() < 2)
        | (shuffled.list.n_unique() != shuffled.list.len())
        | (shuffled.list.min() < 1)
        | (shuffled.list.max() > items.list.len())
    )
    return (
        _Rule("no_surface", "surface", "where the list was shown", shown & ~_named(pl.col("surface"))),
        _Rule("no_device", "device", "what it was shown on", shown & ~_named(pl.col("device"))),
        _Rule("no_language", "language", " or ".join(languages), shown & bad_language),
        _Rule("no_query", "query", wanted, shown & ~good_query.fill_null(False)),
        _Rule("bad_items", "items", f"1 to {MOST_POSITIONS} different item ids", shown & bad_list),
        _Rule("bad_randomised", "randomised", "two or more positions of the list", shown & bad_shuffle),
    )


def _rules_of_acts() -> tuple[_Rule, ...]:
    acted, dwelt = pl.col("kind") != "impression", pl.col("kind") == "dwell"
    inside = pl.col("position").is_between(1, MOST_POSITIONS).fill_null(False)
    dwell, whole_day = pl.col("dwell_ms"), "milliseconds from 0 to one day"
    odd = dwell.is_null() | dwell.is_nan() | ~dwell.is_between(0.0, _LONGEST_DWELL_MS)
    return (
        _Rule("no_item", "item", "the item acted on", acted & ~_named(pl.col("item"))),
        _Rule("position_out_of_range", "position", f"1 to {MOST_POSITIONS}", acted & ~inside),
        _Rule("bad_dwell", "dwell_ms", whole_day, pl.when(dwelt).then(odd)),
    )


def _named(text: pl.Expr) -> pl.Expr:
    return text.str.len_chars().is_between(1, 200).fill_null(False)


def _when(now: datetime) -> str:
    return isoformat(now)[:19] + "Z"


def _instant(frame: pl.DataFrame, name: str) -> pl.Expr:
    """The column as an instant; null where the text is none."""
    if frame[name].dtype != pl.String:
        return pl.col(name)
    return pl.col(name).str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)


def _typed(events: pl.DataFrame | pa.Table) -> pl.DataFrame:
    """A frame of events with every column of :data:`_RAW`."""
    frame = pl.DataFrame(pl.from_arrow(events)) if isinstance(events, pa.Table) else events
    for name in frame.columns:
        if name not in _RAW:
            raise InputError(
                "events", expected="known columns", got=f"'{name}'", next_step=nearest(name, _RAW.names())
            )
    absent = [pl.lit(None, kind).alias(name) for name, kind in _RAW.items() if name not in frame.columns]
    return frame.with_columns(absent).select(_cast(frame, name) for name in _RAW)


def _cast(frame: pl.DataFrame, name: str) -> pl.Expr:
    kind = frame.schema.get(name, _RAW[name])
    number = kind.is_integer() or (name == "dwell_ms" and kind.is_float())
    if name in ("at", "known_at") and isinstance(kind, pl.Datetime) and kind.time_zone:
        return pl.col(name).dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    if kind in (_RAW[name], pl.Null) or (number and _RAW[name].is_numeric()):
        return pl.col(name).cast(_RAW[name])
    inner = getattr(kind, "inner", None)
    if name == "randomised" and inner is not None and (inner.is_integer() or inner == pl.Null):
        return pl.col(name).cast(_RAW[name])
    raise InputError(
        f"events: column '{name}'",
        expected=str(_RAW[name]),
        got=str(kind),
        next_step="Give instants a time zone and every column its type.",
    )


def _from_objects(events: Sequence[Any]) -> tuple[pl.DataFrame, list[Refusal]]:
    """Objects as a frame; those whose values have the wrong types are refused one by one."""
    if set(map(type, events)) <= {dict}:
        frame = _columns(events)
        if frame is not None:
            return frame, []
    refusals, kept = [], []
    for event in events:
        refused = _misfit(event)
        if refused is None:
            kept.append(event)
        else:
            refusals.append(refused)
    frame = _columns(kept)
    if frame is None:
        raise AssertionError("an event that fits alone does not fit beside others")
    return frame, refusals


def _columns(events: Sequence[Mapping[str, Any]]) -> pl.DataFrame | None:
    """The events column by column; None when a key is unknown or a value has another type."""
    known = _TYPES.keys()
    if not all(map(known.__ge__, map(dict.keys, events))):  # type: ignore[arg-type]
        return None
    columns = {name: [event.get(name) for event in events] for name in _TYPES}
    for name, values in columns.items():
        if not _TYPES[name].issuperset(map(type, values)):
            return None
        if name in _INNER and not _all_of(_INNER[name], values):
            return None
    try:
        return pl.DataFrame(columns, schema=_RAW)
    except (OverflowError, TypeError, UnicodeEncodeError, pl.exceptions.PolarsError):
        return None  # a number beyond 64 bits or a lone surrogate: found one by one


def _all_of(kind: type, lists: Iterable[Sequence[Any] | None]) -> bool:
    return all(type(value) is kind for values in lists if values for value in values)


def _misfit(event: Any) -> Refusal | None:
    if not isinstance(event, dict):
        got = event.place if isinstance(event, Unreadable) else f"a {type(event).__name__}"
        sentence = f"event: expected a JSON object, got {got}."
        return Refusal(None, "not_an_object", sentence, digest_bytes(repr(event).encode()))
    for name in event:
        if name not in _TYPES:
            expected = f"a known field ({nearest(str(name), _TYPES)})"
            return refuse(event, "unknown_field", str(name), expected, got="another one")
    for name in _TYPES:
        if _columns([{name: event.get(name)}]) is None:
            return refuse(event, "wrong_type", name, _SPELLED.get(name, "text"))
    return None


_SPELLED = {
    "items": "a list of texts",
    "randomised": "a list of whole numbers",
    "position": "a whole number",
    "dwell_ms": "a number",
}


def _stored(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns as the spool keeps them."""
    spelled = pl.col("at", "known_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    lists = [
        pl.Series(
            name, [None if one is None else orjson.dumps(one).decode() for one in frame[name].to_list()]
        )
        for name in ("items", "randomised")
    ]
    # Acts need no query, and one that came along was not checked.
    asked = frame.select(pl.when(pl.col("kind") == "impression").then("query")).to_series()
    queries = [None if one is None else clean(one) for one in asked.to_list()]
    texts = [one.cast(pl.String()) for one in (*lists, pl.Series("query", queries, pl.String()))]
    return frame.with_columns(spelled, *texts).select(EVENT_SCHEMA.names)


def _once(rows: pl.DataFrame) -> tuple[pl.DataFrame, int, list[Refusal]]:
    """Every key once; what occurs again unchanged, and refusals of keys used for another event."""
    if rows["event_id"].n_unique() == rows.height:
        return rows, 0, []
    content = [name for name in rows.columns if name != "known_at"]
    different = rows.unique(content, keep="first", maintain_order=True)
    first = different.unique("event_id", keep="first", maintain_order=True)
    others = different.filter(different.select(~pl.col("event_id").is_first_distinct()).to_series())
    expected = "a key no other event has"
    reused = [refuse(row, "reused_key", "event_id", expected) for row in others.rows(named=True)]
    return first, rows.height - different.height, reused
