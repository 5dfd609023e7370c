"""Alarms (INC-3): CUSUM per metric and cohort on a robust seasonal baseline with whitened residuals.

Two CUSUMs share one budget of false alarms: a fast one finds a collapse within minutes, a slow one finds an
erosion within hours. The budget is the fleet's: one false alarm a week for all series together. Textbook run
lengths do not hold for estimated baselines and heavy tails, so the thresholds come from a table of simulated
run lengths (thresholds.yaml, made by ``benchmarks/bench_alarms.py --calibrate``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.incidents.baselines import Usual, hours_of
from mangaassist.incidents.records import Alarm, Onset
from mangaassist.stats.change_points import shift_interval
from mangaassist.stats.cusum import Cusum, cusum
from mangaassist.stats.domain import FloatArray, IntArray

Flags = NDArray[np.bool_]

TICK, MINUTE = timedelta(minutes=5), timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Speed:
    """What one of the CUSUMs is made for.

    Attributes:
        slack: half the shift worth finding, in standard deviations of a residual.
        loudest: a residual beyond counts as this: several ticks are an alarm, one outlier is not.
    """

    slack: float
    loudest: float

    def heard(self, residuals: FloatArray) -> FloatArray:
        """Residuals as this CUSUM counts them."""
        return np.clip(residuals, -self.loudest, self.loudest)


SPEEDS = {"quick": Speed(1.0, 3.0), "fast": Speed(2.0, 6.0), "slow": Speed(0.5, 2.5)}
"""Minutes of a sluggish series say little each: "quick" needs more of them, and hears a smaller shift."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often series are looked at, and by which CUSUMs."""

    step: timedelta
    speeds: tuple[str, ...]


PACES = (Pace(MINUTE, ("quick",)), Pace(TICK, ("fast", "slow")))
"""A collapse is looked for every minute where a minute counts enough; an erosion shows in five of them."""

REMEMBERED = 288
"""Ticks of residuals kept for dating an onset: a day of five-minute ticks."""

# An alarm ends when the running mean has been, for half an hour, below half of what it was at its worst, and
# within this many standard deviations. A small shift needs the first, a large one the second.
_CALM = (0.75, 2.0)
_CALM_TICKS, _CALM_TIME = 6, timedelta(minutes=30)
_MEMORY, _MEMORY_TIME = 8.0, timedelta(minutes=40)


@dataclass(frozen=True, slots=True)
class Label:
    """Which series a column is."""

    panel: str
    name: str
    cohort: str


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """Where the alarms of a fleet stand between two ticks; everything a restart needs.

    Attributes:
        labels: of the columns.
        usual: their baseline.
        thresholds: of the CUSUMs, by name.
        sums: the CUSUMs' state, by name.
        strays: last standardised values, shape (series,); NaN after a gap.
        level: running mean of the standardised values, over about 40 minutes, shape (series,).
        worst: its largest size during the alarm that runs, shape (series,).
        recent: last residuals, shape (up to 288, series), oldest first.
        values: last raw values, like ``recent``.
        firing: which series are in alarm, shape (series,).
        calm: ticks each has been back to usual, shape (series,).
        step: from one tick to the next.
        since: instant of the first tick on this baseline; the epoch before it.
        last: instant of the last tick; None before the first.
    """

    labels: tuple[Label, ...]
    usual: Usual
    thresholds: dict[str, float]
    sums: dict[str, Cusum]
    strays: FloatArray
    level: FloatArray
    worst: FloatArray
    recent: FloatArray
    values: FloatArray
    firing: Flags
    calm: IntArray
    step: timedelta = TICK
    since: datetime = EPOCH
    last: datetime | None = None


def watch(
    labels: Sequence[Label],
    usual: Usual,
    *,
    thresholds: dict[str, float] | None = None,
    step: timedelta = TICK,
) -> Watch:
    """Begin to watch; without ``thresholds`` the fleet has one false alarm a week of five-minute ticks."""
    count = len(labels)
    limits = thresholds or fleet_thresholds(count)
    nothing, empty = np.zeros(count), np.empty((0, count))
    sums = {name: Cusum(nothing, nothing, np.full(count, -1), np.zeros(count, dtype=bool)) for name in limits}
    return Watch(
        tuple(labels),
        usual,
        dict(limits),
        sums,
        np.full(count, np.nan),
        nothing,
        nothing,
        empty,
        empty,
        np.zeros(count, dtype=bool),
        np.zeros(count, dtype=np.int64),
        step,
    )


def rebased(now: Watch, usual: Usual) -> Watch:
    """The same watch on a newer baseline; what the CUSUMs have gathered stays."""
    return replace(now, usual=usual, since=EPOCH)


def tick(before: Watch, row: FloatArray, at: datetime) -> tuple[Watch, tuple[Alarm, ...]]:
    """One more row of values, shape (series,), NaN where nothing was measured.

    Raises:
        InputError: for a row of another length, or one not after the last.
    """
    _check(before, row, at)
    # After a hole in the data the last value no longer says what to expect of the next.
    gap = before.last is not None and at - before.last > 1.5 * before.step
    strays = before.usual.strays(row[None, :], hours_of(at, before.step, 1))
    residual = before.usual.residuals(strays, np.full_like(before.strays, np.nan) if gap else before.strays)
    quiet = np.where(before.firing, np.nan, residual)
    sums, fired, rising = _accumulate(before, quiet)
    level = before.level + np.where(np.isnan(row), 0.0, strays[0] - before.level) / max(
        _MEMORY, _MEMORY_TIME / before.step
    )
    worst = np.where(before.firing | fired, np.maximum(before.worst, np.abs(level)), 0.0)
    back = np.abs(level) < np.clip(worst / 2.0, *_CALM)
    calm = np.where(back & ~fired, before.calm + 1, 0)
    firing = (before.firing & (calm < max(_CALM_TICKS, _CALM_TIME / before.step))) | fired
    after = replace(
        before,
        sums={name: _cleared(one, firing) for name, one in sums.items()},
        strays=strays[0],
        level=level,
        worst=worst,
        recent=np.vstack([before.recent[-REMEMBERED + 1 :], residual]),
        values=np.vstack([before.values[-REMEMBERED + 1 :], row[None, :]]),
        firing=firing,
        calm=calm,
        since=at if before.since == EPOCH else before.since,
        last=at,
    )
    return after, tuple(_alarm(after, int(which), bool(rising[which]), at) for which in np.flatnonzero(fired))


