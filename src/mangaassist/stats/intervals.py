"""Estimates with intervals: proportions in closed form, everything else by the bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, IntArray, at_least, counts, open_unit, successes_of

Rows = NDArray[np.intp]
Units = Rows | list[Rows]
Statistic = Callable[[Rows], float]

_JACKKNIFE_BLOCKS = 200
_CELL_BUDGET = 4_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what is known about it.

    Attributes:
        value: the point estimate, in the metric's own unit.
        low, high: the ends of the interval.
        n: observations behind it.
        level: confidence level of the interval.
    """

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95

    def as_dict(self) -> dict[str, float | int]:
        """The estimate as a JSON object."""
        return asdict(self)


def two_sided_z(level: float) -> float:
    """The standard normal quantile that leaves ``(1 - level) / 2`` in each tail."""
    return float(-special.ndtri(0.5 * (1.0 - open_unit("level", level))))


def wilson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """A proportion with its score interval.

    Source: Wilson (1927), JASA 22, 209-212.

    Raises:
        InputError: for no trials, or successes outside 0..n.
    """
    x, n = successes_of("proportion", successes, n)
    low, high = _score_limits(x, n, two_sided_z(level))
    return Estimate(x / n, low, high, n, level)


def _score_limits(x: int, n: int, z: float) -> tuple[float, float]:
    p, zz = x / n, z * z
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    half = z / (1 + zz / n) * np.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    # At the ends the algebra is exact and only rounding is not.
    return (0.0 if x == 0 else float(centre - half)), (1.0 if x == n else float(centre + half))


def clopper_lower(successes: int, n: int, *, level: float = 0.95) -> float:
    """The exact one-sided lower confidence bound of a proportion.

    Source: Clopper and Pearson (1934), Biometrika 26, 404-413. 29 of 29 gives .90 at 95%.

    Raises:
        InputError: for no trials, or successes outside 0..n.
    """
    x, n = successes_of("proportion", successes, n)
    alpha = 1.0 - open_unit("level", level)
    return 0.0 if x == 0 else float(special.betaincinv(x, n - x + 1, alpha))


def clopper_upper(successes: int, n: int, *, level: float = 0.95) -> float:
    """The exact one-sided upper confidence bound of a proportion; see :func:`clopper_lower`."""
    x, n = successes_of("proportion", successes, n)
    return 1.0 - clopper_lower(n - x, n, level=level)


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """A proportion with its exact two-sided interval; see :func:`clopper_lower`."""
    one_sided = 0.5 * (1.0 + open_unit("level", level))
    low = clopper_lower(successes, n, level=one_sided)
    return Estimate(successes / n, low, clopper_upper(successes, n, level=one_sided), n, level)


def newcombe(successes: int, n: int, base_successes: int, base_n: int, *, level: float = 0.95) -> Estimate:
    """The difference of two independent proportions, first minus base, with a score interval.

    Source: Newcombe (1998), Statistics in Medicine 17, 873-890, method 10 (without continuity correction).
    ``n`` of the result counts both groups.

    Raises:
        InputError: for no trials, or successes outside 0..n, on either side.
    """
    value, low, high = score_difference(successes, n, base_successes, base_n, z=two_sided_z(level))
    return Estimate(value, low, high, n + base_n, level)


def score_difference(
    successes: int, n: int, base_successes: int, base_n: int, *, z: float
) -> tuple[float, float, float]:
    """Newcombe's difference (value, low, high) at any critical value ``z``, for callers with their own."""
    x, n = successes_of("proportion", successes, n)
    y, base_n = successes_of("base", base_successes, base_n)
    p, q = x / n, y / base_n
    (p_low, p_high), (q_low, q_high) = _score_limits(x, n, z), _score_limits(y, base_n, z)
    low = p - q - float(np.hypot(p - p_low, q_high - q))
    return p - q, low, p - q + float(np.hypot(p_high - p, q - q_low))


def bootstrap(
    statistic: Statistic,
    n: int,
    *,
    generator: np.random.Generator,
    replicates: int = 1000,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
    groups: ArrayLike | None = None,
) -> Estimate:
    """Any statistic of rows with a bootstrap interval.

    Source: Efron and Tibshirani (1993), chapters 13 (percentile) and 14 (BCa). With ``groups`` whole groups
    are drawn, so that rows of one conversation or one user stay together (Davison and Hinkley 1997, 3.8).
    The acceleration of BCa comes from a delete-a-block jackknife of at most 200 random blocks.

    Args:
        statistic: from row indices, shape (m,), possibly repeated, to one number.
        n: number of rows.
        groups: one group key per row, shape (n,), or None for independent rows.

    Returns:
        The estimate; ``n`` counts rows. Replicates in which the statistic is undefined (NaN) are left out.

    Raises:
        InputError: for fewer than 2 independent units, groups of another length, or a statistic that is
            undefined on the full sample or on more than half of the replicates.
    """
    units = _units(n, groups)
    at_least("bootstrap.units", len(units), 2)
    value = float(statistic(np.arange(n, dtype=np.intp)))
    draws = np.array(
        [statistic(_gather(units, generator.integers(0, len(units), len(units)))) for _ in range(replicates)],
        dtype=np.float64,
    )
    usable = draws[np.isfinite(draws)]
    if not np.isfinite(value) or 2 * len(usable) < replicates:
        raise InputError(
            "bootstrap.statistic",
            expected="a statistic defined on most resamples",
            got=f"{replicates - len(usable)} of {replicates} undefined, point value {value}",
            next_step="Collect more rows of the rare kind, or choose another statistic.",
        )
    tails = np.array([0.5 * (1 - level), 0.5 * (1 + level)])
    if method == "bca":
        tails = _bca_tails(statistic, units, value, usable, tails=tails, generator=generator)
    low, high = np.quantile(usable, tails)
    return Estimate(value, float(low), float(high), n, level)


