"""How many users, for how long, and which cohort claims that supports: the numbers with their inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from mangaassist.experiments.plan import CohortDimension, Kind, Plan, Rule
from mangaassist.stats.group_sequential import Plan as Boundary
from mangaassist.stats.group_sequential import spending_plan
from mangaassist.stats.sequential import half_width
from mangaassist.stats.sizing import (
    Claim,
    SampleSize,
    cohort_claim,
    days_to_fill,
    detectable_effect,
    power_means,
    size_means,
    size_proportions,
    with_clusters,
    with_cuped,
    with_looks,
)

_CURVE = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class CohortSize:
    """Whether one cohort can carry a claim of its own.

    Attributes:
        cohort: "locale=ja".
        share: of traffic.
        needed_per_arm: users for its own MDE.
        available_per_arm: users it will have at the end, 0 where traffic is unknown.
        days: until it is powered, its metric's horizon included; None where traffic is unknown.
        claim: powered; marginal: inconclusive between plus and minus its MDE, said in advance; refused.
        sentence: the same for people.
        detectable: smallest relative effect the available users can show (conditional MDE), None if unknown.
    """

    cohort: str
    share: float
    needed_per_arm: int
    available_per_arm: int
    days: float | None
    claim: Claim
    sentence: str
    detectable: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the calculation: what was applied, by which factor, and users per arm after it."""

    name: str
    factor: float
    per_arm: float


