"""Short ways of writing label rows in tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from mangaassist.core.identity import example_id
from mangaassist.core.story import LabelPolicy, Story
from mangaassist.labels.records import Example, Label, examples_frame, labels_frame

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
BEFORE = NOW - timedelta(days=1)
STORY = Story("intent", "text-classification", "what the shopper wants")
POLICY = LabelPolicy()


def identity(text: str) -> str:
    return example_id(text, STORY.name)


def example(text: str, **changes: object) -> Example:
    return Example(**{"text": text, "captured_at": BEFORE, **changes})  # type: ignore[arg-type]


def vote(
    text: str, label: str, source: str = "vendor", annotator: str | None = None, **changes: object
) -> Label:
    given: dict[str, object] = {
        "example_id": identity(text),
        "label": label,
        "source": source,
        "annotator_id": annotator,
        "captured_at": BEFORE,
        "labeled_at": NOW,
    }
    return Label(**{**given, **changes})  # type: ignore[arg-type]


def examples(*rows: Example) -> pl.DataFrame:
    return examples_frame(rows, model_target=STORY.name, ingested_at=NOW)


def labels(*rows: Label, version: int = 1, status: str | None = None) -> pl.DataFrame:
    frame = labels_frame(rows, model_target=STORY.name).with_columns(
        label_version=pl.lit(version, dtype=pl.Int64())
    )
    return frame if status is None else frame.with_columns(review_status=pl.lit(status))
