"""Three readings of one effect: at a fixed end, at a planned look, at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import open_unit
from mangaassist.stats.effects import Effect
from mangaassist.stats.group_sequential import Plan
from mangaassist.stats.intervals import Estimate
from mangaassist.stats.sequential import Alternative, always_valid_p, critical_z
from mangaassist.stats.sequential_p_values import scaled_p, sequential_p

Method = Literal["fixed", "group-sequential", "always-valid"]


@dataclass(frozen=True, slots=True)
class Inference:
    """A reading of an effect.

    Attributes:
        estimate: the effect with its interval at the method's own confidence.
        p_value: adjusted for looking, where the method looks more than once.
        significant: whether the method's error budget allows the claim "different from the null".
        method: which reading.
        alternative: which direction ``p_value`` speaks of.
    """

    estimate: Estimate
    p_value: float
    significant: bool
    method: Method
    alternative: Alternative = "two-sided"


def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t; the tail itself, because 1 - cdf is 0.0 beyond eight standard errors."""
    if np.isinf(df):
        return float(special.ndtr(-t))
    tail = 0.5 * float(special.betainc(df / 2, 0.5, df / (df + t * t)))
    return tail if t >= 0 else 1.0 - tail


def studentised(effect: Effect, *, null: float = 0.0) -> float:
    """How many standard errors the effect lies above ``null``.

    Source, for relative effects: Fieller (1954), JRSS B 16, 175-185. "Lift equals r" says T - (1 + r) C =
    0, whose variance at that r is known; dividing by an estimated control value is avoided.
    """
    if effect.arm_variances is None:
        return (effect.value - null) / effect.standard_error
    scale = 1.0 + null
    error = np.sqrt(effect.arm_variances[0] + scale**2 * effect.arm_variances[1])
    gap = effect.treatment - scale * effect.control
    return float(np.sign(effect.control) * gap / error)


def z_value(effect: Effect, *, null: float = 0.0) -> float:
    """The effect in standard errors, on the normal scale: Student's t is mapped by equal tails."""
    t = studentised(effect, null=null)
    if np.isinf(effect.df) or effect.df > 1e6:
        return float(t)
    tail = t_tail(abs(t), effect.df)
    z = -float(special.ndtri(max(tail, 1e-300)))
    return z if t >= 0 else -z


def interval(effect: Effect, critical: float, *, level: float) -> Estimate:
    """All effects within ``critical`` standard errors.

    A relative effect by Fieller's theorem is unbounded (infinite ends) while control cannot be told from 0.
    """
    if effect.arm_variances is None:
        half = critical * effect.standard_error
        return Estimate(effect.value, effect.value - half, effect.value + half, effect.n, level)
    (v, w), (t, c) = effect.arm_variances, (effect.treatment, effect.control)
    lead = c * c - critical**2 * w
    root = (t * c) ** 2 - lead * (t * t - critical**2 * v)
    if lead <= 0 or root < 0:
        return Estimate(effect.value, -np.inf, np.inf, effect.n, level)
    low, high = ((t * c + sign * np.sqrt(root)) / lead - 1.0 for sign in (-1.0, 1.0))
    return Estimate(effect.value, float(low), float(high), effect.n, level)


def fixed(
    effect: Effect, *, level: float = 0.95, null: float = 0.0, alternative: Alternative = "two-sided"
) -> Inference:
    """One look, at the end: Welch's interval and p-value.

    The interval is two-sided at ``level``; a one-sided test at 1 - level is in ``p_value``.
    """
    alpha = 1.0 - open_unit("level", level)
    estimate = interval(effect, -_t_quantile(alpha / 2, effect.df), level=level)
    p = _directed(studentised(effect, null=null), effect.df, alternative)
    return Inference(estimate, p, p <= alpha, "fixed", alternative)


def group_sequential(effect: Effect, plan: Plan, *, earlier: Sequence[float] = ()) -> Inference:
    """A planned look: the repeated confidence interval and the sequential p-value.

    Source: Jennison and Turnbull (1989), JRSS B 51, 305-361: estimate plus and minus the look's own critical
    value covers at all looks together, whether or not the trial stops where it should.

    Args:
        effect: the effect at this look.
        plan: the registered two-sided plan, with fractions as they turned out.
        earlier: z-values of all earlier looks, first to last; this look is the one after them.

    Raises:
        InputError: for one look more than the plan has, or a one-sided plan.
    """
    look = len(earlier)
    if look >= len(plan.bounds) or plan.sides != 2:
        raise InputError(
            "look",
            expected=f"one of the {len(plan.bounds)} looks of a two-sided plan",
            got=f"look {look + 1} of a {plan.sides}-sided plan",
            next_step="Looks that were not registered cannot be analysed.",
        )
    path = [*earlier, z_value(effect)]
    critical = -_t_quantile(plan.bounds[look].nominal_p / 2, effect.df)
    crossed = any(abs(z) >= bound.z for z, bound in zip(path, plan.bounds, strict=False))
    estimate = interval(effect, critical, level=1.0 - plan.alpha)
    return Inference(estimate, _sequential_p(plan, path), crossed, "group-sequential")


def always_valid(
    effect: Effect,
    *,
    tuning_n: float,
    level: float = 0.95,
    null: float = 0.0,
    alternative: Alternative = "two-sided",
) -> Inference:
    """Any time, as often as you like: the mixture sequence; see :mod:`mangaassist.stats.sequential`."""
    critical = critical_z(effect.n, tuning_n=tuning_n, level=level)
    z = studentised(effect, null=null)
    p = always_valid_p(z, 1.0, effect.n, tuning_n=tuning_n, level=level, alternative=alternative)
    estimate = interval(effect, critical, level=level)
    return Inference(estimate, p, p <= 1.0 - level, "always-valid", alternative)


def non_inferiority(
    effect: Effect, *, margin: float, level: float = 0.95, harm: Literal["down", "up"] = "down"
) -> Inference:
    """Must-prove-safe: the p-value of "the harm is smaller than ``margin``", one-sided at 1 - level.

    Args:
        margin: the largest tolerated harm, positive, in the effect's own unit.
        harm: the direction in which the metric gets worse.
    """
    if not margin > 0:
        raise InputError(
            "margin", expected="a positive number", got=repr(margin), next_step="Write 1% as 0.01."
        )
    if harm == "down":
        return fixed(effect, level=level, null=-margin, alternative="greater")
    return fixed(effect, level=level, null=margin, alternative="less")


def _sequential_p(plan: Plan, path: Sequence[float]) -> float:
    """Of the plan's spending family where it has one, else of its boundary scaled as a whole."""
    if plan.convention is not None and plan.name != "custom":
        looks = len(path)
        arrived = plan.information[:looks] if plan.information is not None else None
        return sequential_p(
            plan.fractions[:looks],
            list(path),
            spending=plan.name,
            convention=plan.convention,
            information=arrived,
        )
    return scaled_p(plan, path)


def _t_quantile(tail: float, df: float) -> float:
    """The lower quantile: P(T < q) = tail."""
    return float(special.ndtri(tail) if np.isinf(df) else special.stdtrit(df, tail))


def _directed(t: float, df: float, alternative: Alternative) -> float:
    if alternative == "two-sided":
        return min(1.0, 2.0 * t_tail(abs(t), df))
    return t_tail(t if alternative == "greater" else -t, df)
