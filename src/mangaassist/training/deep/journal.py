"""What befell a job, one JSON line per event, in the job's own folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from mangaassist.core.home import unwritable
from mangaassist.core.identity import canonical_json

STARTED, FINISHED, FAILED = "started", "finished", "failed"
ESCALATED, RESUMED, DAMAGED = "escalated", "resumed", "damaged"


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal in ``path``; every line is on disk when :meth:`append` returns."""

    path: Path

    def append(self, event: str, **facts: Any) -> None:
        """Add one event.

        Raises:
            Unavailable: when the disk is full.
            InputError: when the folder may not be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                # A line torn by a kill must not swallow the next one.
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                start = b"" if file.read(1) in (b"", b"\n") else b"\n"
                file.write(start + canonical_json({"event": event, **facts}) + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error

    def events(self) -> list[dict[str, Any]]:
        """Every whole line, oldest first."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue  # torn by a kill: it was never acknowledged
        return found

    def of(self, event: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [one for one in self.events() if one["event"] == event]

    @property
    def interruptions(self) -> int:
        """Attempts that neither finished nor failed by an error of their own: the process was taken away.

        An attempt still at work counts too; ask before starting one.
        """
        attempts = [one["event"] for one in self.events() if one["event"] in (STARTED, FINISHED, FAILED)]
        return sum(pair == (STARTED, STARTED) for pair in pairwise([*attempts, STARTED]))
