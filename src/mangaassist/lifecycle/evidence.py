"""What the live platform knows about its models, five minutes by five minutes, from its own logs.

The prediction log is read once, commit by commit; what is kept between two looks are counts per tick, cohort
and bin of latency, so that a quantile over any rows is the quantile of summed counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl

from mangaassist.core.errors import MangaAssistError
from mangaassist.drift import history as past
from mangaassist.drift import hub
from mangaassist.incidents.changes import changes
from mangaassist.incidents.records import EVERYBODY, Change, Occasion, Series
from mangaassist.lifecycle.platform import Platform
from mangaassist.retraining.seasons import SeasonCalendar
from mangaassist.serving.prediction_log import outcomes_table, predictions_table
from mangaassist.stats.domain import FloatArray

STEP = timedelta(minutes=5)
SPAN = timedelta(days=7)
_COLUMNS = ("at", "arm", "answered_by", "language", "cohort", "device", "confidence", "latency_ms", "error")
_COHORTS = ("language", "cohort", "device")
_STEP_MINUTES = 5
_BINS_PER_DOUBLING = 8
"""Latency bins are 9% wide: a p95 read from them is at most that much too high."""


ERROR_LIMIT = 0.05
"""Share of requests a model may fail; one in twenty is trouble whatever is usual."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where five-minute ticks lie: ``count`` of them from ``start`` on."""

    start: datetime
    count: int

    def drawn(
        self,
        panel: str,
        name: str,
        rows: pl.DataFrame,
        value: pl.Expr,
        *,
        limit: float | None = None,
        worse: str = "high",
        cohort: str = EVERYBODY,
    ) -> Series:
        """``value`` of the rows (one per tick) as a series."""
        values = np.full(self.count, np.nan)
        place = (pl.col("tick") - self.start).dt.total_minutes() // _STEP_MINUTES
        found = rows.select(place=place, value=value).filter(pl.col("place").is_between(0, self.count - 1))
        values[found["place"].to_numpy()] = found["value"].to_numpy()
        return Series(panel, name, cohort, self.start, STEP, values, limit, worse)


@dataclass(slots=True)
class Meter:
    """One story's counts, grown as its log grows; not shared between threads.

    Attributes:
        cells: tick, whose, bin (of latency, log scale), n, errors, confidence (summed).
        outcomes: tick, n, resolved.
        upto, known: the last commits of the two tables that were counted.
    """

    platform: Platform
    story: str
    cells: pl.DataFrame | None = None
    outcomes: pl.DataFrame | None = None
    upto: int = 0
    known: int = 0

    def follow(self, since: datetime) -> None:
        """Count what was committed since the last time, and let go of ticks before ``since``."""
        tables = self.platform.tables
        rows, self.upto = tables.since(predictions_table(self.story), self.upto, columns=_COLUMNS)
        if rows is not None:
            self.cells = _summed(self.cells, _cells(rows.filter(pl.col("at") >= since)), _KEY)
        found, self.known = tables.since(
            outcomes_table(self.story), self.known, columns=("known_at", "resolved")
        )
        if found is not None:
            recent = found.filter(pl.col("known_at") >= since)
            ticks = recent.group_by(tick=_tick("known_at")).agg(
                n=pl.len().cast(pl.Int64), resolved=pl.col("resolved").sum().cast(pl.Int64)
            )
            self.outcomes = _summed(self.outcomes, ticks, ("tick",))
        for name in ("cells", "outcomes"):
            kept = getattr(self, name)
            if kept is not None:
                setattr(self, name, kept.filter(pl.col("tick") > since))

    def series(self, panel: str, grid: Grid) -> Iterator[Series]:
        """The series of one panel."""
        if panel == "quality":
            yield from self._quality(grid)
        if self.cells is None or self.cells.is_empty():
            return
        everybody = self.cells.filter(pl.col("whose") == EVERYBODY)
        totals = everybody.group_by("tick").agg(pl.col("n", "errors").sum())
        if panel == "upstream":
            yield grid.drawn(panel, f"{self.story}.requests", totals, pl.col("n"), worse="low")
        elif panel == "errors":
            rate = pl.col("errors") / pl.col("n")
            yield grid.drawn(panel, f"{self.story}.error_rate", totals, rate, limit=ERROR_LIMIT)
        elif panel == "latency":
            yield grid.drawn(panel, f"{self.story}.p95_ms", _p95(everybody), pl.col("p95"))

    def _quality(self, grid: Grid) -> Iterator[Series]:
        if self.outcomes is not None and not self.outcomes.is_empty():
            rate = pl.col("resolved") / pl.col("n")
            yield grid.drawn("quality", f"{self.story}.resolved", self.outcomes, rate, worse="low")
        if self.cells is None:
            return
        sums = self.cells.group_by("whose", "tick").agg(pl.col("n", "errors", "confidence").sum())
        mean = pl.col("confidence") / (pl.col("n") - pl.col("errors"))
        for whose in sorted(sums["whose"].unique(), key=lambda one: (one != EVERYBODY, one)):
            rows = sums.filter((pl.col("whose") == whose) & (pl.col("n") > pl.col("errors")))
            name = f"{self.story}.confidence"
            yield grid.drawn("quality", name, rows, mean, worse="low", cohort=whose)


