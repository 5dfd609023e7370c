"""Iceberg tables: append, pinned reads, expiry, two writers (LAB-1, LAB-2, issue item 2)."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.processes import AT, append_rows, first_start, run

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError, IntegrityError, MangaAssistError
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.storage.fileio import DurableFileIO
from mangaassist.storage.fingerprint import fingerprint
from mangaassist.storage.ledger import Ledger
from mangaassist.storage.tables import BufferedWriter, Tables

HOUR = timedelta(hours=1)


@pytest.fixture
def tables(home: Home) -> Iterator[Tables]:
    opened = Tables.open(home)
    yield opened
    opened.close()


def rows(*values: int) -> pa.Table:
    return pa.table({"n": list(values), "title": [f"第{value}巻" for value in values]})


def files_of(home: Home) -> dict[Path, int]:
    return {path: path.stat().st_size for path in (home.path / "warehouse").rglob("*") if path.is_file()}


def newest_file(home: Home) -> datetime:
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in files_of(home)), tz=UTC)


def test_rows_come_back_at_their_snapshot(tables: Tables) -> None:
    """LAB-2: an older snapshot reads the same after later appends."""
    first = tables.append("labels.intent", rows(1, 2))
    second = tables.append("labels.intent", rows(3))
    assert sorted(tables.read("labels.intent")["n"]) == [1, 2, 3]
    assert sorted(tables.read("labels.intent", snapshot=first)["n"]) == [1, 2]
    assert tables.read("labels.intent", snapshot=second).equals(tables.read("labels.intent"))
    assert tables.read("labels.intent", columns=["title"]).columns == ["title"]
    assert tables.snapshot("labels.intent") == second
    assert tables.names() == ["labels.intent"]


def test_tables_of_different_depth_live_side_by_side(tables: Tables) -> None:
    names = ["examples.intent", "examples.spam", "features.intent", "features.intent.profile"]
    for name in reversed(names):
        tables.append(name, rows(1))
    assert tables.names() == names
    assert tables.exists("examples.spam")
    assert not tables.exists("examples.sentiment")
    assert tables.snapshot("examples.sentiment") is None


def test_a_home_with_spaces_and_japanese_in_its_path(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "my 家 #1?")
    tables = Tables.open(home)
    tables.append("labels.intent", rows(1))
    tables.close()
    again = Tables.open(home)
    assert again.read("labels.intent")["title"].to_list() == ["第1巻"]
    again.close()


def test_every_storable_type_survives(tables: Tables) -> None:
    tokyo = timezone(timedelta(hours=9))
    frame = pl.DataFrame(
        {
            "text": ["鬼滅の刃", None],
            "category": pl.Series(["a", "b"], dtype=pl.Categorical),
            "small": pl.Series([1, None], dtype=pl.UInt8),
            "big": [2**62, -1],
            "ratio": [0.1, None],
            "single": pl.Series([0.5, 1.5], dtype=pl.Float32),
            "flag": [True, None],
            "day": [AT.date(), None],
            "at": pl.Series([AT, None], dtype=pl.Datetime("ns", "Asia/Tokyo")),
            "blob": [b"\x00\xff", None],
        }
    )
    tables.append("all.types", frame.to_arrow())
    read = tables.read("all.types")
    assert read.schema["at"] == pl.Datetime("us", "UTC")
    assert read["at"][0] == AT.astimezone(tokyo)
    assert read.drop("at", "category", "small").equals(frame.drop("at", "category", "small"))
    assert (read["category"].to_list(), read["small"].to_list()) == (["a", "b"], [1, None])


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (pa.table({"n": [1]}), "expected a column 'title'"),
        (pa.table({"n": [1], "title": ["x"], "titel": ["y"]}), "Did you mean 'title'"),
        (pa.table({"n": ["one"], "title": ["x"]}), "column 'n'.*expected int64"),
        (pa.table({"n": [2.5], "title": ["x"]}), "column 'n'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_whole(tables: Tables, bad: pa.Table, says: str) -> None:
    snapshot = tables.append("labels.intent", rows(1))
    with pytest.raises(InputError, match=says):
        tables.append("labels.intent", bad)
    assert tables.snapshot("labels.intent") == snapshot


def test_columns_in_another_order_fit(tables: Tables) -> None:
    tables.append("labels.intent", rows(1))
    tables.append("labels.intent", rows(2).select(["title", "n"]))
    assert sorted(tables.read("labels.intent").rows()) == [(1, "第1巻"), (2, "第2巻")]


@pytest.mark.parametrize(
    "column", [pa.array([AT.replace(tzinfo=None)]), pa.array([[1]]), pa.array([{"a": 1}]), pa.array([None])]
)
def test_types_without_a_stored_form_are_refused(tables: Tables, column: pa.Array) -> None:
    with pytest.raises(InputError, match="column 'c'"):
        tables.append("labels.intent", pa.table({"c": column}))
    assert not tables.exists("labels.intent")


@pytest.mark.parametrize("name", ["labels", "Labels.intent", "../x.y", "a..b", "a.b;drop", ""])
def test_wrong_names(tables: Tables, name: str) -> None:
    with pytest.raises(InputError, match="dotted name"):
        tables.append(name, rows(1))


def test_missing_table_column_and_snapshot(tables: Tables) -> None:
    tables.append("labels.intent", rows(1))
    with pytest.raises(InputError, match=r"Did you mean 'labels.intent'"):
        tables.read("labels.intnt")
    with pytest.raises(InputError, match="Did you mean 'title'"):
        tables.read("labels.intent", columns=["tilte"])
    with pytest.raises(IntegrityError, match="expected snapshot 42"):
        tables.read("labels.intent", snapshot=42)


def test_properties_and_marks_ride_in_the_commit(tables: Tables) -> None:
    first = tables.append("labels.intent", rows(1), properties={"source": "vendor"})
    tables.append("labels.intent", rows(2), marks={"spool.a": "17"})
    summaries = tables.properties("labels.intent")
    assert (summaries[0]["snapshot-id"], summaries[0]["source"]) == (str(first), "vendor")
    assert tables.marks("labels.intent")["spool.a"] == "17"
    assert tables.marks("labels.none") == {}


def test_an_empty_append_makes_the_table(tables: Tables) -> None:
    snapshot = tables.append("labels.intent", rows().cast(rows(1).schema))
    assert tables.read("labels.intent", snapshot=snapshot).shape == (0, 2)


def test_nothing_is_said_on_the_side(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """Neither warnings nor log lines come out of ordinary work."""
    caplog.set_level(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables = Tables.open(home)
        tables.append("labels.intent", rows(1))
        tables.read("labels.intent")
        tables.close()
    assert caplog.records == []


# fingerprints

FRAMES = st.lists(
    st.tuples(
        st.none() | st.integers(-5, 5),
        st.none() | st.text(max_size=3),
        st.none() | st.floats(width=32) | st.sampled_from([0.0, -0.0, float("nan")]),
        st.none() | st.booleans(),
    ),
    max_size=12,
)
SCHEMA = {"n": pl.Int64, "t": pl.String, "x": pl.Float64, "b": pl.Boolean}


def frame_of(values: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(values, schema=SCHEMA, orient="row")


def multiset(frame: pl.DataFrame) -> list[str]:
    """The slow, obvious twin: rows as sorted text, minus zero and NaN made one."""
    flat = [[value + 0.0 if isinstance(value, float) else value for value in row] for row in frame.rows()]
    return sorted(map(repr, flat))


@settings(max_examples=60, deadline=None)
@given(values=FRAMES, data=st.data())
def test_a_fingerprint_ignores_order_and_batches(values: list[Any], data: st.DataObject) -> None:
    frame = frame_of(values)
    shuffled = frame_of(data.draw(st.permutations(values))).select(["b", "x", "t", "n"])
    cut = data.draw(st.integers(0, len(values)))
    batches = pl.concat([frame[cut:], frame[:cut]], rechunk=False)
    assert fingerprint(shuffled) == fingerprint(frame) == fingerprint(batches)


@settings(max_examples=60, deadline=None)
@given(one=FRAMES, other=FRAMES)
def test_a_fingerprint_tells_different_rows_apart(one: list[Any], other: list[Any]) -> None:
    left, right = frame_of(one), frame_of(other)
    assert (fingerprint(left) == fingerprint(right)) == (multiset(left) == multiset(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": ["xy", "z"]}, {"a": ["x", "yz"]}),
        ({"a": [None, ""]}, {"a": ["", ""]}),
        ({"a": [0, None]}, {"a": [0, 0]}),
        ({"a": [1]}, {"b": [1]}),
        ({"a": [1]}, {"a": [1.0]}),
        ({"a": [1, 1]}, {"a": [1]}),
        ({"a": [1, 2], "b": [1, 2]}, {"a": [1, 2], "b": [2, 1]}),
    ],
)
def test_a_fingerprint_tells_near_misses_apart(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert fingerprint(pl.DataFrame(left)) != fingerprint(pl.DataFrame(right))


def test_a_fingerprint_is_the_same_next_year(tables: Tables) -> None:
    """LAB-2. The value was computed by this code at its first release; a change is a new format."""
    snapshot = tables.append("labels.intent", rows(2, 1))
    found = tables.fingerprint("labels.intent", snapshot)
    tables.append("labels.other", rows(1))
    other = tables.append("labels.other", rows(2))
    assert found == tables.fingerprint("labels.other", other)
    assert found == "f14a6ca9e9beea1ebd066cc7b71bdc6490b46857cbe604cd3079294bd33e0aec"


# several writers


def test_eight_processes_start_on_an_empty_home(tmp_path: Path) -> None:
    """Issue, numbers to reach: first start by 8 processes on an empty home, none dies."""
    path = tmp_path / "home"
    assert run(8, first_start, [(path, worker) for worker in range(8)]) == list(range(8))
    home = Home.open(path)
    ledger, tables = Ledger.open(home), Tables.open(home)
    found = ledger.verify()
    assert (found.ok, found.entries) == (True, 8)
    assert sorted(tables.read("shared.rows")["worker"]) == sorted(list(range(8)) * 3)
    ledger.close()
    tables.close()


def _all_land(home: Home, work: list[tuple[Any, ...]], appends: int) -> None:
    made = run(len(work), append_rows, work)
    tables = Tables.open(home)
    read = tables.read("shared.rows")
    known = {int(one["snapshot-id"]) for one in tables.properties("shared.rows")}
    tables.close()
    expected = [(worker, step) for worker in range(len(work)) for step in range(appends)] * 3
    assert sorted(read.rows()) == sorted(expected)
    assert {snapshot for one in made for snapshot in one} == known


def test_two_processes_append_to_one_table(home: Home) -> None:
    _all_land(home, [(home.path, home.settings, worker, 5) for worker in range(2)], 5)


@pytest.mark.service
def test_two_machines_append_to_one_table(home: Home, tmp_path: Path, postgres_url: str) -> None:
    """Two homes share a Postgres catalog and a warehouse but no lock: Iceberg's commits meet and retry."""
    settings = Settings(catalog_url=postgres_url, warehouse=str(tmp_path / "shared"))
    other = Home.open(tmp_path / "other")
    work = [(one.path, settings, worker, 5) for worker, one in enumerate((home, other))]
    _all_land(Home(home.path, settings), work, 5)


