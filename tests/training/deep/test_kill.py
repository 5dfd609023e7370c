"""kill -9 anywhere in a training, also in the middle of writing a checkpoint: the same bits in the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mangaassist.training.deep.launch import INTERRUPTIONS


def killed(folder: Path, *, seed: int, kills: int, every: int, epochs: int) -> dict[str, Any]:
    numbers = (str(one) for one in (seed, kills, every, epochs))
    command = [sys.executable, "-m", "tests.training.deep.victims", str(folder), *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any], *, kills: int, every: int) -> None:
    # A checkpoint is named after its bytes: weights, optimiser, scheduler, generators and cursor.
    assert set(found["ends"]) == {found["expected"]}
    assert 0 < found["most_redone"] <= every
    counts = found["interruptions"]
    assert sum(died for died, _ in counts) >= kills
    # A kill before the attempt said so in the journal is none: nothing had begun.
    assert all(died - 1 <= counted <= died for died, counted in counts)
    assert found["escalated"] >= sum(counted > INTERRUPTIONS + 1 for _, counted in counts)


def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    """TRN-3."""
    check(killed(tmp_path, seed=11, kills=6, every=7, epochs=4), kills=6, every=7)


@pytest.mark.soak
@pytest.mark.parametrize(("every", "epochs"), [(7, 4), (500, 150)])
def test_killed_at_a_hundred_random_points(tmp_path: Path, every: int, epochs: int) -> None:
    """TRN-3, the long form; 150 epochs are 1,650 steps, with a checkpoint every 500 as it ships."""
    found = killed(tmp_path, seed=12, kills=100, every=every, epochs=epochs)
    check(found, kills=100, every=every)
