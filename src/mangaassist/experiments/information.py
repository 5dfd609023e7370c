"""Information at looks: what the registration planned for, and the users that came instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments.plan import Plan
from mangaassist.experiments.sizing import size_plan
from mangaassist.stats.group_sequential import Plan as Boundary
from mangaassist.stats.group_sequential import spending_plan

_OFF_PLAN = 0.10


def users_at(looks: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Users per recorded look, by its number."""
    return {int(one["number"]): int(sum(one["units"].values())) for one in looks}


def boundary_at(
    plan: Plan, users: Mapping[int, int], *, alpha: float, spending: str | None = None
) -> Boundary | None:
    """The boundary of a group-sequential plan; None for other methods.

    Args:
        users: per look so far, this one included; they count where the plan registers
            ``information: arrived``, and a boundary before the first look is the planned one.
        spending: by default as the primary registered it.

    Raises:
        InputError: when fewer users are there than at a look before.
    """
    looks = plan.looks
    if looks.method != "group-sequential":
        return None
    return spending_plan(
        looks.fractions,
        spending=spending or looks.spending,
        alpha=alpha,
        convention=looks.convention,
        information=information(plan, users) if looks.information == "arrived" and users else None,
    )


def information(plan: Plan, users: Mapping[int, int]) -> tuple[float, ...]:
    """Users at every registered look: as they came where it was taken, at the plan's pace elsewhere.

    A skipped look counts as not crossed, so its share of the error is spent on nothing and no other look's
    is overspent, whatever users it is given.

    Raises:
        InputError: when users do not rise from look to look.
    """
    at, taken = plan.looks.fractions, sorted(users)
    for before, after in pairwise(taken):
        if users[after] <= users[before]:
            raise InputError(
                f"users at look {after + 1}",
                expected=f"more than the {users[before]:,} of look {before + 1}",
                got=f"{users[after]:,}",
                next_step="Give each look everybody who came so far; a table that lost users is not one.",
            )
    known = np.interp(at, [0.0, *(at[k] for k in taken)], [0.0, *(users[k] for k in taken)])
    last = taken[-1]
    return tuple(
        float(known[k]) if k <= last else users[last] * fraction / at[last] for k, fraction in enumerate(at)
    )


def information_verdict(plan: Plan, users: Mapping[int, int]) -> Iterator[Verdict]:
    """How far this look is from the information it was planned for, and what that does to its boundary.

    Reported, never blocking: an under-powered look is not a wrong one.
    """
    looks, number = plan.looks, max(users)
    if looks.method != "group-sequential" or not (plan.primary.sigma > 0 and plan.primary.mde > 0):
        return
    planned, total = looks.fractions[number], size_plan(plan).total
    share = users[number] / total
    off = abs(share - planned) > _OFF_PLAN
    yield Verdict(
        "experiment.information",
        Status.INSUFFICIENT if off else Status.PASS,
        f"Look {number + 1} has {users[number]:,} users, {share:.0%} of the planned {total:,}; "
        f"{planned:.0%} were planned by now{_boundaries(plan, users)}.",
        value=share,
        threshold=planned,
        n=users[number],
        blocking=False,
    )


def _boundaries(plan: Plan, users: Mapping[int, int]) -> str:
    """The level of this look by either count, where they differ and can be compared."""
    rising = all(users[a] < users[b] for a, b in pairwise(sorted(users)))
    if len(users) < 2 or not rising:
        return ""
    number, looks = max(users), plan.looks
    levels = [
        spending_plan(
            looks.fractions,
            spending=looks.spending,
            alpha=plan.alpha / len(plan.treatments),
            convention=looks.convention,
            information=arrived,
        )
        .bounds[number]
        .nominal_p
        for arrived in (None, information(plan, users))
    ]
    return (
        f"; its level is {levels[0]:.3g} by the plan and {levels[1]:.3g} by the users that came, "
        f"and it is read by the {'users' if looks.information == 'arrived' else 'plan'}"
    )
