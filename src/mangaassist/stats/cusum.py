"""CUSUM monitoring: small lasting shifts are found soon, large single spikes are not shifts.

Run lengths come from the integral equation rather than from a table, so that a fleet of series can be given
one shared budget of false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, IntArray, at_least, finite, positive

_NODES = 120


@dataclass(frozen=True, slots=True, eq=False)
class Cusum:
    """Where two one-sided CUSUMs stand after some ticks; the starting point of the next call.

    Attributes:
        high, low: accumulated evidence of a rise and of a fall, in standard deviations, shape (series,).
        alarm: first tick at which either exceeded the threshold, shape (series,); -1 for none.
        rising: whether that alarm was for a rise, shape (series,).
    """

    high: FloatArray
    low: FloatArray
    alarm: IntArray
    rising: NDArray[np.bool_]


def cusum(standardised: ArrayLike, *, k: float = 0.5, h: float = 5.0, start: Cusum | None = None) -> Cusum:
    """Run a two-sided CUSUM over many series at once.

    Source: Page (1954), Biometrika 41, 100-115.

    Args:
        standardised: (value - baseline) / scale, shape (ticks,) or (ticks, series); NaN ticks change nothing.
        k: half the shift worth finding, in standard deviations.
        h: alarm threshold, in standard deviations.
        start: where an earlier call left off, so that a restart loses no evidence.
    """
    z = np.asarray(standardised, dtype=np.float64)
    z = z.reshape(len(z), -1)
    slack, limit = positive("cusum.k", k), positive("cusum.h", h)
    series = z.shape[1]
    high = np.zeros(series) if start is None else start.high.copy()
    low = np.zeros(series) if start is None else start.low.copy()
    alarm, rising = np.full(series, -1, dtype=np.int64), np.zeros(series, dtype=bool)
    missing = np.isnan(z)
    # A missing tick adds nothing and takes nothing: no step, no slack.
    step, toll = np.where(missing, 0.0, z), np.where(missing, 0.0, slack)
    for tick in range(len(z)):
        high = np.maximum(0.0, high + step[tick] - toll[tick])
        low = np.maximum(0.0, low - step[tick] - toll[tick])
        fired = (alarm < 0) & (np.maximum(high, low) > limit)
        if fired.any():
            alarm[fired] = tick
            rising |= fired & (high > low)
    return Cusum(high, low, alarm, rising)


def run_length(h: float, *, k: float = 0.5, shift: float = 0.0, sides: int = 2) -> float:
    """Average ticks to an alarm on independent normal data moved by ``shift`` standard deviations.

    Source: Page's integral equation, solved by Gauss-Legendre quadrature (Goel and Wu 1971, Technometrics
    13); two sides combine as 1 / ARL = 1 / ARL_high + 1 / ARL_low (Kemp 1961).
    """
    up = _one_sided(positive("h", h), positive("k", k), shift)
    return up if sides == 1 else 1.0 / (1.0 / up + 1.0 / _one_sided(h, k, -shift))


def _one_sided(h: float, k: float, shift: float) -> float:
    """L(u) = 1 + L(0) Phi(k - shift - u) + integral of L(x) phi(x - u + k - shift) over (0, h), at u = 0."""
    points, weights = _nodes()
    x = 0.5 * h * (points + 1.0)
    w = 0.5 * h * weights
    at = np.concatenate([[0.0], x])
    drift = k - shift
    kernel = np.exp(-0.5 * (x[None, :] - at[:, None] + drift) ** 2) / np.sqrt(2 * np.pi) * w
    system = np.eye(len(at))
    system[:, 0] -= special.ndtr(drift - at)
    system[:, 1:] -= kernel
    return float(np.linalg.solve(system, np.ones(len(at)))[0])


@lru_cache(maxsize=1)
def _nodes() -> tuple[FloatArray, FloatArray]:
    points, weights = np.polynomial.legendre.leggauss(_NODES)
    return np.asarray(points, dtype=np.float64), np.asarray(weights, dtype=np.float64)


def threshold_for(run: float, *, k: float = 0.5, sides: int = 2) -> float:
    """The h at which false alarms on independent data are ``run`` ticks apart on average.

    For a fleet: one false alarm among S series in T ticks means ``run = S * T``.

    Raises:
        InputError: for a run length beyond 1e12 or below that of h = .1.
    """
    from scipy.optimize import brentq

    positive("run", run)

    def excess(h: float) -> float:
        return float(np.log(run_length(h, k=k, sides=sides)) - np.log(run))

    high = 0.1
    while excess(high) < 0 and high < 60.0:
        high *= 1.5
    if excess(0.1) > 0 or run > 1e12:
        raise InputError(
            "run",
            expected="a run length between that of h = 0.1 and 1e12",
            got=f"{run:g}",
            next_step="Budget false alarms per week, not per century.",
        )
    return float(brentq(excess, 0.1, high, xtol=1e-9))


def calibrated_threshold(
    standardised: ArrayLike, run: float, *, k: float = 0.5, safety: float = 1.0
) -> float:
    """The h that a quiet stretch of real data implies for a run length it is too short to show.

    Autocorrelation makes textbook run lengths false by a factor of ten. Excursions of a CUSUM above high
    levels have exponential tails, so the largest of each of about 50 blocks are fitted by a Gumbel law
    (Coles 2001, chapter 3) and extrapolated to the level reached once in ``run`` series-ticks.

    Args:
        standardised: in-control data, shape (ticks, series), 50 blocks of 20 ticks or more.
        run: series-ticks between false alarms.
        safety: added to the threshold, in standard deviations.
    """
    z = finite("calibration.standardised", standardised)
    z = z.reshape(len(z), -1)
    slack = positive("k", k)
    high, low, top = np.zeros(z.shape[1]), np.zeros(z.shape[1]), np.empty(z.shape)
    for tick, row in enumerate(z):
        high, low = np.maximum(0.0, high + row - slack), np.maximum(0.0, low - row - slack)
        top[tick] = np.maximum(high, low)
    flat = top.T.ravel()
    block = at_least("calibration.ticks", len(flat) // 50, 20)
    peaks = flat[: len(flat) // block * block].reshape(-1, block).max(axis=1)
    scale = float(peaks.std(ddof=1)) * np.sqrt(6.0) / np.pi
    location = float(peaks.mean()) - np.euler_gamma * scale
    return float(location + scale * np.log(max(run / block, 1.0)) + safety)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a series usually does.

    Attributes:
        centre: median.
        scale: 1.4826 times the median absolute deviation: the standard deviation of normal data, whatever the
            outliers.
        autocorrelation: lag-one correlation of the clipped deviations.
    """

    centre: float
    scale: float
    autocorrelation: float


