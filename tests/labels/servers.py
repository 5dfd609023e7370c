"""A language model server on this machine that answers, and misbehaves, as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Reply:
    """One HTTP answer.

    Attributes:
        body: sent as it is when bytes, else as JSON.
        after: held back until this event is set; None for at once.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    after: threading.Event | None = None


def chosen(label: str, confidence: object = 0.9, *, tokens: tuple[int, int] = (100, 7)) -> Reply:
    """A chat completion that names ``label``."""
    return said(json.dumps({"label": label, "confidence": confidence}), tokens=tokens)


def said(content: object, *, tokens: tuple[int, int] = (100, 7), **message: object) -> Reply:
    """A chat completion with that content."""
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    choices = [{"message": {"role": "assistant", "content": content, **message}}]
    return Reply(body={"choices": choices, "usage": usage})


@dataclass(slots=True)
class Server:
    """A running server.

    Attributes:
        url: its base URL.
        asked: how often each text came.
        requests: every request's headers and body, in order.
        most: most requests that were open at the same time.
    """

    url: str
    asked: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    most: int = 0


@contextmanager
def serving(answer: Callable[[str, int], Reply]) -> Iterator[Server]:
    """Serve ``answer(text, how often it came before)`` until the block ends."""
    lock, state = threading.Lock(), {"open": 0}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][1]["content"]
            with lock:
                before = found.asked[text]
                found.asked[text] += 1
                found.requests.append((dict(self.headers), body))
                state["open"] += 1
                found.most = max(found.most, state["open"])
            try:
                self._send(answer(text, before))
            finally:
                with lock:
                    state["open"] -= 1

        def _send(self, reply: Reply) -> None:
            if reply.after is not None:
                reply.after.wait(30)
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: tests read what they need from the server."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    # A client that went away is what some tests are about.
    http.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    found = Server(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
