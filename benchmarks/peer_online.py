"""Feast's side of bench_online.py (SQLite online store); run by Feast's interpreter, never imported.

Run: PYTHON peer_online.py FOLDER REPEATS

FOLDER holds rows.parquet and asked.json (lists of keys to read). What was read is left as feast.json beside
them. Prints one JSON line: seconds of every timed read, by size, and the version.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

NAMES = ("f1", "f2", "f3")


def main(folder: Path, repeats: int) -> None:
    warnings.simplefilter("ignore")
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64

    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "sqlite", "path": str(folder / "feast.db")},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = FileSource(path=str(folder / "rows.parquet"), timestamp_field="event_ts")
    fields = [Field(name=name, dtype=Int64 if name == "f1" else Float64) for name in NAMES]
    view = FeatureView(
        name="v", entities=[user], ttl=timedelta(days=3650), schema=fields, source=source, online=True
    )
    store.apply([user, view])
    rows = pd.read_parquet(folder / "rows.parquet")
    started = time.perf_counter()
    store.write_to_online_store("v", df=rows)
    written = time.perf_counter() - started
    names = [f"v:{name}" for name in NAMES]
    asked = json.loads((folder / "asked.json").read_text())
    found, seconds = {}, {}
    for size, lists in asked.items():
        times = []
        for number in range(repeats):
            keys = lists[number % len(lists)]
            begun = time.perf_counter()
            answer = store.get_online_features(
                features=names, entity_rows=[{"user_id": key} for key in keys]
            ).to_dict()
            times.append(time.perf_counter() - begun)
        seconds[size] = times
        answer = store.get_online_features(
            features=names, entity_rows=[{"user_id": key} for key in lists[0]]
        ).to_dict()
        found[size] = [list(row) for row in zip(*(answer[name] for name in NAMES), strict=True)]
    (folder / "feast.json").write_text(json.dumps(found))
    print(json.dumps({"seconds": seconds, "write_seconds": written, "version": version("feast")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
