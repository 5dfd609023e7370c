"""What every test room shares: a simulated clock, a fresh home, and the outside things a test may need.

In CI a missing service, browser or dataset fails the test that needs it instead of skipping it.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home

IN_CI = os.environ.get("CI") == "true"
START = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms run only when asked for, so that `make test` stays short."""
    if os.environ.get("MANGAASSIST_SOAK") != "1":
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(pytest.mark.skip(reason="long form: make soak"))


def missing(what: str) -> None:
    """Skip on a developer's machine, fail in CI."""
    if IN_CI:
        pytest.fail(f"{what} is required in CI")
    pytest.skip(f"{what} is not available here")


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A SQLAlchemy URL whose search path is a schema of its own, dropped afterwards."""
    try:
        socket.create_connection(("127.0.0.1", 5432), timeout=1).close()
    except OSError:
        missing("PostgreSQL at 127.0.0.1:5432")
    import psycopg

    base = os.environ.get("MANGAASSIST_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
    schema = f"t{uuid.uuid4().hex}"
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"create schema {schema}")
        try:
            yield (
                base.replace("postgresql://", "postgresql+psycopg://") + f"?options=-csearch_path%3D{schema}"
            )
        finally:
            connection.execute(f"drop schema {schema} cascade")


@pytest.fixture(scope="session")
def chromium() -> str:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing("chromium")
    return str(path)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real datasets; the project never ships it."""
    folder = Path(os.environ.get("MANGAASSIST_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no datasets at {folder} (set MANGAASSIST_DATA)")
    return folder
