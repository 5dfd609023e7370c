"""Features beside answers: read, marked when they fall back, sampled; never a reason for no answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient
from tests.features.catalogs import INTENT
from tests.promotion.samples import registry, to_champion
from tests.serving.samples import load_toy

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.features.catalog import Catalog
from mangaassist.features.materialise import materialise
from mangaassist.features.online_embedded import EmbeddedStore
from mangaassist.features.parity import READ_SCHEMA, parity
from mangaassist.features.store import FeatureStore
from mangaassist.serving.app import create_app
from mangaassist.serving.feature_reads import READS_SCHEMA, FeatureReads, reads_spool, reads_table
from mangaassist.serving.model_server import ModelServer
from mangaassist.serving.service import Service
from mangaassist.storage.tables import Tables

PREDICT = "/v1/stories/intent/predict"


class Served:
    """A served story with features online, every read kept."""

    def __init__(self, home: Home, clock: SimulatedClock) -> None:
        self.home, self.clock = home, clock
        self.tables = Tables.open(home)
        self.features, self.online = FeatureStore(self.tables), EmbeddedStore(home)
        now = clock.now()
        rows = pl.DataFrame(
            {
                "user_id": ["u1", "u2"],
                "event_ts": [now - timedelta(hours=7), now - timedelta(days=30)],
                "orders_90d": [4, 9],
                "account_age_days": [40, 90],
                "returns_90d": [1, 0],
            }
        )
        self.features.append(INTENT, "shopper", rows, ingested_at=now - timedelta(hours=2))
        target = registry(home)
        to_champion(target, run="old")
        self.pinned: Catalog | None = INTENT
        self.reads = FeatureReads(home, self.online, pinned=lambda _: self.pinned, share=1.0)
        server = ModelServer(target, load=load_toy)
        self.service = Service(home, target, clock, server=server, features=self.reads)

    def materialise(self) -> None:
        materialise(self.features, INTENT, self.online, at=self.clock.now())

    def log(self) -> tuple[dict[str, bool], pl.DataFrame]:
        """Which requests are marked, and the sampled cells; after the service has stopped."""
        self.service.drain(self.tables)
        spool = reads_spool(self.home, "intent")
        spool.drain(self.tables, reads_table("intent"), READS_SCHEMA)
        spool.close()
        rows = self.tables.read("predictions.intent")
        marks = dict(zip(rows["request_id"], rows["features_stale"], strict=True))
        table = reads_table("intent")
        known = self.tables.exists(table)
        return marks, self.tables.read(table) if known else pl.DataFrame(schema=READ_SCHEMA)


@pytest.fixture
def served(home: Home, clock: SimulatedClock) -> Served:
    return Served(home, clock)


def ask(client: TestClient, request: str, user: str | None) -> dict[str, Any]:
    body = {"text": "返品したい", "request_id": request} | ({"user_id": user} if user else {})
    answer = client.post(PREDICT, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_reads_are_kept_cell_by_cell_and_agree_with_training(served: Served) -> None:
    served.materialise()
    with TestClient(create_app(served.service)) as client:
        for request, user in (("a", "u1"), ("b", "u2"), ("c", "stranger"), ("d", None)):
            ask(client, request, user)
        batch = [{"text": "hello", "user_id": "u1", "request_id": f"batch-{n}"} for n in range(3)]
        assert client.post(f"{PREDICT}/batch", json={"requests": batch}).status_code == 200
    marks, cells = served.log()
    assert marks == {"a": False, "b": True, "c": False, "d": False, "batch-0": False, "batch-1": False} | {
        "batch-2": False
    }
    found = {
        (row["request_id"], row["feature"]): (row["value"], row["reason"])
        for row in cells.iter_rows(named=True)
    }
    assert len(found) == cells.height == 6 * 3
    assert found["a", "orders_90d"] == ("4", "value")
    assert found["b", "orders_90d"] == ("0", "stale")
    assert found["c", "orders_90d"] == ("0", "default")
    manifest = served.online.current(INTENT.version)
    assert manifest is not None
    report = parity(served.features, INTENT, cells, {manifest.generation: manifest})
    assert [one.mismatches and one.mismatches.value for one in report] == [0.0] * 3


def test_a_store_without_anything_marks_every_row_and_answers_all_the_same(served: Served) -> None:
    with TestClient(create_app(served.service)) as client:
        assert ask(client, "a", "u1")["label"]
        assert served.reads.problems() == ["Features of intent fall back. Nothing has been materialised yet."]
    marks, cells = served.log()
    assert marks == {"a": True}
    assert cells["generation"].to_list() == [None] * 3


def test_a_damaged_generation_falls_back_and_says_so(served: Served) -> None:
    """FEA-7: the generation before it answers, marked, until a good one is published."""
    served.materialise()
    later = served.clock.advance(timedelta(hours=1))
    rows = served.features.rows(INTENT, "shopper").with_columns(
        event_ts=pl.lit(later - timedelta(hours=6)).dt.convert_time_zone("UTC"), orders_90d=pl.lit(77)
    )
    served.features.append(INTENT, "shopper", rows)
    served.materialise()
    manifest = served.online.current(INTENT.version)
    assert manifest is not None
    path = Path(served.home.path / "online" / INTENT.version / f"{manifest.generation}.lmdb")
    data = path.read_bytes()
    path.write_bytes(b"\x00" * len(data))
    with TestClient(create_app(served.service)) as client:
        ask(client, "a", "u1")
        served.clock.advance(timedelta(minutes=1))
        materialise(served.features, INTENT, served.online, at=served.clock.now())
        served.reads.refresh()
        ask(client, "b", "u1")
    marks, cells = served.log()
    assert marks == {"a": True, "b": False}
    orders = cells.filter(pl.col("feature") == "orders_90d").sort("request_id")
    assert orders.select("value", "reason").rows() == [("4", "fallback"), ("77", "value")]


def test_a_story_without_features_is_left_alone(served: Served) -> None:
    served.pinned = None
    with TestClient(create_app(served.service)) as client:
        ask(client, "a", "u1")
    marks, cells = served.log()
    assert (marks, cells.height) == ({"a": False}, 0)


def test_another_schema_of_a_new_champion_is_followed(served: Served) -> None:
    served.materialise()
    other = replace(
        INTENT,
        features={
            **INTENT.features,
            "orders_90d": replace(INTENT.features["orders_90d"], default=-5),
        },
    )
    materialise(served.features, other, served.online, at=served.clock.now())
    with TestClient(create_app(served.service)) as client:
        ask(client, "a", "stranger")
        served.pinned = other
        served.reads.refresh()
        ask(client, "b", "stranger")
    _, cells = served.log()
    orders = cells.filter(pl.col("feature") == "orders_90d").sort("request_id")
    assert orders["value"].to_list() == ["0", "-5"]
