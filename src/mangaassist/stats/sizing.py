"""How many units an experiment needs, with the formula and every factor on the table.

Sizes are exact reals, so that a printed number can be checked against its formula; :attr:`SampleSize.per_arm`
rounds up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import at_least, open_unit, positive
from mangaassist.stats.group_sequential import Plan, inflation
from mangaassist.stats.intervals import Estimate, wilson

Claim = Literal["powered", "marginal", "refused"]
Test = Callable[[np.random.Generator, int], float]


@dataclass(frozen=True, slots=True)
class SampleSize:
    """A sample size and how it came about.

    Attributes:
        exact: units in the control arm, before rounding.
        ratio: treatment units per control unit.
        formula: which formula gave the first number.
        alpha, power, sides: what it was asked to hold.
        effect: the effect to detect, absolute.
        factors: what the first number was multiplied by, in order: (name, factor).
    """

    exact: float
    ratio: float
    formula: str
    alpha: float
    power: float
    sides: int
    effect: float
    factors: tuple[tuple[str, float], ...] = ()

    @property
    def per_arm(self) -> int:
        """Units in the control arm, rounded up."""
        return int(np.ceil(self.exact - 1e-9))

    @property
    def total(self) -> int:
        """Units in both arms, each rounded up."""
        return self.per_arm + int(np.ceil(self.exact * self.ratio - 1e-9))


def size_means(
    effect: float,
    standard_deviation: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    sides: Literal[1, 2] = 2,
    ratio: float = 1.0,
) -> SampleSize:
    """Units for a t-test of two means, by the noncentral t distribution.

    Source: Cohen (1988), chapter 2, solved exactly instead of by the normal approximation.

    Raises:
        InputError: for no effect, or numbers outside their ranges.
    """
    from scipy.optimize import brentq

    _check(effect, power, alpha, ratio)
    positive("standard_deviation", standard_deviation)

    def shortfall(n: float) -> float:
        return power - power_means(effect, standard_deviation, n, alpha=alpha, sides=sides, ratio=ratio)

    guess = _normal_size(abs(effect) / standard_deviation, power, alpha, sides, ratio)
    low, high = 2.5 / (1.0 + ratio), guess + 50.0
    exact = low if shortfall(low) <= 0 else float(brentq(shortfall, low, high, xtol=1e-9))
    return SampleSize(exact, ratio, "two-sample t, noncentral", alpha, power, sides, effect)


def power_means(
    effect: float,
    standard_deviation: float,
    n: float,
    *,
    alpha: float = 0.05,
    sides: Literal[1, 2] = 2,
    ratio: float = 1.0,
) -> float:
    """Power of a t-test with ``n`` control units; fractions are allowed."""
    df = n * (1.0 + ratio) - 2.0
    shift = float(abs(effect) / standard_deviation * np.sqrt(n * ratio / (1.0 + ratio)))
    critical = float(-special.stdtrit(df, alpha / sides))
    tails = (_noncentral_tail(critical, df, shift), _noncentral_tail(critical, df, -shift))
    return tails[0] + (tails[1] if sides == 2 else 0.0)


def _noncentral_tail(critical: float, df: float, shift: float) -> float:
    """P(noncentral t > critical)."""
    if df > 1e5 or abs(shift) > 30.0:
        # Cephes runs out of terms there; the normal form (Johnson and Welch 1940) is exact to 1e-5 by then.
        spread = np.sqrt(1.0 + critical**2 / (2.0 * df))
        return float(special.ndtr((shift - critical * (1.0 - 0.25 / df)) / spread))
    if shift < 0:
        return float(special.nctdtr(df, -shift, -critical))
    return float(1.0 - special.nctdtr(df, shift, critical))


def size_proportions(
    control: float,
    treatment: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    sides: Literal[1, 2] = 2,
    ratio: float = 1.0,
    variance: Literal["pooled", "unpooled"] = "pooled",
) -> SampleSize:
    """Units for a z-test of two proportions.

    Source: Fleiss, Levin and Paik (2003), section 4.2. ``pooled`` uses the common proportion under the null
    and fits a pooled z-test; ``unpooled`` fits Welch and the delta method. They differ in the third digit,
    so the result names which one it is.
    """
    p, q = open_unit("control", control), open_unit("treatment", treatment)
    _check(q - p, power, alpha, ratio)
    z_alpha, z_beta = -special.ndtri(alpha / sides), special.ndtri(power)
    apart = p * (1 - p) + q * (1 - q) / ratio
    middle = (p + ratio * q) / (1 + ratio)
    together = middle * (1 - middle) * (1 + 1 / ratio) if variance == "pooled" else apart
    exact = (z_alpha * np.sqrt(together) + z_beta * np.sqrt(apart)) ** 2 / (q - p) ** 2
    return SampleSize(
        float(exact), ratio, f"two proportions, {variance} variance", alpha, power, sides, q - p
    )


def ratio_standard_deviation(
    numerator_mean: float,
    denominator_mean: float,
    numerator_variance: float,
    denominator_variance: float,
    covariance: float,
) -> float:
    """Standard deviation per unit of a ratio of means (delta method), for :func:`size_means`."""
    if denominator_mean == 0:
        raise InputError(
            "denominator_mean", expected="a mean other than 0", got="0", next_step="Check the denominator."
        )
    r = numerator_mean / denominator_mean
    variance = numerator_variance - 2 * r * covariance + r * r * denominator_variance
    return float(np.sqrt(positive("ratio.variance", variance)) / abs(denominator_mean))


def with_cuped(size: SampleSize, correlation: float) -> SampleSize:
    """The size after adjusting by a covariate with that (multiple) correlation: times 1 - rho^2."""
    if not -1 < correlation < 1:
        raise InputError(
            "correlation",
            expected="between -1 and 1, both excluded",
            got=repr(correlation),
            next_step="Measure it on data from before the experiment.",
        )
    return _times(size, "CUPED", 1.0 - correlation**2)


def with_looks(size: SampleSize, plan: Plan) -> SampleSize:
    """The maximum size when the experiment may stop at the plan's looks: times its inflation factor."""
    return _times(size, f"looks ({plan.name})", inflation(plan, size.power))


