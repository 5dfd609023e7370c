"""When did it change? Exact segmentation of a series into stretches of constant mean."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.stats.domain import FloatArray, at_least, finite, positive


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of constant mean.

    Attributes:
        start, end: ticks from ``start`` up to, not including, ``end``.
        mean: its mean, in the series' unit.
    """

    start: int
    end: int
    mean: float


def change_points(
    values: ArrayLike, *, scale: float | None = None, penalty: float | None = None, shortest: int = 2
) -> tuple[Segment, ...]:
    """The segmentation with the least squared error plus a penalty per change.

    Source: PELT, Killick, Fearnhead and Eckley (2012), JASA 107, 1590-1598: exact, and about linear in time
    when changes come regularly.

    Args:
        values: shape (ticks,).
        scale: standard deviation of the noise; None estimates it from first differences (median absolute
            difference), which a few changes of mean do not disturb.
        penalty: cost of a change in units of the noise variance; None takes 3 log n, which holds false
            changes on independent data under about one in twenty series.
        shortest: fewest ticks in a segment.

    Raises:
        InputError: for fewer than twice ``shortest`` ticks, missing values, or a series without variation.
    """
    x = finite("change_points.values", values, ndim=1)
    n = at_least("change_points.ticks", len(x), 2 * at_least("shortest", shortest, 1))
    noise = positive("change_points.scale", _noise(x) if scale is None else scale)
    cost = positive("penalty", 3.0 * np.log(n) if penalty is None else penalty)
    first = np.concatenate([[0.0], np.cumsum((x - x.mean()) / noise)])
    second = np.concatenate([[0.0], np.cumsum(((x - x.mean()) / noise) ** 2)])
    previous = _pelt(first, second, cost, shortest)
    ends = [n]
    while ends[-1] > 0:
        ends.append(int(previous[ends[-1]]))
    bounds = ends[::-1]
    return tuple(Segment(start, end, float(x[start:end].mean())) for start, end in pairwise(bounds))


def _pelt(first: FloatArray, second: FloatArray, cost: float, shortest: int) -> FloatArray:
    """For every end the best start of its last segment, by dynamic programming over surviving candidates."""
    n = len(first) - 1
    best = np.full(n + 1, np.inf)
    best[0] = -cost
    previous = np.zeros(n + 1)
    candidates, expires = np.array([0]), np.array([n + 1])
    for end in range(shortest, n + 1):
        newest = end - shortest
        if newest >= shortest:
            candidates, expires = np.append(candidates, newest), np.append(expires, n + 1)
        length = end - candidates
        error = second[end] - second[candidates] - (first[end] - first[candidates]) ** 2 / length
        total = best[candidates] + error
        choice = int(total.argmin())
        best[end], previous[end] = total[choice] + cost, candidates[choice]
        # A start already worse than this end can never win again, once a segment may begin here.
        expires = np.where(total > best[end], np.minimum(expires, end + shortest), expires)
        alive = expires > end + 1
        candidates, expires = candidates[alive], expires[alive]
    return previous


def _noise(x: FloatArray) -> float:
    steps = np.abs(np.diff(x))
    # Median of |N(0, 2 s^2)| is .6745 * sqrt(2) * s.
    robust = float(np.median(steps)) / (0.6745 * np.sqrt(2.0))
    return robust if robust > 0 else float(steps.std() / np.sqrt(2.0))


def shift_interval(
    residuals: ArrayLike, *, response: float = 1.0, first: float = 1.0, mass: float = 0.9
) -> tuple[int, int, int]:
    """When a single lasting shift at the end of a quiet stretch began: an interval and the likeliest tick.

    The posterior of the first shifted tick under a flat prior and an unknown size: its profile likelihood
    times the width the size is known to (Smith 1975, Biometrika 62, 407-416, with the size maximised).

    Args:
        residuals: standardised, shape (ticks,), quiet at first, shifted at the end; NaN ticks say nothing.
        response: what the shift adds to residuals after its first tick, per unit of size; below ``first``
            for the residuals of an autocorrelated series.
        first: what it adds to the residual of its first tick.
        mass: probability the interval holds.

    Returns:
        Earliest, likeliest and latest tick.
    """
    r = np.asarray(residuals, dtype=np.float64)
    known = np.isfinite(r)
    x = np.where(known, r, 0.0)
    later = np.cumsum((x * response)[::-1])[::-1] - x * response
    weight = np.cumsum((known * response**2)[::-1])[::-1] - known * response**2
    fit = x * first + later
    size = np.maximum(known * first**2 + weight, response**2)
    log_posterior = 0.5 * fit**2 / size - 0.5 * np.log(size)
    chance = np.exp(log_posterior - log_posterior.max())
    reached = np.cumsum(chance / chance.sum())
    tail = (1.0 - mass) / 2.0
    low, high = (int(np.searchsorted(reached, level)) for level in (tail, 1.0 - tail))
    return low, int(chance.argmax()), min(high, len(r) - 1)
