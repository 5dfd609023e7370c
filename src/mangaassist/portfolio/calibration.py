"""How far stated confidence and stated effort have been from what came: factors for the next quarter.

Both factors are posterior means, so that three finished candidates move them a little and thirty a lot. A
rule that corrects only once the error is significant would leave a small error in and overcorrect a lucky
large one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mangaassist.portfolio.candidates import Past
from mangaassist.stats.domain import FloatArray

CONFIDENCE_SPREAD = 0.3
"""Prior standard deviation of the log confidence factor: two teams in three within 35% of what they claim."""
EFFORT_SPREAD = 0.3
"""The same for the log effort factor of a team, and of a scope class within it."""
PROJECT_SPREAD = 0.35
"""Prior guess of the log spread between projects of one class, worth ``_PROJECT_WEIGHT`` projects."""
_PROJECT_WEIGHT = 4.0
_GRID = np.linspace(-1.5, 1.5, 1201)
_LEVEL = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Factor:
    """A multiplicative correction.

    Attributes:
        value: posterior mean; 1 without history.
        low, high: 95% posterior interval.
        n: finished candidates behind it.
        raw: the plain ratio of realised to stated, None without history.
    """

    value: float
    low: float
    high: float
    n: int
    raw: float | None

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out "no correction"."""
        return self.n > 0 and not self.low <= 1.0 <= self.high

    def as_dict(self) -> dict[str, Any]:
        """The factor as a JSON object."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "raw": self.raw}


NOTHING_KNOWN = Factor(1.0, 1.0, 1.0, 0, None)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What history says about this team's numbers.

    Attributes:
        confidence: realised wins over stated confidence.
        effort: weeks taken over weeks estimated, for a candidate of no known class.
        classes: the same per scope class with history.
        project_spread: standard deviation of the log effort ratio between projects of one class.
        weights: posterior of the confidence factor on the grid of log factors, for draws; shape (1201,).
    """

    confidence: Factor
    effort: Factor
    classes: Mapping[str, Factor]
    project_spread: float
    weights: FloatArray = field(repr=False, compare=False)

    def effort_of(self, cost_class: str) -> Factor:
        """The effort factor of a scope class; a class without history has the team's."""
        return self.classes.get(cost_class, self.effort)

    def confidence_draws(self, generator: np.random.Generator, size: int) -> FloatArray:
        """Confidence factors from the posterior, shape (size,)."""
        drawn: FloatArray = generator.choice(_GRID, size=size, p=self.weights)
        return np.exp(drawn)

    def as_dict(self) -> dict[str, Any]:
        """The calibration as a JSON object."""
        return {
            "confidence": self.confidence.as_dict(),
            "effort": self.effort.as_dict(),
            "effort_by_class": {name: one.as_dict() for name, one in sorted(self.classes.items())},
        }


def calibrate(history: Sequence[Past]) -> Calibration:
    """Both factors from finished candidates.

    Args:
        history: those without a known result, or without known weeks, count for the other factor only.
    """
    confidence, weights = _confidence([one for one in history if one.won is not None])
    known = [one for one in history if one.actual_weeks is not None]
    overall, classes, spread = _effort(known)
    return Calibration(confidence, overall, classes, spread, weights)


def _confidence(decided: Sequence[Past]) -> tuple[Factor, FloatArray]:
    """The factor on stated confidence by its exact Bernoulli likelihood on a grid."""
    log_posterior = -0.5 * (_GRID / CONFIDENCE_SPREAD) ** 2
    for one in decided:
        chance = np.clip(one.confidence * np.exp(_GRID), 1e-6, 1.0 - 1e-6)
        log_posterior += np.log(chance if one.won else 1.0 - chance)
    weights = np.exp(log_posterior - log_posterior.max())
    weights /= weights.sum()
    if not decided:
        return NOTHING_KNOWN, weights
    low, high = np.exp(np.interp(_LEVEL, np.cumsum(weights), _GRID))
    value = float(np.sum(weights * np.exp(_GRID)))
    raw = sum(bool(one.won) for one in decided) / sum(one.confidence for one in decided)
    return Factor(value, float(low), float(high), len(decided), raw), weights


def _effort(known: Sequence[Past]) -> tuple[Factor, dict[str, Factor], float]:
    """Team and class factors: log ratio = team + class + project, all normal, solved in closed form.

    Source: the normal hierarchical model of Gelman et al. (2013), Bayesian Data Analysis, chapter 5. The
    prior mean makes the expected ratio 1 without history.
    """
    names = sorted({one.cost_class for one in known if one.cost_class})
    ratios = np.log([one.actual_weeks / one.weeks for one in known if one.actual_weeks is not None])
    spread = _project_spread(known, ratios)
    # One column for the team, one per class; a project of no class has a class effect of its own as noise.
    design = np.zeros((len(known), 1 + len(names)))
    design[:, 0] = 1.0
    noise = np.full(len(known), spread**2)
    for row, one in enumerate(known):
        if one.cost_class:
            design[row, 1 + names.index(one.cost_class)] = 1.0
        else:
            noise[row] += EFFORT_SPREAD**2
    centre = -0.5 * (2 * EFFORT_SPREAD**2 + spread**2)
    precision = np.eye(1 + len(names)) / EFFORT_SPREAD**2 + design.T @ (design / noise[:, None])
    covariance = np.linalg.inv(precision)
    mean = covariance @ (design.T @ ((ratios - centre) / noise))
    team = np.zeros(1 + len(names))
    team[0] = 1.0
    new_class = EFFORT_SPREAD**2
    overall = _factor(
        team, mean, covariance, centre=centre, extra=new_class, spread=spread, ratios=np.exp(ratios)
    )
    classes = {}
    for at, name in enumerate(names, start=1):
        contrast = team.copy()
        contrast[at] = 1.0
        own = np.exp([r for r, one in zip(ratios, known, strict=True) if one.cost_class == name])
        classes[name] = _factor(
            contrast, mean, covariance, centre=centre, extra=0.0, spread=spread, ratios=own
        )
    return (overall if known else NOTHING_KNOWN), classes, spread


def _project_spread(known: Sequence[Past], ratios: FloatArray) -> float:
    """Spread within classes, drawn towards the prior guess by the weight of a few projects.

    Projects of no class differ by their classes too and say nothing about it.
    """
    squares, freedom = 0.0, 0
    for name in {one.cost_class for one in known if one.cost_class}:
        own = np.array([r for r, one in zip(ratios, known, strict=True) if one.cost_class == name])
        squares += float(((own - own.mean()) ** 2).sum())
        freedom += len(own) - 1
    prior = _PROJECT_WEIGHT * PROJECT_SPREAD**2
    return float(np.sqrt((prior + squares) / (_PROJECT_WEIGHT + freedom)))


def _factor(
    contrast: FloatArray,
    mean: FloatArray,
    covariance: FloatArray,
    *,
    centre: float,
    extra: float,
    spread: float,
    ratios: FloatArray,
) -> Factor:
    """The expected ratio of a new project: budgets add up expectations, not medians."""
    log_mean = centre + float(contrast @ mean)
    variance = float(contrast @ covariance @ contrast) + extra
    half = 1.96 * np.sqrt(variance)
    base = log_mean + spread**2 / 2
    return Factor(
        float(np.exp(base + variance / 2)),
        float(np.exp(base - half)),
        float(np.exp(base + half)),
        len(ratios),
        float(ratios.mean()) if len(ratios) else None,
    )
