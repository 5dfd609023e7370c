"""The intent retrain says no to bad labels and bad features, each time with its own sentence (issue 3).

By the commands of docs/labels-and-features.md on the simulated files they write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cli.journeys import Shell

from mangaassist.core.clock import SystemClock
from mangaassist.lifecycle.practice import write_practice

COLUMNS = (
    *("--text-column", "text", "--label-column", "label", "--group-column", "conversation"),
    *("--time-column", "at", "--user-column", "user_id", "--annotator-column", "annotator"),
    *("--labeled-column", "labeled", "--lot-column", "lot"),
    *("--escalation-column", "senior"),
)


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("practice")
    write_practice(folder, seed=7, now=SystemClock().now())
    return folder


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """An empty home, as `labels practice` leaves it."""
    shell = Shell(tmp_path / "home")
    assert shell.json("labels", "practice", str(tmp_path / "files"))["simulated"] is True
    assert "empty folder" in shell.error("labels", "practice", str(tmp_path / "files"), code=2)["expected"]
    return shell


def lots(shell: Shell, path: Path) -> None:
    shell("labels", "import", "intent", str(path), *COLUMNS, "--source", "vendor")
    shell("labels", "review", "intent", "--actor", "mei")


def good(shell: Shell, practice: Path) -> None:
    """Two sources and honest features."""
    lots(shell, practice / "lots.csv")
    shell("labels", "apply", "intent")
    shell("features", "append", "intent", "shopper", str(practice / "features.parquet"))


def refused(shell: Shell, step: str) -> dict[str, Any]:
    """What a retrain says when it stops at ``step``, with nothing trained and nothing registered."""
    body = shell.json("retrain", "intent", code=1)
    stopped = [one for one in body["steps"] if one["status"] == "refused"]
    assert [one["name"] for one in stopped] == [step]
    assert next(one for one in body["steps"] if one["name"] == "training")["status"] == "skipped"
    assert body["version"] is None
    ended = shell.platform().ledger.entries(subject="run/intent")[-1]
    assert stopped[0]["detail"] in ended.body["reason"]
    return body


def failing(body: dict[str, Any]) -> list[str]:
    """Every verdict that fails and blocks."""
    return [one["name"] for one in body["verdicts"] if one["status"] == "fail" and one["blocking"]]


def test_a_single_source(shell: Shell, practice: Path) -> None:
    """LAB-3."""
    lots(shell, practice / "lots.csv")
    body = refused(shell, "data_validation")
    assert failing(body) == ["labels.sources"]
    assert "Training labels come from vendor" in body["sentence"]
    assert "alone" in body["sentence"]


def test_low_agreement_on_japanese_texts(shell: Shell, practice: Path) -> None:
    """LAB-4, LAB-7: English agreement does not make up for it."""
    lots(shell, practice / "quarrel.csv")
    shell("labels", "apply", "intent")
    found = {one["lot"]: one for one in shell.json("labels", "lots", "intent")["lots"]}
    assert (found["en-1"]["outcome"], found["ja-1"]["outcome"]) == ("accepted", "rejected")
    assert found["ja-1"]["kappa"]["value"] < 0.65
    body = refused(shell, "data_validation")
    assert failing(body) == ["labels.agreement.ja"]
    assert "measured ja lots were rejected; their labels must be given again" in body["sentence"]


def test_a_planted_leak(shell: Shell, practice: Path) -> None:
    """FEA-3: the feature the label is baked into is named, the others are not."""
    good(shell, practice)
    shell("features", "append", "intent", "shopper", str(practice / "leak.parquet"))
    body = refused(shell, "feature_materialisation")
    assert failing(body) == ["features.leak.orders_90d"]
    assert "orders_90d" in body["sentence"]
    assert "has seen the label" in body["sentence"]
    asked = shell.json("features", "leaks", "intent", code=1)
    assert failing(asked) == ["features.leak.orders_90d"]


def test_a_schema_mismatch(shell: Shell, practice: Path) -> None:
    """FEA-4: what serving declares and training would pin differ in one field, and it is named."""
    good(shell, practice)
    shell("features", "materialise", "intent")
    text = shell("features", "catalog", "intent").out
    changed = shell.home / "features" / "intent.yaml"
    changed.parent.mkdir()
    changed.write_text(text.replace("default: 0", "default: 1", 1), encoding="utf-8")
    body = refused(shell, "feature_materialisation")
    assert "account_age_days.default 1 at training, 0 at serving" in body["sentence"]
    assert "mangaassist features materialise intent" in body["sentence"]


def test_feature_files_that_cannot_be_used(shell: Shell, tmp_path: Path) -> None:
    """One sentence each, and nothing is stored."""
    head = "user_id,event_ts,account_age_days,orders_90d,returns_90d\n"
    path = tmp_path / "rows.csv"
    before = shell.written()
    for cells, field in (
        ("u1,2026-01-05,1,1,1", "rows.csv: column 'event_ts'"),
        ("u1,2026-01-05T00:00:00Z,1,many,1", "rows.csv: column 'orders_90d'"),
        (",2026-01-05T00:00:00Z,1,1,1", "features of 'intent.shopper': column 'user_id'"),
    ):
        path.write_text(head + cells + "\n", encoding="utf-8")
        assert shell.error("features", "append", "intent", "shopper", str(path), code=2)["field"] == field
    near = shell.error("features", "append", "intent", "shoper", str(path), code=2)
    assert near["next_step"] == "Did you mean 'shopper'?"
    assert shell.error("features", "append", "intent", "shopper", "none.csv", code=2)["field"] == "FILE"
    assert shell.written() == before
    path.write_text(head + "u1,2026-01-05T00:00:00+09:00,1,,1\n", encoding="utf-8")
    assert shell.json("features", "append", "intent", "shopper", str(path))["rows"] == 1
