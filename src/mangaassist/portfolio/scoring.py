"""RICE with calibrated numbers, and the worth of what a candidate teaches, in one unit."""

from __future__ import annotations

from dataclasses import dataclass

from mangaassist.portfolio.calibration import Calibration
from mangaassist.portfolio.candidates import Candidate, Portfolio
from mangaassist.portfolio.information import Information, learning_value

SWING_BET, SAFE_BET = "swing bet", "bias for action"
POINTS = 100.0
"""Impacts are shares; RICE and worth count percentage points."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one candidate is worth.

    Attributes:
        candidate: the candidate.
        worth: of one point of its metric on one unit of reach; 1 stands in where nobody has priced it.
        stated: RICE from the numbers as stated.
        confidence: stated confidence after calibration.
        weeks: engineer-weeks after calibration.
        value: expected worth of shipping it this quarter (reach x impact x worth x confidence).
        rice: ``value`` per calibrated engineer-week.
        information: what its learning target is worth, None without one.
    """

    candidate: Candidate
    worth: float
    stated: float
    confidence: float
    weeks: float
    value: float
    rice: float
    information: Information | None

    @property
    def learning(self) -> float:
        """Worth of what it teaches; a target that was not registered counts as nothing."""
        return self.information.value if self.information else 0.0

    @property
    def total(self) -> float:
        return self.value + self.learning

    @property
    def swing(self) -> bool:
        """A bet whose main worth is what it teaches."""
        return self.learning > 0 and self.learning >= self.value


def score(candidate: Candidate, portfolio: Portfolio, calibration: Calibration) -> Score:
    """Score one candidate; maintenance and tooling without a metric are worth nothing here."""
    worth = portfolio.metrics.get(candidate.metric) if candidate.metric else None
    priced = 1.0 if worth is None else worth
    size = candidate.reach * candidate.impact * POINTS * priced
    evidence = min(candidate.evidence * calibration.confidence.value, 1.0)
    factor = calibration.effort_of(candidate.cost_class).value
    weeks = candidate.weeks * factor
    confidence = evidence * candidate.detectability
    information = None
    if candidate.learning is not None:
        information = learning_value(
            candidate.learning,
            evidence=evidence,
            detectability=candidate.detectability,
            week_worth=portfolio.week_worth,
            effort_factor=factor,
        )
    return Score(
        candidate,
        priced,
        size * candidate.confidence / candidate.weeks,
        confidence,
        weeks,
        size * confidence,
        size * confidence / weeks,
        information,
    )