_KEY = ("tick", "whose", "bin")


@dataclass(slots=True)
class LiveEvidence:
    """The evidence of one instant; see :class:`mangaassist.incidents.records.Evidence`."""

    platform: Platform
    now: datetime
    meters: Mapping[str, Meter]
    _found: dict[str, list[Series]] = field(default_factory=dict)

    def panels(self) -> Sequence[str]:
        return ("quality", "upstream", "feature_drift", "latency", "errors")

    def series(self, panel: str) -> Sequence[Series]:
        if panel not in self._found:
            self._found[panel] = list(self._series(panel))
        return self._found[panel]

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

    def _series(self, panel: str) -> Iterator[Series]:
        count = int(SPAN / STEP)
        grid = Grid(_floor(self.now) - (count - 1) * STEP, count)
        for name, meter in self.meters.items():
            if panel == "feature_drift":
                yield from _drift(self.platform, name, grid)
            else:
                yield from meter.series(panel, grid)


class Meters:
    """The meters of every story of a home, kept between looks; not shared between threads."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._meters: dict[str, Meter] = {}

    def look(self) -> LiveEvidence:
        """The evidence of now, from all that has reached the tables."""
        now = self._platform.clock.now()
        for name in self._platform.registry.stories():
            meter = self._meters.setdefault(name, Meter(self._platform, name))
            meter.follow(_floor(now) - SPAN)
        return LiveEvidence(self._platform, now, self._meters)


def missing(platform: Platform) -> dict[str, str]:
    """The panels this home cannot have, and why."""
    absent = {"shard_recall": "No retrieval index exists in this home, so there is no shard to measure."}
    try:
        if not platform.registry.stories():
            absent["quality"] = "No story has a version yet."
    except MangaAssistError as error:
        absent["quality"] = str(error)
    return absent


def _cells(rows: pl.DataFrame) -> pl.DataFrame:
    """Counts per tick, cohort and bin of the rows users were answered with."""
    own = rows.lazy().filter((pl.col("arm") != "shadow") & pl.col("answered_by").is_not_null())
    counted = own.select(
        tick=_tick("at"),
        bin=(pl.col("latency_ms").clip(1e-3).log(2) * _BINS_PER_DOUBLING).ceil().cast(pl.Int32),
        error=pl.col("error").is_not_null().cast(pl.Int64),
        confidence=pl.when(pl.col("error").is_null()).then(pl.col("confidence")).fill_null(0.0),
        **{name: pl.concat_str(pl.lit(f"{name}="), name) for name in _COHORTS},
    )
    parts = [counted.with_columns(whose=pl.lit(EVERYBODY))]
    parts += [counted.filter(pl.col(name).is_not_null()).with_columns(whose=name) for name in _COHORTS]
    sums = {
        "n": pl.len().cast(pl.Int64),
        "errors": pl.col("error").sum(),
        "confidence": pl.col("confidence").sum(),
    }
    return pl.concat(parts).group_by(_KEY).agg(**sums).collect()


def _summed(before: pl.DataFrame | None, more: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    if before is None:
        return more
    return pl.concat([before, more.select(before.columns)]).group_by(key).agg(pl.exclude(key).sum())


def _p95(cells: pl.DataFrame) -> pl.DataFrame:
    """The upper edge of the bin that holds the 95th percentile, per tick."""
    ordered = cells.group_by("tick", "bin").agg(pl.col("n").sum()).sort("tick", "bin")
    reached = ordered.with_columns(part=pl.col("n").cum_sum().over("tick") / pl.col("n").sum().over("tick"))
    first = reached.filter(pl.col("part") >= 0.95).group_by("tick").agg(pl.col("bin").min())
    return first.select("tick", p95=2.0 ** (pl.col("bin") / _BINS_PER_DOUBLING))


def _drift(platform: Platform, story: str, grid: Grid) -> Iterator[Series]:
    """What the drift hub found per feature; a finding holds until the next look, at most an hour later."""
    champion = platform.registry.deployment(story).champion
    rows = hub.read_history(platform.tables, story).filter(
        (pl.col("version") == champion) & (pl.col("at") >= grid.start) & pl.col("value").is_not_null()
    )
    for (name,), own in rows.sort("at").group_by(["name"], maintain_order=True):
        if past.kind_of(str(name)) not in (past.Kind.INPUT, past.Kind.PREDICTION):
            continue
        limit, short = own["threshold"][-1], str(name).partition(".")[2]
        values = _held(own, grid)
        yield Series("feature_drift", f"{story}.{short}", EVERYBODY, grid.start, STEP, values, limit, "high")


def _held(rows: pl.DataFrame, grid: Grid) -> FloatArray:
    values = np.full(grid.count, np.nan)
    hold = int(timedelta(hours=1) / STEP)
    for at, value in rows.select("at", "value").iter_rows():
        place = int((at - grid.start) / STEP)
        values[max(place, 0) : place + hold + 1] = value
    return values


def _tick(column: str) -> pl.Expr:
    """The end of the five minutes an instant lies in."""
    return pl.col(column).dt.truncate("5m") + STEP


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _floor(at: datetime) -> datetime:
    return at - timedelta(minutes=at.minute % 5, seconds=at.second, microseconds=at.microsecond)
