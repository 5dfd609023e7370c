"""Rules that keep a candidate from competing: each is one question with one sentence for an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mangaassist.portfolio.candidates import Candidate, Kind, Past, Portfolio
from mangaassist.portfolio.scoring import Score

PREMORTEM_WEEKS = 12.0
"""From this many engineer-weeks on, estimated or calibrated, nothing starts without a pre-mortem."""


class Outcome(StrEnum):
    """What becomes of a candidate this quarter."""

    PICK = "pick"
    DEFER = "defer"
    REJECT = "reject"
    ASSIGNED = "assigned"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ledger knows that a portfolio file cannot.

    Attributes:
        history: finished candidates of earlier quarters.
        framings: per decided framing whether it came out for ML.
        frozen: surfaces whose offline metric has stopped predicting the online one, with the correlation.
        ledger: whether a ledger was read at all.
    """

    history: tuple[Past, ...] = ()
    framings: Mapping[str, bool] = field(default_factory=dict)
    frozen: Mapping[str, float] = field(default_factory=dict)
    ledger: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """Why a candidate does not compete."""

    rule: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """One candidate with everything a rule may look at.

    Attributes:
        score: the candidate and its numbers.
        portfolio: what it competes in.
        facts: what the ledger knows.
        required: why it must be done; empty when it competes.
        needed: whether another candidate cannot go without it.
    """

    score: Score
    portfolio: Portfolio
    facts: Facts
    required: str
    needed: bool

    @property
    def candidate(self) -> Candidate:
        return self.score.candidate


def required_because(candidate: Candidate, facts: Facts) -> str:
    """Why a candidate must be done: the file says so, or it restores a surface that the ledger froze."""
    if candidate.restores in facts.frozen:
        found = facts.frozen[candidate.restores]
        return f"launches on {candidate.restores} are frozen at a correlation of {found:.2f} until it is done"
    return candidate.required


def bar(case: Case) -> Bar | None:
    """The first rule that keeps it out, or None when it competes."""
    for rule in _RULES:
        found = rule(case)
        if found is not None:
            return Bar(rule.__name__.removeprefix("_"), *found)
    return None


def _kind(case: Case) -> tuple[Outcome, str] | None:
    one = case.candidate
    if case.required or case.needed or one.kind is Kind.EXPERIMENT:
        return None
    if one.kind is Kind.MAINTENANCE:
        return Outcome.ASSIGNED, f"Maintenance: its {one.weeks:g} weeks are assigned beside the portfolio."
    return (
        Outcome.REJECT,
        "Tooling that moves no metric here: it belongs to the platform's backlog.",
    )


def _team(case: Case) -> tuple[Outcome, str] | None:
    if case.candidate.team in case.portfolio.teams:
        return None
    return Outcome.DEFER, f"Belongs to {case.candidate.team}, which gives this portfolio no engineer-weeks."


def _hold(case: Case) -> tuple[Outcome, str] | None:
    return (Outcome.DEFER, f"Held back: {case.candidate.hold}") if case.candidate.hold else None


def _price(case: Case) -> tuple[Outcome, str] | None:
    one = case.candidate
    if not one.metric or case.portfolio.metrics[one.metric] is not None:
        return None
    return Outcome.DEFER, (
        f"Nobody has said what a point of {one.metric} is worth in {case.portfolio.unit}, so its RICE of "
        f"{case.score.stated:,.0f} compares with nothing here."
    )


def _after(case: Case) -> tuple[Outcome, str] | None:
    waiting = [name for name in case.candidate.after if name not in case.portfolio.done]
    if not waiting:
        return None
    return Outcome.DEFER, f"Waits for the result of {', '.join(waiting)}: a candidate once that is known."


def _framing(case: Case) -> tuple[Outcome, str] | None:
    named = case.candidate.framing
    if not named or not case.facts.ledger or case.facts.framings.get(named, False):
        return None
    if named in case.facts.framings:
        return Outcome.REJECT, f"Its framing '{named}' came out for the heuristic first."
    return Outcome.REJECT, f"Its framing '{named}' has not been decided."


def _premortem(case: Case) -> tuple[Outcome, str] | None:
    one, weeks = case.candidate, case.score.weeks
    if one.premortem is not None or max(one.weeks, weeks) < PREMORTEM_WEEKS:
        return None
    source = f"the class '{one.cost_class}'" if one.cost_class else "all classes"
    return Outcome.REJECT, (
        f"{one.weeks:g} weeks estimated, {weeks:.0f} expected from the history of {source}, and no "
        f"pre-mortem: nothing of {PREMORTEM_WEEKS:g} weeks or more starts without one."
    )


def _room(case: Case) -> tuple[Outcome, str] | None:
    limit = case.portfolio.teams[case.candidate.team]
    if case.score.weeks <= limit:
        return None
    return Outcome.DEFER, (
        f"Expected to take {case.score.weeks:.0f} engineer-weeks; {case.candidate.team} has {limit:g}."
    )


def _worth(case: Case) -> tuple[Outcome, str] | None:
    earned = case.score.total / case.score.weeks
    if case.required or case.needed or earned >= case.portfolio.week_worth:
        return None
    return Outcome.REJECT, (
        f"Earns {earned:,.0f} per engineer-week; a week earns {case.portfolio.week_worth:,.0f} elsewhere."
    )


_RULES: tuple[Callable[[Case], tuple[Outcome, str] | None], ...] = (
    _kind,
    _team,
    _hold,
    _price,
    _after,
    _framing,
    _premortem,
    _room,
    _worth,
)
