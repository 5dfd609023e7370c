"""Data validation says whether a model can be trained and judged at all."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from tests.labels.rows import POLICY, STORY, example, examples, labels, vote

from mangaassist.core.verdict import Status, Verdict, worst
from mangaassist.labels.consensus import consensus
from mangaassist.labels.validation import validate


def rows(train: dict[str, int], golden: dict[str, int] | None = None) -> pl.DataFrame:
    """So many examples per class and role."""
    pairs = [
        (f"{role} {label} {n}", label, role)
        for role, sizes in (("train", train), ("golden", golden or {}))
        for label, size in sizes.items()
        for n in range(size)
    ]
    texts = examples(*(example(text, role=role) for text, _, role in pairs))
    return consensus(texts, labels(*(vote(text, label) for text, label, _ in pairs)), POLICY)


def found(frame: pl.DataFrame, name: str, previous: int | None = None) -> Verdict:
    return next(one for one in validate(STORY, frame, previous_train=previous) if one.name == name)


def test_good_rows_pass_everything() -> None:
    """TRN-1, step 1."""
    verdicts = validate(STORY, rows({"a": 20, "b": 20}, {"a": 2, "b": 1}))
    assert [one.name for one in verdicts] == [
        "labels.schema",
        "labels.classes",
        "labels.golden",
        "labels.volume",
    ]
    assert {one.status for one in verdicts} == {Status.PASS}


def test_one_class_only_is_refused() -> None:
    """Issue 2, bad input: one class only."""
    verdict = found(rows({"a": 20}), "labels.classes")
    assert (verdict.status, verdict.blocking) == (Status.FAIL, True)
    assert "only 'a'" in verdict.sentence


def test_a_class_with_one_example_is_named_and_training_goes_on() -> None:
    """Issue 2, bad input: a class with one example."""
    frame = rows({"a": 30, "b": 30, "lonely": 1, "few": 4})
    verdict = found(frame, "labels.classes")
    assert verdict.status is Status.INSUFFICIENT
    assert "'few' (4), 'lonely' (1)" in verdict.sentence
    assert "cannot" not in verdict.sentence
    assert "not evaluated" in verdict.sentence
    assert worst(validate(STORY, frame)) is Status.PASS


def test_golden_classes_nobody_trained_on_are_named() -> None:
    """The out-of-scope class is the one that may be."""
    frame = rows({"a": 20, "b": 20}, {"a": 1, "oos": 3})
    verdict = found(frame, "labels.golden")
    assert verdict.status is Status.INSUFFICIENT
    assert "3 of 4 golden examples" in verdict.sentence
    aware = replace(STORY, out_of_scope_label="oos")
    assert all(one.status is Status.PASS for one in validate(aware, frame))


@pytest.mark.parametrize(
    ("train", "previous", "status", "fragment"),
    [
        ({"a": 3, "b": 16}, None, Status.INSUFFICIENT, "20 or more"),
        ({"a": 10, "b": 10}, 41, Status.INSUFFICIENT, "fell from 41 to 20"),
        ({"a": 10, "b": 10}, 40, Status.PASS, "20 training rows"),
        ({}, 40, Status.FAIL, "no training example"),
    ],
)
def test_volume(train: dict[str, int], previous: int | None, status: Status, fragment: str) -> None:
    """Too few to tell models apart, or suddenly half of last week's."""
    verdict = found(rows(train, {"a": 1}), "labels.volume", previous)
    assert (verdict.status, verdict.n) == (status, sum(train.values()))
    assert fragment in verdict.sentence


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda frame: frame.drop("label"), "'label' is missing"),
        (lambda frame: frame.with_columns(votes=pl.lit("2")), "should be Int64"),
        (lambda frame: frame.with_columns(text=pl.lit(None, pl.String)), "empty in 4 rows"),
        (lambda frame: frame.with_columns(language=pl.lit("fr")), "'fr'"),
        (lambda frame: pl.concat([frame, frame[:1]]), "1 rows repeat"),
    ],
)
def test_rows_of_another_shape_fail(change: object, fragment: str) -> None:
    """GOV-5: a type change cannot poison a run; nothing else is judged then."""
    (verdict,) = validate(STORY, change(rows({"a": 2, "b": 2})))  # type: ignore[operator]
    assert (verdict.name, verdict.status) == ("labels.schema", Status.FAIL)
    assert fragment in verdict.sentence
