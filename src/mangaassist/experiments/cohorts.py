"""Cohorts are customers, not weights: read on their own, pooled with the others, held to their thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy import special

from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments.guardrails import Finding
from mangaassist.experiments.plan import CohortDimension, Plan
from mangaassist.experiments.readings import Reading
from mangaassist.stats.effects import Effect
from mangaassist.stats.multiple import holm
from mangaassist.stats.pooling import erosion, pool
from mangaassist.stats.sizing import Claim, cohort_claim
from mangaassist.stats.stratified import worst_cohort

_HARM_BELIEVED = 0.95
_HARM_EXCLUDED = 0.05


@dataclass(frozen=True, slots=True)
class CohortReading:
    """One cohort beside the others.

    Attributes:
        reading: of the primary in it.
        effect: the relative effect.
        threshold: the registered relative change that is too much.
        pooled: its relative effect drawn towards the others by what it lacks in data; None without company.
        harm_probability: P(true relative effect < threshold) after pooling; None without company.
        conditional_mde: smallest relative effect its own data can show at the plan's alpha and power.
        claim: whether that is fine enough for its threshold: powered, marginal or refused.
    """

    reading: Reading
    effect: Effect
    threshold: float
    pooled: float | None
    harm_probability: float | None
    conditional_mde: float
    claim: Claim

    def as_dict(self) -> dict[str, Any]:
        """The cohort as a JSON object."""
        return {
            **self.reading.as_dict(),
            "threshold": self.threshold,
            "pooled_relative": self.pooled,
            "probability_of_harm": self.harm_probability,
            "conditional_mde": self.conditional_mde,
            "claim": self.claim,
        }


def cohort_readings(
    plan: Plan, dimension: CohortDimension, readings: Sequence[Reading]
) -> list[CohortReading]:
    """Pool the cohorts of one dimension and say what each can show.

    The random-slope model: every cohort has its own treatment effect, drawn from a common distribution whose
    spread is estimated by REML.
    """
    usable = [(one, one.relative_effect) for one in readings if one.relative_effect is not None]
    together = None
    if len(usable) > 1:
        together = pool([effect.value for _, effect in usable], [effect.variance for _, effect in usable])
    harm = together.probability_below(dimension.threshold) if together else None
    found = []
    for at, (one, effect) in enumerate(usable):
        mde = _conditional_mde(plan, effect)
        found.append(
            CohortReading(
                one,
                effect,
                dimension.threshold,
                float(together.cohort_mean[at]) if together else None,
                float(harm[at]) if harm is not None else None,
                mde,
                cohort_claim((dimension.threshold / mde) ** 2, 1.0),
            )
        )
    return found


def _conditional_mde(plan: Plan, effect: Effect) -> float:
    return float((-special.ndtri(plan.alpha / 2) + special.ndtri(plan.power)) * effect.standard_error)


def resolve(one: CohortReading, veto: Verdict, finding: Finding, *, final: bool) -> Verdict:
    """Whether a cohort is settled: vetoed, shown to be safe, or still open.

    An open cohort blocks an early win. At the last look it blocks only when it could have been settled: a
    cohort whose claim was marginal or refused stays inconclusive without holding up the rest.
    """
    if veto.status is Status.FAIL:
        return veto
    value, pooled = finding.value, one.harm_probability
    safe = finding.safe_p <= finding.alpha or (
        pooled is not None and pooled <= _HARM_EXCLUDED and not finding.beyond
    )
    beyond = f"{one.reading.cohort} {value:+.2%} against {one.threshold:+.2%}"
    if safe:
        sentence, status, blocking = f"{beyond}: harm beyond it is excluded.", Status.PASS, True
    elif final and one.claim == "powered" and not finding.beyond:
        sentence, status, blocking = f"{beyond}: within the threshold at full size.", Status.PASS, True
    else:
        blocking = not final or one.claim == "powered"
        said = "still open" if blocking else f"inconclusive, its claim was {one.claim} in advance"
        sentence = f"{beyond}: {said}; it can show {one.conditional_mde:.2%}."
        status = Status.INSUFFICIENT
    return Verdict(
        veto.name,
        status,
        sentence,
        value,
        finding.low,
        finding.high,
        one.threshold,
        finding.n,
        blocking=blocking,
    )


def pooled_verdict(plan: Plan, dimension: CohortDimension, found: Sequence[CohortReading]) -> list[Verdict]:
    """What the cohorts say together: heterogeneity and the largest probability of harm."""
    effects = [one.effect for one in found]
    if len(effects) < 2:
        return []
    together = pool([one.value for one in effects], [one.variance for one in effects])
    worst = max(found, key=lambda one: one.harm_probability or 0.0)
    probability = worst.harm_probability or 0.0
    disagree = together.q_p_value < plan.alpha
    sentence = (
        f"Cohorts of {dimension.dimension} {'disagree' if disagree else 'agree'} "
        f"(tau {together.tau2**0.5:.2%}); P(harm beyond {dimension.threshold:.0%}) is largest in "
        f"{worst.reading.cohort}: {probability:.1%}."
    )
    status = (
        Status.FAIL if probability >= _HARM_BELIEVED else Status.INSUFFICIENT if disagree else Status.PASS
    )
    return [
        Verdict(
            f"experiment.cohorts.pooled.{dimension.dimension}",
            status,
            sentence,
            value=probability,
            threshold=_HARM_BELIEVED,
            n=sum(one.n for one in effects),
            blocking=False,
        )
    ]


def floor_verdict(readings: Sequence[Reading], aggregate: Reading, *, floor: float) -> list[Verdict]:
    """COH-1: the lowest cohort level over the aggregate level, with the treatment and without.

    A cohort below the floor with or without the treatment is a standing problem, not this launch's.
    """
    if len(readings) < 2 or not (aggregate.treatment > 0 and aggregate.control > 0):
        return []
    found = worst_cohort([one.treatment for one in readings], aggregate.treatment, floor=floor)
    worst = readings[found.index]
    before = worst.control / aggregate.control
    caused = not found.holds and found.ratio < before
    sentence = (
        f"The lowest cohort, {worst.cohort}, stands at {found.ratio:.3f} of everybody "
        f"({before:.3f} in control)."
    )
    return [
        Verdict(
            "experiment.cohorts.floor",
            Status.FAIL if caused else Status.PASS,
            sentence + (" The treatment pushed it below the floor." if caused else ""),
            value=found.ratio,
            threshold=floor,
            n=worst.n,
            blocking=False,
        )
    ]


@dataclass(frozen=True, slots=True)
class Month:
    """One cohort in one month after the launch, against the hold-out.

    Attributes:
        cohort: "locale=ja".
        month: counted from the launch.
        effect: relative difference to the hold-out.
        variance: of it.
    """

    cohort: str
    month: float
    effect: float
    variance: float


def erosion_verdicts(months: Sequence[Month], *, alpha: float = 0.05) -> list[Verdict]:
    """COH-1: the slow loss a launch could not see. One trend test per cohort, Holm over cohorts.

    Raises:
        InputError: for a cohort with fewer than 3 months.
    """
    names = sorted({one.cohort for one in months})
    own = {name: sorted((m for m in months if m.cohort == name), key=lambda m: m.month) for name in names}
    trends = {
        name: erosion([m.effect for m in rows], [m.variance for m in rows], [m.month for m in rows])
        for name, rows in own.items()
    }
    adjusted = holm([trends[name].p_value for name in names])
    found = []
    for name, p in zip(names, adjusted, strict=True):
        slope, last = trends[name].slope, own[name][-1]
        erodes = bool(p <= alpha)
        found.append(
            Verdict(
                f"cohort.erosion.{name}",
                Status.FAIL if erodes else Status.PASS,
                f"{name} moves by {slope.value:+.2%} a month over {slope.n} months and stands at "
                f"{last.effect:+.2%}"
                + (": it erodes. Treat it as a guardrail breach." if erodes else ": no erosion is shown."),
                slope.value,
                slope.low,
                slope.high,
                0.0,
                slope.n,
            )
        )
    return found
