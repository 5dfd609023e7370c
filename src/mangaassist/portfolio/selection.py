"""The best set of candidates under capacity: exact, by branch and bound.

Source: Kolesar (1967), Management Science 13, 723-735, with the bound of Dantzig (1957) taken per family of
resources; the smallest of the families' bounds holds for all of them together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mangaassist.core.errors import InputError

Resource = tuple[str, str]

_SLACK = 1e-9
_MOST_NODES = 1_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be chosen.

    Attributes:
        name: unique.
        value: what choosing it is worth, 0 or more.
        loads: how much of each resource it takes; a resource is a family ("weeks") and a member ("search").
    """

    name: str
    value: float
    loads: Mapping[Resource, float]


@dataclass(frozen=True, slots=True)
class Problem:
    """What may be chosen together.

    Attributes:
        items: in a fixed order, which breaks ties.
        capacity: how much there is of each resource that has a limit.
        needs: per item the items it cannot go without.
        excludes: pairs that cannot go together.
        swing: items that count as swing bets.
        least_swing: how many swing bets must be chosen.
        required: items that must be chosen.
    """

    items: tuple[Item, ...]
    capacity: Mapping[Resource, float]
    needs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    excludes: Collection[frozenset[str]] = ()
    swing: frozenset[str] = frozenset()
    least_swing: int = 0
    required: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Selection:
    """The best choice.

    Attributes:
        names: chosen, in the problem's order.
        value: their values added up.
    """

    names: tuple[str, ...]
    value: float


def solve(
    problem: Problem, *, forced: Collection[str] = (), forbidden: Collection[str] = ()
) -> Selection | None:
    """The choice with the greatest value, the least load among equals, the earliest items among those.

    Args:
        forced: items that must be chosen this time, beside ``problem.required``.
        forbidden: items that must not.

    Returns:
        None when nothing satisfies the conditions.

    Raises:
        InputError: for a problem too large to be solved exactly.
    """
    search = _Search(problem, {*problem.required, *forced}, set(forbidden))
    search.branch(0, 0.0)
    if search.best is None:
        return None
    return Selection(tuple(one.name for one in problem.items if one.name in search.best), search.value)


class _Search:
    """Depth first over the items, densest first, so that good choices are found early and prune the rest."""

    def __init__(self, problem: Problem, must: set[str], never: set[str]) -> None:
        self.problem, self.must = problem, must
        free = [item for item in problem.items if item.name not in never]
        # What must be chosen comes first: the bound then knows what room it leaves.
        self.items = sorted(free, key=lambda item: (item.name not in must, -_density(item, problem.capacity)))
        self.depth_of = {item.name: depth for depth, item in enumerate(self.items)}
        self.place = {item.name: index for index, item in enumerate(problem.items)}
        self.left = dict(problem.capacity)
        self.families = _families(self.items, problem.capacity)
        self.swing_ahead = self._swing_ahead()
        names = [item.name for item in problem.items]
        self.excluded_by = {
            name: frozenset().union(*(x for x in problem.excludes if name in x)) for name in names
        }
        self.wanted_by = {
            name: {one for one, needs in problem.needs.items() if name in needs} for name in names
        }
        self.chosen: set[str] = set()
        self.best: frozenset[str] | None = None
        self.value = -1.0
        self.key: tuple[float, tuple[int, ...]] = (0.0, ())
        self.nodes = 0

    def branch(self, depth: int, value: float) -> None:
        """Everything that can follow the choices made above ``depth``."""
        self._count()
        if depth == len(self.items):
            self._finish(value)
            return
        if self.best is not None and value + self._bound(depth) < self.value - _slack(self.value):
            return
        if len(self.chosen & self.problem.swing) + self.swing_ahead[depth] < self.problem.least_swing:
            return
        item = self.items[depth]
        if self._fits(item, depth):
            self._take(item, -1.0)
            self.branch(depth + 1, value + item.value)
            self._take(item, 1.0)
        if item.name not in self.must and not self.wanted_by[item.name] & self.chosen:
            self.branch(depth + 1, value)

    def _count(self) -> None:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise InputError(
                "portfolio",
                expected="a choice small enough to be exact",
                got=f"{len(self.items)} candidates with more than {_MOST_NODES:,} branches",
                next_step="Rank the teams apart, or raise week_worth so that fewer candidates compete.",
            )

    def _take(self, item: Item, sign: float) -> None:
        """Choose an item (-1) or put it back (+1)."""
        for resource, load in item.loads.items():
            if resource in self.left:
                self.left[resource] += sign * load
        (self.chosen.add if sign < 0 else self.chosen.discard)(item.name)

    def _swing_ahead(self) -> list[int]:
        """Per depth how many swing bets can still be chosen."""
        found = [0]
        for item in reversed(self.items):
            found.append(found[-1] + (item.name in self.problem.swing))
        return found[::-1]

    def _fits(self, item: Item, depth: int) -> bool:
        """Whether there is room, nothing chosen excludes it, and nothing it needs was left out."""
        for need in self.problem.needs.get(item.name, ()):
            if need not in self.chosen and self.depth_of.get(need, -1) < depth:
                return False
        if self.excluded_by[item.name] & self.chosen:
            return False
        return all(
            load <= self.left[resource] + _SLACK
            for resource, load in item.loads.items()
            if resource in self.left
        )

    def _bound(self, depth: int) -> float:
        """No completion from here is worth more than this."""
        bounds = (family.bound(depth, self.left) for family in self.families)
        return min(bounds, default=sum(item.value for item in self.items[depth:]))

    def _finish(self, value: float) -> None:
        names = self.chosen
        if not self.must <= names or len(names & self.problem.swing) < self.problem.least_swing:
            return
        load = sum(sum(self.items[self.depth_of[name]].loads.values()) for name in names)
        key = (round(load, 9), tuple(sorted(self.place[name] for name in names)))
        better = value > self.value + _slack(value)
        if self.best is None or better or (value > self.value - _slack(value) and key < self.key):
            self.best, self.value, self.key = frozenset(names), value, key


