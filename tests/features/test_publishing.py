"""Schema versions in the ledger: numbered, compared, read back exactly, never with two meanings."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import sqlalchemy as sa
from tests.features.catalogs import INTENT
from tests.features.test_catalog import GOOD, parse

from mangaassist.core.errors import GateRefused, InputError, IntegrityError
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json
from mangaassist.features.publishing import PUBLISHED, SchemaVersion, history, publish, published
from mangaassist.storage.ledger import Ledger

AT = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    opened = Ledger.open(home)
    yield opened
    opened.close()


def put(ledger: Ledger, text: str = GOOD) -> SchemaVersion:
    return publish(ledger, parse(text), actor="ada", at=AT)


def test_any_change_is_a_new_version_with_a_readable_diff(ledger: Ledger) -> None:
    """FEA-2: owner, description and promise too; only what decides values moves the served fingerprint."""
    first = put(ledger)
    assert (first.number, first.changes, first.actor, first.at) == (1, (), "ada", AT)
    for number, (old, new, line, served) in enumerate(
        (
            ("team-a", "team-b", "orders: owner team-a -> team-b (served values unchanged)", False),
            ("Orders.", "Paid.", "orders: description Orders. -> Paid. (served values unchanged)", False),
            ("26h", "48h", "orders: freshness_sla 1 day, 2:00:00 -> 2 days, 0:00:00 (served", False),
            ("default: 0", "default: 7", "orders: default 0 -> 7", True),
            ("score:", "rank:", "rank: added", True),
        ),
        start=2,
    ):
        found = put(ledger, GOOD.replace(old, new))
        assert found.number == number
        assert any(change.startswith(line) for change in found.changes)
        assert (found.catalog.fingerprint != first.catalog.fingerprint) == served
    assert [one.number for one in history(ledger, "shop")] == [1, 2, 3, 4, 5, 6]


def test_publishing_twice_is_publishing_once(ledger: Ledger) -> None:
    """Also with comments, and features in another order; going back is a version of its own."""
    first = put(ledger)
    assert put(ledger, "# a comment\n" + GOOD) == first
    head, orders = GOOD.partition("      orders:")[0], GOOD[GOOD.index("      orders:") :]
    orders, mark, score = orders.partition("      score:")
    assert put(ledger, head + mark + score + orders) == first
    put(ledger, GOOD.replace("team-a", "team-b"))
    assert put(ledger).number == 3
    assert ledger.head() == 3


def test_every_version_is_read_back_exactly(ledger: Ledger) -> None:
    """FEA-4: the pinned catalog, values and types, by number or by served fingerprint."""
    put(ledger)
    put(ledger, GOOD.replace("default: 0", "default: -3").replace("default: 1", "default: 0.1"))
    put(ledger, GOOD.replace("team-a", "team-b"))
    one = published(ledger, "shop", number=1)
    assert one.catalog == parse()
    assert type(one.catalog.features["score"].default) is float
    assert published(ledger, "shop", number=2).catalog.features["orders"].default == -3
    assert published(ledger, "shop").number == 3
    assert published(ledger, "shop", fingerprint=parse().fingerprint).number == 3
    assert published(ledger, "shop", fingerprint=parse().fingerprint, number=1).number == 1
    publish(ledger, INTENT, actor="ada", at=AT)
    assert published(ledger, "intent").catalog == INTENT


def test_unknown_versions(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="Publish the catalog first"):
        published(ledger, "shop")
    put(ledger)
    with pytest.raises(InputError, match="Did you mean 'shop'"):
        published(ledger, "shpo")
    with pytest.raises(InputError, match=r"with number 9.*Published numbers: 1"):
        published(ledger, "shop", number=9)
    with pytest.raises(InputError, match="with served fingerprint abab"):
        published(ledger, "shop", fingerprint="ab" * 32)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("dtype: int", "dtype: float", "feature 'orders': expected dtype int, as in shop v1, got float"),
        ("entity: user_id", "entity: account", "view 'shopper': expected entity user_id, as in shop v1"),
    ],
)
def test_a_name_never_means_two_things(ledger: Ledger, old: str, new: str, says: str) -> None:
    """A changed dtype needs a new name, also after the old feature was removed."""
    put(ledger)
    with pytest.raises(GateRefused, match=says):
        put(ledger, GOOD.replace(old, new))
    put(ledger, GOOD.replace("orders:", "orders_90d:"))
    with pytest.raises(GateRefused, match="new name"):
        put(ledger, GOOD.replace(old, new))
    assert put(ledger).number == 3


def test_publishers_at_once_lose_nothing(ledger: Ledger) -> None:
    """Compare-and-swap: eight catalogs in eight threads are eight versions, each compared with the last."""
    texts = [GOOD.replace("default: 0", f"default: {n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: put(ledger, text), texts))
    known = history(ledger, "shop")
    assert [one.number for one in known] == list(range(1, 9))
    for before, after in pairwise(known):
        was, now = (one.catalog.features["orders"].default for one in (before, after))
        assert after.changes == (f"orders: default {was} -> {now}",)


def test_an_altered_catalog_is_noticed(ledger: Ledger) -> None:
    """By the digest in the entry, even when somebody forged the entry's own."""
    entry_body = dict(ledger.entries(subject=f"features/{put(ledger).catalog.namespace}")[0].body)
    entry_body["catalog"]["features"]["orders"]["default"] = 99
    ledger.append(kind=PUBLISHED, subject="features/shop", body=entry_body, actor="eve", at=AT)
    with pytest.raises(IntegrityError, match="shop v1"):
        history(ledger, "shop")


def test_an_edited_entry_is_noticed(ledger: Ledger, home: Home) -> None:
    put(ledger)
    engine = sa.create_engine(f"sqlite:///{home.path / 'ledger.db'}")
    body = {**ledger.entries()[0].body, "number": 2}
    with engine.begin() as connection:
        connection.execute(
            sa.text("update ledger_entries set body = :body"), {"body": canonical_json(body).decode()}
        )
    engine.dispose()
    with pytest.raises(IntegrityError):
        history(ledger, "shop")
