"""A filled home and its pages over HTTP, shared by the page tests; and a home with nothing in it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from tests.web.experiment_samples import filled

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.lifecycle.platform import Platform
from mangaassist.web import server

START = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    home = Home.open(tmp_path_factory.mktemp("pages") / "home")
    return filled(home, SimulatedClock(START))


@pytest.fixture(scope="module")
def http(platform: Platform) -> TestClient:
    return TestClient(server.create(platform))


@pytest.fixture
def bare(home: Home, clock: SimulatedClock) -> Platform:
    return Platform.open(home, clock)
