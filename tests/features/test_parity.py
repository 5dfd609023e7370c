"""Training-serving skew: planted ones are found and named, a healthy store is clean whatever the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mangaassist.core.home import Home
from mangaassist.core.verdict import Status
from mangaassist.features.catalog import Catalog
from mangaassist.features.freshness import ages
from mangaassist.features.materialise import materialise
from mangaassist.features.online import Manifest
from mangaassist.features.online_embedded import EmbeddedStore
from mangaassist.features.parity import READ_SCHEMA, Parity, as_json, parity
from mangaassist.features.reader import OnlineReader
from mangaassist.features.records import instant_of
from mangaassist.features.store import FeatureStore
from mangaassist.storage.tables import Tables

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHOP = Catalog.parse(
    """
namespace: shop
views:
  shopper:
    entity: user_id
    owner: team-a
    features:
      orders: {description: A., dtype: int, default: 0, serving_lag: 3h, ttl: 9d, freshness_sla: 26h, recency_window: 2d}
      spent: {description: B., dtype: float, default: 0.0, serving_lag: 3h, ttl: 9d, freshness_sla: 26h, recency_window: 2d}
      taste: {description: C., dtype: string, default: none, serving_lag: 3h, ttl: 9d, freshness_sla: 26h, recency_window: 2d}
