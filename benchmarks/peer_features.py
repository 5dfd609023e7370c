"""Feast's and DuckDB's side of bench_features.py; run by Feast's interpreter, never imported.

Run: PYTHON peer_features.py FOLDER (feast1|feast3|feast1-pandas|feast3-pandas|duckdb|duckdb-memory) REPEATS

FOLDER holds rows.parquet and asked.parquet; what was read is left as ENGINE.parquet beside them. Prints one
JSON line: seconds and cpu (a list each, the first, cold run left out), peak_mb, version.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

TTL = timedelta(days=30)
NAMES = ("f1", "f2", "f3")


def feast(folder: Path, views: int, *, pandas: bool = False) -> Callable[[], Any]:
    """Historical features of one view with three features, or of three views with one each.

    ``pandas`` asks for a data frame, as Feast's guide does, rather than for the Arrow table beneath it.
    """
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64

    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / f"registry{views}.db"),
        offline_store={"type": "duckdb"},
        online_store=None,
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = FileSource(
        path=str(folder / "rows.parquet"), timestamp_field="event_ts", created_timestamp_column="ingested_at"
    )
    fields = [Field(name=name, dtype=Int64 if name == "f1" else Float64) for name in NAMES]
    parts = [fields] if views == 1 else [[field] for field in fields]
    made = [
        FeatureView(name=f"v{n}", entities=[user], ttl=TTL, schema=part, source=source, online=False)
        for n, part in enumerate(parts)
    ]
    store.apply([user, *made])
    asked = pd.read_parquet(folder / "asked.parquet").rename(columns={"at": "event_timestamp"})
    names = [f"v{n}:{field.name}" for n, part in enumerate(parts) for field in part]
    if pandas:
        return lambda: store.get_historical_features(entity_df=asked, features=names).to_df()
    return lambda: store.get_historical_features(entity_df=asked, features=names).to_arrow()


def duckdb(folder: Path, *, memory: bool) -> Callable[[], Any]:
    """One bare as-of join: no known-at cutoff, no time to live, no reasons, rows in any order."""
    import duckdb as engine

    connection = engine.connect()
    stored, asked = (f"'{folder / name}.parquet'" for name in ("rows", "asked"))
    if memory:
        connection.execute(f"create table stored as from {stored}")
        connection.execute(f"create table asked as from {asked}")
        stored, asked = "stored", "asked"
    query = f"""select a.user_id, a.at, a.n, f1, f2, f3, r.event_ts from {asked} a
        asof left join {stored} r on a.user_id = r.user_id and a.at >= r.event_ts"""
    return lambda: connection.sql(query).to_arrow_table()


def main(folder: Path, engine: str, repeats: int) -> None:
    warnings.simplefilter("ignore")
    run = {
        "feast1": lambda: feast(folder, 1),
        "feast1-pandas": lambda: feast(folder, 1, pandas=True),
        "feast3": lambda: feast(folder, 3),
        "feast3-pandas": lambda: feast(folder, 3, pandas=True),
        "duckdb": lambda: duckdb(folder, memory=False),
        "duckdb-memory": lambda: duckdb(folder, memory=True),
    }[engine]()
    seconds, cpu, found = [], [], None
    for _ in range(repeats + 1):
        start, used = time.perf_counter(), time.process_time()
        found = run()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = found if isinstance(found, pa.Table) else pa.Table.from_pandas(found, preserve_index=False)
    pq.write_table(found, folder / f"{engine}.parquet")
    body = {
        "seconds": seconds[1:],
        "cpu": cpu[1:],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": version("feast" if engine.startswith("feast") else "duckdb"),
    }
    print(json.dumps(body))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
