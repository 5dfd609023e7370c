"""Storage against its floors: what the same disk, database and file format cost with nothing around them.

Run: python -m benchmarks.bench_storage [--rounds N] [--rows N] [--json]

Ours and the floor alternate call by call on the same disk, so that its moods hit both. A ratio is ours over
the floor for times (1 is free, smaller is better) and for rates (1 is free, larger is better).
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mangaassist.core.home import Home
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Ledger
from mangaassist.storage.spool import Spool
from mangaassist.storage.tables import Tables

AT = datetime(2026, 10, 5, 9, tzinfo=UTC)
BODY = {"version": 3, "artifact": "a" * 64, "reason": "All 9 verdicts pass.", "metrics": {"accuracy": 0.93}}
RECORD = {"request_id": "r" * 36, "story": "intent", "version": 3, "label": "search", "latency_ms": 2.5}
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("story", pa.string()),
        ("version", pa.int64()),
        ("label", pa.string()),
        ("latency_ms", pa.float64()),
    ]
)
KILOBYTE = b"x" * 1000
_RAW_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; ``p50`` and ``p95`` in ``unit``, rates have no p95."""

    what: str
    unit: str
    p50: float
    p95: float | None
    floor_name: str
    floor_p50: float
    floor_p95: float | None
    ratio: float


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(
    what: str, ours: Callable[[], object], floor_name: str, floor: Callable[[], object], rounds: int
) -> Row:
    """Alternate ``ours`` and ``floor``; times in the unit that reads well."""
    pairs = np.array([(timed(ours), timed(floor)) for _ in range(rounds)])[rounds // 10 :]
    (mine, base), (mine95, base95) = np.quantile(pairs, [0.5, 0.95], axis=0)
    unit, scale = ("us", 1e6) if mine < 1e-3 else ("ms", 1e3)
    return Row(
        what, unit, mine * scale, mine95 * scale, floor_name, base * scale, base95 * scale, mine / base
    )


def rate(what: str, ours: float, floor_name: str, floor: float) -> Row:
    return Row(what, "records/s", ours, None, floor_name, floor, None, ours / floor)


def ledger_rows(folder: Path, rounds: int) -> Iterator[Row]:
    home = Home.open(folder / "home")
    ledger, store = Ledger.open(home), ArtifactStore(home.path / "artifacts")
    raw = sqlite3.connect(folder / "raw.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("CREATE TABLE t (sequence INTEGER PRIMARY KEY, subject TEXT, body TEXT)")
    text, number = json.dumps(BODY), count()

    def append() -> None:
        ledger.append(
            kind="registry.promoted",
            subject="registry/intent",
            body=BODY,
            actor="policy",
            at=AT,
            expected=ledger.head("registry/intent"),
        )

    def insert() -> None:
        raw.execute("INSERT INTO t (subject, body) VALUES ('registry/intent', ?)", (text,))

    def register_and_promote() -> None:
        store.put(b"model %d" % next(number), durable=True)
        append()
        append()

    def raw_register_and_promote() -> None:
        write_raw(folder, b"model", sync=True)
        insert()
        insert()

    yield compare("ledger append, compare-and-swap, fsync", append, "sqlite insert, fsync", insert, rounds)
    yield compare(
        "register + promote",
        register_and_promote,
        "file + 2 inserts, fsync",
        raw_register_and_promote,
        rounds // 2,
    )
    yield compare(
        "ledger version (change probe)",
        ledger.version,
        "sqlite max(sequence)",
        lambda: raw.execute("SELECT max(sequence) FROM t").fetchone(),
        rounds,
    )
    ledger.close()
    raw.close()


def write_raw(folder: Path, data: bytes, *, sync: bool) -> None:
    """Draft, rename to a new name and, when asked, fsync of file and folder."""
    draft = folder / "draft"
    with draft.open("wb", buffering=0) as file:
        file.write(data)
        if sync:
            os.fsync(file.fileno())
    draft.replace(folder / f"raw.{next(_RAW_NUMBERS)}")
    if sync:
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def artifact_rows(folder: Path, rounds: int) -> Iterator[Row]:
    store, number = ArtifactStore(folder / "artifacts"), count()
    kept = store.put(KILOBYTE)
    (folder / "kept").write_bytes(KILOBYTE)

    def put(durable: bool) -> Callable[[], object]:
        return lambda: store.put(KILOBYTE + b"%d" % next(number), durable=durable)

    for durable, name in ((False, "artifact put, 1 kB"), (True, "artifact put, 1 kB, durable")):
        raw = "write + rename" + (", fsync" if durable else "")
        yield compare(
            name, put(durable), raw, lambda sync=durable: write_raw(folder, KILOBYTE, sync=sync), rounds
        )
    yield compare(
        "artifact get, 1 kB, verified",
        lambda: store.get(kept),
        "file read",
        (folder / "kept").read_bytes,
        rounds,
    )


def spool_rate(spool: Spool, *, threads: int, appends: int, size: int) -> float:
    """Records per second that ``threads`` get acknowledged."""
    batch = [RECORD] * size

    def work() -> None:
        for _ in range(appends):
            spool.append(batch)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * appends * size / (time.perf_counter() - start)


def raw_rate(folder: Path, *, appends: int, size: int) -> float:
    """Records per second of one writer that encodes, writes and syncs each batch by itself."""
    descriptor = os.open(folder / "raw.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    start = time.perf_counter()
    for _ in range(appends):
        os.write(descriptor, json.dumps([RECORD] * size).encode())
        os.fdatasync(descriptor)
    seconds = time.perf_counter() - start
    os.close(descriptor)
    return appends * size / seconds


def spool_rows(folder: Path, rounds: int) -> Iterator[Row]:
    home = Home.open(folder / "spool-home")
    spool, tables = Spool(home.path / "spool"), Tables.open(home)
    for threads, size in ((1, 1), (32, 1), (4, 50)):
        yield rate(
            f"spool append, {threads} threads x {size} records",
            spool_rate(spool, threads=threads, appends=max(rounds * 8 // threads, 20), size=size),
            f"json + fdatasync, 1 thread x {size}",
            raw_rate(folder, appends=rounds, size=size),
        )
    waiting = spool.pending()
    seconds = timed(lambda: spool.drain(tables, "log.predictions", SCHEMA))
    plain = timed(lambda: pq.write_table(pa.Table.from_pylist([RECORD] * waiting, SCHEMA), folder / "log.pq"))
    yield rate("spool drain into Iceberg", waiting / seconds, "dicts to one Parquet file", waiting / plain)
    spool.close()
    tables.close()


def table_rows(folder: Path, rows: int) -> Iterator[Row]:
    tables = Tables.open(Home.open(folder / "table-home"))
    generator = np.random.default_rng(7)
    data = pa.table(
        {
            "id": pa.array(np.arange(rows).astype(str)),
            "label": pa.array(generator.choice(["search", "return_request", "escalation"], rows)),
            "confidence": generator.random(rows),
            "at": pa.array(np.arange(rows), pa.timestamp("us", "UTC")),
        }
    )
    small, parquet = data.slice(0, 100), folder / "raw.parquet"

    def raw(one: pa.Table) -> None:
        with parquet.open("wb") as file:
            pq.write_table(one, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())

    label = f"{rows:,} rows"
    yield compare(
        "table append, 100 rows",
        lambda: tables.append("bench.small", small),
        "Parquet write, fsync",
        lambda: raw(small),
        40,
    )
    yield compare(
        f"table append, {label}",
        lambda: tables.append("bench.large", data),
        "Parquet write, fsync",
        lambda: raw(data),
        3,
    )
    first = int(tables.properties("bench.large")[0]["snapshot-id"])
    yield compare(
        f"table read, {label}, pinned",
        lambda: tables.read("bench.large", snapshot=first),
        "Parquet read",
        lambda: pq.read_table(parquet),
        5,
    )
    yield compare(
        f"fingerprint, {label}",
        lambda: tables.fingerprint("bench.large", first),
        "Parquet read + sort",
        lambda: pq.read_table(parquet).sort_by([(name, "ascending") for name in data.column_names]),
        3,
    )
    tables.close()


def show(rows: list[Row]) -> None:
    for row in rows:
        tail = "" if row.p95 is None else f"  p95 {row.p95:9,.1f}"
        floor = f"{row.floor_p50:,.1f}" + ("" if row.floor_p95 is None else f", p95 {row.floor_p95:,.1f}")
        print(
            f"{row.what:45} {row.p50:12,.1f}{tail:15} {row.unit:9}  "
            f"x{row.ratio:<6.2f} of {row.floor_name} ({floor})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            *ledger_rows(folder, given.rounds),
            *artifact_rows(folder, given.rounds),
            *spool_rows(folder, given.rounds),
            *table_rows(folder, given.rows),
        ]
    if given.json:
        print(json.dumps({"benchmark": "storage", "results": [asdict(row) for row in rows]}))
    else:
        show(rows)


if __name__ == "__main__":
    main()
