"""How far the choice hangs on the numbers: choose again with evidence and effort drawn as history says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mangaassist.portfolio.calibration import Calibration
from mangaassist.portfolio.candidates import Portfolio
from mangaassist.portfolio.choosing import WEEKS
from mangaassist.portfolio.scoring import Score
from mangaassist.portfolio.selection import Item, Problem, Selection, solve

DRAWS = 400
_MOST_ITEMS = 24
"""Beyond this many competing candidates a quarter of the draws is enough of a wait."""
_EVIDENCE_WEIGHT = 10.0
"""A stated probability is drawn as if it came from ten comparable cases."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the draws found.

    Attributes:
        stability: per competing candidate the share of draws in which it belongs to the best choice.
        fits: share of draws in which the chosen ones fit every team's weeks.
    """

    stability: Mapping[str, float]
    fits: float


def draw(
    portfolio: Portfolio,
    scores: Mapping[str, Score],
    calibration: Calibration,
    *,
    problem: Problem,
    chosen: Selection,
    seed: int,
) -> Drawn:
    """Choose again under drawn evidence and effort; learning keeps its stated worth."""
    generator = np.random.default_rng(seed)
    names = [item.name for item in problem.items]
    size = (DRAWS if len(names) <= _MOST_ITEMS else DRAWS // 4, len(names))
    spread = calibration.project_spread
    noise = np.exp(spread * generator.standard_normal(size) - spread**2 / 2)
    common = calibration.confidence_draws(generator, size[0]) / calibration.confidence.value
    stated = np.clip([scores[name].confidence for name in names], 1e-3, 1 - 1e-3)
    evidence = generator.beta(stated * _EVIDENCE_WEIGHT, (1 - stated) * _EVIDENCE_WEIGHT, size)
    lifts = np.minimum(evidence * common[:, None], 1.0) / stated
    counted = dict.fromkeys(names, 0)
    fitting = 0
    for lift, stretch in zip(lifts, noise, strict=True):
        weeks = {name: scores[name].weeks * stretch[i] for i, name in enumerate(names)}
        fitting += _fit(portfolio, chosen.names, weeks)
        found = solve(_drawn(problem, scores, weeks, dict(zip(names, lift, strict=True))))
        for name in found.names if found else ():
            counted[name] += 1
    return Drawn({name: count / size[0] for name, count in counted.items()}, fitting / size[0])


def _fit(portfolio: Portfolio, names: Sequence[str], weeks: Mapping[str, float]) -> bool:
    used = dict.fromkeys(portfolio.teams, 0.0)
    for name in names:
        used[portfolio.candidate(name).team] += weeks[name]
    return all(used[team] <= limit for team, limit in portfolio.teams.items())


def _drawn(
    problem: Problem, scores: Mapping[str, Score], weeks: Mapping[str, float], lift: Mapping[str, float]
) -> Problem:
    items = tuple(
        Item(
            item.name,
            float(scores[item.name].value * lift[item.name] + scores[item.name].learning),
            {key: weeks[item.name] if key[0] == WEEKS else load for key, load in item.loads.items()},
        )
        for item in problem.items
    )
    return replace(problem, items=items)
