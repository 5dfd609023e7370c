"""Run lengths of the alarms on quiet fleets, simulated: where the thresholds come from.

A quiet series has a season, autocorrelated heavy-tailed noise that is wider at night, single wild values and
holes. Its baseline is estimated from four weeks of it, as in production; then it is watched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from mangaassist.incidents.alarms import SPEEDS, TICK, TICKS_A_WEEK
from mangaassist.incidents.baselines import fit, hours_of
from mangaassist.stats.cusum import cusum
from mangaassist.stats.domain import FloatArray

HISTORY = 4 * TICKS_A_WEEK
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


def quiet(ticks: int, series: int, noise: Noise, generator: np.random.Generator) -> FloatArray:
    """Values of quiet series from a Monday midnight on, shape (ticks, series)."""
    from scipy.signal import lfilter

    hours = hours_of(_MONDAY, TICK, ticks)[:, None]
    draws = generator.standard_t(noise.degrees, size=(ticks, series))
    draws /= np.sqrt(noise.degrees / (noise.degrees - 2.0))
    a = generator.uniform(*noise.correlation, size=series)
    wander = np.empty((ticks, series))
    for column in range(series):
        wander[:, column] = lfilter([np.sqrt(1.0 - a[column] ** 2)], [1.0, -a[column]], draws[:, column])
    phase = generator.uniform(0.0, 24.0, size=series)
    day = np.cos(2.0 * np.pi * (hours - phase) / 24.0)
    week = np.cos(2.0 * np.pi * (hours - 7.0 * phase) / 168.0)
    size = generator.uniform(0.0, noise.season, size=series)
    values = size * day + 0.5 * size * week + wander * (1.0 + noise.night * (1.0 - day) / 2.0)
    wild = generator.random(values.shape) < noise.wild
    values += 8.0 * generator.choice((-1.0, 1.0), size=values.shape) * wild
    values[generator.random(values.shape) < noise.missing] = np.nan
    return np.asarray(values)


def quiet_residuals(weeks: int, series: int, noise: Noise, generator: np.random.Generator) -> FloatArray:
    """Residuals of quiet series after four weeks of history, shape (weeks * 2016, series)."""
    values = quiet(HISTORY + weeks * TICKS_A_WEEK, series, noise, generator)
    hours = hours_of(_MONDAY, TICK, len(values))
    usual = fit(values[:HISTORY], hours[:HISTORY])
    strays = usual.strays(values[HISTORY:], hours[HISTORY:])
    return usual.residuals(strays, np.full(series, np.nan))


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
    *,
    blocks: int,
    series: int,
    weeks: int,
    seed: int,
    noise: Noise | None = None,
    on_block: Callable[[int], None] = lambda _: None,
) -> dict[str, tuple[float, ...]]:
    """Thresholds at which each CUSUM alone alarms once in twice each of ``runs`` series-ticks, and a margin.

    Both together then alarm at most once in each. ``blocks`` fleets of ``series`` series are watched for
    ``weeks`` weeks each.
    """
    levels = np.arange(1.0, 40.0, 0.05)
    totals = {name: np.zeros((len(levels), 2)) for name in SPEEDS}
    for block in range(blocks):
        generator = np.random.default_rng([seed, block])
        residuals = quiet_residuals(weeks, series, noise or Noise(), generator)
        for name, speed in SPEEDS.items():
            totals[name] += first_passages(speed.heard(residuals), speed.slack, levels)
        on_block(block + 1)
    return {name: tuple(_level(levels, totals[name], 2.0 * MARGIN * run) for run in runs) for name in SPEEDS}


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
