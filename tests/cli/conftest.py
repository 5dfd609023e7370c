"""Homes for the command line: one trained and shared by tests that only read, else one's own."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.cli.journeys import HOSTILE, Shell, fill, new_story, trained_home, write


@pytest.fixture(autouse=True)
def _no_settings_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has set for their own home means nothing here."""
    for name in ("HOME", "ACTOR", "DEBUG", "LEDGER_URL", "CATALOG_URL", "WAREHOUSE", "REGION"):
        monkeypatch.delenv(f"MANGAASSIST_{name}", raising=False)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Version 1 in shadow, with a golden and an adversarial set. For reading only."""
    folder = tmp_path_factory.mktemp("trained")
    shell = trained_home(folder)
    shell.load(write(folder / "hostile.jsonl", HOSTILE), "vendor", "--role", "adversarial")
    return shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A home with a story and nothing else."""
    found = Shell(tmp_path / "home")
    new_story(found)
    return found


@pytest.fixture
def filled(shell: Shell, tmp_path: Path) -> Shell:
    """A story with two sources and a golden set, never trained."""
    fill(shell, tmp_path)
    return shell


@pytest.fixture
def own(tmp_path: Path) -> Shell:
    """A trained home to do anything with; its rollout takes minutes instead of weeks."""
    return trained_home(tmp_path, quick=True)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