def with_clusters(
    size: SampleSize, mean_size: float, intraclass_correlation: float, *, variation: float = 0.0
) -> SampleSize:
    """The size when whole clusters are assigned: times the design effect.

    Source: Kish (1965); Eldridge, Ashby and Kerry (2006) for clusters of unequal size.

    Args:
        mean_size: units per cluster.
        intraclass_correlation: share of the variance that lies between clusters, 0 to 1.
        variation: coefficient of variation of the cluster sizes.
    """
    if not 0 <= intraclass_correlation <= 1:
        raise InputError(
            "intraclass_correlation",
            expected="0 to 1",
            got=repr(intraclass_correlation),
            next_step="Estimate it from past data of the same clusters.",
        )
    crowd = (1.0 + variation**2) * positive("mean_size", mean_size) - 1.0
    return _times(size, "clusters", 1.0 + max(crowd, 0.0) * intraclass_correlation)


def detectable_effect(
    n: float,
    standard_deviation: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    sides: Literal[1, 2] = 2,
    ratio: float = 1.0,
) -> float:
    """The smallest absolute effect ``n`` control units can show: one point of an MDE curve.

    For CUPED, looks or clusters pass the size divided by their factors.
    """
    from scipy.optimize import brentq

    at_least("n", int(np.floor(n)), 2)
    _check(1.0, power, alpha, ratio)
    unit = positive("standard_deviation", standard_deviation)

    def shortfall(effect: float) -> float:
        return power - power_means(effect, unit, n, alpha=alpha, sides=sides, ratio=ratio)

    high = unit * np.sqrt((1.0 + 1.0 / ratio) / n)
    while shortfall(high) > 0:
        high *= 1.5
    return float(brentq(shortfall, 0.0, high, xtol=1e-12 * unit))


def cohort_claim(available: float, needed: float, *, marginal: float = 0.8) -> Claim:
    """What a cohort's own size lets anyone say: powered, marginal (inconclusive in advance) or refused."""
    share = positive("available", available) / positive("needed", needed)
    if share >= 1:
        return "powered"
    return "marginal" if share >= marginal else "refused"


def days_to_fill(
    size: SampleSize, units_per_day: float, *, share: float = 1.0, horizon_days: float = 0.0
) -> float:
    """Days until the experiment can be read: enrolment of both arms, then the metric's own horizon.

    Args:
        units_per_day: new eligible units a day.
        share: of them in the experiment (cohort share times traffic allocation).
        horizon_days: how long each unit must be observed after it enters.
    """
    return size.total / (positive("units_per_day", units_per_day) * positive("share", share)) + horizon_days


def simulated_power(
    test: Test, n: int, *, runs: int, generator: np.random.Generator, alpha: float = 0.05
) -> Estimate:
    """Power where no formula fits: the share of simulated experiments with p <= alpha, with its interval.

    Args:
        test: draws one experiment of ``n`` units per arm under the alternative and returns its p-value.
    """
    at_least("runs", runs, 1)
    return wilson(sum(test(generator, n) <= alpha for _ in range(runs)), runs)


def _times(size: SampleSize, name: str, factor: float) -> SampleSize:
    return replace(size, exact=size.exact * factor, factors=(*size.factors, (name, factor)))


def _normal_size(d: float, power: float, alpha: float, sides: int, ratio: float) -> float:
    z = float(-special.ndtri(alpha / sides) + special.ndtri(power))
    return (1.0 + 1.0 / ratio) * (z / d) ** 2


def _check(effect: float, power: float, alpha: float, ratio: float) -> None:
    positive("effect", abs(effect))
    open_unit("power", power)
    open_unit("alpha", alpha)
    positive("ratio", ratio)