# expiry


def test_expiry_frees_files_and_keeps_what_is_pinned(home: Home, tables: Tables) -> None:
    """LAB-2: a pinned snapshot reads the same rows after everything around it expired."""
    snapshots = [tables.append("labels.intent", rows(*range(step * 10, step * 10 + 10))) for step in range(6)]
    pinned = snapshots[2]
    before = tables.fingerprint("labels.intent", pinned)
    now = newest_file(home) + 2 * HOUR
    call: dict[str, Any] = {"older_than": now, "keep": [pinned], "now": now, "grace": HOUR}

    size = files_of(home)
    planned = tables.expire("labels.intent", **call)
    assert files_of(home) == size, "a dry run changes nothing"
    assert len(tables.properties("labels.intent")) == 6

    done = tables.expire("labels.intent", **call, dry_run=False)
    assert done == type(done)(planned.snapshots, planned.files, planned.bytes, False)
    assert set(done.snapshots) == set(snapshots) - {pinned, snapshots[-1]}
    gone = size.keys() - files_of(home).keys()
    assert done.files == len(gone) > 0
    assert done.bytes == sum(size[path] for path in gone)
    assert tables.fingerprint("labels.intent", pinned) == before
    assert sorted(tables.read("labels.intent")["n"]) == list(range(60))
    for snapshot in done.snapshots:
        with pytest.raises(IntegrityError):
            tables.read("labels.intent", snapshot=snapshot)
    assert tables.expire("labels.intent", **call, dry_run=False).files == 0


