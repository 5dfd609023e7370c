"""Implicit feedback: sustained intake with kill -9 in the middle, beside a bare fsynced append.

Run: python -m benchmarks.bench_implicit [--seconds 60] [--rate 0] [--json]

A producer (this process) sends batches of 500 events over a pipe to a process that checks them, makes them
durable and acknowledges; another process drains them into the table meanwhile. In the middle both are killed
with SIGKILL and started again; what was not acknowledged is sent again, and so is every 10th batch although
it was acknowledged, as if the answer had been lost. At the end every event is looked for in the table.
The floor appends the same batches to one file with an fsync each, and does nothing else. CPU is user and
system time of the two processes, the killed ones included, from the moment each was ready.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from mangaassist.core.clock import SystemClock

BATCH = 500
STORY = "shop"
_OUTSTANDING = 8
_LOST_ANSWER = 10
_LENGTH = struct.Struct("<I")
_ITEMS = [f"manga-{number:04d}" for number in range(10)]


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Attributes:
        events: sent and acknowledged; resent: batches sent more than once.
        seconds: from the first batch to the last acknowledgement, the restart included.
        drained_seconds: until everything was in the table.
        cpu_us: intake and drain, microseconds of CPU per event.
        lost: acknowledged and not in the table; doubled: rows too many; stored: rows.
        floor_rate: events a second of a bare append and fdatasync of the same batches.
    """

    events: int
    seconds: float
    rate: float
    drained_seconds: float
    cpu_us: float
    intake_us: float
    drain_us: float
    resent: int
    lost: int
    doubled: int
    stored: int
    floor_rate: float


def template() -> bytes:
    """A batch as JSON: one list in five events, then clicks and looks; @B@ and @T@ stand for what changes."""
    events: list[dict[str, Any]] = []
    for number in range(BATCH):
        request = f"@B@-{number - number % 5}"
        event = {"event_id": f"@B@-e{number}", "request_id": request, "at": "@T@"}
        if number % 5 == 0:
            event |= {"kind": "impression", "surface": "search", "device": "mobile", "language": "en"}
            event |= {"user": "0" * 32, "query": "manga like one piece", "items": _ITEMS}
        elif number % 5 < 3:
            event |= {"kind": "click", "item": _ITEMS[number % 5], "position": number % 5 + 1}
        else:
            event |= {"kind": "dwell", "item": _ITEMS[2], "position": 3, "dwell_ms": 41_000.0}
        events.append(event)
    return json.dumps(events).encode()


def filled(batch: bytes, number: int) -> bytes:
    at = SystemClock().now().isoformat().encode()
    return batch.replace(b"@B@", b"b%d" % number).replace(b"@T@", at)


class Process:
    """One of the two processes under test, and the CPU it used."""

    def __init__(self, role: str, home: Path) -> None:
        self._running = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bench_implicit", f"--{role}", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.send = _pipe(self._running.stdin)
        self.answers = _pipe(self._running.stdout)
        self._started_at = float(self.answers.readline())  # seconds of CPU until it was ready

    def end(self, *, kill: bool) -> float:
        """Seconds of CPU it used since it was ready."""
        if kill:
            self._running.send_signal(signal.SIGKILL)
        self.send.detach() if kill else self.send.close()
        _, _, used = os.wait4(self._running.pid, 0)
        self._running.returncode = 0
        return used.ru_utime + used.ru_stime - self._started_at


def _pipe(stream: IO[bytes] | None) -> Any:
    assert stream is not None
    return stream


class Producer:
    """Sends numbered batches and remembers which were acknowledged."""

    def __init__(self, process: Process) -> None:
        self._batch = template()
        self.waiting: dict[int, bytes] = {}
        self.acknowledged: set[int] = set()
        self.resent = 0
        self._lost = set[int]()
        self._answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._attach(process)

    def _attach(self, process: Process) -> None:
        self._process = process
        threading.Thread(target=_listen, args=(process, self._answers), daemon=True).start()

    def send(self, number: int) -> None:
        """Send a batch as soon as fewer than eight are unanswered."""
        while len(self.waiting) >= _OUTSTANDING:
            self.take()
        self.waiting[number] = filled(self._batch, number)
        self._write(self.waiting[number])

    def take(self) -> None:
        """Wait for one answer; every 10th gets lost, and its batch is sent again."""
        number = self._answers.get()
        if number is None:
            raise RuntimeError("the intake ended by itself")
        if number % _LOST_ANSWER == 0 and number not in self._lost:
            self._lost.add(number)
            self.resent += 1
            self._write(self.waiting[number])
        elif self.waiting.pop(number, None) is not None:
            self.acknowledged.add(number)

    def move_to(self, process: Process) -> None:
        """The old process is dead: what it answered before counts unless the answer is one that gets lost."""
        while (number := self._answers.get()) is not None:
            if number % _LOST_ANSWER and self.waiting.pop(number, None) is not None:
                self.acknowledged.add(number)
        self._attach(process)
        for data in self.waiting.values():
            self.resent += 1
            self._write(data)

    def _write(self, data: bytes) -> None:
        self._process.send.write(_LENGTH.pack(len(data)) + data)
        self._process.send.flush()


