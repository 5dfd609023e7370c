"""Machines that a command reaches: spot ones, on-demand ones once those were taken away too often (TRN-3).

The command is put before the training process, as ``srun -p spot`` or ``kubectl exec TRAINER --`` are. What
it reaches has to see the job's folder at the same path, with the same packages.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import orjson

from mangaassist.core.errors import Unavailable
from mangaassist.core.identity import canonical_json
from mangaassist.training.deep.launch import (
    PEER_LOST,
    Job,
    Layout,
    Start,
    forget_error,
    leave_error,
    reported,
    start_here,
)
from mangaassist.training.deep.loop import Capacity, Config

_ORDER = "order.json"
# A shell says 128 and the signal of what it ran: SIGKILL, and the SIGTERM that precedes a taken machine.
_TAKEN_AWAY = frozenset({128 + 9, 128 + 15, PEER_LOST})


def start_on(commands: Mapping[str, str]) -> Start:
    """The :data:`Start` that asks the command of a capacity for its machine; this one where there is none."""

    def start(job: Job, layout: Layout, capacity: Capacity) -> bool:
        command = shlex.split(commands.get(capacity, ""))
        return _run(command, job, layout, capacity) if command else start_here(job, layout, capacity)

    return start


def _run(command: list[str], job: Job, layout: Layout, capacity: Capacity) -> bool:
    forget_error(job)
    order = {
        "task": job.task,
        "config": asdict(job.config),
        "layout": asdict(layout),
        "capacity": capacity,
    }
    (job.folder / _ORDER).write_bytes(canonical_json(order))
    process = [*command, sys.executable, "-m", __name__, str(job.folder.resolve())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    try:
        done = subprocess.run(process, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise _unusable(command, capacity, str(error)) from error
    if done.returncode == 0:
        return True
    own = reported(job)
    if own is not None:
        raise own
    if done.returncode < 0 or done.returncode in _TAKEN_AWAY:
        return False
    said = done.stderr.strip().splitlines()[-1:] or [""]
    raise _unusable(command, capacity, f"exit code {done.returncode} {said[0]}".rstrip())


def _unusable(command: list[str], capacity: Capacity, got: str) -> Unavailable:
    return Unavailable(
        f"train_{capacity}",
        expected="a command that runs a process to its end",
        got=f"'{shlex.join(command)}': {got}",
        next_step="Try it by hand, correct the setting, and retrain: the last checkpoint stands.",
    )


def main(place: str) -> None:
    """What the command runs: the job in the folder ``place``, as it was ordered."""
    folder = Path(place)
    order = orjson.loads((folder / _ORDER).read_bytes())
    job = Job(folder, order["task"], Config(**order["config"]))
    try:
        ended = start_here(job, Layout(**order["layout"]), order["capacity"])
    except Exception as error:
        leave_error(job, error)
        raise
    raise SystemExit(0 if ended else PEER_LOST)


if __name__ == "__main__":
    main(sys.argv[1])
