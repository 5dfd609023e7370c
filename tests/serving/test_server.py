"""The real server process: uvicorn on the loopback, killed and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import httpx
import pytest
from tests.promotion.samples import registry, to_champion

from mangaassist.core.home import Home
from mangaassist.serving.prediction_log import PredictionLog
from mangaassist.storage.tables import Tables

_SERVER = """
import socket, sys
from pathlib import Path
import uvicorn
from mangaassist.core.clock import SystemClock
from mangaassist.core.home import Home
from mangaassist.serving.app import create_app
from mangaassist.serving.model_server import ModelServer
from mangaassist.serving.service import Service
from tests.promotion.samples import registry
from tests.serving.samples import load_toy
home = Home.open(Path(sys.argv[1]))
target = registry(home)
app = create_app(Service(home, target, SystemClock(), server=ModelServer(target, load=load_toy)))
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_every_answer_given_has_its_row_after_the_server_ended(home: Home, ending: signal.Signals) -> None:
    """GOV-1: kill -9 and a polite stop: no answer without its row, no row twice."""
    to_champion(registry(home), run="old")
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(home.path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        answered = []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for n in range(30):
                body = {"text": f"text {n}", "request_id": f"r{n}"}
                answer = client.post("/v1/stories/intent/predict", json=body)
                assert answer.json()["label"] == "old"
                answered.append(answer.json()["request_id"])
            server.send_signal(ending)
            server.wait(60)
    finally:
        server.kill()
        server.communicate()
    tables = Tables.open(home)
    PredictionLog.open(home, "intent").drain(tables)
    assert sorted(tables.read("predictions.intent")["request_id"]) == sorted(answered)
