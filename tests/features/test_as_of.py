"""The parts of an as-of join that only large or unlucky tables reach."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.features.conftest import CATALOG

from mangaassist.features import as_of
from mangaassist.features.catalog import Catalog
from mangaassist.features.point_in_time import INSTANT, point_in_time

SHOP = Catalog.parse(CATALOG, source="shop.yaml")
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NEAR = st.integers(0, 9)
KEYS = st.lists(st.one_of(NEAR, NEAR.map(lambda n: 2**62 - 1 - n), st.integers(0, 2**62 - 1)), max_size=60)


@given(KEYS)
def test_keys_and_positions_beyond_63_bits_are_ordered_all_the_same(keys: list[int]) -> None:
    """Keys that agree in all but their last bits included."""
    values = np.array(keys, dtype=np.int64)
    assert as_of._sorted(values).tolist() == np.argsort(values, kind="stable").tolist()


def test_entities_whose_hashes_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds that give every entity one of two hashes change no answer."""
    generator = np.random.default_rng(3)
    seeds = []

    def weak(entities: pl.Series, seed: int) -> pl.Series:
        seeds.append(seed)
        hashes = entities.hash(seed)
        return (hashes % 2 if seed < 2 else hashes).alias("__hash")

    def some(count: int, column: str) -> pl.DataFrame:
        minutes = generator.integers(0, 5_000, count)
        times = pl.Series([NOON + timedelta(minutes=int(one)) for one in minutes], dtype=INSTANT)
        users = pl.Series(generator.integers(0, 9, count)).cast(pl.String)
        return pl.DataFrame({"user_id": users.set(users == "8", None), column: times})

    stored = some(300, "event_ts").with_columns(orders=pl.int_range(300), ingested_at=pl.col("event_ts"))
    asked = some(200, "at")
    views, features = {"shopper": stored}, SHOP.chosen(["orders"])
    expected = point_in_time(views, features, asked, as_of="at")
    monkeypatch.setattr(as_of, "_hashed", weak)
    assert point_in_time(views, features, asked, as_of="at").equals(expected)
    assert sorted(set(seeds)) == [0, 1, 2]
    assert set(expected["orders__reason"]) >= {"value", "default", "missing"}


@pytest.mark.parametrize("part", [1, 7, 100])
def test_the_rows_that_decide_are_the_same_however_many_parts_a_view_is_joined_in(part: int) -> None:
    """Unknown entities, null ones, ties and late rows included."""
    generator = np.random.default_rng(11)

    def moments(count: int) -> pl.Series:
        return pl.Series(generator.integers(0, 60, count) * 10**6).cast(INSTANT)

    def users(count: int, kinds: int) -> pl.Series:
        return pl.Series("user_id", [f"u{one}" for one in generator.integers(0, kinds, count)])

    view = pl.DataFrame({"user_id": users(400, 30), "event_ts": moments(400)})
    view = view.with_columns(
        (pl.col("event_ts") + moments(400).to_physical().cast(pl.Duration("us"))).alias("ingested_at")
    )
    asked = users(300, 40)
    requests = as_of.Requests.of(asked.set(asked == "u3", None), moments(300) + timedelta(seconds=30))
    values = pl.DataFrame({"orders": generator.integers(0, 9, 400)})
    lags = [timedelta(0), timedelta(seconds=20)]
    whole = as_of.deciding(view, requests, lags, lambda: values)
    cut = as_of.deciding(view, requests, lags, lambda: values, part=part)
    assert all((cut[lag] == whole[lag]).all() for lag in lags)
    assert all(0 < (whole[lag] >= 0).mean() < 1 for lag in lags)