def test_expiry_respects_age_grace_and_strangers(home: Home, tables: Tables) -> None:
    tables.append("labels.intent", rows(1))
    tables.append("labels.intent", rows(2))
    data = home.path / "warehouse" / "labels" / "intent" / "data"
    orphan = data / "left-by-a-killed-writer.parquet"
    orphan.write_bytes(b"half a file")
    now = newest_file(home)
    early: dict[str, Any] = {"older_than": now - 24 * HOUR, "keep": [], "grace": HOUR, "dry_run": False}
    young = tables.expire("labels.intent", **early, now=now)
    assert (young.snapshots, young.files) == ((), 0)
    later = tables.expire("labels.intent", **early, now=now + 2 * HOUR)
    assert (later.snapshots, later.files, later.bytes) == ((), 1, len(b"half a file"))
    assert not orphan.exists()
    assert sorted(tables.read("labels.intent")["n"]) == [1, 2]


def test_expiry_deletes_nothing_when_something_needed_is_damaged(home: Home, tables: Tables) -> None:
    tables.append("labels.intent", rows(1))
    tables.append("labels.intent", rows(2))
    manifest = next((home.path / "warehouse" / "labels" / "intent" / "metadata").glob("*-m0.avro"))
    manifest.unlink()
    left = files_of(home)
    now = newest_file(home) + 2 * HOUR
    with pytest.raises(IntegrityError, match="Restore the warehouse"):
        tables.expire("labels.intent", older_than=now, keep=[], now=now, grace=HOUR, dry_run=False)
    assert files_of(home) == left


