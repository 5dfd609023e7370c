"""References, profiles and windows."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.drift.frames import LABELS, START, reference, traffic

from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.core.story import DriftPolicy, Story
from mangaassist.drift.profile import empty_profile, merge_profiles
from mangaassist.drift.reference import Reference, fit_reference
from mangaassist.drift.windows import Window, merge_windows, outcome_windows, request_windows

DAY = timedelta(days=1)


def test_reference_is_small_and_survives_its_artifact_file() -> None:
    """DRF-4: stored with the version, read back equal, compact, with the thresholds of its day (DRF-2)."""
    story = Story("intent", "text-classification", "x", drift=DriftPolicy(input_psi=0.31))
    fitted = reference(story=story)
    data = fitted.to_bytes()
    assert Reference.from_bytes(data) == fitted
    assert fitted.policy.input_psi == 0.31
    assert len(data) < 8_000
    assert fitted.profile.rows == fitted.profile.labelled == 8000


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"format": 2}', b"\xff"])
def test_a_damaged_reference_is_refused(data: bytes) -> None:
    """DRF-4: no half-read baseline."""
    with pytest.raises(IntegrityError, match="Register the version again"):
        Reference.from_bytes(data)


def test_any_flipped_structure_is_refused() -> None:
    """DRF-4: counts that do not fit their bins are noticed."""
    data = reference().to_bytes().replace(b'"values":["web"', b'"values":["tv","web"')
    with pytest.raises(IntegrityError):
        Reference.from_bytes(data)


def test_unlabelled_rows_do_not_count_as_labels() -> None:
    """DRF-1: label and concept look at known labels alone."""
    frame = traffic(100, seed=3).with_columns(
        truth=pl.when(pl.int_range(100) < 40).then("truth").otherwise(None)
    )
    profile = fit_reference(Story("s", "k", "p"), frame, at=START).profile
    assert (profile.rows, profile.labelled, sum(profile.truth.counts)) == (100, 40, 40)


def test_missing_columns_name_the_nearest() -> None:
    """DRF-1: a renamed column is one clear sentence, not a silent absence."""
    frame = traffic(10, seed=1)
    with pytest.raises(InputError, match="'confidense'"):
        fit_reference(Story("s", "k", "p"), frame.rename({"confidence": "confidense"}), at=START)
    with pytest.raises(InputError, match="column 'text_length'"):
        request_windows(reference(), frame.drop("text_length"))
    with pytest.raises(InputError, match="at least one row"):
        fit_reference(Story("s", "k", "p"), frame.clear(), at=START)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.integers(0, 10_000), st.sampled_from([5, 60, 1440]))
def test_windows_merge_to_the_whole(rows: int, seed: int, minutes: int) -> None:
    """DRF-4: five-minute, hourly and daily windows all merge to exactly the same profile."""
    fitted = REFERENCE
    frame = traffic(rows, seed=seed, lasts=timedelta(hours=30))
    every = timedelta(minutes=minutes)
    requests = request_windows(fitted, frame, every=every)
    outcomes = outcome_windows(fitted, frame, every=every)
    blank = empty_profile(fitted.profile)
    merged = merge_profiles([blank, *(window.profile for window in [*requests, *outcomes])])
    again = fit_reference(Story("s", "k", "p"), frame, at=START)
    assert merged.rows == merged.labelled == rows
    assert merged == merge_profiles(
        [blank, *(w.profile for w in [*request_windows(fitted, frame), *outcome_windows(fitted, frame)])]
    )
    if set(again.profile.confusion.labels) == set(LABELS):
        assert merged.confusion.cells == dict(sorted(again.profile.confusion.cells.items()))


REFERENCE = reference()


def test_windows_are_aligned_and_ordered() -> None:
    """DRF-2: each row lies in its own five minutes; empty minutes give no window."""
    frame = pl.concat(
        [traffic(50, seed=1), traffic(50, seed=2, start=START + timedelta(hours=5, minutes=2))]
    ).sample(fraction=1.0, shuffle=True, seed=4)
    windows = request_windows(REFERENCE, frame)
    assert [one.start for one in windows] == sorted(one.start for one in windows)
    for window in windows:
        inside = frame.filter((pl.col("at") >= window.start) & (pl.col("at") < window.end))
        assert window.profile.rows == inside.height > 0
        assert window.start.minute % 5 == 0
        assert window.end - window.start == timedelta(minutes=5)
    whole = merge_windows(windows)
    assert (whole.start, whole.end) == (windows[0].start, windows[-1].end)
    assert request_windows(REFERENCE, frame.clear()) == []


def test_outcomes_are_placed_by_when_they_became_known() -> None:
    """DRF-1: a label changes nothing before it was known."""
    windows: list[Window] = outcome_windows(REFERENCE, traffic(60, seed=5))
    assert windows[0].start >= START + DAY
    assert sum(window.profile.labelled for window in windows) == 60
    assert all(window.profile.rows == 0 for window in windows)


def test_an_unknown_label_is_counted_apart() -> None:
    """DRF-1: a label the reference never saw is neither dropped nor an error."""
    frame = traffic(20, seed=6).with_columns(truth=pl.lit("gift_wrap"))
    merged = merge_windows(outcome_windows(REFERENCE, frame)).profile
    assert merged.truth.counts[-1] == merged.labelled == 20


def test_profiles_of_different_references_do_not_merge() -> None:
    """DRF-4: bins, columns and labels must be the reference's."""
    with pytest.raises(InputError):
        merge_profiles([REFERENCE.profile, reference(seed=9).profile])
    with pytest.raises(InputError, match="at least one"):
        merge_profiles([])
