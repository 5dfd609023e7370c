"""What the live platform knows about one of its models, window by window, from its own logs.

The prediction log is read once, commit by commit, and rows that wait in the spool are counted beside it; what
is kept between two looks are counts per window, cohort and bin of latency, so that a quantile over any rows
is the quantile of summed counts. Five minutes are kept for weeks, which show a season, and minutes for days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from mangaassist.incidents.alarms import MINUTE, TICK
from mangaassist.incidents.records import EVERYBODY, Series
from mangaassist.lifecycle.platform import Platform
from mangaassist.serving.prediction_log import PredictionLog, outcomes_table, predictions_table
from mangaassist.stats.domain import FloatArray
from mangaassist.storage.tables import Tables

WEEKS, DAYS = timedelta(days=28), timedelta(days=7)
"""How long five-minute counts are kept, and minutes."""
FEWEST = 30
"""A minute with fewer rows says nothing by itself."""
ERROR_LIMIT = 0.05
"""Share of requests a model may fail; one in twenty is trouble whatever is usual."""
MIX_LIMIT = 0.15
"""Share of the traffic that would have to be other people for it to be the usual mix."""

_MIX_TICKS, _MIX_FEWEST = 6, 400
_DAY_TICKS = int(timedelta(days=1) / TICK)
_COLUMNS = ("at", "arm", "answered_by", "language", "cohort", "device", "confidence", "latency_ms", "error")
_COHORTS = ("language", "cohort", "device")
_BINS_PER_DOUBLING = 8
"""Latency bins are 9% wide: a p95 read from them is at most that much too high."""
_SLICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Grid:
    """Where windows lie: ``count`` of them, the first of which ends at ``start``."""

    start: datetime
    count: int
    step: timedelta = TICK

    @classmethod
    def until(cls, now: datetime, span: timedelta, step: timedelta = TICK) -> Grid:
        """The windows that ended in the ``span`` until ``now``; none when none has."""
        end = now - timedelta(seconds=now.timestamp() % step.total_seconds())
        count = max(0, -((now - span - end) // step))
        return cls(end - (count - 1) * step, count, step)

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
        """``value`` of the rows (one per window) as a series."""
        values = np.full(self.count, np.nan)
        found = rows.select(place=self._place(), value=value.cast(pl.Float64))
        found = found.filter(pl.col("place").is_between(0, self.count - 1))
        values[found["place"].to_numpy()] = found["value"].to_numpy()
        return Series(panel, name, cohort, self.start, self.step, values, limit, worse)

    def counted(self, rows: pl.DataFrame, key: str) -> FloatArray:
        """Rows (``key``, tick, n) as counts, shape (values of the key, windows)."""
        names = rows[key].unique().sort()
        found = np.zeros((len(names), self.count))
        which = names.search_sorted(rows[key]).to_numpy() if len(rows) else np.empty(0, dtype=np.int64)
        place = rows.select(self._place()).to_series().to_numpy()
        inside = (place >= 0) & (place < self.count)
        np.add.at(found, (which[inside], place[inside]), rows["n"].to_numpy()[inside])
        return found

    def _place(self) -> pl.Expr:
        seconds = int(self.step.total_seconds())
        return (pl.col("tick") - self.start).dt.total_seconds() // seconds


@dataclass(slots=True)
class Counts:
    """The rows of one table, counted by window; the numbers of two windows add up.

    Attributes:
        key: columns that tell cells apart, "tick" first; all others are added.
        ticks, minutes: cells of the table's rows; minutes only where ``fine``.
        waiting: cells of a minute of rows that are not in the table yet.
        upto: the last commit that was counted.
    """

    key: tuple[str, ...]
    fine: bool
    ticks: pl.DataFrame | None = None
    minutes: pl.DataFrame | None = None
    waiting: pl.DataFrame | None = None
    upto: int = 0

    def follow(
        self,
        tables: Tables,
        name: str,
        columns: Sequence[str],
        count: Callable[[pl.DataFrame], pl.DataFrame],
        now: datetime,
    ) -> None:
        """Count what was committed since the last time, and let go of what is too old."""
        rows, self.upto = tables.since(name, self.upto, columns=columns)
        for part in rows.iter_slices(_SLICE) if rows is not None else ():
            cells = count(part)
            self.ticks = _summed(self.ticks, _coarser(cells, self.key), self.key)
            if self.fine:
                self.minutes = _summed(self.minutes, cells, self.key)
        self.ticks, self.minutes = _since(self.ticks, now - WEEKS), _since(self.minutes, now - DAYS)

    def look(self, grid: Grid) -> pl.DataFrame | None:
        """Cells of a grid's windows, with those of rows that wait."""
        waiting, cells = self.waiting, self.minutes if grid.step == MINUTE else self.ticks
        known = None if cells is None else cells.filter(pl.col("tick") >= grid.start)
        if waiting is None:
            return known
        if grid.step != MINUTE:
            waiting = _coarser(waiting, self.key)
        return _summed(known, waiting.filter(pl.col("tick") >= grid.start), self.key)


