"""A feature store on an empty home, and a catalog with one feature of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mangaassist.core.home import Home
from mangaassist.features.catalog import Catalog
from mangaassist.features.store import FeatureStore
from mangaassist.storage.tables import Tables

CATALOG = """\
namespace: shop
views:
  shopper:
    entity: user_id
    owner: team-a
    features:
      orders: {description: Batch., dtype: int, default: -1, serving_lag: 1h, ttl: 7d, freshness_sla: 26h, recency_window: 90d}
      taste: {description: Batch., dtype: string, default: none, serving_lag: 1h, ttl: 1d, freshness_sla: 26h, recency_window: 7d}
      score: {description: Online., dtype: float, default: 0.5, serving_lag: 0s, ttl: 2h, freshness_sla: 60s, recency_window: 0s}
      member: {description: Online., dtype: bool, default: false, serving_lag: 0s, ttl: 30d, freshness_sla: 60s, recency_window: 0s}
"""  # noqa: E501

TITLE_VIEW = """\
  title:
    entity: title_id
    owner: team-b
    features:
      price: {description: Batch., dtype: float, default: 0.0, serving_lag: 2h, ttl: 6h, freshness_sla: 26h, recency_window: 1d}
      stock: {description: Online., dtype: int, default: 0, serving_lag: 0s, ttl: 3h, freshness_sla: 60s, recency_window: 0s}
      shelf: {description: Batch., dtype: string, default: '', serving_lag: 3h, ttl: 30d, freshness_sla: 26h, recency_window: 1d}
"""  # noqa: E501


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.parse(CATALOG, source="shop.yaml")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    tables = Tables.open(Home.open(tmp_path / "home"))
    yield FeatureStore(tables)
    tables.close()
