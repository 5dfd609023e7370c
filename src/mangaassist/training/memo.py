"""What the step runner remembers: step key -> digest of the output, one small file each.

Files instead of a database because a key never changes its meaning: writers in any number of processes
need no lock, and a reader sees a whole entry or none. The entries are a cache, not a record: losing one
costs a step's time, and an output the artifact collector freed is simply computed again.
"""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

import orjson

from mangaassist.core.home import unwritable

_DIGEST_LENGTH = 64


class Memo:
    """The remembered steps under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._draft_numbers = itertools.count()

    def get(self, key: str) -> str | None:
        """The output digest stored for ``key``; None when there is none or the entry is torn."""
        try:
            return _output(self._path(key).read_bytes())
        except FileNotFoundError:
            return None

    def put(self, key: str, output: str, *, step: str, replace: bool) -> str:
        """Remember ``output`` for ``key`` and return what is remembered now.

        Without ``replace`` the first writer wins, so that two processes that computed the same step at
        once go on with the same output.

        Raises:
            Unavailable: when the disk is full.
            InputError: when the home is read-only.
        """
        target = self._path(key)
        process = f"{os.getpid()}.{threading.get_ident()}"
        draft = target.with_name(f"{key}.{process}.{next(self._draft_numbers)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # A process killed after publishing leaves its draft linked to the entry: never write through it.
            draft.unlink(missing_ok=True)
            draft.write_bytes(orjson.dumps({"output": output, "step": step}))
            return self._publish(key, draft, output, replace=replace)
        except OSError as error:
            raise unwritable(self._folder, error) from error
        finally:
            draft.unlink(missing_ok=True)

    def _publish(self, key: str, draft: Path, output: str, *, replace: bool) -> str:
        target = self._path(key)
        if not replace:
            try:
                target.hardlink_to(draft)
                return output
            except FileExistsError:
                winner = self.get(key)
                if winner is not None:
                    return winner
        draft.replace(target)
        return output

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key


def _output(body: bytes) -> str | None:
    try:
        output = orjson.loads(body)["output"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return output if isinstance(output, str) and len(output) == _DIGEST_LENGTH else None
