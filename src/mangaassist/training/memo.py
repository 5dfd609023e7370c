"""What the step runner remembers: step key -> digest of the output and its cost, one small file each.

Files instead of a database because a key never changes its meaning: writers in any number of processes
need no lock, and an entry that is not whole counts as none. The entries are a cache, not a record: losing one
costs a step's time, and an output the artifact collector freed is simply computed again.
"""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import orjson

from mangaassist.core.home import unwritable

_DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of one step.

    Attributes:
        output: digest of its stored output.
        compute: processor seconds it took.
    """

    output: str
    compute: float


class Memo:
    """The remembered steps under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._draft_numbers = itertools.count()

    def get(self, key: str) -> Remembered | None:
        """What is stored for ``key``; None when there is nothing or the entry is torn."""
        try:
            return _entry(self._path(key).read_bytes())
        except FileNotFoundError:
            return None

    def put(self, key: str, known: Remembered, *, step: str, replace: bool) -> Remembered:
        """Remember ``known`` for ``key`` and return what is remembered now.

        Without ``replace`` the first writer wins, so that two processes that computed the same step at
        once go on with the same output.

        Raises:
            Unavailable: when the disk is full.
            InputError: when the home is read-only.
        """
        body = orjson.dumps({"compute": known.compute, "output": known.output, "step": step})
        target = self._path(key)
        try:
            if not replace:
                winner = self._create(key, target, body)
                if winner is not None:
                    return winner
            self._overwrite(target, body)
        except OSError as error:
            raise unwritable(self._folder, error) from error
        return known

    def _create(self, key: str, target: Path, body: bytes) -> Remembered | None:
        """Write a new entry in one piece; what an existing one says, None when it is torn."""
        try:
            _write_new(target, body)
        except FileExistsError:
            return self.get(key)
        return _entry(body)

    def _overwrite(self, target: Path, body: bytes) -> None:
        process = f"{os.getpid()}.{threading.get_ident()}"
        draft = target.with_name(f"{target.name}.{process}.{next(self._draft_numbers)}")
        draft.unlink(missing_ok=True)  # left by a killed process whose id came round again
        _write_new(draft, body)
        draft.replace(target)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key


def _write_new(path: Path, body: bytes) -> None:
    try:
        with path.open("xb", buffering=0) as file:
            file.write(body)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, body)


def _entry(body: bytes) -> Remembered | None:
    try:
        found = orjson.loads(body)
        output, compute = found["output"], found["compute"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    whole = isinstance(output, str) and len(output) == _DIGEST_LENGTH and isinstance(compute, int | float)
    return Remembered(output, float(compute)) if whole else None
