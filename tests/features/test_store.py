"""Feature tables: what a catalog that changes does to stored rows, and which columns a read opens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mypy.api
import polars as pl
import pytest
from tests.features.conftest import CATALOG
from tests.features.test_point_in_time import NOON, ask, row, table

from mangaassist import features
from mangaassist.core.errors import InputError
from mangaassist.features.catalog import Catalog
from mangaassist.features.store import FeatureStore
from mangaassist.storage.tables import Tables

HOUR = timedelta(hours=1)
CITY = "      city: {description: New., dtype: string, default: '?', serving_lag: 0s, ttl: 7d, freshness_sla: 60s, recency_window: 0s}\n"  # noqa: E501


def changed(old: str, new: str) -> Catalog:
    assert old in CATALOG
    return Catalog.parse(CATALOG.replace(old, new), source="shop.yaml")


WIDER = Catalog.parse(CATALOG + CITY, source="shop.yaml")


def cells(store: FeatureStore, catalog: Catalog, name: str, **options: Any) -> list[tuple[Any, str]]:
    entities = ask(("u", NOON), ("v", NOON))
    found = store.read(catalog, entities, [name], as_of="at", **options)
    return list(zip(found[name], found[f"{name}__reason"], strict=True))


def test_a_feature_that_is_added_is_missing_in_older_rows(store: FeatureStore, catalog: Catalog) -> None:
    """FEA-2: the table gets its column with the first row that has it; pinned reads stay as they were."""
    store.append(catalog, "shopper", table(row(NOON - 3 * HOUR), row(NOON - 3 * HOUR, user="v")))
    pinned = store.snapshots(catalog)
    assert cells(store, WIDER, "city") == [("?", "missing"), ("?", "missing")]
    newer = table(row(NOON - 2 * HOUR, None, 2)).with_columns(city=pl.lit("京都"))
    store.append(WIDER, "shopper", newer)
    assert cells(store, WIDER, "city") == [("京都", "value"), ("?", "missing")]
    assert cells(store, WIDER, "city", snapshots=pinned) == [("?", "missing"), ("?", "missing")]
    assert cells(store, WIDER, "orders") == cells(store, catalog, "orders") == [(2, "value"), (1, "value")]
    assert cells(store, catalog, "orders", snapshots=pinned) == [(1, "value"), (1, "value")]


def test_a_feature_that_is_removed_keeps_its_column(store: FeatureStore, catalog: Catalog) -> None:
    """The old catalog still reads it; rows written without it are empty there."""
    store.append(WIDER, "shopper", table(row(NOON - 3 * HOUR)).with_columns(city=pl.lit("京都")))
    store.append(catalog, "shopper", table(row(NOON - 2 * HOUR, user="v")))
    assert cells(store, WIDER, "city") == [("京都", "value"), ("?", "missing")]
    assert cells(store, catalog, "orders") == [(1, "value"), (1, "value")]
    with pytest.raises(InputError, match="Did you mean"):
        store.append(catalog, "shopper", table(row(NOON)).with_columns(ordes=pl.lit(1)))


@pytest.mark.parametrize(
    ("old", "new", "rows", "says"),
    [
        (
            "dtype: int, default: -1",
            "dtype: float, default: -1.0",
            table(row(NOON)).with_columns(pl.col("orders").cast(pl.Float64)),
            "column 'orders': expected double, got int64 in the rows stored so far.*a new name",
        ),
        (
            "entity: user_id",
            "entity: account",
            table(row(NOON)).rename({"user_id": "account"}),
            "expected a column 'account'.*a new name",
        ),
    ],
)
def test_a_column_never_means_two_things(
    store: FeatureStore, catalog: Catalog, old: str, new: str, rows: pl.DataFrame, says: str
) -> None:
    """Training-serving skew begins with a type that changed upstream: neither written nor read."""
    store.append(catalog, "shopper", table(row(NOON - 3 * HOUR)))
    snapshot = store.snapshots(catalog)
    other = changed(old, new)
    with pytest.raises(InputError, match=says):
        store.append(other, "shopper", rows)
    assert store.snapshots(catalog) == snapshot
    entities = ask(("u", NOON)).with_columns(account=pl.lit("u"))
    with pytest.raises(InputError, match=says):
        store.read(other, entities, ["orders"], as_of="at")


def test_a_read_opens_the_columns_it_needs(
    store: FeatureStore, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them only when rows share entity, event and arrival, so that the answer stays the same."""
    opened: list[list[str] | None] = []
    read = Tables.read

    def watched(self: Tables, name: str, **options: Any) -> pl.DataFrame:
        opened.append(options.get("columns"))
        return read(self, name, **options)

    monkeypatch.setattr(Tables, "read", watched)
    keys = ["user_id", "event_ts", "ingested_at"]
    store.append(catalog, "shopper", table(row(NOON - 3 * HOUR)))
    assert cells(store, catalog, "orders")[0] == (1, "value")
    assert opened == [[*keys, "orders"]]
    same = NOON - 2 * HOUR
    store.append(catalog, "shopper", table(row(same, None, 9, taste="a"), row(same, None, 3, taste="b")))
    opened.clear()
    together = store.read(catalog, ask(("u", NOON)), ["orders", "taste"], as_of="at")
    assert together.select("orders", "taste").row(0) == (9, "a")
    assert (cells(store, catalog, "orders")[0], cells(store, catalog, "taste")[0]) == (
        (9, "value"),
        ("a", "value"),
    )
    assert opened[0] == [*keys, "orders", "taste"]
    assert opened[1] == [*keys, "orders", "taste", "score", "member"]


