"""Point-in-time reads against a slow twin that loops over every row."""

from __future__ import annotations

import inspect
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.conftest import CATALOG, TITLE_VIEW

from mangaassist.core.errors import InputError
from mangaassist.features.catalog import Catalog
from mangaassist.features.point_in_time import INSTANT, point_in_time
from mangaassist.features.recomputation import recomputed
from mangaassist.features.store import FeatureStore

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
MICRO = timedelta(microseconds=1)
SHOP = Catalog.parse(CATALOG, source="shop.yaml")
MARKET = Catalog.parse(CATALOG + TITLE_VIEW, source="shop.yaml")
NAMES = ("orders", "taste", "score", "member")
ZERO = {"orders": 0, "taste": "", "score": 0.0, "member": False}
SCHEMA = {
    "user_id": pl.String,
    "event_ts": INSTANT,
    "ingested_at": INSTANT,
    "orders": pl.Int64,
    "taste": pl.String,
    "score": pl.Float64,
    "member": pl.Boolean,
}

Row = tuple[str, datetime, datetime, int | None, str | None, float | None, bool | None]


def row(
    event: datetime, ingested: datetime | None = None, orders: int | None = 1, user: str = "u", **rest: Any
) -> Row:
    return (
        user,
        event,
        ingested or event,
        orders,
        rest.get("taste"),
        rest.get("score"),
        rest.get("member"),
    )


def table(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")


def ask(*requests: tuple[str | None, datetime]) -> pl.DataFrame:
    return pl.DataFrame(list(requests), schema={"user_id": pl.String, "at": INSTANT}, orient="row")


def read(rows: pl.DataFrame, entities: pl.DataFrame, *names: str) -> pl.DataFrame:
    return point_in_time({"shopper": rows}, SHOP.chosen(names), entities, as_of="at")


def cell(at: datetime, *rows: Row, name: str = "orders", user: str | None = "u") -> tuple[Any, str]:
    found = read(table(*rows), ask((user, at)), name)
    return found[name][0], found[f"{name}__reason"][0]


def test_a_value_is_visible_one_serving_lag_after_its_event() -> None:
    """FEA-1: the boundary itself is inside, a microsecond earlier is not."""
    assert cell(NOON, row(NOON - HOUR)) == (1, "value")
    assert cell(NOON - MICRO, row(NOON - HOUR)) == (-1, "default")
    assert cell(NOON, row(NOON, score=0.9), name="score") == (0.9, "value")


def test_late_data_is_visible_when_it_arrives() -> None:
    """FEA-1: what was not yet ingested could not be served, whenever it happened."""
    late = row(NOON - 5 * HOUR, NOON, 2)
    assert cell(NOON - MICRO, row(NOON - 6 * HOUR), late) == (1, "value")
    assert cell(NOON, row(NOON - 6 * HOUR), late) == (2, "value")


def test_a_late_older_event_never_overrides() -> None:
    """FEA-1: the latest event decides, not the latest arrival."""
    newer, late_older = row(NOON - 3 * HOUR, None, 2), row(NOON - 5 * HOUR, NOON - HOUR, 1)
    assert cell(NOON, newer, late_older) == (2, "value")
    correction = row(NOON - 3 * HOUR, NOON - HOUR, 3)
    assert cell(NOON, newer, correction, late_older) == (3, "value")


def test_reasons() -> None:
    """Every cell says why it holds what it holds, and defaults come from the catalog (FEA-2)."""
    old = row(NOON - timedelta(days=7), None, 5)
    assert cell(NOON, old) == (5, "value")
    assert cell(NOON + MICRO, old) == (-1, "stale")
    assert cell(NOON, row(NOON - 2 * HOUR, None, None)) == (-1, "missing")
    assert cell(NOON, row(NOON - 2 * HOUR), user=None) == (-1, "missing")
    assert cell(NOON, row(NOON - 2 * HOUR), user="someone else") == (-1, "default")
    assert cell(NOON, row(NOON - HOUR, score=math.nan), name="score") == (0.5, "missing")
    assert cell(NOON) == (-1, "default")


def test_rows_keep_their_order_and_their_repeats() -> None:
    """Every entity row comes back once, in place, whatever the order of the moments."""
    entities = ask(("u", NOON), ("v", NOON), ("u", NOON - 9 * HOUR), ("u", NOON), (None, NOON))
    found = read(table(row(NOON - 2 * HOUR, None, 7)), entities, "orders", "score")
    assert found.select("user_id", "at").equals(entities)
    assert found["orders"].to_list() == [7, -1, -1, 7, -1]
    assert found.columns == ["user_id", "at", "orders", "orders__reason", "score", "score__reason"]
    assert read(table(), ask().clear(), "orders").height == 0


def test_time_zones_are_instants() -> None:
    """The same moment in Tokyo and in UTC reads the same; one moment may stand for all rows."""
    rows = table(row(NOON - HOUR))
    tokyo = ask(("u", NOON)).with_columns(pl.col("at").dt.convert_time_zone("Asia/Tokyo"))
    assert read(rows, tokyo, "orders")["orders"].to_list() == [1]
    moment = NOON.astimezone(timezone(timedelta(hours=9)))
    found = point_in_time(
        {"shopper": rows}, SHOP.chosen(["orders"]), ask(("u", NOON - 9 * HOUR)), as_of=moment
    )
    assert found["orders"].to_list() == [1]


def test_as_of_is_mandatory() -> None:
    """FEA-1: leaving it out is an error of the call and None a refusal, never a warning."""
    for function in (point_in_time, FeatureStore.read):
        parameter = inspect.signature(function).parameters["as_of"]
        assert parameter.default is inspect.Parameter.empty
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    for wrong, fragment in (
        (None, "would leak"),
        ("when", "'when'"),
        (datetime(2026, 1, 1), "timezone-aware"),  # noqa: DTZ001 - the naive time is the mistake
    ):
        with pytest.raises(InputError) as caught:
            point_in_time({"shopper": table()}, SHOP.chosen(["orders"]), ask(("u", NOON)), as_of=wrong)  # type: ignore[arg-type]
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("entities", "fragment"),
    [
        (ask(("u", NOON)).drop("user_id"), "a column 'user_id'"),
        (ask(("u", NOON)).with_columns(user_id=pl.lit(7)), "identifiers are not numbers"),
        (ask(("u", NOON)).with_columns(orders=pl.lit(7)), "no column named like a feature"),
        (ask(("u", NOON)).with_columns(at=pl.lit("noon")), "times with a time zone"),
        (ask(("u", NOON)).with_columns(pl.col("at").dt.replace_time_zone(None)), "times with a time zone"),
        (ask(("u", NOON)).with_columns(at=pl.lit(None, INSTANT)), "1 empty ones"),
    ],
)
def test_entities_that_cannot_be_read_for(entities: pl.DataFrame, fragment: str) -> None:
    """Each with one sentence."""
    with pytest.raises(InputError) as caught:
        read(table(), entities, "orders")
    assert fragment in str(caught.value)


