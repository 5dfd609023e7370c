"""Several processes on one home at the same moment: one waits or one wins, nothing is done twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.cli.journeys import (
    STORY,
    TRAIN,
    Shell,
    fill,
    importing,
    new_story,
    to_champion,
    traffic,
    trained_home,
    write,
)
from tests.lifecycle.victims import command, race


def kinds(shell: Shell, subject: str) -> Counter[str]:
    return Counter(entry.kind for entry in shell.platform().ledger.entries(subject=subject))


def test_two_processes_retrain_the_same_story(tmp_path: Path) -> None:
    """Issue, build 3: one waits for the other and finds its work done; one registration, one shadow."""
    shell = Shell(tmp_path / "home")
    new_story(shell)
    fill(shell, tmp_path)
    assert race(command, shell.home, [("retrain", STORY)] * 3) == [0, 0, 0]
    assert kinds(shell, f"registry/{STORY}") == {"registry.registered": 1, "registry.shadow_started": 1}
    assert kinds(shell, f"run/{STORY}") == {"run.ended": 3}
    assert kinds(shell, f"labels/{STORY}")["labels.finalised"] == 1
    ended = shell.platform().ledger.entries(subject=f"run/{STORY}")
    assert {entry.body["version"] for entry in ended} == {1}
    first, *rest = [[step["status"] for step in entry.body["steps"]][:7] for entry in ended]
    assert first == ["done"] * 7
    assert rest == [["cached"] * 7] * 2
    assert shell.platform().ledger.verify().ok


def test_two_stories_retrain_side_by_side(tmp_path: Path) -> None:
    """Issue, build 3: parallel runs of different stories on one home are safe."""
    shell = Shell(tmp_path / "home")
    names = ("mood", "topic", STORY)
    for name in names:
        new_story(shell, name)
        fill(shell, tmp_path, name=name)
    assert race(command, shell.home, [("retrain", name) for name in names]) == [0, 0, 0]
    for name in names:
        assert kinds(shell, f"registry/{name}") == {"registry.registered": 1, "registry.shadow_started": 1}
        assert shell.json("predict", name, "where is my Akira parcel")["label"] == "order"
    assert shell.json("audit", "verify")["verified"]


def test_the_same_file_imported_by_several_processes_at_once(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    new_story(shell)
    line = importing(write(tmp_path / "train.csv", TRAIN), "v")
    assert race(command, shell.home, [line] * 3) == [0, 0, 0]
    story = shell.platform().story(STORY)
    assert shell.platform().labels.labels(story).height == len(TRAIN)
    assert shell.platform().labels.examples(story).height == len(TRAIN)
    assert kinds(shell, f"labels/{STORY}")["labels.batch_reserved"] == 1


def test_a_home_made_by_several_processes_at_once(tmp_path: Path) -> None:
    names = [("story", "new", f"story_{index}") for index in range(4)]
    assert race(command, tmp_path / "home", names) == [0] * 4
    shell = Shell(tmp_path / "home")
    assert {name for _, _, name in names} <= {one["story"] for one in shell.json("story", "list")["stories"]}


@pytest.mark.parametrize("stage", ["shadow", "canary_half"])
def test_processes_promoting_at_the_same_moment(tmp_path: Path, stage: str) -> None:
    """Issue, faults: exactly one wins. The others get exit 1, or look at what it made and hold."""
    shell = trained_home(tmp_path, quick=True)
    if stage != "shadow":
        traffic(shell)
        shell("promote", STORY)
    traffic(shell)
    before = kinds(shell, f"registry/{STORY}")
    codes = race(command, shell.home, [("promote", STORY)] * 4)
    assert set(codes) <= {0, 1}
    assert 0 in codes
    made = kinds(shell, f"registry/{STORY}") - before
    assert made == ({"registry.advanced": 1} if stage == "shadow" else {"registry.promoted": 1})
    assert shell.platform().ledger.verify().ok


def test_processes_rolling_back_at_the_same_moment(tmp_path: Path) -> None:
    """One takes the challenger back; the others find nothing to go back to and say so."""
    shell = trained_home(tmp_path, quick=True)
    codes = race(command, shell.home, [("rollback", STORY, "--reason", "odd")] * 4)
    assert sorted(codes) == [0, 1, 1, 1]
    assert kinds(shell, f"registry/{STORY}")["registry.failed"] == 1
    assert kinds(shell, f"promotion/{STORY}") == {"promotion.rollback_measured": 1}


def test_promoting_against_rolling_back(tmp_path: Path) -> None:
    """Whoever is first, the ledger tells one story and the loser leaves 1 or acts on what it then finds."""
    shell = trained_home(tmp_path, quick=True)
    traffic(shell)
    codes = race(command, shell.home, [("promote", STORY), ("rollback", STORY, "--reason", "odd")])
    assert set(codes) <= {0, 1}
    made = kinds(shell, f"registry/{STORY}")
    deployment = shell.platform().registry.deployment(STORY)
    assert made["registry.failed"] <= 1
    assert (deployment.challenger is None) == (made["registry.failed"] == 1)
    assert shell.json("audit", "verify")["verified"]


def test_a_retrain_beside_a_champion_on_trial(tmp_path: Path) -> None:
    """A candidate in canary is nobody's to replace: the second retrain is refused and says what runs."""
    shell = trained_home(tmp_path, quick=True)
    traffic(shell)
    assert shell.json("promote", STORY)["action"] == "promote"
    body = shell.json("retrain", STORY, "--seed", "8", code=1)
    refused = next(step for step in body["steps"] if step["status"] == "refused")
    assert refused["name"] == "shadow"
    assert "version 1 in canary_half" in refused["detail"]
    traffic(shell)
    assert shell.json("promote", STORY)["action"] == "promote"
    assert shell.json("retrain", STORY, "--seed", "8")["status"] == "shadow"
    assert to_champion(shell) == 2
