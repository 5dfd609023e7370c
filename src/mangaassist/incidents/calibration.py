"""Run lengths of the alarms on quiet fleets, simulated: where the thresholds come from.

A quiet series has a season, autocorrelated heavy-tailed noise that is wider at night, single wild values and
holes. Its baseline is estimated as in production, from four weeks of five-minute values and, for the minutes,
one week of those; then it is watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from mangaassist.incidents.alarms import MINUTE, SPEEDS, TICK, ticks_a_week
from mangaassist.incidents.baselines import finer, fit, hours_of
from mangaassist.stats.cusum import cusum
from mangaassist.stats.domain import FloatArray

TICKS_A_WEEK = ticks_a_week(TICK)
HISTORY = 4 * TICKS_A_WEEK
EACH = int(TICK / MINUTE)
"""Minutes in a tick."""
MARGIN = 1.6
"""Thresholds are set for this much longer runs than asked for: a table simulated to within a fifth must not
promise what it cannot keep."""

_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of quiet series.

    Attributes:
        correlation: lag-one correlations are uniform in this range.
        degrees: of freedom of the Student innovations.
        season: amplitudes of the day are uniform up to this, in standard deviations; of the week half.
        night: noise at the quietest hour over that at the busiest, minus one.
        wild: share of single values moved by eight standard deviations.
        missing: share of values that are not there.
    """

    correlation: tuple[float, float] = (0.0, 0.6)
    degrees: float = 4.0
    season: float = 3.0
    night: float = 0.8
    wild: float = 0.0005
    missing: float = 0.01


FIVE_MINUTES, MINUTES = Noise(), Noise(correlation=(0.0, 0.9))
"""The noise of the two steps: a correlation of .9 from minute to minute is one of .6 from tick to tick."""


def quiet(
    ticks: int, series: int, noise: Noise, generator: np.random.Generator, *, step: timedelta = TICK
) -> FloatArray:
    """Values of quiet series from a Monday midnight on, shape (ticks, series)."""
    hours = hours_of(_MONDAY, step, ticks)
    # One after the other: a series fits into the processor's cache, a fleet of weeks of minutes does not.
    return np.stack([_quiet(hours, noise, generator) for _ in range(series)]).T


def _quiet(hours: FloatArray, noise: Noise, generator: np.random.Generator) -> FloatArray:
    from scipy.signal import lfilter

    ticks = len(hours)
    a, phase, size = (
        generator.uniform(*noise.correlation),
        generator.uniform(0.0, 24.0),
        generator.uniform(0.0, noise.season),
    )
    draws = generator.standard_t(noise.degrees, size=ticks)
    wander = lfilter([np.sqrt((1.0 - a * a) * (1.0 - 2.0 / noise.degrees))], [1.0, -a], draws)
    day = np.cos(2.0 * np.pi * (hours - phase) / 24.0)
    week = np.cos(2.0 * np.pi * (hours - 7.0 * phase) / 168.0)
    values = size * day + 0.5 * size * week + wander * (1.0 + noise.night * (1.0 - day) / 2.0)
    wild = generator.choice(ticks, generator.binomial(ticks, noise.wild), replace=False)
    values[wild] += 8.0 * generator.choice((-1.0, 1.0), size=len(wild))
    values[generator.choice(ticks, generator.binomial(ticks, noise.missing), replace=False)] = np.nan
    return np.asarray(values)


def quiet_residuals(weeks: int, series: int, noise: Noise, generator: np.random.Generator) -> FloatArray:
    """Residuals of quiet series after four weeks of history, shape (weeks * 2016, series)."""
    values = quiet(HISTORY + weeks * TICKS_A_WEEK, series, noise, generator)
    hours = hours_of(_MONDAY, TICK, len(values))
    usual = fit(values[:HISTORY], hours[:HISTORY])
    strays = usual.strays(values[HISTORY:], hours[HISTORY:])
    return usual.residuals(strays, np.full(series, np.nan))


