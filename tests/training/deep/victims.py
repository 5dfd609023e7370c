"""Trainings that are killed at random points until they are done, forked from one process with torch in it.

``python -m tests.training.deep.victims FOLDER SEED KILLS EVERY EPOCHS`` prints one JSON object. A victim
dies at a random dangerous moment (a batch, a write cut in half, either side of an fsync, a rename, an unlink)
or, one in four, whenever its parent happens to kill it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import safetensors.torch  # noqa: F401 - here, so that no fork has to
import torch._dynamo  # noqa: F401
from tests.storage.spool_victim import Bomb, die
from tests.training.deep.tasks import PER_EPOCH, Bags

from mangaassist.training.deep.journal import ESCALATED, RESUMED
from mangaassist.training.deep.launch import Config, Job, launch

MOMENTS_A_CHECKPOINT = 15


def job(folder: Path, config: Config) -> Job:
    return Job(folder, "tests.training.deep.tasks:noisy", config)


def final(folder: Path) -> str:
    """Name of the last checkpoint: its step and the digest of weights, optimiser, generators and all."""
    return max(path.name for path in (folder / "checkpoints").glob("step-*"))


def arm(bomb: Bomb, steps: Path) -> None:
    """Let ``bomb`` count every dangerous moment; ``steps`` gets a byte per batch trained."""
    log = os.open(steps, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os_write = os.write
    loss: Callable[..., Any] = Bags.loss

    def counted(self: Bags, *arguments: Any) -> Any:
        if bomb.tick():
            die()
        os_write(log, b".")
        return loss(self, *arguments)

    Bags.loss = counted  # type: ignore[method-assign]
    os.write = bomb.halving(os.write)  # type: ignore[assignment]
    os.fsync = bomb.around(os.fsync)
    for name in ("replace", "unlink"):
        setattr(Path, name, bomb.around(getattr(Path, name)))


def attempt(one: Job, at: int | None, after: float | None) -> bool:
    """One forked training; True when it came to its end."""
    folder = one.folder
    child = os.fork()
    if child == 0:
        try:
            if at is not None:
                arm(Bomb(at), folder / "steps")
            launch(one)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    timer = threading.Timer(after or 0.0, os.kill, (child, signal.SIGKILL))
    if after is not None:
        timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"a victim failed in {folder}")
    return os.WIFEXITED(status)


def redone(one: Job) -> int:
    """Steps of the attempt that just died which the next one has to do again."""
    resumed = [0, *(event["step"] for event in one.journal.of(RESUMED))]
    done = (one.folder / "steps").stat().st_size
    newest = one.checkpoints.newest().snapshot
    return resumed[-1] + done - (newest.step if newest else 0)


def main(place: str, seed: str, kills: str, every: str, epochs: str) -> None:
    root, rng, left = Path(place), np.random.default_rng(int(seed)), int(kills)
    config = Config(seed=3, epochs=int(epochs), every=int(every), keep=2)
    unbroken = job(root / "unbroken", config)
    unbroken.folder.mkdir(parents=True)
    started = perf_counter()
    assert attempt(unbroken, None, None)
    seconds = perf_counter() - started
    steps = PER_EPOCH * config.epochs
    # About as many as an unbroken run has, and some more: drawing beyond them lets some runs end.
    moments = int(1.1 * (steps + MOMENTS_A_CHECKPOINT * steps / config.every))
    ends, lost, interruptions, escalated = [], [], [], 0
    while left > 0:
        one = job(root / f"run-{len(ends)}", config)
        one.folder.mkdir()
        died = 0
        while True:
            outside = rng.random() < 0.25
            at, after = int(rng.integers(1, moments)), float(rng.uniform(0.0, seconds))
            before = len(one.journal.of(RESUMED))
            if attempt(one, None if outside else at, after if outside else None):
                break
            died, left = died + 1, left - 1
            if not outside and (len(one.journal.of(RESUMED)) > before or died == 1):
                lost.append(redone(one))
        ends.append(final(one.folder))
        interruptions.append((died, one.journal.interruptions))
        escalated += bool(one.journal.of(ESCALATED))
    found = {
        "expected": final(unbroken.folder),
        "ends": ends,
        "most_redone": max(lost, default=0),
        "interruptions": interruptions,
        "escalated": escalated,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
