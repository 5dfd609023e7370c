"""What the live platform knows when somebody asks why: series, changes and occasions of one instant.

Metrics come from the prediction log (:mod:`.meters`), drift and labels from what the drift hub found, probes
from their own history, the age of a golden set from the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl

from mangaassist.core.clock import parse_instant
from mangaassist.core.errors import MangaAssistError
from mangaassist.drift import history as past
from mangaassist.drift import hub
from mangaassist.incidents.alarms import MINUTE
from mangaassist.incidents.changes import changes
from mangaassist.incidents.records import EVERYBODY, Change, Occasion, Series
from mangaassist.lifecycle import probe_history
from mangaassist.lifecycle.golden import golden_versions
from mangaassist.lifecycle.meters import DAYS, WEEKS, Grid, Meter
from mangaassist.lifecycle.platform import Platform
from mangaassist.retraining.seasons import SeasonCalendar
from mangaassist.stats.domain import FloatArray

METERED = ("quality", "latency", "errors", "upstream", "traffic_mix")
"""Panels that are counted from the prediction log."""
_FOUND: Mapping[str, tuple[tuple[past.Kind, ...], timedelta]] = {
    "feature_drift": ((past.Kind.INPUT, past.Kind.PREDICTION), timedelta(hours=1)),
    "label_mix": ((past.Kind.LABEL,), timedelta(days=1)),
    "labelled": ((past.Kind.CONCEPT,), timedelta(days=1)),
}
"""Panels of what the drift hub found, and how long a finding may go unwritten while it stays the same."""

ABSENT: Mapping[str, str] = {
    "shard_recall": "No retrieval index exists in this home, so there is no shard to measure.",
    "answer_shape": "No model here writes answers, so their shape cannot be measured.",
    "click_position": "Clicks by position are read daily for labels and are no live panel.",
    "clicks": "Clicks are read daily for labels and are no live panel.",
    "offline": "Golden sets are measured at each release, not between.",
    "adjusted": "Quality weighted to the usual traffic is not measured live.",
}
"""What a home does not measure, and why."""


@dataclass(slots=True)
class LiveEvidence:
    """The evidence of one instant; see :class:`mangaassist.incidents.evidence.Evidence`."""

    platform: Platform
    now: datetime
    meters: Mapping[str, Meter]
    span: timedelta = DAYS
    _found: dict[tuple[str, Grid], list[Series]] = field(default_factory=dict)
    _drifted: dict[str, pl.DataFrame] = field(default_factory=dict)

    def panels(self) -> Sequence[str]:
        return (*METERED, *_FOUND, "probe", "evaluation_age")

    @property
    def absent(self) -> Mapping[str, str]:
        return ABSENT

    def series(self, panel: str) -> Sequence[Series]:
        return self._kept(panel, Grid.until(self.now, self.span))

    def minutes(self, panel: str, since: datetime) -> Sequence[Series]:
        grid = Grid.until(self.now, min(self.now - since, DAYS), MINUTE)
        return self._kept(panel, grid) if panel in METERED and grid.count > 0 else []

    def changes(self, since: datetime, until: datetime) -> Sequence[Change]:
        return changes(self.platform.ledger, since, until, known_by=self.now)

    def occasions(self, since: datetime, until: datetime) -> Sequence[Occasion]:
        days = [since.date() + timedelta(days=one) for one in range((until - since).days + 2)]
        calendar = SeasonCalendar.load(self.platform.home.path)
        spans = {(one.name, one.around(day)) for one in calendar.seasons for day in days}
        return tuple(
            Occasion(name, _midnight(span[0]), _midnight(span[1]) + timedelta(days=1))
            for name, span in sorted(spans, key=str)
            if span is not None and _midnight(span[0]) <= until
        )

    def _kept(self, panel: str, grid: Grid) -> list[Series]:
        key = panel, grid
        if key not in self._found:
            self._found[key] = list(self._series(panel, grid))
        return self._found[key]

    def _drift_of(self, story: str) -> pl.DataFrame:
        """What the hub has written of the story's champion, oldest first; read once for all panels."""
        if story not in self._drifted:
            champion = self.platform.registry.deployment(story).champion
            rows = hub.read_history(self.platform.tables, story).filter(pl.col("value").is_not_null())
            self._drifted[story] = rows.filter(pl.col("version").eq_missing(champion)).sort("at")
        return self._drifted[story]

    def _series(self, panel: str, grid: Grid) -> Iterator[Series]:
        if panel == "probe":
            yield from probe_history.series(self.platform, grid)
            return
        for name, meter in self.meters.items():
            if panel in _FOUND:
                yield from _drift(self._drift_of(name), name, panel, grid)
            elif panel == "evaluation_age":
                yield from _golden_age(self.platform, name, grid)
            else:
                yield from meter.series(panel, grid)


