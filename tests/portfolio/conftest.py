"""Fixtures of the portfolio's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mangaassist.core.home import Home
from mangaassist.storage.ledger import Ledger


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    opened = Ledger.open(home)
    yield opened
    opened.close()
