"""A label store on an empty home and a clock that moves when told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.labels.rows import NOW

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.labels.intake import LabelStore
from mangaassist.storage.ledger import Ledger
from mangaassist.storage.tables import Tables


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
def store(tmp_path: Path, clock: SimulatedClock) -> Iterator[LabelStore]:
    home = Home.open(tmp_path / "home")
    ledger = Ledger.open(home)
    tables = Tables.open(home)
    yield LabelStore(tables, ledger, clock)
    tables.close()
    ledger.close()
