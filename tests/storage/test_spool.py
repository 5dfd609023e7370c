"""The write spool: kill -9 loses no acknowledged record and doubles none (issue item 2)."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.forks import fork_server
from tests.storage.processes import AT
from tests.storage.spool_victim import SCHEMA, TABLE, THREADS, main

from mangaassist.core.errors import InputError, IntegrityError, Unavailable
from mangaassist.core.home import Home
from mangaassist.storage import segment
from mangaassist.storage.segment import HEADER_BYTES, SegmentReader, encode_frame
from mangaassist.storage.spool import Spool
from mangaassist.storage.tables import Tables

NUMBERS = pa.schema([("n", pa.int64())])


class FakeTables:
    """The contract of Tables that a drain uses, in memory; it may fail after the commit as a crash would."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.kept: dict[str, str] = {}
        self.crash_after_commit = False
        self.commits = 0

    def append(
        self, name: str, rows: pa.Table, *, properties: Mapping[str, str], marks: Mapping[str, str]
    ) -> int:
        self.rows += rows.to_pylist()
        self.kept.update(marks)
        self.commits += 1
        if self.crash_after_commit:
            raise KeyboardInterrupt
        return self.commits

    def marks(self, name: str) -> dict[str, str]:
        return dict(self.kept)

    @property
    def numbers(self) -> list[int]:
        return sorted(row["n"] for row in self.rows)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool")
    yield opened
    opened.close()


@pytest.fixture
def tables() -> FakeTables:
    return FakeTables()


def records(*values: int) -> list[dict[str, int]]:
    return [{"n": value} for value in values]


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "spool").glob("*.segment"))


def test_records_reach_the_table_once(spool: Spool, tables: FakeTables, tmp_path: Path) -> None:
    spool.append(records(1, 2))
    spool.append([])
    spool.append(records(3))
    assert spool.pending() == 3
    assert spool.drain(tables, TABLE, NUMBERS) == 3
    assert (spool.pending(), spool.drain(tables, TABLE, NUMBERS)) == (0, 0)
    spool.append(records(4))
    assert spool.pending() == 1
    spool.close()
    assert spool.drain(tables, TABLE, NUMBERS) == 1
    assert tables.numbers == [1, 2, 3, 4]
    assert segments(tmp_path) == []


def test_records_of_every_type_come_back(spool: Spool, home: Home) -> None:
    """Through the real tables: instants, empty values, text in two scripts, missing keys."""
    schema = pa.schema(
        [
            ("at", pa.timestamp("us", "UTC")),
            ("text", pa.string()),
            ("x", pa.float64()),
            ("flag", pa.bool_()),
        ]
    )
    real = Tables.open(home)
    spool.append([{"at": AT, "text": "呪術廻戦", "x": 0.1, "flag": True}, {"at": None, "text": "a"}])
    assert spool.drain(real, TABLE, schema) == 2
    assert sorted(real.read(TABLE).rows(), key=lambda row: row[1]) == [
        (None, "a", None, None),
        (AT, "呪術廻戦", 0.1, True),
    ]
    summary = real.properties(TABLE)[-1]
    assert any(name.startswith("spool.") and ".segment" in value for name, value in summary.items())
    real.close()


@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=4), max_size=10),
    segment_bytes=st.integers(1, 300),
    drain_bytes=st.integers(1, 300),
)
def test_any_sizes_move_the_same_records(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], segment_bytes: int, drain_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, segment_bytes=segment_bytes, drain_bytes=drain_bytes)
    tables = FakeTables()
    for batch in batches:
        spool.append(records(*batch))
    spool.close()
    assert spool.drain(tables, TABLE, NUMBERS) == sum(map(len, batches))
    assert tables.numbers == sorted(value for batch in batches for value in batch)
    assert list(folder.glob("*.segment")) == []