def quiet_minutes(
    weeks: int, series: int, noise: Noise, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Residuals of the same quiet series at both steps, shapes (weeks * 10080, series) and (weeks * 2016, …).

    Four weeks of five-minute values and the last of them in minutes are their history.
    """
    every = EACH * (HISTORY + weeks * TICKS_A_WEEK)
    minutes = quiet(every, series, noise, generator, step=MINUTE)
    hours = hours_of(_MONDAY, MINUTE, every)
    ticks = five_minutes(minutes)
    # A tick is named by its end, the last of its minutes.
    ends = hours[EACH - 1 :: EACH]
    coarse = fit(ticks[:HISTORY], ends[:HISTORY])
    begin = slice(EACH * (HISTORY - TICKS_A_WEEK), EACH * HISTORY)
    fine = finer(coarse, minutes[begin], hours[begin])
    nothing = np.full(series, np.nan)
    late = minutes[EACH * HISTORY :], hours[EACH * HISTORY :]
    return (
        fine.residuals(fine.strays(*late), nothing),
        coarse.residuals(coarse.strays(ticks[HISTORY:], ends[HISTORY:]), nothing),
    )


def five_minutes(minutes: FloatArray) -> FloatArray:
    """Means of five minutes each, shape (ticks, series); NaN where none of them was measured."""
    cells = minutes.reshape(-1, EACH, minutes.shape[1])
    known = np.isfinite(cells)
    count = known.sum(axis=1)
    total = np.where(known, cells, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def false_alarms(residuals: FloatArray, thresholds: dict[str, float]) -> tuple[int, float]:
    """First alarms of either CUSUM, and the series-ticks watched until them or the end."""
    ticks = len(residuals)
    first = np.full(residuals.shape[1], ticks)
    for name, h in thresholds.items():
        speed = SPEEDS[name]
        at = cusum(speed.heard(residuals), k=speed.slack, h=h).alarm
        first = np.minimum(first, np.where(at >= 0, at, ticks))
    return int((first < ticks).sum()), float(first.sum())


def first_passages(residuals: FloatArray, slack: float, levels: FloatArray) -> FloatArray:
    """How many series first passed each of ``levels``, and the series-ticks until then, shape (levels, 2)."""
    high, low = np.zeros(residuals.shape[1]), np.zeros(residuals.shape[1])
    # The tick at which a series first passes a level follows from its running maximum.
    peak = np.zeros((len(residuals), residuals.shape[1]), dtype=np.float32)
    step = np.where(np.isnan(residuals), 0.0, residuals)
    toll = np.where(np.isnan(residuals), 0.0, slack)
    for tick in range(len(residuals)):
        high = np.maximum(0.0, high + step[tick] - toll[tick])
        low = np.maximum(0.0, low - step[tick] - toll[tick])
        peak[tick] = np.maximum(high, low)
    np.maximum.accumulate(peak, axis=0, out=peak)
    passed = len(peak[-1]) - np.searchsorted(np.sort(peak[-1]), levels, side="right")
    until = np.searchsorted(np.sort(peak, axis=None), levels, side="right")
    return np.stack([passed, until], axis=1).astype(np.float64)


def calibrate(
    runs: tuple[float, ...],
    residuals: Iterable[FloatArray],
    speeds: Sequence[str],
    *,
    on_block: Callable[[int], None] = lambda _: None,
) -> dict[str, tuple[float, ...]]:
    """Thresholds at which the CUSUMs ``speeds`` together alarm at most once in each of ``runs`` series-ticks.

    Args:
        residuals: of quiet fleets, one after the other, shape (ticks, series) each.
    """
    levels = np.arange(1.0, 40.0, 0.05)
    totals = {name: np.zeros((len(levels), 2)) for name in speeds}
    for block, one in enumerate(residuals):
        for name in speeds:
            speed = SPEEDS[name]
            totals[name] += first_passages(speed.heard(one), speed.slack, levels)
        on_block(block + 1)
    each = len(speeds) * MARGIN
    return {name: tuple(_level(levels, totals[name], each * run) for run in runs) for name in speeds}


def _level(levels: FloatArray, totals: FloatArray, run: float) -> float:
    """The lowest simulated level passed at most once in ``run`` series-ticks.

    Clipped residuals make rates fall in steps, so nothing is interpolated. Beyond the levels that were passed
    ten times the tail is taken as exponential: a line through the logarithms of the last two units.
    """
    seen = totals[:, 0] >= 10
    rate = totals[seen, 0] / totals[seen, 1]
    if rate[-1] <= 1.0 / run:
        return float(levels[seen][np.argmax(rate <= 1.0 / run)])
    last = levels[seen] >= levels[seen][-1] - 2.0
    slope, there = np.polyfit(levels[seen][last], np.log(rate[last]), 1)
    return float((-np.log(run) - there) / slope)