@dataclass(frozen=True, slots=True)
class _Family:
    """Resources of which every item uses at most one, so that their relaxations add up.

    Attributes:
        free: (depth, value) of items that use none of them.
        ordered: per resource (depth, load, value), densest first.
    """

    free: tuple[tuple[int, float], ...]
    ordered: Mapping[Resource, tuple[tuple[int, float, float], ...]]

    def bound(self, depth: int, left: Mapping[Resource, float]) -> float:
        total = sum(value for place, value in self.free if place >= depth)
        for resource, items in self.ordered.items():
            room = left[resource]
            for place, load, value in items:
                if place < depth:
                    continue
                if load > room:
                    total += value * max(room, 0.0) / load
                    break
                room -= load
                total += value
        return total


def _families(items: Sequence[Item], capacity: Mapping[Resource, float]) -> list[_Family]:
    grouped: dict[str, list[Resource]] = {}
    for resource in capacity:
        shared = any(
            len([one for one in item.loads if one[0] == resource[0] and item.loads[one] > 0]) > 1
            for item in items
        )
        # A family of which one item uses two members does not add up: each member bounds on its own.
        grouped.setdefault("/".join(resource) if shared else resource[0], []).append(resource)
    return [_family(items, members) for members in grouped.values()]


def _family(items: Sequence[Item], members: list[Resource]) -> _Family:
    ordered: dict[Resource, list[tuple[int, float, float]]] = {member: [] for member in members}
    free = []
    for place, item in enumerate(items):
        used = [member for member in members if item.loads.get(member, 0.0) > 0]
        if not used:
            free.append((place, item.value))
        for member in used:
            ordered[member].append((place, item.loads[member], item.value))
    by_density = {
        member: tuple(sorted(rows, key=lambda row: -row[2] / row[1])) for member, rows in ordered.items()
    }
    return _Family(tuple(free), by_density)


def _density(item: Item, capacity: Mapping[Resource, float]) -> float:
    used = sum(load / capacity[one] for one, load in item.loads.items() if capacity.get(one, 0.0) > 0)
    return item.value / used if used else float("inf")


def _slack(value: float) -> float:
    return _SLACK * max(1.0, abs(value))