@dataclass(slots=True)
class Meter:
    """One story's counts, grown as its log grows; not shared between threads."""

    platform: Platform
    story: str
    fine: bool = False
    answers: Counts = field(init=False)
    outcomes: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.answers = Counts(("tick", "whose", "bin"), self.fine)
        self.outcomes = Counts(("tick",), self.fine)

    def follow(self, now: datetime) -> None:
        """Count what is new in the tables, and what waits for them."""
        tables = self.platform.tables
        self.answers.follow(tables, predictions_table(self.story), _COLUMNS, _cells, now)
        self.outcomes.follow(tables, outcomes_table(self.story), ("known_at", "resolved"), _resolutions, now)
        log = PredictionLog.open(self.platform.home, self.story)
        try:
            # After the tables: what a drain moves meanwhile is missed for one look rather than seen twice.
            predictions, outcomes = log.waiting()
        finally:
            log.close()
        self.answers.waiting = _counted(predictions, _cells)
        self.outcomes.waiting = _counted(outcomes, _resolutions)

    def series(self, panel: str, grid: Grid) -> Iterator[Series]:
        """The series of one panel."""
        if panel == "quality":
            yield from self._resolved(grid)
        cells = self.answers.look(grid)
        if cells is None or cells.is_empty():
            return
        if panel == "quality":
            yield from self._confidence(cells, grid)
            return
        everybody = cells.filter(pl.col("whose") == EVERYBODY)
        totals = _enough(everybody.group_by("tick").agg(pl.col("n", "errors").sum()), grid)
        if panel == "upstream":
            yield grid.drawn(panel, f"{self.story}.requests", totals, pl.col("n"), worse="low")
        elif panel == "errors":
            rate = pl.col("errors") / pl.col("n")
            yield grid.drawn(panel, f"{self.story}.error_rate", totals, rate, limit=ERROR_LIMIT)
        elif panel == "latency":
            tail = _p95(everybody).join(totals, on="tick", how="semi")
            yield grid.drawn(panel, f"{self.story}.p95_ms", tail, pl.col("p95"))
        elif panel == "traffic_mix":
            yield from self._mix(cells, grid)

    def _resolved(self, grid: Grid) -> Iterator[Series]:
        found = self.outcomes.look(grid)
        if found is not None and not found.is_empty():
            rate = pl.col("resolved") / pl.col("n")
            name = f"{self.story}.resolved"
            yield grid.drawn("quality", name, _enough(found, grid), rate, worse="low")

    def _confidence(self, cells: pl.DataFrame, grid: Grid) -> Iterator[Series]:
        sums = cells.group_by("whose", "tick").agg(pl.col("n", "errors", "confidence").sum())
        sums = _enough(sums.filter(pl.col("n") > pl.col("errors")), grid)
        mean = pl.col("confidence") / (pl.col("n") - pl.col("errors"))
        parts = {str(whose): rows for (whose,), rows in sums.group_by("whose")}
        for whose in sorted(parts, key=lambda one: (one != EVERYBODY, one)):
            name = f"{self.story}.confidence"
            yield grid.drawn("quality", name, parts[whose], mean, worse="low", cohort=whose)

    def _mix(self, cells: pl.DataFrame, grid: Grid) -> Iterator[Series]:
        """How far the mix of languages, cohorts and devices is from the usual one of that hour of the day."""
        sums = cells.group_by("whose", "tick").agg(pl.col("n").sum())
        found = []
        for kind in _COHORTS:
            own = sums.filter(pl.col("whose").str.starts_with(f"{kind}="))
            if own["whose"].n_unique() > 1:
                found.append(_strangeness(grid.counted(own, "whose")))
        if found and np.isfinite(found).any():
            values = np.fmax.reduce(found)
            yield Series(
                "traffic_mix", f"{self.story}.traffic", EVERYBODY, grid.start, grid.step, values, MIX_LIMIT
            )


