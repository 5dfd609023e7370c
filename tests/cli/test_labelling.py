"""Labels from every machine source by command: vendor exports, rules, a language model, the weekly audit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.cli.journeys import STORY, TRAIN, Shell, new_story, write
from tests.labels.servers import Reply, chosen, serving

from mangaassist.core.home import Home
from mangaassist.labels.records import examples_frame, labels_frame
from mangaassist.simulation.labeller import PROMPTS
from mangaassist.simulation.world import Size, build_world

_RULES = """

from mangaassist.labels.functions import PatternFunction, RuleSet, labelling_function


@labelling_function(version="2")
def starts_politely(example):
    return "greeting" if example.text.split()[0] in ("hello", "hi", "hey") else None


def labelling():
    return RuleSet((PatternFunction("says_refund", "refund", "refund|返金"), starts_politely))
"""
_PROMPT = "Label a message to a shop with one of\n\n{labels}\n"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A story of a home with a vendor's labels, two rules and a prompt."""
    shell = Shell(tmp_path / "home")
    folder = new_story(shell)
    story = folder / "story.py"
    story.write_text(story.read_text(encoding="utf-8") + _RULES, encoding="utf-8")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "first-v1.md").write_text(_PROMPT, encoding="utf-8")
    shell.load(write(tmp_path / "train.csv", TRAIN), "vendor")
    return shell


def export(path: Path, *, label: str = "order") -> Path:
    """A lot of two annotators as Label Studio exports it."""
    at = datetime(2026, 1, 5, tzinfo=UTC)
    tasks = [
        {
            "id": number,
            "data": {"text": f"where is parcel {number}", "lot": "2026-W02"},
            "annotations": [
                {
                    "id": 10 * number + who,
                    "completed_by": who,
                    "created_at": (at + timedelta(hours=number)).isoformat(),
                    "result": [{"from_name": "intent", "type": "choices", "value": {"choices": [label]}}],
                }
                for who in (1, 2)
            ],
        }
        for number in range(1, 4)
    ]
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def test_a_vendor_lot_comes_in_as_it_was_exported(shell: Shell, tmp_path: Path) -> None:
    """Issue 3, labels 1: twice changes nothing, and the lot waits for its review."""
    given = ["labels", "import", STORY, str(export(tmp_path / "lot.json")), "--format", "label-studio"]
    given += [
        "--text-column",
        "text",
        "--label-column",
        "intent",
        "--lot-column",
        "lot",
        "--source",
        "vendor",
    ]
    body = shell.json(*given)
    assert (body["kept"], body["added"], body["annotators"], body["lots"]) == (6, 6, 2, {"2026-W02": 6})
    before = shell.written()
    again = shell.json(*given)
    assert (again["repeated"], again["added"]) == (True, 0)
    assert shell.written() == before
    assert "Annotators: 2. Lots: 2026-W02 (6)." in shell(*given).out
    lots = shell.platform().labels.labels(shell.platform().story(STORY))["iaa_lot_id"].drop_nulls()
    assert lots.to_list() == ["2026-W02"] * 6
    error = shell.error(*given[:4], "--format", "label-studo", *given[6:], code=2)
    assert error["next_step"] == "Did you mean 'label-studio'?"


def test_unknown_labels_of_a_story_that_lists_its_own_are_refused(shell: Shell, tmp_path: Path) -> None:
    path = export(tmp_path / "lot.json", label="oder_status")
    given = ["labels", "import", "intent", str(path), "--format", "label-studio", "--source", "vendor"]
    before = shell.written()
    error = shell.error(*given, "--text-column", "text", "--label-column", "intent", code=2)
    assert "task 1" in error["field"]
    assert error["next_step"] == "Did you mean 'order_status'?"
    assert shell.written() == before


def test_rules_are_reported_and_applied(shell: Shell) -> None:
    """`labels apply NAME [--report] --json`: the report writes nothing, applying twice adds nothing."""
    before = shell.written()
    report = shell.json("labels", "apply", STORY, "--report")
    assert shell.written() == before
    names = [one["name"] for one in report["functions"]]
    assert names == ["says_refund", "starts_politely"]
    assert report["rule_set"]["spoken"] > 0
    assert report["functions"][0]["precision"]["value"] == 1.0
    first = shell.json("labels", "apply", STORY)
    assert (first["added"], first["label_versions"]) == (report["rule_set"]["spoken"], {"programmatic": 1})
    second = shell.json("labels", "apply", STORY)
    assert (second["added"], second["labeller"]) == (0, first["labeller"])
    assert "says_refund" in shell("labels", "apply", STORY).out
    assert "programmatic" in shell.json("labels", "apply", STORY)["source"]


