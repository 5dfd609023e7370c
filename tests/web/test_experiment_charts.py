"""Geometry of the experiment pictures: in the frame, in order, and in agreement with the verdicts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.core.verdict import Status, Verdict
from mangaassist.web import experiment_charts as charts
from mangaassist.web.calibration_view import BinView, MeasureRow, Target, Unit
from mangaassist.web.experiment_view import EffectGroup, EffectRow, EffectsView, GuardRow
from mangaassist.web.look_view import Boundary, Observation, Span
from mangaassist.web.wording import change, p_value, points, signed

LIFT = st.floats(-0.9, 5.0)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    value = draw(LIFT)
    low, high = (draw(st.one_of(st.none(), st.floats(0, 50))) for _ in range(2))
    return Span(value, None if low is None else value - low, None if high is None else value + high)


@st.composite
def effects(draw: st.DrawFn) -> EffectsView:
    rows = [
        EffectRow(
            "x", dimension, 9, 1.0, 1.0, draw(spans()), 0.5, significant=False,
            threshold=-0.03 if dimension else None, pooled=draw(st.one_of(st.none(), LIFT)),
        )
        for dimension in ("", "locale", "locale")
    ]  # fmt: skip
    return EffectsView("m", "higher", True, 0.03, (EffectGroup("treatment", tuple(rows)),))


@given(effects())
def test_effects_share_one_scale_and_keep_their_order(view: EffectsView) -> None:
    """Issue 6, 8: rows can be compared by eye; what is cut says so; values and limits are never cut."""
    plot = charts.effect_plot(view)
    ((_, marks),) = plot.groups
    pairs = [(0.0, plot.zero), (view.mde, plot.mde), *((value, x) for x, value in plot.ticks)]
    for mark in marks:
        lift, whisker = mark.row.lift, mark.whisker
        pairs.append((lift.value, whisker.value))
        if mark.threshold is not None and mark.row.threshold is not None:
            pairs.append((mark.row.threshold, mark.threshold))
        if whisker.low is not None and whisker.high is not None:
            assert whisker.low <= whisker.value <= whisker.high
        assert (whisker.low is None) == (lift.low is None and lift.high is None)
        if lift.low is None and lift.high is not None:
            assert whisker.cut_low
        for end, x, cut in (
            (lift.low, whisker.low, whisker.cut_low),
            (lift.high, whisker.high, whisker.cut_high),
        ):
            if end is not None and not cut and x is not None:
                pairs.append((end, x))
    assert all(0 <= x <= charts.EFFECT_WIDTH for _, x in pairs)
    assert [x for _, x in sorted(pairs)] == sorted(x for _, x in pairs)
    assert 2 <= len(plot.ticks) <= 12


def guard(value: float, limit: float, low: float | None = None, high: float | None = None) -> GuardRow:
    return GuardRow(
        "g", "treatment", "harm", limit, True, Verdict("g", Status.PASS, "", value, low, high, limit)
    )


@given(
    st.lists(st.tuples(st.floats(-0.5, 0.5), st.sampled_from([-0.01, 0.05, -0.03])), min_size=1, max_size=6)
)
def test_harm_beyond_a_limit_lies_left_of_it(found: list[tuple[float, float]]) -> None:
    """GRD-1: guardrails of any unit and direction stand on one scale, harm to the left of one limit."""
    rows = [guard(value, limit, value - 0.01, value + 0.02) for value, limit in found]
    marks = [mark for _, mark in charts.guard_marks(rows) if mark is not None]
    assert len(marks) == len(rows)
    assert len({(mark.limit, mark.zero) for mark in marks}) == 1
    for mark, (value, limit) in zip(marks, found, strict=True):
        beyond = value < limit if limit < 0 else value > limit
        assert mark.whisker.value <= mark.limit if beyond else mark.whisker.value >= mark.limit
        assert mark.whisker.low is not None
        assert mark.whisker.high is not None
        assert 0 <= mark.whisker.low <= mark.whisker.value <= mark.whisker.high <= charts.GUARD_WIDTH


def test_a_guardrail_without_a_number_has_no_picture() -> None:
    """GRD-1: before the first look, and for a limit of 0, there is nothing to draw."""
    missing = GuardRow("g", "t", "harm", -0.01, True)
    assert [mark for _, mark in charts.guard_marks([missing, guard(0.1, 0.0)])] == [None, None]
    unbounded = charts.guard_marks([guard(0.01, 0.05, None, 0.02)])[0][1]
    assert unbounded is not None
    assert unbounded.whisker.cut_high
    assert not unbounded.whisker.cut_low


GATES = ((0.25, 4.0, "Day 4"), (0.5, 3.0, "Day 7"), (1.0, 2.0, "Day 14"))


@given(st.lists(st.floats(-12, 12), min_size=1, max_size=3))
def test_a_point_is_beyond_its_gate_exactly_when_it_crossed(values: list[float]) -> None:
    """EXP-5: what the picture shows as crossed is what the plan calls crossed."""
    seen = tuple(Observation(at, z, abs(z) >= gate) for z, (at, gate, _) in zip(values, GATES, strict=False))
    plot = charts.boundary_plot(Boundary("t", False, GATES, tuple((x, z) for x, z, _ in GATES), seen))
    for one, gate, z in zip(plot.seen, plot.gates, values, strict=False):
        assert 0 <= one.x <= charts.LOOKS_WIDTH
        assert 0 <= one.y <= charts.LOOKS_HEIGHT
        assert gate.upper < plot.zero < gate.lower
        if one.crossed:
            assert one.y <= gate.upper if z > 0 else one.y >= gate.lower
        else:
            assert gate.upper <= one.y <= gate.lower
        assert one.x == gate.x
    assert len(plot.upper.split()) == len(GATES)
    assert plot.win
    assert plot.harm


def test_labels_under_the_axis_do_not_overlap() -> None:
    """Issue 6, 8: a hundred looks have as many labels as there is room for, the last one among them."""
    gates = tuple((at / 100, 3.0, f"{at}%") for at in range(1, 101))
    plot = charts.boundary_plot(Boundary("t", False, gates, tuple((x, z) for x, z, _ in gates)))
    kept = charts.labels_apart(plot.gates)
    assert kept[-1].title == "100%"
    assert all(b.x - a.x >= 44 for a, b in pairwise(kept))
    assert len(charts.labels_apart(plot.gates[:1])) == 1


def measure(value: float, threshold: float | None, unit: Unit, target: Target) -> MeasureRow:
    found = Verdict("audit.x", Status.PASS, "", value, value - 0.1, value + 0.1, threshold, 9)
    return MeasureRow("x", "X", unit, target, found, found)


def test_a_gap_has_to_stay_within_two_limits() -> None:
    """POR-2: "within ten points" is drawn as two limits about 0, a share on 0 to 1, no cases not at all."""
    gap = charts.audit_bar(measure(-0.2, 0.1, "points", "within"))
    assert gap is not None
    assert len(gap.limits) == 2
    assert gap.whisker.value < gap.limits[0] < gap.limits[1]
    assert sum(gap.limits) == pytest.approx(charts.BAR_WIDTH, abs=0.2)
    share = charts.audit_bar(measure(0.5, 1.0, "share", "at least"))
    assert share is not None
    assert share.whisker.value == pytest.approx(charts.BAR_WIDTH / 2)
    nothing = Verdict("audit.x", Status.INSUFFICIENT, "")
    assert charts.audit_bar(MeasureRow("x", "X", "share", "at least", nothing, nothing)) is None


def test_what_was_realised_as_stated_lies_on_the_diagonal() -> None:
    """POR-2: the square is drawn upwards in the share that won."""
    low, high = charts.reliability_marks(
        [BinView(0.0, Span(0.0, 0.0, 0.4), 5), BinView(1.0, Span(1.0, 0.6, 1.0), 5)]
    )
    assert (low.x, low.y) == (30, 190)
    assert (high.x, high.y) == (210, 10)
    assert low.high < low.low


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (change(0.0602), "+6.02%"),
        (change(-0.0143), "−1.43%"),
        (change(-0.138), "−13.8%"),
        (change(None), "–"),
        (signed(0.5), "+0.500"),
        (signed(-0.5), "−0.500"),
        (p_value(0.0004), "<0.001"),
        (p_value(0.0412), "0.041"),
        (p_value(0.41), "0.41"),
        (points(0.124), "+12"),
        (points(-0.124), "−12"),
        (points(-0.001), "0"),
    ],
)
def test_changes_and_p_values_as_people_read_them(text: str, expected: str) -> None:
    """Issue 6, 8: a true minus, a sign where it matters, never a p-value of 0."""
    assert text == expected
