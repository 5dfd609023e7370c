"""The value serving would have seen at a given moment, never a later one (FEA-1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from functools import cache, partial
from itertools import count

import polars as pl

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError, nearest
from mangaassist.features.as_of import EVENT, INGESTED, Collision, Integers, Requests, deciding
from mangaassist.features.catalog import Feature

__all__ = ["DTYPES", "EVENT", "INGESTED", "INSTANT", "Reason", "moments_of", "point_in_time", "reason_column"]

INSTANT = pl.Datetime("us", "UTC")
DTYPES: Mapping[str, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "string": pl.String(),
}
_AS_OF = "__as_of"


class Reason(StrEnum):
    """Why a cell holds what it holds."""

    VALUE = "value"
    MISSING = "missing"
    STALE = "stale"
    DEFAULT = "default"
    FALLBACK = "fallback"
    """Online only: the store could not be reached and the last good manifest answered (FEA-7)."""


def reason_column(feature: str) -> str:
    """The column that says why ``feature`` holds what it holds."""
    return f"{feature}__reason"


def point_in_time(
    views: Mapping[str, pl.DataFrame],
    features: Sequence[Feature],
    entities: pl.DataFrame,
    *,
    as_of: str | datetime,
    others: Callable[[str], pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """``entities`` with every feature as serving saw it at ``as_of``.

    A stored row is visible from max(ingested_at, event_ts + serving lag) on. Among the visible rows of an
    entity the one with the latest event decides, however late it arrived; an older event that arrives later
    changes nothing. Equal events are settled by arrival and then by value, so file order never matters.

    Args:
        views: rows by view: the entity column, event_ts, ingested_at and the features. In any order.
        features: what to read.
        entities: one row per read, with the entity columns (text; null where unknown).
        as_of: name of a column of ``entities`` with the moment of each read, or one moment for all. Times
            are compared in whole microseconds.
        others: gives every value column of a view, row by row, where ``views`` holds only the ones asked
            for; called only when rows share entity, event and arrival.

    Returns:
        ``entities`` unchanged, in order, plus per feature its value and ``<feature>__reason``: value; missing
        (the entity or the stored value is null); stale (older than the feature's ttl); default (nothing
        visible). Where the reason is not "value", the catalog's default stands.

    Raises:
        InputError: for a missing ``as_of``, times without a zone, null times, absent entity columns or
            column names already taken.
    """
    moments = moments_of(entities, features, as_of)
    for seed in count():
        with suppress(Collision):
            found = _found(views, features, entities, moments, others, seed=seed)
            break
    return entities.with_columns(
        found[name] for one in features for name in (one.name, reason_column(one.name))
    )


def _found(
    views: Mapping[str, pl.DataFrame],
    features: Sequence[Feature],
    entities: pl.DataFrame,
    moments: pl.Series,
    others: Callable[[str], pl.DataFrame] | None,
    *,
    seed: int,
) -> dict[str, pl.Series]:
    """Values and reasons by column name, one per request; Collision asks for another ``seed``."""
    requests: dict[str, Requests] = {}
    found: dict[str, pl.Series] = {}
    for view, group in _by_view(features).items():
        # One piece per column: joining and gathering from several costs up to four times as much.
        entity, rows = group[0].entity, views[view].rechunk()
        if entity not in requests:
            requests[entity] = Requests.of(entities[entity].cast(pl.String), moments, seed=seed)
        whole = partial(others, view) if others else partial(rows.drop, entity, EVENT, INGESTED)
        lags = sorted({feature.serving_lag for feature in group})
        for lag, newest in deciding(rows, requests[entity], lags, cache(whole)).items():
            own = [feature for feature in group if feature.serving_lag == lag]
            seen = _gathered(rows, newest, own).with_columns(entities[entity], moments)
            found |= _settled(seen, own)
    return found


def _by_view(features: Sequence[Feature]) -> dict[str, list[Feature]]:
    """Features by view: their rows are ordered once, and joined once per distinct lag."""
    groups: dict[str, list[Feature]] = {}
    for feature in features:
        groups.setdefault(feature.view, []).append(feature)
    return groups


def _gathered(rows: pl.DataFrame, positions: Integers, features: Sequence[Feature]) -> pl.DataFrame:
    """event_ts and values of the rows at ``positions``; null where the position is -1."""
    found = pl.Series(positions)
    names = [EVENT, *(feature.name for feature in features)]
    return rows.select(pl.col(names).gather(found.set(found < 0, None)))


def _settled(seen: pl.DataFrame, features: Sequence[Feature]) -> dict[str, pl.Series]:
    """Values and reasons by column name, one per request."""
    made = seen.select(column for feature in features for column in _columns(feature))
    return {column.name: column for column in made}


def _columns(feature: Feature) -> tuple[pl.Expr, pl.Expr]:
    """The feature's value and its reason."""
    stored = pl.col(feature.name)
    if feature.dtype == "float":
        stored = stored.fill_nan(None)
    event = pl.col(EVENT)
    reason = (
        pl.when(pl.col(feature.entity).is_null())
        .then(pl.lit(Reason.MISSING.value))
        .when(event.is_null())
        .then(pl.lit(Reason.DEFAULT.value))
        .when(pl.col(_AS_OF) - event > feature.ttl)
        .then(pl.lit(Reason.STALE.value))
        .when(stored.is_null())
        .then(pl.lit(Reason.MISSING.value))
        .otherwise(pl.lit(Reason.VALUE.value))
    )
    # A null entity has no event and a missing value is null: three of the four reasons show here already.
    fresh = pl.col(_AS_OF) - event <= feature.ttl
    default = pl.lit(feature.default, dtype=DTYPES[feature.dtype])
    value = pl.when(fresh).then(stored).fill_null(default).cast(DTYPES[feature.dtype])
    return value.alias(feature.name), reason.alias(reason_column(feature.name))


