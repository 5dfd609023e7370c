"""Spot and on-demand machines as commands: which one a training is given, and what befalls it (TRN-3)."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tests.training.deep.test_launch import STEPS, job

from mangaassist.core.errors import Unavailable
from mangaassist.training.deep.journal import ESCALATED, STARTED
from mangaassist.training.deep.launch import INTERRUPTIONS, Layout, launch
from mangaassist.training.deep.machines import start_on


def machine(path: Path, *lines: str) -> str:
    """A command that notes what it was asked for and runs it."""
    path.write_text("\n".join(["#!/bin/sh", f'echo "$@" >> {path}.log', *lines, 'exec "$@"']), "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_job_interrupted_too_often_moves_to_the_on_demand_command(tmp_path: Path) -> None:
    """The fourth interruption happens in a real process of its own; the next one is on demand and ends."""
    folder = tmp_path / "job"
    folder.mkdir()
    doom = {"rank": 0, "step": 9, "plain": True}
    (folder / "kill.json").write_text(json.dumps(doom), encoding="utf-8")
    one = job(folder, "mortal")
    for _ in range(INTERRUPTIONS):
        one.journal.append(STARTED, capacity="spot")
    commands = {name: machine(tmp_path / name, "export RANK=0") for name in ("spot", "on_demand")}
    trained = launch(one, start=start_on(commands))
    assert (trained.capacity, trained.interruptions) == ("on_demand", INTERRUPTIONS + 1)
    assert trained.final.step == STEPS
    asked = [(tmp_path / f"{name}.log").read_text(encoding="utf-8") for name in commands]
    assert [text.count(str(folder)) for text in asked] == [1, 1]
    assert len(one.journal.of(ESCALATED)) == 1


@pytest.mark.parametrize(
    ("line", "ended", "says"),
    [
        ("exit 143", False, ""),
        ("kill -9 $$", False, ""),
        ("echo no such partition >&2; exit 1", None, "exit code 1 no such partition"),
    ],
)
def test_what_a_command_leaves_is_told_apart(
    tmp_path: Path, line: str, ended: bool | None, says: str
) -> None:
    """Taken away is started again; a command that does not work is said at once."""
    one = job(tmp_path / "job")
    one.folder.mkdir()
    start = start_on({"spot": machine(tmp_path / "spot", line)})
    if ended is None:
        with pytest.raises(Unavailable, match=says):
            start(one, Layout(), "spot")
    else:
        assert start(one, Layout(), "spot") is ended
    with pytest.raises(Unavailable, match="train_spot: expected a command"):
        start_on({"spot": str(tmp_path / "nothing")})(one, Layout(), "spot")
