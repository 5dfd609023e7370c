"""Deploys read from git (issue 5, incidents 1)."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from mangaassist.core.clock import SimulatedClock, SystemClock
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.incidents.changes import changes
from mangaassist.incidents.deploys import checkouts
from mangaassist.incidents.records import Change
from mangaassist.lifecycle import oncall
from mangaassist.lifecycle.platform import Platform

DAY = timedelta(days=1)


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(home: Home) -> Path:
    """A checkout with two commits, named in the home's deploys.yaml."""
    folder = home.path / "gateway"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "First")
    git(folder, "tag", "v1.0")
    (home.path / "deploys.yaml").write_text(
        "checkouts:\n"
        "  - {subject: gateway, checkout: gateway, touches: [gateway],\n"
        "     revert: 'git -C gateway reset --hard {before}'}\n"
    )
    return folder


def seen(platform: Platform) -> list[Change]:
    now = platform.clock.now()
    return changes(platform.ledger, now - DAY, now, known_by=now)


def test_every_move_of_a_checkout_is_one_deploy(home: Home, checkout: Path) -> None:
    # Git says when a checkout moved, so the platform's clock has to be the machine's.
    platform = Platform.open(home, SystemClock())
    for _ in range(2):
        oncall.read_deploys(platform)
    (first,) = seen(platform)
    assert (first.kind, first.subject, first.actor, first.touches) == (
        "deploy",
        "gateway",
        "Ana",
        ("gateway",),
    )
    assert first.summary == "v1.0 First"
    git(checkout, "commit", "-q", "--allow-empty", "-m", "Timeouts")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "Timeouts per stage")
    assert "1 moved" in oncall.read_deploys(platform)
    second = seen(platform)[1]
    assert "Timeouts per stage (2 commits on from " in second.summary
    assert second.summary.startswith("v1.0-2-g")
    assert second.at <= second.known_at
    git(checkout, "reset", "-q", "--hard", "v1.0")
    assert "1 moved" in oncall.read_deploys(platform)
    back = seen(platform)[2]
    assert "v1.0 First (2 back from " in back.summary
    assert back.revert is not None
    assert back.revert.startswith("git -C gateway reset --hard ")
    assert "{" not in back.revert


def test_a_move_of_long_ago_is_how_things_were(home: Home, checkout: Path) -> None:
    platform = Platform.open(home, SimulatedClock(SystemClock().now() + 2 * DAY))
    assert oncall.read_deploys(platform) == "1 checkouts, 0 moved."
    git(checkout, "commit", "-q", "--allow-empty", "-m", "Later")
    assert oncall.read_deploys(platform) == "1 checkouts, 1 moved."


def test_a_folder_that_is_no_checkout_and_a_bad_document(home: Home, checkout: Path) -> None:
    platform = Platform.open(home, SystemClock())
    document = home.path / "deploys.yaml"
    document.write_text("checkouts: [{subject: search, checkout: nowhere}]\n")
    with pytest.raises(InputError, match=r"deploys\.yaml"):
        oncall.read_deploys(platform)
    for text, got in (
        ("checkouts: [{subject: a, checkout: b, branch: c}]", "branch"),
        ("checkouts: [{subject: a, checkout: b, revert: 'git {commit}'}]", "commit"),
        ("checkouts: [{checkout: b}]", "subject"),
        ("checkouts: {a: b}", "list"),
    ):
        document.write_text(text)
        with pytest.raises(InputError, match=got):
            checkouts(home.path)
