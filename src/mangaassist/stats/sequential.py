"""Always-valid inference: look as often as you like, stop when you like, the error rate still holds.

The normal-mixture confidence sequence of Robbins (1970) in the asymptotic form of Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas (2021, arXiv 2103.06476). It rests on a central limit theorem, so start looking
after a few dozen units. ``tuning_n`` is the number of units at which it is tightest, chosen before
the data.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import at_least, open_unit, positive
from mangaassist.stats.intervals import Estimate, score_difference
from mangaassist.stats.moments import Moments

Alternative = Literal["two-sided", "greater", "less"]


def mixture_variance(tuning_n: float, *, level: float = 0.95) -> float:
    """rho squared: the mixing variance that makes the sequence tightest at ``tuning_n`` units.

    Source: Waudby-Smith et al. (2021), appendix on choosing rho, in closed form.
    """
    cost = -2.0 * np.log(1.0 - open_unit("level", level))
    return float((cost + np.log(cost + 1.0)) / positive("tuning_n", tuning_n))


def critical_z(n: float, *, tuning_n: float, level: float = 0.95) -> float:
    """How many standard errors the sequence is wide on each side after ``n`` units (fixed n: 1.96)."""
    growth = positive("n", n) * mixture_variance(tuning_n, level=level)
    return float(np.sqrt(2.0 * (growth + 1.0) / growth * (0.5 * np.log1p(growth) - np.log(1.0 - level))))


def half_width(n: float, standard_deviation: float, *, tuning_n: float, level: float = 0.95) -> float:
    """Half the width of the two-sided confidence sequence of a mean after ``n`` units."""
    return float(standard_deviation * critical_z(n, tuning_n=tuning_n, level=level) / np.sqrt(n))


def always_valid_interval(
    value: float, standard_error: float, n: int, *, tuning_n: float, level: float = 0.95
) -> Estimate:
    """The two-sided confidence sequence around any asymptotically normal estimate.

    Args:
        value: the estimate (a mean, a difference, a relative lift).
        standard_error: its standard error at this look.
        n: units behind it, both arms together for a difference.

    Raises:
        InputError: for a standard error of 0; no variation yet is not certainty.
    """
    error = _varying(standard_error)
    half = error * critical_z(n, tuning_n=tuning_n, level=level)
    return Estimate(float(value), float(value - half), float(value + half), int(n), level)


def always_valid_p(
    value: float,
    standard_error: float,
    n: int,
    *,
    tuning_n: float,
    level: float = 0.95,
    null: float = 0.0,
    alternative: Alternative = "two-sided",
) -> float:
    """The p-value that stays valid at every look: P(it ever drops to alpha) <= alpha under ``value == null``.

    The closed-form inverse of the two-sided, or of the one-sided, mixture boundary; the two-sided one falls
    below ``1 - level`` exactly when :func:`always_valid_interval` leaves ``null`` outside. ``level`` only
    sets the tuning. The running minimum over looks is valid too and may be kept by the caller.

    Raises:
        InputError: for a standard error of 0.
    """
    z = (value - null) / _varying(standard_error)
    if alternative == "two-sided":
        growth = n * mixture_variance(tuning_n, level=level)
        log_p = 0.5 * np.log1p(growth) - z * z * growth / (2.0 * (growth + 1.0))
        return float(np.exp(min(0.0, log_p)))
    z = z if alternative == "greater" else -z
    # A one-sided bound at alpha is tuned as a two-sided one at 2 alpha.
    growth = n * mixture_variance(tuning_n, level=1.0 - min(2.0 * (1.0 - level), 0.999))
    evidence = z * z * growth / (2.0 * (growth + 1.0))
    if z <= 0.0:
        return 1.0
    log_p = 0.5 * np.log1p(growth) - np.log(2.0) - evidence - np.log(-np.expm1(-evidence))
    return float(np.exp(min(0.0, log_p)))


def always_valid_difference(
    treatment: Moments, control: Moments, *, tuning_n: float, level: float = 0.95
) -> Estimate:
    """Difference of two means (first column), treatment minus control, valid at every look.

    Raises:
        InputError: for an arm with fewer than 2 units, or no variation in both.
    """
    error = np.sqrt(treatment.covariance[0, 0] / treatment.n + control.covariance[0, 0] / control.n)
    value = float(treatment.mean[0] - control.mean[0])
    return always_valid_interval(value, float(error), treatment.n + control.n, tuning_n=tuning_n, level=level)


def always_valid_proportions(
    successes: int,
    n: int,
    base_successes: int,
    base_n: int,
    *,
    tuning_n: float,
    level: float = 0.95,
) -> Estimate:
    """Difference of two proportions, first minus base, valid at every look.

    Newcombe's score interval with the sequence's critical value in place of the normal one. It stays honest
    for rare events in unequal arms, where a plug-in variance undercovers (one canary user in twenty, errors
    of .5%), and has a width even before the first failure.

    Raises:
        InputError: for no trials, or successes outside 0..n.
    """
    z = critical_z(n + base_n, tuning_n=tuning_n, level=level)
    value, low, high = score_difference(successes, n, base_successes, base_n, z=z)
    return Estimate(value, low, high, n + base_n, level)


def looks_until(
    effect: float, standard_deviation: float, *, tuning_n: float, level: float = 0.95, limit: int = 10**9
) -> int:
    """The first number of units at which the sequence around a mean of exactly ``effect`` excludes 0.

    Raises:
        InputError: for no effect, or when ``limit`` units would not show it.
    """
    positive("effect", abs(effect))
    low, high = 1, at_least("limit", limit, 1)
    if half_width(high, standard_deviation, tuning_n=tuning_n, level=level) >= abs(effect):
        raise InputError(
            "effect",
            expected=f"an effect that {limit} units can show",
            got=f"{effect:g} with standard deviation {standard_deviation:g}",
            next_step="Look for a larger effect or allow more units.",
        )
    while low < high:
        middle = (low + high) // 2
        if half_width(middle, standard_deviation, tuning_n=tuning_n, level=level) < abs(effect):
            high = middle
        else:
            low = middle + 1
    return low


def _varying(standard_error: float) -> float:
    if not (np.isfinite(standard_error) and standard_error > 0):
        raise InputError(
            "standard_error",
            expected="a finite number above 0",
            got=repr(float(standard_error)),
            next_step="All units are equal so far: wait for variation, or use the proportion form.",
        )
    return float(standard_error)