# faults


def _flip(home: Home, tables: Tables, points: int, seed: int) -> int:
    """Flip bytes in table files one at a time: the rows' fingerprint or an error must tell."""
    tables.append("labels.intent", rows(*range(50)))
    snapshot = tables.append("labels.intent", rows(*range(50, 60)))
    known = tables.fingerprint("labels.intent", snapshot)
    generator = np.random.default_rng(seed)
    paths, told = sorted(files_of(home)), 0
    for _ in range(points):
        path = paths[int(generator.integers(len(paths)))]
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[int(generator.integers(len(sound)))] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            told += tables.fingerprint("labels.intent", snapshot) != known
        except MangaAssistError:
            told += 1
        finally:
            path.write_bytes(sound)
    assert tables.fingerprint("labels.intent", snapshot) == known
    return told


def test_a_flipped_byte_is_an_error_or_a_different_fingerprint(home: Home, tables: Tables) -> None:
    """No traceback of a library comes through, whichever file is hit."""
    assert _flip(home, tables, points=60, seed=4) > 0


@pytest.mark.soak
def test_a_flipped_byte_is_told_for_long(home: Home, tables: Tables) -> None:
    assert _flip(home, tables, points=3000, seed=5) > 0


@pytest.mark.parametrize("name", ["m0.avro", "v1.metadata.json", "00000-0.parquet"])
def test_no_flipped_byte_reaches_a_decoder(tmp_path: Path, name: str) -> None:
    """On damage Avro can crash the process and Parquet gives other rows: checksums first."""
    files, path = DurableFileIO(), tmp_path / name
    with files.new_output(str(path)).create() as stream:
        stream.write(b"some ")
        stream.write(b"metadata")
    sound = path.read_bytes()
    assert files.new_input(str(path)).open().read() == sound == b"some metadata"
    for position in range(len(sound)):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 4]) + sound[position + 1 :])
        with pytest.raises(OSError, match="checksum"):
            files.new_input(str(path)).open()
    files.delete(str(path))
    assert list(tmp_path.iterdir()) == []


