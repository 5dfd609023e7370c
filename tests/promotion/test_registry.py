"""The registry: what it refuses, what a transition does, who wins a race, what the ledger adds up to."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.forks import fork_server
from tests.promotion.samples import (
    AT,
    HOLDOUT,
    STAGES,
    TAGS,
    add,
    failing,
    passing,
    registry,
    to_canary,
    to_champion,
)

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import Conflict, GateRefused, InputError, IntegrityError
from mangaassist.core.home import Home
from mangaassist.core.story import CanaryStage
from mangaassist.core.verdict import Action, Decision
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.versions import VersionStatus


@pytest.mark.parametrize("tag", sorted(TAGS))
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_tag_is_refused(home: Home, tag: str, value: str | None) -> None:
    """TRN-4: a run lacking one of the six tags is refused at registration and leaves no entry."""
    target = registry(home)
    with pytest.raises(GateRefused, match=tag):
        target.register(
            "intent",
            artifact=target.artifacts.put_files({"manifest.json": b"{}"}),
            tags={**TAGS, tag: value},
            metrics={},
            gate=passing("intent"),
            run_id="r",
            actor="retrain",
            at=AT,
        )
    assert target.ledger.head() == 0


def test_seed_zero_is_a_seed(home: Home) -> None:
    """TRN-4: zero is a value, not an absence."""
    target = registry(home)
    artifact = target.artifacts.put_files({"manifest.json": b"{}"})
    version = target.register(
        "intent",
        artifact=artifact,
        tags={**TAGS, "seed": 0},
        metrics={},
        gate=passing("intent"),
        run_id="r",
        actor="retrain",
        at=AT,
    )
    assert version.tags["seed"] == "0"


def test_an_artifact_outside_the_store_is_refused(home: Home) -> None:
    """PRO-1: no deployment from outside the registry."""
    target = registry(home)
    with pytest.raises(IntegrityError):
        target.register(
            "intent",
            artifact="0" * 64,
            tags=TAGS,
            metrics={},
            gate=passing("intent"),
            run_id="r",
            actor="a",
            at=AT,
        )
    with pytest.raises(InputError, match="document 'evaluation'"):
        target.register(
            "intent",
            artifact=target.artifacts.put_files({"manifest.json": b"{}"}),
            tags=TAGS,
            metrics={},
            gate=passing("intent"),
            run_id="r",
            actor="a",
            at=AT,
            documents={"evaluation": "1" * 64},
        )
    assert target.ledger.head() == 0


def test_the_whole_way(home: Home) -> None:
    """PRO-1, PRO-2: champion and challenger state at each step, and the rollback pointer."""
    target = registry(home)
    first = to_champion(target, run="r1")
    assert (first.number, first.status) == (1, VersionStatus.CHAMPION)
    second = add(target, run="r2")
    assert target.deployment("intent").champion == 1
    shadow = target.start_shadow("intent", 2, actor="policy", at=AT)
    assert (shadow.challenger, shadow.stage, shadow.share) == (2, "shadow", 0.0)
    salts = {shadow.salt}
    for stage in STAGES:
        moved = target.advance("intent", 2, stage=stage, holdout=HOLDOUT, decision=passing(second.name))
        assert (moved.champion, moved.challenger, moved.stage, moved.share) == (1, 2, stage.name, stage.share)
        salts.add(moved.salt)
    assert len(salts) == 1, "a ramp that changes the salt moves users out of the canary"
    full = target.promote("intent", 2, decision=passing(second.name))
    assert (full.champion, full.challenger, full.stage, full.last_known_good) == (2, None, "full", 1)
    assert [one.status for one in target.versions("intent")] == ["retired", "champion"]
    record = target.get("intent", 2).as_dict()
    assert record["dataset_version"] == str(TAGS["data_snapshot_id"])
    assert record["training_code_sha"] == TAGS["code_revision"]
    assert target.stories() == ["intent"]


def test_a_new_rollout_draws_new_users(home: Home) -> None:
    """PRO-2: the salt belongs to the rollout, so not the same people meet every challenger."""
    target = registry(home)
    to_champion(target, run="r1")
    salts = []
    for run in ("r2", "r3"):
        version = add(target, run=run)
        salts.append(target.start_shadow("intent", version.number, actor="p", at=AT).salt)
        target.fail("intent", version.number, decision=failing(version.name))
    assert salts[0] != salts[1]


def test_failed_promotion_is_kept_and_never_latest(home: Home) -> None:
    """PRO-1, RET-2: failed candidates stay in the registry and are not returned as latest."""
    target = registry(home)
    to_champion(target, run="r1")
    refused = add(target, run="r2", gate=failing("intent"))
    assert refused.status is VersionStatus.FAILED_PROMOTION
    third = add(target, run="r3")
    to_canary(target, "intent", third.number)
    after = target.fail("intent", third.number, decision=failing(third.name), severity="SEV-3")
    assert (after.champion, after.challenger, after.stage) == (1, None, "full")
    latest = target.latest("intent")
    assert latest is not None
    assert latest.number == 1
    assert [one.number for one in target.versions("intent")] == [1, 2, 3]
    with pytest.raises(GateRefused, match="failed_promotion"):
        target.start_shadow("intent", 2, actor="policy", at=AT)
    with pytest.raises(GateRefused):
        target.fail("intent", 1, decision=failing("intent/1"))


def test_only_an_aborted_canary_comes_back(home: Home) -> None:
    """PRO-3: what failed offline, in shadow or as champion cannot be enabled again."""
    target = registry(home)
    to_champion(target, run="r1")
    to_champion(target, run="r2")
    target.rollback("intent", decision=failing("intent/2"))
    shadowed = add(target, run="r3")
    target.start_shadow("intent", 3, actor="p", at=AT)
    target.fail("intent", 3, decision=failing(shadowed.name))
    add(target, run="r4", gate=failing("intent"))
    canaried = add(target, run="r5")
    to_canary(target, "intent", 5)
    target.fail("intent", 5, decision=failing(canaried.name))
    for number in (3, 2, 4):
        with pytest.raises((GateRefused, InputError)):
            target.reenable(
                "intent", number, stage=STAGES[0], holdout=HOLDOUT, decision=passing(f"intent/{number}")
            )
    back = target.reenable("intent", 5, stage=STAGES[0], holdout=HOLDOUT, decision=passing("intent/5"))
    assert (back.challenger, back.stage) == (5, STAGES[0].name)


def test_a_capped_version_never_sees_users(home: Home) -> None:
    """LAB-3: the single-source waiver caps a version at shadow, whatever its verdicts say."""
    target = registry(home)
    version = add(target, run="r1", capped="shadow")
    target.start_shadow("intent", 1, actor="policy", at=AT)
    with pytest.raises(GateRefused, match="single-source"):
        target.advance("intent", 1, stage=STAGES[0], holdout=HOLDOUT, decision=passing(version.name))
    assert target.deployment("intent").stage == "shadow"


def test_only_a_fresh_pass_about_this_version_promotes(home: Home) -> None:
    """PRO-2: a hold, a failure or a pass about another version moves nothing."""
    target = registry(home)
    add(target, run="r1")
    hold = Decision(Action.HOLD, "intent/1", "not enough", "policy", AT)
    add(target, run="held", gate=hold)
    with pytest.raises(GateRefused, match="passed offline gate"):
        target.start_shadow("intent", 2, actor="policy", at=AT)
    target.start_shadow("intent", 1, actor="policy", at=AT)
    for decision in (hold, failing("intent/1"), passing("intent/2"), passing("spam/1")):
        with pytest.raises(GateRefused):
            target.advance("intent", 1, stage=STAGES[0], holdout=HOLDOUT, decision=decision)
    with pytest.raises(GateRefused, match="been through its canary"):
        target.promote("intent", 1, decision=passing("intent/1"))


def test_rollback_goes_back_one_champion_and_refuses_when_there_is_none(home: Home) -> None:
    """PRO-1, RET-2: the rollback pointer is the previous champion."""
    target = registry(home)
    with pytest.raises(GateRefused, match="no champion at all"):
        target.rollback("intent", decision=failing("intent"))
    to_champion(target, run="r1")
    with pytest.raises(GateRefused, match="first champion"):
        target.rollback("intent", decision=failing("intent/1"))
    for run in ("r2", "r3", "r4"):
        to_champion(target, run=run)
    back = target.rollback("intent", decision=failing("intent/4"))
    assert (back.champion, back.last_known_good) == (3, 2)
    assert target.get("intent", 4).status is VersionStatus.FAILED_PROMOTION
    with pytest.raises(GateRefused, match="an earlier champion"):
        target.rollback("intent", decision=failing("intent/3"), to=4)
    older = target.rollback("intent", decision=failing("intent/3"), to=1)
    assert (older.champion, older.last_known_good) == (1, None)
    assert [one.status for one in target.versions("intent")] == [
        "champion",
        "retired",
        "failed_promotion",
        "failed_promotion",
    ]


def test_rollback_to_a_damaged_artifact_is_refused_before_anything_moves(home: Home) -> None:
    """PRO-4: going back to a model that cannot be loaded is no rollback."""
    target = registry(home)
    first = to_champion(target, run="r1")
    to_champion(target, run="r2")
    blob = home.folder("artifacts") / first.artifact[:2] / first.artifact
    blob.unlink()
    with pytest.raises(IntegrityError):
        target.rollback("intent", decision=failing("intent/2"))
    assert target.deployment("intent").champion == 2


def test_registering_the_same_run_twice_makes_one_version(home: Home) -> None:
    """TRN-1: a retrain killed after registering resumes to the same version."""
    target = registry(home)
    assert add(target, run="r1") == add(registry(home), run="r1")
    with pytest.raises(Conflict, match="run r1"):
        add(target, run="r1", files={"manifest.json": b"other"})
    assert target.start_shadow("intent", 1, actor="p", at=AT) == registry(home).start_shadow(
        "intent", 1, actor="p", at=AT
    )
    assert len(target.ledger.entries(subject="registry/intent")) == 2


def test_a_freeze_stops_every_advance_and_no_retreat(home: Home, clock: SimulatedClock) -> None:
    """PRO-8: deployments blocked, the way back open."""
    target = registry(home)
    to_champion(target, run="r1")
    to_champion(target, run="r2")
    third = add(target, run="r3")
    to_canary(target, "intent", 3)
    target.switches.freeze(True, actor="mei", reason="SEV-1", at=clock.now())
    with pytest.raises(GateRefused, match="global_ml_freeze"):
        target.advance("intent", 3, stage=STAGES[1], holdout=HOLDOUT, decision=passing(third.name))
    with pytest.raises(GateRefused, match="SEV-1"):
        target.promote("intent", 3, decision=passing(third.name))
    target.fail("intent", 3, decision=failing(third.name))
    add(target, run="r4")
    with pytest.raises(GateRefused, match="SEV-1"):
        target.start_shadow("intent", 4, actor="p", at=AT)
    assert target.rollback("intent", decision=failing("intent/2")).champion == 1


def test_an_advance_that_lands_after_a_freeze_is_void(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRO-8: the order of the ledger decides, not the order of the checks."""
    target, other = registry(home), registry(home)
    version = add(target, run="r1")
    to_canary(target, "intent", 1)
    append = target.ledger.append

    def frozen_meanwhile(**entry: object) -> object:
        other.switches.freeze(True, actor="mei", reason="SEV-1", at=AT)
        return append(**entry)  # type: ignore[arg-type]  # passes on exactly what it was given

    monkeypatch.setattr(target.ledger, "append", frozen_meanwhile)
    with pytest.raises(GateRefused, match="SEV-1"):
        target.promote("intent", 1, decision=passing(version.name))
    for reader in (target, other, registry(home)):
        assert reader.deployment("intent").champion is None
        assert reader.deployment("intent").challenger == 1
        assert len(reader.state("intent").voided) == 1


