"""The catalog holds what code must not, and says where it is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.features.catalog import Catalog, diff

GOOD = """\
namespace: shop
views:
  shopper:
    entity: user_id
    owner: team-a
    features:
      orders:
        description: Orders.
        dtype: int
        default: 0
        serving_lag: 1h
        ttl: 7d
        freshness_sla: 26h
        recency_window: 90d
      score:
        description: Score.
        dtype: float
        default: 1
        serving_lag: 0s
        ttl: 30m
        freshness_sla: 60s
        recency_window: 0s
"""


def parse(text: str = GOOD) -> Catalog:
    return Catalog.parse(text, source="shop.yaml")


def test_every_field_is_read() -> None:
    """FEA-2: dtype, default, serving lag, ttl, freshness SLA, recency window, owner, namespace, version."""
    catalog = parse()
    orders, score = catalog.view("shopper")
    assert (catalog.namespace, catalog.table("shopper")) == ("shop", "features.shop.shopper")
    assert (orders.name, orders.entity, orders.owner, orders.dtype, orders.default) == (
        "orders",
        "user_id",
        "team-a",
        "int",
        0,
    )
    assert (orders.serving_lag, orders.ttl) == (timedelta(hours=1), timedelta(days=7))
    assert (orders.freshness_sla, orders.recency_window) == (timedelta(hours=26), timedelta(days=90))
    assert (score.default, type(score.default), score.serving_lag) == (1.0, float, timedelta(0))
    assert [one.name for one in catalog.chosen(["score", "orders"])] == ["score", "orders"]


@pytest.mark.parametrize(
    ("old", "new", "line", "fragments"),
    [
        ("dtype: int", "dtyp: int", 9, ["a known key", "Did you mean 'dtype'?"]),
        ("dtype: int", "dtype: integer", 9, ["int or float or bool or string", "Did you mean 'int'?"]),
        ("default: 0", "default: none", 10, ["a finite int", "'none'"]),
        ("default: 0", "default: true", 10, ["a finite int"]),
        ("default: 0", "default: 99999999999999999999", 10, ["a finite int"]),
        ("default: 0", "default: !!int x", 10, ["a finite int"]),
        ("default: 1\n", "default: .inf\n", 18, ["a finite float"]),
        ("default: 0", "default: [0]", 10, ["a list"]),
        ("serving_lag: 1h", "serving_lag: 10m", 11, ["0s (online) or at least 1h (batch)"]),
        ("serving_lag: 1h", "serving_lag: soon", 11, ["a duration", "90m"]),
        ("ttl: 7d", "ttl: 99999999999d", 12, ["at most 36500 days"]),
        ("ttl: 7d", "ttl: 1h", 12, ["more than the serving lag"]),
        ("        ttl: 7d\n", "", 7, ["ttl", "Add 'ttl:'"]),
        ("      score:", "      orders:", 15, ["each key once"]),
        ("      score:", "      Score:", 15, ["a lower_case name"]),
        ("      score:", "      user_id:", 15, ["a reserved one"]),
        ("      score:", "      event_ts:", 15, ["a reserved one"]),
        ("    owner: team-a\n", "", 3, ["owner"]),
        ("namespace: shop", "namespace: [a]", 1, ["nested value"]),
        ("namespace: shop", "namespaces: shop", 1, ["Did you mean 'namespace'?"]),
        ("    entity: user_id", "   entity: user_id", 5, ["YAML"]),
        ("  shopper:", "  shopper: 3\n  other:", 3, ["key: value lines"]),
    ],
)
def test_mistakes_are_named_with_their_line(old: str, new: str, line: int, fragments: list[str]) -> None:
    """Style 5: the field, what was expected, what came, the nearest known name."""
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        parse(GOOD.replace(old, new, 1))
    assert f"shop.yaml: line {line}:" in str(caught.value)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "namespace: x\nviews: {}\n", "a: \x00"])
def test_other_files_are_refused(text: str) -> None:
    """A file that is no catalog."""
    with pytest.raises(InputError):
        parse(text)


@given(st.text(max_size=60))
def test_no_text_makes_it_fall_over(text: str) -> None:
    """Whatever stands in the file, it is a catalog or a sentence."""
    with pytest.raises(InputError):
        parse(text)


def test_unknown_names_get_the_nearest_one(tmp_path: Path) -> None:
    """Views, features and files."""
    for call, fragment in (
        (lambda: parse().view("shoper"), "Did you mean 'shopper'?"),
        (lambda: parse().chosen(["order"]), "Did you mean 'orders'?"),
        (lambda: parse().chosen(["orders", "orders"]), "twice"),
        (lambda: Catalog.read(tmp_path / "none.yaml"), "none.yaml"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert fragment in str(caught.value)


def test_the_version_follows_what_is_served_and_nothing_else(tmp_path: Path) -> None:
    """FEA-4: a schema version that changes exactly when a model could be given other values."""
    path = tmp_path / "shop.yaml"
    path.write_text("# a comment\n" + GOOD, encoding="utf-8")
    assert Catalog.read(path).version == parse().version
    head, orders, score = GOOD.partition("      orders:")[0], GOOD[GOOD.index("      orders:") :], ""
    orders, mark, score = orders.partition("      score:")
    assert parse(head + mark + score + orders).fingerprint == parse().fingerprint
    for old, new in (("team-a", "team-b"), ("Orders.", "Paid orders."), ("26h", "48h")):
        assert parse(GOOD.replace(old, new)).fingerprint == parse().fingerprint
    for old, new in (
        ("default: 0", "default: 1"),
        ("dtype: int", "dtype: float"),
        ("serving_lag: 1h", "serving_lag: 2h"),
        ("ttl: 7d", "ttl: 8d"),
        ("recency_window: 90d", "recency_window: 30d"),
        ("entity: user_id", "entity: account"),
    ):
        changed = parse(GOOD.replace(old, new))
        assert changed.fingerprint != parse().fingerprint
        assert changed.version.startswith("shop@")


def test_two_catalogs_are_compared_in_words() -> None:
    """A readable diff, with what it does to the schema version."""
    changed = GOOD.replace("default: 0", "default: 1").replace("team-a", "team-b").replace("score:", "rank:")
    assert [str(one) for one in diff(parse(), parse(changed))] == [
        "orders: default 0 -> 1",
        "orders: owner team-a -> team-b (served values unchanged)",
        "rank: added",
        "score: removed",
    ]
    assert diff(parse(), parse()) == ()
