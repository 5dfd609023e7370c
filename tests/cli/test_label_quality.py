"""`mangaassist labels` on lots, annotators, withdrawals and their impact, as a person drives it."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.cli.journeys import STORY, Shell, write

from mangaassist.labels.records import Example, Label, examples_frame, labels_frame
from mangaassist.labels.votes import current_examples

AT = datetime(2026, 1, 5, tzinfo=UTC)
CLASSES = ("order", "refund", "greeting")
USER = {"user_id": "u1"}


def lot_file(folder: Path, *, people: tuple[str, ...] = ("ann", "bo", "cy"), items: int = 40) -> Path:
    """A vendor's lot as a table: everybody sees everything, and errs one time in twenty."""
    generator = np.random.default_rng(1)
    rows = []
    for n in range(items):
        truth = n % 3
        for who in people:
            slip = int(generator.random() < 0.05)
            rows.append(
                {
                    "text": f"utterance number {n} of the lot",
                    "label": CLASSES[(truth + slip) % 3],
                    "who": who,
                    "when": (AT + timedelta(hours=n)).isoformat(),
                    "lot": "en-1",
                }
            )
    return write(folder / "lot.csv", rows)


def deliver(shell: Shell, path: Path) -> None:
    shell(
        *("labels", "import", STORY, str(path), "--text-column", "text", "--label-column", "label"),
        *(
            "--source",
            "vendor",
            "--annotator-column",
            "who",
            "--labeled-column",
            "when",
            "--lot-column",
            "lot",
        ),
    )


def test_a_lot_is_listed_reviewed_and_its_disputes_settled(shell: Shell, tmp_path: Path) -> None:
    """`labels lots NAME --json` has kappa, interval, alpha, n, verdict and pool; looking changes nothing."""
    deliver(shell, lot_file(tmp_path))
    before = shell.written()
    (one,) = shell.json("labels", "lots", STORY)["lots"]
    assert (one["lot"], one["pool"], one["n"], one["outcome"]) == ("en-1", "en", 40, "accepted")
    assert one["kappa"]["low"] < one["kappa"]["value"] < one["kappa"]["high"]
    assert abs(one["alpha"]["value"] - one["kappa"]["value"]) < 0.02
    assert one["verdict"]["status"] == "pass"
    assert shell.written() == before
    reviewed = shell.json("labels", "review", STORY, "--actor", "lead")
    assert (reviewed["restated"], reviewed["paused"]) == (120, [])
    assert reviewed["pools"]["label_iaa_en"]["verdict"]["status"] == "pass"
    assert reviewed["pools"]["label_iaa_jp"]["verdict"]["status"] == "insufficient"
    waiting = shell.json("labels", "queue", STORY)["waiting"]
    assert waiting
    first = waiting[0]["example_id"][:12]
    shell("labels", "settle", STORY, first, "order", "--actor", "sen", "--reason", "rule 4")
    assert len(shell.json("labels", "queue", STORY)["waiting"]) == len(waiting) - 1
    refused = shell.error(
        "labels", "settle", STORY, first, "order", "--actor", "sen", "--reason", "x", code=2
    )
    assert refused["field"] == "example"
    for command in ("lots", "queue", "annotators", "report", "archive"):
        assert shell("labels", command, STORY).out.strip()


def test_a_lot_without_overlap_is_insufficient(shell: Shell, tmp_path: Path) -> None:
    """One person alone: no crash, a draft, and a sentence that says so."""
    deliver(shell, lot_file(tmp_path, people=("ann",)))
    found = shell.json("labels", "review", STORY, "--actor", "lead")
    (one,) = found["lots"]
    assert (one["outcome"], one["verdict"]["status"], one["kappa"]) == ("unmeasured", "insufficient", None)
    assert one["overlap"]["status"] == "insufficient"
    assert found["restated"] == 0
    assert {row["verdict"]["status"] for row in shell.json("labels", "annotators", STORY)["annotators"]} <= {
        "insufficient"
    }


def test_a_plan_goes_to_the_vendor_as_a_file(filled: Shell, tmp_path: Path) -> None:
    """Texts only other sources labelled wait for people, once; then nothing does."""
    assert filled.json("labels", "plan", STORY, "l0", "--actor", "ana")["items"] > 0
    refused = filled.error("labels", "plan", STORY, "l1", "--actor", "ana", code=2)
    assert "without a vendor label" in refused["expected"]
    refused = filled.error("labels", "planned", STORY, "l1", "--out", str(tmp_path / "l1.csv"), code=2)
    assert refused["field"] == "lot"


def test_planning_and_exporting(shell: Shell, tmp_path: Path) -> None:
    platform = shell.platform()
    story, now = platform.story(STORY), platform.clock.now()
    rows = [Example(f"waiting text {n}", AT) for n in range(120)]
    platform.labels.add_examples(story, examples_frame(rows, model_target=STORY, ingested_at=now))
    made = shell.json("labels", "plan", STORY, "l1", "--size", "100", "--actor", "ana")
    assert (made["items"], made["triple"], made["double"]) == (100, 10, 90)
    shell.error("labels", "plan", STORY, "l1", "--actor", "ana", code=1)
    out = tmp_path / "l1.csv"
    assert shell.json("labels", "planned", STORY, "l1", "--out", str(out))["items"] == 100
    with out.open(encoding="utf-8") as lines:
        counts = [row["annotations"] for row in csv.DictReader(lines)]
    assert (counts.count("3"), counts.count("2")) == (10, 90)
    (planned,) = shell.json("labels", "lots", STORY)["planned"]
    assert (planned["lot"], planned["delivered"]) == ("l1", False)


