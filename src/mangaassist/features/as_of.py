"""As-of joins on arrays: one sort of a view's rows serves every lag, one binary search every request.

Entities become small integers by their hashes, at half the cost of comparing their text, and an entity and a
time are packed into one integer, so that a sort or a search has one key. Text is compared only where it
counts: the row that decides for a request must be of its entity, or else hashes have collided.

A large view is joined part by part, each with its own entities: a part's keys and order stay in the
processor's caches, so that a row costs the same in fifty million as in one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

EVENT, INGESTED = "event_ts", "ingested_at"
_KEY, _ROW, _CODE, _HASH = "__key", "__row", "__code", "__hash"
_LARGEST, _HIGH = 2**62, 2**33
_PART = 2**20
"""Rows joined at once: their keys, times and order are some tens of megabytes."""
_MICRO = timedelta(microseconds=1)

Integers = NDArray[np.int64]


class Collision(Exception):
    """Two entities have the same hash and it made a difference; another seed will do."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Moments at which entities are asked for.

    Attributes:
        entities: shape (n,): text, named like the column of the views.
        seed: of the hashes.
        hashes: shape (n,): of the entities; null where they are.
        moments: shape (n,): UTC microseconds.
    """

    entities: pl.Series
    seed: int
    hashes: pl.Series
    moments: Integers

    @classmethod
    def of(cls, entities: pl.Series, moments: pl.Series, *, seed: int = 0) -> Requests:
        """Ask for ``entities`` (text) at ``moments`` (Datetime("us", "UTC"))."""
        known = pl.when(entities.is_not_null()).then(_HASH).alias(_HASH)
        hashes = _hashed(entities, seed).to_frame().select(known).to_series()
        return cls(entities, seed, hashes, _integers(moments))


def deciding(
    view: pl.DataFrame,
    requests: Requests,
    lags: Collection[timedelta],
    others: Callable[[], pl.DataFrame],
    *,
    part: int = _PART,
) -> dict[timedelta, Integers]:
    """By lag, and per request, the position in ``view`` of the row that decides; -1 for none.

    Args:
        view: the entity column, event_ts and ingested_at (UTC microseconds), in any order.
        others: every value column of the view, row by row; called only to settle rows that share entity,
            event and arrival, so that the answer depends neither on the order of files nor on which
            features are asked for.
        part: about how many rows are joined at once.

    Raises:
        Collision: a row that would decide is of another entity than the request.
    """
    entities = view[requests.entities.name]
    own = view.select(_hashed(entities, requests.seed), EVENT, INGESTED).with_row_index(_ROW)
    found = {lag: np.full(len(requests.moments), -1, dtype=np.int64) for lag in lags}
    for chosen, places in _parts(own[_HASH], requests.hashes, max(1, view.height // part)):
        asked = requests.hashes.gather(places)
        history = History.of(own.filter(chosen), asked, requests.moments[places], others)
        for lag in lags:
            found[lag][places] = history.deciding(lag)
    for newest in found.values():
        hit = np.flatnonzero(newest >= 0)
        if not entities.gather(newest[hit]).equals(requests.entities.gather(hit)):
            raise Collision
    return found


def _parts(rows: pl.Series, asked: pl.Series, count: int) -> Iterator[tuple[pl.Series, Integers]]:
    """For each of ``count`` parts by hash: which rows are in it, and the places of its requests."""
    where, wanted = ((hashes.fill_null(0) // _HIGH % count).cast(pl.UInt16) for hashes in (rows, asked))
    for number in range(count):
        yield where == number, np.flatnonzero((wanted == number).to_numpy())


@dataclass(frozen=True, slots=True)
class History:
    """The rows of one view that concern some requests, and the order in which a later one decides.

    Attributes:
        asked: shape (n,): the code of each request's entity, -1 where it is null.
        moments: shape (n,): UTC microseconds.
        kinds: how many codes there are.
        order: shape (m,): puts what follows by entity, event, arrival and values.
        rows: shape (m,): positions in the view's frame.
        codes, events, ingested: shape (m,): of those rows; times in UTC microseconds.
    """

    asked: Integers
    moments: Integers
    kinds: int
    order: Integers
    rows: Integers
    codes: Integers
    events: Integers
    ingested: Integers

    @classmethod
    def of(
        cls, view: pl.DataFrame, hashes: pl.Series, moments: Integers, others: Callable[[], pl.DataFrame]
    ) -> History:
        """Order the rows of ``view`` ("__row", "__hash", event_ts, ingested_at), in whatever order they come.

        Args:
            hashes: shape (n,): of the entities asked for; null where they are.
            moments: shape (n,): UTC microseconds.
            others: as in :func:`deciding`.
        """
        wanted = hashes.alias(_HASH).to_frame()
        keys = wanted.drop_nulls().unique().with_row_index(_CODE)
        asked = wanted.join(keys, on=_HASH, how="left", maintain_order="left")[_CODE]
        own = view.join(keys, on=_HASH, how="inner").select(_ROW, _CODE, EVENT, INGESTED)
        rows, codes, events, ingested = (_integers(own[name]) for name in own.columns)
        (scaled,), span = _scaled(len(keys), events)
        scaled += codes * span
        order = _settled(_sorted(scaled), scaled, rows, ingested, others)
        numbers = _integers(asked.cast(pl.Int64).fill_null(-1))
        return cls(numbers, moments, len(keys), order, rows, codes, events, ingested)

    def deciding(self, lag: timedelta) -> Integers:
        """Per request the position, in the view's frame, of the row that decides; -1 for none.

        A row is visible from max(ingested, event + lag) on. One that becomes visible no earlier than a row
        that outranks it never decides anything; without those, visibility grows with rank and the newest
        visible row is found by binary search.
        """
        visible = self.events + lag // _MICRO
        np.maximum(visible, self.ingested, out=visible)
        (since, moments), span = _scaled(self.kinds, visible, self.moments)
        since += self.codes * span
        since = since[self.order]
        # Later entities have larger keys, so the minimum over all later rows is the entity's own, if any.
        ahead = np.minimum.accumulate(since[::-1])[::-1]
        decides = np.append(since[:-1] < ahead[1:], np.ones(min(1, len(since)), dtype=bool))
        every = bool(decides.all())
        since, order = (part if every else part[decides] for part in (since, self.order))
        wanted = self.asked.clip(0) * span + moments
        by_time = _sorted(wanted)
        place = np.empty(len(wanted), dtype=np.int64)
        place[by_time] = np.searchsorted(since, wanted[by_time], side="right") - 1
        found = np.full(len(wanted), -1, dtype=np.int64)
        hit = np.flatnonzero((place >= 0) & (self.asked >= 0))
        newest = order[place[hit]]
        own = self.codes[newest] == self.asked[hit]
        found[hit[own]] = self.rows[newest[own]]
        return found


def _integers(values: pl.Series) -> Integers:
    return values.to_physical().cast(pl.Int64).to_numpy()


def _hashed(entities: pl.Series, seed: int) -> pl.Series:
    return entities.hash(seed).alias(_HASH)


def _sorted(keys: Integers) -> Integers:
    """The order that sorts ``keys`` (0 and up), equal ones by position.

    Numbers that carry their position sort several times as fast as positions do, because numpy sorts plain
    integers by vector instructions. Where both together take more than 63 bits the keys lose their lowest,
    and the few that then look equal are put right afterwards.
    """
    below = len(keys).bit_length()
    lost = max(0, int(keys.max(initial=0)).bit_length() + below - 63)
    packed = keys >> lost
    packed <<= below
    packed |= np.arange(len(keys))
    packed.sort()
    order = packed & ((1 << below) - 1)
    if lost and len(alike := _runs(packed >> below)):
        order[alike] = order[alike][np.argsort(keys[order[alike]], kind="stable")]
    return order


def _runs(ordered: Integers) -> Integers:
    """The places of ``ordered`` whose number is also that of a neighbour."""
    same = ordered[1:] == ordered[:-1]
    return np.flatnonzero(np.append(same, False) | np.append(False, same))


def _scaled(kinds: int, *times: Integers) -> tuple[list[Integers], int]:
    """``times`` as integers in the same order from 0 to below a span, with ``kinds`` spans inside 62 bits.

    Differences from the earliest do, unless there are many entities over many years: then their ranks.
    """
    filled = [part for part in times if len(part)]
    if not filled:
        return list(times), 1
    first = min(int(part.min()) for part in filled)
    span = max(int(part.max()) for part in filled) - first + 1
    if span * max(1, kinds) < _LARGEST:
        return [part - first for part in times], span
    distinct, ranks = np.unique(np.concatenate(times), return_inverse=True)
    return np.split(ranks, np.cumsum([len(part) for part in times])[:-1]), len(distinct)


def _settled(
    order: Integers, key: Integers, rows: Integers, ingested: Integers, others: Callable[[], pl.DataFrame]
) -> Integers:
    """``order`` with rows of equal ``key`` (entity and event) put by arrival and then by value."""
    tied = _runs(key[order])
    if not len(tied):
        return order
    alike = order[tied]
    frame = pl.DataFrame({_ROW: alike, _KEY: key[alike], INGESTED: ingested[alike]})
    by = [_KEY, INGESTED]
    if frame.select(by).is_duplicated().any():
        values = others()
        names = sorted(values.columns)
        frame = frame.hstack(values.select(names)[rows[alike]])
        by += names
    settled = order.copy()
    settled[tied] = frame.sort(by, nulls_last=False)[_ROW].to_numpy()
    return settled
