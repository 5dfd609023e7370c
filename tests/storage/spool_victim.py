"""A process that appends and drains until it kills itself at the n-th dangerous moment.

Dangerous moments are the system calls and
the catalog commit that make something durable or visible, counted before and after each; a write may also be
cut in half. What append confirmed is written to a file, one line of ids each.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog

from mangaassist.core.home import Home
from mangaassist.storage.spool import Spool
from mangaassist.storage.tables import Tables

TABLE = "log.predictions"
SCHEMA = pa.schema([("id", pa.string()), ("batch", pa.string()), ("size", pa.int64())])
THREADS = 2
APPENDS = 12


class Bomb:
    """Counts moments and kills the process at one of them."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._lock = threading.Lock()

    def tick(self) -> bool:
        """True when this is the moment."""
        with self._lock:
            self._left -= 1
            return self._left == 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **named: Any) -> Any:
            if self.tick():
                die()
            result = call(*arguments, **named)
            if self.tick():
                die()
            return result

        return guarded

    def halving(self, write: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
        def guarded(descriptor: int, data: bytes) -> int:
            if self.tick():
                write(descriptor, data[: len(data) // 2])
                die()
            return write(descriptor, data)

        return guarded


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(bomb: Bomb) -> None:
    os.write = bomb.halving(os.write)
    for name in ("fdatasync", "pwrite", "fsync", "ftruncate"):
        setattr(os, name, bomb.around(getattr(os, name)))
    for owner, name in ((Path, "unlink"), (Path, "replace"), (SqlCatalog, "commit_table")):
        setattr(owner, name, bomb.around(getattr(owner, name)))


def append(spool: Spool, generation: str, thread: int, confirmed: TextIO) -> None:
    for step in range(APPENDS):
        batch, size = f"{generation}-{thread}-{step}", step % 3 + 1
        ids = [f"{batch}-{number}" for number in range(size)]
        spool.append([{"id": one, "batch": batch, "size": size} for one in ids])
        # One write: what two threads say must not run into each other.
        print(" ".join(ids) + "\n", end="", flush=True, file=confirmed)


def main(path: Path, generation: str, kill_at: int, said: Path) -> None:
    """Run until killed; ``said`` gets what was confirmed."""
    home, confirmed = Home.open(path), said.open("w", encoding="ascii")
    tables = Tables.open(home)
    spool = Spool(home.path / "spool", segment_bytes=600, drain_bytes=900)
    arm(Bomb(kill_at))
    threads = [
        threading.Thread(target=append, args=(spool, generation, one, confirmed)) for one in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    spool.drain(tables, TABLE, SCHEMA)
    for thread in threads:
        thread.join()
    spool.drain(tables, TABLE, SCHEMA)
    spool.close()
    spool.drain(tables, TABLE, SCHEMA)
