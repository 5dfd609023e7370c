"""Sample-ratio mismatch: did assignment deliver the split it promised?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least, counts, finite, positive


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Counts against promised shares.

    Attributes:
        statistic: Pearson's chi-square (0 for the sequential form).
        df: degrees of freedom: arms with a positive share, less one.
        p_value: probability of a split at least this far off under correct assignment.
    """

    statistic: float
    df: int
    p_value: float


def sample_ratio(observed: ArrayLike, weights: ArrayLike) -> SampleRatio:
    """Chi-square test of the final counts.

    Source: Fabijan et al. (2019), KDD, on why it must stop an analysis. An arm with weight 0 takes no part
    and no degree of freedom; a unit found in it is impossible, so the p-value is then 0.

    Args:
        observed: units per arm, shape (arms,).
        weights: promised shares, any positive scale, shape (arms,).

    Raises:
        InputError: for negative or no counts, negative weights, or fewer than two arms with weight.
    """
    n, share = _open_arms(observed, weights)
    if n is None:
        return SampleRatio(float("inf"), len(share) - 1, 0.0)
    expected = share * n.sum()
    statistic = float(((n - expected) ** 2 / expected).sum())
    df = len(n) - 1
    return SampleRatio(statistic, df, float(special.chdtrc(df, statistic)))


def sequential_sample_ratio(
    observed: ArrayLike, weights: ArrayLike, *, concentration: float = 1000.0
) -> SampleRatio:
    """The p-value that may be looked at after every user, from the counts so far.

    Source: Lindon and Malek (2022), NeurIPS, "Anytime-valid inference for multinomial count data": the Bayes
    factor of a Dirichlet alternative centred on the promised shares against exactly those shares; its
    inverse is an always-valid p-value. A larger ``concentration`` looks for smaller deviations and needs
    longer.
    """
    n, share = _open_arms(observed, weights)
    if n is None:
        return SampleRatio(0.0, len(share) - 1, 0.0)
    prior = positive("concentration", concentration) * share
    evidence = (
        special.gammaln(prior.sum())
        - special.gammaln(prior.sum() + n.sum())
        + (special.gammaln(prior + n) - special.gammaln(prior)).sum()
        - (n * np.log(share)).sum()
    )
    return SampleRatio(0.0, len(n) - 1, float(np.exp(min(0.0, -evidence))))


def _open_arms(observed: ArrayLike, weights: ArrayLike) -> tuple[FloatArray | None, FloatArray]:
    """Counts and shares of the arms with weight; None for counts when a closed arm has units."""
    n, weight = counts("srm.observed", observed), finite("srm.weights", weights, ndim=1)
    if n.shape != weight.shape or (weight < 0).any():
        raise InputError(
            "srm.weights",
            expected=f"{len(n)} shares of 0 or more",
            got=f"{len(weight)} with a minimum of {weight.min():g}",
            next_step="One weight per arm, in the order of the counts.",
        )
    opened = weight > 0
    at_least("srm.arms", int(opened.sum()), 2)
    share = weight[opened] / weight.sum()
    return (None if n[~opened].any() else n[opened]), share
