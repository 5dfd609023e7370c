"""The drift commands on homes without traffic: what they refuse and what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mangaassist.cli.main import run
from mangaassist.core.home import Home


@pytest.fixture
def folder(tmp_path: Path) -> str:
    Home.open(tmp_path / "home")
    return str(tmp_path / "home")


@pytest.mark.parametrize(("arguments", "got"), [([], "neither"), (["intent", "--all"], "both")])
def test_check_wants_one_story_or_all(folder: str, arguments: list[str], got: str, capsys) -> None:
    """DRF-2: bad input is one sentence and exit code 2."""
    assert run(["--home", folder, "drift", "check", *arguments]) == 2
    assert got in capsys.readouterr().err


def test_all_of_nothing_is_an_answer(folder: str, capsys) -> None:
    """DRF-2: a home without stories has nothing to watch and says so."""
    assert run(["--home", folder, "drift", "check", "--all", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["reports"], body["unwatched"]) == ({}, {})


@pytest.mark.parametrize("command", ["check", "triage"])
def test_a_story_without_a_champion_is_refused(folder: str, command: str, capsys) -> None:
    """DRF-3: nothing is watched before the first promoted version; exit code 1."""
    assert run(["--home", folder, "drift", command, "intent", "--json"]) == 1
    assert "no champion" in capsys.readouterr().out
