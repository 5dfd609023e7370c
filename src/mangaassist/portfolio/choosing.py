"""From scored candidates to a problem with an exact answer, and that answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mangaassist.core.errors import GateRefused
from mangaassist.portfolio.candidates import Portfolio
from mangaassist.portfolio.scoring import Score
from mangaassist.portfolio.selection import Item, Problem, Resource, Selection, solve

SLOT: Resource = ("slots", "all")
WEEKS = "weeks"


def problem_of(portfolio: Portfolio, competing: Sequence[Score], required: frozenset[str]) -> Problem:
    """What may be chosen together.

    Worth is added up, not RICE: with weeks as a limit of their own, dividing by them as well would prefer
    many small candidates to one that is worth more than all of them.
    """
    candidates = [one.candidate for one in competing]
    names = {one.name for one in candidates}
    capacity: dict[Resource, float] = {SLOT: float(portfolio.slots)}
    capacity |= {(WEEKS, team): weeks for team, weeks in portfolio.teams.items()}
    capacity |= {("team_slots", team): float(limit) for team, limit in portfolio.team_slots.items()}
    capacity |= {("traffic", name): limit for name, limit in portfolio.traffic.items()}
    return Problem(
        tuple(_item(one) for one in competing),
        capacity,
        {one.name: tuple(need for need in one.needs if need not in portfolio.done) for one in candidates},
        {frozenset((one.name, other)) for one in candidates for other in one.excludes if other in names},
        frozenset(one.candidate.name for one in competing if one.swing),
        portfolio.swing_slots,
        required,
    )


def _item(one: Score) -> Item:
    candidate = one.candidate
    loads: dict[Resource, float] = {
        SLOT: 1.0,
        (WEEKS, candidate.team): one.weeks,
        ("team_slots", candidate.team): 1.0,
    }
    loads |= {("traffic", name): taken for name, taken in candidate.traffic.items()}
    return Item(candidate.name, one.total, loads)


def best_choice(problem: Problem) -> tuple[Selection, Problem, list[str]]:
    """The best choice with as many swing bets as were reserved and can be had, and a note when fewer.

    Raises:
        GateRefused: when the required candidates do not go together.
    """
    for least in range(problem.least_swing, -1, -1):
        tried = replace(problem, least_swing=least)
        found = solve(tried)
        if found is not None:
            short = problem.least_swing - least
            note = (
                f"{short} of {problem.least_swing} swing slots went to the next best candidate: no other bet "
                "that can run has a learning target worth more than shipping it."
            )
            return found, tried, [note] if short else []
    raise GateRefused(
        "required candidates",
        expected="a choice that holds all of them",
        got=f"{', '.join(sorted(problem.required))} beyond slots, weeks, traffic or each other",
        next_step="Add capacity, or require fewer.",
    )