def _units(n: int, groups: ArrayLike | None) -> Units:
    """Row indices of each independently drawn unit; an array of shape (n, 1) when every row is one."""
    at_least("bootstrap.n", n, 1)
    if groups is None:
        return np.arange(n, dtype=np.intp).reshape(n, 1)
    keys = np.asarray(groups)
    if keys.shape != (n,):
        raise InputError(
            "bootstrap.groups", expected=f"shape ({n},)", got=str(keys.shape), next_step="One key per row."
        )
    _, inverse = np.unique(keys, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)


def _gather(units: Units, chosen: Rows) -> Rows:
    if isinstance(units, np.ndarray):
        return units[chosen].ravel()
    return np.concatenate([units[i] for i in chosen])


def _bca_tails(
    statistic: Statistic,
    units: Units,
    value: float,
    draws: FloatArray,
    *,
    tails: FloatArray,
    generator: np.random.Generator,
) -> FloatArray:
    """The percentile levels moved for bias and skewness (Efron 1987, JASA 82, 171-185)."""
    below = (np.count_nonzero(draws < value) + 0.5 * np.count_nonzero(draws == value)) / len(draws)
    bias = special.ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    order = generator.permutation(len(units))
    blocks = np.array_split(order, min(len(units), _JACKKNIFE_BLOCKS))
    left_out = np.array([statistic(np.sort(_gather(units, np.setdiff1d(order, block)))) for block in blocks])
    spread = np.nanmean(left_out) - left_out
    scale = np.nansum(spread**2) ** 1.5
    acceleration = float(np.nansum(spread**3) / (6 * scale)) if scale > 0 else 0.0
    shifted = bias + special.ndtri(tails)
    return np.asarray(special.ndtr(bias + shifted / (1 - acceleration * shifted)), dtype=np.float64)


def f1_scores(confusion: ArrayLike) -> FloatArray:
    """Per-class F1 from confusion counts.

    Args:
        confusion: counts, shape (..., k, k); rows are true classes, columns predicted ones.

    Returns:
        Shape (..., k); NaN for a class that is neither true nor predicted anywhere.
    """
    table = np.asarray(confusion, dtype=np.float64)
    hit = np.diagonal(table, axis1=-2, axis2=-1)
    return _f1(hit, table.sum(axis=-1), table.sum(axis=-2))


def macro_f1(confusion: ArrayLike) -> float:
    """The mean of :func:`f1_scores` over the classes that occur, as scikit-learn defines it."""
    return float(np.nanmean(f1_scores(counts("confusion", confusion, ndim=2))))


def macro_f1_interval(
    confusion: ArrayLike,
    *,
    generator: np.random.Generator,
    replicates: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Macro-F1 with a percentile bootstrap interval, without touching a row.

    Resampling n rows is one multinomial draw over the non-zero cells of the confusion matrix, so a thousand
    replicates of 150 classes take well under a second. Classes that vanish from a replicate are left out of
    its mean, which is what scikit-learn does on the resampled rows. Without a single error there is nothing
    to resample and the low end is the Wilson bound of accuracy instead.

    Args:
        confusion: counts, shape (k, k); rows are true classes.
    """
    table = counts("confusion", confusion, ndim=2)
    n = round(float(table.sum()))
    if np.trace(table) == table.sum():
        return Estimate(1.0, wilson(n, n, level=level).low, 1.0, n, level)
    true, predicted = np.nonzero(table)
    share = table[true, predicted] / table.sum()
    batch = max(1, _CELL_BUDGET // max(len(true), len(table)))
    draws = [
        _macro_f1_of_cells(generator.multinomial(n, share, size=size), true, predicted, len(table))
        for size in _batches(replicates, batch)
    ]
    low, high = np.quantile(np.concatenate(draws), [0.5 * (1 - level), 0.5 * (1 + level)])
    return Estimate(macro_f1(table), float(low), float(high), n, level)


def _batches(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _macro_f1_of_cells(cells: IntArray, true: Rows, predicted: Rows, k: int) -> FloatArray:
    """Macro-F1 of each replicate; ``cells`` has shape (replicates, non-zero cells)."""
    from scipy import sparse

    c = len(true)
    ones, index = np.ones(c), np.arange(c)
    by_true = sparse.csr_array((ones, (index, true)), shape=(c, k))
    by_predicted = sparse.csr_array((ones, (index, predicted)), shape=(c, k))
    hits = sparse.csr_array((ones * (true == predicted), (index, true)), shape=(c, k))
    scores = _f1(cells @ hits, cells @ by_true, cells @ by_predicted)
    return np.asarray(np.nanmean(scores, axis=1), dtype=np.float64)


def _f1(hit: FloatArray, actual: FloatArray, predicted: FloatArray) -> FloatArray:
    total = actual + predicted
    score: FloatArray = np.divide(2 * hit, total, out=np.full(total.shape, np.nan), where=total > 0)
    return score
