"""Explaining a version from the ledger alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from tests.promotion.rollouts import run
from tests.promotion.samples import AT, TAGS, add, passing, registry, to_canary, to_champion
from tests.promotion.test_controller import BUSY, QUICK
from tests.promotion.traffic import Traffic

from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json
from mangaassist.promotion.controller import Controller
from mangaassist.promotion.explain import explain


def test_the_whole_story_of_a_promoted_version(home: Home) -> None:
    """PRO-9: labels, features, code, evaluation, every gate with its number and threshold, who did what."""
    target = registry(home)
    to_champion(target, run="r1")
    target.ledger.append(
        kind="labels.finalised",
        subject="labels/intent",
        body={"number": 3, "sources": {"vendor": 900, "programmatic": 800}, "content_hash": "h"},
        actor="retrain",
        at=AT,
    )
    report = target.artifacts.put(b"report")
    target.register(
        "intent",
        artifact=target.artifacts.put_files({"manifest.json": b"m"}),
        tags=TAGS,
        metrics={"accuracy": {"value": 0.9512, "n": 100}, "macro_f1": 0.9},
        gate=passing("intent/candidate"),
        run_id="r2",
        actor="retrain",
        at=AT,
        documents={"evaluation": report},
    )
    target.start_shadow("intent", 2, actor="retrain", at=AT)
    found = run(target, Traffic(per_tick=BUSY), story=QUICK)
    told = explain(registry(home), "intent", 2)
    text = "\n".join(told.lines)
    for part in (
        "intent version 2: champion",
        "version 3 from programmatic 800, vendor 900",
        "snapshot 7",
        "schema f1",
        "abc123, seed 11",
        "accuracy 0.9512",
        "golden.accuracy",
        "[0.95 against 0.9, n=100]",
        "started its shadow, by retrain",
        "moved to canary_5 (5% of users), by promotion-controller",
        "moved to canary_25 (25% of users)",
        "became champion",
        "canary.non_inferiority",
        "held in shadow",
    ):
        assert part in text, part
    sequences = [event["sequence"] for event in told.body["events"]]
    assert sequences == sorted(sequences)
    assert told.body["labels"]["content_hash"] == "h"
    assert told.body["missing_documents"] == []
    assert told.body["overrides"] == []
    assert canonical_json(told.body), "everything in it has a JSON form"
    assert found.now > AT


def test_overrides_and_void_entries_are_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRO-9: who overrode what: switches, reviews, a person's rollback, a waiver, a void promotion."""
    target, other = registry(home), registry(home)
    version = add(target, run="r1", capped=None)
    controller = Controller(target)
    controller.review_disagreement(QUICK, 1, actor="mei", reason="looked at all", at=AT)
    to_canary(target, "intent", 1)
    append = target.ledger.append

    def frozen_meanwhile(**entry: object) -> object:
        other.switches.freeze(True, actor="ken", reason="SEV-1", at=AT)
        return append(**entry)  # type: ignore[arg-type]  # passes on exactly what it was given

    with monkeypatch.context() as patch:
        patch.setattr(target.ledger, "append", frozen_meanwhile)
        with pytest.raises(Exception, match="SEV-1"):
            target.promote("intent", 1, decision=passing(version.name))
    controller.rollback(QUICK, actor="aya", reason="enough", at=AT + timedelta(hours=1))
    told = explain(target, "intent", 1)
    overrides = {(one["actor"], one["kind"]) for one in told.body["overrides"]}
    assert overrides == {
        ("mei", "promotion.shadow_reviewed"),
        ("ken", "switch.set"),
        ("aya", "registry.failed"),
    }
    text = "\n".join(told.lines)
    assert "became champion (void: a kill switch was on)" in text
    assert "global_ml_freeze was set to true, by ken" in text
    assert "to the last of 0 readers" in text


def test_a_waiver_and_a_lost_document_are_shown(home: Home) -> None:
    """LAB-3, TRN-6: what was waived, by whom; and what can no longer be shown."""
    target = registry(home)
    version = add(target, run="r1", capped="shadow")
    document = target.artifacts.put(b"config")
    target.register(
        "intent",
        artifact=version.artifact,
        tags=TAGS,
        metrics={},
        gate=passing("intent"),
        run_id="r2",
        actor="retrain",
        at=AT,
        documents={"training_config": document},
    )
    (home.folder("artifacts") / document[:2] / document).unlink()
    assert "waived      single-source by mei: demo" in "\n".join(explain(target, "intent", 1).lines)
    assert explain(target, "intent", 1).lines[0].endswith("registered, capped at shadow")
    assert explain(target, "intent", 2).body["missing_documents"] == ["training_config"]


def test_a_restored_champion_says_how(home: Home) -> None:
    target = registry(home)
    for run_id in ("r1", "r2"):
        to_champion(target, run=run_id)
    Controller(target).rollback(QUICK, actor="mei", reason="complaints", at=AT)
    assert "came back as champion when version 2 was rolled back" in "\n".join(
        explain(target, "intent", 1).lines
    )
    assert "was rolled back; version 1 came back, by mei" in "\n".join(explain(target, "intent", 2).lines)


def test_an_unknown_version_is_an_input_error(home: Home) -> None:
    with pytest.raises(InputError, match="none yet"):
        explain(registry(home), "intent", 1)


def test_a_ledger_that_was_changed_elsewhere_is_said(home: Home) -> None:
    """PRO-9: what is told is read from a chain that is whole, or is called untrustworthy."""
    target = registry(home)
    to_champion(target, run="r1")
    add(target, "other", run="r9")
    assert f"Read from a ledger of {target.ledger.head()} entries" in explain(target, "intent", 1).lines[-1]
    with closing(sqlite3.connect(home.path / "ledger.db")) as connection:
        connection.execute("update ledger_entries set actor = 'eve' where subject = 'registry/other'")
        connection.commit()
    found = explain(target, "intent", 1)
    assert found.body["ledger"]["verified"] is False
    assert found.lines[-1].startswith("NOT to be trusted: Entry ")
