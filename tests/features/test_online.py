"""The online store: the same answers as the offline read, on both engines, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features import online_victim
from tests.features.conftest import CATALOG
from tests.features.stores import online, redis_there, store
from tests.features.test_point_in_time import HOUR, MICRO, NAMES, NOON, SCHEMA, SHOP

from mangaassist.core.clock import SystemClock
from mangaassist.core.errors import InputError, IntegrityError, Unavailable
from mangaassist.core.home import Home
from mangaassist.features.catalog import Catalog
from mangaassist.features.materialise import GRACE, materialise
from mangaassist.features.online import Manifest, OnlineStore, online_store
from mangaassist.features.online_embedded import EmbeddedStore
from mangaassist.features.point_in_time import point_in_time
from mangaassist.features.reader import OnlineReader
from mangaassist.features.records import continued, groups_of, microseconds, records
from mangaassist.features.store import FeatureStore

__all__ = ["store"]

times = st.integers(-180, 180).map(lambda minutes: NOON + timedelta(minutes=minutes))
rows_of = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "顧客三", "長" * 300]),
        times,
        times,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.sampled_from(["", "少年", "a" * 300]),
        st.none() | st.sampled_from([0.0, 1.5, float("nan"), -1e300]),
        st.none() | st.booleans(),
    ),
    max_size=12,
)


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def some_rows(count: int = 3, *, at: datetime = NOON - 2 * HOUR, orders: int = 5) -> pl.DataFrame:
    return frame([(f"u{number}", at, at, orders, "manga", 0.25, True) for number in range(count)])


class _Memory:
    """The obvious twin of a generation."""

    def __init__(self, items: Iterator[tuple[bytes, bytes]]) -> None:
        self.kept = dict(items)

    def get(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.kept.get(key) for key in keys]


@settings(max_examples=80, deadline=None)
@given(rows=rows_of, watermark=times, later=st.integers(0, 400))
def test_a_record_serves_what_the_offline_read_finds(
    rows: list[tuple[Any, ...]], watermark: datetime, later: int
) -> None:
    """Late data, ties, nulls, rows that are not available yet: at every moment from the watermark on."""
    view = frame(rows)
    kept = _Memory(records(SHOP, {"shopper": view}, watermark=watermark)).kept
    at = watermark + timedelta(minutes=later)
    keys = ["u1", "u2", "顧客三", "長" * 300, "nobody", None]
    asked = pl.DataFrame({"user_id": keys}, schema={"user_id": pl.String})
    offline = point_in_time({"shopper": view}, SHOP.chosen(NAMES), asked, as_of=at)
    reader = OnlineReader(_Fixed(kept, watermark), SHOP)  # type: ignore[arg-type]
    reader.refresh()
    served = reader.read({"user_id": keys}, NAMES, at=at)
    for name in NAMES:
        assert list(map(str, served.reasons[name])) == offline[f"{name}__reason"].to_list()
        assert list(served.values[name]) == offline[name].to_list()


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(rows_of, min_size=1, max_size=4), watermarks=st.lists(times, min_size=4, max_size=4))
def test_records_continued_batch_by_batch_are_those_of_all_rows(
    batches: list[list[tuple[Any, ...]]], watermarks: list[datetime]
) -> None:
    """Late data, ties, NaN, long keys: byte for byte, whatever has come between two watermarks."""
    kept: list[tuple[bytes, bytes]] = []
    for number, watermark in enumerate(sorted(watermarks)[: len(batches)]):
        added = {"shopper": frame(batches[number])}
        whole = {"shopper": frame([row for batch in batches[: number + 1] for row in batch])}
        kept = list(continued(SHOP, partial(iter, kept), added, watermark=watermark))
        assert kept == list(records(SHOP, whole, watermark=watermark))


def test_the_order_in_which_a_catalog_lists_its_features_says_nothing() -> None:
    """Training's catalog comes back from the ledger in another order than that of its file."""
    view = some_rows(1)
    turned = replace(SHOP, features=dict(reversed(SHOP.features.items())))
    assert turned.version == SHOP.version
    written, again = (list(records(one, {"shopper": view}, watermark=NOON)) for one in (SHOP, turned))
    assert written == again


