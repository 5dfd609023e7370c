"""kill -9 anywhere in retrain and promote: nothing lost or doubled, and the next run makes the same bytes."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.journeys import STORY, Shell, fill, new_story, rows, traffic, write
from tests.lifecycle.victims import attempt, command, processes

from mangaassist.promotion.versions import SHADOW, VersionStatus

KILLED = -signal.SIGKILL
LOOKS, UNDECIDED = 5, 9


def small_home(folder: Path) -> Shell:
    """A filled story small enough that a run takes a third of a second."""
    folder.mkdir(parents=True, exist_ok=True)
    shell = Shell(folder / "home")
    new_story(shell, quick=True)
    fill(shell, folder)
    return shell


def retrain(home: str, seed: int) -> int:
    return command(home, "retrain", STORY, "--seed", str(seed))


def one_rollout(home: str, seed: int) -> int:
    """What a week does, from wherever an earlier attempt was killed: retrain, shadow, canary, full."""
    shell = Shell(Path(home))
    code = retrain(home, seed)
    registry = shell.platform().registry
    newest = registry.versions(STORY)[-1].number
    for _ in range(LOOKS):
        if registry.deployment(STORY).challenger != newest:
            return code
        traffic(shell)
        code = command(home, "promote", STORY)
    return UNDECIDED


def transitions(shell: Shell) -> Counter[tuple[str, int, Any]]:
    """How often each move of each version is in the ledger."""
    return Counter(
        (entry.kind, entry.body["version"], entry.body.get("stage"))
        for entry in shell.platform().ledger.entries(subject=f"registry/{STORY}")
    )


class Unbroken:
    """The same work in a home where nobody was killed: what every broken home has to end up with."""

    def __init__(self, folder: Path, task: Any, seeds: int) -> None:
        self.shell = small_home(folder)
        self.changes = []
        for seed in range(seeds):
            code, changes = attempt(task, self.shell.home, seed)
            assert code == 0
            self.changes.append(changes)

    def check(self, broken: Shell) -> None:
        """The broken home says what this one says: versions, bytes, transitions, each once."""
        expected, found = (one.platform().registry for one in (self.shell, broken))
        assert [(one.number, one.artifact, one.status) for one in found.versions(STORY)] == [
            (one.number, one.artifact, one.status) for one in expected.versions(STORY)
        ]
        assert transitions(broken) == transitions(self.shell)
        assert set(transitions(broken).values()) == {1}
        assert found.deployment(STORY).champion == expected.deployment(STORY).champion
        assert broken.json("audit", "verify")["verified"]


def kill_and_finish(shell: Shell, unbroken: Unbroken, task: Any, kills: int, seed: int) -> int:
    """``kills`` seeded deaths spread over the work on every seed; how many struck before it was done."""
    generator, struck = np.random.default_rng(seed), 0
    for number, changes in enumerate(unbroken.changes):
        for _ in range(kills // len(unbroken.changes)):
            before = shell.platform().ledger.entries()
            # Early points more often than late ones: every attempt starts where the one before was killed.
            fatal = 1 + int(changes * generator.uniform() ** 2)
            code, _ = attempt(task, shell.home, number, fatal=fatal)
            ledger = shell.platform().ledger
            assert ledger.verify().ok
            assert ledger.entries()[: len(before)] == before
            struck += code == KILLED
        assert attempt(task, shell.home, number)[0] == 0
    return struck


def test_a_retrain_killed_anywhere(tmp_path: Path) -> None:
    """Issue, faults: twelve seeded points between the first and the last byte a retrain writes."""
    unbroken = Unbroken(tmp_path / "unbroken", retrain, seeds=3)
    broken = small_home(tmp_path / "broken")
    assert kill_and_finish(broken, unbroken, retrain, kills=12, seed=21) >= 6
    unbroken.check(broken)


def test_a_rollout_killed_anywhere(tmp_path: Path) -> None:
    """Issue, faults: eight seeded points from retrain through promote to the champion of each week."""
    unbroken = Unbroken(tmp_path / "unbroken", one_rollout, seeds=2)
    assert unbroken.shell.platform().registry.deployment(STORY).champion == 2
    broken = small_home(tmp_path / "broken")
    assert kill_and_finish(broken, unbroken, one_rollout, kills=8, seed=22) >= 4
    unbroken.check(broken)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_killed_anywhere_long_form(tmp_path: Path, seed: int) -> None:
    """Issue, faults: hundreds of points."""
    for name, task, seeds in (("retrain", retrain, 4), ("rollout", one_rollout, 3)):
        unbroken = Unbroken(tmp_path / name / "unbroken", task, seeds)
        broken = small_home(tmp_path / name / "broken")
        assert kill_and_finish(broken, unbroken, task, kills=24, seed=1000 + seed) >= 12
        unbroken.check(broken)


def test_a_retrain_killed_by_somebody_else_at_any_time(tmp_path: Path) -> None:
    """The same from outside: SIGKILL after a seeded time, wherever the process happens to be."""
    unbroken = Unbroken(tmp_path / "unbroken", retrain, seeds=1)
    broken = small_home(tmp_path / "broken")
    for delay in np.random.default_rng(23).uniform(0.01, 0.6, 3):
        victim = processes.Process(target=silent_retrain, args=(str(broken.home), 0))
        victim.start()
        victim.join(float(delay))
        victim.kill()
        victim.join()
        assert broken.platform().ledger.verify().ok
    assert attempt(retrain, broken.home, 0)[0] == 0
    unbroken.check(broken)


def silent_retrain(home: str, seed: int) -> None:
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        retrain(home, seed)


def test_an_import_killed_anywhere(tmp_path: Path) -> None:
    """LAB-8: the same command afterwards completes the batch; no row is lost, none is there twice."""
    content = rows(0, 2)
    path = str(write(tmp_path / "train.csv", content))
    line = (
        "labels",
        "import",
        STORY,
        path,
        "--text-column",
        "text",
        "--label-column",
        "label",
        "--source",
        "v",
    )
    counted = Shell(tmp_path / "counted")
    new_story(counted)
    code, changes = attempt(command, counted.home, *line)
    assert code == 0
    for number, fatal in enumerate(np.random.default_rng(24).integers(1, changes + 1, 4)):
        shell = Shell(tmp_path / f"home{number}")
        new_story(shell)
        assert attempt(command, shell.home, *line, fatal=int(fatal))[0] == KILLED
        assert attempt(command, shell.home, *line)[0] == 0
        platform = shell.platform()
        story = platform.story(STORY)
        assert sorted(platform.labels.examples(story)["text"]) == sorted(row["text"] for row in content)
        assert platform.labels.labels(story).height == len(content)
        assert platform.ledger.verify().ok


def test_a_waiting_shadow_outlives_every_kill(tmp_path: Path) -> None:
    """A version that passed its gate is either not deployed or in shadow, never lost in between."""
    shell = small_home(tmp_path)
    _, changes = attempt(retrain, small_home(tmp_path / "other").home, 0)
    for fatal in range(changes, changes - 4, -1):
        attempt(retrain, shell.home, 0, fatal=fatal)
        for version in shell.platform().registry.versions(STORY):
            deployed = shell.platform().registry.deployment(STORY)
            waiting = version.status is VersionStatus.REGISTERED
            assert waiting or (deployed.challenger, deployed.stage) == (version.number, SHADOW)
    assert attempt(retrain, shell.home, 0)[0] == 0
    assert shell.platform().registry.deployment(STORY).stage == SHADOW
