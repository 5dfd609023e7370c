"""Outcomes that come after full promotion: harm takes the champion back, nothing else moves it (PRO-2)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from tests.promotion.rollouts import SAFETY, run
from tests.promotion.samples import AT, add, registry
from tests.promotion.test_controller import QUICK, challenged, frames
from tests.promotion.traffic import Traffic

from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.core.verdict import Action
from mangaassist.promotion.accumulator import rebuild
from mangaassist.promotion.controller import PAGE, Controller
from mangaassist.promotion.evidence import StageEvidence
from mangaassist.promotion.explain import explain
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.versions import VersionStatus

LATE = timedelta(days=3)


@dataclass(frozen=True)
class Promoted:
    """A champion whose canary looked well, and what is known of that canary three days later."""

    registry: Registry
    evidence: StageEvidence

    @classmethod
    def by(cls, home: Home, traffic: Traffic) -> Promoted:
        target = challenged(home)
        found = run(target, traffic, story=QUICK)
        assert target.deployment("intent").champion == 2
        found.outcomes += traffic.waiting
        before = target.before_promotion("intent", 2)
        assert before is not None
        now = found.now + LATE
        counted = rebuild(before[1], *frames(found), now=now, safety_labels=SAFETY)
        return cls(target, counted.evidence(now))

    def revise(self) -> Action:
        return Controller(self.registry).revise(QUICK, self.evidence, self.evidence.at).action


@pytest.fixture(scope="module")
def _harmful(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageEvidence]:
    home = Home.open(tmp_path_factory.mktemp("harmful") / "home")
    traffic = Traffic(
        per_tick=40.0, resolved={"champion": 0.8, "challenger": 0.6}, bad_news=timedelta(days=2), seed=3
    )
    promoted = Promoted.by(home, traffic)
    promoted.registry.ledger.close()
    return home.path, promoted.evidence


@pytest.fixture
def harmful(tmp_path: Path, _harmful: tuple[Path, StageEvidence]) -> Promoted:
    """A champion whose canary resolved less than it seemed to; one rollout, a copy for each test."""
    path, evidence = _harmful
    shutil.copytree(path, tmp_path / "home", dirs_exist_ok=True)
    return Promoted(registry(Home.open(tmp_path / "home")), evidence)


def test_late_outcomes_take_a_champion_back(harmful: Promoted) -> None:
    """With a page, its evidence, and without the challenger that was compared with it."""
    promoted = harmful
    target = promoted.registry
    add(target, run="r3")
    target.start_shadow("intent", 3, actor="retrain", at=AT)
    assert promoted.revise() is Action.ROLL_BACK
    deployment = target.deployment("intent")
    assert (deployment.champion, deployment.challenger) == (1, None)
    assert {target.get("intent", number).status for number in (2, 3)} == {VersionStatus.FAILED_PROMOTION}
    entry = target.ledger.entries(kind="registry.rolled_back")[-1]
    assert entry.body["severity"] == PAGE
    verdicts = entry.body["decision"]["verdicts"]
    assert "canary.resolved" in [one["name"] for one in verdicts if one["status"] == "fail"]
    assert target.artifacts.has(entry.body["evidence"])
    text = "\n".join(explain(target, "intent", 2).lines)
    assert "was rolled back; version 1 came back (SEV-3)" in text
    with pytest.raises(InputError, match="the canary of version 1"):
        promoted.revise()


def test_a_freeze_pins_a_harmful_champion_too_and_says_so_once(harmful: Promoted) -> None:
    """PRO-8: only a person moves anything under a freeze."""
    promoted = harmful
    promoted.registry.switches.freeze(True, actor="mei", reason="SEV-1", at=AT)
    assert [promoted.revise() for _ in range(3)] == [Action.HOLD] * 3
    assert len(promoted.registry.ledger.entries(kind="promotion.revised")) == 1
    assert "judged again" in "\n".join(explain(promoted.registry, "intent", 2).lines)
    promoted.registry.switches.freeze(False, actor="mei", reason="over", at=AT)
    assert promoted.revise() is Action.ROLL_BACK


def test_a_healthy_champion_stands_and_leaves_no_entry(home: Home) -> None:
    promoted = Promoted.by(home, Traffic(per_tick=40.0, bad_news=timedelta(hours=1), seed=3))
    head = promoted.registry.ledger.head()
    assert promoted.revise() is Action.PROMOTE
    assert promoted.registry.ledger.head() == head
