"""A label version after a year and a half: the same bytes, from tables or cold folder (LAB-2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.labels.rows import STORY, example, examples, identity, labels, vote

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.core.home import Home
from mangaassist.labels.archive import archive, due, months_before
from mangaassist.labels.changes import edit
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.versions import archived, contents, finalise, read, version
from mangaassist.labels.withdrawals import withdraw
from mangaassist.lifecycle.maintenance import maintain
from mangaassist.lifecycle.platform import Platform


@pytest.fixture
def platform(home: Home, clock: SimulatedClock) -> Platform:
    return Platform.open(home, clock)


def fill(store: LabelStore, *texts: str) -> None:
    store.add_examples(STORY, examples(*(example(text) for text in texts)))
    store.add_labels(
        STORY, labels(*(vote(text, f"class_{len(text) % 3}", "vendor", "ann") for text in texts))
    )


def bytes_of(frame: pl.DataFrame) -> bytes:
    return frame.write_ndjson().encode()


def as_files(path: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in sorted(path.rglob("*.parquet"))}


def test_a_year_of_everything_changes_no_byte(platform: Platform, clock: SimulatedClock) -> None:
    """LAB-2: later batches, edits, withdrawals, snapshot expiry and a year in between."""
    store, files = platform.labels, SimulatedClock(datetime(2027, 12, 1, tzinfo=UTC))
    fill(store, "hello", "where is it", "bye", "forget me")
    first = finalise(store, STORY, actor="retrain")
    before = bytes_of(read(store, STORY, 1))
    for quarter in range(4):
        clock.advance(timedelta(days=92))
        fill(store, f"text of quarter {quarter}", "hello")
        edit(store, STORY, vote("bye", f"changed_{quarter}", "vendor", "ann"), actor="bo", reason="misread")
        files.advance(timedelta(days=92))
        maintain(platform, dry_run=False, file_clock=files)
    withdraw(store, STORY, [identity("forget me")], actor="ana", reason="asked for it", user="u1")
    gone = maintain(platform, dry_run=False, file_clock=files)
    second = finalise(store, STORY, actor="retrain")
    assert sum(one.items for one in gone) > 0
    assert (version(store, STORY, 1), bytes_of(read(store, STORY, 1))) == (first, before)
    assert archived(store, STORY) == {}
    assert "forget me" not in read(store, STORY, second.number)["text"]
    assert "forget me" in read(store, STORY, 1)["text"]


def test_eighteen_months_later_it_is_read_from_the_cold_folder(
    platform: Platform, clock: SimulatedClock
) -> None:
    """Moved by maintenance, snapshots freed, rows the same; a younger version stays in the tables."""
    store, files = platform.labels, SimulatedClock(datetime(2028, 6, 1, tzinfo=UTC))
    fill(store, "hello", "bye")
    finalise(store, STORY, actor="retrain")
    clock.advance(timedelta(days=100))
    fill(store, "more")
    young = finalise(store, STORY, actor="retrain")
    rows, before = read(store, STORY, 1), contents(store, STORY, version(store, STORY, 1))
    clock.advance(timedelta(days=449))  # 549 days: 18 months and a day or two
    assert [one.number for one in due(store, STORY)] == [1]
    maintain(platform, dry_run=True, file_clock=files)
    assert archived(store, STORY) == {}
    freed = {one.what: one.items for one in maintain(platform, dry_run=False, file_clock=files)}
    assert freed["label versions of intent to the cold folder"] == 1
    assert list(archived(store, STORY)) == [1]
    with pytest.raises(IntegrityError, match="no such snapshot"):
        store.labels(STORY, snapshot=version(store, STORY, 1).snapshot_labels)
    restored = contents(store, STORY, version(store, STORY, 1))
    assert [bytes_of(one) for one in restored] == [bytes_of(one) for one in before]
    assert bytes_of(read(store, STORY, 1)) == bytes_of(rows)
    assert store.labels(STORY, snapshot=young.snapshot_labels).height == 3
    assert (
        maintain(platform, dry_run=False, file_clock=files)[0].what
        != "label versions of intent to the cold folder"
    )


def test_a_flipped_byte_in_the_cold_folder_is_an_integrity_error(platform: Platform) -> None:
    store = platform.labels
    fill(store, "hello", "bye")
    finalise(store, STORY, actor="retrain")
    archive(store, STORY, 1, actor="ana")
    read(store, STORY, 1)
    blobs = [
        one for one in (platform.home.path / "cold").rglob("*") if one.is_file() and one.stat().st_size > 0
    ]
    broken = 0
    for blob in blobs:
        whole = blob.read_bytes()
        blob.chmod(0o644)
        blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        try:
            read(store, STORY, 1)
        except IntegrityError:
            broken += 1
        blob.write_bytes(whole)
    assert broken >= 4  # the manifest and three Parquet files; version.json is for people
    assert read(store, STORY, 1).height == 2


def test_archiving_twice_is_once_and_needs_a_version_and_a_folder(platform: Platform) -> None:
    store = platform.labels
    fill(store, "hello", "bye")
    finalise(store, STORY, actor="retrain")
    assert archive(store, STORY, 1, actor="ana") == archive(store, STORY, 1, actor="ana")
    assert len(store.ledger.entries(kind="labels.archived")) == 1
    with pytest.raises(InputError, match="a finalised version"):
        archive(store, STORY, 2, actor="ana")
    with pytest.raises(InputError, match="cold folder"):
        archive(LabelStore(store.tables, store.ledger, store.clock), STORY, 1, actor="ana")


@pytest.mark.parametrize(
    ("at", "before"),
    [((2026, 11, 20), (2025, 5, 20)), ((2027, 8, 31), (2026, 2, 28)), ((2029, 8, 31), (2028, 2, 29))],
)
def test_eighteen_months_are_counted_by_the_calendar(
    at: tuple[int, int, int], before: tuple[int, int, int]
) -> None:
    assert months_before(datetime(*at, tzinfo=UTC), 18) == datetime(*before, tzinfo=UTC)