""",  # noqa: E501
    source="shop.yaml",
)
SHOPPERS, READS = 80, 400
Row = dict[str, Any]


class World:
    """Three days of rows, materialised twice a day; reads at any time, logged as serving logs them."""

    def __init__(self, folder: Path, seed: int) -> None:
        home = Home.open(folder)
        self.store = FeatureStore(Tables.open(home))
        self.online = EmbeddedStore(home)
        self.generator = np.random.default_rng(seed)
        self.manifests: dict[str, Manifest] = {}

    def arrive(self, since: datetime, *, hours: float = 1.0) -> None:
        """One row per shopper, events within two hours of ``since``, each within ``hours`` of its event."""
        draw = self.generator
        events = [since + timedelta(seconds=float(draw.uniform(0, 7200))) for _ in range(SHOPPERS)]
        frame = pl.DataFrame(
            {
                "user_id": [f"u{number}" for number in range(SHOPPERS)],
                "event_ts": events,
                "ingested_at": [
                    event + timedelta(seconds=float(draw.uniform(0.3, 1)) * 3600 * hours) for event in events
                ],
                "orders": draw.integers(1, 1000, SHOPPERS),
                "spent": draw.uniform(1, 1e5, SHOPPERS),
                "taste": [f"t{number}" for number in draw.integers(0, 9, SHOPPERS)],
            }
        )
        self.store.append(SHOP, "shopper", frame)

    def read(
        self,
        at: datetime,
        count: int = READS,
        *,
        by: Catalog = SHOP,
        bent: Callable[[str, Any, str], Any] = lambda _name, value, _reason: value,
    ) -> pl.DataFrame:
        """``count`` reads in the six hours from ``at``, on what is online."""
        reader = OnlineReader(self.online, by)
        reader.refresh()
        assert reader.manifest is not None
        self.manifests[reader.manifest.generation] = reader.manifest
        rows: list[Row] = []
        for number in range(count):
            key = f"u{self.generator.integers(SHOPPERS + 20)}"  # some are strangers
            moment = at + timedelta(seconds=float(self.generator.uniform(0, 6 * 3600)))
            served = reader.read({"user_id": [key]}, list(SHOP.features), at=moment)
            for name in SHOP.features:
                event, known = served.events[name][0], served.ingested[name][0]
                reason = str(served.reasons[name][0])
                rows.append(
                    {
                        "request_id": f"r{number}",
                        "at": moment,
                        "entity": "user_id",
                        "key": key,
                        "feature": name,
                        "value": as_json(bent(name, served.values[name][0], reason)),
                        "reason": reason,
                        "event_ts": None if event is None else instant_of(event),
                        "ingested_at": None if known is None else instant_of(known),
                        "generation": reader.manifest.generation,
                    }
                )
        return pl.DataFrame(rows, schema=READ_SCHEMA)

    def materialise(self, at: datetime, catalog: Catalog = SHOP) -> None:
        materialise(self.store, catalog, self.online, at=at)

    def parity(self, reads: pl.DataFrame) -> dict[str, Parity]:
        return {one.feature: one for one in parity(self.store, SHOP, reads, self.manifests)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "home", 1)
    made.arrive(NOON - 24 * HOUR)
    made.arrive(NOON - 5 * HOUR)
    return made


def statuses(found: dict[str, Parity]) -> list[Status]:
    return [one.verdicts[0].status for one in found.values()]


def with_field(name: str, **fields: Any) -> Catalog:
    return replace(SHOP, features={**SHOP.features, name: replace(SHOP.features[name], **fields)})


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_store_is_clean(seed: int, tmp_path: Path) -> None:
    """Rows that become available between materialisation and read included: no cell may differ."""
    world = World(tmp_path / "home", seed)
    reads = []
    for half_day in range(3):
        at = NOON + half_day * 12 * HOUR
        world.arrive(at - 5 * HOUR)
        world.materialise(at)
        reads.append(world.read(at))
    found = world.parity(pl.concat(reads))
    assert statuses(found) == [Status.PASS] * 3
    assert all(one.mismatches and one.mismatches.value == 0 for one in found.values())
    assert [one.verdicts[1].status for one in found.values()] == [Status.PASS] * 3


def test_nothing_served_is_no_verdict(world: World) -> None:
    assert statuses(world.parity(pl.DataFrame(schema=READ_SCHEMA))) == [Status.INSUFFICIENT] * 3


def test_a_wrong_default_in_the_served_schema_is_named(world: World) -> None:
    skewed = with_field("orders", default=1)
    world.materialise(NOON, skewed)
    found = world.parity(world.read(NOON, by=skewed))
    assert statuses(found) == [Status.FAIL, Status.PASS, Status.PASS]
    assert found["orders"].causes == ("The schemas differ: orders.default 0 at training, 1 at serving.",)
    assert found["orders"].examples[0]["served"] == 1
    assert found["orders"].examples[0]["offline"] == 0


def test_a_wrong_lag_in_the_served_schema_is_named(world: World) -> None:
    skewed = with_field("spent", serving_lag=timedelta(0))
    world.arrive(NOON - HOUR)
    world.materialise(NOON, skewed)
    found = world.parity(world.read(NOON, by=skewed))
    assert found["spent"].verdicts[0].status is Status.FAIL
    assert found["spent"].causes == ("The schemas differ: spent.serving_lag 3h at training, 0s at serving.",)


def test_a_default_in_code_is_named(world: World) -> None:
    """The same schema on both sides, and a server that does not keep to it."""
    world.materialise(NOON)
    reads = world.read(
        NOON, bent=lambda name, value, why: -1 if (name, why) == ("orders", "default") else value
    )
    found = world.parity(reads)
    assert found["orders"].causes == ("orders serves the default -1 where the catalog says 0.",)
    assert statuses(found) == [Status.FAIL, Status.PASS, Status.PASS]


@pytest.mark.parametrize(("name", "factor"), [("spent", 0.01), ("orders", 1000)])
def test_another_unit_is_named(world: World, name: str, factor: float) -> None:
    world.materialise(NOON)
    found = world.parity(
        world.read(NOON, bent=lambda one, value, why: value * factor if one == name else value)
    )
    assert found[name].verdicts[0].status is Status.FAIL
    assert found[name].causes == (
        f"{name} is served {factor:.6g} times as large as it is stored: another unit.",
    )


def test_a_lag_in_code_is_named(world: World) -> None:
    """A server that takes rows as soon as they arrive, whatever the catalog says."""
    world.arrive(NOON - HOUR)
    world.materialise(NOON)
    hasty = with_field("taste", serving_lag=timedelta(0))
    reads = world.read(NOON)
    again = world.store.read(
        hasty,
        reads.filter(pl.col("feature") == "taste").select(user_id="key", at="at"),
        ["taste"],
        as_of="at",
    )
    taste = reads.filter(pl.col("feature") == "taste").with_columns(
        value=pl.Series([as_json(value) for value in again["taste"]])
    )
    found = world.parity(pl.concat([reads.filter(pl.col("feature") != "taste"), taste]))
    assert found["taste"].causes == ("taste is served as if its lag were 0:00:00; the catalog says 3:00:00.",)


def test_a_stale_materialisation_is_told_from_a_wrong_value(tmp_path: Path) -> None:
    world = World(tmp_path / "home", 8)
    world.arrive(NOON - 24 * HOUR)
    world.materialise(NOON - 12 * HOUR)
    world.arrive(NOON - 11 * HOUR)
    found = world.parity(world.read(NOON))
    assert statuses(found) == [Status.FAIL] * 3
    assert found["orders"].causes == ()
    assert found["orders"].mismatches is not None
    assert found["orders"].behind == round(found["orders"].mismatches.value * READS)
    assert (
        "behind the tables, last materialised at 2026-11-20T00:00:00" in found["orders"].verdicts[0].sentence
    )


def test_a_few_reads_behind_are_no_skew(tmp_path: Path) -> None:
    """Between two materialisations rows arrive; that is what a rate is for."""
    world = World(tmp_path / "home", 9)
    world.arrive(NOON - 24 * HOUR)
    world.materialise(NOON - 6 * HOUR)
    before = world.read(NOON - 6 * HOUR, 1500)
    world.arrive(NOON)
    after = world.read(NOON + 6 * HOUR, 4)
    found = world.parity(pl.concat([before, after]))
    assert 0 < found["orders"].behind <= 4
    assert statuses(found) == [Status.PASS] * 3


def test_rows_that_come_later_than_declared_are_told(world: World) -> None:
    world.arrive(NOON - 12 * HOUR, hours=9)
    world.materialise(NOON)
    lag = world.parity(world.read(NOON))["orders"].verdicts[1]
    assert (lag.status, lag.threshold) == (Status.PASS, 3 * 3600)
    world.arrive(NOON + HOUR, hours=9)
    world.materialise(NOON + 13 * HOUR)
    lag = world.parity(world.read(NOON + 13 * HOUR))["orders"].verdicts[1]
    assert lag.status is Status.FAIL
    assert lag.value is not None
    assert 7 * 3600 < lag.value <= 9 * 3600
    assert "Declare at least that" in lag.sentence


def test_freshness_and_recency_fail_apart(world: World) -> None:
    """A job that runs on over events that stopped: fresh values, an old signal. Then the job stops, too."""

    def found(now: datetime) -> list[Status]:
        nothing = pl.DataFrame(schema=READ_SCHEMA)
        first = ages(world.store, SHOP, nothing, manifest=None, now=now)[0]
        return [one.status for one in first.verdicts]

    now = NOON + 24 * HOUR
    assert found(NOON) == [Status.PASS, Status.PASS]
    assert found(now + 4 * HOUR) == [Status.FAIL, Status.PASS]
    days = 5
    again = pl.DataFrame(
        {
            "user_id": ["u1"],
            "event_ts": [NOON - 30 * HOUR],
            "ingested_at": [NOON + days * 24 * HOUR],
            "orders": [1],
            "spent": [1.0],
            "taste": ["t1"],
        }
    )
    world.store.append(SHOP, "shopper", again)
    assert found(NOON + days * 24 * HOUR + HOUR) == [Status.PASS, Status.FAIL]
    assert found(NOON + (days + 9) * 24 * HOUR) == [Status.FAIL, Status.FAIL]


def test_the_age_of_what_was_read_is_shown(world: World) -> None:
    world.materialise(NOON)
    reads = world.read(NOON)
    first = ages(world.store, SHOP, reads, manifest=None, now=NOON)[0]
    assert first.reads is not None
    assert 0 < first.reads["p50"] <= first.reads["p95"] <= first.reads["max"] < 40 * 3600
