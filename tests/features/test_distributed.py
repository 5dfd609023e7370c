"""A read over a Ray cluster of two nodes is the read on one machine, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from tests.features.conftest import CATALOG, TITLE_VIEW
from tests.features.test_point_in_time import NOON, TITLE_SCHEMA, Row, table

from mangaassist.core.errors import InputError, IntegrityError, Unavailable
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.features import distributed
from mangaassist.features.catalog import Catalog
from mangaassist.features.store import FeatureStore
from mangaassist.storage.tables import Tables

MARKET = Catalog.parse(CATALOG + TITLE_VIEW, source="shop.yaml")
NAMES = ["price", "orders", "score", "shelf", "taste"]
MEMORY = 80 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Two nodes with a core each, on this machine; this process is connected to them."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    made = Cluster(initialize_head=True, connect=False, head_node_args=node)
    made.add_node(num_cpus=1, object_store_memory=MEMORY)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    try:
        assert sum(one["Alive"] for one in ray.nodes()) == 2
        yield made.address
    finally:
        ray.shutdown()
        made.shutdown()


def shoppers(generator: np.random.Generator, count: int) -> list[Row]:
    """Ties, duplicates, late rows and empty values of forty shoppers."""

    def moment() -> timedelta:
        return int(generator.integers(-200, 40)) * timedelta(minutes=15)

    def maybe(value: object) -> object:
        return None if generator.random() < 0.1 else value

    found = []
    for _ in range(count):
        user, event = f"読者{generator.integers(40)}", NOON + moment()
        ingested = NOON + moment() if generator.random() < 0.3 else event
        values = (
            int(generator.integers(9)),
            "ab"[int(generator.integers(2))],
            float(generator.integers(4)),
            True,
        )
        found.append((user, event, ingested, *map(maybe, values)))
    return [*found, *found[: count // 5]]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    """Nobody takes anything away from it."""
    generator = np.random.default_rng(7)
    store = FeatureStore(Tables.open(Home.open(tmp_path_factory.mktemp("market"))))
    for _ in range(3):
        store.append(MARKET, "shopper", table(*shoppers(generator, 60)))
    titles = [(f"t{n % 7}", NOON - n * timedelta(minutes=20), NOON, float(n), n, "上") for n in range(60)]
    store.append(MARKET, "title", pl.DataFrame(titles, schema=TITLE_SCHEMA, orient="row"))
    yield store
    store.tables.close()


def asked(count: int = 300) -> pl.DataFrame:
    generator = np.random.default_rng(8)
    moments = [NOON + int(generator.integers(-200, 40)) * timedelta(minutes=15) for _ in range(count)]
    users = [None if n % 17 == 0 else f"読者{generator.integers(45)}" for n in range(count)]
    titles = [f"t{generator.integers(9)}" for _ in range(count)]
    schema = {"user_id": pl.String, "title_id": pl.String, "at": pl.Datetime("us", "UTC")}
    return pl.DataFrame({"user_id": users, "title_id": titles, "at": moments}, schema=schema)


def test_a_cluster_that_does_not_answer(market: FeatureStore) -> None:
    """Before any test here connects: one sentence within seconds, exit 3."""
    with pytest.raises(Unavailable, match="Check the cluster and the setting ray_address"):
        distributed.read(market, MARKET, asked(9), NAMES, as_of="at", address="127.0.0.1:1")


@pytest.mark.parametrize(
    "partitions", [None, *(pytest.param(count, marks=pytest.mark.soak) for count in (1, 5, 40)), 8]
)
def test_it_reads_what_one_machine_reads(cluster: str, market: FeatureStore, partitions: int | None) -> None:
    """Two views, four lags, more partitions than files and than titles."""
    entities = asked()
    alone = market.read(MARKET, entities, NAMES, as_of="at")
    assert len(set(alone["orders__reason"])) >= 3
    together = distributed.read(market, MARKET, entities, NAMES, as_of="at", partitions=partitions)
    assert together.equals(alone, null_equal=True)
    assert together.schema == alone.schema


def test_the_setting_chooses_and_snapshots_pin(cluster: str, market: FeatureStore) -> None:
    pinned = market.snapshots(MARKET)
    entities = asked(50)
    before = market.read(MARKET, entities, NAMES, as_of=NOON)
    market.append(MARKET, "shopper", table(*shoppers(np.random.default_rng(9), 60)))
    home = replace(market.tables.home, settings=Settings(ray_address=cluster))
    store = FeatureStore(Tables.open(home))
    assert store.read(MARKET, entities, NAMES, as_of=NOON, snapshots=pinned).equals(before)
    now = market.read(MARKET, entities, NAMES, as_of=NOON)
    assert not now.equals(before)
    assert store.read(MARKET, entities, NAMES, as_of=NOON).equals(now)
    nothing = store.read(MARKET, entities.clear(), NAMES, as_of="at")
    assert nothing.equals(market.read(MARKET, entities.clear(), NAMES, as_of="at"))
    store.tables.close()


def test_errors_come_back_as_they_are(cluster: str, market: FeatureStore, store: FeatureStore) -> None:
    """What a worker refuses or finds damaged is said here in the same words."""
    with pytest.raises(InputError, match="would leak"):
        distributed.read(market, MARKET, asked(), NAMES, as_of=None)  # type: ignore[arg-type]
    store.append(MARKET, "shopper", table(*shoppers(np.random.default_rng(9), 9)))
    for path in (store.tables.home.path / "warehouse").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(IntegrityError, match="Restore the warehouse"):
        distributed.read(store, MARKET, asked(), ["orders"], as_of="at", partitions=1)