def test_metadata_of_another_engine_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "v1.metadata.json"
    path.write_bytes(b"{}")
    assert DurableFileIO().new_input(str(path)).open().read() == b"{}"


def test_missing_data_is_one_sentence(home: Home, tables: Tables) -> None:
    tables.append("labels.intent", rows(1))
    shutil.rmtree(home.path / "warehouse" / "labels" / "intent" / "data")
    with pytest.raises(IntegrityError, match="Restore the warehouse"):
        tables.read("labels.intent")
    shutil.rmtree(home.path / "warehouse")
    with pytest.raises(IntegrityError, match="Restore the warehouse"):
        tables.append("labels.intent", rows(2))


def test_a_catalog_that_is_no_database(home: Home) -> None:
    (home.path / "catalog.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(IntegrityError, match="table catalog"):
        Tables.open(home)


# buffered writer


def test_the_buffer_appends_by_count_and_by_age(tables: Tables, clock: SimulatedClock) -> None:
    schema = pa.schema([("n", pa.int64())])
    writer = BufferedWriter(tables, "log.rows", schema, clock=clock, max_rows=3, max_age=10 * HOUR)
    assert writer.add([{"n": 1}, {"n": 2}]) is None
    assert (writer.pending(), tables.exists("log.rows")) == (2, False)
    assert writer.add(pa.table({"n": [3]})) == tables.snapshot("log.rows")
    assert writer.pending() == 0
    writer.add([{"n": 4}])
    clock.advance(9 * HOUR)
    assert writer.tick() is None
    clock.advance(HOUR)
    assert writer.tick() == tables.snapshot("log.rows")
    with writer:
        writer.add([{"n": 5}])
    assert sorted(tables.read("log.rows")["n"]) == [1, 2, 3, 4, 5]
    assert writer.flush() is None


def test_rows_that_could_not_be_appended_stay_buffered(tables: Tables, clock: SimulatedClock) -> None:
    schema = pa.schema([("n", pa.int64())])
    writer = BufferedWriter(tables, "log.rows", schema, clock=clock, max_rows=10)
    tables.append("log.rows", pa.table({"other": [1]}))
    writer.add([{"n": 1}])
    with pytest.raises(InputError):
        writer.flush()
    assert writer.pending() == 1


def test_a_copied_home_reads_writes_and_frees_its_own_files(home: Home, tmp_path: Path) -> None:
    """Iceberg names files by where they were written; a copy of a copy included."""
    tables = Tables.open(home)
    tables.append("labels.intent", rows(1, 2))
    tables.append("labels.intent", rows(3))
    tables.close()
    before = files_of(home)
    source = home
    for name in ("copy", "copy of the copy"):
        shutil.copytree(source.path, tmp_path / name)
        source = Home.open(tmp_path / name)
        copy = Tables.open(source)
        copy.append("labels.intent", rows(4))
        copy.append(f"labels.{name.replace(' ', '_')}", rows(5))
        now = newest_file(source) + timedelta(days=1)
        gone = copy.expire("labels.intent", older_than=now, keep=(), now=now, grace=HOUR, dry_run=False)
        assert gone.files > 0
        copy.close()
    shutil.move(source.path, tmp_path / "moved")
    moved = Tables.open(Home.open(tmp_path / "moved"))
    assert sorted(moved.read("labels.intent")["n"]) == [1, 2, 3, 4, 4]
    assert moved.read("labels.copy")["n"].to_list() == [5]
    assert moved.read("labels.copy_of_the_copy")["n"].to_list() == [5]
    moved.close()
    assert files_of(home) == before