MOMENTS = st.builds(
    lambda quarters, micros: NOON + quarters * timedelta(minutes=15) + micros * MICRO,
    st.integers(-40, 40),
    st.integers(-1, 1),
)
USERS = st.sampled_from(["u", "v"])
ROWS = st.lists(
    st.tuples(
        USERS,
        MOMENTS,
        MOMENTS,
        st.sampled_from([None, 1, 2]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, 0.25, 0.75]),
        st.sampled_from([None, True, False]),
    ),
    max_size=25,
)
REQUESTS = st.lists(st.tuples(st.one_of(USERS, st.none(), st.just("w")), MOMENTS), min_size=1, max_size=12)


@settings(max_examples=120, deadline=None)
@given(rows=ROWS, requests=REQUESTS, zone=st.sampled_from(["UTC", "Asia/Tokyo", "America/New_York"]))
def test_it_reads_what_the_loop_reads(
    rows: list[Row], requests: list[tuple[str | None, datetime]], zone: str
) -> None:
    """FEA-1, exactly: ties, duplicates, late data, nulls, time zones, rows in any order."""
    entities = ask(*requests).with_columns(pl.col("at").dt.convert_time_zone(zone))
    found = read(table(*rows), entities, *NAMES)
    named = [dict(zip(SCHEMA, one, strict=True)) for one in rows]
    for name in NAMES:
        expected = [recomputed(named, SHOP.features[name], user, at) for user, at in requests]
        assert list(zip(found[name], found[f"{name}__reason"], strict=True)) == expected
    assert read(table(*rows[::-1]), entities, *NAMES).equals(found)


