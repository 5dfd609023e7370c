"""The HTTP server under load, beside an endpoint that does nothing, and how soon two servers see a rollback.

Run: python -m benchmarks.bench_serving [--rate N] [--seconds N] [--json]

The real server (uvicorn, uvloop, httptools) runs in a process of its own with a trained bilingual text model
and its durable prediction log. The load is open-loop: request i is due at i / rate whatever happened before,
and its latency counts from when it was due. Afterwards the log is drained and compared with the responses,
one by one. The floor is a bare FastAPI endpoint with the same body that answers a constant, driven the same
way in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson

from mangaassist.core.clock import SystemClock
from mangaassist.core.home import Home
from mangaassist.core.story import CanaryStage, Story
from mangaassist.core.verdict import Action, Decision
from mangaassist.governance.signing import KeyRing
from mangaassist.promotion.controller import Controller
from mangaassist.promotion.registry import Registry
from mangaassist.serving.api import PredictBody
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Ledger

STORY = "intent"
CONNECTIONS = 64
FRAMES = {
    "order_status": ("where is my order for {}", "{}の注文はどこですか"),
    "return_request": ("i want to send {} back", "{}を返品したい"),
    "stock": ("do you have {} in stock", "{}の在庫はありますか"),
    "recommend": ("something like {} please", "{}に似た漫画を教えて"),
    "release_date": ("when is the next volume of {} out", "{}の新刊はいつ発売ですか"),
    "price": ("how much is {}", "{}はいくらですか"),
}
TITLES = (
    "one piece",
    "berserk",
    "ナルト",
    "鬼滅の刃",
    "slam dunk",
    "よつばと",
    "monster",
    "銀魂",
    "akira",
    "宝石の国",
)


@dataclass(frozen=True, slots=True)
class Load:
    """One driven server.

    Attributes:
        p50, p95, p99: milliseconds from when a request was due to its whole answer.
        achieved: answers a second.
        refused: answers other than 200.
    """

    what: str
    p50: float
    p95: float
    p99: float
    achieved: float
    answered: int
    refused: int


def open_registry(home: Home) -> Registry:
    ledger = Ledger.open(home)
    keys = KeyRing(ledger, home.folder("keys"), "us")
    return Registry(ledger, ArtifactStore(home.folder("artifacts")), keys)


def promoted(home: Home, seed: int) -> None:
    """One more trained version, taken to champion."""
    from mangaassist.training.text.classifier import fit

    rows = [
        (frame.format(f"{title} {n}"), label)
        for label, frames in FRAMES.items()
        for frame in frames
        for title in TITLES
        for n in (1, 2)
    ]
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    model = fit(texts, labels, [str(n) for n in range(len(rows))], seed=seed).model
    registry, now = open_registry(home), SystemClock().now()
    tags = {"model_target": STORY, "code_revision": "bench", "data_snapshot_id": "1"}
    passed = Decision(Action.PROMOTE, f"{STORY}/{seed}", "bench", "bench", now)
    registry.register(
        STORY,
        artifact=registry.artifacts.put_files(model.files()),
        tags={**tags, "label_version": "1", "feature_schema_version": "none", "seed": str(seed)},
        metrics={},
        gate=passed,
        run_id=f"run-{seed}",
        actor="bench",
        at=now,
    )
    registry.start_shadow(STORY, seed, actor="bench", at=now)
    stage = CanaryStage("canary_25", 0.25, SystemClock().now() - now, 0)
    registry.advance(STORY, seed, stage=stage, holdout=0.75, decision=passed)
    registry.promote(STORY, seed, decision=passed)


def run_server(kind: str, folder: str) -> None:
    """What the server process does: listen on a free port of the loopback, say which, serve."""
    import uvicorn
    from fastapi import FastAPI

    from mangaassist.serving.app import create_app
    from mangaassist.serving.service import Service

    if kind == "ours":
        home = Home.open(Path(folder))
        app = create_app(Service(home, open_registry(home), SystemClock()))
    else:
        app = FastAPI()

        @app.post("/v1/stories/{story}/predict")
        async def predict(story: str, body: PredictBody) -> dict[str, object]:
            return {"story": story, "label": "order_status", "confidence": 0.9, "text_length": len(body.text)}

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)  # before the port is told, so that early callers wait instead of being refused
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


class Process:
    """A server process, ended politely so that its log is complete."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bench_serving", "--serve", kind, "--folder", str(folder)],
            stdout=subprocess.PIPE,
            env=dict(os.environ),
        )
        line = self._process.stdout.readline() if self._process.stdout else b""
        self.port = int(line)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)