class Meters:
    """The meters of every story of a home, kept between looks; not shared between threads."""

    def __init__(self, platform: Platform, *, fine: bool = False) -> None:
        """
        Args:
            fine: whether to keep minutes, and weeks of ticks; only alarms need them.
        """
        self._platform = platform
        self._fine = fine
        self._meters: dict[str, Meter] = {}
        self._grid: Grid | None = None
        self._drawn: dict[tuple[str, Grid], list[Series]] = {}

    def look(self) -> LiveEvidence:
        """The evidence of now, from all that was logged on this machine or has reached the tables."""
        now = self._platform.clock.now()
        for name in self._platform.registry.stories():
            self._meters.setdefault(name, Meter(self._platform, name, self._fine)).follow(now)
        span = WEEKS if self._fine else DAYS
        grid = Grid.until(now, span)
        if grid != self._grid:
            # Within five minutes no window ends, so what was drawn stays as it is.
            self._grid, self._drawn = grid, {}
        return LiveEvidence(self._platform, now, self._meters, span, self._drawn)


def missing(platform: Platform) -> dict[str, str]:
    """The panels this home cannot have, and why."""
    absent = dict(ABSENT)
    try:
        if not platform.registry.stories():
            absent["quality"] = "No story has a version yet."
    except MangaAssistError as error:
        absent["quality"] = str(error)
    return absent


def _drift(rows: pl.DataFrame, story: str, panel: str, grid: Grid) -> Iterator[Series]:
    """What the drift hub found of one story; a finding holds until it is looked at again."""
    kinds, hold = _FOUND[panel]
    known = rows.filter(pl.col("at") >= grid.start)
    for (name,), own in known.group_by(["name"], maintain_order=True):
        if past.kind_of(str(name)) not in kinds:
            continue
        limit, short = own["threshold"][-1], str(name).partition(".")[2]
        values = _held(own, grid, hold)
        yield Series(panel, f"{story}.{short}", EVERYBODY, grid.start, grid.step, values, limit, "high")


def _held(rows: pl.DataFrame, grid: Grid, hold: timedelta) -> FloatArray:
    values = np.full(grid.count, np.nan)
    for at, value in rows.select("at", "value").iter_rows():
        place = int((at - grid.start) / grid.step)
        values[max(place, 0) : place + int(hold / grid.step) + 1] = value
    return values


def _golden_age(platform: Platform, story: str, grid: Grid) -> Iterator[Series]:
    """Days since the newest row of the golden set was captured, against how often it is to be refreshed."""
    known = golden_versions(platform, story)[-1:]
    for version in known:
        newest = parse_instant(version.newest, field="golden.newest")
        limit = platform.story(story).labels.golden_refresh / timedelta(days=1)
        days = (grid.start - newest) / timedelta(days=1) + np.arange(grid.count) * (
            grid.step / timedelta(days=1)
        )
        values = np.where(days >= 0.0, days, np.nan)
        name = f"{story}.golden_age_days"
        yield Series("evaluation_age", name, EVERYBODY, grid.start, grid.step, values, limit, "high")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
