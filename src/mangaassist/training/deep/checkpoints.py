"""Checkpoints of one job: written whole or not at all, checked when read, the last few kept.

A checkpoint is one safetensors file named after its step and the SHA-256 of its bytes, so that one rename
publishes content and check together. Nothing in it is a pickle.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist.core.home import unwritable
from mangaassist.core.identity import digest_bytes
from mangaassist.storage.segment import sync_folder

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"step-(\d{9})\.([0-9a-f]{64})\.safetensors")
_DRAFT = ".draft"
_PIECE = 1 << 20
_STATE = "state"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything a training is at one step.

    Attributes:
        step: optimiser steps taken.
        tensors: the model's and the optimiser's, whole, by name.
        state: the rest as JSON values: cursor, scheduler, random number generators.
    """

    step: int
    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a folder of checkpoints holds.

    Attributes:
        snapshot: the newest intact one; None when there is none.
        damaged: names of newer ones whose bytes are not what was written.
    """

    snapshot: Snapshot | None
    damaged: tuple[str, ...] = ()


class Checkpoints:
    """The checkpoints in ``folder``; one process writes, any number read."""

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, snapshot: Snapshot) -> str:
        """Write ``snapshot``, forget the oldest and return its name; it is on disk when this returns.

        Raises:
            Unavailable: when the disk is full.
            InputError: when the folder may not be written.
        """
        data = _encode(snapshot)
        name = f"step-{snapshot.step:09d}.{digest_bytes(data)}.safetensors"
        draft = self._folder / f"{os.getpid()}{_DRAFT}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_durably(draft, data)
            draft.replace(self._folder / name)
            sync_folder(self._folder)
            self._forget()
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise unwritable(self._folder, error) from error
        return name

    def newest(self) -> Found:
        """The newest checkpoint whose bytes are what was written."""
        damaged: list[str] = []
        for path in reversed(self._paths()):
            snapshot = _read(path)
            if snapshot is not None:
                return Found(snapshot, tuple(damaged))
            damaged.append(path.name)
        return Found(None, tuple(damaged))

    def _paths(self) -> list[Path]:
        """Published checkpoints, oldest first."""
        if not self._folder.exists():
            return []
        return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    def _forget(self) -> None:
        for path in self._paths()[: -self._keep]:
            path.unlink(missing_ok=True)
        for path in self._folder.glob(f"*{_DRAFT}"):  # left by a killed process
            path.unlink(missing_ok=True)


def _encode(snapshot: Snapshot) -> bytes:
    from safetensors.torch import save

    # json, not orjson: the state of numpy's generator holds integers of 128 bits.
    return save(dict(snapshot.tensors), {_STATE: json.dumps(snapshot.state, sort_keys=True)})


def _read(path: Path) -> Snapshot | None:
    """The snapshot in ``path``; None when its bytes are not those its name promises."""
    from safetensors.torch import load

    known = _NAME.fullmatch(path.name)
    try:
        data = path.read_bytes()
    except OSError:  # an unreadable sector is damage like any other
        return None
    if known is None or digest_bytes(data) != known[2]:
        return None
    # safetensors: eight bytes of header length, little-endian, then the header as JSON.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return Snapshot(int(known[1]), load(data), json.loads(header["__metadata__"][_STATE]))


def _write_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view[:_PIECE]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
