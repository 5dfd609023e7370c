"""Whole rollouts on simulated time: good, bad, silent, first, frozen, raced and timed."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta

import orjson
import polars as pl
import pytest
from tests.promotion.rollouts import SAFETY, STORY, Rollout, run
from tests.promotion.samples import AT, add, passing, registry, to_champion
from tests.promotion.test_evidence import OUTCOMES, PREDICTIONS
from tests.promotion.traffic import TICK, Traffic

from mangaassist.core.errors import Conflict, GateRefused, InputError, Unavailable
from mangaassist.core.home import Home
from mangaassist.core.story import CanaryStage, RolloutPolicy
from mangaassist.core.verdict import Action, Decision, Status
from mangaassist.promotion.accumulator import EvidenceAccumulator
from mangaassist.promotion.baseline import against_baseline
from mangaassist.promotion.controller import Controller
from mangaassist.promotion.readers import Acknowledged
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.rollbacks import rollback_seconds
from mangaassist.promotion.stages import holdout_share
from mangaassist.promotion.versions import VersionStatus

QUICK = replace(
    STORY,
    rollout=RolloutPolicy(
        shadow=timedelta(hours=4),
        shadow_minimum_n=200,
        stages=(
            CanaryStage("canary_5", 0.05, timedelta(hours=6), 20),
            CanaryStage("canary_25", 0.25, timedelta(hours=12), 300),
        ),
        hold=timedelta(hours=12),
    ),
)
BUSY = 40.0


def challenged(home: Home) -> Registry:
    """A champion and a challenger in shadow."""
    target = registry(home)
    to_champion(target, run="r1")
    add(target, run="r2")
    target.start_shadow("intent", 2, actor="retrain", at=AT)
    return target


def stages_of(found: Rollout) -> list[str]:
    return [stage for stage, _ in found.moves]


def test_the_default_plan_takes_eighteen_days(home: Home) -> None:
    """PRO-2: shadow 24 h, 1% 7 d, 5% 3 d, 25% 7 d, then full; every step with its verdicts and evidence."""
    target = challenged(home)
    found = run(target, Traffic())
    assert stages_of(found) == ["canary_1", "canary_5", "canary_25", "full"]
    assert found.now - AT == timedelta(days=18)
    assert found.ticks == 5184
    assert target.deployment("intent").champion == 2
    assert target.deployment("intent").last_known_good == 1
    for kind in ("registry.advanced", "registry.promoted"):
        for entry in target.ledger.entries(kind=kind, after=5):
            decision = Decision.from_dict(entry.body["decision"])
            assert decision.policy == STORY.digest
            assert {one.evidence for one in decision.verdicts} == {(entry.body["evidence"],)}
            stored = orjson.loads(target.artifacts.get(entry.body["evidence"]))
            assert stored["challenger"] == 2
    final = target.ledger.entries(kind="registry.promoted")[-1]
    names = {one["name"]: one["status"] for one in final.body["decision"]["verdicts"]}
    assert names["canary.non_inferiority"] == "pass"
    holds = target.ledger.entries(kind="promotion.held")
    assert len(holds) < found.ticks / 100, "a hold is recorded when it changes, not every five minutes"
    assert target.ledger.verify().ok


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"errors": {"champion": 0.0, "challenger": 1.0}}, "TimeoutError was raised only by the"),
        ({"resolved": {"champion": 0.8, "challenger": 0.3}}, "differ by|standard errors"),
    ],
)
def test_a_bad_canary_rolls_back_by_itself(
    home: Home, change: dict[str, dict[str, float]], reason: str
) -> None:
    """PRO-3, PRO-4, RET-2: rolled back, kept as failed_promotion, paged, and timed."""
    target = challenged(home)
    good = Traffic(per_tick=BUSY)
    shadow = run(target, good, story=QUICK, ticks=49)
    assert stages_of(shadow) == ["canary_5"]
    bad = replace(good, seed=11, **change)
    found = run(target, bad, story=QUICK, start=shadow.now)
    assert target.get("intent", 2).status is VersionStatus.FAILED_PROMOTION
    assert target.deployment("intent").champion == 1
    assert found.moves[-1][1].action is Action.ROLL_BACK
    failed = target.ledger.entries(kind="registry.failed")[-1]
    assert failed.body["severity"] == "SEV-3"
    assert re.search(reason, failed.body["decision"]["reason"])
    ((version, seconds),) = rollback_seconds(target.ledger, "intent")
    assert version == 2
    assert 0 < seconds < 60


def test_a_broken_shadow_never_meets_users(home: Home) -> None:
    """PRO-2: errors in shadow end the rollout before the canary; nobody is paged for it."""
    target = challenged(home)
    found = run(target, Traffic(per_tick=BUSY, errors={"champion": 0.0, "challenger": 0.2}), story=QUICK)
    assert stages_of(found) == ["full"]
    assert found.last is not None
    assert found.last.action is Action.ROLL_BACK
    assert target.ledger.entries(kind="registry.failed")[-1].body["severity"] is None
    assert found.now - AT < timedelta(hours=1)


def test_a_slow_shadow_fails(home: Home) -> None:
    """PRO-2: shadow fails when its p99 exceeds production's by more than 30%."""
    target = challenged(home)
    found = run(target, Traffic(per_tick=BUSY, latency_ms={"champion": 3.0, "challenger": 9.0}), story=QUICK)
    assert stages_of(found) == ["full"]
    assert found.last is not None
    assert "p99" in found.last.reason