def test_losing_to_a_registration_is_not_a_conflict_losing_to_a_transition_is(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRO-1: the compare-and-swap is about the deployment the decision was made on."""
    mine, theirs = registry(home), registry(home)
    version = add(mine, run="r1")
    mine.start_shadow("intent", 1, actor="p", at=AT)
    decision = passing(version.name)
    append = mine.ledger.append
    meanwhile = [
        lambda: add(theirs, run="r2"),
        lambda: theirs.advance("intent", 1, stage=STAGES[1], holdout=HOLDOUT, decision=decision),
    ]

    def late(**entry: object) -> object:
        if meanwhile:
            meanwhile.pop(0)()
            raced.append(entry["expected"])
        return append(**entry)  # type: ignore[arg-type]  # passes on exactly what it was given

    raced: list[object] = []
    monkeypatch.setattr(mine.ledger, "append", late)
    with pytest.raises(Conflict, match="Somebody else moved it first"):
        mine.advance("intent", 1, stage=STAGES[0], holdout=HOLDOUT, decision=decision)
    assert len(raced) == 2, "the registration was survived, the transition was not"
    assert mine.deployment("intent").stage == STAGES[1].name
    assert len(mine.ledger.entries(kind="registry.advanced")) == 1
    assert mine.ledger.verify().ok


def _promote_once(folder: str, barrier: multiprocessing.synchronize.Barrier, results: object) -> None:
    target = registry(Home.open(Path(folder)))
    epoch = target.deployment("intent").epoch
    barrier.wait()
    try:
        target.promote("intent", 1, decision=passing("intent/1"), epoch=epoch)
        results.put("won")  # type: ignore[attr-defined]  # a multiprocessing queue
    except Conflict as error:
        results.put(str(error))  # type: ignore[attr-defined]  # a multiprocessing queue


def test_eight_processes_promote_at_once_and_one_wins(home: Home) -> None:
    """PRO-1: a second process promoting at the same moment gets one clear sentence."""
    target = registry(home)
    add(target, run="r1")
    to_canary(target, "intent", 1)
    context = fork_server("tests.promotion.samples")
    barrier, results = context.Barrier(8), context.Queue()
    workers = [
        context.Process(target=_promote_once, args=(str(home.path), barrier, results)) for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert found.count("won") == 1
    assert all("somebody else moved it first" in one.lower() for one in found if one != "won")
    promoted = target.ledger.entries(kind="registry.promoted")
    assert len(promoted) == 1
    assert target.deployment("intent").champion == 1


@pytest.mark.service
def test_the_whole_way_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    """PRO-1: the same registry on the ledger beyond one machine; one of two racing promotions wins."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "settings.toml").write_text(f'ledger_url = "{postgres_url}"\n')
    home = Home.open(tmp_path / "home")
    target, other = registry(home), registry(home)
    to_champion(target, run="r1")
    version = add(target, run="r2")
    to_canary(target, "intent", 2)
    epoch = other.deployment("intent").epoch
    target.promote("intent", 2, decision=passing(version.name), epoch=epoch)
    with pytest.raises(Conflict, match="Somebody else moved it first"):
        other.promote("intent", 2, decision=passing(version.name), epoch=epoch)
    assert other.rollback("intent", decision=failing("intent/2")).champion == 1
    assert target.deployment("intent") == other.deployment("intent")
    target.ledger.close()
    other.ledger.close()


class RegistryMachine(RuleBasedStateMachine):
    """Random transitions by two readers against a plain-dictionary twin."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        home = Home.open(Path(self.folder.name) / "home")
        self.readers = [registry(home), registry(home)]
        self.home = home
        self.status: dict[int, str] = {}
        self.stack: list[int] = []
        self.challenger: int | None = None
        self.stage = "none"

    def teardown(self) -> None:
        for reader in self.readers:
            reader.ledger.close()
        self.folder.cleanup()

    @rule(reader=st.integers(0, 1), passes=st.booleans())
    def register(self, reader: int, passes: bool) -> None:
        number = len(self.status) + 1
        gate = passing("intent") if passes else failing("intent")
        assert add(self.readers[reader], run=f"r{number}", gate=gate).number == number
        self.status[number] = "registered" if passes else "failed_promotion"

    @precondition(lambda self: self.status)
    @rule(reader=st.integers(0, 1), data=st.data())
    def start_shadow(self, reader: int, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.status)))
        legal = self.status[number] == "registered" and self.challenger is None
        if legal:
            self.readers[reader].start_shadow("intent", number, actor="p", at=AT)
            self.status[number], self.challenger, self.stage = "shadow", number, "shadow"
        elif not (self.challenger == number and self.stage == "shadow"):
            with pytest.raises(GateRefused):
                self.readers[reader].start_shadow("intent", number, actor="p", at=AT)

    @precondition(lambda self: self.challenger is not None)
    @rule(reader=st.integers(0, 1), stage=st.sampled_from(STAGES))
    def advance(self, reader: int, stage: CanaryStage) -> None:
        number = self.challenger or 0
        decision = passing(f"intent/{number}")
        names = [one.name for one in STAGES]
        if self.stage != "shadow" and names.index(stage.name) <= names.index(self.stage):
            with pytest.raises(GateRefused, match="a share above"):
                self.readers[reader].advance(
                    "intent", number, stage=stage, holdout=HOLDOUT, decision=decision
                )
            return
        self.readers[reader].advance("intent", number, stage=stage, holdout=HOLDOUT, decision=decision)
        self.status[number], self.stage = "canary", stage.name

    @precondition(lambda self: self.challenger is not None and self.stage != "shadow")
    @rule(reader=st.integers(0, 1))
    def promote(self, reader: int) -> None:
        number = self.challenger or 0
        self.readers[reader].promote("intent", number, decision=passing(f"intent/{number}"))
        if self.stack:
            self.status[self.stack[-1]] = "retired"
        self.stack.append(number)
        self.status[number], self.challenger, self.stage = "champion", None, "full"

    @precondition(lambda self: self.challenger is not None)
    @rule(reader=st.integers(0, 1))
    def fail(self, reader: int) -> None:
        number = self.challenger or 0
        self.readers[reader].fail("intent", number, decision=failing(f"intent/{number}"))
        self.status[number], self.challenger = "failed_promotion", None
        self.stage = "full" if self.stack else "none"

    @rule(reader=st.integers(0, 1))
    def rollback(self, reader: int) -> None:
        if self.challenger is not None or len(self.stack) < 2:
            with pytest.raises(GateRefused):
                self.readers[reader].rollback("intent", decision=failing("intent"))
            return
        self.readers[reader].rollback("intent", decision=failing("intent"))
        self.status[self.stack.pop()] = "failed_promotion"
        self.status[self.stack[-1]] = "champion"

    @invariant()
    def both_readers_and_a_fresh_one_agree_with_the_twin(self) -> None:
        fresh = registry(self.home)
        expected = (self.stack[-1] if self.stack else None, self.challenger, self.stage)
        for reader in (*self.readers, fresh):
            deployment = reader.deployment("intent")
            assert (deployment.champion, deployment.challenger, deployment.stage) == expected
            assert {one.number: str(one.status) for one in reader.versions("intent")} == self.status
            assert deployment.last_known_good == (self.stack[-2] if len(self.stack) > 1 else None)
        assert fresh.state("intent") == self.readers[0].state("intent")
        fresh.ledger.close()


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)


def test_state_is_cheap_when_nothing_changed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRO-1: an unchanged ledger is not read again."""
    target = registry(home)
    to_champion(target, run="r1")
    first = target.state("intent")

    def read_again(**_: object) -> list[object]:
        raise AssertionError("read the ledger although nothing changed")

    monkeypatch.setattr(target.ledger, "entries", read_again)
    assert target.state("intent") is first


def test_unknown_version_names_the_known_ones(home: Home) -> None:
    target: Registry = registry(home)
    add(target, run="r1")
    with pytest.raises(InputError, match="Known: 1"):
        target.get("intent", 9)