def test_an_audit_goes_to_the_vendor_and_comes_back(shell: Shell, tmp_path: Path) -> None:
    """LAB-6 whole: the week's sample as a planned lot, labelled by people, imported, reviewed and judged."""
    platform = shell.platform()
    story, now = platform.story(STORY), platform.clock.now()
    given = [Example(f"waiting text {n}", AT, group_id=f"talk-{n}", attributes=USER) for n in range(130)]
    rows = examples_frame(given, model_target=STORY, ingested_at=now)
    platform.labels.add_examples(story, rows)
    says = [
        Label(one, CLASSES[n % 3], "llm", AT, now, annotator_id="small-1/p-v1")
        for n, one in enumerate(rows["example_id"])
    ]
    platform.labels.add_labels(story, labels_frame(says, model_target=STORY))
    truth = {one.example_id: one.label for one in says}
    out = tmp_path / "sample.csv"
    made = shell.json("labels", "audit", STORY, "--export", str(out), "--actor", "ana")["export"]
    assert (len(made["lots"]), made["items"]) == (1, 130)
    assert made["lots"][0].startswith("audit-small-1/p-v1-")
    sent = out.read_bytes()
    assert shell.json("labels", "audit", STORY, "--export", str(out))["export"] == made
    assert out.read_bytes() == sent
    back = [
        {"text": row["text"], "label": truth[row["example_id"]], "who": who, "lot": row["lot"]}
        for row in csv.DictReader(sent.decode().splitlines())
        for who in ("ann", "bo", "cy")[: int(row["annotations"])]
    ]
    columns = ("--annotator-column", "who", "--lot-column", "lot", "--source", "vendor")
    read = ("--text-column", "text", "--label-column", "label")
    shell("labels", "import", STORY, str(write(tmp_path / "back.csv", back)), *read, *columns)
    before = shell.json("labels", "audit", STORY)["audits"][0]
    assert (before["verdict"]["n"], len(before["to_label"])) == (0, 130)  # not before the lot is reviewed
    (lot,) = shell.json("labels", "review", STORY, "--actor", "lead")["lots"]
    assert (lot["outcome"], lot["overlap"]["status"]) == ("accepted", "pass")
    after = shell.json("labels", "audit", STORY)["audits"][0]
    assert (after["verdict"]["status"], after["verdict"]["n"], after["to_label"]) == ("pass", 130, [])
    # The vendor's file says nothing about users and conversations; what was known about them stays.
    kept = current_examples(platform.labels.examples(story))
    assert set(kept["attributes"]) == set(rows["attributes"])
    assert kept.sort("group_id")["group_id"].to_list() == rows.sort("group_id")["group_id"].to_list()


def test_what_a_trained_example_went_into(trained: Shell) -> None:
    """The label version and the model of it; an example that only judges is said to judge."""
    platform = trained.platform()
    rows = platform.labels.examples(platform.story(STORY))
    for role in ("train", "golden"):
        identity = rows.filter(rows["role"] == role)["example_id"][0]
        found = trained.json("labels", "impact", identity[:16])
        (version,) = [one for one in found["label_versions"] if one["label_version"] == 1]
        assert version["examples"] == [{"example_id": identity, "role": role}]
        assert found["models"] == [f"{STORY}/1"]
        assert f"{STORY}/1" in found["sentence"]
    refused = trained.error("labels", "impact", "no-such-id", code=2)
    assert "fits none" in refused["got"]


def test_editing_and_withdrawing(filled: Shell) -> None:
    """An edit says which vote; a withdrawal leaves the next version and says what it had gone into."""
    platform = filled.platform()
    votes = platform.labels.labels(platform.story(STORY))
    twice = votes.group_by("example_id").agg(votes=pl.len()).filter(pl.col("votes") == 2).sort("example_id")
    identity = twice["example_id"][0]
    who = ("--actor", "ana", "--reason", "misread")
    several = filled.error("labels", "edit", STORY, identity, "refund", *who, code=2)
    assert "vendor/anonymous" in several["got"]
    done = filled.json("labels", "edit", STORY, identity[:10], "greeting", "--source", "vendor", *who)
    assert (done["example_id"], done["after"]) == (identity, "greeting")
    gone = filled.json("labels", "withdraw", STORY, identity, *who)
    assert gone["examples"] == [identity]
    assert gone["impact"]["models"] == []
    assert gone["impact"]["withdrawn"] == [identity]
    both = filled.error("labels", "withdraw", STORY, identity, "--user", "u1", *who, code=2)
    assert both["got"] == "both"
    report = filled.json("labels", "report", STORY)
    assert identity not in {one["example_id"] for one in report["probable_errors"]["found"]}
    read = filled.json("audit", "tail")["entries"][0]
    assert (read["kind"], read["subject"]) == ("access.customer_data_read", "access/reads")


def test_an_annotator_who_is_not_paused_cannot_be_resumed(shell: Shell) -> None:
    refused = shell.error("labels", "resume", STORY, "ann", "--actor", "ana", "--reason", "r", code=2)
    assert "ann" in refused["got"]


@pytest.mark.parametrize("command", ["lots", "queue", "annotators", "report", "archive"])
def test_a_story_without_labels_has_empty_answers(shell: Shell, command: str) -> None:
    """No story has labels at first, and that is no error."""
    assert shell.json("labels", command, STORY)["story"] == STORY
