"""Your own data: every command of the journey, for people and as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.cli.journeys import (
    GOLDEN,
    HOSTILE,
    MORE,
    STORY,
    TRAIN,
    Shell,
    command,
    fill,
    new_story,
    spawn,
    to_champion,
    traffic,
    write,
)

STEPS = (
    "data_validation",
    "feature_materialisation",
    "split",
    "training",
    "offline_evaluation",
    "slice_analysis",
    "bias_audit",
    "registration",
    "shadow",
    "canary",
)


def test_the_journey_in_processes_of_its_own(tmp_path: Path) -> None:
    """Issue, build 8: a stranger's labelled file becomes a version that answers, by these commands alone."""
    write(tmp_path / "train.csv", TRAIN)
    write(tmp_path / "more.tsv", MORE)
    write(tmp_path / "golden.jsonl", GOLDEN)
    columns = "--text-column text --label-column label --group-column conversation --time-column at"
    for line in (
        f"story new {STORY} --kind text-classification",
        f"labels import {STORY} train.csv {columns} --source vendor",
        f"labels import {STORY} more.tsv {columns} --source crowd",
        f"labels import {STORY} golden.jsonl {columns} --source vendor --role golden",
    ):
        assert spawn(*line.split(), cwd=tmp_path).code == 0, line

    trained = spawn("retrain", STORY, "--json", cwd=tmp_path)
    assert trained.code == 0, trained.err
    assert trained.body["version"] == 1
    assert tuple(step["name"] for step in trained.body["steps"]) == STEPS
    assert trained.err.startswith("[ 1/10] data_validation"), "progress goes to standard error"

    found = spawn("evaluate", STORY, "--on", "golden", "--json", cwd=tmp_path).body
    accuracy = found["metrics"]["accuracy"]
    assert set(accuracy) >= {"value", "low", "high", "n", "floor", "ceiling"}
    assert accuracy["n"] == len(GOLDEN)
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert 0 < accuracy["floor"] <= accuracy["value"]
    assert set(found["languages"]) == {"en", "ja"}

    answer = spawn("predict", STORY, "アキラの返金をお願いします", "--json", cwd=tmp_path).body
    assert (answer["label"], answer["language"], answer["version"]) == ("refund", "ja", 1)
    assert answer["probabilities"]["refund"] == pytest.approx(answer["confidence"])
    said = spawn("predict", STORY, "アキラの返金をお願いします", cwd=tmp_path)
    assert said.out.startswith("→ refund (")
    assert "version 1 (shadow)" in said.out
    assert spawn("audit", "verify", cwd=tmp_path).code == 0


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(shell: Shell, tmp_path: Path, ending: str) -> None:
    body = json.loads(shell.load(write(tmp_path / f"train.{ending}", TRAIN), "vendor", "--json").out)
    assert (body["rows"], body["kept"], body["duplicates"]) == (len(TRAIN), len(TRAIN), 0)
    assert body["classes"] == {"greeting": 48, "order": 48, "refund": 48}
    assert body["languages"] == {"en": 72, "ja": 72}
    read = shell.platform().labels.examples(shell.platform().story(STORY))
    assert sorted(read["text"]) == sorted(row["text"] for row in TRAIN)
    assert set(read["group_id"]) == {row["conversation"] for row in TRAIN}


