"""The one directory that holds all state, safe to create from many processes at once."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mangaassist.core.errors import InputError, Unavailable
from mangaassist.core.settings import Settings

FORMAT = 1
_MARKER = "home.json"


@dataclass(frozen=True, slots=True)
class Home:
    """An opened home directory.

    Attributes:
        path: its absolute path.
        settings: the engine choices that apply to it.
    """

    path: Path
    settings: Settings

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Home:
        """Open ``path``, creating it when it is empty and ``create`` is true.

        Raises:
            InputError: when it is missing, read-only, not a home, or written by a newer release.
        """
        path = path.expanduser().absolute()
        marker = path / _MARKER
        if not marker.exists():
            if not create:
                raise InputError(
                    "home",
                    expected=f"an existing home at {path}",
                    got="nothing there",
                    next_step="Run 'mangaassist demo' or 'mangaassist story new NAME' first, or pass --home.",
                )
            _create(path, marker)
        _check_format(marker)
        return cls(path, Settings.load(path))

    def folder(self, name: str) -> Path:
        """The sub-folder ``name``, created when it is missing."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock ``name`` across processes; it is released when the process dies.

        Raises:
            Unavailable: when ``wait`` is false and another process holds it.
        """
        with (self.folder("locks") / f"{name}.lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                raise Unavailable(
                    f"lock '{name}'",
                    expected="no other process at work here",
                    got="another process holds it",
                    next_step="Wait for it to finish and run the command again.",
                ) from error
            yield


def _create(path: Path, marker: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable", str(path))
        # Written beside and renamed, so that a second process sees either no marker or a whole one.
        draft = path / f"{_MARKER}.{os.getpid()}"
        draft.write_text(json.dumps({"format": FORMAT}), encoding="utf-8")
        draft.replace(marker)
    except OSError as error:
        raise unwritable(path, error) from error


def _check_format(marker: Path) -> None:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            str(marker),
            expected='{"format": 1}',
            got="something unreadable",
            next_step="Restore the file from a backup, or start with a new --home.",
        ) from error
    if not isinstance(found, int) or found > FORMAT:
        raise InputError(
            "home",
            expected=f"format {FORMAT} or older",
            got=f"format {found}",
            next_step="It was written by a newer release: upgrade mangaassist or pass another --home.",
        )


def unwritable(path: Path, error: OSError) -> InputError | Unavailable:
    """The error for a failed write under ``path``: a full disk is broken, a read-only home is bad input."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Unavailable(
            "disk",
            expected=f"free space under {path}",
            got=os.strerror(error.errno or 0),
            next_step="Free some space and run the command again; nothing acknowledged was lost.",
        )
    return InputError(
        "home",
        expected=f"a writable directory at {path}",
        got=os.strerror(error.errno or 0),
        next_step="Change its permissions or pass another --home.",
    )