def test_disagreement_waits_for_a_person(home: Home) -> None:
    """PRO-6: over the threshold shadow holds until somebody has reviewed it, by name."""
    target = challenged(home)
    controller = Controller(target)
    odd = Traffic(per_tick=BUSY, disagreement=0.2)
    waiting = run(target, odd, story=QUICK, controller=controller, ticks=60)
    assert stages_of(waiting) == []
    assert waiting.last is not None
    assert waiting.last.action is Action.HOLD
    assert "must review" in waiting.last.reason
    with pytest.raises(InputError, match="reason"):
        controller.review_disagreement(QUICK, 2, actor="mei", reason=" ", at=waiting.now)
    controller.review_disagreement(QUICK, 2, actor="mei", reason="new intents", at=waiting.now)
    accumulator = EvidenceAccumulator(target.deployment("intent"))
    accumulator.observe(waiting.rows)
    decision = controller.step(QUICK, accumulator.evidence(waiting.now), waiting.now)
    assert decision.action is Action.PROMOTE
    assert any("reviewed by mei" in one.sentence for one in decision.verdicts)


def test_total_disagreement_is_past_reviewing(home: Home) -> None:
    target = challenged(home)
    found = run(target, Traffic(per_tick=BUSY, disagreement=0.9), story=QUICK)
    assert stages_of(found) == ["full"]


def test_no_traffic_never_promotes(home: Home) -> None:
    """PRO-2: nothing is promoted by a timeout; an undecided stage rolls back at its deadline."""
    target = challenged(home)
    found = run(target, Traffic(per_tick=0.0), story=QUICK)
    assert stages_of(found) == ["full"]
    assert found.now - AT == QUICK.rollout.shadow + QUICK.rollout.hold
    assert found.last is not None
    assert found.last.reason.startswith("Still insufficient at the deadline.")
    assert target.deployment("intent").champion == 1


def test_a_silent_canary_beside_traffic_is_stale(home: Home) -> None:
    """PRO-2: no data is not a pass: the canary's requests stop, the hold-out's go on."""
    target = challenged(home)
    shadow = run(target, Traffic(per_tick=BUSY), story=QUICK, ticks=49)
    deployment = target.deployment("intent")
    accumulator = EvidenceAccumulator(deployment)
    traffic, now = Traffic(per_tick=BUSY, seed=3), shadow.now
    for look in range(24):
        now += TICK
        rows, _ = traffic.tick(deployment, now)
        accumulator.observe(row for row in rows if look < 6 or row["arm"] != "canary")
    decision = Controller(target).step(QUICK, accumulator.evidence(now), now)
    statuses = {one.name: one.status for one in decision.verdicts}
    assert statuses["canary.freshness"] is Status.STALE
    assert decision.action is Action.HOLD


def test_outcomes_that_stop_are_stale(home: Home) -> None:
    """PRO-2: requests keep coming, nothing is heard of them: the last number is not a fresh one."""
    long = replace(QUICK, rollout=replace(QUICK.rollout, hold=timedelta(days=9)))
    target = challenged(home)
    shadow = run(target, Traffic(per_tick=BUSY), story=long, ticks=49)
    found = run(
        target, Traffic(per_tick=8, delay=timedelta(days=30)), story=long, start=shadow.now, ticks=300
    )
    assert found.last is not None
    statuses = {one.name: one.status for one in found.last.verdicts}
    assert statuses["canary.outcomes"] is Status.STALE
    assert target.deployment("intent").stage == "canary_5"