def test_importing_the_same_file_twice_changes_nothing(shell: Shell, tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", TRAIN)
    assert shell.load(path, "vendor").out.startswith("Imported 144 of 144 rows")
    before = shell.written()
    assert shell.load(path, "vendor").out.startswith("Had already imported")
    assert shell.written() == before


# What each reading command answers: arguments -> keys of its JSON object.
READERS = {
    "story list": {"stories"},
    f"labels versions {STORY}": {"story", "versions"},
    f"evaluate {STORY} --on golden": {"version", "metrics", "languages", "adversarial", "latency", "notes"},
    f"evaluate {STORY} --on adversarial": {"version", "metrics", "n"},
    f"evaluate {STORY} --version 1": {"version", "metrics", "golden_set"},
    f"evaluate {STORY} --mode slices": {"version", "slices", "minimum"},
    f"evaluate {STORY} --mode bias": {"version", "gaps", "verdicts"},
    f"predict {STORY} hello": {"label", "confidence", "abstains", "version", "latency_ms"},
    f"predict {STORY} hello --version 1": {"label", "version"},
    f"registry list {STORY}": {"story", "versions"},
    f"explain {STORY} 1": {"story", "version"},
    "freeze": {"global_ml_freeze"},
    "audit verify": {"verified", "entries", "head", "artifacts", "label_versions", "problems"},
    "audit tail -n 3": {"entries"},
    "doctor": {"ok", "checks"},
}


@pytest.mark.parametrize("line", READERS)
def test_every_reading_command_answers_people_and_programs(trained: Shell, line: str) -> None:
    """Architecture, commands: every command with `--json`: one object on standard output, nothing else."""
    before = trained.written()
    plain, body = trained(*line.split()), trained.json(*line.split())
    assert plain.out.strip()
    assert not plain.out.lstrip().startswith("{")
    assert READERS[line] <= set(body), sorted(body)
    assert trained.written() == before


def test_what_the_lists_say(trained: Shell) -> None:
    stories = {one["story"]: one for one in trained.json("story", "list")["stories"]}
    assert stories[STORY]["challenger"] == 1
    assert (stories[STORY]["champion"], stories[STORY]["stage"]) == (None, "shadow")
    assert "intent" in stories
    versions = trained.json("registry", "list", STORY)["versions"]
    assert [(one["version"], one["status"], one["capped"]) for one in versions] == [(1, "shadow", None)]
    labels = trained.json("labels", "versions", STORY)["versions"]
    assert [one["number"] for one in labels] == [1]
    assert labels[0]["sources"].keys() == {"vendor", "crowd"}
    assert labels[0]["counts"]["golden"] == len(GOLDEN)
    entries = trained.json("audit", "tail", "-n", "2")["entries"]
    assert [one["sequence"] for one in entries] == [trained.platform().ledger.head() - n for n in (0, 1)]


def test_explain_says_where_a_version_comes_from(trained: Shell) -> None:
    """PRO-1, TRN-4: labels, data, code, seed, gate."""
    said = trained("explain", STORY, "1").out
    for part in ("labels", "data", "code", "seed 7", "golden.accuracy", "registered, by retrain"):
        assert part in said, part


def test_the_adversarial_set_is_judged_and_never_learnt_from(trained: Shell) -> None:
    found = trained.json("evaluate", STORY, "--on", "adversarial")
    assert found["n"] == len(HOSTILE)


def test_doctor_says_what_to_do_only_where_there_is_something(trained: Shell) -> None:
    body = trained.json("doctor")
    assert body["ok"]
    assert {one["name"] for one in body["checks"]} >= {"python", "japanese", "home", "ledger", "tables"}
    assert {one["next_step"] for one in body["checks"]} == {""}


def test_doctor_without_a_home_is_broken_and_says_so(tmp_path: Path) -> None:
    body = Shell(tmp_path / "nowhere").json("doctor", code=3)
    assert not body["ok"]
    bad = [one for one in body["checks"] if not one["ok"]]
    assert [one["name"] for one in bad] == ["home"]
    assert "story new" in bad[0]["next_step"]
    assert not (tmp_path / "nowhere").exists()


def test_from_shadow_to_full_and_back(own: Shell) -> None:
    """PRO-2, PRO-4: promote judges the logged traffic; rollback withdraws, then restores; all recorded."""
    held = own.json("promote", STORY)
    assert held["action"] == "hold"
    assert to_champion(own) == 1
    assert own.json("predict", STORY, "hello")["status"] == "champion"

    second = own.json("retrain", STORY, "--seed", "8")
    assert (second["version"], second["status"]) == (2, "shadow")
    withdrawn = own.json("rollback", STORY, "--reason", "not today", "--actor", "mei")
    assert (withdrawn["version"], withdrawn["champion"]) == (2, 1)
    assert withdrawn["seconds"] < 60

    third = own.json("retrain", STORY, "--seed", "9")
    assert third["version"] == 3
    assert to_champion(own) == 3
    back = own("rollback", STORY, "--reason", "complaints", "--actor", "mei")
    assert "now version 1 answers" in back.out
    deployment = own.platform().registry.deployment(STORY)
    assert (deployment.champion, deployment.challenger) == (1, None)
    statuses = {one["version"]: one["status"] for one in own.json("registry", "list", STORY)["versions"]}
    assert statuses == {1: "champion", 2: "failed_promotion", 3: "failed_promotion"}
    assert "complaints" in own("explain", STORY, "3").out
    own.error("rollback", STORY, code=1)
    assert own.json("audit", "verify")["verified"]


def test_drift_is_checked_from_the_first_champion_on(own: Shell) -> None:
    refused = own.error("drift", "check", STORY, code=1)
    assert "champion" in refused["expected"]
    assert to_champion(own) == 1
    traffic(own, 60)
    logged = own.platform().tables.read(f"predictions.{STORY}").height
    report = own.json("drift", "check", STORY)
    assert set(report["kinds"]) == {"input", "label", "prediction", "concept"}
    assert report["version"] == 1
    assert own.platform().tables.read(f"predictions.{STORY}").height == logged + 60, (
        "the spool is looked at too"
    )
    assert "input: nothing decided yet" in own("drift", "check", STORY).out


def test_freeze_on_and_off_at_each_of_its_three_levels(own: Shell) -> None:
    """PRO-8: a frozen home moves nothing forward, and the way back stays open."""
    traffic(own)
    assert own.json("freeze", "on", "--reason", "sale day", "--actor", "mei")["global_ml_freeze"] is True
    frozen = own.json("promote", STORY)
    assert frozen["action"] == "hold"
    assert "frozen" in frozen["reason"].lower() or "freeze" in frozen["reason"].lower()
    assert own.platform().registry.deployment(STORY).stage == "shadow"
    assert own.json("freeze", "off", "--reason", "over")["global_ml_freeze"] is False

    one = own.json("freeze", "on", "--story", STORY, "--reason", "audit")
    assert one[f"{STORY}.promotion_enabled"] is False
    assert one[f"{STORY}.promotion_enabled.set_by"] == "operator: audit"
    assert own.json("promote", STORY)["action"] == "hold"
    own("freeze", "off", "--story", STORY, "--reason", "done")

    technique = own.json("freeze", "on", "--story", STORY, "--technique", "rag", "--reason", "odd answers")
    assert [value for name, value in technique.items() if "rag" in name and "set_by" not in name] == [False]
    assert own.json("promote", STORY)["action"] == "promote"


def test_a_frozen_home_can_still_go_back(own: Shell) -> None:
    own("freeze", "on", "--reason", "sale day")
    assert own.json("rollback", STORY, "--reason", "odd")["version"] == 1


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("freeze onn --reason x", "freeze"),
        ("freeze on", "reason"),
        ("freeze on --technique rag --reason x", "--technique"),
        ("freeze on --story triag --reason x", "story"),
        (f"rollback {STORY} --reason", "reason"),
    ],
)
def test_switches_and_rollback_want_a_reason_and_known_names(own: Shell, line: str, field: str) -> None:
    before = own.written()
    arguments = [*line.split(), ""] if line.endswith("--reason") else line.split()
    assert field in own.error(*arguments, code=2)["field"]
    assert own.written() == before


def test_a_second_story_leaves_the_first_alone(own: Shell, tmp_path: Path) -> None:
    new_story(own, "mood")
    fill(own, tmp_path, name="mood")
    assert own.json("retrain", "mood")["version"] == 1
    assert [one["version"] for one in own.json("registry", "list", STORY)["versions"]] == [1]


def test_serve_on_an_address_that_is_not_ours(trained: Shell) -> None:
    assert "--port" in trained("serve", "--port", "0", code=2).err, "port 0 would be nobody's to know"
    error = trained.error("serve", "--host", "192.0.2.1", code=3)
    assert error["error"] == "Unavailable"


def test_serve_with_json_announces_itself(trained: Shell, unused_port: int) -> None:
    server = subprocess.Popen(
        command("--home", str(trained.home), "serve", "--port", str(unused_port), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(server.stdout.readline())
            assert lines[-1], "the server ended before it said where it is"
        assert json.loads("".join(lines))["url"] == f"http://127.0.0.1:{unused_port}/"
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()
