"""A small task that uses all three random number generators, and one that uses none."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mangaassist.core.errors import InputError
from mangaassist.training.deep.loop import Rows

ROWS, BATCH = 103, 10
PER_EPOCH = 11


class Net(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(50, 8, mode="sum")
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.dropout(torch.relu(self.bag(ids))))


@dataclass(frozen=True)
class Bags:
    """Random bags of 5 out of 50 with one of 3 labels."""

    dropout: float = 0.3
    identity: str = "bags"

    def model(self) -> nn.Module:
        return Net(self.dropout)

    def optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=0.05)

    def scheduler(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=60)

    def batch(self, epoch: int, cursor: int) -> Rows | None:
        rows = np.random.default_rng([5, epoch]).permutation(ROWS)[cursor * BATCH : (cursor + 1) * BATCH]
        return rows if len(rows) else None

    def loss(self, model: nn.Module, rows: Rows, generator: np.random.Generator) -> torch.Tensor:
        drawn = np.random.default_rng(9)
        ids, labels = drawn.integers(0, 50, (ROWS, 5)), drawn.integers(0, 3, ROWS)
        chosen = ids[rows]
        if self.dropout:
            chosen = np.where(generator.random(chosen.shape) < 0.1, random.randrange(50), chosen)
        found = model(torch.from_numpy(chosen))
        return nn.functional.cross_entropy(found, torch.from_numpy(labels[rows]), reduction="sum")


def noisy(folder: Path) -> Bags:
    return Bags()


def plain(folder: Path) -> Bags:
    return Bags(dropout=0.0, identity="plain")


class Mortal(Bags):
    """Dies by its own hand, as rank ``kill.json`` says and at the step it says, in the first attempt."""

    def loss(self, model: nn.Module, rows: Rows, generator: np.random.Generator) -> torch.Tensor:
        doom = self.__dict__["doom"]
        if doom and int(os.environ["RANK"]) == doom["rank"]:
            doom["step"] -= 1
            if doom["step"] == 0:
                Path(doom["died"]).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, rows, generator)


def mortal(folder: Path) -> Bags:
    """:func:`noisy`, or :func:`plain` when kill.json says so, that dies once."""
    doom = json.loads((folder / "kill.json").read_text(encoding="utf-8"))
    kind = plain(folder) if doom["plain"] else noisy(folder)
    task = Mortal(kind.dropout, kind.identity)
    died = folder / "died"
    task.__dict__["doom"] = None if died.exists() else {**doom, "died": str(died)}
    return task


def broken(folder: Path) -> Bags:
    raise InputError("data", expected="rows", got="none", next_step="Import some.")


class Foreign(Bags):
    """Raises an error of its own in one process."""

    def loss(self, model: nn.Module, rows: Rows, generator: np.random.Generator) -> torch.Tensor:
        if os.environ["RANK"] == "1":
            raise ZeroDivisionError("nothing to divide by")
        return super().loss(model, rows, generator)


def foreign(folder: Path) -> Bags:
    return Foreign(identity="foreign")
