"""Splits: whole groups, strict in time, no text on both sides, the same every time."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import START
from tests.training.examples import labelled_examples

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_text
from mangaassist.training.splits import FOLDS, assign_folds, fold_rows, leaks, split


def frame_of(rows: list[tuple[str, str, str, int]]) -> pl.DataFrame:
    """Rows of (text, label, group, hour)."""
    return pl.DataFrame(
        {
            "example_id": [f"e{i}" for i in range(len(rows))],
            "text": [row[0] for row in rows],
            "label": [row[1] for row in rows],
            "group_id": [row[2] for row in rows],
            "captured_at": [START + timedelta(hours=row[3]) for row in rows],
        },
        schema_overrides={"captured_at": pl.Datetime("us", "UTC")},
    )


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "B", "b", "c c", "C  C", "d", "e", "f", "g", "h"]),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from([f"g{i}" for i in range(12)]),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=60,
)


@given(rows=ROWS, seed=st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_nothing_leaks(rows: list[tuple[str, str, str, int]], seed: int) -> None:
    """TRN-2: whatever the rows, no group and no text is on both sides and nothing in train is later."""
    frame = frame_of(rows)
    made = split(frame, seed=seed, has_golden=False)
    assert leaks(made.train, made.test, cut_off=made.report.cut_off) == ()
    if made.report.cut_off is not None and made.test.height:
        assert made.test["captured_at"].min() > made.report.cut_off >= made.train["captured_at"].max()
    put = made.train.height + made.test.height
    assert put + made.report.embargoed_groups + made.report.embargoed_texts == frame.height


@given(rows=ROWS, seed=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_folds_hold_out_groups_and_texts(rows: list[tuple[str, str, str, int]], seed: int) -> None:
    """TRN-2: every row is held out once, by rows that share neither its group nor its text."""
    frame = frame_of(rows)
    made = split(frame, seed=seed, has_golden=True)
    texts, groups = frame["text"].to_list(), frame["group_id"].to_list()
    held_out = []
    for train, held in fold_rows(made.folds, texts):
        assert not {groups[i] for i in train} & {groups[i] for i in held}
        assert not {canonical_text(texts[i]) for i in train} & {canonical_text(texts[i]) for i in held}
        held_out += held.tolist()
    assert sorted(held_out) == list(range(frame.height))


def test_a_golden_set_costs_no_training_row() -> None:
    """TRN-2: with a golden set nothing is carved out."""
    frame = labelled_examples()
    made = split(frame, seed=1, has_golden=True)
    assert made.train.equals(frame)
    assert made.test.height == 0
    assert made.report.method == "golden"


def test_the_latest_groups_are_the_test() -> None:
    """TRN-2: about 15% of the rows, all after the cut-off; a group active on both sides is embargoed."""
    rows = [(f"text {i}", "xy"[i % 2], f"g{i // 2}", i) for i in range(100)]
    rows += [("early words of a late group", "x", "g49", 3)]
    made = split(frame_of(rows), seed=1, has_golden=False)
    assert made.report.method == "time"
    assert 0.10 <= made.test.height / len(rows) <= 0.20
    assert made.report.embargoed_groups == 1
    assert set(made.test["group_id"]) == {f"g{i}" for i in range(43, 50)}


def test_a_text_in_train_does_not_judge() -> None:
    """TRN-2: spelling variants of one text count as the same text."""
    rows = [(f"text {i}", "x", f"g{i}", i) for i in range(20)]
    rows[-1] = ("ＴＥＸＴ  3", "x", "g19", 19)
    made = split(frame_of(rows), seed=1, has_golden=False)
    assert made.report.embargoed_texts == 1
    assert "ＴＥＸＴ  3" not in made.test["text"].to_list()


def test_uncertain_lots_do_not_judge() -> None:
    """LAB-4: rows kept out of hold-outs are in neither side of the test, and counted."""
    rows = [(f"text {i}", "x", f"g{i}", i) for i in range(100)]
    frame = frame_of(rows).with_columns(holdout_eligible=pl.Series([i % 2 == 0 for i in range(100)]))
    made = split(frame, seed=1, has_golden=False)
    assert made.test["holdout_eligible"].all()
    assert made.report.not_eligible > 0
    assert made.train.height + made.test.height + made.report.not_eligible == 100


def test_without_usable_times_whole_groups_are_drawn() -> None:
    """TRN-2: a file imported without a time column; the report says how it was split."""
    rows = [(f"text {i}", "xy"[i % 2], f"g{i}", 0) for i in range(100)]
    made = split(frame_of(rows), seed=1, has_golden=False)
    assert made.report.method == "groups"
    assert made.report.cut_off is None
    assert 10 <= made.test.height <= 20
    assert set(made.test["label"]) == {"x", "y"}
    assert split(frame_of(rows), seed=1, has_golden=False).test.equals(made.test)
    assert not split(frame_of(rows), seed=2, has_golden=False).test.equals(made.test)


def test_a_label_seen_only_in_the_test_is_reported() -> None:
    rows = [(f"text {i}", "new" if i == 99 else "old", f"g{i}", i) for i in range(100)]
    assert split(frame_of(rows), seed=1, has_golden=False).report.unseen_labels == ("new",)


def test_the_leak_check_finds_each_kind() -> None:
    """TRN-2: the check used above can fail, and names what it found."""
    train = frame_of([("same text", "x", "g1", 5), ("other", "x", "g2", 1)])
    test = frame_of([("Same  Text", "x", "g3", 9), ("new", "x", "g2", 9)])
    found = leaks(train, test, cut_off=START + timedelta(hours=4))
    assert [(leak.kind, leak.count, leak.example) for leak in found] == [
        ("group", 1, "g2"),
        ("text", 1, "same text"),
        ("time", 1, "e0"),
    ]


def test_folds_spread_every_label_and_ignore_row_order() -> None:
    groups = [f"g{i}" for i in range(60)]
    labels = ["rare" if i < 6 else "common" for i in range(60)]
    folds = assign_folds(groups, labels, seed=4)
    assert [np.sum(folds[:6] == fold) for fold in range(FOLDS)] == [2, 2, 2]
    backwards = assign_folds(groups[::-1], labels[::-1], seed=4)[::-1]
    assert np.array_equal(folds, backwards)
    assert not np.array_equal(folds, assign_folds(groups, labels, seed=5))


def test_bad_frames_are_refused() -> None:
    with pytest.raises(InputError, match="no group_id, captured_at"):
        split(labelled_examples().drop("group_id", "captured_at"), seed=0, has_golden=True)
    with pytest.raises(InputError, match="at least one labelled example"):
        split(labelled_examples().clear(), seed=0, has_golden=True)


def test_the_report_is_json() -> None:
    body = split(labelled_examples(), seed=0, has_golden=False).report.as_dict()
    assert body["cut_off"] is None or body["cut_off"].endswith("Z")
    assert set(body) >= {"method", "train", "test", "embargoed_groups", "embargoed_texts", "seed"}
