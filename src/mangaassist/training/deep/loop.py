"""The training loop: a checkpoint every N steps, and a resumed run that ends with the same bits (TRN-3).

What makes the bits the same: one thread per process, deterministic kernels, batches that are a function of
(epoch, cursor), and every random number generator stored with the weights. The same bits are promised for
one kind of processor and one release of PyTorch; another may round differently.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.core.identity import digest
from mangaassist.training.deep.checkpoints import Checkpoints, Snapshot
from mangaassist.training.deep.crew import Crew
from mangaassist.training.deep.journal import DAMAGED, RESUMED
from mangaassist.training.deep.state import Progress, Work, capture, restore

if TYPE_CHECKING:
    import torch
    from torch.optim.lr_scheduler import LRScheduler

Rows = NDArray[np.int64]
Capacity = Literal["spot", "on_demand"]


class Task(Protocol):
    """What is trained."""

    @property
    def identity(self) -> str:
        """Digest of everything that determines the result besides the configuration: data, sizes, rates."""

    def model(self) -> torch.nn.Module:
        """A new model; random only by torch's global generator."""

    def optimiser(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """A new optimiser whose hyperparameters are JSON values."""

    def scheduler(self, optimiser: torch.optim.Optimizer) -> LRScheduler:
        """A new scheduler, stepped after every batch, whose state is JSON values."""

    def batch(self, epoch: int, cursor: int) -> Rows | None:
        """Rows of batch ``cursor`` of ``epoch``, for all processes together; None after the last.

        A function of its arguments alone: this is what makes a cursor enough to resume.
        """

    def loss(self, model: torch.nn.Module, rows: Rows, generator: np.random.Generator) -> torch.Tensor:
        """The summed (not mean) loss of ``rows``, perhaps none; ``generator`` is for augmentation."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a task is trained.

    Attributes:
        epochs: passes over the data.
        every: steps between checkpoints (TRN-3: 500).
        keep: how many checkpoints stay.
        capacity: what kind of machine to begin on.
    """

    seed: int
    epochs: int
    every: int = 500
    keep: int = 3
    capacity: Capacity = "spot"


def train(
    task: Task,
    config: Config,
    checkpoints: Checkpoints,
    *,
    crew: Crew | None = None,
    note: Callable[..., None] | None = None,
) -> Snapshot:
    """Train ``task`` from its newest checkpoint, or from the start, and return the final state.

    Args:
        crew: this process among others; every process of a crew calls this.
        note: told "damaged" and "resumed".

    Raises:
        InputError: when the checkpoints are another job's.
    """
    crew = crew or Crew()
    job = job_identity(task, config, crew)
    with _settled():
        work = _begin(task, config, crew)
        snapshot = _resume(work, crew, checkpoints, job=job, note=note)
        rows = _next_rows(task, config, work.progress)
        while snapshot is None or not snapshot.state["finished"]:
            if rows is not None:
                _step(task, work, rows, crew)
                rows = _next_rows(task, config, work.progress)
            # Known before saving, so that a last step that is also the N-th makes one checkpoint, not two.
            if rows is None or work.progress.step % config.every == 0:
                snapshot = capture(work, crew, job=job, finished=rows is None)
                if crew.rank == 0:
                    checkpoints.save(snapshot)
        return snapshot


def job_identity(task: Task, config: Config, crew: Crew) -> str:
    """What two attempts must share for the second to go on with the first's checkpoints."""
    settings = {key: value for key, value in asdict(config).items() if key in ("seed", "epochs")}
    return digest([task.identity, settings, crew.size, crew.strategy])


def _begin(task: Task, config: Config, crew: Crew) -> Work:
    import torch

    torch.manual_seed(config.seed)
    model = task.model()
    shared = crew.share(model)
    optimiser = task.optimiser(model.parameters())
    scheduler = task.scheduler(optimiser)
    # Every process starts with the same weights, then draws its own numbers.
    entropy = np.random.SeedSequence([config.seed, crew.rank])
    torch.manual_seed(int(entropy.generate_state(1)[0]))
    random.seed(int(entropy.generate_state(2)[1]))
    model.train()
    return Work(model, shared, optimiser, scheduler, np.random.default_rng(entropy), Progress())


def _resume(
    work: Work, crew: Crew, checkpoints: Checkpoints, *, job: str, note: Callable[..., None] | None
) -> Snapshot | None:
    found = checkpoints.newest()
    if note is not None:
        for name in found.damaged:
            note(DAMAGED, checkpoint=name, sentence=f"Checkpoint {name} is damaged: the one before is used.")
    if found.snapshot is None:
        return None
    if found.snapshot.state["job"] != job:
        raise InputError(
            "checkpoints",
            expected="those of this task, seed, number of processes and strategy",
            got="those of another job",
            next_step="Resume with the settings it was started with, or use an empty folder.",
        )
    restore(work, crew, found.snapshot)
    if note is not None:
        note(RESUMED, step=found.snapshot.step)
    return found.snapshot


def _next_rows(task: Task, config: Config, progress: Progress) -> Rows | None:
    while progress.epoch < config.epochs:
        rows = task.batch(progress.epoch, progress.cursor)
        if rows is not None:
            return rows
        progress.epoch, progress.cursor = progress.epoch + 1, 0
    return None


def _step(task: Task, work: Work, rows: Rows, crew: Crew) -> None:
    work.optimiser.zero_grad(set_to_none=True)
    loss = task.loss(work.shared, rows[crew.rank :: crew.size], work.generator)
    # Both strategies average gradients over processes; this makes that the mean over all rows, however
    # unevenly they are dealt out.
    (loss * (crew.size / len(rows))).backward()  # type: ignore[no-untyped-call]
    work.optimiser.step()
    work.scheduler.step()
    work.progress.step += 1
    work.progress.cursor += 1


@contextmanager
def _settled() -> Iterator[None]:
    """One thread and deterministic kernels inside; the caller's generators and settings afterwards."""
    import torch

    threads, python = torch.get_num_threads(), random.getstate()
    deterministic: Any = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)
            random.setstate(python)
