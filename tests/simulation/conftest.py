"""One small simulated shop for all tests of the room; building it again must give the same one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mangaassist.simulation.conversations import Season
from mangaassist.simulation.samples import Sample
from mangaassist.simulation.world import World, build_world

START = datetime(2026, 11, 2, tzinfo=UTC)
DAY = timedelta(days=1)
SEED = 7


@pytest.fixture(scope="session")
def world() -> World:
    return build_world(SEED, START)


@pytest.fixture(scope="session")
def seasonal() -> World:
    """The same shop with a collaboration from the first day and a recall from the fourth."""
    return build_world(SEED, START, season=Season(begins=START, recall_begins=START + 3 * DAY))


@pytest.fixture(scope="session")
def history(world: World) -> list[Sample]:
    return world.history()


@pytest.fixture(scope="session")
def golden(world: World) -> list[Sample]:
    return world.golden()
