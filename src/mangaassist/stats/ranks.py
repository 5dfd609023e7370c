"""Effects that need the rows themselves: ranks, quantiles, capped values. They end in the same ``Effect``."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least, finite, open_unit, same_length
from mangaassist.stats.effects import Arm, Effect, contrast
from mangaassist.stats.moments import of_rows


def rank_effect(treatment: ArrayLike, control: ArrayLike) -> Effect:
    """P(treatment > control) + P(equal) / 2 - 1/2: the Mann-Whitney effect, without assuming equal shapes.

    Source: Brunner and Munzel (2000), Biometrical Journal 42, 17-25, variance from placements, degrees of
    freedom by Satterthwaite.

    Args:
        treatment, control: one value per unit, shape (n,) and (m,).

    Raises:
        InputError: for fewer than 2 units in an arm, or arms that do not overlap at all.
    """
    t, c = finite("rank.treatment", treatment, ndim=1), finite("rank.control", control, ndim=1)
    at_least("rank.n", min(len(t), len(c)), 2)
    above, below = _placements(t, c), _placements(c, t)
    theta = float(above.mean())
    # Placement variances enter crosswise: how t falls among c varies over the t, and the other way round.
    arms = (
        Arm(len(t), theta - 0.5, float(above.var(ddof=1)) / len(t)),
        Arm(len(c), 0.0, float(below.var(ddof=1)) / len(c)),
    )
    return contrast(*arms, relative=False)


def _placements(values: FloatArray, among: FloatArray) -> FloatArray:
    """Share of ``among`` below each value, ties counted half."""
    ordered = np.sort(among)
    left, right = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((left + right) / (2.0 * len(among)), dtype=np.float64)


def quantile_effect(
    treatment: ArrayLike,
    control: ArrayLike,
    q: float,
    *,
    treatment_clusters: ArrayLike | None = None,
    control_clusters: ArrayLike | None = None,
    relative: bool = False,
) -> Effect:
    """Difference of a quantile (p95 latency), with clusters of dependent rows accounted for.

    Sources: order-statistic variance, Price and Bonett (2001), Journal of Statistical Computation and
    Simulation 70, 295-305; clusters shrink the effective sample by the design effect of the indicator of
    lying below the quantile, Liu, Sun, Varshney and Xu (2019), KDD workshop.

    Args:
        treatment, control: one value per row, shape (n,) and (m,).
        q: which quantile, in (0, 1).
        treatment_clusters, control_clusters: the unit each row belongs to (user, session), or None.

    Raises:
        InputError: for too few rows to bracket the quantile, or no variation around it.
    """
    arms = [
        _quantile_arm(finite("quantile.values", values, ndim=1), open_unit("q", q), clusters)
        for values, clusters in ((treatment, treatment_clusters), (control, control_clusters))
    ]
    return contrast(arms[0], arms[1], relative=relative, known_normal=True)


def _quantile_arm(values: FloatArray, q: float, clusters: ArrayLike | None) -> Arm:
    n = len(values)
    ordered = np.sort(values)
    value = float(np.quantile(ordered, q))
    effective = n / _design_effect(values <= value, q, clusters)
    z = float(special.ndtri(0.975))
    reach = z * n * np.sqrt(q * (1 - q) / effective)
    low, high = int(np.floor(n * q - reach)), int(np.ceil(n * q + reach))
    if low < 0 or high >= n:
        raise InputError(
            "quantile.rows",
            expected=f"enough rows to bracket the {q:g} quantile",
            got=f"{n} rows, {effective:.0f} of them effective",
            next_step="Collect more rows or report a quantile nearer the middle.",
        )
    error = float(ordered[high] - ordered[low]) / (2 * z)
    return Arm(n, value, error**2)


def _design_effect(below: NDArray[np.bool_], q: float, clusters: ArrayLike | None) -> float:
    if clusters is None:
        return 1.0
    keys = np.asarray(clusters)
    same_length("quantile.clusters", keys, below)
    _, inverse = np.unique(keys, return_inverse=True)
    sizes = np.bincount(inverse).astype(np.float64)
    deviations = np.bincount(inverse, weights=below.astype(np.float64)) - below.mean() * sizes
    m = at_least("quantile.clusters", len(sizes), 2)
    variance = float((deviations**2).sum()) * m / (m - 1) / len(below) ** 2
    return max(1.0, variance * len(below) / (q * (1 - q)))


def capped(
    treatment: ArrayLike, control: ArrayLike, *, upper: float = 0.99, lower: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Winsorise both arms at common limits: quantiles of the pooled rows.

    Limits taken per arm would move with the effect; pooled ones do not know the assignment.
    """
    t, c = finite("capped.treatment", treatment, ndim=1), finite("capped.control", control, ndim=1)
    low, high = np.quantile(np.concatenate([t, c]), [lower, upper])
    return np.clip(t, low, high), np.clip(c, low, high)


def log_effect(treatment: ArrayLike, control: ArrayLike) -> Effect:
    """Difference of mean logarithms, which is the logarithm of the ratio of geometric means.

    Raises:
        InputError: for values that are not above 0; they have no logarithm and adding one changes the
        question.
    """
    arms = []
    for field, values in (("log.treatment", treatment), ("log.control", control)):
        array = finite(field, values, ndim=1)
        if array.min() <= 0:
            raise InputError(
                field,
                expected="values above 0",
                got=f"a minimum of {array.min():g}",
                next_step="Analyse the raw or the capped metric.",
            )
        moments = of_rows(np.log(array))
        arms.append(Arm(moments.n, float(moments.mean[0]), float(moments.covariance[0, 0]) / moments.n))
    return contrast(arms[0], arms[1], relative=False)
