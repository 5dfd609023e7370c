"""When each job last ran and how it ended: kept in the state database, shared by every process of a home.

Whoever finds a job due takes its lock and runs it. A process that dies while it runs one loses the lock, and
the job is due again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mangaassist.core.clock import Clock, isoformat, parse_instant
from mangaassist.core.errors import MangaAssistError, Unavailable
from mangaassist.core.home import Home
from mangaassist.storage.database import STATE, connect, database_url, explained, take_advisory_lock

_ADVISORY_KEY = 0x6D616E67615F6A62
_AGAIN = timedelta(minutes=1)
"""The longest pause before a job whose process died is tried again."""

_metadata = sa.MetaData()
_jobs = sa.Table(
    "scheduled_jobs",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("started", sa.Text, nullable=False),
    sa.Column("ended", sa.Text, nullable=False),
    sa.Column("ok", sa.Boolean, nullable=False),
    sa.Column("said", sa.Text, nullable=False),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
)


class Lane(StrEnum):
    """Jobs of one lane wait for each other, jobs of two never do."""

    DESK = "desk"
    PROBES = "probes"
    WORK = "work"
    HEAVY = "heavy"


@dataclass(frozen=True, slots=True)
class Job:
    """Something done again and again.

    Attributes:
        name: in one word.
        every: from one start to the next.
        do: does it and says in one sentence what came of it; raises MangaAssistError when it could not.
        lane: with whom it shares a thread; heavy ones are left to ``mangaassist run``.
    """

    name: str
    every: timedelta
    do: Callable[[], str]
    lane: Lane


@dataclass(frozen=True, slots=True)
class Last:
    """The last run of a job.

    Attributes:
        started, ended: ``ended`` is None while it runs, and for one whose process died.
        ok, said: how it ended; those of the run before while it runs.
        runs: so far; failures: in a row.
    """

    name: str
    started: datetime
    ended: datetime | None
    ok: bool
    said: str
    runs: int
    failures: int

    def as_dict(self) -> dict[str, Any]:
        """The run as a JSON object."""
        return {
            "job": self.name,
            "started": isoformat(self.started),
            "ended": isoformat(self.ended) if self.ended else None,
            "ok": self.ok,
            "said": self.said,
            "runs": self.runs,
            "failures": self.failures,
        }


class Schedule:
    """The last runs of a home's jobs; safe to share between threads and processes."""

    def __init__(self, engine: Engine, home: Home, clock: Clock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        self._home = home
        self._clock = clock

    @classmethod
    def open(cls, home: Home, clock: Clock) -> Schedule:
        """The schedule of ``home``, in its state database."""
        url = database_url(home.settings.ledger_url, field="ledger_url", default=home.path / STATE)
        schedule = cls(connect(url), home, clock)
        with explained("schedule", home.path), home.lock("schedule"), schedule._writer.begin() as connection:
            take_advisory_lock(connection, _ADVISORY_KEY)
            _metadata.create_all(connection)
        return schedule

    def last(self) -> dict[str, Last]:
        """The last run of every job that ever ran, by name."""
        with explained("schedule", self._place), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_jobs).order_by(_jobs.c.name)).all()
        return {row.name: _last(row) for row in rows}

    def due(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of ``jobs`` whose time has come, the one that has waited longest first."""
        now, last = self._clock.now(), self.last()
        waiting = [(_due_at(job, last.get(job.name)), place) for place, job in enumerate(jobs)]
        return [jobs[place] for at, place in sorted(waiting, key=_none_first) if at is None or at <= now]

    def run(self, job: Job) -> Last | None:
        """Run ``job`` now and keep how it ended; None when another process is running it."""
        try:
            with self._home.lock(f"job.{job.name}", wait=False):
                return self._run(job)
        except Unavailable as error:
            if error.field == f"lock 'job.{job.name}'":
                return None
            raise

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @property
    def _place(self) -> Path:
        return self._home.path

    def _run(self, job: Job) -> Last:
        before = self.last().get(job.name)
        started = self._clock.now()
        self._keep(job.name, started=isoformat(started), ended="")
        try:
            ok, said = True, job.do()
        except MangaAssistError as error:
            ok, said = False, str(error)
        except Exception as error:  # one broken job must not stop the others, nor go unseen
            ok, said = False, f"Something broke: {type(error).__name__}: {error}."
        done = Last(
            job.name,
            started,
            self._clock.now(),
            ok,
            said,
            (before.runs if before else 0) + 1,
            0 if ok else (before.failures if before else 0) + 1,
        )
        ended = isoformat(done.ended) if done.ended else ""
        self._keep(job.name, ended=ended, ok=ok, said=said, runs=done.runs, failures=done.failures)
        return done

    def _keep(self, name: str, **values: Any) -> None:
        known = sa.update(_jobs).where(_jobs.c.name == name).values(**values)
        with explained("schedule", self._place), self._writer.begin() as connection:
            if not connection.execute(known).rowcount:
                row = {"started": "", "ended": "", "ok": True, "said": "", "runs": 0, "failures": 0}
                connection.execute(_jobs.insert(), {**row, "name": name, **values})


def _due_at(job: Job, last: Last | None) -> datetime | None:
    """When ``job`` is due; None for at once."""
    if last is None:
        return None
    return last.started + (job.every if last.ended else min(job.every, _AGAIN))


def _none_first(waiting: tuple[datetime | None, int]) -> tuple[float, int]:
    at, place = waiting
    return (at.timestamp() if at else float("-inf"), place)


def _last(row: sa.Row[Any]) -> Last:
    return Last(
        row.name,
        parse_instant(row.started, field="job started"),
        parse_instant(row.ended, field="job ended") if row.ended else None,
        row.ok,
        row.said,
        row.runs,
        row.failures,
    )
