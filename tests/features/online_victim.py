"""Processes of the online store's fault tests: one that materialises until it is killed, one that reads."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from tests.features.stores import REDIS

from mangaassist.core.clock import SystemClock
from mangaassist.core.home import Home
from mangaassist.features.catalog import Catalog
from mangaassist.features.materialise import materialise
from mangaassist.features.online import OnlineStore
from mangaassist.features.online_embedded import EmbeddedStore
from mangaassist.features.reader import OnlineReader

SHOP = Catalog.parse(
    """
namespace: killed
views:
  shopper:
    entity: user_id
    owner: team-a
    features:
      orders:
        {description: A., dtype: int, default: -1, serving_lag: 1h, ttl: 7d, freshness_sla: 26h, recency_window: 9d}
      taste:
        {description: B., dtype: string, default: x, serving_lag: 1h, ttl: 7d, freshness_sla: 26h, recency_window: 9d}
""",  # noqa: E501
    source="killed.yaml",
)
KEYS = 2_000
LAG = timedelta(hours=2)


def rows(round_: int, at: datetime) -> pl.DataFrame:
    """All keys with one value, so that a reader that sees two at once has seen half a generation."""
    return pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in range(KEYS)],
            "event_ts": [at] * KEYS,
            "ingested_at": [at] * KEYS,
            "orders": [round_] * KEYS,
            "taste": ["x" * 50] * KEYS,
        }
    )


def opened(home: Path, engine: str) -> OnlineStore:
    if engine == "embedded":
        return EmbeddedStore(Home.open(home))
    from mangaassist.features.online_redis import RedisStore

    return RedisStore.connect(REDIS, prefix=engine)


class InMemory:
    """A feature store whose commits take no time: they are not what is killed here."""

    def __init__(self) -> None:
        self.round = 0
        self.view = pl.DataFrame()

    def snapshots(self, catalog: Catalog) -> dict[str, int | None]:
        return {"shopper": self.round}

    def rows(self, catalog: Catalog, view: str, snapshots: Any) -> pl.DataFrame:
        return self.view

    def added(self, catalog: Catalog, view: str, after: int, upto: int) -> pl.DataFrame:
        return self.view


def write(home: Path, engine: str) -> None:
    """Materialise one generation after another, saying which one was published."""
    online, clock, store = opened(home, engine), SystemClock(), InMemory()
    for store.round in range(1, 1_000_000):
        store.view = rows(store.round, clock.now() - LAG)
        done = materialise(store, SHOP, online, at=clock.now())  # type: ignore[arg-type]
        print(done.manifest.generation, flush=True)


def read(home: Path, engine: str) -> None:
    """Read all keys again and again; every read must be whole and without a problem."""
    reader, clock = OnlineReader(opened(home, engine), SHOP), SystemClock()
    keys = [f"u{number}" for number in range(0, KEYS, 7)]
    reads = torn = 0
    generations, problems = set(), set()
    print("reading", flush=True)
    for _ in iter((home / "stop").exists, True):
        reader.refresh()
        served = reader.read({"user_id": keys}, ["orders"], at=clock.now())
        reads += 1
        torn += len(set(served.values["orders"])) != 1 or set(served.reasons["orders"]) != {"value"}
        problems.add(served.problem)
        generations.add(served.manifest.generation if served.manifest else None)
    print(json.dumps([reads, torn, sorted(problems), len(generations)]), flush=True)


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
