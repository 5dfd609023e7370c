"""P-values of a group-sequential experiment: what a dashboard may show after a few looks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.core.errors import InputError
from mangaassist.stats.crossing import checked_fractions, crossing
from mangaassist.stats.domain import finite
from mangaassist.stats.group_sequential import Convention, Plan, Sides, Spending, spending_plan

# Range and tolerance of log p in sequential_p.
_LOG_SMALLEST, _LOG_LARGEST, _LOG_TOLERANCE = float(np.log(1e-16)), float(np.log(0.999)), 1e-9
_SHARED_HALVINGS = 6


def stagewise_p(plan: Plan, look: int, z: float) -> float:
    """The p-value of an experiment that ended at ``look`` (counted from 0) with ``z``, looks accounted for.

    Source: Tsiatis, Rosner and Mehta (1984), Biometrics 40, 797-803: an earlier stop counts as more extreme.
    Two-sided plans give twice the smaller side.
    """
    if not 0 <= look < len(plan.bounds):
        raise InputError(
            "look",
            expected=f"a look of the plan, 0 to {len(plan.bounds) - 1}",
            got=str(look),
            next_step="Looks that were not registered cannot be analysed.",
        )
    at, before = plan.times[: look + 1], np.asarray(plan.z[:look])
    low = np.append(-before if plan.sides == 2 else np.full(look, -np.inf), -np.inf)
    tails = [
        float(crossing(at, low, np.append(before, sign * z)).upper.sum())
        for sign in ((1.0, -1.0) if plan.sides == 2 else (1.0,))
    ]
    return min(1.0, plan.sides * min(tails))


def sequential_p(
    fractions: ArrayLike,
    z: ArrayLike,
    *,
    spending: str | Spending = "obf",
    sides: Sides = 2,
    convention: Convention = "one-sided",
    information: ArrayLike | None = None,
) -> float:
    """The smallest alpha at which one of the looks so far would have crossed: the p-value a dashboard may
    show.

    Source: Liu and Anderson (2008), JASA 103, 1621-1630. Below alpha exactly when the plan has
    stopped, valid at every look, and never larger at a later one.

    Args:
        fractions, z: information fraction and z-value of every look so far, shape (looks,) each.
        information: what had arrived at each of them, as in :func:`spending_plan`.
    """
    from scipy.optimize import brentq

    at, observed = checked_fractions(fractions), finite("z", z, ndim=1)
    reached = np.abs(observed) if sides == 2 else observed

    def margin(log_alpha: float) -> float:
        """How far the nearest look is past its boundary: rises with alpha."""
        plan = spending_plan(
            at,
            spending=spending,
            alpha=float(np.exp(log_alpha)),
            sides=sides,
            convention=convention,
            information=information,
        )
        return float((reached - np.asarray(plan.z)).max())

    low, high = _LOG_SMALLEST, _LOG_LARGEST
    if margin(high) < 0:
        return 1.0
    if margin(low) >= 0:
        return float(np.exp(low))
    # The first halvings meet the same few plans whatever z is, so they come from the cache.
    for _ in range(_SHARED_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if margin(middle) >= 0 else (middle, high)
    return float(np.exp(min(high, float(brentq(margin, low, high, xtol=_LOG_TOLERANCE)) + _LOG_TOLERANCE)))


def scaled_p(plan: Plan, z: ArrayLike) -> float:
    """A sequential p-value for any plan: what the plan would cost if its boundary were scaled to touch ``z``.

    Scaled boundaries are nested, so this is the distribution of the largest z in units of its boundary:
    valid at every look, and at most ``plan.alpha`` exactly when a look so far has crossed.

    Args:
        z: z-values of the looks so far, shape (looks so far,); looks still missing may be NaN.
    """
    observed = np.asarray(z, dtype=np.float64)
    reached = np.abs(observed) if plan.sides == 2 else observed
    critical = np.asarray(plan.z)
    scale = float(np.nanmax(reached / critical[: len(reached)]))
    if scale <= 0:
        return 1.0
    high = scale * critical
    low = -high if plan.sides == 2 else np.full(len(high), -np.inf)
    return min(1.0, float(crossing(plan.times, low, high).cumulative[-1]))
