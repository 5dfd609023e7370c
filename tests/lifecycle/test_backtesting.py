"""Gate policies tried out on the past: a story's own changes nothing, another one says what it would."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.journeys import STORY, Shell, rows, to_champion, traffic, trained_home, write


@pytest.fixture(scope="module")
def rolled_out(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Version 1 through shadow and canary by ``promote`` alone."""
    shell = trained_home(tmp_path_factory.mktemp("backtest"), quick=True)
    to_champion(shell)
    return shell


def policy(shell: Shell, text: str) -> str:
    path = shell.home / "tried.yaml"
    path.write_text(f"gate: {STORY}\n{text}", encoding="utf-8")
    return str(path)


def test_its_own_policy_decides_as_it_did(rolled_out: Shell) -> None:
    """Evaluation 3: gate, shadow and canary again from what was stored: same actions, same verdicts."""
    body = rolled_out.json("promotion", "backtest", STORY)
    assert [one["stage"] for one in body["all"]][:2] == ["offline", "shadow"]
    assert body["all"][-1]["next_was"] == body["all"][-1]["next_would"] == "full"
    assert (body["same"], body["different"], body["undecidable"]) == (body["decisions"], [], [])
    assert all(one["verdicts"] == {} for one in body["all"])


def test_a_stricter_policy_says_what_it_would_have_refused(rolled_out: Shell) -> None:
    """Evaluation 3: an accuracy nobody reaches refuses offline, a longer shadow holds; verdicts say so."""
    strict = policy(
        rolled_out,
        "thresholds:\n  golden.accuracy: {minimum: 1.5}\n"
        "verdicts: {canary.minimum_n: off, golden_set.age: block}\n"
        "rollout: {shadow_minimum_n: 1000000}\n",
    )
    body = rolled_out.json("promotion", "backtest", STORY, "--policy", strict)
    found = {one["stage"]: one for one in body["different"]}
    assert (found["offline"]["was"], found["offline"]["would"]) == ("promote", "refuse")
    assert found["offline"]["verdicts"]["golden.accuracy"] == ["pass", "fail"]
    assert (found["shadow"]["was"], found["shadow"]["would"]) == ("promote", "hold")
    assert found["shadow"]["verdicts"]["shadow.minimum_n"] == ["pass", "insufficient"]
    assert body["same"] + len(body["different"]) == body["decisions"]


def test_a_plan_without_the_stage_cannot_decide_about_it(rolled_out: Shell) -> None:
    """Evaluation 3: evidence of a stage the tried plan does not have is not judged by another one."""
    plan = policy(
        rolled_out, "rollout:\n  stages:\n    - {name: other, share: 7%, lasts: 1h, minimum_n: 1}\n"
    )
    body = rolled_out.json("promotion", "backtest", STORY, "--policy", plan)
    assert {one["stage"] for one in body["undecidable"]} == {
        one["stage"] for one in body["all"] if one["stage"] not in ("offline", "shadow")
    }
    assert body["undecidable"]
    [shadow] = [one for one in body["different"] if one["stage"] == "shadow"]
    assert shadow["next_would"] == "other"


def test_the_policy_of_the_home_rules(rolled_out: Shell, tmp_path: Path) -> None:
    """Evaluation 3: HOME/gates/NAME.yaml is the policy; a mistake in it is said with its line."""
    shown = rolled_out.json("promotion", "policy", STORY)
    gates = rolled_out.home / "gates"
    gates.mkdir()
    try:
        (gates / f"{STORY}.yaml").write_text(f"gate: {STORY}\nrollout: {{margin: 1%}}\n", encoding="utf-8")
        ruled = rolled_out.json("promotion", "policy", STORY)
        assert ruled["document"]["rollout"]["margin"] == 0.01
        assert ruled["policy"] != shown["policy"]
        (gates / f"{STORY}.yaml").write_text("gate: nobody\n", encoding="utf-8")
        assert "line 1" in rolled_out.error("promotion", "policy", STORY, code=2)["message"]
    finally:
        (gates / f"{STORY}.yaml").unlink()
        gates.rmdir()


def test_the_golden_set_has_a_version(rolled_out: Shell) -> None:
    """EVA-1: what the gate was judged by is in the ledger, its age and its mix among the verdicts."""
    from mangaassist.lifecycle.golden import golden_versions

    platform = rolled_out.platform()
    [only] = golden_versions(platform, STORY)
    assert only.number == 1
    assert only.n == sum(only.labels.values()) == only.added
    verdicts = {one.name: one for one in platform.registry.get(STORY, 1).gate.verdicts}
    assert {"golden_set.age", "golden_set.mix.language", "golden_set.mix.label"} <= verdicts.keys()
    assert not any(one.blocking for name, one in verdicts.items() if name.startswith("golden_set."))


def test_a_version_in_shadow_is_replayed(rolled_out: Shell, tmp_path: Path) -> None:
    """EVA-1: its own answers to logged requests, against what was served; without them a clear refusal."""
    assert "keeps no texts" in str(rolled_out.error("evaluate", STORY, "--mode", "replay", code=2))
    rolled_out.load(write(tmp_path / "later.csv", rows(6, 8)), "vendor")
    rolled_out("retrain", STORY, "--seed", "8")
    traffic(rolled_out, 400)
    body = rolled_out.json("evaluate", STORY, "--mode", "replay")
    [shadow] = body["quality"]
    assert (body["version"], shadow["log"], shadow["sessions"]) == (2, "shadow", 400)
    assert shadow["bounds"][0] <= shadow["agreement"] <= shadow["bounds"][1] == 1.0
    assert shadow["served"] == 1.0
    assert body["latency"]["verdict"]["value"] == 1.0
    assert body["cost"]["per_thousand"] > 0
    assert not any(one["blocking"] for one in body["verdicts"])
    against = rolled_out.platform().registry.get(STORY, 2).metrics["against"]
    assert against["champion"] == 1
    assert against["error"] > 0