def _strangeness(counts: FloatArray) -> FloatArray:
    """Total variation between the mix of the last half hour and that of the same hour on days before.

    Args:
        counts: shape (values, ticks).

    Returns:
        Shape (ticks,); NaN where the half hour has under 400 rows, or no day before it has.
    """
    ticks = counts.shape[1]
    sums = np.cumsum(np.pad(counts, ((0, 0), (_MIX_TICKS, 0))), axis=1)
    now = sums[:, _MIX_TICKS:] - sums[:, :-_MIX_TICKS]
    usual = np.zeros_like(now)
    for day in range(1, ticks // _DAY_TICKS + 1):
        usual[:, day * _DAY_TICKS :] += now[:, : ticks - day * _DAY_TICKS]
    total, before = now.sum(axis=0), usual.sum(axis=0)
    gap = 0.5 * np.abs(now / np.maximum(total, 1) - usual / np.maximum(before, 1)).sum(axis=0)
    return np.where((total >= _MIX_FEWEST) & (before >= _MIX_FEWEST), gap, np.nan)


def _counted(rows: pa.Table | None, count: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame | None:
    if rows is None:
        return None
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return count(frame)


def _cells(rows: pl.DataFrame) -> pl.DataFrame:
    """Counts per minute, cohort and bin of the rows users were answered with; only everybody has bins."""
    own = rows.lazy().filter((pl.col("arm") != "shadow") & pl.col("answered_by").is_not_null())
    counted = own.select(
        tick=_ended("at", MINUTE),
        bin=(pl.col("latency_ms").clip(1e-3).log(2) * _BINS_PER_DOUBLING).ceil().cast(pl.Int32),
        error=pl.col("error").is_not_null().cast(pl.Int64),
        confidence=pl.when(pl.col("error").is_null()).then(pl.col("confidence")).fill_null(0.0),
        **{name: pl.concat_str(pl.lit(f"{name}="), name) for name in _COHORTS},
    )
    parts = [counted.with_columns(whose=pl.lit(EVERYBODY))]
    parts += [
        counted.filter(pl.col(name).is_not_null()).with_columns(whose=name, bin=pl.lit(0, dtype=pl.Int32))
        for name in _COHORTS
    ]
    sums = {
        "n": pl.len().cast(pl.Int64),
        "errors": pl.col("error").sum(),
        "confidence": pl.col("confidence").sum(),
    }
    return pl.concat(parts).group_by("tick", "whose", "bin").agg(**sums).collect()


def _resolutions(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by(tick=_ended("known_at", MINUTE)).agg(
        n=pl.len().cast(pl.Int64), resolved=pl.col("resolved").sum().cast(pl.Int64)
    )


def _ended(column: str, step: timedelta) -> pl.Expr:
    """The end of the window an instant lies in."""
    return pl.col(column).dt.truncate(step) + step


def _coarser(minutes: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Cells of minutes as cells of five."""
    moved = minutes.with_columns(tick=(pl.col("tick") - MINUTE).dt.truncate(TICK) + TICK)
    return moved.group_by(key).agg(pl.exclude(key).sum())


def _summed(before: pl.DataFrame | None, more: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    if before is None or more.is_empty():
        return more if before is None else before
    # Only windows that grew are added up again.
    first = more["tick"].min()
    grown = pl.concat([before.filter(pl.col("tick") >= first), more.select(before.columns)])
    return pl.concat([before.filter(pl.col("tick") < first), grown.group_by(key).agg(pl.exclude(key).sum())])


def _since(cells: pl.DataFrame | None, first: datetime) -> pl.DataFrame | None:
    return None if cells is None else cells.filter(pl.col("tick") > first)


def _enough(rows: pl.DataFrame, grid: Grid) -> pl.DataFrame:
    return rows.filter(pl.col("n") >= FEWEST) if grid.step == MINUTE else rows


def _p95(cells: pl.DataFrame) -> pl.DataFrame:
    """The upper edge of the bin that holds the 95th percentile, per window."""
    ordered = cells.group_by("tick", "bin").agg(pl.col("n").sum()).sort("tick", "bin")
    reached = ordered.with_columns(part=pl.col("n").cum_sum().over("tick") / pl.col("n").sum().over("tick"))
    first = reached.filter(pl.col("part") >= 0.95).group_by("tick").agg(pl.col("bin").min())
    return first.select("tick", p95=2.0 ** (pl.col("bin") / _BINS_PER_DOUBLING))
