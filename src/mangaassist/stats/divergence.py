"""Has a distribution moved? On frozen bins, with the sample size taken into account.

Bins are decided once, on the reference, and never again: bins recomputed on the pooled data let one outlier
hide a shift of a whole standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least, counts, finite, open_unit, positive


def psi(reference_counts: ArrayLike, counts_now: ArrayLike, *, smoothing: float = 0.5) -> float:
    """Population stability index on frozen bins, in nats (the symmetrised Kullback-Leibler divergence).

    Args:
        reference_counts, counts_now: rows per bin, shape (k,) each, the same bins in the same order.
        smoothing: pseudo-count per bin, so that an empty bin costs much rather than infinitely much.

    Raises:
        InputError: for different bins, negative counts or an empty side.
    """
    p, q = _shares(reference_counts, counts_now, smoothing)
    return float(((p - q) * np.log(p / q)).sum())


def psi_null_quantile(n: float, m: float, k: int, *, level: float = 0.99) -> float:
    """The PSI that ``k`` bins exceed with probability ``1 - level`` when nothing moved.

    Source: Yurdakul and Naranjo (2020), Journal of Risk Model Validation 14(4): without drift PSI is about
    (1/n + 1/m) times a chi-square with k - 1 degrees of freedom. Needs some 5 expected rows a bin.

    Args:
        n, m: rows behind the reference and the current counts.
    """
    positive("psi.n", n), positive("psi.m", m)
    at_least("psi.bins", k, 2)
    return float((1 / n + 1 / m) * special.chdtri(k - 1, 1 - open_unit("level", level)))


@dataclass(frozen=True, slots=True)
class PsiTest:
    """A PSI beside what chance alone would give.

    Attributes:
        value: the index, in nats.
        threshold: the size of drift that matters, from the policy.
        null_quantile: what no drift exceeds with probability ``1 - level`` at these sample sizes.
        p_value: probability of at least ``value`` without drift.
        power: probability that a true drift of ``threshold`` would exceed ``null_quantile``.
        fires: large enough to matter and too large for chance.
        sufficient: ``fires``, or the sample would have shown a drift of ``threshold``.
    """

    value: float
    threshold: float
    null_quantile: float
    p_value: float
    power: float
    fires: bool
    sufficient: bool


def psi_test(
    reference_counts: ArrayLike,
    counts_now: ArrayLike,
    *,
    threshold: float,
    level: float = 0.99,
    power: float = 0.8,
    smoothing: float = 0.5,
) -> PsiTest:
    """Judge a PSI against ``threshold`` without being fooled by a small sample.

    A fixed threshold alone fires on a quarter of healthy 200-row samples at 0.1. Here a drift is reported
    only when the value also exceeds the null quantile, and its absence only when the sample was large
    enough to have shown it (non-central chi-square with non-centrality threshold / (1/n + 1/m)); else
    ``sufficient`` is false and the honest answer is "insufficient".

    Raises:
        InputError: as :func:`psi`.
    """
    positive("psi.threshold", threshold)
    reference = counts("psi.reference_counts", reference_counts)
    now = counts("psi.counts", counts_now)
    value = psi(reference, now, smoothing=smoothing)
    n, m, k = float(reference.sum()), float(now.sum()), len(now)
    scale = 1 / n + 1 / m
    null = psi_null_quantile(n, m, k, level=level)
    chance = float(special.chdtrc(k - 1, value / scale))
    found = 1.0 - float(special.chndtr(null / scale, k - 1, threshold / scale))
    fires = value >= threshold and value > null
    return PsiTest(value, threshold, null, chance, found, fires, fires or found >= power)


def jensen_shannon(a: ArrayLike, b: ArrayLike) -> float:
    """Jensen-Shannon divergence of two count vectors, in bits: 0 for equal shares, 1 for disjoint ones.

    Source: Lin (1991), IEEE Transactions on Information Theory 37, 145-151.
    """
    p, q = _shares(a, b, 0.0)
    middle = 0.5 * (p + q)
    nats = 0.5 * (special.rel_entr(p, middle).sum() + special.rel_entr(q, middle).sum())
    return float(nats / np.log(2))


def kl_top_k(reference_counts: ArrayLike, counts_now: ArrayLike, *, k: int, smoothing: float = 0.5) -> float:
    """KL(now || reference) in nats over the reference's ``k`` largest categories and one bin for the rest.

    Which categories count is frozen with the reference, so a new category lands in the rest.
    """
    reference = counts("kl.reference_counts", reference_counts)
    now = counts("kl.counts", counts_now)
    _same_bins(reference, now)
    top = np.argsort(-reference, kind="stable")[: at_least("kl.k", k, 1)]
    pooled = [np.append(side[top], side.sum() - side[top].sum()) for side in (reference, now)]
    keep = (pooled[0] + pooled[1]) > 0
    p, q = _shares(pooled[0][keep], pooled[1][keep], smoothing)
    return float(special.rel_entr(q, p).sum())


@dataclass(frozen=True, slots=True)
class KsTest:
    """Kolmogorov-Smirnov: the largest gap between two distribution functions and its p-value."""

    statistic: float
    p_value: float


def ks_binned(reference_counts: ArrayLike, counts_now: ArrayLike) -> KsTest:
    """Two-sample Kolmogorov-Smirnov at the edges of frozen, ordered bins.

    The gap inside a bin is not seen, so the statistic never exceeds the one on the raw values and the p-value
    (asymptotic, see :func:`ks_two_sample`) is conservative.
    """
    reference = counts("ks.reference_counts", reference_counts)
    now = counts("ks.counts", counts_now)
    _same_bins(reference, now)
    gap = np.abs(np.cumsum(reference) / reference.sum() - np.cumsum(now) / now.sum())
    return _ks(float(gap.max()), float(reference.sum()), float(now.sum()))


def ks_two_sample(a: ArrayLike, b: ArrayLike) -> KsTest:
    """Two-sample Kolmogorov-Smirnov on raw values, ties included.

    Source: Smirnov (1948), Annals of Mathematical Statistics 19, 279-281, limiting distribution.
    """
    left, right = np.sort(finite("ks.a", a, ndim=1)), np.sort(finite("ks.b", b, ndim=1))
    points = np.concatenate([left, right])
    gap = np.abs(
        np.searchsorted(left, points, side="right") / len(left)
        - np.searchsorted(right, points, side="right") / len(right)
    )
    return _ks(float(gap.max()), len(left), len(right))


def _ks(gap: float, n: float, m: float) -> KsTest:
    return KsTest(gap, float(special.kolmogorov(np.sqrt(n * m / (n + m)) * gap)))


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Pearson's chi-square test that several groups share one distribution.

    Attributes:
        statistic: Pearson's sum.
        p_value: its upper tail.
        df: degrees of freedom, empty rows and columns not counted.
        cramers_v: effect size from 0 to 1; with millions of rows the p-value alone says nothing.
    """

    statistic: float
    p_value: float
    df: int
    cramers_v: float