def test_the_first_version_is_judged_by_absolute_limits(home: Home) -> None:
    """PRO-1, PRO-2: no champion to compare with, and every sentence that matters says so."""
    target = registry(home)
    add(target, run="r1")
    target.start_shadow("intent", 1, actor="retrain", at=AT)
    found = run(target, Traffic(per_tick=BUSY), story=QUICK)
    assert stages_of(found) == ["canary_5", "canary_25", "full"]
    assert target.deployment("intent").champion == 1
    final = found.moves[-1][1]
    told = [one for one in final.verdicts if "no champion to compare with" in one.sentence]
    assert {one.name for one in told} == {
        "canary.error_rate",
        "canary.latency_p95",
        "canary.resolved_floor",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"errors": {"champion": 0.0, "challenger": 0.2}},
        {"latency_ms": {"champion": 2.0, "challenger": 40.0}},
        {"resolved": {"champion": 0.8, "challenger": 0.2}},
    ],
)
def test_a_bad_first_version_does_not_pass_for_want_of_a_champion(
    home: Home, change: dict[str, dict[str, float]]
) -> None:
    """PRO-1: absolute limits refuse it, and no version answers afterwards."""
    target = registry(home)
    add(target, run="r1")
    target.start_shadow("intent", 1, actor="retrain", at=AT)
    found = run(target, Traffic(per_tick=BUSY, **change), story=QUICK)  # type: ignore[arg-type]  # named fields
    assert found.moves[-1][1].action is Action.ROLL_BACK
    deployment = target.deployment("intent")
    assert (deployment.champion, deployment.stage) == (None, "none")


def test_a_capped_version_stops_after_shadow(home: Home) -> None:
    """LAB-3: its shadow may pass; it is refused once, stays where it is, and makes room for the next."""
    target = registry(home)
    to_champion(target, run="r1")
    add(target, run="r2", capped="shadow")
    target.start_shadow("intent", 2, actor="retrain", at=AT)
    found = run(target, Traffic(per_tick=BUSY), story=QUICK, ticks=300)
    assert stages_of(found) == []
    assert found.last is not None
    assert found.last.action is Action.REFUSE
    assert "capped at shadow" in found.last.reason
    refused = [
        entry
        for entry in target.ledger.entries(kind="promotion.held")
        if entry.body["decision"]["action"] == "refuse"
    ]
    assert len(refused) == 1
    add(target, run="r3")
    assert target.start_shadow("intent", 3, actor="retrain", at=found.now).challenger == 3
    assert target.get("intent", 2).status is VersionStatus.RETIRED


def test_a_freeze_stops_the_clock(home: Home) -> None:
    """PRO-8: nothing moves while frozen, the pause is not counted, and the rollout then goes on."""
    target = challenged(home)
    traffic = Traffic(per_tick=BUSY)
    on, off = AT + timedelta(hours=1), AT + timedelta(hours=31)

    def switch(now: datetime) -> None:
        if now in (on, off):
            target.switches.freeze(now == on, actor="mei", reason="drill", at=now)

    found = run(target, traffic, story=QUICK, meanwhile=switch, ticks=12 * 31)
    assert stages_of(found) == []
    assert found.last is not None
    assert "duration" in " ".join(one.name for one in found.last.verdicts if not one.passed)
    controller = Controller(target)
    accumulator = EvidenceAccumulator(target.deployment("intent"))
    accumulator.observe(found.rows)
    late = AT + timedelta(hours=34)
    decision = controller.step(QUICK, accumulator.evidence(late), late)
    assert "30.0 h under a kill switch" in next(
        one.sentence for one in decision.verdicts if one.name == "shadow.duration"
    )


def test_frozen_decisions_hold_whatever_the_evidence(home: Home) -> None:
    """PRO-8: a freeze pins what is there in both directions; a person may still go back."""
    target = challenged(home)
    target.switches.freeze(True, actor="mei", reason="SEV-1", at=AT)
    found = run(
        target, Traffic(per_tick=BUSY, errors={"champion": 0.0, "challenger": 1.0}), story=QUICK, ticks=20
    )
    assert found.moves == []
    assert found.last is not None
    assert found.last.action is Action.HOLD
    assert "SEV-1" in found.last.reason
    done = Controller(target).rollback(QUICK, actor="mei", reason="it is bad", at=found.now)
    assert (done.version, done.deployment.challenger) == (2, None)