def _check_entities(entities: pl.DataFrame, features: Sequence[Feature]) -> None:
    for entity in {feature.entity for feature in features}:
        if entity not in entities.columns:
            raise InputError(
                "entities",
                expected=f"a column '{entity}'",
                got=", ".join(entities.columns) or "no columns",
                next_step=nearest(entity, entities.columns),
            )
        if entities.schema[entity] not in (pl.String, pl.Null):
            raise InputError(
                f"entities: column '{entity}'",
                expected="text",
                got=str(entities.schema[entity]),
                next_step="Cast it to text; identifiers are not numbers.",
            )
    taken = {name for one in features for name in (one.name, reason_column(one.name))} & {*entities.columns}
    if taken:
        raise InputError(
            "entities",
            expected="no column named like a feature",
            got=", ".join(sorted(taken)),
            next_step="Rename or drop it.",
        )


def moments_of(entities: pl.DataFrame, features: Sequence[Feature], as_of: str | datetime) -> pl.Series:
    """The moment of each read, in UTC microseconds.

    Raises:
        InputError: as :func:`point_in_time`.
    """
    _check_entities(entities, features)
    if isinstance(as_of, datetime):
        moment = utc(as_of, field="as_of")
        return pl.Series(_AS_OF, [moment] * entities.height, dtype=INSTANT)
    if as_of not in entities.columns:
        raise InputError(
            "as_of",
            expected="a column of the entities, or a moment",
            got=repr(as_of),
            next_step="Say when each value was needed; there is no default, because 'now' would leak.",
        )
    column = entities[as_of]
    if not isinstance(column.dtype, pl.Datetime) or column.dtype.time_zone is None:
        raise InputError(
            f"as_of: column '{as_of}'",
            expected="times with a time zone",
            got=str(column.dtype),
            next_step="Convert it, for example with dt.replace_time_zone('UTC').",
        )
    if column.null_count():
        raise InputError(
            f"as_of: column '{as_of}'",
            expected="a time in every row",
            got=f"{column.null_count()} empty ones",
            next_step="Drop those rows.",
        )
    return column.dt.convert_time_zone("UTC").cast(INSTANT).alias(_AS_OF)
