"""Heuristic or model: lift, cost, probability, time and what is known about them, each a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.portfolio.framing import REVIEWERS, Bend, Framing, Letter, Option, Staging

BAR = 0.5
"""A model must promise this much more than the heuristic."""
LEAST_LABELS = 10_000
LEAST_LABELS_A_MONTH = 1_000
LEAST_DIMENSIONS = 10
_SURE = 0.8
_LIFT, _FUZZINESS = "framing.incremental_lift", "framing.fuzziness"
_GRID = 400


class Recommendation(StrEnum):
    """What the framing comes to."""

    HEURISTIC_FIRST = "heuristic first"
    MODEL_STAGED = "heuristic now, model scheduled"
    MODEL = "model"
    MODEL_BY_OVERRIDE = "model by override"
    NOT_AT_ALL = "not at all"


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Both options beside each other.

    Attributes:
        heuristic: the rule-based option, None where nobody can write one.
        model: the model option.
        incremental: expected lift of the model over the heuristic's, as a share of it; infinite without one.
        low, high: the same at the ends of both ranges of lift.
        clears: probability that it reaches the bar, the true lifts anywhere in their ranges.
        per_week_ratio: expected lift per engineer-week, heuristic over model; 0 without a heuristic.
        lift_needed: lift of the model (if it works) at which it reaches the bar.
        probability_needed: probability of the model at which it does; None where not even certainty does.
        weeks_needed: engineer-weeks of the model at which both earn the same a week; None where none do.
        overtakes: weeks from today after which the model's cumulated lift is ahead; None where it never is.
        worth: cumulated expected lift (lift x weeks) over the horizon per plan: heuristic, model, staged.
        verdicts: one per condition.
        recommendation: what follows.
        reason: in a sentence.
    """

    heuristic: Option | None
    model: Option
    incremental: float
    low: float
    high: float
    clears: float
    per_week_ratio: float
    lift_needed: float
    probability_needed: float | None
    weeks_needed: float | None
    overtakes: float | None
    worth: dict[str, float]
    verdicts: tuple[Verdict, ...]
    recommendation: Recommendation
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The comparison as a JSON object; an infinite number is null."""
        return {
            "heuristic": _option_dict(self.heuristic) if self.heuristic else None,
            "model": _option_dict(self.model),
            "incremental_lift": _finite(self.incremental),
            "incremental_low": _finite(self.low),
            "incremental_high": _finite(self.high),
            "probability_of_clearing": self.clears,
            "per_week_ratio": self.per_week_ratio,
            "model_lift_needed": self.lift_needed,
            "model_probability_needed": self.probability_needed,
            "model_weeks_needed": self.weeks_needed,
            "model_overtakes_after_weeks": self.overtakes,
            "worth_over_horizon": self.worth,
            "verdicts": [one.as_dict() for one in self.verdicts],
            "recommendation": str(self.recommendation),
            "reason": self.reason,
        }


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _option_dict(one: Option) -> dict[str, Any]:
    return {
        "what": one.what,
        "lift_low": one.lift[0],
        "lift_high": one.lift[1],
        "probability": one.probability,
        "engineer_weeks": one.weeks,
        "weeks_to_ship": one.calendar_weeks,
        "expected_lift": one.delivered,
        "expected_lift_per_week": one.per_week,
    }


def break_even(framing: Framing) -> BreakEven:
    """Compare the options of a framing.

    Raises:
        InputError: for a framing without a model to compare, or whose model promises no lift at all.
    """
    model, heuristic = framing.model, framing.heuristic
    if model is None or (heuristic is None and not framing.no_heuristic):
        raise InputError(
            f"framing '{framing.name}'",
            expected="both options",
            got="only one",
            next_step="Add 'heuristic:' and 'model:'; without a heuristic say 'none_because'.",
        )
    if model.delivered == 0:
        raise InputError(
            f"framing '{framing.name}': model.lift",
            expected="some lift",
            got="0",
            next_step="A model that lifts nothing needs no comparison.",
        )
    incremental, low, high = _incremental(heuristic, model)
    verdicts = (
        _lift_verdict(heuristic, model),
        *_data_verdicts(framing),
    )
    recommendation, reason = _recommend(framing, verdicts)
    other = heuristic.delivered if heuristic else 0.0
    needed = (1 + BAR) * other
    return BreakEven(
        heuristic,
        model,
        incremental,
        low,
        high,
        _clears(heuristic, model),
        heuristic.per_week / model.per_week if heuristic else 0.0,
        needed / model.probability,
        needed / model.middle if needed <= model.middle else None,
        model.delivered / heuristic.per_week if heuristic and heuristic.per_week > 0 else None,
        _overtakes(heuristic, model),
        _worth(framing, heuristic, model),
        verdicts,
        recommendation,
        reason,
    )


def _incremental(heuristic: Option | None, model: Option) -> tuple[float, float, float]:
    """Model over heuristic, in expectation and at the ends of the two ranges."""
    if heuristic is None or heuristic.delivered == 0:
        return float("inf"), float("inf"), float("inf")
    value = model.delivered / heuristic.delivered - 1
    low = model.probability * model.lift[0] / (heuristic.probability * heuristic.lift[1]) - 1
    least = heuristic.probability * heuristic.lift[0]
    high = model.probability * model.lift[1] / least - 1 if least else float("inf")
    return value, low, high


def _clears(heuristic: Option | None, model: Option) -> float:
    """Probability that the model reaches the bar with both lifts uniform over their ranges."""
    if heuristic is None:
        return 1.0
    at = (np.arange(_GRID) + 0.5) / _GRID
    ours = model.probability * (model.lift[0] + at * (model.lift[1] - model.lift[0]))
    theirs = heuristic.probability * (heuristic.lift[0] + at * (heuristic.lift[1] - heuristic.lift[0]))
    return float(np.mean(ours[:, None] >= (1 + BAR) * theirs[None, :]))


def _lift_verdict(heuristic: Option | None, model: Option) -> Verdict:
    name = _LIFT
    if heuristic is None or heuristic.delivered == 0:
        return Verdict(name, Status.PASS, "No heuristic lifts anything to compare with.", threshold=BAR)
    value, low, high = _incremental(heuristic, model)
    clears = _clears(heuristic, model)
    shown = f"The model promises {value:+.0%} over the heuristic ({low:+.0%} to {high:+.0%})"
    if value < BAR:
        status, said = Status.FAIL, f"below the +{BAR:.0%} it needs; {clears:.0%} of the ranges reach it"
    elif clears < _SURE:
        status, said = (
            Status.INSUFFICIENT,
            f"but only {clears:.0%} of the ranges reach +{BAR:.0%}: narrow them",
        )
    else:
        status, said = Status.PASS, f"and {clears:.0%} of the ranges reach +{BAR:.0%}"
    return Verdict(name, status, f"{shown}, {said}.", _finite(value), _finite(low), _finite(high), BAR)


def _data_verdicts(framing: Framing) -> tuple[Verdict, ...]:
    labels = framing.labels
    return (
        _at_least("labels", labels.count, LEAST_LABELS, "labelled examples"),
        _at_least("label_growth", labels.per_month, LEAST_LABELS_A_MONTH, "new labelled examples a month"),
        _at_least("fuzziness", labels.dimensions, LEAST_DIMENSIONS + 1, "inputs that matter to the decision"),
    )


def _at_least(name: str, found: int, least: int, what: str) -> Verdict:
    enough = found >= least
    said = f"{found:,} {what}; a model needs {least:,}" + ("." if enough else ": below it, rules win.")
    status = Status.PASS if enough else Status.FAIL
    return Verdict(f"framing.{name}", status, said, float(found), threshold=float(least), n=found)


def _recommend(framing: Framing, verdicts: tuple[Verdict, ...]) -> tuple[Recommendation, str]:
    """Heuristic first unless every condition passes; nothing but a director excuses missing labels."""
    short = [one for one in verdicts if one.status is not Status.PASS]
    names = {one.name for one in short}
    later = second_stage(framing)
    if later is not None and later.passed and names <= {_LIFT}:
        return Recommendation.MODEL, later.sentence
    if framing.bend is not Bend.NONE and names <= {_LIFT, _FUZZINESS}:
        return Recommendation.MODEL, f"The bar bends ({framing.bend}): {framing.bend_because}"
    if framing.override is not None:
        given = framing.override
        return Recommendation.MODEL_BY_OVERRIDE, f"{given.name} ({given.role}): {given.justification}"
    without = framing.heuristic is None or framing.heuristic.delivered == 0
    return _by_the_bar(framing.staging, short, without=without)


def _by_the_bar(
    staging: Staging | None, short: list[Verdict], *, without: bool
) -> tuple[Recommendation, str]:
    """What follows when nobody asked for an exception."""
    if short:
        why = " ".join(one.sentence for one in short[:2])
        if without:
            return Recommendation.NOT_AT_ALL, f"There is no heuristic, and a model is not ready. {why}"
        return Recommendation.HEURISTIC_FIRST, why
    if without:
        return Recommendation.MODEL, "Every condition for a model is met, and no heuristic stands before it."
    if staging is not None:
        said = f"the heuristic ships first and settles {staging.settle_weeks:g} weeks"
        return Recommendation.MODEL_STAGED, f"Every condition for a model is met; {said}."
    reason = "Every condition for a model is met, but going straight to it takes stages or a director."
    return Recommendation.HEURISTIC_FIRST, reason


def _overtakes(heuristic: Option | None, model: Option) -> float | None:
    """When the later, larger lift has caught up with the earlier, smaller one."""
    if heuristic is None:
        return model.calendar_weeks
    ahead = model.delivered - heuristic.delivered
    lead = model.delivered * model.calendar_weeks - heuristic.delivered * heuristic.calendar_weeks
    if ahead <= 0:
        # The smaller lift is ahead only while it is alone; it never catches up later.
        return None if heuristic.calendar_weeks <= model.calendar_weeks else model.calendar_weeks
    return max(lead / ahead, model.calendar_weeks)


def _worth(framing: Framing, heuristic: Option | None, model: Option) -> dict[str, float]:
    """Expected lift times weeks enjoyed, over the horizon, per plan.

    ``staged`` ships the heuristic and lets it settle; if it worked, the model is built for what is achievable
    beyond it.
    """
    horizon = framing.horizon_weeks
    alone = model.delivered * max(0.0, horizon - model.calendar_weeks)
    if heuristic is None:
        return {"model": alone}
    first = heuristic.delivered * max(0.0, horizon - heuristic.calendar_weeks)
    found = {"heuristic": first, "model": alone}
    if framing.staging is not None:
        left = max(0.0, framing.staging.achievable - heuristic.middle)
        start = heuristic.calendar_weeks + framing.staging.settle_weeks + model.calendar_weeks
        both = heuristic.probability * model.probability
        found["staged"] = first + both * left * max(0.0, horizon - start)
    return found


def letter_verdict(letter: Letter) -> Verdict:
    """Whether the letter survives its readers: each of the three roles must believe it."""
    name = "framing.letter"
    doubts = [one for one in letter.reviews if not one.believes]
    believing = {one.role for one in letter.reviews if one.believes}
    missing = [role for role in REVIEWERS if role not in {one.role for one in letter.reviews}]
    n = len(letter.reviews)
    if doubts:
        who = "; ".join(f"{one.role} ({one.name}): {one.remark or 'no remark'}" for one in doubts)
        return Verdict(name, Status.FAIL, f"Not believed by {who}.", n=n)
    if missing:
        return Verdict(name, Status.INSUFFICIENT, f"Not yet read by {', '.join(missing)}.", n=n)
    return Verdict(name, Status.PASS, f"Believed by {', '.join(sorted(believing))}.", n=n)


def second_stage(framing: Framing) -> Verdict | None:
    """Whether the model may now be asked for, after the heuristic; None where nothing is staged or known."""
    staging, model = framing.staging, framing.model
    if staging is None or model is None or staging.observed is None:
        return None
    name, observed = "framing.second_stage", staging.observed
    value, low, high = observed.lift
    left = max(0.0, staging.achievable - value)
    earned = model.probability * left / model.weeks
    verdict = Verdict(name, Status.INSUFFICIENT, "", earned, threshold=staging.per_week, blocking=False)
    waiting = _too_early(staging)
    if waiting:
        return _said(verdict, Status.INSUFFICIENT, waiting)
    least = model.probability * max(0.0, staging.achievable - high) / model.weeks
    most = model.probability * max(0.0, staging.achievable - low) / model.weeks
    shown = (
        f"The first stage brought {value:+.1%}; the remaining {left:.1%} would earn {earned:.2%} an "
        f"engineer-week ({least:.2%} to {most:.2%}) against {staging.per_week:.2%} elsewhere"
    )
    if least >= staging.per_week:
        return _said(verdict, Status.PASS, f"{shown}: the model enters the next portfolio.")
    if most < staging.per_week:
        return _said(verdict, Status.FAIL, f"{shown}: the heuristic stays.")
    return _said(verdict, Status.INSUFFICIENT, f"{shown}: measure the first stage more closely.")


def _too_early(staging: Staging) -> str:
    observed = staging.observed
    if observed is None or observed.weeks < staging.settle_weeks:
        seen = observed.weeks if observed else 0
        return (
            f"{seen:g} of {staging.settle_weeks:g} weeks have passed: a model on top of an unsettled first "
            "stage is compared with a moving baseline."
        )
    if not observed.by_cohort:
        return "Nobody has looked at the first stage by cohort: what it lacks may be a cohort, not a model."
    return ""


def _said(verdict: Verdict, status: Status, sentence: str) -> Verdict:
    return Verdict(
        verdict.name, status, sentence, verdict.value, threshold=verdict.threshold, blocking=verdict.blocking
    )