def test_shares_are_all_rows(store: FeatureStore, catalog: Catalog) -> None:
    for n in range(5):
        store.append(catalog, "shopper", table(row(NOON + n * HOUR, None, n)))
    parts = [store.rows(catalog, "shopper", share=(n, 3)) for n in range(3)]
    assert sorted(len(part) for part in parts) == [1, 2, 2]
    assert sorted(pl.concat(parts)["orders"]) == [0, 1, 2, 3, 4]
    assert store.rows(catalog, "shopper", share=(6, 7)).height == 0


def test_far_times_and_many_entities(store: FeatureStore, catalog: Catalog) -> None:
    """Where an entity and a time do not fit one integer, ranks stand in for times."""
    far = datetime(9999, 12, 31, tzinfo=UTC)
    people = [f"u{n}" for n in range(64)]
    rows = [row(datetime(1, 1, 2, tzinfo=UTC), None, n, user=one) for n, one in enumerate(people)]
    rows += [row(far - HOUR, None, 100 + n, user=one) for n, one in enumerate(people)]
    store.append(catalog, "shopper", table(*rows))
    found = store.read(catalog, ask(*((one, far) for one in people)), ["orders"], as_of="at")
    assert found["orders"].to_list() == [100 + n for n in range(64)]
    early = ask(*((one, far - HOUR - timedelta(microseconds=1)) for one in people))
    assert store.read(catalog, early, ["orders"], as_of="at")["orders__reason"].unique().to_list() == [
        "stale"
    ]


def test_leaving_out_as_of_is_a_type_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FEA-1: mypy says so before anything runs, for the store and for the function beneath it."""
    source = tmp_path / "reads.py"
    source.write_text(
        "from mangaassist.features.point_in_time import point_in_time\n"
        "from mangaassist.features.store import FeatureStore\n"
        "def read(store: FeatureStore, given, at) -> None:\n"
        "    store.read(given, given, given, as_of=at)\n"
        "    store.read(given, given, given)\n"
        "    point_in_time(given, given, given)\n"
    )
    package = Path(features.__file__).parent
    monkeypatch.setenv("MYPYPATH", str(package.parent.parent))
    named = [str(package / f"{name}.py") for name in ("store", "point_in_time")]
    options = ["--follow-imports=skip", "--ignore-missing-imports", "--config-file=", "--no-incremental"]
    said = mypy.api.run([*options, "--explicit-package-bases", str(source), *named])[0]
    wrong = [line for line in said.splitlines() if "reads.py" in line and "error" in line]
    assert [line.split(":")[1] for line in wrong] == ["5", "6"]
    assert all('Missing named argument "as_of"' in line for line in wrong)
