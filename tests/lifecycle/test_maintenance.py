"""Clean-up frees what nothing names and keeps what anything does."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from mangaassist.core.clock import SimulatedClock, SystemClock
from mangaassist.core.home import Home
from mangaassist.lifecycle.maintenance import RETAIN, maintain
from mangaassist.lifecycle.platform import Platform


def aged(platform: Platform, digest: str) -> None:
    """Make an artifact look older than any grace period."""
    path = next(platform.home.path.joinpath("artifacts").rglob(digest))
    then = (datetime.now(UTC) - 2 * RETAIN).timestamp()  # noqa: TID251 - file times are the machine's
    os.utime(path, (then, then))


def test_an_artifact_the_ledger_names_stays_and_another_goes(home: Home) -> None:
    platform = Platform.open(home, SystemClock())
    kept, lost = platform.artifacts.put(b"evidence"), platform.artifacts.put(b"scratch")
    fresh = platform.artifacts.put(b"just written")
    for digest in (kept, lost):
        aged(platform, digest)
    platform.ledger.append(
        kind="note", subject="x", body={"evidence": kept}, actor="test", at=platform.clock.now()
    )
    assert [one.items for one in maintain(platform, dry_run=True) if one.what == "artifacts"] == [1]
    assert platform.artifacts.has(lost)
    maintain(platform, dry_run=False)
    assert platform.artifacts.has(kept)
    assert platform.artifacts.has(fresh)
    assert not platform.artifacts.has(lost)


def test_young_snapshots_are_left_alone(home: Home) -> None:
    platform = Platform.open(home, SystemClock())
    for number in range(3):
        platform.tables.append("notes.all", pa.table({"n": [number]}))
    found = {one.what: one for one in maintain(platform, dry_run=False)}
    assert found["notes.all"].items == 0
    assert platform.tables.read("notes.all").height == 3


def test_a_bundle_keeps_its_files_for_fourteen_days_after_it_was_replaced(
    home: Home, clock: SimulatedClock
) -> None:
    """PRO-5: the collector frees blue's files when nobody can flip back to it any more, not before."""
    platform = Platform.open(home, clock)
    indexes = []
    for number in (1, 2):
        members = {
            "index": platform.artifacts.put_files({"vectors": f"{number}".encode()}),
            "words": platform.artifacts.put_files({"words": f"words {number}".encode()}),
        }
        verdict = {"name": "search.top3", "status": "pass", "sentence": "Good.", "n": 10}
        evaluation = {"members": members, "verdicts": [verdict]}
        at = platform.clock.now()
        platform.bundles.register("search", members, evaluation=evaluation, actor="mei", at=at)
        platform.bundles.flip("search", number, actor="mei", reason="New.", at=at)
        indexes.append(members["index"])
    for index in indexes:
        aged(platform, index)
    clock.advance(timedelta(days=13))
    maintain(platform, dry_run=False)
    assert all(platform.artifacts.has(index) for index in indexes)
    clock.advance(timedelta(days=1))
    maintain(platform, dry_run=True)
    assert platform.bundles.state("search").blue is not None
    found = {one.what: one.items for one in maintain(platform, dry_run=False)}
    assert found["bundles of search"] == 1
    assert [platform.artifacts.has(index) for index in indexes] == [False, True]