@dataclass(frozen=True, slots=True)
class Sizing:
    """A sized plan.

    Attributes:
        inputs: every number the calculation used.
        steps: the calculation, first formula then factors.
        per_arm: users in the control arm at the end of it, rounded up.
        total: users in all arms.
        days: of runtime, the metric's horizon included; None where traffic is unknown.
        cohorts: claims per cohort.
        curve: smallest detectable effect at other sizes: (users per arm, absolute, relative).
        notes: sentences on what does not follow or needs care.
    """

    inputs: dict[str, float | str]
    steps: tuple[Step, ...]
    per_arm: int
    total: int
    days: float | None
    cohorts: tuple[CohortSize, ...]
    curve: tuple[tuple[int, float, float], ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The sizing as a JSON object."""
        return {
            **asdict(self),
            "fixed_per_arm": int(np.ceil(self.steps[0].per_arm)),
            "mde_curve": [
                {"per_arm": n, "mde_absolute": mde, "mde_relative": relative}
                for n, mde, relative in self.curve
            ],
        }


def boundary(plan: Plan, *, alpha: float | None = None) -> Boundary | None:
    """The group-sequential boundary a plan registered; None for other methods."""
    if plan.looks.method != "group-sequential":
        return None
    return spending_plan(
        plan.looks.fractions,
        spending=plan.looks.spending,
        alpha=alpha if alpha is not None else plan.alpha,
        convention=plan.looks.convention,
    )


def size_plan(plan: Plan) -> Sizing:
    """Size a plan's primary and every registered cohort.

    Raises:
        InputError: for numbers no size follows from.
    """
    size = size_for(plan, plan.primary.mde)
    steps = _steps(size)
    per_day = plan.population.per_day * plan.population.share
    total = _total(plan, size.per_arm)
    days = total / per_day + plan.primary.horizon_days if per_day else None
    cohorts = tuple(
        _cohort(plan, dimension, value) for dimension in plan.cohorts for value in dimension.shares
    )
    return Sizing(
        _inputs(plan, size),
        steps,
        size.per_arm,
        total,
        days,
        cohorts,
        _curve(plan, size),
        _notes(plan, size, steps),
    )


def size_for(plan: Plan, effect: float) -> SampleSize:
    """Control users needed to find an absolute ``effect`` on the primary, every registered factor applied."""
    target, alpha, power = plan.primary, _alpha(plan), _power(plan)
    ratio = min(plan.arms[arm] for arm in plan.treatments) / plan.arms[plan.control]
    sides: Literal[1, 2] = 2 if plan.alternative == "two-sided" else 1
    if target.metric.kind is Kind.PROPORTION:
        moved = target.baseline + effect if target.baseline + effect < 1 else target.baseline - effect
        size = size_proportions(
            target.baseline, moved, power=power, alpha=alpha, sides=sides, ratio=ratio, variance="unpooled"
        )
    else:
        size = size_means(effect, target.sigma, power=power, alpha=alpha, sides=sides, ratio=ratio)
    if plan.explained:
        size = with_cuped(size, float(np.sqrt(plan.explained)))
    found = boundary(plan, alpha=alpha)
    if found is not None:
        size = with_looks(size, found)
    if plan.looks.method == "always-valid":
        size = _with_always_valid(size)
    if target.cluster_size > 1:
        size = with_clusters(size, target.cluster_size, target.intraclass)
    return size


def _alpha(plan: Plan) -> float:
    """Split over treatment arms: each of them is a claim of its own."""
    return plan.alpha / len(plan.treatments)


def _power(plan: Plan) -> float:
    """Raised so that the primary and every must-prove-safe guardrail succeed together with the asked power.

    Source: Schultzberg, Ankargren and Frånberg (2024), arXiv 2402.11609: alpha stays, beta is divided.
    """
    proofs = sum(one.rule is Rule.SAFE for one in plan.guardrails)
    return 1 - (1 - plan.power) / (proofs + 1)


def _with_always_valid(size: SampleSize) -> SampleSize:
    """The factor of an always-valid reading tuned to its own final size, at the asked power at that size."""
    reach = half_width(1e4, 1.0, tuning_n=1e4, level=1 - size.alpha) * 100.0
    beta = float(special.ndtri(size.power))
    factor = ((reach + beta) / (float(-special.ndtri(size.alpha / size.sides)) + beta)) ** 2
    named = (*size.factors, ("always-valid looks", factor))
    return SampleSize(
        size.exact * factor, size.ratio, size.formula, size.alpha, size.power, size.sides, size.effect, named
    )


def _total(plan: Plan, per_control: int) -> int:
    return int(np.ceil(per_control / plan.arms[plan.control] - 1e-9))


def _steps(size: SampleSize) -> tuple[Step, ...]:
    product = float(np.prod([factor for _, factor in size.factors])) if size.factors else 1.0
    running = size.exact / product
    steps = [Step(size.formula, 1.0, running)]
    for name, factor in size.factors:
        running *= factor
        steps.append(Step(name, factor, running))
    return tuple(steps)


def _inputs(plan: Plan, size: SampleSize) -> dict[str, float | str]:
    target = plan.primary
    return {
        "metric": target.metric.name,
        "kind": str(target.metric.kind),
        "baseline": target.baseline,
        "sigma": target.sigma,
        "mde_absolute": target.mde,
        "mde_relative": target.mde / abs(target.baseline) if target.baseline else 0.0,
        "standardised_effect": target.mde / target.sigma,
        "alpha": size.alpha,
        "power": size.power,
        "sides": float(size.sides),
        "variance_explained_by_covariates": plan.explained,
        "treatment_users_per_control_user": size.ratio,
        "looks": ", ".join(f"{one:.4g}" for one in plan.looks.fractions),
        "spending": plan.looks.spending if plan.looks.method == "group-sequential" else plan.looks.method,
    }


def _curve(plan: Plan, size: SampleSize) -> tuple[tuple[int, float, float], ...]:
    points = []
    for share in _CURVE:
        n = max(4, round(size.per_arm * share))
        mde = _detectable(plan, size, n)
        points.append((n, mde, mde / abs(plan.primary.baseline) if plan.primary.baseline else 0.0))
    return tuple(points)


def _detectable(plan: Plan, size: SampleSize, n: float) -> float:
    """The smallest absolute effect ``n`` control users show, the size's factors taken out first."""
    factor = float(np.prod([one for _, one in size.factors])) if size.factors else 1.0
    return detectable_effect(
        max(n / factor, 2.0),
        plan.primary.sigma,
        power=size.power,
        alpha=size.alpha,
        sides=1 if size.sides == 1 else 2,
        ratio=size.ratio,
    )


def _cohort(plan: Plan, dimension: CohortDimension, value: str) -> CohortSize:
    share, name = dimension.shares[value], f"{dimension.dimension}={value}"
    size = size_for(plan, dimension.mde * abs(plan.primary.baseline))
    per_day = plan.population.per_day * plan.population.share
    if not per_day:
        sentence = (
            f"{name} needs {size.per_arm:,} users per arm; population.per_day says nothing about traffic."
        )
        return CohortSize(name, share, size.per_arm, 0, None, "refused", sentence, None)
    enrolled = per_day * _enrolment_days(plan) * share
    available = enrolled * plan.arms[plan.control]
    days = days_to_fill(size, per_day, share=share, horizon_days=plan.primary.horizon_days)
    claim = cohort_claim(available, size.per_arm)
    detectable = _detectable(plan, size, available) / abs(plan.primary.baseline)
    return CohortSize(
        name,
        share,
        size.per_arm,
        int(available),
        days,
        claim,
        _claim_sentence(name, claim, available, size.per_arm, mde=dimension.mde),
        detectable,
    )


def _enrolment_days(plan: Plan) -> float:
    """Days on which users enter: until the last look, less nothing; at least one."""
    return float(plan.looks.days[-1]) if plan.looks.days else float(max(plan.primary.horizon_days, 1))


def _claim_sentence(name: str, claim: Claim, available: float, needed: int, *, mde: float) -> str:
    counts = f"{name} will have {available:,.0f} of the {needed:,} users per arm it needs"
    if claim == "powered":
        return f"{counts}: its claim is powered."
    if claim == "marginal":
        return f"{counts}: between -{mde:.1%} and +{mde:.1%} it is inconclusive, said in advance."
    return f"{counts}: no claim about it can rest on this experiment."


def _notes(plan: Plan, size: SampleSize, steps: tuple[Step, ...]) -> tuple[str, ...]:
    notes = []
    if plan.primary.claimed_per_arm:
        notes += _explain_claim(plan, size, steps)
    proofs = sum(one.rule is Rule.SAFE for one in plan.guardrails)
    if proofs:
        notes.append(
            f"Power per test is {size.power:.3f}: the primary and {proofs} must-prove-safe guardrail(s) "
            f"have to succeed together with {plan.power:g}."
        )
    return tuple(notes)


def _explain_claim(plan: Plan, size: SampleSize, steps: tuple[Step, ...]) -> list[str]:
    """Whether a size somebody wrote down follows from the inputs, and what would make it follow."""
    claimed, target = plan.primary.claimed_per_arm, plan.primary
    if abs(claimed - size.per_arm) <= 0.02 * size.per_arm:
        return [f"The claimed {claimed:,} per arm follows from the inputs."]
    walked = ", ".join(f"{step.name}: {step.per_arm:,.0f}" for step in steps)
    implied = _detectable(plan, size, claimed)
    factor = float(np.prod([one for _, one in size.factors])) if size.factors else 1.0
    power = power_means(
        target.mde,
        target.sigma,
        claimed / factor,
        alpha=size.alpha,
        sides=1 if size.sides == 1 else 2,
        ratio=size.ratio,
    )
    sigma = target.sigma * float(np.sqrt(claimed / size.exact))
    return [
        f"The claimed {claimed:,} per arm does not follow from the inputs, which give {size.per_arm:,} "
        f"({walked}).",
        f"{claimed:,} per arm would detect {implied:.3g} ({implied / abs(target.baseline):.2%} of the "
        f"baseline) at power {size.power:g}, or the registered effect at power {power:.4f}; it would be "
        f"needed for a sigma of {sigma:.3g} instead of {target.sigma:g}.",
    ]
