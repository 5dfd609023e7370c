"""One door to training: one process, DDP and FSDP, spot machines and those that replace them (TRN-3, TRN-5).

A single process trains right here. Several are started by torchrun's own agent, on this machine, over gloo.
Either way the same :func:`work` does the same job from the same folder, and whoever launches a job again,
after whatever happened, gets the model an unbroken run would have made.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mangaassist.core.errors import InputError, IntegrityError, MangaAssistError, Unavailable, nearest
from mangaassist.core.identity import digest
from mangaassist.training.deep.checkpoints import Checkpoints, Snapshot
from mangaassist.training.deep.crew import STRATEGIES, Crew, Strategy
from mangaassist.training.deep.extra import require
from mangaassist.training.deep.journal import ESCALATED, FAILED, FINISHED, STARTED, Journal
from mangaassist.training.deep.loop import Capacity, Config, Task, train
from mangaassist.training.job_folder import Hear

INTERRUPTIONS = 3
"""How often a spot machine may be taken away; after one more the job moves to the on-demand setting."""
_ERROR = "error.json"
PEER_LOST = 75
"""What a process exits with when another one of its crew is gone: sysexits.h, EX_TEMPFAIL."""
PRELOADED = ("torch", "torch._dynamo", "torch.distributed.fsdp", "safetensors.torch")
"""What the process that torchrun's workers are forked from has imported."""


@dataclass(frozen=True, slots=True)
class Job:
    """A training that any process can take up.

    Attributes:
        folder: its data, checkpoints and journal; every machine that may work on it sees it.
        task: "package.module:function", which makes the :class:`Task` from the folder.
    """

    folder: Path
    task: str
    config: Config

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoints", keep=self.config.keep)

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "journal.jsonl")

    def make_task(self) -> Task:
        """The task itself."""
        module, _, name = self.task.partition(":")
        made: Task = getattr(import_module(module), name)(self.folder)
        return made


@dataclass(frozen=True, slots=True)
class Layout:
    """Which processes train: one in "single", one or more in "ddp" and "fsdp".

    Raises:
        InputError: for an unknown strategy or a number of processes it cannot have.
    """

    processes: int = 1
    strategy: Strategy = "single"

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError(
                "strategy",
                expected=" or ".join(STRATEGIES),
                got=repr(self.strategy),
                next_step=nearest(str(self.strategy), STRATEGIES),
            )
        if self.processes < 1 or (self.strategy == "single" and self.processes > 1):
            raise InputError(
                "processes",
                expected="1 for 'single', 1 or more for 'ddp' and 'fsdp'",
                got=str(self.processes),
                next_step="Pass strategy='ddp' to train with several processes.",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A finished job.

    Attributes:
        final: the state it ended with; the model's tensors are named "model.NAME".
        capacity: the kind of machine it ended on.
        interruptions: how often its processes were taken away.
    """

    final: Snapshot
    capacity: Capacity
    interruptions: int


Start = Callable[[Job, Layout, Capacity], bool]
"""Runs :func:`work` in every process of the layout, on machines of that capacity. True when all ended well,
False when one was taken away; an error of their own is raised."""


def launch(
    job: Job, layout: Layout | None = None, *, start: Start | None = None, hear: Hear | None = None
) -> Trained:
    """Train ``job`` to its end, going on from its last checkpoint as often as its processes are taken away.

    Args:
        start: where processes come from; this machine unless given.
        hear: told "escalated" each time a job is launched that has moved to on-demand machines.

    Raises:
        InputError: without the extra, or for checkpoints that are another job's.
        Unavailable: when on-demand machines are taken away, too, again and again.
    """
    require("torch", "safetensors")
    layout, start, journal = layout or Layout(), start or start_here, job.journal
    for _ in range(2 * (INTERRUPTIONS + 1)):
        before = journal.interruptions
        capacity = _capacity(job, before, hear)
        try:
            ended = start(job, layout, capacity)
        except BaseException as error:  # its own error, or a person's Ctrl-C: nobody took it away
            journal.append(FAILED, error=type(error).__name__)
            raise
        if ended:
            return _finished(job, capacity)
    raise Unavailable(
        f"training in {job.folder}",
        expected="processes that are left to work",
        got=f"{journal.interruptions} interruptions, the last ones on '{capacity}' machines",
        next_step="Find out what kills them (memory?); launched again, it goes on from its last checkpoint.",
    )


def _capacity(job: Job, interruptions: int, hear: Hear | None) -> Capacity:
    """What to ask for now; the moment of change goes to the journal once, and to ``hear`` ever after."""
    if job.config.capacity == "on_demand" or interruptions <= INTERRUPTIONS:
        return job.config.capacity
    known = job.journal.of(ESCALATED)
    if not known:
        sentence = (
            f"{interruptions} interruptions are more than {INTERRUPTIONS}: "
            "the job goes on with on-demand capacity."
        )
        job.journal.append(ESCALATED, interruptions=interruptions, sentence=sentence)
        known = job.journal.of(ESCALATED)
    if hear is not None:
        hear(ESCALATED, {key: value for key, value in known[0].items() if key != "event"})
    return "on_demand"


def _finished(job: Job, capacity: Capacity) -> Trained:
    snapshot = job.checkpoints.newest().snapshot
    if snapshot is None or not snapshot.state["finished"]:
        raise IntegrityError(
            f"checkpoints in {job.folder}",
            expected="the final one, as its writer reported it",
            got="none" if snapshot is None else f"step {snapshot.step}",
            next_step="Check the disk; launched again, it goes on from what is left.",
        )
    return Trained(snapshot, capacity, job.journal.interruptions)


def work(job: Job, crew: Crew, capacity: Capacity) -> None:
    """One process's part of ``job``; rank 0 keeps the journal and lets nobody else train here meanwhile."""
    if crew.rank > 0:
        train(job.make_task(), job.config, job.checkpoints, crew=crew)
        return
    with _alone(job.folder):
        job.journal.append(STARTED, capacity=capacity)
        train(job.make_task(), job.config, job.checkpoints, crew=crew, note=job.journal.append)
        job.journal.append(FINISHED)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process trains here: a launcher that was killed may have left workers behind."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def start_here(job: Job, layout: Layout, capacity: Capacity) -> bool:
    """The :data:`Start` of this machine: its capacity is what it is, and only noted."""
    if layout.strategy == "single":
        work(job, Crew(), capacity)
        return True
    return _torchrun(job, layout, capacity)


def _torchrun(job: Job, layout: Layout, capacity: Capacity) -> bool:
    import multiprocessing

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Workers are forked from a process that has imported these and done nothing else.
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    agent = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=layout.processes,
        run_id=digest(str(job.folder))[:16],
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.05,
        start_method="forkserver",
    )
    forget_error(job)
    try:
        elastic_launch(agent, _worker)(job, layout.strategy, capacity)
    except ChildFailedError as error:
        own = reported(job)
        if own is not None:
            raise own from error
        if any(one.exitcode < 0 or one.exitcode == PEER_LOST for one in error.failures.values()):
            return False
        raise
    return True


