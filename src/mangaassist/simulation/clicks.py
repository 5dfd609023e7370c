"""A SIMULATED click log whose truth is known: who looks where, what is worth a click, what is sent back.

No public click log with bilingual queries, dwell and returns is at hand, so this one stands in for it. Its
surface is named "simulated_search" and its keys begin with "sim-", so that it is never taken for real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.identity import user_digest
from mangaassist.simulation.catalog import Manga, read_catalog

SURFACE = "simulated_search"
POSITIONS = 10
EXAMINATION: Mapping[str, tuple[float, ...]] = {
    "mobile": (1.0, 0.72, 0.52, 0.38, 0.28, 0.21, 0.16, 0.12, 0.10, 0.08),
    "desktop": (1.0, 0.85, 0.72, 0.62, 0.54, 0.47, 0.41, 0.36, 0.32, 0.28),
}
"""The truth: how often each position is looked at; phones show less at once."""
_DEVICES = tuple(EXAMINATION)
_CANDIDATES = 16
_USERS = 500
_SHUFFLED = "[" + ",".join(str(place) for place in range(1, POSITIONS + 1)) + "]"

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ClickLog:
    """A simulated log.

    Attributes:
        events: rows as a producer sends them (the columns of ``labels.events.EVENT_SCHEMA``, lists as
            lists), in order of arrival.
        relevance: the truth: query, item, relevance in [0, 1].
    """

    events: pl.DataFrame
    relevance: pl.DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class _World:
    """``items`` (catalogue numbers), ``relevance`` and the ranker's ``lift``: shape (queries, candidates)."""

    queries: tuple[str, ...]
    languages: tuple[str, ...]
    items: Integers
    relevance: Reals
    lift: Reals


@dataclass(frozen=True, slots=True, eq=False)
class _Lists:
    """What was shown; first axis requests, second positions."""

    query: Integers
    device: Integers
    at: Reals
    shuffled: NDArray[np.bool_]
    item: Integers
    relevance: Reals


def simulate_clicks(
    generator: np.random.Generator,
    *,
    requests: int,
    until: datetime,
    days: int = 28,
    queries: int = 60,
    shuffled: float = 0.1,
    wobble: float = 0.25,
    popularity: float = 0.0,
) -> ClickLog:
    """``requests`` lists over the ``days`` before ``until`` and everything done on them by then.

    Clicks follow the position-based model. The ranker knows relevance up to noise of size ``wobble``, and
    lifts popular items, whatever they are worth, by up to ``popularity``; a ``shuffled`` share of lists is in
    random order instead. Relevant items are looked at longer, bought more
    and returned less; returns take days.
    """
    world = _build(generator, queries, popularity)
    start = until - timedelta(days=days)
    lists = _show(generator, world, requests, start, days, shuffled=shuffled, wobble=wobble)
    frames = _events(generator, world, lists)
    events = (
        pl.concat(frames, how="diagonal").filter(pl.col("known_at") <= until).sort("known_at", "event_id")
    )
    truth = {
        "query": np.repeat(np.array(world.queries), _CANDIDATES),
        "item": _item_names(world.items.ravel()),
        "relevance": world.relevance.ravel(),
    }
    return ClickLog(events, pl.DataFrame(truth))


def _build(generator: np.random.Generator, queries: int, popularity: float) -> _World:
    catalog = read_catalog()
    chosen = generator.choice(len(catalog), size=queries, replace=queries > len(catalog))
    japanese = generator.random(queries) < 0.35
    texts = tuple(
        _query(catalog[number], index, bool(ja))
        for index, (number, ja) in enumerate(zip(chosen, japanese, strict=True))
    )
    languages = tuple("ja" if ja else "en" for ja in japanese)
    items = np.stack([generator.choice(len(catalog), _CANDIDATES, replace=False) for _ in range(queries)])
    relevance = generator.beta(0.8, 1.6, size=items.shape)
    return _World(texts, languages, items, relevance, popularity * generator.random(items.shape))


def _query(work: Manga, index: int, japanese: bool) -> str:
    if japanese:
        return (f"{work.title_ja} みたいな漫画", f"{work.title_ja} 続き")[index % 2]
    return (f"manga like {work.title_en}", f"{work.title_en} box set")[index % 2]