def _listen(process: Process, answers: queue.SimpleQueue[int | None]) -> None:
    for line in process.answers:
        if line.endswith(b"\n"):
            answers.put(int(line))
    answers.put(None)


def run(home: Path, *, seconds: float, rate: float = 0.0) -> Result:
    """Send for ``seconds``, at ``rate`` events a second or as fast as it goes (0), killing in the middle."""
    from mangaassist.core.home import Home

    Home.open(home)
    intake, drain = Process("intake", home), Process("drain", home)
    producer = Producer(intake)
    used = {"intake": 0.0, "drain": 0.0}
    pause = threading.Event()
    started, killed, number = time.perf_counter(), False, 0
    while (elapsed := time.perf_counter() - started) < seconds:
        if not killed and elapsed > seconds / 2:
            killed = True
            used["intake"] += intake.end(kill=True)
            used["drain"] += drain.end(kill=True)
            intake, drain = Process("intake", home), Process("drain", home)
            producer.move_to(intake)
        if rate and number * BATCH > rate * elapsed:
            pause.wait(0.001)
            continue
        number += 1
        producer.send(number)
    while producer.waiting:
        producer.take()
    took = time.perf_counter() - started
    used["intake"] += intake.end(kill=False)
    used["drain"] += drain.end(kill=False)
    drained = time.perf_counter() - started
    lost, doubled, stored = reconcile(home, producer.acknowledged)
    events = len(producer.acknowledged) * BATCH
    return Result(
        events,
        took,
        events / took,
        drained,
        sum(used.values()) / events * 1e6,
        used["intake"] / events * 1e6,
        used["drain"] / events * 1e6,
        producer.resent,
        lost,
        doubled,
        stored,
        floor(home / "floor", seconds=min(5.0, seconds)),
    )


def reconcile(home: Path, acknowledged: set[int]) -> tuple[int, int, int]:
    """Acknowledged events that are not in the table, rows too many, rows."""
    from mangaassist.core.home import Home
    from mangaassist.labels.event_intake import events_table
    from mangaassist.storage.tables import Tables

    tables = Tables.open(Home.open(home))
    found = tables.read(events_table(STORY), columns=["event_id"])["event_id"]
    tables.close()
    distinct = set(found.to_list())
    wanted = {f"b{number}-e{index}" for number in acknowledged for index in range(BATCH)}
    return len(wanted - distinct), len(found) - len(distinct), len(found)


def floor(path: Path, *, seconds: float) -> float:
    """Events a second when the same batches are only appended to a file and fsynced."""
    batch, number, started = template(), 0, time.perf_counter()
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        while time.perf_counter() - started < seconds:
            number += 1
            os.write(descriptor, filled(batch, number))
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
        path.unlink()
    return number * BATCH / (time.perf_counter() - started)


def serve(home: Path) -> None:
    """The intake process: receive, acknowledge, until the pipe closes."""
    import orjson

    from mangaassist.core.home import Home
    from mangaassist.labels.event_intake import EventIntake

    intake = EventIntake.open(Home.open(home), STORY, SystemClock())
    out = sys.stdout.buffer
    out.write(b"%f\n" % time.process_time())
    out.flush()
    while len(head := sys.stdin.buffer.read(_LENGTH.size)) == _LENGTH.size:
        events = orjson.loads(sys.stdin.buffer.read(_LENGTH.unpack(head)[0]))
        receipt = intake.receive(events)
        if receipt.accepted != len(events):
            raise SystemExit(f"refused: {receipt.reasons()}")
        out.write(events[0]["event_id"].partition("-")[0][1:].encode() + b"\n")
        out.flush()
    intake.close()


def move(home: Path) -> None:
    """The drain process: every half second, and once more when the pipe has closed."""
    from mangaassist.core.home import Home
    from mangaassist.labels.event_intake import EventIntake
    from mangaassist.storage.tables import Tables

    opened = Home.open(home)
    intake, tables = EventIntake.open(opened, STORY, SystemClock()), Tables.open(opened)
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), closed.set()), daemon=True).start()
    sys.stdout.write(f"{time.process_time()}\n")
    sys.stdout.flush()
    while not closed.wait(0.5):
        intake.drain(tables)
    intake.drain(tables)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=0.0, help="events a second; 0 for as many as possible")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--intake", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--drain", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.intake:
        serve(chosen.intake)
        return 0
    if chosen.drain:
        move(chosen.drain)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder) / "home", seconds=chosen.seconds, rate=chosen.rate)
    if chosen.json:
        print(json.dumps(asdict(result)))
        return int(result.lost + result.doubled > 0)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, batches of {BATCH} events")
    print(f"{result.events:,} events in {result.seconds:.1f} s: {result.rate:,.0f} a second (goal 20,000)")
    print(f"all in the table after {result.drained_seconds:.1f} s")
    print(f"CPU {result.cpu_us:.1f} us an event: intake {result.intake_us:.1f}, drain {result.drain_us:.1f}")
    print(f"batches sent again {result.resent}, lost {result.lost}, doubled {result.doubled}")
    print(
        f"floor (append and fsync) {result.floor_rate:,.0f} a second; "
        f"ratio {result.rate / result.floor_rate:.2f}"
    )
    return int(result.lost + result.doubled > 0)


if __name__ == "__main__":
    sys.exit(main())
