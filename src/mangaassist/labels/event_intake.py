"""Implicit feedback, durable when it was acknowledged and in its table once.

The guarantee: :meth:`EventIntake.receive` returns after the fsync, so what it acknowledged survives
``kill -9``. A producer that got no answer sends the batch again with the same keys. A copy is dropped at the
drain when it arrives within ``EventLimits.resend`` of the first one, and labels are made from every key once
however late a copy came. On one machine; spools of several machines find each other's copies only after
the other's drain, and then labels still count once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from mangaassist.core.clock import Clock
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.core.identity import digest_bytes
from mangaassist.labels.event_checks import judge
from mangaassist.labels.events import (
    EVENT_SCHEMA,
    REFUSAL_SCHEMA,
    EventLimits,
    Refusal,
    Unreadable,
)
from mangaassist.storage.spool import Spool
from mangaassist.storage.tables import Between, Tables

LIMITS = EventLimits()
_CHUNK = 10_000


def events_table(story: str) -> str:
    """The table a story's events end up in."""
    return f"events.{story}"


def refusals_table(story: str) -> str:
    """The table of a story's refused events."""
    return f"refused_events.{story}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one batch; everything in it is on disk.

    Attributes:
        accepted: events that can be used.
        duplicates: copies inside the batch, dropped.
        refusals: the rest, each with a sentence.
    """

    accepted: int
    duplicates: int
    refusals: tuple[Refusal, ...]

    def reasons(self) -> dict[str, int]:
        """How many were refused for what, most first."""
        return dict(Counter(one.reason for one in self.refusals).most_common())


@dataclass(frozen=True, slots=True)
class Drained:
    """What one drain moved.

    Attributes:
        stored: events new to the table.
        duplicates: copies of events already there, dropped.
        refused: refused events new to their table.
    """

    stored: int
    duplicates: int
    refused: int


class EventIntake:
    """The way in for one story's events; safe to share between threads."""

    def __init__(
        self, story: str, events: Spool, refused: Spool, clock: Clock, limits: EventLimits = LIMITS
    ) -> None:
        self.story = story
        self._events = events
        self._refused = refused
        self._clock = clock
        self._limits = limits

    @classmethod
    def open(cls, home: Home, story: str, clock: Clock, *, limits: EventLimits = LIMITS) -> EventIntake:
        """The intake of ``story``; what an earlier process left behind is drained with the rest."""
        folder = home.folder("spool")
        spools = Spool(folder / events_table(story)), Spool(folder / refusals_table(story))
        return cls(story, *spools, clock, limits)

    def receive(self, events: Sequence[Any] | pl.DataFrame | pa.Table) -> Receipt:
        """Check a batch and make it durable; returns after the fsync.

        Raises:
            InputError: as :func:`mangaassist.labels.event_checks.judge`; nothing was kept.
            Unavailable: the disk is full; the batch does not count as received.
        """
        now = self._clock.now()
        judged = judge(events, now=now, limits=self._limits)
        # Refusals first: a crash in between leaves the batch unacknowledged, and its copy is recognised.
        self._refused.append([one.as_row(now) for one in judged.refusals])
        self._events.append(judged.rows.rows(named=True))
        return Receipt(judged.rows.height, judged.duplicates, judged.refusals)

    def drain(self, tables: Tables, *, resend: timedelta | None = None) -> Drained:
        """Move what is durable into the tables, every key once.

        Args:
            resend: how far back copies are looked for; None for the limit's.
        """
        window = resend or self._limits.resend
        events = _Once(tables, events_table(self.story), "event_id", window)
        refused = _Once(tables, refusals_table(self.story), "refusal_id", window)
        read = self._events.drain(tables, events.table, EVENT_SCHEMA, admit=events.admit)
        self._refused.drain(tables, refused.table, REFUSAL_SCHEMA, admit=refused.admit)
        return Drained(events.admitted, read - events.admitted, refused.admitted)

    def pending(self) -> int:
        """How many durable rows wait for :meth:`drain`."""
        return self._events.pending() + self._refused.pending()

    def close(self) -> None:
        """Release the files; pending rows stay on disk for the next drain."""
        self._events.close()
        self._refused.close()


class _Once:
    """Admits a key to a table once, looking back over what became known within ``window``."""

    def __init__(self, tables: Tables, table: str, key: str, window: timedelta) -> None:
        self.table = table
        self.admitted = 0
        self._tables = tables
        self._key = key
        self._window = window

    def admit(self, rows: pa.Table) -> pa.Table:
        incoming = pl.DataFrame(pl.from_arrow(rows.select([self._key, "known_at"])))
        new = incoming.select(pl.col(self._key).is_first_distinct()).to_series()
        if self._tables.exists(self.table):
            seen = self._tables.read(self.table, columns=[self._key], between=self._span(incoming))
            new &= ~incoming[self._key].is_in(seen[self._key].implode())
        self.admitted += int(new.sum())
        return rows.filter(new.to_arrow())

    def _span(self, incoming: pl.DataFrame) -> Between:
        low, high = incoming.select(low=pl.col("known_at").min(), high=pl.col("known_at").max()).row(0)
        return Between("known_at", low - self._window, high + self._window)


def read_event_file(path: Path) -> Iterator[list[Any] | pl.DataFrame]:
    """The events of a JSONL or Parquet file in batches of 10,000; a line that is no JSON comes as its text.

    Raises:
        InputError: for a missing file, another format, or a file that is not Parquet inside.
    """
    if not path.is_file():
        raise InputError("FILE", expected="a file", got=str(path), next_step="Check the path.")
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix in (".jsonl", ".ndjson"):
        yield from _lines(path)
    else:
        raise InputError(
            "FILE", expected="a .jsonl or .parquet file", got=path.name, next_step="Convert it first."
        )


def _parquet(path: Path) -> Iterator[pl.DataFrame]:
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(_CHUNK):
            yield pl.DataFrame(pl.from_arrow(batch))
    except pa.ArrowInvalid as error:
        raise InputError(
            path.name, expected="a Parquet file", got=str(error), next_step="Export it again."
        ) from error


def _lines(path: Path) -> Iterator[list[Any]]:
    batch: list[Any] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                batch.append(_decoded(line, number))
            if len(batch) == _CHUNK:
                yield batch
                batch = []
    if batch:
        yield batch


def _decoded(line: bytes, number: int) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return Unreadable(f"line {number}, which is no JSON", digest_bytes(line))