def texts_of(n: int) -> list[str]:
    generator = np.random.default_rng(7)
    frames = [frame for pair in FRAMES.values() for frame in pair]
    return [
        str(generator.choice(frames)).format(f"{generator.choice(TITLES)} {generator.integers(40)}")
        for _ in range(n)
    ]


async def drive(port: int, *, rate: float, seconds: float) -> tuple[np.ndarray, list[str], int, float]:
    """Open-loop load; latencies in seconds, ids answered with 200, other answers, answers a second."""
    total = int(rate * seconds)
    bodies = [
        orjson.dumps({"text": text, "request_id": f"r{n}", "user_id": f"u{n % 997}"})
        for n, text in enumerate(texts_of(total))
    ]
    head = f"POST /v1/stories/{STORY}/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    latencies, answered, refused = np.zeros(total), [], 0
    upcoming = iter(range(total))
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    began = time.perf_counter() + 0.2

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        for n in upcoming:
            due = began + n / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            writer.write(f"{head}Content-Length: {len(bodies[n])}\r\n\r\n".encode() + bodies[n])
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in answer.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            latencies[n] = time.perf_counter() - due
            if answer.startswith(b"HTTP/1.1 200"):
                answered.append(f"r{n}")
            else:
                refused += 1
        writer.close()

    await asyncio.gather(*(connection(*pair) for pair in connections))
    return latencies, answered, refused, total / (time.perf_counter() - began)


def measure(what: str, port: int, *, rate: float, seconds: float) -> tuple[Load, list[str]]:
    # A second of traffic first: connections, caches and lazily loaded dictionaries are not what is measured.
    latencies, answered, refused, achieved = asyncio.run(drive(port, rate=rate, seconds=seconds + 1))
    p50, p95, p99 = (float(np.quantile(latencies[int(rate) :], q)) * 1e3 for q in (0.5, 0.95, 0.99))
    return Load(what, p50, p95, p99, achieved, len(answered), refused), answered


def logged(home: Home) -> list[str]:
    """The request ids in the drained prediction log, sorted."""
    from mangaassist.serving.prediction_log import PredictionLog
    from mangaassist.storage.tables import Tables

    tables = Tables.open(home)
    PredictionLog.open(home, STORY).drain(tables)
    return sorted(tables.read(f"predictions.{STORY}")["request_id"])


def rollback(home: Home, folder: Path) -> dict[str, float]:
    """Seconds until two servers on one home both serve the previous champion."""
    from mangaassist.serving.live import Readers

    with ExitStack() as stack:
        ports = [stack.enter_context(Process("ours", folder)).port for _ in range(2)]
        for port in ports:  # a server counts as a reader once it has served its first story
            asyncio.run(drive(port, rate=50, seconds=1))
        controller = Controller(open_registry(home), readers=(Readers(home),))
        story = Story(STORY, "text-classification", "bench")
        done = controller.rollback(story, actor="bench", reason="measured", at=SystemClock().now())
    return {"seconds": done.seconds, "readers": done.readers}


def show(loads: Sequence[Load], complete: bool, back: dict[str, float]) -> None:
    for one in loads:
        print(
            f"{one.what:28} p50 {one.p50:7.2f} ms  p95 {one.p95:7.2f} ms  p99 {one.p99:7.2f} ms  "
            f"{one.achieved:6.1f}/s  {one.answered} answered, {one.refused} refused"
        )
    print(f"ratio of p50: {loads[0].p50 / loads[1].p50:.2f}x, of p95: {loads[0].p95 / loads[1].p95:.2f}x")
    print(f"prediction log complete: {'yes' if complete else 'NO'} ({loads[0].answered} rows)")
    print(f"rollback seen by the last of {back['readers']} servers after {back['seconds']:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=("ours", "floor"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        run_server(given.serve, given.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "home"
        home = Home.open(folder)
        for seed in (1, 2):
            promoted(home, seed)
        with Process("floor", folder) as floor:
            base, _ = measure("bare FastAPI endpoint", floor.port, rate=given.rate, seconds=given.seconds)
        with Process("ours", folder) as server:
            ours, answered = measure("mangaassist", server.port, rate=given.rate, seconds=given.seconds)
        complete = logged(home) == sorted(answered)
        back = rollback(home, folder)
    if given.json:
        body = {"loads": [asdict(ours), asdict(base)], "log_complete": complete, "rollback": back}
        print(json.dumps(body))
    else:
        show([ours, base], complete, back)
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