def _worker(job: Job, strategy: Strategy, capacity: Capacity) -> None:
    """What torchrun's agent calls in every process."""
    from torch import distributed

    distributed.init_process_group("gloo")
    try:
        work(job, Crew(distributed.get_rank(), distributed.get_world_size(), strategy), capacity)
    except Exception as error:
        if _peer_lost(error):
            raise SystemExit(PEER_LOST) from error
        # Written before the others can notice that this process is gone.
        leave_error(job, error)
        raise
    distributed.destroy_process_group()


def _peer_lost(error: BaseException) -> bool:
    """Whether ``error`` is what a collective raises when another process of the crew has died."""
    from torch.distributed import DistError

    # gloo's own errors reach Python as plain RuntimeErrors that name its source file.
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo/" in str(error))


def _as_dict(job: Job, error: Exception) -> dict[str, Any]:
    if isinstance(error, MangaAssistError):
        return error.as_dict()
    return InputError(
        f"task {job.task}",
        expected="a task that trains",
        got=f"{type(error).__name__}: {error}",
        next_step="Correct it and launch again; the traceback is above.",
    ).as_dict()


_KINDS: Mapping[str, type[MangaAssistError]] = {
    kind.__name__: kind for kind in (InputError, IntegrityError, Unavailable)
}


def leave_error(job: Job, error: Exception) -> None:
    """Write down a worker's own error for whoever launched it."""
    (job.folder / _ERROR).write_text(json.dumps(_as_dict(job, error)), encoding="utf-8")


def forget_error(job: Job) -> None:
    """Remove what an earlier attempt left behind."""
    (job.folder / _ERROR).unlink(missing_ok=True)


def reported(job: Job) -> MangaAssistError | None:
    """The error a worker left behind, under its own type."""
    try:
        body: dict[str, Any] = json.loads((job.folder / _ERROR).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    kind = _KINDS.get(body["error"], MangaAssistError)
    return kind(body["field"], expected=body["expected"], got=body["got"], next_step=body["next_step"])
