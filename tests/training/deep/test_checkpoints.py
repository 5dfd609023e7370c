"""Checkpoints and the journal: whole or absent, checked, the last few kept."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from mangaassist.core.errors import Unavailable
from mangaassist.training.deep.checkpoints import Checkpoints, Snapshot
from mangaassist.training.deep.journal import DAMAGED, RESUMED, STARTED, Journal
from mangaassist.training.deep.launch import Config, Job, launch

# 128 bits, as in the state of numpy's generator.
STATE = {"big": 2**127 + 1, "rate": 0.1 + 0.2, "cursor": 3}


def snapshot(step: int) -> Snapshot:
    tensors = {"model.w": torch.full((2, 3), float(step)), "optimiser.w/step": torch.tensor(float(step))}
    return Snapshot(step, tensors, {**STATE, "step": step})


@pytest.mark.parametrize("position", [0, 20, 300, -1])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, position: int) -> None:
    """TRN-3: whichever byte it is; the one before is used and the damaged one named."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(snapshot(500))
    newest = tmp_path / checkpoints.save(snapshot(1000))
    data = bytearray(newest.read_bytes())
    data[position] ^= 1
    newest.write_bytes(data)
    found = checkpoints.newest()
    assert found.damaged == (newest.name,)
    assert found.snapshot is not None
    assert (found.snapshot.step, found.snapshot.state) == (500, {**STATE, "step": 500})
    assert torch.equal(found.snapshot.tensors["model.w"], torch.full((2, 3), 500.0))


def test_only_the_last_few_stay_and_drafts_go(tmp_path: Path) -> None:
    (tmp_path / "99999.draft").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path, keep=2)
    names = [checkpoints.save(snapshot(step)) for step in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names[1:]
    assert checkpoints.save(snapshot(3)) == names[2], "the same state is the same file"


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(snapshot(1))

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(Unavailable, match="free space"):
            checkpoints.save(snapshot(2))
    found = checkpoints.newest()
    assert found.snapshot is not None
    assert found.snapshot.step == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_training_says_which_checkpoint_it_could_not_use(tmp_path: Path) -> None:
    job = Job(tmp_path, "tests.training.deep.tasks:noisy", Config(seed=1, epochs=4, every=7))
    launch(job)
    folder = tmp_path / "checkpoints"
    names = sorted(path.name for path in folder.iterdir())
    (folder / names[-1]).write_bytes(b"rubbish")
    launch(job)
    assert [one["checkpoint"] for one in job.journal.of(DAMAGED)] == [names[-1]]
    assert names[-1] in job.journal.of(DAMAGED)[0]["sentence"]
    assert [one["step"] for one in job.journal.of(RESUMED)] == [42]
    assert sorted(path.name for path in folder.iterdir()) == names, "and made it again"
    assert job.checkpoints.newest().damaged == ()


def test_a_torn_line_loses_nothing_but_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(STARTED, capacity="spot")
    with journal.path.open("ab") as file:
        file.write(b'{"event":"fini')
    journal.append(STARTED, capacity="spot")
    assert [one["event"] for one in journal.events()] == [STARTED, STARTED]
    assert journal.interruptions == 2
