"""Features in a training table are recomputed row by row: whatever filled it, it must be what serving saw."""

from __future__ import annotations

import numpy as np
import polars as pl
from tests.features.test_leaks import shop
from tests.features.test_point_in_time import NAMES, NOON, row, table

from mangaassist.core.verdict import Status, Verdict
from mangaassist.features.catalog import Catalog
from mangaassist.features.recomputation import recomputation_verdicts
from mangaassist.features.store import FeatureStore


def verdicts(
    store: FeatureStore, catalog: Catalog, examples: pl.DataFrame, **options: object
) -> dict[str, Verdict]:
    generator = np.random.default_rng(2)
    found = recomputation_verdicts(store, catalog, examples, NAMES, generator=generator, **options)  # type: ignore[arg-type]
    assert [one.name for one in found] == [f"features.recomputed.{name}" for name in NAMES]
    return {one.name.rpartition(".")[2]: one for one in found}


def test_what_was_read_as_of_its_time_passes(store: FeatureStore, catalog: Catalog) -> None:
    examples = shop(store, catalog)
    read = store.read(catalog, examples, NAMES, as_of="captured_at")
    found = verdicts(store, catalog, read)
    assert {(one.status, one.n, one.value) for one in found.values()} == {(Status.PASS, 500, 0.0)}


def test_todays_values_are_caught(store: FeatureStore, catalog: Catalog) -> None:
    """FEA-3: the join people write first, with the newest value, and its label baked in downstream."""
    examples = shop(store, catalog, leak="orders")
    newest = examples.with_columns(at=pl.lit(examples["captured_at"].max()))
    today = store.read(catalog, newest, NAMES, as_of="at")
    found = verdicts(store, catalog, today)
    assert found["orders"].status is Status.FAIL
    assert found["orders"].value is not None
    assert found["orders"].value > 0.9
    assert "Read it with as_of." in found["orders"].sentence


def test_one_wrong_cell_is_enough(store: FeatureStore, catalog: Catalog) -> None:
    """The value and the reason, against the snapshot the table was read at."""
    examples = shop(store, catalog, users=50)
    pinned = store.snapshots(catalog)
    read = store.read(catalog, examples, NAMES, as_of="captured_at")
    store.append(
        catalog, "shopper", table(*(row(NOON.replace(year=2020), user=f"u{n:04d}") for n in range(50)))
    )
    first = pl.int_range(pl.len()) == 0
    wrong = read.with_columns(score=pl.when(first).then(9.0).otherwise("score"))
    found = verdicts(store, catalog, wrong, snapshots=pinned)
    assert [one.status for one in found.values()] == [Status.PASS, Status.PASS, Status.FAIL, Status.PASS]
    assert found["score"].value == 1 / 50
    assert "9.0 (value)" in found["score"].sentence
    relabelled = read.with_columns(taste__reason=pl.lit("stale"))
    assert verdicts(store, catalog, relabelled, snapshots=pinned)["taste"].value == 1.0


def test_no_example_is_no_pass(store: FeatureStore, catalog: Catalog) -> None:
    read = store.read(catalog, shop(store, catalog, users=5), NAMES, as_of="captured_at")
    found = verdicts(store, catalog, read.clear())["orders"]
    assert (found.status, found.blocking, found.n) == (Status.INSUFFICIENT, False, 0)
