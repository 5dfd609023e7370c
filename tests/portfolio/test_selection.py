"""The choice is the best there is: against every subset, and at the size of five teams."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.portfolio import selection
from mangaassist.portfolio.selection import Item, Problem, Resource, Selection, solve

SLOT: Resource = ("slots", "all")


def feasible(problem: Problem, chosen: tuple[Item, ...]) -> bool:
    names = {item.name for item in chosen}
    used = {key: sum(item.loads.get(key, 0.0) for item in chosen) for key in problem.capacity}
    return (
        all(used[key] <= problem.capacity[key] + 1e-9 for key in used)
        and all(need in names for name in names for need in problem.needs.get(name, ()))
        and not any(pair <= names for pair in problem.excludes)
        and len(names & problem.swing) >= problem.least_swing
        and problem.required <= names
    )


def brute_force(problem: Problem) -> float | None:
    """The slow, obvious twin: try every subset."""
    worths = [
        sum(item.value for item in chosen)
        for size in range(len(problem.items) + 1)
        for chosen in combinations(problem.items, size)
        if feasible(problem, chosen)
    ]
    return max(worths, default=None)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    n = draw(st.integers(1, 9))
    names = [f"c{i}" for i in range(n)]
    items = []
    for name in names:
        loads: dict[Resource, float] = {SLOT: 1.0}
        loads["weeks", draw(st.sampled_from(["x", "y"]))] = float(draw(st.integers(1, 12)))
        for kind in draw(st.sets(st.sampled_from(["home", "search"]))):
            loads["traffic", kind] = draw(st.sampled_from([0.3, 0.5, 1.0]))
        items.append(Item(name, float(draw(st.integers(0, 30))), loads))
    capacity: dict[Resource, float] = {SLOT: float(draw(st.integers(1, n))), ("traffic", "home"): 1.0}
    capacity |= {
        ("weeks", "x"): float(draw(st.integers(1, 30))),
        ("weeks", "y"): 14.0,
        ("traffic", "search"): 1.0,
    }
    # Needs point backwards, so that there is no circle.
    needs = {
        name: tuple(draw(st.sets(st.sampled_from(names[:i]), max_size=1)))
        for i, name in enumerate(names)
        if i
    }
    pairs = (
        draw(st.sets(st.frozensets(st.sampled_from(names), min_size=2, max_size=2), max_size=3))
        if n > 1
        else set()
    )
    swing = frozenset(draw(st.sets(st.sampled_from(names))))
    required = frozenset(draw(st.sets(st.sampled_from(names), max_size=1)))
    return Problem(tuple(items), capacity, needs, pairs, swing, draw(st.integers(0, 2)), required)


@settings(max_examples=250, deadline=None)
@given(problems())
def test_the_choice_is_the_best_of_all_subsets(problem: Problem) -> None:
    """POR-1: an exact optimisation with capacity, dependencies, exclusions and reserved slots."""
    best, found = brute_force(problem), solve(problem)
    if best is None:
        assert found is None
        return
    assert found is not None
    chosen = tuple(item for item in problem.items if item.name in found.names)
    assert feasible(problem, chosen)
    assert found.value == pytest.approx(best)
    assert sum(item.value for item in chosen) == pytest.approx(found.value)


@settings(max_examples=100, deadline=None)
@given(problems(), st.data())
def test_forcing_and_forbidding_are_the_same_as_other_problems(problem: Problem, data: st.DataObject) -> None:
    """POR-1: margins come from solving again."""
    name = data.draw(st.sampled_from([item.name for item in problem.items]))
    forced = solve(problem, forced={name})
    forbidden = solve(problem, forbidden={name})
    values = [one.value for one in (forced, forbidden) if one is not None]
    found = solve(problem)
    assert (found.value if found else None) == pytest.approx(max(values, default=None))
    assert forced is None or name in forced.names
    assert forbidden is None or name not in forbidden.names


def test_the_densest_are_not_the_best() -> None:
    """POR-1: sorting by worth per week would take b and c and leave six weeks idle."""
    weeks = {"a": 10.0, "b": 4.0, "c": 3.0}
    worth = {"a": 60.0, "b": 28.0, "c": 20.0}
    items = tuple(Item(name, worth[name], {SLOT: 1.0, ("weeks", "x"): weeks[name]}) for name in "abc")
    assert solve(Problem(items, {SLOT: 2.0, ("weeks", "x"): 10.0})) == Selection(("a",), 60.0)


def test_ties_take_fewer_weeks_and_then_the_order_of_the_file() -> None:
    def item(name: str, weeks: float) -> Item:
        return Item(name, 5.0, {SLOT: 1.0, ("weeks", "x"): weeks})

    capacity = {SLOT: 1.0, ("weeks", "x"): 9.0}
    found = solve(Problem((item("a", 4.0), item("b", 3.0), item("c", 3.0)), capacity))
    assert found is not None
    assert found.names == ("b",)


def test_worthless_candidates_are_left_out_unless_something_needs_them() -> None:
    items = (Item("idle", 0.0, {SLOT: 1.0}), Item("base", 0.0, {SLOT: 1.0}), Item("top", 5.0, {SLOT: 1.0}))
    found = solve(Problem(items, {SLOT: 3.0}, {"top": ("base",)}))
    assert found is not None
    assert found.names == ("base", "top")


def test_fifty_candidates_of_five_teams_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """POR-1: a company's quarter, against the integer programme of another solver, in few branches."""
    monkeypatch.setattr(selection, "_MOST_NODES", 20_000)
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    for seed in range(6):
        generator = np.random.default_rng(seed)
        weeks = generator.integers(3, 25, 50).astype(float)
        worth, team = generator.lognormal(0, 1, 50) * weeks, generator.integers(0, 5, 50)
        items = tuple(
            Item(f"c{i}", float(worth[i]), {SLOT: 1.0, ("weeks", str(team[i])): float(weeks[i])})
            for i in range(50)
        )
        capacity = {SLOT: 15.0} | {("weeks", str(one)): 40.0 for one in range(5)}
        found = solve(Problem(items, capacity))
        rows = np.vstack([np.ones(50), *[np.where(team == one, weeks, 0) for one in range(5)]])
        other = milp(
            -worth,
            constraints=LinearConstraint(rows, -np.inf, [15.0] + [40.0] * 5),
            integrality=np.ones(50),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )
        assert found is not None
        assert found.value == pytest.approx(-other.fun)


def test_conditions_nothing_can_meet_are_seen_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """POR-1: no swing bet, or required items that exclude each other, do not cost an enumeration."""
    monkeypatch.setattr(selection, "_MOST_NODES", 100)
    items = tuple(Item(f"c{i}", 1.0, {SLOT: 1.0}) for i in range(40))
    assert solve(Problem(items, {SLOT: 20.0}, least_swing=1)) is None
    pair = {frozenset({"c0", "c1"})}
    assert solve(Problem(items, {SLOT: 20.0}, excludes=pair, required=frozenset({"c0", "c1"}))) is None


def test_a_problem_beyond_exactness_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_MOST_NODES", 50)
    items = tuple(Item(f"c{i}", 1.0, {("weeks", "x"): 1.0}) for i in range(20))
    with pytest.raises(InputError, match="Rank the teams apart"):
        solve(Problem(items, {("weeks", "x"): 10.0}))
