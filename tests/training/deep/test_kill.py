"""kill -9 anywhere in a training, also in the middle of writing a checkpoint: the same bits in the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.training.deep.victims import EVERY

from mangaassist.training.deep.launch import INTERRUPTIONS


def killed(folder: Path, *, seed: int, kills: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.training.deep.victims", str(folder), str(seed), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any], *, kills: int) -> None:
    # A checkpoint is named after its bytes: weights, optimiser, scheduler, generators and cursor.
    assert set(found["ends"]) == {found["expected"]}
    assert 0 < found["most_redone"] <= EVERY
    counts = found["interruptions"]
    assert sum(died for died, _ in counts) >= kills
    # A kill before the attempt said so in the journal is none: nothing had begun.
    assert all(died - 1 <= counted <= died for died, counted in counts)
    assert found["escalated"] >= sum(counted > INTERRUPTIONS + 1 for _, counted in counts)


def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    """TRN-3."""
    check(killed(tmp_path, seed=11, kills=6), kills=6)


@pytest.mark.soak
def test_killed_at_a_hundred_random_points(tmp_path: Path) -> None:
    """TRN-3, the long form."""
    check(killed(tmp_path, seed=12, kills=100), kills=100)
