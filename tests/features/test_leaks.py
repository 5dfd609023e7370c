"""A feature that learns the label is caught; a feature that predicts it is not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from tests.features.test_point_in_time import NAMES, table

from mangaassist.core.verdict import Status, Verdict
from mangaassist.features.catalog import Catalog
from mangaassist.features.leaks import leak_verdicts, permutation_p
from mangaassist.features.store import FeatureStore

START = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LABELS = ("order", "return", "other")


def shop(
    store: FeatureStore,
    catalog: Catalog,
    *,
    users: int = 600,
    leak: str = "",
    seed: int = 1,
    per_user: int = 1,
) -> pl.DataFrame:
    """Shoppers whose orders predict their label, and who are measured anew in half of all windows.

    With ``leak``, that feature is written at the moment of the label with a value made from it.
    """
    generator = np.random.default_rng(1)
    rows, examples = [], []
    for n in range(users * per_user):
        user, kind = f"u{n % users:04d}", int(generator.integers(3))
        captured = START + timedelta(minutes=int(generator.integers(60 * 24 * 10)))
        values = {
            "orders": 10 * kind + int(generator.integers(3)),
            "taste": "abc"[kind] if generator.random() < 0.8 else "d",
            "score": kind / 3 + 0.01 * generator.random(),
            "member": kind == 1,
        }
        rows.append((user, captured - 9 * HOUR, captured - 9 * HOUR, *(values[name] for name in NAMES)))
        if generator.random() < 0.5:  # an update in the window that has nothing to do with the label
            values |= {"orders": values["orders"] + 1, "score": values["score"] + 0.001}
            rows.append((user, captured, captured, *(values[name] for name in NAMES)))
        if leak:
            values |= {"orders": {leak: 100 + kind}.get("orders", values["orders"])}
            values |= {"taste": {leak: f"label-{kind}"}.get("taste", values["taste"])}
            rows.append((user, captured, captured, *(values[name] for name in NAMES)))
        examples.append((user, LABELS[kind], captured))
    store.append(catalog, "shopper", table(*rows))
    schema = {"user_id": pl.String, "label": pl.String, "captured_at": pl.Datetime("us", "UTC")}
    return pl.DataFrame(examples, schema=schema, orient="row")


def verdicts(
    store: FeatureStore, catalog: Catalog, examples: pl.DataFrame, seed: int = 2
) -> dict[str, Verdict]:
    found = leak_verdicts(store, catalog, examples, NAMES, generator=np.random.default_rng(seed))
    assert [one.name for one in found] == [f"features.leak.{name}" for name in NAMES]
    return {one.name.rpartition(".")[2]: one for one in found}


@pytest.mark.parametrize("leak", ["orders", "taste"])
def test_a_planted_leak_is_caught_and_predictive_features_are_not(
    store: FeatureStore, catalog: Catalog, leak: str
) -> None:
    """FEA-3: the feature that changes with the label is named, the others pass although they predict it."""
    found = verdicts(store, catalog, shop(store, catalog, leak=leak))
    assert {name for name, one in found.items() if one.status is Status.FAIL} == {leak}
    assert found[leak].blocking is True
    assert found[leak].n == 500
    assert found[leak].value is not None
    assert found[leak].value <= 0.001
    assert "has seen the label" in found[leak].sentence


def test_a_pinned_read_is_judged_as_pinned(store: FeatureStore, catalog: Catalog) -> None:
    """A leak that was written after the snapshot is not in what is trained on."""
    examples = shop(store, catalog)
    pinned = store.snapshots(catalog)
    shop(store, catalog, leak="orders")
    for snapshots, status in ((pinned, Status.PASS), (None, Status.FAIL)):
        generator = np.random.default_rng(2)
        found = leak_verdicts(store, catalog, examples, ["orders"], generator=generator, snapshots=snapshots)
        assert found[0].status is status


def test_label_free_updates_pass(store: FeatureStore, catalog: Catalog) -> None:
    """Changing in the window is allowed, and so is refreshing a stale value that predicts the label."""
    found = verdicts(store, catalog, shop(store, catalog))
    assert {one.status for one in found.values()} == {Status.PASS}
    assert "never changes" in found["member"].sentence
    assert "whatever the label" in found["orders"].sentence


def test_one_example_per_entity_and_the_same_every_time(store: FeatureStore, catalog: Catalog) -> None:
    """Rows of one shopper hang together; row order and repetition change nothing."""
    examples = shop(store, catalog, users=40, per_user=5)
    first = verdicts(store, catalog, examples)
    assert first["orders"].n == 40
    assert verdicts(store, catalog, examples[::-1]) == first


def test_too_little_to_tell(store: FeatureStore, catalog: Catalog) -> None:
    """Insufficient and not blocking, rather than a pass nobody earned."""
    examples = shop(store, catalog, users=29)
    few = verdicts(store, catalog, examples)["orders"]
    assert (few.status, few.blocking, few.n) == (Status.INSUFFICIENT, False, 29)
    single = shop(store, catalog, users=50).with_columns(label=pl.lit("one"))
    assert verdicts(store, catalog, single)["orders"].status is Status.INSUFFICIENT
    assert verdicts(store, catalog, examples.clear())["orders"].n == 0
    assert leak_verdicts(store, catalog, examples, [], generator=np.random.default_rng(1)) == []


def test_the_permutation_test_agrees_with_its_asymptotic_twins() -> None:
    """Kruskal-Wallis and chi-square p-values of scipy, within the error of 4000 permutations."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 3, 300)
    values = generator.normal(size=300) + 0.15 * labels
    ranks = stats.rankdata(values)
    centred = (ranks - ranks.mean()).reshape(-1, 1)
    p = permutation_p(centred, np.ones(1), labels, generator=generator, permutations=4_000, enough=4_000)
    assert p == pytest.approx(stats.kruskal(*(values[labels == k] for k in range(3))).pvalue, abs=0.025)
    codes = np.where(generator.random(300) < 0.2, labels, generator.integers(0, 4, 300))
    indicator = np.eye(4)[codes]
    weights = 300 / indicator.sum(axis=0)
    p = permutation_p(indicator, weights, labels, generator=generator, permutations=4_000, enough=4_000)
    cells = np.array([[np.sum((codes == c) & (labels == k)) for k in range(3)] for c in range(4)])
    assert p == pytest.approx(stats.chi2_contingency(cells).pvalue, abs=0.025)


