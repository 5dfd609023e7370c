"""The way in: durable when acknowledged, in the table once, across copies and kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from benchmarks.bench_implicit import BATCH, run
from tests.labels.rows import NOW
from tests.labels.test_events import act, impression

from mangaassist.core.clock import SimulatedClock, isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.labels.event_intake import (
    EventIntake,
    events_table,
    read_event_file,
    refusals_table,
)
from mangaassist.storage.tables import Tables

AT = isoformat(NOW - timedelta(minutes=1))


@pytest.fixture
def tables(home: Home) -> Iterator[Tables]:
    opened = Tables.open(home)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
def intake(home: Home, clock: SimulatedClock) -> Iterator[EventIntake]:
    opened = EventIntake.open(home, "shop", clock)
    yield opened
    opened.close()


def keys(tables: Tables) -> list[str]:
    return sorted(tables.read(events_table("shop"))["event_id"])


def test_events_are_durable_before_the_receipt_and_typed_in_the_table(
    intake: EventIntake, home: Home, tables: Tables, clock: SimulatedClock
) -> None:
    receipt = intake.receive([impression(at=AT), act(at=AT), act("bad", at=AT, position=0)])
    assert (receipt.accepted, receipt.duplicates, receipt.reasons()) == (2, 0, {"position_out_of_range": 1})
    other = EventIntake.open(home, "shop", clock)
    assert other.pending() == 3
    drained = other.drain(tables)
    assert (drained.stored, drained.duplicates, drained.refused) == (2, 0, 1)
    rows = tables.read(events_table("shop"))
    assert rows["known_at"].to_list() == [NOW, NOW]
    assert rows["at"].to_list() == [NOW - timedelta(minutes=1)] * 2
    refused = tables.read(refusals_table("shop"))
    assert refused["reason"].to_list() == ["position_out_of_range"]
    assert "1 to 200, got 0" in refused["sentence"][0]


def test_copies_are_dropped_within_the_window_and_stay_beyond_it(
    intake: EventIntake, tables: Tables, clock: SimulatedClock
) -> None:
    """In one drain, in the next one, and refused ones too; past the window the table keeps the copy."""
    batch = [act("a", at=AT), act("b", at=AT), act("bad", at=AT, position=0)]
    intake.receive(batch)
    intake.receive(batch)
    first = intake.drain(tables)
    assert (first.stored, first.duplicates, first.refused) == (2, 2, 1)
    clock.advance(timedelta(minutes=14))
    intake.receive([*batch, act("c", at=AT)])
    second = intake.drain(tables)
    assert (second.stored, second.duplicates, second.refused) == (1, 2, 0)
    clock.advance(timedelta(minutes=16))
    intake.receive([act("a", at=AT)])
    assert intake.drain(tables).stored == 1
    assert keys(tables) == ["a", "a", "b", "c"]  # the guarantee ends here; labels still count it once
    intake.receive([act("b", at=AT)])
    assert intake.drain(tables, resend=timedelta(days=1)).duplicates == 1


def test_a_drain_of_copies_alone_is_done_with_them(intake: EventIntake, tables: Tables) -> None:
    intake.receive([act("a", at=AT)])
    intake.drain(tables)
    intake.receive([act("a", at=AT)])
    assert intake.drain(tables).duplicates == 1
    assert intake.pending() == 0
    assert intake.drain(tables).duplicates == 0


def test_files(tmp_path: Path) -> None:
    lines = tmp_path / "events.jsonl"
    pl.DataFrame([act("a"), act("b")]).write_ndjson(lines)
    lines.write_bytes(lines.read_bytes() + b"\n{broken\n")
    (batch,) = read_event_file(lines)
    assert [one["event_id"] for one in batch[:2]] == ["a", "b"]
    assert batch[2].place == "line 4, which is no JSON"
    table = tmp_path / "events.parquet"
    pl.DataFrame([act(f"e{n}") for n in range(10_001)]).write_parquet(table)
    assert [len(one) for one in read_event_file(table)] == [10_000, 1]


@pytest.mark.parametrize("name", ["none.jsonl", "events.csv", "broken.parquet"])
def test_files_that_are_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not name.startswith("none"):
        path.write_bytes(b"not parquet")
    with pytest.raises(InputError):
        list(read_event_file(path))


def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """Real processes: intake and drain are killed in the middle, and lost answers make copies besides."""
    result = run(tmp_path / "home", seconds=1.6, rate=10_000)
    assert result.events >= 10 * BATCH
    assert result.resent >= 1
    assert (result.lost, result.doubled) == (0, 0)
    assert result.stored == result.events


@pytest.mark.soak
def test_twenty_thousand_a_second_for_a_minute(tmp_path: Path) -> None:
    result = run(tmp_path / "home", seconds=60.0, rate=21_000)
    assert (result.lost, result.doubled) == (0, 0)
    assert result.stored == result.events
    assert result.rate >= 20_000
