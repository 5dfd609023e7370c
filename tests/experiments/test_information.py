"""Planned and arrived information: the registration says which one counts, and the difference is reported."""

from __future__ import annotations

import pytest
from tests.experiments.examples import RERANKER, frozen, replaced
from tests.experiments.tables import table

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments import registry
from mangaassist.experiments.analysis import Analysis, Look, method_for
from mangaassist.experiments.information import information
from mangaassist.experiments.looks import take_look
from mangaassist.experiments.schema import read_plan
from mangaassist.stats.group_sequential import spending_plan
from mangaassist.storage.ledger import Ledger

ARRIVED = replaced("days: [4, 7, 11, 14]}", "days: [4, 7, 11, 14], information: arrived}")
AT = (4 / 14, 7 / 14, 11 / 14, 1.0)


def look(ledger: Ledger, clock: SimulatedClock, n: int, day: int) -> Analysis:
    frame = table(n, lift=0.01).lazy()
    return take_look(ledger, "reranker-l12", frame, at=clock.now(), actor="dashboard", day=day)[0]


def reported(found: Analysis) -> Verdict:
    return next(one for one in found.verdicts if one.name == "experiment.information")


def test_a_boundary_by_what_arrived_is_the_one_of_these_users() -> None:
    """EXP-5: 3,000 users by day 4 and 4,000 by day 7, then the plan's pace."""
    plan = read_plan(ARRIVED, source="test")
    found = method_for(plan, Look(1, False, users={0: 3000, 1: 4000}), alpha=0.05).boundary
    assert found is not None
    twin = spending_plan(AT, information=[3000, 4000, 4000 * 11 / 7, 4000 * 2])
    assert found.z == pytest.approx(twin.z, abs=1e-9)
    assert found.z[1] != pytest.approx(spending_plan(AT).z[1], abs=1e-3)
    planned = method_for(
        read_plan(RERANKER, source="test"), Look(1, False, users={0: 3000, 1: 4000}), alpha=0.05
    ).boundary
    assert planned is not None
    assert planned.z == spending_plan(AT).z


def test_a_skipped_look_gets_the_users_between_its_neighbours() -> None:
    plan = read_plan(ARRIVED, source="test")
    assert information(plan, {0: 4000, 2: 11_000}) == pytest.approx((4000, 7000, 11_000, 14_000))
    assert information(plan, {1: 7000}) == pytest.approx((4000, 7000, 11_000, 14_000))


@pytest.mark.parametrize(("text", "by"), [(RERANKER, "plan"), (ARRIVED, "users")])
def test_the_difference_is_reported_with_both_levels(
    text: str, by: str, ledger: Ledger, clock: SimulatedClock
) -> None:
    """EXP-5: planned and arrived stand side by side at every look, whichever is read by."""
    frozen(ledger, text, at=clock.now())
    look(ledger, clock, 9_000, 4)
    found = look(ledger, clock, 10_000, 7)
    said = reported(found)
    assert said.threshold == pytest.approx(0.5)
    assert said.value is not None
    assert said.n == 10_000
    assert not said.blocking
    assert said.status is (Status.PASS if abs(said.value - 0.5) <= 0.1 else Status.INSUFFICIENT)
    assert f"it is read by the {by}" in said.sentence
    levels = [
        spending_plan(AT, information=users).bounds[1].nominal_p
        for users in (None, [9_000, 10_000, 10_000 * 11 / 7, 20_000])
    ]
    assert all(f"{level:.3g}" in said.sentence for level in levels)
    boundary = method_for(found.plan, found.look, alpha=0.05).boundary
    assert boundary is not None
    assert boundary.bounds[1].nominal_p == pytest.approx(levels[by == "users"], rel=1e-9)


def test_fewer_users_than_before_are_refused_where_they_count(ledger: Ledger, clock: SimulatedClock) -> None:
    """Bad input: a table that lost users; nothing is recorded."""
    frozen(ledger, ARRIVED, at=clock.now())
    look(ledger, clock, 9_000, 4)
    with pytest.raises(InputError, match=r"more than the 9,000 of look 1.*8,000"):
        look(ledger, clock, 8_000, 7)
    assert len(registry.get(ledger, "reranker-l12").looks) == 1


def test_the_word_is_checked_by_the_schema() -> None:
    with pytest.raises(InputError, match="planned"):
        read_plan(ARRIVED.replace("information: arrived", "information: arived"), source="test")
    planned = "{method: group-sequential, spending: obf, days: [4, 7, 11, 14]}"
    fixed = replaced(planned, "{method: fixed, information: arrived}")
    with pytest.raises(InputError, match="no 'information' with method: fixed"):
        read_plan(fixed, source="test")