def test_a_persons_rollback(home: Home) -> None:
    """PRO-4: first the challenger, then the champion, then there is nothing left; each timed and recorded."""
    target = registry(home)
    for run_id in ("r1", "r2"):
        to_champion(target, run=run_id)
    add(target, run="r3")
    target.start_shadow("intent", 3, actor="retrain", at=AT)
    controller = Controller(target)
    first = controller.rollback(STORY, actor="mei", reason="not now", at=AT)
    assert (first.version, first.deployment.champion) == (3, 2)
    second = controller.rollback(STORY, actor="mei", reason="complaints", at=AT)
    assert (second.version, second.deployment.champion) == (2, 1)
    assert second.verdict.passed
    assert second.verdict.name == "rollback.seconds"
    with pytest.raises(GateRefused, match="nothing to go back to"):
        controller.rollback(STORY, actor="mei", reason="more", at=AT)
    with pytest.raises(InputError, match="reason"):
        controller.rollback(STORY, actor="mei", reason="", at=AT)
    assert [version for version, _ in rollback_seconds(target.ledger, "intent")] == [3, 2]
    undone = target.ledger.entries(kind="registry.rolled_back")[-1]
    assert (undone.actor, undone.body["decision"]["reason"]) == ("mei", "complaints")


class Late:
    """A reader that never gets there."""

    def acknowledge(self, story: str, epoch: int, *, within: timedelta, withdrawn: int) -> Acknowledged:
        raise Unavailable("reader", expected="epoch", got="silence", next_step="Look at it.")


class Counting:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def acknowledge(self, story: str, epoch: int, *, within: timedelta, withdrawn: int) -> Acknowledged:
        self.seen.append(epoch)
        return Acknowledged(1)


def test_a_rollback_waits_for_every_reader(home: Home) -> None:
    """PRO-4: measured to the last reader; one that is late is an error, and the rollback stands."""
    target = challenged(home)
    readers = [Counting(), Counting()]
    done = Controller(target, readers=readers).rollback(STORY, actor="mei", reason="r", at=AT)
    assert done.readers == 2
    assert [reader.seen for reader in readers] == [[done.deployment.epoch]] * 2
    add(target, run="r3")
    target.start_shadow("intent", 3, actor="retrain", at=AT)
    with pytest.raises(Unavailable):
        Controller(target, readers=[Late()]).rollback(STORY, actor="mei", reason="r", at=AT)
    assert target.deployment("intent").challenger is None
    measured = target.ledger.entries(kind="promotion.rollback_measured")[-1]
    assert "silence" in measured.body["late"]