def _show(
    generator: np.random.Generator,
    world: _World,
    requests: int,
    start: datetime,
    days: int,
    *,
    shuffled: float,
    wobble: float,
) -> _Lists:
    query = generator.integers(0, len(world.queries), requests)
    # Japanese shoppers use phones more often.
    japanese = np.array([one == "ja" for one in world.languages])[query]
    device = (generator.random(requests) >= np.where(japanese, 0.8, 0.6)).astype(np.int64)
    relevance = world.relevance[query]
    chance = generator.random(requests) < shuffled
    score = relevance + world.lift[query] + wobble * generator.normal(size=relevance.shape)
    score = np.where(chance[:, None], generator.random(relevance.shape), score)
    order = np.argsort(-score, axis=1)[:, :POSITIONS]
    at = start.timestamp() + generator.random(requests) * days * 86_400
    return _Lists(
        query,
        device,
        at,
        chance,
        np.take_along_axis(world.items[query], order, axis=1),
        np.take_along_axis(relevance, order, axis=1),
    )


def _events(generator: np.random.Generator, world: _World, lists: _Lists) -> list[pl.DataFrame]:
    """One frame per kind."""
    run = generator.bytes(4).hex()
    requests = len(lists.query)
    ids = [f"sim-{run}-{number}" for number in range(requests)]
    shown = _impressions(generator, world, lists, ids)
    looked = (
        generator.random((requests, POSITIONS))
        < np.array([EXAMINATION[one] for one in _DEVICES])[lists.device]
    )
    wanted = generator.random((requests, POSITIONS)) < 0.04 + 0.56 * lists.relevance
    request, place = np.nonzero(looked & wanted)
    relevance = lists.relevance[request, place]
    clicked_at = lists.at[request] + 2.0 + generator.exponential(6.0, len(request)) * (1 + place)
    satisfied = generator.random(len(request)) < 0.1 + 0.85 * relevance
    dwell = np.exp(np.where(satisfied, np.log(90.0), np.log(3.0)) + 0.6 * generator.normal(size=len(request)))
    carted = satisfied & (generator.random(len(request)) < 0.25)
    bought = carted & (generator.random(len(request)) < 0.5)
    back = bought & (generator.random(len(request)) < 0.4 * (1.0 - relevance))
    bought_at = clicked_at + dwell + 300.0
    returned_at = bought_at + 2 * 86_400 + generator.exponential(3 * 86_400.0, len(request))
    everything = np.ones(len(request), dtype=bool)
    acts = (
        ("click", everything, clicked_at),
        ("dwell", everything, clicked_at + dwell),
        ("cart", carted, clicked_at + dwell + 5.0),
        ("purchase", bought, bought_at),
        ("return", back, returned_at),
    )
    frames = [shown]
    for kind, happened, at in acts:
        rows = np.flatnonzero(happened)
        columns = {
            "item": _item_names(lists.item[request[rows], place[rows]]),
            "position": (place[rows] + 1).astype(np.int64),
        }
        if kind == "dwell":
            columns["dwell_ms"] = np.round(dwell[rows] * 1000.0)
        names = [ids[number] for number in request[rows].tolist()]
        frames.append(_frame(generator, kind, names, at[rows], columns))
    return frames


def _impressions(
    generator: np.random.Generator, world: _World, lists: _Lists, ids: Sequence[str]
) -> pl.DataFrame:
    requests = len(ids)
    digests = np.array([user_digest(f"sim-user-{number}") for number in range(_USERS)])
    shuffled = pl.Series(lists.shuffled)
    columns = {
        "surface": [SURFACE] * requests,
        "device": np.array(_DEVICES)[lists.device],
        "language": np.array(world.languages)[lists.query],
        "user": digests[generator.integers(0, _USERS, requests)],
        "query": np.array(world.queries)[lists.query],
        "items": [list(map(_item_name, row)) for row in lists.item.tolist()],
    }
    frame = _frame(generator, "impression", ids, lists.at, columns)
    positions = pl.lit(_SHUFFLED).str.json_decode(pl.List(pl.Int64()))
    return frame.with_columns(randomised=pl.when(shuffled).then(positions))


def _frame(
    generator: np.random.Generator,
    kind: str,
    requests: Sequence[str],
    at: Reals,
    columns: Mapping[str, Any],
) -> pl.DataFrame:
    """Events of one kind; most arrive within seconds, 2% up to six hours late."""
    count = len(requests)
    late = np.where(generator.random(count) < 0.02, generator.uniform(0, 6 * 3600.0, count), 0.0)
    known = at + generator.exponential(2.0, count) + late
    keys = [f"{request}-{kind}-{number}" for number, request in enumerate(requests)]
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "event_id": pl.Series(keys, dtype=pl.String()),
            "kind": pl.Series([kind] * count, dtype=pl.String()),
            "request_id": pl.Series(requests, dtype=pl.String()),
            "at": pl.Series((at * 1e6).astype(np.int64)).cast(instant),
            "known_at": pl.Series((known * 1e6).astype(np.int64)).cast(instant),
            **columns,
        }
    )


def _item_names(numbers: Integers) -> list[str]:
    return [_item_name(number) for number in numbers.tolist()]


def _item_name(number: int) -> str:
    return f"manga-{number:04d}"
