"""The drift hub of one home at work: every story, from what the prediction log got since the last look.

The log is read once, commit by commit. Five-minute windows go to ``drift.windows.<story>``, findings to
``drift.<story>``; a restart goes on from both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from mangaassist.core.errors import MangaAssistError
from mangaassist.drift import metrics
from mangaassist.drift.history import KEPT_EVERY, Kind
from mangaassist.drift.hub import REACH, STRETCH, DriftReport
from mangaassist.drift.reference import COHORT, Reference
from mangaassist.drift.store import WindowStore
from mangaassist.drift.windows import Window, merge_alike
from mangaassist.lifecycle.monitoring import (
    Fleet,
    Monitor,
    add_volume,
    next_step,
    reference_cursor,
    truths,
)
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.rollout import drain
from mangaassist.lifecycle.triage import USUAL_DAYS, gather, judge
from mangaassist.retraining.triage import Triage, triage
from mangaassist.serving.prediction_log import predictions_table
from mangaassist.storage.tables import Between

_DAY = timedelta(days=1)
_VOLUME_KEPT = (USUAL_DAYS + 1) * _DAY + timedelta(hours=1)
_LABELS_KEPT = max(STRETCH[Kind.LABEL].at_most, STRETCH[Kind.CONCEPT].at_most) + timedelta(hours=1)
_OWN = ("at", "version", "answered_by", "error")
_ANSWER = ("input_digest", "at", "label", COHORT, "version", "answered_by", "error")


@dataclass(slots=True)
class Watcher:
    """One story's monitor, fed from the tables.

    Attributes:
        monitor: looks and remembers.
        store: windows that are in their table.
        volume: their rows by end, for longer.
        fresh: windows counted since, not stored yet.
        columns: those of the log that are counted.
        upto: the last commit of the log that was counted.
        saved: when windows were last stored.
        learned: whether labels were read since it was opened; after that they are read when they are due.
    """

    monitor: Monitor
    store: WindowStore
    volume: dict[datetime, int]
    columns: list[str]
    upto: int
    saved: datetime
    fresh: list[Window] = field(default_factory=list)
    learned: bool = False

    @classmethod
    def open(cls, platform: Platform, name: str) -> Watcher:
        """The watcher of the present champion.

        Raises:
            GateRefused: there is no champion, or it has not answered anything yet.
        """
        monitor, now = Monitor.open(platform, name), platform.clock.now()
        cursor = reference_cursor(platform, name, monitor.version)
        store = WindowStore(platform.tables, name, monitor.version, cursor=cursor)
        monitor.requests.add(store.open(monitor.reference.profile, since=now - REACH))
        volume = store.volume(since=now - _VOLUME_KEPT)
        schema = platform.tables.schema(predictions_table(name))
        wanted = log_columns(monitor.reference)
        columns = wanted if schema is None else [one for one in wanted if one in schema.names]
        return cls(monitor, store, volume, columns, store.cursor, now)

    @property
    def current(self) -> bool:
        """Whether it still watches the champion."""
        monitor = self.monitor
        return monitor.platform.registry.deployment(monitor.story.name).champion == monitor.version

    def look(self, now: datetime) -> DriftReport:
        """Count what is new and look at it."""
        self._count(now)
        monitor = self.monitor
        monitor.volume = dict(self.volume)
        add_volume(monitor.volume, self.fresh)
        if not self.learned or {Kind.LABEL, Kind.CONCEPT} & set(monitor.due(now)):
            self._learn(now)
            self.learned = True
        return monitor.look(now)

    def save(self, now: datetime, *, every: timedelta = timedelta(0)) -> None:
        """Record findings, and windows when the last time is ``every`` ago; what is not saved is not lost."""
        self.monitor.record()
        if self.upto > self.store.cursor and now - self.saved >= every:
            self.store.append(merge_alike(self.fresh), upto=self.upto, now=now)
            self._settle(now)
            self.saved = now

    def _count(self, now: datetime) -> None:
        self._settle(now)
        tables, log = self.monitor.platform.tables, predictions_table(self.monitor.story.name)
        rows, self.upto = tables.since(log, self.upto, columns=self.columns)
        if rows is not None:
            found = self.monitor.counted(rows)
            self.monitor.requests.add(found)
            self.fresh += found

    def _settle(self, now: datetime) -> None:
        """Take over what any hub has stored; then what was counted here beside it counts no more."""
        before = self.store.cursor
        stored = self.store.follow(self.monitor.reference.profile)
        if self.store.cursor != before:
            self.monitor.requests.take_back(self.fresh)
            self.fresh, self.upto = [], self.store.cursor
        add_volume(self.volume, stored)
        self.volume = {end: rows for end, rows in self.volume.items() if end >= now - _VOLUME_KEPT}
        self.monitor.requests.add(stored)

    def _learn(self, now: datetime) -> None:
        """Labels that became known within reach of a look, with the answers they are about, day by day."""
        monitor = self.monitor
        tables, log = monitor.platform.tables, predictions_table(monitor.story.name)
        since = max(now - _LABELS_KEPT, monitor.reference.fitted_at)
        known = truths(monitor.platform, monitor.story)
        known = known.filter(pl.col("known_at") >= since, pl.col("at") >= monitor.reference.fitted_at)
        days = known["at"].dt.truncate("1d").unique().sort()
        answers = [
            tables.read(log, columns=_ANSWER, between=Between("at", day, day + _DAY)).join(
                known, on=["input_digest", "at"], how="semi"
            )
            for day in days
        ]
        if answers:
            monitor.learn(pl.concat(answers), known)
        else:
            monitor.outcomes = []


def log_columns(reference: Reference) -> list[str]:
    """The columns of the prediction log that windows are counted from."""
    made = {one.name for one in reference.derived}
    inputs = [name for name in reference.profile.inputs if name not in made]
    sources = [one.source for one in reference.derived]
    return list(dict.fromkeys((*_OWN, COHORT, *inputs, *sources, "label", "confidence")))


class Watch:
    """Every story of a home, kept between looks; not shared between threads."""

    def __init__(
        self, platform: Platform, *, observe: Callable[[DriftReport], None] = lambda _: None
    ) -> None:
        """
        Args:
            observe: told every report.
        """
        self._platform = platform
        self._observe = observe
        self._watchers: dict[str, Watcher] = {}

    def look(self, name: str) -> DriftReport:
        """One look at a story on all that any process has logged so far, with the proposal that follows.

        Raises:
            GateRefused: the story has no champion, or it has not answered anything yet.
        """
        drain(self._platform, name)
        watcher = self._watchers.get(name)
        if watcher is None or not watcher.current:
            watcher = self._watchers[name] = Watcher.open(self._platform, name)
        report = watcher.look(self._platform.clock.now())
        self._tell(report)
        self._observe(report)
        next_step(self._platform, name, judge(watcher.monitor, report))
        return report

    def _tell(self, report: DriftReport) -> None:
        """The report as metrics: for /metrics of any server of this home, and for CloudWatch."""
        home, found = self._platform.home, metrics.samples(report)
        metrics.write_latest(home.path, found)
        metrics.write_emf(home.settings.drift_metrics, found)

    def triage(self, name: str) -> Triage:
        """A look at a story, and what is behind what it finds.

        Raises:
            GateRefused: as :meth:`look`.
        """
        report = self.look(name)
        return triage(gather(self._watchers[name].monitor, report))

    def look_all(self) -> Fleet:
        """:meth:`look` at every registered story; one that fails does not keep the others waiting."""
        reports: dict[str, DriftReport] = {}
        unwatched: dict[str, str] = {}
        for name in self._platform.registry.stories():
            try:
                reports[name] = self.look(name)
            except MangaAssistError as error:
                unwatched[name] = str(error)
        return Fleet(self._platform.clock.now(), reports, unwatched)

    def save(self, *, every: timedelta = timedelta(0)) -> None:
        """Store what was found and counted; see :meth:`Watcher.save`."""
        for watcher in self._watchers.values():
            watcher.save(self._platform.clock.now(), every=every)


SAVED_EVERY = KEPT_EVERY
