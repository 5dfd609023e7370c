"""What the storage tests run in processes of their own, and the pool that runs it.

Never forked from the tests, which have threads, but from a server that has imported what they need and done
nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.forks import fork_server

from mangaassist.core.errors import Conflict
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Ledger

AT = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


def pool(processes: int) -> ProcessPoolExecutor:
    context = fork_server("mangaassist.storage.tables", __name__)
    return ProcessPoolExecutor(processes, mp_context=context)


def run(processes: int, work: Any, arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Results of ``work(*argument)`` for each argument, each in a process started for it."""
    with pool(processes) as executor:
        return [future.result() for future in [executor.submit(work, *one) for one in arguments]]


def first_start(home: Path, worker: int) -> int:
    """Open everything a first command opens, and write one thing into each."""
    opened = Home.open(home)
    ledger = Ledger.open(opened)
    ledger.append(kind="test.started", subject=f"worker/{worker}", body={}, actor="test", at=AT)
    ledger.close()
    ArtifactStore(opened.path / "artifacts").put(b"the same bytes")
    append_rows(opened.path, opened.settings, worker, 1)
    return worker


def count_up(home: Path, ledger_url: str, worker: int, steps: int) -> list[int]:
    """``steps`` successful compare-and-swaps on one shared counter; the values this worker wrote."""
    ledger = Ledger.open(Home(home, Settings(ledger_url=ledger_url)))
    written: list[int] = []
    while len(written) < steps:
        head = ledger.head("counter")
        last = ledger.entries(subject="counter", after=head - 1, limit=1)
        value = last[0].body["value"] + 1 if last else 1
        try:
            ledger.append(
                kind="test.counted",
                subject="counter",
                body={"value": value, "worker": worker},
                actor=f"worker {worker}",
                at=AT,
                expected=head,
            )
        except Conflict:
            continue
        written.append(value)
    ledger.close()
    return written


def put_many(root: Path, count: int) -> list[str]:
    store = ArtifactStore(root)
    return [store.put(f"blob {number}".encode() * 100) for number in range(count)]


def append_rows(home: Path, settings: Settings, worker: int, appends: int) -> list[int]:
    """``appends`` commits of three rows each to one table; the snapshot ids this worker made."""
    import pyarrow as pa

    from mangaassist.storage.tables import Tables

    tables = Tables.open(Home(home, settings))
    made = [
        tables.append("shared.rows", pa.table({"worker": [worker] * 3, "step": [step] * 3}))
        for step in range(appends)
    ]
    tables.close()
    return made
