"""Numbers, times and small pictures."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.web.samples import BUSY, CALM, EMPTY, NOW, STORY, curve

from mangaassist.core.verdict import Status, Verdict
from mangaassist.web import charts, wording
from mangaassist.web.view import LanguageView, Measure, concerns, headline

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.9414, "0.941"),
        (-0.071, "−0.071"),
        (0.0004, "<0.001"),
        (-0.0004, ">−0.001"),
        (15, "15"),
        (12.34, "12.3"),
        (1234567.8, "1,234,568"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, text: str) -> None:
    """Issue 2, 9: no scientific notation, a true minus, nothing rounded to a false zero."""
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("back", "text"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=41), "41 s ago"),
        (timedelta(minutes=12, seconds=50), "12 min ago"),
        (timedelta(hours=23, minutes=59), "23 h ago"),
        (timedelta(days=13), "13 d ago"),
        (timedelta(days=37), "15 Feb 2026"),
        (-timedelta(days=3), "in 3 d"),
    ],
)
def test_times_as_people_say_them(back: timedelta, text: str) -> None:
    """Issue 2, 9: relative while that helps, a date beyond."""
    assert wording.ago(NOW - back, NOW) == text


def test_counts_are_spelled() -> None:
    """Issue 2, 9: one entry, two entries."""
    assert wording.counted(1, "entry") == "1 entry"
    assert wording.counted(1204, "entry") == "1,204 entries"
    assert wording.counted(2, "verdict") == "2 verdicts"


@given(FINITE, st.tuples(FINITE, FINITE), st.one_of(st.none(), FINITE))
def test_a_bar_keeps_order_and_bounds(value: float, ends: tuple[float, float], limit: float | None) -> None:
    """Issue 2, 9: whatever the numbers, positions lie on the bar and in the order of the numbers."""
    low, high = sorted(ends)
    bar = charts.verdict_bar(Verdict("x", Status.PASS, "", value, low, high, limit))
    assert bar is not None
    pairs = [(value, bar.value), (low, bar.low), (high, bar.high), (limit, bar.threshold)]
    known = sorted((one, x) for one, x in pairs if one is not None and x is not None)
    assert all(0 <= x <= charts.BAR_WIDTH for _, x in known)
    assert [x for _, x in known] == sorted(x for _, x in known)
    assert charts.verdict_bar(Verdict("x", Status.INSUFFICIENT, "")) is None


@given(st.lists(st.one_of(st.none(), FINITE), max_size=30), st.one_of(st.none(), FINITE))
def test_a_sparkline_stays_in_its_frame(values: list[float | None], limit: float | None) -> None:
    """Issue 2, 9: gaps break the line, points stay inside, too little history gives no picture."""
    points = [(NOW + timedelta(hours=hour), value) for hour, value in enumerate(values)]
    line = charts.sparkline(points, abs(limit) if limit else None, None)
    known = sum(value is not None for value in values)
    assert (line is None) == (known < 2)
    if line is not None:
        drawn = [point.split(",") for segment in line.segments for point in segment.split()]
        assert all(0 <= float(x) <= charts.SPARK_WIDTH for x, _ in drawn)
        assert all(0 <= float(y) <= charts.SPARK_HEIGHT for _, y in drawn)
        assert line.last is not None


def test_a_sparkline_shows_gap_and_run() -> None:
    """Issue 2, 9: half a day without data is a gap, the current run is marked from its start."""
    line = charts.sparkline(curve(1, start=0.03, end=0.33), 0.2, NOW - timedelta(days=3))
    assert line is not None
    assert len(line.segments) == 2
    assert line.over is not None
    assert line.over == pytest.approx(2 + 27 / 29.75 * (charts.SPARK_WIDTH - 8), abs=0.1)


def test_languages_share_one_scale() -> None:
    """Issue 2, 9: dots of different rows can be compared by eye."""
    plot = charts.language_plot(STORY.languages)
    by_value = sorted(plot.dots, key=lambda dot: dot.row.accuracy.value)
    assert [dot.value for dot in by_value] == sorted(dot.value for dot in plot.dots)
    assert [value for _, value in plot.ticks] == [0.2, 0.6, 1.0]
    assert charts.language_plot([LanguageView("en", Measure(0.0, 0.0, 0.1, 3))]).dots[0].value == 5.0
    assert charts.language_plot([LanguageView("en", Measure(1.0))]).dots[0].value == 185.0


def test_the_headline_is_calm_only_when_nothing_is_wrong() -> None:
    """Issue 2, 9: the first sentence of the page is the truth about the whole of it."""
    assert headline(CALM) == (True, "Nothing needs anyone right now.")
    calm, sentence = headline(BUSY)
    assert not calm
    assert "input drift has fired, 1 promotion verdict fails, a retraining proposal is open" in sentence
    assert "Shadow traffic is not in the usual position" in sentence
    assert headline(replace(EMPTY, problem="The catalog is unreachable.")) == (
        False,
        "The catalog is unreachable.",
    )
    broken = replace(CALM, ledger=replace(CALM.ledger, verified=False, problem="entry 7 was changed"))
    assert headline(broken) == (False, "The ledger's chain is broken: entry 7 was changed")


def test_concerns_name_what_to_look_at() -> None:
    """Issue 2, 9: an accuracy under its floor is a concern; a finding that only informs is not."""
    low = LanguageView("ja", Measure(0.2, 0.1, 0.3, 50), floor=0.3)
    informs = Verdict("slice.x", Status.FAIL, "", blocking=False)
    group = replace(STORY.verdicts[0], verdicts=(informs,))
    quiet = replace(STORY, drift=(), proposal="", verdicts=(group,), languages=(low,))
    assert concerns(quiet) == ("accuracy in ja is under its floor",)
    assert concerns(CALM.stories[0]) == ()
