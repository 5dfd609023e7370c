"""The main job, played once through the command: what it shows, and that playing it twice changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mangaassist.lifecycle.demo import SPAN, demo_start

STEPS = [
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
]


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mangaassist", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def shown(home: Path) -> dict[str, Any]:
    done = run(home, "demo", "--no-serve", "--json")
    assert done.returncode == 0, done.stderr
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def test_the_champion_went_through_all_ten_steps(shown: dict[str, Any]) -> None:
    """TRN-1: one pipeline from labels to a promoted version."""
    assert shown["story"] == "intent"
    assert [step["name"] for step in shown["steps"]] == STEPS
    assert {step["status"] for step in shown["steps"]} == {"done"}
    assert shown["champion_version"] == 2
    blocking = [one for one in shown["verdicts"] if one["blocking"]]
    assert blocking
    assert {one["status"] for one in blocking} == {"pass"}


def test_quality_stands_between_floor_and_ceiling_in_every_language(shown: dict[str, Any]) -> None:
    assert set(shown["languages"]) == {"en", "ja", "mixed"}
    for one in shown["languages"].values():
        assert one["floor"] < one["low"] <= one["accuracy"] <= one["high"]
        assert one["accuracy"] <= one["ceiling"] <= 1.0
        assert one["n"] >= 100
    assert "simulated" in shown["data"]


def test_one_candidate_failed_its_canary_and_was_taken_back(shown: dict[str, Any], home: Path) -> None:
    """PRO-3, PRO-4: by itself, measured, and the version is kept as failed_promotion."""
    assert shown["rollback"]["version"] == 3
    assert 0.0 < shown["rollback"]["seconds"] < 60.0
    rows = json.loads(run(home, "registry", "list", "intent", "--json").stdout)["versions"]
    assert {row["version"]: row["status"] for row in rows} == {
        1: "retired",
        2: "champion",
        3: "failed_promotion",
    }
    why = json.loads(run(home, "explain", "intent", "3", "--json").stdout)
    failed = [event for event in why["events"] if event["kind"] == "registry.failed"]
    assert "Safety-critical" in failed[-1]["reason"] or "resolved" in failed[-1]["reason"].lower()


def test_some_kinds_of_drift_fired_and_others_did_not(shown: dict[str, Any]) -> None:
    """DRF-1: the kinds are told apart."""
    assert set(shown["drift"]["fired"]) == {"input", "concept"}
    assert set(shown["drift"]["not_fired"]) == {"label", "prediction"}


def test_every_answered_request_is_in_the_log(shown: dict[str, Any], home: Path) -> None:
    """GOV-1: one row for each request, with its id, versions, language, cohort, arm and latency."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.core.home import Home
    from mangaassist.lifecycle.platform import Platform
    from mangaassist.lifecycle.rollout import read_predictions

    rows = read_predictions(Platform.open(Home.open(home), SystemClock()), "intent")
    answered = rows.filter(rows["arm"] != "shadow")
    assert answered.height == shown["requests"]
    assert answered["request_id"].n_unique() == shown["requests"]
    assert set(answered["arm"]) == {"champion", "canary", "holdout"}
    for column in ("epoch", "language", "latency_ms", "cohort", "device"):
        assert answered[column].null_count() == 0


def test_the_ledger_and_every_artifact_verify(shown: dict[str, Any], home: Path) -> None:
    """GOV-4."""
    assert shown["ledger"]["verified"] is True
    audit = json.loads(run(home, "audit", "verify", "--json").stdout)
    assert audit["verified"] is True
    assert audit["entries"] == shown["ledger"]["entries"] + 1


def test_playing_it_again_shows_the_same_and_another_seed_is_refused(
    shown: dict[str, Any], home: Path
) -> None:
    again = run(home, "demo", "--no-serve", "--json")
    assert json.loads(again.stdout) == shown
    other = run(home, "demo", "--no-serve", "--seed", "8")
    assert other.returncode == 2
    assert "the demo of seed 7" in other.stderr


def test_a_demo_begins_on_a_wednesday_and_ends_now() -> None:
    for days in range(14):
        now = datetime(2026, 11, 20, 17, 30, tzinfo=UTC) + timedelta(days=days)
        start = demo_start(now)
        assert start.weekday() == 2
        assert SPAN <= now - start < SPAN + timedelta(days=8)