def chi_square(*groups: ArrayLike) -> ChiSquare:
    """Homogeneity of two or more count vectors over the same categories, shape (k,) each.

    Categories nobody is in carry no information and no degree of freedom.

    Raises:
        InputError: for fewer than two groups, different categories, or one category only.
    """
    at_least("chi_square.groups", len(groups), 2)
    rows = [counts("chi_square.counts", group) for group in groups]
    for row in rows[1:]:
        _same_bins(rows[0], row)
    table = np.stack(rows)
    table = table[:, table.sum(axis=0) > 0]
    df = (table.shape[0] - 1) * (at_least("chi_square.categories", table.shape[1], 2) - 1)
    n = float(table.sum())
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    statistic = float(((table - expected) ** 2 / expected).sum())
    effect = np.sqrt(statistic / (n * (min(table.shape) - 1)))
    return ChiSquare(statistic, float(special.chdtrc(df, statistic)), df, float(effect))


def _shares(a: ArrayLike, b: ArrayLike, smoothing: float) -> tuple[FloatArray, FloatArray]:
    left, right = counts("reference_counts", a) + smoothing, counts("counts", b) + smoothing
    _same_bins(left, right)
    return left / left.sum(), right / right.sum()


def _same_bins(a: FloatArray, b: FloatArray) -> None:
    if a.shape != b.shape:
        raise InputError(
            "counts",
            expected=f"the reference's {len(a)} bins",
            got=f"{len(b)} bins",
            next_step="Count the current rows in the bins stored with the reference.",
        )
