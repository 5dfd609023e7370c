"""Effects that need the rows themselves: ranks, caps, logarithms. They end in the same ``Effect``."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least, finite
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
