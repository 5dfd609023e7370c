"""TRN-2 across rooms: what is derived for a training row knows nothing from after the split's cut-off."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import START
from tests.features.conftest import CATALOG

from mangaassist.features.catalog import Catalog
from mangaassist.features.point_in_time import INSTANT, point_in_time
from mangaassist.training.splits import split

SHOP = Catalog.parse(CATALOG, source="shop.yaml")
NAMES = ("orders", "taste")
HOUR = timedelta(hours=1)
USERS = st.sampled_from(["u", "v", "w"])
EXAMPLES = st.lists(st.tuples(USERS, st.integers(0, 40), st.integers(0, 9)), min_size=8, max_size=40)
EVENTS = st.lists(
    st.tuples(USERS, st.integers(0, 45), st.integers(0, 10), st.integers(1, 9), st.sampled_from("abc")),
    max_size=40,
)


def derived(train: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    entities = train.select("user_id", at="captured_at")
    return point_in_time({"shopper": events}, SHOP.chosen(NAMES), entities, as_of="at")


@given(rows=EXAMPLES, happened=EVENTS, seed=st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_training_rows_derive_nothing_from_after_the_cut_off(
    rows: list[tuple[str, int, int]], happened: list[tuple[str, int, int, int, str]], seed: int
) -> None:
    """Erasing all that happened or became known after the cut-off changes no derived value."""
    frame = pl.DataFrame(
        [
            {
                "example_id": f"e{number}",
                "text": f"text {number}",
                "label": "xy"[number % 2],
                "group_id": f"{user}{group}",
                "user_id": user,
                "captured_at": START + hour * HOUR,
            }
            for number, (user, hour, group) in enumerate(rows)
        ],
        schema_overrides={"captured_at": INSTANT},
    )
    made = split(frame, seed=seed, has_golden=False)
    if made.report.cut_off is None or made.train.is_empty():
        return
    events = pl.DataFrame(
        [
            (user, START + hour * HOUR, START + (hour + late) * HOUR, orders, taste)
            for user, hour, late, orders, taste in happened
        ],
        schema={
            "user_id": pl.String,
            "event_ts": INSTANT,
            "ingested_at": INSTANT,
            "orders": pl.Int64,
            "taste": pl.String,
        },
        orient="row",
    )
    cut_off = made.report.cut_off
    known = events.filter((pl.col("event_ts") <= cut_off) & (pl.col("ingested_at") <= cut_off))
    assert derived(made.train, events).equals(derived(made.train, known))
    assert not set(made.train["group_id"]) & set(made.test["group_id"])
