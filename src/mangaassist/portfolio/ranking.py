"""Rank the backlog and choose: which candidates, why these, and what each of the others would have cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mangaassist.core.errors import GateRefused
from mangaassist.portfolio.calibration import Calibration, calibrate
from mangaassist.portfolio.candidates import Past, Portfolio
from mangaassist.portfolio.choosing import best_choice, problem_of
from mangaassist.portfolio.draws import draw
from mangaassist.portfolio.reasons import Reasons, Row
from mangaassist.portfolio.rules import Bar, Case, Facts, Outcome, bar, required_because
from mangaassist.portfolio.scoring import Score, score


@dataclass(frozen=True, slots=True)
class Ranking:
    """The whole answer.

    Attributes:
        portfolio: the question.
        calibration: the factors that were applied.
        rows: every candidate, best RICE first.
        value: worth of the picks, what they teach included.
        weeks: expected engineer-weeks of the picks per team.
        fits: share of draws in which the picks fit every team's capacity.
        gut_value: worth of the recorded gut-feel choice, barred candidates counting nothing; None without.
        notes: sentences about the choice as a whole.
    """

    portfolio: Portfolio
    calibration: Calibration
    rows: tuple[Row, ...]
    value: float
    weeks: Mapping[str, float]
    fits: float
    gut_value: float | None
    notes: tuple[str, ...]

    @property
    def picks(self) -> tuple[Row, ...]:
        return tuple(one for one in self.rows if one.outcome is Outcome.PICK)

    def row(self, name: str) -> Row:
        """The row of ``name``, which must be there."""
        return next(one for one in self.rows if one.name == name)

    def as_dict(self) -> dict[str, Any]:
        """The ranking as a JSON object."""
        return {
            "portfolio": self.portfolio.name,
            "unit": self.portfolio.unit,
            "picks": [one.name for one in self.picks],
            "value": self.value,
            "weeks": dict(self.weeks),
            "capacity": dict(self.portfolio.teams),
            "week_worth": self.portfolio.week_worth,
            "slots": self.portfolio.slots,
            "swing_slots": self.portfolio.swing_slots,
            "fits": self.fits,
            "gut_feel": list(self.portfolio.gut_feel),
            "gut_feel_value": self.gut_value,
            "notes": list(self.notes),
            "calibration": self.calibration.as_dict(),
            "candidates": [one.as_dict() for one in self.rows],
        }


def rank(portfolio: Portfolio, facts: Facts | None = None, *, seed: int = 7) -> Ranking:
    """Score, bar, choose and explain.

    Args:
        facts: what the ledger knows; its history adds to the file's and wins on the same name.
        seed: of the draws behind ``stability`` and ``fits``.

    Raises:
        GateRefused: when what is required cannot be done with the capacity there is.
        InputError: for a portfolio too large to be solved exactly.
    """
    facts = facts or Facts()
    calibration = calibrate(merged(portfolio.history, facts.history))
    scores = {one.name: score(one, portfolio, calibration) for one in portfolio.candidates}
    required = {name: required_because(one.candidate, facts) for name, one in scores.items()}
    bars = _bars(portfolio, scores, facts, required)
    _refuse_barred(required, bars)
    competing = [one for name, one in scores.items() if name not in bars]
    problem = problem_of(portfolio, competing, frozenset(name for name in required if required[name]))
    chosen, problem, notes = best_choice(problem)
    drawn = draw(portfolio, scores, calibration, problem=problem, chosen=chosen, seed=seed)
    reasons = Reasons(scores, problem, chosen, bars, required, drawn.stability)
    return Ranking(
        portfolio,
        calibration,
        _ordered(portfolio, reasons),
        chosen.value,
        _weeks(portfolio, [scores[name] for name in chosen.names]),
        drawn.fits,
        sum(scores[n].total for n in portfolio.gut_feel if n not in bars) if portfolio.gut_feel else None,
        (*notes, *_harness_notes(portfolio, facts)),
    )


def merged(ours: Sequence[Past], ledgers: Sequence[Past]) -> tuple[Past, ...]:
    """Both histories, each finished candidate once; the ledger knows better."""
    return tuple({one.name: one for one in (*ours, *ledgers)}.values())


def _bars(
    portfolio: Portfolio, scores: Mapping[str, Score], facts: Facts, required: Mapping[str, str]
) -> dict[str, Bar]:
    """Who does not compete; whoever needs somebody barred is barred too."""
    needed = {name for one in portfolio.candidates for name in one.needs}
    found: dict[str, Bar] = {}
    for name, one in scores.items():
        barred = bar(Case(one, portfolio, facts, required[name], name in needed))
        if barred is not None:
            found[name] = barred
    moved = True
    while moved:
        moved = False
        for candidate in portfolio.candidates:
            lost = next((name for name in candidate.needs if name in found), None)
            if lost is not None and candidate.name not in found:
                reason = f"Needs {lost}, which is out this quarter ({found[lost].outcome})."
                found[candidate.name] = Bar("needs", Outcome.DEFER, reason)
                moved = True
    return found


def _refuse_barred(required: Mapping[str, str], bars: Mapping[str, Bar]) -> None:
    for name, why in required.items():
        if why and name in bars:
            raise GateRefused(
                f"candidate '{name}'",
                expected=f"a required candidate that can run ({why})",
                got=bars[name].reason.rstrip("."),
                next_step="Resolve that, or take the requirement back.",
            )


def _ordered(portfolio: Portfolio, reasons: Reasons) -> tuple[Row, ...]:
    priced = [
        one for one in reasons.scores.values() if portfolio.metrics.get(one.candidate.metric) is not None
    ]
    order = sorted(priced, key=lambda one: -one.rice)
    places = {one.candidate.name: at for at, one in enumerate(order, start=1)}
    rest = [one.name for one in portfolio.candidates if one.name not in places]
    return tuple(reasons.row(name, places.get(name)) for name in (*places, *rest))


def _weeks(portfolio: Portfolio, chosen: Sequence[Score]) -> dict[str, float]:
    return {team: sum(one.weeks for one in chosen if one.candidate.team == team) for team in portfolio.teams}


def _harness_notes(portfolio: Portfolio, facts: Facts) -> list[str]:
    restored = {one.restores for one in portfolio.candidates}
    return [
        f"Launches on {surface} are frozen at a correlation of {found:.2f}, and no candidate rebuilds its "
        "offline harness."
        for surface, found in facts.frozen.items()
        if surface not in restored
    ]
