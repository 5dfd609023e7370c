"""Features beside the answers (FEA-6, FEA-7), read online; a sample is kept for the parity report.

The features are those of the schema the champion was trained with. A read that is stale, or that had to fall
back, marks its row in the prediction log; the sample says cell by cell what was given and why.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from mangaassist.core.errors import MangaAssistError
from mangaassist.core.home import Home
from mangaassist.features.catalog import Catalog
from mangaassist.features.online import OnlineStore
from mangaassist.features.parity import as_json
from mangaassist.features.reader import OnlineReader, Served
from mangaassist.features.records import instant_of
from mangaassist.serving.rounds import Rounds
from mangaassist.serving.router import Answer, Request, bucket
from mangaassist.storage.spool import Spool

SHARE = 0.01
"""Part of the requests whose features are kept, beside the first of every second."""
POLL = timedelta(seconds=1)
_MOST_WAITING = 10_000
_UTC = pa.timestamp("us", tz="UTC")
READS_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("at", _UTC, nullable=False),
        pa.field("entity", pa.string(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("feature", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("event_ts", _UTC),
        pa.field("ingested_at", _UTC),
        pa.field("generation", pa.string()),
    ]
)
"""One row per served cell, as :data:`mangaassist.features.parity.READ_SCHEMA`."""

USER = "user_id"
"""The entity a request names; features of other entities are missing in it."""

Row = dict[str, Any]


def reads_table(story: str) -> str:
    """The table the sampled reads of a story end up in."""
    return f"served.{story}"


def reads_spool(home: Home, story: str) -> Spool:
    """Where sampled reads wait for their table."""
    return Spool(home.folder("spool") / reads_table(story))


@dataclass(frozen=True, slots=True)
class _Story:
    """What is read for one story."""

    reader: OnlineReader
    names: tuple[str, ...]
    entities: tuple[str, ...]


class FeatureReads:
    """The online features of every story of one serving process; safe to share between threads.

    Args:
        store: where features are online.
        pinned: the schema a story's champion was trained with; None where there is none.
        copy_in: where to keep the last good generation of a store on another machine.
        share: part of the requests whose reads are kept, chosen by request id.
    """

    def __init__(
        self,
        home: Home,
        store: OnlineStore,
        *,
        pinned: Callable[[str], Catalog | None],
        copy_in: OnlineStore | None = None,
        share: float = SHARE,
    ) -> None:
        self._home = home
        self._store = store
        self._pinned = pinned
        self._copy_in = copy_in
        self._share = share
        self._stories: dict[str, _Story | None] = {}
        self._lock = threading.Lock()
        self._seconds: dict[str, datetime] = {}
        self._waiting: queue.Queue[tuple[str, list[Row]]] = queue.Queue(_MOST_WAITING)
        self._spools: dict[str, Spool] = {}
        self._rounds = Rounds(self._round, "features")

    def start(self, interval: timedelta = POLL) -> None:
        """Follow manifests and champions, and keep the samples, in a daemon thread until :meth:`stop`."""
        self._rounds.start(interval)

    def stop(self) -> None:
        """End, with every sample durable."""
        self._rounds.stop()
        self.keep()
        for spool in self._spools.values():
            spool.close()
        self._spools.clear()

    def beside(self, answer: Answer, request: Request) -> Answer:
        """``answer`` with its rows marked when a feature of the request's user was stale or fell back."""
        story = self._story(answer.story)
        if story is None or request.user_id is None:
            return answer
        keys = {entity: [request.user_id if entity == USER else None] for entity in story.entities}
        served = story.reader.read(keys, story.names, at=request.at)
        if self._chosen(answer.story, request):
            self._sample(answer.story, request, story, served)
        return answer.marked_stale() if served.stale else answer

    def problems(self) -> list[str]:
        """Why reads fall back, one sentence per story; empty when none does."""
        found = {name: story.reader.problem for name, story in self._stories.items() if story is not None}
        return [f"Features of {name} fall back. {why}" for name, why in sorted(found.items()) if why]

    def refresh(self) -> None:
        """Look for newer generations and other champions, once."""
        for name in list(self._stories):
            story = self._opened(name)
            if story is not None:
                story.reader.refresh()

    def keep(self) -> None:
        """Make the samples that wait durable; what cannot be written is only a sample less."""
        found: dict[str, list[Row]] = {}
        while True:
            try:
                name, rows = self._waiting.get_nowait()
            except queue.Empty:
                break
            found.setdefault(name, []).extend(rows)
        for name, rows in found.items():
            try:
                if name not in self._spools:
                    self._spools[name] = reads_spool(self._home, name)
                self._spools[name].append(rows)
            except MangaAssistError:
                continue

    def _round(self) -> None:
        self.refresh()
        self.keep()

    def _story(self, name: str) -> _Story | None:
        if name in self._stories:
            return self._stories[name]
        story = self._opened(name)
        if story is not None:
            story.reader.refresh()
        return story

    def _opened(self, name: str) -> _Story | None:
        """The story by what its champion pins now; a ledger that does not answer changes nothing."""
        try:
            catalog = self._pinned(name)
        except MangaAssistError:
            return self._stories.get(name)
        with self._lock:
            known = self._stories.get(name)
            if catalog is None:
                self._stories[name] = None
            elif known is None or known.reader.catalog.version != catalog.version:
                reader = OnlineReader(self._store, catalog, copy_in=self._copy_in)
                entities = tuple({one.entity for one in catalog.features.values()})
                self._stories[name] = _Story(reader, tuple(catalog.features), entities)
            return self._stories[name]

    def _chosen(self, name: str, request: Request) -> bool:
        """Whether this read is kept: a share of all, and the first of each second, for a server with few."""
        second = request.at.replace(microsecond=0)
        first = self._seconds.get(name) != second
        self._seconds[name] = second
        return first or bucket("feature reads", request.request_id) < self._share

    def _sample(self, name: str, request: Request, story: _Story, served: Served) -> None:
        rows = cell_rows(request, story.reader.catalog, served)
        try:
            self._waiting.put_nowait((name, rows))
        except queue.Full:
            return  # a sample less


def cell_rows(request: Request, catalog: Catalog, served: Served) -> list[Row]:
    """What the read for one request gave, as rows of :data:`READS_SCHEMA`."""
    generation = served.manifest.generation if served.manifest else None
    found: list[Row] = []
    for name, values in served.values.items():
        event, known, entity = served.events[name][0], served.ingested[name][0], catalog.features[name].entity
        found.append(
            {
                "request_id": request.request_id,
                "at": request.at,
                "entity": entity,
                "key": request.user_id if entity == USER else None,
                "feature": name,
                "value": as_json(values[0]),
                "reason": str(served.reasons[name][0]),
                "event_ts": None if event is None else instant_of(event),
                "ingested_at": None if known is None else instant_of(known),
                "generation": generation,
            }
        )
    return found
