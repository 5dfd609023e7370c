"""Both engines of the online store, for every test that holds for both."""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import missing

from mangaassist.core.home import Home
from mangaassist.features.online import OnlineStore
from mangaassist.features.online_embedded import EmbeddedStore

REDIS = "redis://127.0.0.1:6379/0"
ENGINES = ("embedded", "redis")


def redis_there() -> None:
    try:
        socket.create_connection(("127.0.0.1", 6379), timeout=1).close()
    except OSError:
        missing("Redis at 127.0.0.1:6379")


@contextlib.contextmanager
def online(engine: str, home: Path) -> Iterator[OnlineStore]:
    """An empty store; on Redis under a prefix of its own that is removed afterwards."""
    if engine == "embedded":
        yield EmbeddedStore(Home.open(home))
        return
    redis_there()
    from mangaassist.features.online_redis import RedisStore

    prefix = f"test:{uuid.uuid4().hex}"
    store = RedisStore.connect(REDIS, prefix=prefix)
    try:
        yield store
    finally:
        for key in store._builder.scan_iter(f"{prefix}:*"):
            store._builder.delete(key)


@pytest.fixture(params=[pytest.param("embedded"), pytest.param("redis", marks=pytest.mark.service)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    with online(request.param, tmp_path / "home") as opened:
        yield opened
