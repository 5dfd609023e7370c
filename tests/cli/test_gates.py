"""A gate that says no leaves 1, says why in a sentence, and leaves its reasons in the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.journeys import GOLDEN, STORY, TRAIN, Shell, fill, new_story, rows, traffic, write

WAIVER = ("--waive", "single-source", "--reason", "the vendor is all we have", "--actor", "mei")


@pytest.fixture
def single(shell: Shell, tmp_path: Path) -> Shell:
    """Labels of one source only."""
    shell.load(write(tmp_path / "train.csv", TRAIN), "vendor")
    shell.load(write(tmp_path / "golden.csv", GOLDEN), "vendor", "--role", "golden")
    return shell


def test_one_label_source_is_refused(single: Shell) -> None:
    """LAB-3: exit 1, the sentence names the source and both ways out; nothing is registered."""
    said = single("retrain", STORY, code=1)
    assert "Stopped at data_validation (refused)" in said.out
    assert "Training labels come from vendor (144) alone" in said.out
    assert "--waive single-source --reason TEXT" in said.out
    body = single.json("retrain", STORY, code=1)
    assert body["version"] is None
    assert [step["status"] for step in body["steps"]] == ["refused", *["skipped"] * 9]
    failed = [one for one in body["verdicts"] if one["status"] == "fail" and one["blocking"]]
    assert [one["name"] for one in failed] == ["labels.sources"]
    ended = single.platform().ledger.entries(subject=f"run/{STORY}")[-1]
    assert any(one["name"] == "labels.sources" for one in ended.body["verdicts"])
    assert single.json("registry", "list", STORY)["versions"] == []


def test_a_waiver_is_recorded_and_caps_the_version_at_shadow(shell: Shell, tmp_path: Path) -> None:
    """LAB-3: the waived version may be compared and never meets a user."""
    new_story(shell, "mood", quick=True)
    shell.load(write(tmp_path / "train.csv", TRAIN), "vendor", name="mood")
    shell.load(write(tmp_path / "golden.csv", GOLDEN), "vendor", "--role", "golden", name="mood")
    body = shell.json("retrain", "mood", *WAIVER)
    assert (body["version"], body["status"]) == (1, "shadow")
    assert shell.json("registry", "list", "mood")["versions"][0]["capped"] == "shadow"
    granted = shell.platform().ledger.entries(subject="labels/mood", kind="waiver.granted")
    assert [(one.actor, one.body["reason"]) for one in granted] == [("mei", "the vendor is all we have")]
    assert "waived by mei: the vendor is all we have" in shell("explain", "mood", "1").out

    traffic(shell, name="mood")
    refused = shell.json("promote", "mood", code=1)
    assert refused["action"] == "refuse"
    assert "capped at shadow" in refused["reason"]
    assert shell("promote", "mood", code=1).out.strip().splitlines()[-1].startswith("refuse: ")
    assert shell.platform().registry.deployment("mood").stage == "shadow"


def test_a_waiver_holds_for_its_own_labels_only(single: Shell, tmp_path: Path) -> None:
    single("retrain", STORY, *WAIVER)
    single("retrain", STORY)  # the same labels, already waived
    changed = [{**row, "text": row["text"] + "!"} for row in TRAIN[:30]]
    single.load(write(tmp_path / "later.csv", changed), "vendor")
    assert "alone" in single("retrain", STORY, code=1).out


@pytest.mark.parametrize(
    ("options", "field", "next_step"),
    [
        (["--waive", "single-sauce", "--reason", "x"], "--waive", "single-source"),
        (["--waive", "single-source"], "--reason", "Add --reason TEXT"),
        (["--waive", "single-source", "--reason", "  "], "--reason", "Add --reason TEXT"),
        (["--from-step", "trainning"], "step", "Did you mean 'training'?"),
    ],
)
def test_a_wrong_request_is_bad_input(single: Shell, options: list[str], field: str, next_step: str) -> None:
    single("retrain", STORY, code=1)  # finalises the labels, so that nothing is left to write
    before = single.written()
    error = single.error("retrain", STORY, *options, code=2)
    assert error["field"] == field
    assert next_step in error["next_step"]
    assert single.written() == before


def test_one_class_only_is_refused(shell: Shell, tmp_path: Path) -> None:
    """Issue, bad input: one class only."""
    orders = [row for row in TRAIN if row["label"] == "order"]
    shell.load(write(tmp_path / "one.csv", orders), "vendor")
    shell.load(write(tmp_path / "two.csv", orders[:20]), "crowd")
    said = shell("retrain", STORY, code=1).out
    assert "at least two classes and there is only 'order'" in said
    assert shell.json("registry", "list", STORY)["versions"] == []


def test_a_class_with_one_example_is_told_and_does_not_stop(filled: Shell, tmp_path: Path) -> None:
    """Issue, bad input: a class with one example; with a golden set the journey goes on."""
    lonely = [
        {"text": "please gift wrap it", "label": "wrapping", "conversation": "c99", "at": TRAIN[0]["at"]}
    ]
    filled.load(write(tmp_path / "lonely.csv", lonely), "vendor")
    body = filled.json("retrain", STORY)
    assert body["version"] == 1
    classes = next(one for one in body["verdicts"] if one["name"] == "labels.classes")
    assert (classes["status"], classes["blocking"]) == ("insufficient", False)
    assert "'wrapping' (1)" in classes["sentence"]
    assert filled.json("predict", STORY, "where is my Akira parcel")["label"] == "order"


def test_a_class_with_one_example_and_no_golden_set(shell: Shell, tmp_path: Path) -> None:
    lonely = {"text": "please gift wrap it", "label": "wrapping", "conversation": "c0", "at": TRAIN[0]["at"]}
    shell.load(write(tmp_path / "train.csv", [*rows(0, 10), lonely]), "vendor")
    shell.load(write(tmp_path / "more.csv", TRAIN[:72]), "crowd")
    body = shell.json("retrain", STORY)
    assert body["version"] == 1
    versions = shell.json("registry", "list", STORY)["versions"]
    assert versions[0]["on"] == "test"


def test_a_golden_label_nobody_trained_is_told(filled: Shell, tmp_path: Path) -> None:
    """Issue, bad input: unknown label in golden."""
    odd = [{"text": "sing me a song", "label": "singing", "conversation": "c98", "at": TRAIN[0]["at"]}]
    filled.load(write(tmp_path / "odd.csv", odd), "vendor", "--role", "golden")
    body = filled.json("retrain", STORY)
    golden = next(one for one in body["verdicts"] if one["name"] == "labels.golden")
    assert golden["status"] == "insufficient"
    assert "1 of 49 golden examples" in golden["sentence"]
    assert "'singing'" in golden["sentence"]
    assert filled.json("evaluate", STORY)["n"] == 49


def test_a_failed_offline_gate_is_registered_as_failed(shell: Shell, tmp_path: Path) -> None:
    """PRO-1: the refusal stays in the registry with its verdicts; exit 1."""
    path = new_story(shell, "strict") / "story.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("minimum=0.60", "minimum=1.01"), encoding="utf-8")
    fill(shell, tmp_path, name="strict")
    said = shell("retrain", "strict", code=1)
    assert "Stopped at registration (refused)" in said.out
    assert "at least 101.0% is required" in said.out
    found = shell.json("registry", "list", "strict")["versions"]
    assert [(one["version"], one["status"]) for one in found] == [(1, "failed_promotion")]
    assert "at least 101.0% is required" in shell("explain", "strict", "1").out
    error = shell.error("predict", "strict", "hello", code=2)
    assert error["got"] == "none that has not failed"


def test_gates_without_a_candidate_say_how_to_get_one(shell: Shell) -> None:
    assert "retrain" in shell.error("promote", STORY, code=1)["next_step"]
    assert shell.error("drift", "check", STORY, code=1)["got"] == "no champion"
    assert shell.error("rollback", STORY, code=1)["got"] == "no champion at all"
