"""Between a training at work and a :class:`~mangaassist.training.deep.checkpoints.Snapshot`.

Tensors are stored whole and under their parameter's name, whichever strategy trained them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from mangaassist.training.deep.checkpoints import Snapshot
from mangaassist.training.deep.crew import Crew, fill, like, whole

if TYPE_CHECKING:
    import torch
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(slots=True, eq=False)
class Progress:
    """How far a training is: ``cursor`` batches into ``epoch``, ``step`` batches in all."""

    step: int = 0
    epoch: int = 0
    cursor: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """Everything of one process that changes while it trains.

    Attributes:
        model: the bare model; with FSDP its parameters are shards.
        shared: what the loss calls.
        generator: numpy's, for the task's augmentation; torch's and Python's are global.
    """

    model: torch.nn.Module
    shared: torch.nn.Module
    optimiser: torch.optim.Optimizer
    scheduler: LRScheduler
    generator: np.random.Generator
    progress: Progress


def capture(work: Work, crew: Crew, *, job: str, finished: bool) -> Snapshot:
    """The state of ``work``; every process of the crew must ask, all get the same.

    Args:
        job: identity of what is trained, checked on resume.
        finished: True for the last one.
    """
    tensors = {f"model.{name}": whole(tensor) for name, tensor in _model_tensors(work.model)}
    scalars: dict[str, Any] = {}
    for name, key, value in _optimiser_state(work):
        if hasattr(value, "detach"):
            tensors[f"optimiser.{name}/{key}"] = whole(value)
        else:
            scalars[f"{name}/{key}"] = value
    generators = [json.loads(one) for one in crew.gather(json.dumps(_generators(work)).encode())]
    progress = work.progress
    state = {
        "job": job,
        "finished": finished,
        "epoch": progress.epoch,
        "cursor": progress.cursor,
        "optimiser": scalars,
        "groups": [_without_parameters(group) for group in work.optimiser.param_groups],
        "scheduler": work.scheduler.state_dict(),
        "generators": generators,
    }
    return Snapshot(progress.step, tensors, state)


def restore(work: Work, crew: Crew, snapshot: Snapshot) -> None:
    """Put ``work`` back to where ``snapshot`` was taken."""
    import torch

    state = snapshot.state
    for name, tensor in _model_tensors(work.model):
        fill(tensor, snapshot.tensors[f"model.{name}"])
    parameters = dict(work.model.named_parameters())
    for key, value in _stored_optimiser(snapshot):
        name, _, field = key.rpartition("/")
        parameter = parameters[name]
        work.optimiser.state[parameter][field] = (
            like(parameter, value)
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape
            else value
        )
    for group, stored in zip(work.optimiser.param_groups, state["groups"], strict=True):
        group.update(stored)
    work.scheduler.load_state_dict(dict(state["scheduler"]))
    work.progress.step, work.progress.epoch = snapshot.step, state["epoch"]
    work.progress.cursor = state["cursor"]
    _set_generators(work, state["generators"][crew.rank])


def _model_tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


def _optimiser_state(work: Work) -> Iterator[tuple[str, str, Any]]:
    for name, parameter in work.model.named_parameters():
        for key, value in work.optimiser.state.get(parameter, {}).items():
            yield name, key, value


def _stored_optimiser(snapshot: Snapshot) -> Iterator[tuple[str, Any]]:
    yield from snapshot.state["optimiser"].items()
    for key, tensor in snapshot.tensors.items():
        if key.startswith("optimiser."):
            yield key.removeprefix("optimiser."), tensor


def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _generators(work: Work) -> dict[str, Any]:
    import torch

    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "numpy": work.generator.bit_generator.state,
        "python": [version, list(numbers), gauss],
    }


def _set_generators(work: Work, stored: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(torch.frombuffer(bytearray.fromhex(stored["torch"]), dtype=torch.uint8))
    work.generator.bit_generator.state = stored["numpy"]
    version, numbers, gauss = stored["python"]
    random.setstate((version, tuple(numbers), gauss))
