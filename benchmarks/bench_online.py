"""Online reads beside a bare LMDB get, a bare Redis HGET and Feast 0.67 on SQLite.

Run: python -m benchmarks.bench_online [--keys N] [--repeats N] [--redis URL] [--json]

Feast runs in an environment of its own (python -m venv DIR; DIR/bin/pip install "feast==0.67"), set as
MANGAASSIST_FEAST_PYTHON=DIR/bin/python; without it only our side is timed. Redis is timed when it answers.
Every side holds the same rows, three features a key, and equality comes first: the same values for the keys
that are timed. A read of ours checks the record's checksum, the moment, the time to live and gives reasons;
the bare gets give bytes. Wall time of each read: median and 95th percentile; CPU is the mean of this process
alone and holds on a machine that others use.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.three_features import NAMES, catalog, has_peer, peer
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.home import Home
from mangaassist.features.materialise import materialise
from mangaassist.features.online import OnlineStore
from mangaassist.features.online_embedded import EmbeddedStore
from mangaassist.features.online_redis import RedisStore
from mangaassist.features.reader import OnlineReader
from mangaassist.features.store import FeatureStore
from mangaassist.storage.tables import Tables

PEER = Path(__file__).with_name("peer_online.py")
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SIZES = (1, 100)
GOALS = {("ours, LMDB", 1): 10.0, ("ours, LMDB", 100): 300.0, ("ours, Redis", 1): 500.0}
"""Median microseconds to reach."""
CATALOG = catalog(3650)
Read = Callable[[Sequence[str]], Any]


def rows_of(keys: int, *, seed: int) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    events = [NOW - timedelta(minutes=int(one)) for one in generator.integers(1, 10_000, keys)]
    return pl.DataFrame(
        {
            "user_id": [f"u{number:08d}" for number in range(keys)],
            "event_ts": events,
            "f1": generator.integers(0, 1000, keys),
            "f2": generator.normal(size=keys),
            "f3": generator.normal(size=keys),
        }
    )


def asked_of(keys: int, *, seed: int) -> dict[int, list[list[str]]]:
    """For each size, lists of keys drawn at random."""
    generator = np.random.default_rng(seed)
    return {
        size: [[f"u{number:08d}" for number in generator.integers(0, keys, size)] for _ in range(200)]
        for size in SIZES
    }


def timed(read: Read, lists: Sequence[Sequence[str]], repeats: int) -> dict[str, float]:
    """Microseconds of ``repeats`` reads after a tenth as many to warm up."""
    for number in range(max(1, repeats // 10)):
        read(lists[number % len(lists)])
    cpu = time.process_time()
    taken = []
    for number in range(repeats):
        keys = lists[number % len(lists)]
        begun = time.perf_counter()
        read(keys)
        taken.append((time.perf_counter() - begun) * 1e6)
    cpu = (time.process_time() - cpu) * 1e6 / repeats
    return spread(taken) | {"cpu_us": cpu}


def spread(taken: Sequence[float]) -> dict[str, float]:
    return {"p50_us": statistics.median(taken), "p95_us": float(np.quantile(taken, 0.95))}


def ours(store: OnlineStore, features: FeatureStore) -> tuple[OnlineReader, float]:
    """The reader of a store that holds the rows, and the seconds it took to bring them there."""
    started = time.perf_counter()
    materialise(features, CATALOG, store, at=NOW)
    seconds = time.perf_counter() - started
    reader = OnlineReader(store, CATALOG)
    reader.refresh()
    return reader, seconds


def check(reader: OnlineReader, rows: pl.DataFrame, lists: Sequence[Sequence[str]]) -> list[list[Any]]:
    """The values read for the first list, after comparing them with the rows."""
    served = reader.read({"user_id": lists[0]}, NAMES, at=NOW)
    found = [list(row) for row in zip(*(served.values[name] for name in NAMES), strict=True)]
    wanted = pl.DataFrame({"user_id": lists[0]}).join(rows, on="user_id", how="left", maintain_order="left")
    if found != [list(row) for row in wanted.select(NAMES).iter_rows()] or served.problem:
        raise SystemExit("The online read does not give the rows that were written.")
    return found


def feast(
    folder: Path, rows: pl.DataFrame, asked: dict[int, list[list[str]]], repeats: int
) -> dict[str, Any]:
    rows.write_parquet(folder / "rows.parquet")
    (folder / "asked.json").write_text(json.dumps(asked))
    body: dict[str, Any] = peer(PEER, folder, repeats)
    return body | {"values": json.loads((folder / "feast.json").read_text())}


def bare(generation: Any, keyed: Callable[[str], bytes]) -> Read:
    """The engine alone: bytes for keys."""
    return lambda keys: generation.get([keyed(key) for key in keys])


def whole(reader: OnlineReader) -> Read:
    """All three features of keys, with their reasons."""
    return lambda keys: reader.read({"user_id": keys}, NAMES, at=NOW)


def run(keys: int, repeats: int, redis: str) -> dict[str, Any]:
    rows, asked = rows_of(keys, seed=1), asked_of(keys, seed=2)
    results: list[dict[str, Any]] = []
    built: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-online-") as scratch:
        folder = Path(scratch)
        home = Home.open(folder / "home")
        features = FeatureStore(Tables.open(home))
        features.append(CATALOG, "shopper", rows, ingested_at=NOW - timedelta(days=8))
        engines: dict[str, OnlineStore] = {"LMDB": EmbeddedStore(home)}
        prefix = f"bench:{os.getpid()}"
        remote = RedisStore.connect(redis, prefix=prefix)
        try:
            remote.names()
            engines["Redis"] = remote
        except MangaAssistError as error:
            print(f"No Redis: {error}", file=sys.stderr)
        values: dict[int, list[list[Any]]] = {}
        try:
            for engine, store in engines.items():
                reader, built[engine] = ours(store, features)
                name = store.current(CATALOG.version)
                assert name is not None
                generation, group = store.open(name), reader._groups[0]
                for size in SIZES:
                    values[size] = check(reader, rows, asked[size])
                    count = max(20, repeats // (1 if engine == "LMDB" else 10))
                    for side, read in (
                        (f"bare {engine}", bare(generation, group.key)),
                        (f"ours, {engine}", whole(reader)),
                    ):
                        results.append({"side": side, "keys": size, **timed(read, asked[size], count)})
        finally:
            if "Redis" in engines:
                remote.drop(CATALOG.version)
        version = ""
        if has_peer():
            found = feast(folder, rows, asked, max(20, repeats // 20))
            version, built["Feast"] = found["version"], found["write_seconds"]
            for size in SIZES:
                if found["values"][str(size)] != values[size]:
                    raise SystemExit("Feast reads other values.")
                taken = [one * 1e6 for one in found["seconds"][str(size)]][3:]
                results.append({"side": "Feast, SQLite", "keys": size, **spread(taken), "cpu_us": None})
    return {
        "rows": keys,
        "repeats": repeats,
        "machine": platform.machine(),
        "feast": version,
        "materialise_seconds": built,
        "results": [with_ratios(one, results) for one in results],
    }


def with_ratios(one: dict[str, Any], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """``one`` with its median beside the bare engine's and Feast's, and the goal if there is one."""
    medians = {(other["side"], other["keys"]): other["p50_us"] for other in results}
    side, size = one["side"], one["keys"]
    goal = GOALS.get((side, size))
    floor = medians.get((side.replace("ours, ", "bare "), size)) if side.startswith("ours") else None
    peer = medians.get(("Feast, SQLite", size)) if side.startswith("ours") else None
    return {
        **one,
        "times_bare": one["p50_us"] / floor if floor else None,
        "times_faster_than_feast": peer / one["p50_us"] if peer else None,
        "goal_us": goal,
        "reached": None if goal is None else one["p50_us"] <= goal,
    }


def show(body: dict[str, Any]) -> None:
    print(f"{body['rows']:,} keys, 3 features each; median of {body['repeats']:,} reads, microseconds")
    print(f"{'':18}{'keys':>6}{'p50':>10}{'p95':>10}{'CPU':>10}{'x bare':>9}{'Feast/ours':>12}{'goal':>8}")
    for one in body["results"]:
        numbers = (one["p50_us"], one["p95_us"], one["cpu_us"])
        cells = "".join(f"{number:>10.1f}" if number is not None else f"{'':>10}" for number in numbers)
        bare_, peer = one["times_bare"], one["times_faster_than_feast"]
        goal = "" if one["goal_us"] is None else f"{one['goal_us']:.0f}{' ok' if one['reached'] else ' NO'}"
        ratio = f"{bare_:.1f}" if bare_ else ""
        faster = f"{peer:,.0f}x" if peer else ""
        print(f"{one['side']:18}{one['keys']:>6}{cells}{ratio:>9}{faster:>12}{goal:>8}")
    for side, seconds in body["materialise_seconds"].items():
        print(f"Brought online, {side}: {seconds:.2f} s ({body['rows'] / seconds:,.0f} keys a second)")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5_000)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    body = run(given.keys, given.repeats, given.redis)
    if given.json:
        print(json.dumps(body, indent=2))
    else:
        show(body)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
