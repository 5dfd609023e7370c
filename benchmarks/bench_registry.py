"""The registry against the least a transition can cost, and the live pointer.

Run: python -m benchmarks.bench_registry [--rounds N] [--processes N] [--json]

Register and promote are two ledger entries with their artifact check, each fsynced, hash-chained and
compared-and-swapped; the way from one to the other, shadow and canary, is not timed. The floor is two fsynced
inserts of the same bytes into a bare SQLite file, call by call beside it. MLflow 3 on SQLite takes about 7 ms
for register + alias and about 100 ms over REST on two cores (measured apart); it is not run here.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sqlite3
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import CanaryStage
from mangaassist.core.verdict import Action, Decision, Status, Verdict
from mangaassist.governance.signing import KeyRing
from mangaassist.promotion.registry import Registry
from mangaassist.serving.live import LivePointer
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Ledger

AT = datetime(2026, 10, 5, 9, tzinfo=UTC)
CANARY = CanaryStage("canary_half", 0.5, timedelta(days=1), 100)
TAGS = {
    "model_target": "intent",
    "code_revision": "c" * 40,
    "data_snapshot_id": "7",
    "label_version": "3",
    "feature_schema_version": "f1",
    "seed": "11",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line; ``floor`` and ``ratio`` are None where there is nothing to compare with."""

    what: str
    unit: str
    p50: float
    p95: float
    floor: float | None
    ratio: float | None
    aim: str


def open_registry(home: Home) -> Registry:
    ledger = Ledger.open(home)
    keys = KeyRing(ledger, home.folder("keys"), "us")
    return Registry(ledger, ArtifactStore(home.folder("artifacts")), keys)


def gate() -> Decision:
    """A gate with as many verdicts as the intent story has."""
    verdicts = tuple(
        Verdict(f"golden.metric_{n}", Status.PASS, "It is fine.", value=0.95, low=0.93, high=0.97, n=900)
        for n in range(12)
    )
    return Decision(Action.PROMOTE, "intent/candidate", "All 12 verdicts pass.", "policy", AT, verdicts, "p")


def transitions(home: Home, rounds: int) -> list[Row]:
    """Register and promote, with what lies between untimed, beside two bare inserts of the same bytes."""
    registry, decision = open_registry(home), gate()
    artifacts = [registry.artifacts.put_files({"manifest.json": f"{n}".encode()}) for n in range(rounds)]
    floor = sqlite3.connect(home.path / "floor.db", isolation_level=None)
    floor.execute("PRAGMA journal_mode=WAL")
    floor.execute("PRAGMA synchronous=FULL")
    floor.execute("CREATE TABLE entries (sequence INTEGER PRIMARY KEY, body TEXT)")
    body = canonical_json({"tags": TAGS, "gate": decision.as_dict()}).decode()
    ours, busy, base = [], [], []
    for n in range(rounds):
        story = f"story_{n % 20}"
        watch = Watch()
        version = registry.register(
            story,
            artifact=artifacts[n],
            tags=TAGS,
            metrics={"accuracy": 0.95},
            gate=decision,
            run_id=f"run-{n}",
            actor="bench",
            at=AT,
        )
        watch.pause()
        passing = replace(decision, subject=version.name)
        registry.start_shadow(story, version.number, actor="bench", at=AT)
        registry.advance(story, version.number, stage=CANARY, holdout=0.5, decision=passing)
        watch.go_on()
        registry.promote(story, version.number, decision=passing)
        watch.pause()
        ours.append(watch.wall)
        busy.append(watch.processor)
        started = time.perf_counter()
        for _ in range(2):
            floor.execute("INSERT INTO entries (body) VALUES (?)", (body,))
        base.append(time.perf_counter() - started)
    floor.close()
    warm = slice(rounds // 10, None)
    p50, p95 = (float(np.quantile(ours[warm], q)) * 1e3 for q in (0.5, 0.95))
    cpu50, cpu95 = (float(np.quantile(busy[warm], q)) * 1e3 for q in (0.5, 0.95))
    floor50 = float(np.median(base[warm])) * 1e3
    return [
        Row("register + promote", "ms", p50, p95, floor50, p50 / floor50, "p95 <= 5 ms"),
        Row("register + promote, processor time", "ms", cpu50, cpu95, None, None, "what load does not add"),
    ]


class Watch:
    """Wall and processor time since it was made, without the pauses."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self.go_on()

    def go_on(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def pause(self) -> None:
        self.wall += time.perf_counter() - self._wall
        self.processor += time.process_time() - self._processor


def resolve(home: Home) -> Row:
    pointer = LivePointer(open_registry(home))
    pointer.resolve("story_0")
    times, block = [], 1_000
    for _ in range(200):
        started = time.perf_counter()
        for _ in range(block):
            pointer.resolve("story_0")
        times.append((time.perf_counter() - started) / block)
    p50, p95 = (float(np.quantile(times, q)) * 1e6 for q in (0.5, 0.95))
    return Row("resolve the live version", "us", p50, p95, None, None, "< 10 us")


def refresh(home: Home) -> Row:
    pointer = LivePointer(open_registry(home))
    pointer.resolve("story_0")
    times = []
    for _ in range(2_000):
        started = time.perf_counter()
        pointer.refresh()
        times.append(time.perf_counter() - started)
    p50, p95 = (float(np.quantile(times, q)) * 1e6 for q in (0.5, 0.95))
    return Row("refresh, nothing new", "us", p50, p95, None, None, "")


def first_start(folder: str, barrier: Any, results: Any) -> None:
    """One of several processes that meet on an empty home."""
    barrier.wait()
    started = time.perf_counter()
    registry = open_registry(Home.open(Path(folder)))
    registry.register(
        "intent",
        artifact=registry.artifacts.put_files({"manifest.json": b"same"}),
        tags=TAGS,
        metrics={},
        gate=gate(),
        run_id="one-run",
        actor="bench",
        at=AT,
    )
    results.put(time.perf_counter() - started)


def first_starts(folder: Path, processes: int) -> Row:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=first_start, args=(str(folder), barrier, results)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    times = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    died = sum(worker.exitcode != 0 for worker in workers)
    registry = open_registry(Home.open(folder))
    made = len(registry.versions("intent"))
    if died or made != 1 or not registry.ledger.verify().ok:
        raise SystemExit(f"first start: {died} of {processes} died, {made} versions where 1 was due")
    p50, p95 = (float(np.quantile(times, q)) * 1e3 for q in (0.5, 0.95))
    return Row(f"first start, {processes} at once (0 died)", "ms", p50, p95, None, None, "0 die")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home.open(Path(folder) / "home")
        rows = [
            *transitions(home, arguments.rounds),
            resolve(home),
            refresh(home),
            first_starts(Path(folder) / "fresh", arguments.processes),
        ]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    for row in rows:
        beside = f"  floor {row.floor:.2f} {row.unit}, {row.ratio:.2f}x" if row.floor else ""
        print(
            f"{row.what:38} p50 {row.p50:8.2f} {row.unit}  p95 {row.p95:8.2f} {row.unit}{beside}  {row.aim}"
        )


if __name__ == "__main__":
    main()