def test_the_permutation_test_holds_its_level() -> None:
    """On labels without any effect p <= 0.05 in at most 9% of 300 runs (once in 1500 by chance)."""
    generator = np.random.default_rng(4)
    small = [
        permutation_p(
            generator.integers(0, 2, (40, 1)).astype(float),
            np.ones(1),
            generator.integers(0, 3, 40),
            generator=generator,
            permutations=199,
        )
        <= 0.05
        for _ in range(300)
    ]
    assert np.mean(small) <= 0.09


@dataclass(frozen=True, slots=True)
class InMemory(FeatureStore):
    """A store of one view, so that a thousand simulated ones take minutes."""

    stored: pl.DataFrame

    def rows(self, *_: Any, **__: Any) -> pl.DataFrame:
        return self.stored


def refreshed(
    generator: np.random.Generator, share: float, users: int = 600
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Shoppers whose values predict their label; half are measured anew, text and membership at random.

    In a ``share`` of them whatever writes orders has seen the label.
    """
    rows, examples = [], []
    for n in range(users):
        user, kind = f"u{n:04d}", int(generator.integers(3))
        captured = START + timedelta(minutes=int(generator.integers(60 * 24 * 10)))
        taste = "abc"[kind] if generator.random() < 0.8 else "d"
        orders, score = 2 * kind + int(generator.integers(6)), kind / 3 + generator.random()
        rows.append((user, captured - 9 * HOUR, captured - 9 * HOUR, orders, taste, score, kind == 1))
        leaks = generator.random() < share
        if leaks or generator.random() < 0.5:
            orders += kind - 1 if leaks else int(generator.integers(-1, 2))
            drawn = "abcd"[int(generator.integers(4))], generator.random(), generator.random() < 0.5
            rows.append((user, captured, captured, orders, *drawn))
        examples.append((user, LABELS[kind], captured))
    schema = {"user_id": pl.String, "label": pl.String, "captured_at": pl.Datetime("us", "UTC")}
    return table(*rows), pl.DataFrame(examples, schema=schema, orient="row")


def alarms(store: FeatureStore, catalog: Catalog, runs: int, share: float) -> list[set[str]]:
    """Per simulated shop the features that fail."""
    found = []
    for run in range(runs):
        generator = np.random.default_rng([run, int(1000 * share)])
        stored, examples = refreshed(generator, share)
        shown = leak_verdicts(InMemory(store.tables, stored), catalog, examples, NAMES, generator=generator)
        found.append({one.name.rpartition(".")[2] for one in shown if one.status is Status.FAIL})
    return found


def test_values_that_predict_the_label_and_are_then_drawn_anew_pass(
    store: FeatureStore, catalog: Catalog
) -> None:
    """What was "a" because of the label becomes anything but "a": that is the old value, not the label."""
    assert alarms(store, catalog, runs=3, share=0.0) == [set()] * 3


def test_a_leak_in_part_of_the_rows_is_caught(store: FeatureStore, catalog: Catalog) -> None:
    """Half of them is enough on 500 entities, and nothing else is blamed."""
    assert alarms(store, catalog, runs=2, share=0.5) == [{"orders"}] * 2


@pytest.mark.soak
def test_rates_of_false_and_missed_alarms(store: FeatureStore, catalog: Catalog) -> None:
    """At most 3 false alarms in 500 shops (more by chance once in 500 times at 0.1%); 95% of half leaks."""
    assert sum(map(bool, alarms(store, catalog, runs=500, share=0.0))) <= 3
    assert sum("orders" in one for one in alarms(store, catalog, runs=100, share=0.5)) >= 95
