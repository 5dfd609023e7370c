"""Circles are found, and what has none has an order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mangaassist.portfolio.graph import circle, waves

NAMES = "abcdef"
graphs = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES + "z"), max_size=3).map(tuple), max_size=6
)


def reaches(waits: dict[str, tuple[str, ...]], start: str, goal: str) -> bool:
    seen: set[str] = set()
    left = list(waits.get(start, ()))
    while left:
        name = left.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            left += waits.get(name, ())
    return False


@given(graphs)
def test_a_circle_is_found_exactly_when_a_name_reaches_itself(waits: dict[str, tuple[str, ...]]) -> None:
    """POR-1: the dependency graph."""
    found = circle(waits)
    assert bool(found) == any(reaches(waits, name, name) for name in waits)
    if found:
        assert found[0] == found[-1]
        assert all(second in waits[first] for first, second in pairwise(found))


@given(graphs)
def test_waves_wait_only_for_earlier_ones(waits: dict[str, tuple[str, ...]]) -> None:
    if circle(waits):
        return
    order = waves(waits)
    assert sorted(name for wave in order for name in wave) == sorted(waits)
    done: set[str] = set()
    for wave in order:
        assert all(needed in done or needed not in waits for name in wave for needed in waits[name])
        done |= set(wave)
