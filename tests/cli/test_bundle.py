"""`mangaassist bundle`: registered, refused, flipped, flipped back, listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.journeys import Shell
from tests.promotion.samples import add

from mangaassist.core.home import Home


@pytest.fixture
def coupled(tmp_path: Path) -> tuple[Shell, list[str]]:
    shell = Shell(tmp_path / "home")
    Home.open(shell.home)
    platform = shell.platform()
    add(platform.registry, "embedding", run="e1")
    index = platform.artifacts.put_files({"vectors": b"1"})
    return shell, ["--member", "embedding=embedding/1", "--member", f"index={index}"]


def test_a_bundle_from_the_command_line(coupled: tuple[Shell, list[str]], tmp_path: Path) -> None:
    """PRO-5, PRO-7: what was not evaluated together is refused by name; the rest flips and comes back."""
    shell, members = coupled
    assert not shell.json("bundle", "register", "search", *members)["deployable"]
    refused = shell.error("bundle", "flip", "search", "1", "--reason", "New.", code=1)
    assert "embedding embedding/1 + index" in refused["message"]
    named = dict(member.split("=") for member in members[1::2])
    verdict = {"name": "search.top3", "status": "pass", "sentence": "Good.", "n": 10}
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"members": named, "verdicts": [verdict]}))
    for reranking in ("a", "b"):
        platform = shell.platform()
        extra = platform.artifacts.put_files({"weights": reranking.encode()})
        path.write_text(json.dumps({"members": {**named, "reranker": extra}, "verdicts": [verdict]}))
        more = [*members, "--member", f"reranker={extra}", "--evaluation", str(path)]
        number = shell.json("bundle", "register", "search", *more)["number"]
        flipped = shell.json("bundle", "flip", "search", str(number), "--reason", "Better.")
        assert (flipped["live"], flipped["verdict"]["status"]) == (number, "pass")
    back = shell.json("bundle", "back", "search", "--reason", "Worse.")
    assert (back["live"], back["blue"]) == (2, None)
    (listed,) = shell.json("bundle", "list")["bundles"]
    assert [one["state"] for one in listed["bundles"]] == ["registered", "live", "withdrawn"]
    assert shell.error("bundle", "register", "search", "--member", "nonsense", code=2)["field"] == "--member"
