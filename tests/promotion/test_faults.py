"""kill -9 in the middle of registering and advancing: nothing lost, nothing doubled, the next run goes on."""

from __future__ import annotations

import signal
from collections import Counter
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
from tests.forks import fork_server
from tests.promotion.samples import AT, HOLDOUT, STAGES, add, passing, registry

from mangaassist.core.home import Home
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.versions import VersionStatus

RUNS = 40


def take_all_the_way(target: Registry, run: str) -> None:
    """What a retrain does, from wherever an earlier attempt was killed."""
    version = add(target, run=run)
    if version.status is VersionStatus.REGISTERED:
        target.start_shadow("intent", version.number, actor="retrain", at=AT)
    decision = passing(version.name)
    names = [stage.name for stage in STAGES]
    while (deployment := target.deployment("intent")).challenger == version.number:
        done = -1 if deployment.stage == "shadow" else names.index(deployment.stage)
        if done + 1 < len(STAGES):
            target.advance(
                "intent",
                version.number,
                stage=STAGES[done + 1],
                holdout=HOLDOUT,
                decision=decision,
                epoch=deployment.epoch,
            )
        else:
            target.promote("intent", version.number, decision=decision, epoch=deployment.epoch)


def work(folder: str, started: Event) -> None:
    """The process that gets killed."""
    target = registry(Home.open(Path(folder)))
    started.set()
    for n in range(RUNS):
        take_all_the_way(target, f"r{n}")


def kill_at(home: Home, delays: list[float]) -> int:
    """Start the worker once per delay, kill it that long after it started; how many were still at work."""
    context, hits = fork_server("tests.promotion.samples"), 0
    for delay in delays:
        started = context.Event()
        worker = context.Process(target=work, args=(str(home.path), started))
        worker.start()
        assert started.wait(60)
        worker.join(delay)
        worker.kill()
        worker.join()
        hits += worker.exitcode == -signal.SIGKILL
    return hits


def check_nothing_lost_or_doubled(home: Home) -> None:
    """Finish the work in this process, then compare the ledger with what one unbroken run writes."""
    target = registry(home)
    for n in range(RUNS):
        take_all_the_way(target, f"r{n}")
    versions = target.versions("intent")
    assert [version.run_id for version in versions] == [f"r{n}" for n in range(RUNS)]
    assert [version.number for version in versions] == list(range(1, RUNS + 1))
    assert [version.status for version in versions] == ["retired"] * (RUNS - 1) + ["champion"]
    steps = Counter(
        (entry.kind, entry.body["version"], entry.body.get("stage"))
        for entry in target.ledger.entries(subject="registry/intent")
    )
    assert set(steps.values()) == {1}
    assert len(steps) == RUNS * (3 + len(STAGES))
    assert target.ledger.verify().ok
    for version in versions:
        assert target.artifacts.files(version.artifact) == {"manifest.json": version.run_id.encode()}


def delays(count: int, seed: int) -> list[float]:
    return [float(one) for one in np.random.default_rng(seed).uniform(0.0, 0.15, count)]


def test_kill_minus_nine_loses_and_doubles_nothing(home: Home) -> None:
    """PRO-1: three seeded kills during register, shadow, canary and promote."""
    assert kill_at(home, delays(3, seed=1)) >= 1
    check_nothing_lost_or_doubled(home)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_kill_minus_nine_loses_and_doubles_nothing_long_form(home: Home, seed: int) -> None:
    """PRO-1: two hundred seeded kills in all."""
    assert kill_at(home, delays(20, seed=seed)) >= 5
    check_nothing_lost_or_doubled(home)