class _Fixed:
    """A store of one generation in memory."""

    def __init__(self, kept: dict[bytes, bytes], watermark: datetime) -> None:
        self._kept = kept
        self._manifest = Manifest(SHOP.version, "g", "", {}, {}, watermark, 0, len(kept), "", "")

    def current(self, name: str) -> Manifest:
        return self._manifest

    def open(self, manifest: Manifest) -> _Memory:
        return _Memory(iter(self._kept.items()))


def test_both_engines_serve_the_same_as_offline(store: OnlineStore, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    features = FeatureStore(_tables(tmp_path))
    minutes = generator.integers(-600, 0, size=(800, 2))
    rows = [
        (
            f"u{generator.integers(120)}" if number % 50 else "長" * 300,
            NOON + timedelta(minutes=int(event)),
            NOON + timedelta(minutes=int(arrived)),
            int(generator.integers(100)),
            None if number % 7 == 0 else "少年",
            float(generator.normal()),
            bool(number % 2),
        )
        for number, (event, arrived) in enumerate(minutes)
    ]
    features.append(SHOP, "shopper", frame(rows))
    done = materialise(features, SHOP, store, at=NOON - 5 * HOUR)
    assert (done.built, done.manifest.rows, done.manifest.keys) == (
        True,
        800,
        2 * len({row[0] for row in rows}),
    )
    reader = OnlineReader(store, SHOP)
    reader.refresh()
    keys = [*(f"u{number}" for number in range(121)), "長" * 300, "nobody"]
    asked = pl.DataFrame({"user_id": keys})
    for hours in (-5, -4, -1, 0, 30, 300):
        at = NOON + hours * HOUR
        offline = features.read(SHOP, asked, NAMES, as_of=at)
        served = reader.read({"user_id": keys}, NAMES, at=at)
        for name in NAMES:
            assert list(map(str, served.reasons[name])) == offline[f"{name}__reason"].to_list(), (name, hours)
            assert list(served.values[name]) == offline[name].to_list()
        single = [reader.read({"user_id": [key]}, NAMES, at=at).cells(0) for key in keys[:5]]
        assert single == [served.cells(index) for index in range(5)]


def test_content_has_one_digest_in_every_engine(tmp_path: Path) -> None:
    redis_there()
    features = FeatureStore(_tables(tmp_path))
    features.append(SHOP, "shopper", some_rows(30))
    digests = []
    for engine in ("embedded", "redis"):
        with online(engine, tmp_path / "home") as opened:
            digests.append(materialise(features, SHOP, opened, at=NOON).manifest.digest)
    assert digests[0] == digests[1]


def test_nothing_new_builds_nothing(store: OnlineStore, tmp_path: Path) -> None:
    features = FeatureStore(_tables(tmp_path))
    first = materialise(features, SHOP, store, at=NOON)  # before the first row there is a manifest, too
    assert (first.built, first.manifest.keys) == (True, 0)
    features.append(SHOP, "shopper", some_rows())
    second = materialise(features, SHOP, store, at=NOON + HOUR)
    third = materialise(features, SHOP, store, at=NOON + 2 * HOUR)
    assert (second.built, third.built) == (True, False)
    assert third.manifest == second.manifest == store.current(SHOP.version)
    assert store.names() == [SHOP.version]


def test_a_new_generation_reads_only_what_came_since(
    store: OnlineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is the one all rows would have made; a snapshot that has expired makes it of all rows."""
    features, whole = FeatureStore(_tables(tmp_path)), FeatureStore.rows
    calls: list[str] = []

    def watched(self: FeatureStore, catalog: Catalog, view: str, *more: Any, **options: Any) -> pl.DataFrame:
        calls.append(view)
        return whole(self, catalog, view, *more, **options)

    monkeypatch.setattr(FeatureStore, "rows", watched)
    features.append(SHOP, "shopper", some_rows(4))
    materialise(features, SHOP, store, at=NOON)
    features.append(SHOP, "shopper", some_rows(2, at=NOON - HOUR, orders=9))
    calls.clear()
    second = materialise(features, SHOP, store, at=NOON + HOUR).manifest
    assert (calls, second.rows, second.keys) == ([], 6, 8)
    again = materialise(features, SHOP, store, at=NOON + HOUR, rebuild=True).manifest
    assert (calls, again.digest, again.rows) == (["shopper"], second.digest, 6)
    now = SystemClock().now() + 2 * HOUR  # snapshots are stamped by the system's clock
    features.append(SHOP, "shopper", some_rows(1, at=NOON - HOUR / 2))
    table = SHOP.table("shopper")
    features.tables.expire(table, older_than=now, keep=(), now=now, grace=HOUR, dry_run=False)
    calls.clear()
    assert materialise(features, SHOP, store, at=NOON + 2 * HOUR).manifest.rows == 7
    assert calls == ["shopper"]


def test_old_generations_go_after_the_grace_and_the_last_one_stays(
    store: OnlineStore, tmp_path: Path
) -> None:
    features = FeatureStore(_tables(tmp_path))
    made = []
    for hour in range(4):
        features.append(SHOP, "shopper", some_rows(at=NOON + hour * MICRO))
        made.append(materialise(features, SHOP, store, at=NOON + hour * HOUR, grace=GRACE + MICRO))
    assert [len(one.collected) for one in made] == [0, 0, 0, 1]
    assert made[3].collected == (made[0].manifest.generation,)
    kept = [one.generation for one in store.manifests(SHOP.version)]
    assert kept == [one.manifest.generation for one in made[1:]]


def test_a_reader_keeps_its_generation_until_the_next_is_whole(store: OnlineStore, tmp_path: Path) -> None:
    """Also while the next one is being written, and after its own was collected."""
    features = FeatureStore(_tables(tmp_path))
    features.append(SHOP, "shopper", some_rows(orders=1))
    materialise(features, SHOP, store, at=NOON)
    reader = OnlineReader(store, SHOP)
    reader.refresh()

    def orders() -> Any:
        reader.refresh()
        return reader.read({"user_id": ["u0"]}, ["orders"], at=NOON + HOUR).values["orders"][0]

    def slow() -> Iterator[tuple[bytes, bytes]]:
        for key, record in records(SHOP, {"shopper": some_rows(orders=2)}, watermark=NOON):
            assert orders() == 1
            yield key, record

    seal = store.write(SHOP.version, "half", slow())
    assert orders() == 1
    store.publish(Manifest(SHOP.version, "half", "", {}, {}, NOON + HOUR, 3, 6, "", seal))
    assert orders() == 2


def test_stories_cannot_read_each_other(store: OnlineStore, tmp_path: Path) -> None:
    """FEA-7: the same view and the same feature in two namespaces are two things."""
    other = Catalog.parse(CATALOG.replace("namespace: shop", "namespace: rival"), source="rival.yaml")
    features = FeatureStore(_tables(tmp_path))
    features.append(SHOP, "shopper", some_rows(orders=5))
    features.append(other, "shopper", some_rows(orders=9))
    materialise(features, SHOP, store, at=NOON)
    reader = OnlineReader(store, other)
    reader.refresh()
    nothing = reader.read({"user_id": ["u0"]}, ["orders"], at=NOON)
    assert (nothing.values["orders"], nothing.manifest) == ([-1], None)
    materialise(features, other, store, at=NOON)
    for catalog, expected in ((SHOP, 5), (other, 9)):
        reader = OnlineReader(store, catalog)
        reader.refresh()
        assert reader.read({"user_id": ["u0"]}, ["orders"], at=NOON).values["orders"] == [expected]


def test_an_unknown_feature_is_refused_with_the_nearest_name(store: OnlineStore) -> None:
    with pytest.raises(InputError, match="Did you mean 'orders'"):
        OnlineReader(store, SHOP).read({"user_id": ["u"]}, ["order"], at=NOON)


def test_a_flipped_byte_falls_back_to_the_generation_before(tmp_path: Path) -> None:
    """The record's checksum notices it, the seal keeps the file from being opened again."""
    features, store = FeatureStore(_tables(tmp_path)), EmbeddedStore(Home.open(tmp_path / "home"))
    features.append(SHOP, "shopper", some_rows(orders=1))
    materialise(features, SHOP, store, at=NOON)
    features.append(SHOP, "shopper", some_rows(at=NOON - HOUR, orders=2))
    newest = materialise(features, SHOP, store, at=NOON + HOUR)
    path = tmp_path / "home/online" / SHOP.version / f"{newest.manifest.generation}.lmdb"
    data = path.read_bytes()
    reader = OnlineReader(store, SHOP)
    reader.refresh()
    assert _cell(reader) == (2, "value")
    two = struct.pack("<qd", 2, 0.25)  # orders, then score
    with path.open("r+b") as file:  # in place, as a disk does it: the reader has the file open
        file.write(data.replace(two, b"\x07" + two[1:]))
    assert _cell(reader) == (1, "fallback")
    assert "checksum" in reader.problem
    reader.refresh()
    assert _cell(reader) == (1, "fallback")
    fresh = OnlineReader(store, SHOP)
    fresh.refresh()
    assert _cell(fresh) == (1, "fallback")
    assert "other bytes" in fresh.problem
    healed = materialise(features, SHOP, store, at=NOON + 2 * HOUR)
    assert healed.built
    fresh.refresh()
    assert (_cell(fresh), fresh.problem) == ((2, "value"), "")


def test_a_lost_file_or_manifest_is_damage_not_absence(tmp_path: Path) -> None:
    features, store = FeatureStore(_tables(tmp_path)), EmbeddedStore(Home.open(tmp_path / "home"))
    features.append(SHOP, "shopper", some_rows())
    done = materialise(features, SHOP, store, at=NOON)
    folder = tmp_path / "home/online" / SHOP.version
    (folder / f"{done.manifest.generation}.lmdb").unlink()
    reader = OnlineReader(store, SHOP)
    reader.refresh()
    served = reader.read({"user_id": ["u0"]}, NAMES, at=NOON)
    assert (served.values["orders"], served.reasons["orders"], served.stale) == ([-1], ["default"], True)
    assert "No such file" in served.problem
    (folder / f"{done.manifest.generation}.json").unlink()
    with pytest.raises(IntegrityError):
        store.current(SHOP.version)
    assert materialise(features, SHOP, store, at=NOON).built


def test_a_store_that_is_away_falls_back_to_the_copy(tmp_path: Path) -> None:
    """FEA-7: also for a process that starts while it is away."""
    with online("redis", tmp_path) as redis:
        features = FeatureStore(_tables(tmp_path))
        features.append(SHOP, "shopper", some_rows(orders=4))
        materialise(features, SHOP, redis, at=NOON)
        switch = _Switchable(redis)
        copy = EmbeddedStore(Home.open(tmp_path / "home"))
        reader = OnlineReader(switch, SHOP, copy_in=copy)
        reader.refresh()
        assert (_cell(reader), reader.copy_problem) == ((4, "value"), "")
        switch.away = True
        assert _cell(reader) == (4, "fallback")
        reader.refresh()
        assert _cell(reader) == (4, "fallback")
        started = OnlineReader(switch, SHOP, copy_in=copy)
        started.refresh()
        assert _cell(started) == (4, "fallback")
        bare = OnlineReader(switch, SHOP)
        bare.refresh()
        assert _cell(bare) == (-1, "default")
        assert "away" in bare.problem
        switch.away = False
        for one in (reader, started, bare):
            one.refresh()
            assert (_cell(one), one.problem) == ((4, "value"), "")


class _Switchable:
    """A store whose server can be away."""

    def __init__(self, inner: OnlineStore) -> None:
        self.away = False
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise Unavailable("store", expected="an answer", got="it is away", next_step="Wait.")
        found = getattr(self._inner, name)
        return (lambda manifest: _SwitchableGeneration(self, found(manifest))) if name == "open" else found


class _SwitchableGeneration:
    def __init__(self, outer: _Switchable, inner: Any) -> None:
        self._outer = outer
        self._inner = inner

    def get(self, keys: Any) -> Any:
        if self._outer.away:
            raise Unavailable("store", expected="an answer", got="it is away", next_step="Wait.")
        return self._inner.get(keys)

    def items(self) -> Any:
        return self._inner.items()


def test_a_wrong_address_is_one_sentence(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    with pytest.raises(InputError, match="online_url"):
        online_store(home, "mysql://x")
    nobody = online_store(home, "redis://127.0.0.1:1/0")
    with pytest.raises(Unavailable, match="online store"):
        nobody.current("shop@1")


def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    """LMDB's environment must not be used in a child."""
    features, store = FeatureStore(_tables(tmp_path)), EmbeddedStore(Home.open(tmp_path / "home"))
    features.append(SHOP, "shopper", some_rows(orders=4))
    materialise(features, SHOP, store, at=NOON)
    reader = OnlineReader(store, SHOP)
    reader.refresh()
    before = reader._view.generation
    child = os.fork()
    if child == 0:
        right = _cell(reader) == (4, "value") and reader._view.generation is not before
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("engine", ["embedded", pytest.param("redis", marks=pytest.mark.service)])
def test_killed_materialisations_leave_the_last_good_generation(engine: str, tmp_path: Path) -> None:
    """Somebody reads all the while a writer is killed again and again, at any moment."""
    _kill_rounds(engine, tmp_path, rounds=2, readers=1)


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["embedded", pytest.param("redis", marks=pytest.mark.service)])
def test_killed_materialisations_leave_the_last_good_generation_for_long(engine: str, tmp_path: Path) -> None:
    _kill_rounds(engine, tmp_path, rounds=60, readers=2)


def _kill_rounds(engine: str, tmp_path: Path, *, rounds: int, readers: int) -> None:
    where = engine
    if engine == "redis":
        redis_there()
        where = f"test:{uuid.uuid4().hex}"
    home = Home.open(tmp_path / "home")
    generator = np.random.default_rng(3)
    writer = _process("write", home, where)
    assert writer.stdout is not None
    writer.stdout.readline()
    reading = [_process("read", home, where) for _ in range(readers)]
    for reader in reading:
        assert reader.stdout is not None
        assert reader.stdout.readline().strip() == "reading"
    for number in range(rounds):
        if number:
            writer = _process("write", home, where)
            assert writer.stdout is not None
            writer.stdout.readline()
        threading.Event().wait(float(generator.uniform(0.0, 0.15)))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if where != "embedded":  # its lock would hold the next one up for as long as a build may take
            _unlock(where)
    (home.path / "stop").touch()
    for reader in reading:
        reads, torn, problems, generations = json.loads(reader.communicate(timeout=30)[0])
        assert (torn, problems) == (0, [""])
        assert reads > rounds
        assert generations >= 2
    if where != "embedded":
        _forget(where)


def _process(role: str, home: Home, where: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.features.online_victim", role, str(home.path), where]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _unlock(prefix: str) -> None:
    from redis import Redis
    from tests.features.stores import REDIS

    Redis.from_url(REDIS).delete(f"{prefix}:{online_victim.SHOP.version}:lock")


def _forget(prefix: str) -> None:
    from redis import Redis
    from tests.features.stores import REDIS

    client = Redis.from_url(REDIS)
    for key in client.scan_iter(f"{prefix}:*"):
        client.delete(key)


def _cell(reader: OnlineReader) -> tuple[Any, str]:
    cell = reader.read({"user_id": ["u0"]}, NAMES, at=NOON + HOUR).cells(0)["orders"]
    return cell["value"], cell["reason"]


def _tables(tmp_path: Path) -> Any:
    from mangaassist.storage.tables import Tables

    return Tables.open(Home.open(tmp_path / "home"))


def test_keys_of_two_groups_never_meet() -> None:
    batch, live = sorted(groups_of(SHOP), key=lambda one: one.lag, reverse=True)
    assert batch.key("u") != live.key("u")
    assert len(batch.key("長" * 1000)) < 511
    assert microseconds(NOON) == int(NOON.timestamp()) * 1_000_000
