"""GOV-3, GOV-4: an audit finds what no longer is what was written, and says what to do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import polars as pl
from tests.labels.rows import STORY, example, examples, labels, vote
from tests.promotion.samples import AT, add

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.governance.signing import Signature
from mangaassist.labels.versions import finalise
from mangaassist.lifecycle.auditing import audit_home
from mangaassist.lifecycle.platform import Platform


def test_a_signature_of_something_else_is_found(home: Home, clock: SimulatedClock) -> None:
    platform = Platform.open(home, clock)
    first = add(platform.registry, run="r1")
    add(platform.registry, run="r2")
    assert audit_home(platform).ok
    # A signature that is valid, but of the other version: appended the way a release with a bug might.
    wrong = Signature(**first.signatures["us"].as_dict())
    body = {"version": 2, "signature": wrong.as_dict()}
    platform.ledger.append(kind="registry.signed", subject="registry/intent", body=body, actor="x", at=AT)
    found = audit_home(platform)
    assert not found.ok
    assert "signature of intent/2" in found.sentence
    platform.keys.revoke("us", first.signatures["us"].key, reason="lost", actor="emi", at=AT)
    assert audit_home(platform).ok, "a revoked key is no damage; what it signed is not loaded"


def test_a_damaged_member_of_a_bundle_is_found(home: Home, clock: SimulatedClock) -> None:
    platform = Platform.open(home, clock)
    members = {role: platform.artifacts.put_files({"data": role.encode()}) for role in ("encoder", "index")}
    platform.bundles.register("search", members, evaluation=None, actor="mei", at=AT)
    assert audit_home(platform).ok
    blob = platform.artifacts.put(b"index")
    path = home.folder("artifacts") / blob[:2] / blob
    path.chmod(0o644)
    path.write_bytes(b"other")
    assert blob in audit_home(platform).sentence


def test_a_changed_label_table_is_found(home: Home, clock: SimulatedClock) -> None:
    """GOV-4: every pinned label version is read back and compared with its content hash."""
    clock.advance(timedelta(days=60))
    platform = Platform.open(home, clock)
    platform.labels.add_examples(STORY, examples(example("hello"), example("where is it")))
    platform.labels.add_labels(STORY, labels(vote("hello", "a", "vendor", "ann")))
    finalise(platform.labels, STORY, actor="retrain")
    found = audit_home(platform, labels=True)
    assert (found.ok, found.label_versions, found.first_bad) == (True, 1, None)
    abroad = audit_home(Platform.open(Home(home.path, Settings(region="jp")), clock), labels=True)
    assert (abroad.ok, abroad.label_versions, abroad.elsewhere) == (True, 0, ("intent",))
    assert "Labels of intent live in another region" in abroad.sentence
    [path] = (home.path / "warehouse").glob("labels/*/data/*.parquet")
    changed = pl.read_parquet(path).with_columns(label=pl.lit("b"))
    path.chmod(0o644)
    changed.write_parquet(path)
    assert "labels.intent" in audit_home(platform, labels=True).sentence
    assert audit_home(platform).ok, "only asked for where it may take long"


def test_a_broken_chain_says_where_and_what_to_do(home: Home, clock: SimulatedClock) -> None:
    platform = Platform.open(home, clock)
    for number in range(4):
        platform.ledger.append(kind="note", subject="x", body={"n": number}, actor="x", at=AT)
    platform.ledger.close()
    with closing(sqlite3.connect(home.path / "ledger.db")) as database:
        database.execute("update ledger_entries set actor = 'y' where sequence = 3")
        database.commit()
    found = audit_home(Platform.open(home, clock))
    assert (found.ok, found.entries, found.first_bad) == (False, 2, 3)
    assert found.sentence.startswith("Entry 3 was altered")
    assert "The 2 entries before it" in found.sentence
    assert "restore the ledger from a backup" in found.sentence
