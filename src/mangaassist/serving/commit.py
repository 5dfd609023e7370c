"""Group commit for the event loop: many answers wait for one fsync, and none is sent before it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter

from mangaassist.core.errors import Unavailable
from mangaassist.serving.prediction_log import Outcome, PredictionLog, PredictionRecord

_MOST_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class _Waiting:
    story: str
    records: Sequence[PredictionRecord]
    outcomes: Sequence[Outcome]
    done: Future[None]


class GroupCommit:
    """One thread that writes whatever has gathered while it was writing.

    Args:
        log: the durable log of a story.
        on_commit: called with the rows and the seconds of every commit.
    """

    def __init__(
        self,
        log: Callable[[str], PredictionLog],
        *,
        on_commit: Callable[[int, float], None] = lambda _rows, _seconds: None,
    ) -> None:
        self._log = log
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.problem = ""

    def start(self) -> None:
        """Begin writing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what is waiting, then end."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def submit(
        self,
        story: str,
        records: Sequence[PredictionRecord] = (),
        outcomes: Sequence[Outcome] = (),
    ) -> Future[None]:
        """Queue rows; the future is done once they are durable, in the order of submission."""
        done: Future[None] = Future()
        if self._thread is None:
            done.set_exception(
                Unavailable(
                    "prediction log", expected="an open log", got="a server shutting down", next_step="Retry."
                )
            )
        else:
            self._queue.put(_Waiting(story, records, outcomes, done))
        return done

    async def durable(
        self,
        story: str,
        records: Sequence[PredictionRecord] = (),
        outcomes: Sequence[Outcome] = (),
    ) -> None:
        """Return once the rows are on disk.

        Raises:
            Unavailable: the disk is full; the rows do not count as written.
        """
        await asyncio.wrap_future(self.submit(story, records, outcomes))

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ending = self._gather(first)
            self._write(batch)
            if ending:
                return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """``first`` and what else is there already; True when the end was among it."""
        batch, rows = [first], len(first.records)
        while rows < _MOST_ROWS:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                return batch, True
            batch.append(waiting)
            rows += len(waiting.records)
        return batch, False

    def _write(self, batch: Sequence[_Waiting]) -> None:
        for story in dict.fromkeys(one.story for one in batch):
            group = [one for one in batch if one.story == story]
            records = [record for one in group for record in one.records]
            outcomes = [outcome for one in group for outcome in one.outcomes]
            started = perf_counter()
            try:
                log = self._log(story)
                log.write(records)
                log.write_outcomes(outcomes)
            except Exception as error:  # whatever it is belongs to those who wait, or they wait for ever
                self.problem = str(error)
                for one in group:
                    one.done.set_exception(error)
                continue
            self.problem = ""
            self._on_commit(len(records) + len(outcomes), perf_counter() - started)
            for one in group:
                one.done.set_result(None)
