"""One reason per candidate: a rule, or what the best choice loses without it, or with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mangaassist.portfolio.rules import Bar, Outcome
from mangaassist.portfolio.scoring import SAFE_BET, SWING_BET, Score
from mangaassist.portfolio.selection import Problem, Selection, solve


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate's place.

    Attributes:
        score: its numbers.
        rank: by calibrated RICE among candidates with a priced metric, from 1; None for the rest.
        outcome: what becomes of it this quarter.
        rule: the rule that decided ("optimum", "displaced", "required", "premortem", ...).
        reason: one or two sentences.
        margin: for a pick, what the best choice without it is short of; for a displaced one, what the best
            choice with it is short of; None where a rule decided.
        enters_at: stated confidence from which a displaced candidate would be picked; None where none would.
        stability: share of draws of evidence and effort in which it belongs to the best choice.
    """

    score: Score
    rank: int | None
    outcome: Outcome
    rule: str
    reason: str
    margin: float | None = None
    enters_at: float | None = None
    stability: float | None = None

    @property
    def name(self) -> str:
        return self.score.candidate.name

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        one, numbers = self.score.candidate, self.score
        picked = self.outcome is Outcome.PICK
        return {
            "name": one.name,
            "title": one.title,
            "rank": self.rank,
            "outcome": str(self.outcome),
            "rule": self.rule,
            "reason": self.reason,
            "slot": (SWING_BET if numbers.swing else SAFE_BET) if picked else None,
            "team": one.team,
            "experiment": one.experiment or None,
            "metric": one.metric or None,
            "reach": one.reach,
            "impact": one.impact,
            "worth": numbers.worth,
            "confidence": one.confidence,
            "prior_evidence": one.evidence,
            "detectability": one.detectability,
            "weeks": one.weeks,
            "cost_class": one.cost_class,
            "rice_stated": numbers.stated,
            "rice": numbers.rice,
            "confidence_calibrated": numbers.confidence,
            "weeks_calibrated": numbers.weeks,
            "value": numbers.value,
            "evoi": numbers.learning,
            "evoi_perfect": numbers.information.perfect if numbers.information else None,
            "evoi_reason": numbers.information.sentence if numbers.information else "No learning target.",
            "margin": self.margin,
            "enters_at_confidence": self.enters_at,
            "stability": self.stability,
        }


@dataclass(frozen=True, slots=True)
class Reasons:
    """The choice, and what is needed to explain it.

    Attributes:
        scores: every candidate's numbers.
        problem: what was chosen from.
        chosen: the choice.
        bars: who did not compete, and why.
        required: why a candidate must be done; empty texts for the rest.
        stability: per competing candidate its share of draws.
    """

    scores: Mapping[str, Score]
    problem: Problem
    chosen: Selection
    bars: Mapping[str, Bar]
    required: Mapping[str, str]
    stability: Mapping[str, float]

    def row(self, name: str, rank: int | None) -> Row:
        """The candidate's place with its reason."""
        numbers = self.scores[name]
        if name in self.bars:
            found = self.bars[name]
            return Row(numbers, rank, found.outcome, found.rule, found.reason)
        if name not in self.chosen.names:
            return self._displaced(numbers, rank)
        rule = "required" if self.required[name] else "optimum"
        reason, margin = self._picked(numbers)
        return Row(numbers, rank, Outcome.PICK, rule, reason, margin, None, self.stability[name])

    def _picked(self, numbers: Score) -> tuple[str, float | None]:
        name = numbers.candidate.name
        if self.required[name]:
            return f"Required: {self.required[name]}.", None
        without = solve(self.problem, forbidden={name})
        empty = "with its place empty"
        if without is None:
            # A reserved slot that nobody else can take: compare with giving the reservation up.
            without = solve(replace(self.problem, least_swing=0), forbidden={name})
            empty = "with the swing slot given up"
        if without is None:
            return f"{self._dependants(name)} cannot go without it.", None
        margin = self.chosen.value - without.value
        instead = [one for one in without.names if one not in self.chosen.names]
        other = f"with {', '.join(instead)} instead" if instead else empty
        return (
            f"Without it the best choice ({other}) is worth {margin:,.0f} less. {self._why(numbers)}",
            margin,
        )

    def _why(self, numbers: Score) -> str:
        if numbers.swing and numbers.information is not None:
            return (
                f"Swing bet: what it teaches is worth {numbers.learning:,.0f} beside {numbers.value:,.0f} "
                f"for shipping it. {numbers.information.sentence}"
            )
        dependants = self._dependants(numbers.candidate.name)
        if dependants:
            return f"{dependants} cannot go without it."
        return (
            f"Worth {numbers.value:,.0f} at a confidence of {numbers.confidence:.2f} "
            f"in {numbers.weeks:.0f} weeks."
        )

    def _dependants(self, name: str) -> str:
        return ", ".join(one for one in self.chosen.names if name in self.problem.needs[one])

    def _displaced(self, numbers: Score, rank: int | None) -> Row:
        name = numbers.candidate.name
        stability = self.stability[name]
        forced = solve(self.problem, forced={name})
        if forced is None:
            reason = "No choice holds it together with what is required or reserved."
            return Row(numbers, rank, Outcome.DEFER, "displaced", reason, None, None, stability)
        margin = self.chosen.value - forced.value
        out = [one for one in self.chosen.names if one not in forced.names]
        reason = f"Taking it would push out {', '.join(out) or 'nothing'} and lose {margin:,.0f}."
        if any(frozenset((name, one)) in self.problem.excludes for one in out):
            reason += " The two move each other's baseline and cannot share a quarter."
        entry = _entry(numbers, margin)
        if entry is not None:
            reason += (
                f" It would enter at a confidence of {entry:.2f}, not {numbers.candidate.confidence:.2f}."
            )
        return Row(numbers, rank, Outcome.DEFER, "displaced", reason, margin, entry, stability)


def _entry(numbers: Score, margin: float) -> float | None:
    """Stated confidence at which the choice turns: its own worth grows in proportion, all else stays."""
    if numbers.value <= 0:
        return None
    needed = numbers.candidate.confidence * (numbers.value + margin) / numbers.value
    return needed if needed <= 1.0 else None