def test_a_rule_that_raises_is_named_with_its_example(shell: Shell) -> None:
    path = shell.home / "stories" / STORY / "story.py"
    path.write_text(path.read_text("utf-8").replace("split()[0] in", "split()[99] in"), "utf-8")
    before = shell.written()
    error = shell.error("labels", "apply", STORY, code=2)
    assert error["field"].startswith("labelling function 'starts_politely' on example ")
    assert error["got"] == "IndexError: list index out of range"
    assert shell.written() == before


def test_a_story_without_rules_says_how_to_write_some(shell: Shell, tmp_path: Path) -> None:
    new_story(shell, "plain")
    shell.load(write(tmp_path / "more.csv", TRAIN), "vendor", name="plain")
    assert "labelling" in shell.error("labels", "apply", "plain", code=2)["expected"]


def test_a_language_model_labels_over_http(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings name server, model, region and the variable with the key; every refusal has its sentence."""
    given = ("labels", "distil", STORY, "--provider", "openai", "--prompt", "first-v1")
    assert "llm_region" in shell.error(*given, code=1)["next_step"]
    monkeypatch.setenv("MANGAASSIST_LLM_REGION", "us")
    assert "llm_url" in shell.error(*given, code=2)["next_step"]
    monkeypatch.setenv("MANGAASSIST_LLM_KEY_VARIABLE", "SHOP_LLM_KEY")
    assert "SHOP_LLM_KEY" in shell.error(*given, code=2)["field"]
    monkeypatch.setenv("SHOP_LLM_KEY", "secret")
    monkeypatch.setenv("MANGAASSIST_LLM_MODEL", "small-1")
    error = shell.error(*given[:-1], "first", code=2)
    assert error["next_step"] == "Did you mean 'first-v1'?"
    assert "--provider" in shell.error(*given[:4], "opena", *given[5:], code=2)["field"]
    assert "--limit" in shell.error(*given, "--limit", "0", code=2)["field"]

    def answer(text: str, before: int) -> Reply:
        return chosen("refund") if "refund" in text or "返金" in text else chosen("sale")

    with serving(answer) as server:
        monkeypatch.setenv("MANGAASSIST_LLM_URL", server.url)
        body = shell.json(*given, "--limit", "20")
        rest = shell(*given).out
    assert (body["asked"], body["labeller"]) == (20, "small-1/first-v1")
    assert body["labelled"] + body["silent"]["outside"] == 20
    assert body["tokens_in"] == 2_000
    assert "Not asked yet: 0." in rest
    assert max(server.asked.values()) == 1
    assert server.requests[0][0]["Authorization"] == "Bearer secret"
    platform = shell.platform()
    rows = platform.labels.labels(platform.story(STORY))
    assert rows["annotator_id"].drop_nulls().unique().to_list() == ["small-1/first-v1"]


def test_the_worse_prompt_is_caught_and_rolled_back(tmp_path: Path) -> None:
    """LAB-6 by command on the simulated shop: intent-v4 errs five times as often as intent-v3."""
    shell = Shell(tmp_path / "home")
    Home.open(shell.home)
    platform = shell.platform()
    story = platform.story("intent")
    world = build_world(4, datetime(2026, 3, 2, tzinfo=UTC), Size(labelled=380, golden=20, future_days=1))
    samples = world.history()
    rows = examples_frame(
        (one.example for one in samples), model_target="intent", ingested_at=platform.clock.now()
    )
    platform.labels.add_examples(story, rows)
    curated = [replace(one, role=None) for one in world.golden_labels(samples)]
    platform.labels.add_labels(story, labels_frame(curated, model_target="intent"))
    distil = ("labels", "distil", "intent", "--provider", "simulated", "--prompt")
    assert set(PROMPTS) == {"intent-v3", "intent-v4"}
    good = shell.json(*distil, "intent-v3")
    assert good["labelled"] > 300
    kept = shell.json("labels", "audit", "intent")["audits"][0]
    assert kept["verdict"]["status"] == "pass"
    shell.json(*distil, "intent-v4")
    seen = shell.json("labels", "audit", "intent", code=1)["audits"][0]
    assert (seen["labeller"], seen["verdict"]["status"]) == ("simulated-llm/intent-v4", "fail")
    done = shell.json("labels", "audit", "intent", "--apply")["audits"][0]
    assert (done["rolled_back"], done["now_in_force"]) == (True, "simulated-llm/intent-v3")
    assert "was not rolled back" in shell.error(*distil, "intent-v4", code=1)["expected"]
    said = shell("labels", "audit", "intent", "--source", "llm").out
    assert "llm by simulated-llm/intent-v3" in said
    assert shell.platform().ledger.verify().ok