TITLES = st.lists(
    st.tuples(
        st.sampled_from(["s", "t"]),
        MOMENTS,
        MOMENTS,
        st.sampled_from([None, 0.25, math.nan, -1.0]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([None, "x", "第1巻"]),
    ),
    max_size=25,
)
TITLE_SCHEMA = {
    "title_id": pl.String,
    "event_ts": INSTANT,
    "ingested_at": INSTANT,
    "price": pl.Float64,
    "stock": pl.Int64,
    "shelf": pl.String,
}
ASKED = st.lists(
    st.tuples(st.one_of(USERS, st.none(), st.just("w")), st.sampled_from(["s", "t", "none", None]), MOMENTS),
    min_size=1,
    max_size=12,
)
BOTH = ("stock", "orders", "price", "score", "shelf")


@settings(max_examples=120, deadline=None)
@given(shoppers=ROWS, titles=TITLES, asked=ASKED, names=st.permutations(BOTH), count=st.integers(1, 5))
def test_views_and_lags_together_read_what_the_loop_reads(
    shoppers: list[Row],
    titles: list[tuple[Any, ...]],
    asked: list[tuple[str | None, str | None, datetime]],
    names: list[str],
    count: int,
) -> None:
    """Two entities, four lags, any choice of features, and no column that was not asked for."""
    schema = {"user_id": pl.String, "title_id": pl.String, "at": INSTANT}
    entities = pl.DataFrame(asked, schema=schema, orient="row")
    whole = {"shopper": table(*shoppers), "title": pl.DataFrame(titles, schema=TITLE_SCHEMA, orient="row")}
    features = MARKET.chosen(names[:count])
    asked_for = {
        view: frame.select(
            *frame.columns[:3], *(feature.name for feature in features if feature.view == view)
        )
        for view, frame in whole.items()
    }
    found = point_in_time(
        asked_for,
        features,
        entities,
        as_of="at",
        others=lambda view: whole[view].drop(whole[view].columns[:3]),
    )
    assert found.select(*schema).equals(entities)
    for feature in features:
        rows = whole[feature.view].rows(named=True)
        expected = [
            recomputed(rows, feature, user if feature.entity == "user_id" else title, at)
            for user, title, at in asked
        ]
        assert list(zip(found[feature.name], found[f"{feature.name}__reason"], strict=True)) == expected


def test_the_store_reads_a_pinned_snapshot_again(store: FeatureStore, catalog: Catalog) -> None:
    """A training run repeats its own read after more rows arrived; namespaces have tables of their own."""
    assert store.snapshots(catalog) == {"shopper": None}
    empty = store.read(catalog, ask(("u", NOON)), ["orders"], as_of="at")
    assert empty["orders__reason"].to_list() == ["default"]
    store.append(catalog, "shopper", table(row(NOON - 3 * HOUR, None, 1)))
    pinned = store.snapshots(catalog)
    late = table(row(NOON - 2 * HOUR, None, 2)).drop("ingested_at")
    store.append(catalog, "shopper", late, ingested_at=NOON - HOUR)
    assert store.tables.names() == ["features.shop.shopper"]
    for snapshots, value in ((pinned, 1), (None, 2), ({"shopper": None}, -1)):
        found = store.read(catalog, ask(("u", NOON)), ["orders"], as_of="at", snapshots=snapshots)
        assert found["orders"].to_list() == [value]


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda rows: rows.drop("taste"), "a column 'taste'"),
        (lambda rows: rows.with_columns(tast=pl.lit("x")), "Did you mean 'taste'?"),
        (lambda rows: rows.with_columns(orders=pl.lit(1.5)), "column 'orders'"),
        (lambda rows: rows.with_columns(user_id=pl.lit(None, pl.String)), "a value in every row"),
        (lambda rows: rows.with_columns(pl.col("event_ts").dt.replace_time_zone(None)), "column 'event_ts'"),
        (lambda rows: rows.drop("ingested_at"), "a column 'ingested_at'"),
    ],
)
def test_rows_that_do_not_fit_the_view(
    store: FeatureStore, catalog: Catalog, change: Any, fragment: str
) -> None:
    """FEA-4: a column type that changed upstream is refused, not converted."""
    with pytest.raises(InputError) as caught:
        store.append(catalog, "shopper", change(table(row(NOON))))
    assert fragment in str(caught.value)
    assert store.tables.names() == []


def test_a_hundred_thousand_reads_keep_every_row() -> None:
    """Five features of two lags over two hundred thousand stored rows."""
    generator = np.random.default_rng(1)
    stored, asked, users = 200_000, 100_000, 5_000
    spread = timedelta(days=30) / MICRO

    def moments(n: int) -> pl.Series:
        offsets = pl.Series((generator.random(n) * spread).astype(np.int64)).cast(pl.Duration("us"))
        return pl.Series([NOON], dtype=INSTANT).new_from_index(0, n) + offsets

    rows = pl.DataFrame(
        {
            "user_id": pl.Series(generator.integers(0, users, stored)).cast(pl.String),
            "event_ts": moments(stored),
            "orders": pl.Series(np.arange(stored)),
            "taste": "x",
            "score": 0.1,
            "member": True,
        }
    ).with_columns(ingested_at=pl.col("event_ts"))
    entities = pl.DataFrame(
        {"user_id": pl.Series(generator.integers(0, users, asked)).cast(pl.String), "at": moments(asked)}
    )
    assert read(rows, entities, *NAMES).height == asked