def baseline(values: ArrayLike) -> Baseline:
    """A robust baseline from a quiet stretch.

    Raises:
        InputError: for fewer than 20 values, or more than half of them equal.
    """
    x = finite("baseline.values", values, ndim=1)
    at_least("baseline.values", len(x), 20)
    centre = float(np.median(x))
    scale = 1.4826 * float(np.median(np.abs(x - centre)))
    if scale <= 0:
        raise InputError(
            "baseline.values",
            expected="values that vary",
            got="more than half of them equal",
            next_step="Monitor such a counter with a proportion test instead.",
        )
    z = np.clip((x - centre) / scale, -3.0, 3.0)
    z = z - z.mean()
    correlation = float((z[1:] * z[:-1]).sum() / (z**2).sum())
    return Baseline(centre, scale, float(np.clip(correlation, -0.99, 0.99)))


def whiten(values: ArrayLike, usual: Baseline) -> FloatArray:
    """Standardised one-step residuals: what each tick adds to what the last one already said.

    Autocorrelation .5 shortens a CUSUM's in-control run from 477 ticks to 49; residuals restore it.

    Returns:
        Shape (ticks,). A lasting shift of s shows in them as s (1 - a) / sqrt(1 - a^2).
    """
    z = (np.asarray(values, dtype=np.float64) - usual.centre) / usual.scale
    a = usual.autocorrelation
    previous = np.concatenate([[0.0], z[:-1]])
    residual = (z - a * previous) / np.sqrt(1.0 - a * a)
    residual[0] = z[0]
    return np.asarray(residual, dtype=np.float64)
