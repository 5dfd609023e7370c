"""Quantiles as means: their influence function is averaged, so clusters and CUPED work as for any mean.

To first order a sample quantile is its true value plus the mean of (q - 1[x <= quantile]) / density over the
rows. Written that way a quantile leaves :class:`Moments` behind like every other metric, and
:func:`mangaassist.stats.effects.compare` needs no second variance formula for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least, finite, open_unit, same_length
from mangaassist.stats.effects import Effect, Metric, Term, compare
from mangaassist.stats.moments import Moments, of_rows


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

    Args:
        treatment, control: one value per row, shape (n,) and (m,).
        q: which quantile, in (0, 1).
        treatment_clusters, control_clusters: the unit each row belongs to (user, session), or None.

    Raises:
        InputError: for too few rows to bracket the quantile, or no variation around it.
    """
    arms = [
        quantile_moments(values, q, clusters=clusters)
        for values, clusters in ((treatment, treatment_clusters), (control, control_clusters))
    ]
    clustered = treatment_clusters is not None or control_clusters is not None
    return compare(arms[0], arms[1], Metric(Term(0, 1) if clustered else Term(0)), relative=relative)


def quantile_moments(
    values: ArrayLike,
    q: float,
    *,
    covariates: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> Moments:
    """Moments of one arm whose first column averages to its ``q`` quantile with the quantile's variance.

    Sources: the influence function, Bahadur (1966), Annals of Mathematical Statistics 37, 577-580; one over
    the density by the distance of two order statistics 1.96 standard errors of rank on either side, so that
    without covariates the variance is that of Price and Bonett (2001), Journal of Statistical Computation and
    Simulation 70, 295-305, less what rounding ranks outwards adds to it; sums per cluster in place of rows,
    Liu, Sun, Varshney and Xu (2019), KDD workshop.

    Args:
        values: one per row, shape (n,).
        q: which quantile, in (0, 1).
        covariates: measured before assignment, shape (n, k); averaged within clusters.
        clusters: the unit each row belongs to, shape (n,), or None for independent rows.

    Returns:
        Columns: the linearised quantile; with clusters its sum per cluster, then the rows per cluster, so
        that the quantile is ``Term(0, 1)``; then the covariates.

    Raises:
        InputError: for missing or infinite values, or too few rows to bracket the quantile.
    """
    x = finite("quantile.values", values, ndim=1)
    n = len(x)
    before = finite("quantile.covariates", covariates).reshape(n, -1) if covariates is not None else None
    value = float(np.quantile(x, open_unit("q", q)))
    below = x <= value
    groups = _groups(clusters, n) if clusters is not None else None
    effective = n / (_design_effect(below, q, groups) if groups is not None else 1.0)
    linear = value + (below.mean() - below) * _inverse_density(x, q, effective)
    columns = [linear] if groups is None else [np.bincount(groups, linear), np.bincount(groups) * 1.0]
    if before is not None:
        columns += [one if groups is None else _averaged(one, groups) for one in before.T]
    return of_rows(np.stack(columns, axis=1))


def _groups(clusters: ArrayLike, n: int) -> NDArray[np.intp]:
    keys = np.asarray(clusters)
    same_length("quantile.clusters", keys, np.empty(n))
    found, groups = np.unique(keys, return_inverse=True)
    at_least("quantile.clusters", len(found), 2)
    return np.asarray(groups, dtype=np.intp)


def _averaged(column: FloatArray, groups: NDArray[np.intp]) -> FloatArray:
    return np.asarray(np.bincount(groups, column) / np.bincount(groups), dtype=np.float64)


def _inverse_density(x: FloatArray, q: float, effective: float) -> float:
    """One over the density at the quantile, from the order statistics at both ends of its interval."""
    n = len(x)
    reach = float(special.ndtri(0.975)) * n * np.sqrt(q * (1 - q) / effective)
    low, high = int(np.floor(n * q - reach)), int(np.ceil(n * q + reach))
    if low < 0 or high >= n:
        raise InputError(
            "quantile.rows",
            expected=f"enough rows to bracket the {q:g} quantile",
            got=f"{n} rows, {effective:.0f} of them effective",
            next_step="Collect more rows or report a quantile nearer the middle.",
        )
    ends = np.partition(x, (low, high))[[low, high]]
    return float((ends[1] - ends[0]) * n / (high - low))


def _design_effect(below: NDArray[np.bool_], q: float, groups: NDArray[np.intp]) -> float:
    """By how much clusters inflate the variance of the share of rows below the quantile; 1 at least."""
    sizes = np.bincount(groups).astype(np.float64)
    deviations = np.bincount(groups, weights=below.astype(np.float64)) - below.mean() * sizes
    m = len(sizes)
    variance = float((deviations**2).sum()) * m / (m - 1) / len(below) ** 2
    return max(1.0, variance * len(below) / (q * (1 - q)))