def _check(before: Watch, row: FloatArray, at: datetime) -> None:
    if row.shape != (len(before.labels),):
        raise InputError(
            "tick.row",
            expected=f"{len(before.labels)} values",
            got=str(row.shape),
            next_step="Give one value per watched series.",
        )
    if before.last is not None and at <= before.last:
        raise InputError(
            "tick.at",
            expected=f"an instant after {before.last.isoformat()}",
            got=at.isoformat(),
            next_step="Every tick is seen once and in order.",
        )


def _accumulate(before: Watch, quiet: FloatArray) -> tuple[dict[str, Cusum], Flags, Flags]:
    """The CUSUMs one tick on, which series fired, and whether upwards."""
    fired = np.zeros(len(before.labels), dtype=bool)
    rising = fired.copy()
    sums = {}
    for name, limit in before.thresholds.items():
        speed = SPEEDS[name]
        now = cusum(speed.heard(quiet), k=speed.slack, h=limit, start=before.sums[name])
        new = (now.alarm >= 0) & ~fired
        rising |= new & now.rising
        fired |= new
        sums[name] = now
    return sums, fired, rising


def _cleared(sums: Cusum, firing: Flags) -> Cusum:
    """What is already in alarm starts from nothing when it ends."""
    return replace(sums, high=np.where(firing, 0.0, sums.high), low=np.where(firing, 0.0, sums.low))


def _alarm(now: Watch, which: int, rising: bool, at: datetime) -> Alarm:
    label = now.labels[which]
    # As loud as the loudest CUSUM hears them: one wild residual is no beginning.
    residuals = max((SPEEDS[name] for name in now.sums), key=lambda one: one.loudest).heard(
        now.recent[:, which]
    )
    # Only the side that alarmed: a rise long before the fall is not its beginning.
    sided = residuals if rising else -residuals
    a = float(now.usual.autocorrelation[which])
    response = float(now.usual.step_response[which])
    # Within one window a shift is sudden; over minutes it comes gradually, and has no first residual.
    first = 1.0 / np.sqrt(1.0 - a * a) if now.step >= TICK else response
    low, best, high = shift_interval(sided, response=response, first=first)
    newest = len(residuals) - 1
    # A value speaks for the window before it: the shift can lie anywhere in that window.
    ends = [at - (newest - one) * now.step for one in (low, best, high)]
    centre, _ = now.usual.expected(hours_of(at, now.step, 1))
    return Alarm(
        label.panel,
        label.name,
        label.cohort,
        at,
        float(np.nanmean(now.values[best:, which])),
        float(centre[0, which]),
        rising,
        Onset(ends[0] - now.step, ends[1] - now.step, ends[2]),
    )


def recovered(now: Watch) -> bool:
    """Whether nothing is in alarm."""
    return not bool(now.firing.any())


@dataclass(frozen=True, slots=True)
class _Table:
    """Simulated thresholds of one step by run length."""

    runs: tuple[float, ...]
    thresholds: dict[str, tuple[float, ...]]


def ticks_a_week(step: timedelta) -> int:
    """How often a series is looked at in a week."""
    return int(timedelta(days=7) / step)


def fleet_thresholds(series: int, *, step: timedelta = TICK, a_week: float = 1.0) -> dict[str, float]:
    """Thresholds at which ``series`` series have ``a_week`` false alarms a week together.

    Read from the stored table, linearly in the logarithm of the run length, as the exponential tails of a
    CUSUM's excursions suggest; the CUSUMs of a step share its budget evenly.

    Args:
        step: one of :data:`PACES`.

    Raises:
        InputError: for a fleet or a budget outside the table.
    """
    table = _tables()[int(step.total_seconds())]
    run = max(series, 1) * ticks_a_week(step) / a_week
    if not table.runs[0] <= run <= table.runs[-1]:
        raise InputError(
            "alarms.run",
            expected=f"{table.runs[0]:,.0f} to {table.runs[-1]:,.0f} series-ticks between false alarms",
            got=f"{run:,.0f}",
            next_step="Watch fewer series in one fleet, or budget another number of false alarms.",
        )
    where = np.log(table.runs)
    return {name: float(np.interp(np.log(run), where, h)) for name, h in table.thresholds.items()}


@lru_cache(maxsize=1)
def _tables() -> dict[int, _Table]:
    text = resources.files("mangaassist.incidents").joinpath("thresholds.yaml").read_text(encoding="utf-8")
    steps: dict[int, Any] = yaml.safe_load(text)["steps"]
    return {
        seconds: _Table(
            tuple(float(run) for run in body["series_ticks"]),
            {name: tuple(float(h) for h in levels) for name, levels in body["thresholds"].items()},
        )
        for seconds, body in steps.items()
    }
