"""The last ledger entry this home has seen, kept outside the ledger.

A hash chain shows what was changed inside it but not that its end was cut off: by deleting the newest rows,
by restoring an old copy, by a damaged write-ahead log that SQLite silently shortens. This one line does.
"""

from __future__ import annotations

import os
from pathlib import Path

_FIELDS = 2


class Witness:
    """One small file: sequence and digest of the last entry seen.

    It is written after the entry is safe and without fsync, so after a power cut it may be behind the
    ledger, which proves less; it is never ahead of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def saw(self, sequence: int, digest: str) -> None:
        """Remember entry ``sequence``; what cannot be written is not remembered."""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
            os.pwrite(self._descriptor, f"{sequence:020d} {digest}\n".encode(), 0)
        except OSError:
            # The entry itself is safe; failing an append that succeeded would make the caller repeat it.
            return

    def last(self) -> tuple[int, str] | None:
        """What was seen last; None when nothing readable was kept."""
        try:
            words = self._path.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            return None
        if len(words) != _FIELDS or not words[0].isdigit():
            return None
        return int(words[0]), words[1]

    def close(self) -> None:
        """Release the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