def test_threads_share_the_fsync(spool: Spool, tables: FakeTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Group commit: while one thread syncs, the others gather behind it for a single next sync."""
    real, started, gathered = os.fdatasync, threading.Event(), threading.Event()
    syncs: list[int] = []

    def slow(descriptor: int) -> None:
        syncs.append(descriptor)
        if len(syncs) == 1:
            started.set()
            gathered.wait(10)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=spool.append, args=(records(n),)) for n in range(12)]
    threads[0].start()
    assert started.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(spool._batch.frames) < 11:
        os.sched_yield()
    gathered.set()
    for thread in threads:
        thread.join()
    assert len(syncs) == 2
    assert spool.drain(tables, TABLE, NUMBERS) == 12


def test_two_writers_one_folder(tmp_path: Path, tables: FakeTables) -> None:
    one, two = Spool(tmp_path / "spool"), Spool(tmp_path / "spool")
    one.append(records(1))
    two.append(records(2))
    assert len(segments(tmp_path)) == 2
    one.close()
    assert two.drain(tables, TABLE, NUMBERS) == 2
    assert len(segments(tmp_path)) == 1, "the living writer's segment stays"
    two.append(records(3))
    assert two.drain(tables, TABLE, NUMBERS) == 1
    two.close()
    assert tables.numbers == [1, 2, 3]


@pytest.mark.parametrize("finished", [False, True])
def test_a_drain_that_dies_after_its_commit_doubles_nothing(
    spool: Spool, tables: FakeTables, finished: bool
) -> None:
    spool.append(records(1, 2))
    if finished:
        spool.close()
    tables.crash_after_commit = True
    with pytest.raises(KeyboardInterrupt):
        spool.drain(tables, TABLE, NUMBERS)
    tables.crash_after_commit = False
    assert spool.drain(tables, TABLE, NUMBERS) == 0
    assert tables.numbers == [1, 2]


def test_snapshot_expiry_does_not_forget_what_was_drained(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is on the table: the snapshot whose commit set it may be gone when the drain comes back."""
    real = Tables.open(home)
    spool = Spool(home.path / "spool")
    spool.append(records(1, 2))
    spool.close()

    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            spool.drain(real, TABLE, NUMBERS)
    assert len(list((home.path / "spool").glob("*.segment"))) == 1
    real.append(TABLE, pa.table({"n": [3]}))
    now = datetime.fromtimestamp(max(one.stat().st_mtime for one in home.path.rglob("*")), tz=UTC)
    now += timedelta(hours=1)
    gone = real.expire(TABLE, older_than=now, keep=[], now=now, grace=timedelta(0), dry_run=False)
    assert len(gone.snapshots) == 1
    assert spool.drain(real, TABLE, NUMBERS) == 0
    assert sorted(real.read(TABLE)["n"]) == [1, 2, 3]
    assert list((home.path / "spool").glob("*.segment")) == []
    real.close()


def test_one_spool_feeds_one_table(spool: Spool, tables: FakeTables) -> None:
    spool.append(records(1))
    spool.drain(tables, TABLE, NUMBERS)
    with pytest.raises(InputError, match="one spool folder per table"):
        spool.drain(tables, "log.other", NUMBERS)


@pytest.mark.parametrize("bad", [{"n": "one"}, {"n": 1, "m": 2}, {"n": 2**70 // 2**7 * 1.5}])
def test_records_that_do_not_fit_stay(spool: Spool, tables: FakeTables, bad: dict[str, Any]) -> None:
    spool.append([bad])
    with pytest.raises(InputError, match="they are still in the spool"):
        spool.drain(tables, TABLE, NUMBERS)
    assert (spool.pending(), tables.commits) == (1, 0)


def test_a_closed_spool_takes_nothing(spool: Spool) -> None:
    spool.close()
    with pytest.raises(Unavailable, match="closed"):
        spool.append(records(1))


def test_a_value_without_a_json_form_fails_its_own_append_only(spool: Spool, tables: FakeTables) -> None:
    with pytest.raises(TypeError):
        spool.append([{"n": object()}])
    spool.append(records(1))
    assert spool.drain(tables, TABLE, NUMBERS) == 1


# damage and failing disks


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def test_a_torn_end_is_dropped_and_the_acknowledged_part_kept(tmp_path: Path, tables: FakeTables) -> None:
    """A kill in the middle of a write leaves half a frame, for every length of half."""
    frame = encode_frame(records(2))
    for length in range(1, len(frame)):
        spool = Spool(tmp_path / f"spool{length}")
        spool.append(records(1))
        spool.close()
        path = next((tmp_path / f"spool{length}").glob("*.segment"))
        with path.open("ab") as file:
            file.write(frame[:length])
        assert spool.drain(tables, TABLE, NUMBERS) == 1
        tables.kept.clear()
    assert tables.numbers == [1] * (len(frame) - 1)


def test_acknowledged_bytes_that_are_gone_are_an_error(
    spool: Spool, tables: FakeTables, tmp_path: Path
) -> None:
    """Below the acknowledged mark nothing is taken for a torn end."""
    spool.append(records(1))
    spool.append(records(2))
    spool.close()
    path = segments(tmp_path)[0]
    _cut(path, path.stat().st_size - 3)
    with pytest.raises(IntegrityError, match=r"damaged bytes from offset \d+"):
        spool.drain(tables, TABLE, NUMBERS)
    assert tables.numbers == [1]
    assert path.exists()


def test_a_flipped_byte_never_alters_a_record(tmp_path: Path) -> None:
    """Every single byte in turn: either all records arrive, or an error says some did not."""
    spool = Spool(tmp_path / "spool")
    for number in range(3):
        spool.append(records(number))
    spool.close()
    path = segments(tmp_path)[0]
    sound = path.read_bytes()
    for position in range(len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        tables = FakeTables()
        try:
            spool.drain(tables, TABLE, NUMBERS)
        except IntegrityError:
            assert tables.numbers == list(range(len(tables.numbers)))
            assert path.exists()
            continue
        in_acknowledged_mark = 8 <= position < HEADER_BYTES
        assert tables.numbers == [0, 1, 2] or in_acknowledged_mark
        path.write_bytes(sound)


def test_one_damaged_segment_does_not_hold_up_the_others(tmp_path: Path, tables: FakeTables) -> None:
    spool = Spool(tmp_path / "spool", segment_bytes=1)
    for number in range(3):
        spool.append(records(number))
    spool.close()
    middle = segments(tmp_path)[1]
    _cut(middle, HEADER_BYTES + 2)
    with pytest.raises(IntegrityError, match=middle.name):
        spool.drain(tables, TABLE, NUMBERS)
    assert tables.numbers == [0, 2]
    assert segments(tmp_path) == [middle]


def test_a_full_disk_fails_the_append_and_loses_nothing_before_it(
    spool: Spool, tables: FakeTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append(records(1))
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 4:
            return real(descriptor, data[:4])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(segment.os, "write", full)
        with pytest.raises(Unavailable, match="free space"):
            spool.append(records(2))
        with pytest.raises(Unavailable, match="free space"):
            spool.append(records(3))
    spool.append(records(4))
    spool.close()
    assert spool.drain(tables, TABLE, NUMBERS) == 2
    assert tables.numbers == [1, 4]


def test_an_append_that_failed_at_the_sync_does_not_come_back(
    spool: Spool, tables: FakeTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller was told no and will append again: delivering it would double it."""

    def broken(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool.append(records(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        with pytest.raises(Unavailable, match="free space"):
            spool.append(records(2))
    spool.append(records(2))
    spool.drain(tables, TABLE, NUMBERS)
    assert tables.numbers == [1, 2]


def test_a_writer_that_lives_shows_only_what_it_acknowledged(spool: Spool, tmp_path: Path) -> None:
    spool.append(records(1))
    path = segments(tmp_path)[0]
    with path.open("ab") as file:
        file.write(encode_frame(records(2)))
    with SegmentReader(path) as reader:
        assert not reader.finished
        assert [frame.records() for frame in reader.frames(HEADER_BYTES)] == [records(1)]


# kill -9


def _kill_and_recover(path: Path, generations: int, seed: int, server: ForkServerContext) -> int:
    """Run victims on one home, each killed somewhere; then drain and compare. How many were killed."""
    generator = np.random.default_rng(seed)
    acknowledged: set[str] = set()
    killed = 0
    for generation in range(generations):
        kill_at = int(generator.integers(1, 160))
        name = f"{seed}.{generation}"
        said = path.with_name(f"{name}.txt")
        victim = server.Process(target=main, args=(path, name, kill_at, said))
        victim.start()
        victim.join()
        assert victim.exitcode in (0, -signal.SIGKILL)
        killed += victim.exitcode != 0
        acknowledged.update(said.read_text(encoding="ascii").split())
    home = Home.open(path)
    tables, spool = Tables.open(home), Spool(home.path / "spool")
    spool.drain(tables, TABLE, SCHEMA)
    rows = tables.read(TABLE)
    tables.close()
    found = rows["id"].to_list()
    assert len(found) == len(set(found)), "doubled"
    assert acknowledged <= set(found), "lost"
    # A thread killed between the disk and its caller leaves one batch written but not confirmed.
    assert rows.filter(~rows["id"].is_in(list(acknowledged)))["batch"].n_unique() <= THREADS * killed
    for batch, size in rows.select("batch", "size").unique().rows():
        assert sum(one.startswith(f"{batch}-") for one in found) == size, "half an append"
    return killed


def test_kill_9_at_twenty_points_loses_and_doubles_nothing(tmp_path: Path) -> None:
    server = fork_server("tests.storage.spool_victim")
    homes = [(tmp_path / f"home{number}", 5, 10 + number, server) for number in range(4)]
    # One after the other: two threads that look at one child's end read its exit code once.
    killed = sum(_kill_and_recover(*one) for one in homes)
    assert killed >= 12


@pytest.mark.soak
def test_kill_9_at_hundreds_of_points_loses_and_doubles_nothing(tmp_path: Path) -> None:
    server = fork_server("tests.storage.spool_victim")
    homes = [(tmp_path / f"home{number}", 20, 1000 + number, server) for number in range(20)]
    assert sum(_kill_and_recover(*one) for one in homes) >= 250