def test_two_controllers_decide_at_once_and_one_wins(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRO-1: the loser gets a Conflict sentence; the transition is there once."""
    target = challenged(home)
    other = registry(home)
    found = run(target, Traffic(per_tick=BUSY), story=QUICK, ticks=47)
    deployment = target.deployment("intent")
    accumulator = EvidenceAccumulator(deployment)
    accumulator.observe(found.rows)
    now = AT + timedelta(hours=4)
    evidence = accumulator.evidence(now)
    append = target.ledger.append
    raced = []

    def late(**entry: object) -> object:
        if entry["kind"] == "registry.advanced" and not raced:
            raced.append(Controller(other).step(QUICK, evidence, now))
        return append(**entry)  # type: ignore[arg-type]  # passes on exactly what it was given

    monkeypatch.setattr(target.ledger, "append", late)
    with pytest.raises(Conflict, match="Somebody else moved it first"):
        Controller(target).step(QUICK, evidence, now)
    assert raced[0].action is Action.PROMOTE
    assert len(target.ledger.entries(kind="registry.advanced", after=deployment.epoch)) == 1


def test_old_evidence_is_refused(home: Home) -> None:
    """PRO-2: evidence is about one deployment; an earlier stage's cannot move a later one."""
    target = challenged(home)
    evidence = EvidenceAccumulator(target.deployment("intent")).evidence(AT + TICK)
    target.advance("intent", 2, stage=QUICK.rollout.stages[0], holdout=0.75, decision=passing("intent/2"))
    with pytest.raises(InputError, match="evidence"):
        Controller(target).step(QUICK, evidence, AT + TICK)
    Controller(target).rollback(QUICK, actor="mei", reason="r", at=AT)
    with pytest.raises(InputError, match="challenger"):
        Controller(target).step(QUICK, evidence, AT + TICK)


def test_a_restarted_controller_repeats_no_hold(home: Home) -> None:
    """TRN-1: what was recorded before a restart is not recorded again."""
    target = challenged(home)
    run(target, Traffic(per_tick=BUSY), story=QUICK, ticks=10)
    before = target.ledger.head()
    accumulator = EvidenceAccumulator(target.deployment("intent"))
    traffic, now = Traffic(per_tick=BUSY), AT
    for _ in range(10):
        now += TICK
        accumulator.observe(traffic.tick(target.deployment("intent"), now)[0])
    Controller(target).step(QUICK, accumulator.evidence(now), now)
    assert target.ledger.head() == before


def test_a_changed_policy_in_mid_rollout_is_noticed(home: Home) -> None:
    target = challenged(home)
    target.advance("intent", 2, stage=STORY.rollout.stages[0], holdout=0.75, decision=passing("intent/2"))
    evidence = EvidenceAccumulator(target.deployment("intent")).evidence(AT + TICK)
    with pytest.raises(InputError, match="policy changed"):
        Controller(target).step(QUICK, evidence, AT + TICK)


def aborted(home: Home, traffic: Traffic) -> tuple[Registry, Rollout]:
    """A canary aborted by a person, with an hour of hold-out traffic before it."""
    target = challenged(home)
    shadow = run(target, Traffic(per_tick=BUSY), story=QUICK, ticks=49)
    canary = run(target, traffic, story=QUICK, start=shadow.now, ticks=60)
    if target.deployment("intent").challenger is not None:
        Controller(target).rollback(QUICK, actor="ken", reason="pager went off", at=canary.now)
    canary.rows = shadow.rows + canary.rows
    canary.outcomes = shadow.outcomes + canary.outcomes
    return target, canary


def frames(found: Rollout) -> tuple[pl.DataFrame, pl.DataFrame]:
    return (
        pl.DataFrame(found.rows, schema=PREDICTIONS, orient="row"),
        pl.DataFrame(found.outcomes, schema=OUTCOMES, orient="row"),
    )


def test_a_false_alarm_can_be_enabled_again(home: Home) -> None:
    """PRO-3: by a person, with a reason, checked against the hour before the canary."""
    target, found = aborted(home, Traffic(per_tick=4 * BUSY, seed=4))
    controller = Controller(target)
    evidence = against_baseline(target, "intent", 2, *frames(found), safety_labels=SAFETY)
    assert evidence.arm("holdout").n > 300
    with pytest.raises(InputError, match="evidence"):
        controller.reenable(QUICK, 1, evidence, actor="mei", reason="pager test", at=found.now)
    after = controller.reenable(QUICK, 2, evidence, actor="mei", reason="pager test", at=found.now)
    assert (after.challenger, after.stage) == (2, "canary_5")
    entry = target.ledger.entries(kind="registry.reenabled")[-1]
    assert entry.actor == "mei"
    assert entry.body["decision"]["reason"] == "False alarm: pager test"


def test_a_true_alarm_cannot(home: Home) -> None:
    """PRO-3: the baseline decides, not the wish."""
    bad = Traffic(per_tick=4 * BUSY, seed=4, errors={"champion": 0.0, "challenger": 0.3})
    target, found = aborted(home, bad)
    evidence = against_baseline(target, "intent", 2, *frames(found), safety_labels=SAFETY)
    with pytest.raises(GateRefused, match="no false alarm"):
        Controller(target).reenable(QUICK, 2, evidence, actor="mei", reason="please", at=found.now)
    assert target.deployment("intent").challenger is None


def test_only_an_aborted_canary_has_a_baseline(home: Home) -> None:
    target = challenged(home)
    with pytest.raises(InputError, match="a version that failed"):
        against_baseline(target, "intent", 2, *frames(Rollout()))
    Controller(target).rollback(QUICK, actor="mei", reason="r", at=AT)
    with pytest.raises(InputError, match="canary was aborted"):
        against_baseline(target, "intent", 2, *frames(Rollout()))


def test_the_holdout_is_what_the_plan_leaves() -> None:
    """PRO-2: all users the last stage does not reach, and never fewer than one in twenty."""
    assert holdout_share(STORY.rollout) == 0.75
    everybody = (CanaryStage("all", 1.0, timedelta(days=1), 10),)
    assert holdout_share(replace(STORY.rollout, stages=everybody)) == 0.05
