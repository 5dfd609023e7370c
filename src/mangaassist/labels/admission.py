"""What rows must be to enter the label tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.language import Language
from mangaassist.core.story import Story
from mangaassist.labels.records import (
    EXAMPLES_TABLE,
    LABELS_TABLE,
    REVIEW_STATUSES,
    ROLES,
    family,
    frame_schema,
    require_columns,
)

_OPTIONAL = ("confidence", "annotator_id", "iaa_lot_id")


def admit_examples(story: Story, examples: pl.DataFrame, *, now: datetime) -> pl.DataFrame:
    """``examples`` in the table's columns and types.

    Raises:
        InputError: for missing or empty columns, another story's rows, an unknown role or language, or a
            capture time after ``now``.
    """
    frame = _typed(examples, EXAMPLES_TABLE, "examples")
    _check_common(story, frame, "examples")
    _check_known(frame, "role", ROLES, "examples")
    _check_known(frame, "language", tuple(Language), "examples")
    _check_past(frame, "captured_at", now, "examples")
    return frame


def admit_labels(story: Story, labels: pl.DataFrame, *, now: datetime) -> pl.DataFrame:
    """``labels`` in the table's columns and types.

    Raises:
        InputError: for missing or empty columns, another story's rows, a source outside the story's policy,
            times after ``now`` or out of order, a confidence outside 0..1, an unknown review status, or two
            rows that nothing tells apart.
    """
    frame = _typed(labels, LABELS_TABLE, "labels")
    _check_common(story, frame, "labels")
    for source in frame["label_source"].unique():
        family(source, story.labels)
    _check_known(frame, "review_status", REVIEW_STATUSES, "labels")
    _check_past(frame, "labeled_at", now, "labels")
    _refuse(
        frame,
        pl.col("labeled_at") < pl.col("captured_at"),
        "labels: column 'labeled_at'",
        "labels given after their example was captured",
        "labeled_at",
    )
    outside = ~pl.col("confidence").is_between(0.0, 1.0)
    _refuse(frame, outside, "labels: column 'confidence'", "0 to 1", "confidence")
    _refuse(frame, pl.col("label").str.strip_chars() == "", "labels: column 'label'", "a class", "label")
    _refuse(
        frame,
        pl.struct(pl.all()).is_duplicated(),
        "labels",
        "rows that differ in something, such as annotator_id",
        "example_id",
    )
    return frame


def _typed(frame: pl.DataFrame, columns: Mapping[str, str], what: str) -> pl.DataFrame:
    require_columns(frame, list(columns), what=what)
    try:
        typed = frame.select(list(columns)).cast(frame_schema(columns))
    except (pl.exceptions.InvalidOperationError, pl.exceptions.ComputeError) as error:
        raise InputError(
            what,
            expected="columns of the table's types",
            got=str(error).partition("\n")[0],
            next_step="Build the rows with examples_frame or labels_frame.",
        ) from error
    for name in columns:
        if name not in _OPTIONAL and typed[name].null_count():
            raise InputError(
                f"{what}: column '{name}'",
                expected="a value in every row",
                got=f"{typed[name].null_count()} empty ones",
                next_step="Fill them in or drop the rows.",
            )
    return typed


def _check_common(story: Story, frame: pl.DataFrame, what: str) -> None:
    if frame.is_empty():
        raise InputError(what, expected="at least one row", got="none", next_step="Check what produced them.")
    _check_known(frame, "model_target", (story.name,), what)


def _check_known(frame: pl.DataFrame, column: str, known: Sequence[str], what: str) -> None:
    options = [str(one) for one in known]
    _refuse(frame, ~pl.col(column).is_in(options), f"{what}: column '{column}'", " or ".join(options), column)


def _check_past(frame: pl.DataFrame, column: str, now: datetime, what: str) -> None:
    later = pl.col(column) > pl.lit(now)
    _refuse(frame, later, f"{what}: column '{column}'", f"times up to now ({isoformat(now)})", column)


def _refuse(frame: pl.DataFrame, bad: pl.Expr, field: str, expected: str, shown: str) -> None:
    rows = frame.filter(bad)
    if not rows.is_empty():
        more = f" in {rows.height} rows" if rows.height > 1 else ""
        raise InputError(
            field, expected=expected, got=f"{rows[shown][0]}{more}", next_step="Correct or drop those rows."
        )
