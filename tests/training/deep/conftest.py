"""The workers of torchrun are forked from a process with torch in it, whatever ran before these tests."""

from __future__ import annotations

import pytest
from tests.forks import fork_server

from mangaassist.training.deep.launch import PRELOADED


@pytest.fixture(autouse=True)
def _workers_with_torch() -> None:
    fork_server(*PRELOADED)
