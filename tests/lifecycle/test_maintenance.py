"""Clean-up frees what nothing names and keeps what anything does."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pyarrow as pa

from mangaassist.core.clock import SystemClock
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
