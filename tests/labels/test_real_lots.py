"""A real crowd as a Label Studio export: read whole, and combined by two policies against the truth."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.labels.rows import NOW, POLICY, STORY

from mangaassist.core.identity import example_id
from mangaassist.labels.consensus import consensus
from mangaassist.labels.importing import Columns, read_file
from mangaassist.labels.intake import LabelStore

pytestmark = pytest.mark.data

MAJORITY_ACCURACY = 0.8966
"""Of a majority vote on this set, as its SOURCE.txt computes it, ties split."""


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_crowd_of_176_is_read_and_its_errors_are_learnt(
    data_dir: Path, tmp_path: Path, store: LabelStore
) -> None:
    """Issue 3: Dawid-Skene reaches .93 on `product` where a majority vote reaches .8966."""
    folder = data_dir / "annotators_crowd_truth"
    tasks: dict[str, dict[str, object]] = {}
    at = (NOW - timedelta(days=2)).isoformat()
    for row in rows_of(folder / "product.answers.csv"):
        text = f"question {row['question']}"
        task = tasks.setdefault(text, {"id": len(tasks) + 1, "data": {"text": text}, "annotations": []})
        result = [{"from_name": "same", "type": "choices", "value": {"choices": [f"class {row['answer']}"]}}]
        annotation = {"id": 1, "completed_by": {"id": row["worker"]}, "updated_at": at, "result": result}
        task["annotations"].append(annotation)  # type: ignore[attr-defined]
    path = tmp_path / "product.json"
    path.write_text(json.dumps(list(tasks.values())), encoding="utf-8")
    file = read_file(path, Columns("text", "same"), now=NOW, form="label-studio")
    report = file.report
    assert (report.rows, report.annotators, len(tasks)) == (24_945, 176, 8_315)
    assert report.kept + report.duplicates + report.relabelled == report.rows
    store.import_file(STORY, file, source="vendor")
    truth = {
        example_id(f"question {row['question']}", STORY.name): f"class {row['truth']}"
        for row in rows_of(folder / "product.truth.csv")
    }
    accuracy = {}
    for combination in ("priority", "model"):
        policy = replace(POLICY, combination=combination)
        found = consensus(store.examples(STORY), store.labels(STORY), policy)
        right = [truth[row["example_id"]] == row["label"] for row in found.iter_rows(named=True)]
        assert len(right) == len(truth)
        accuracy[combination] = sum(right) / len(right)
    assert accuracy["priority"] == pytest.approx(MAJORITY_ACCURACY, abs=0.005)
    assert accuracy["model"] >= 0.93
