"""A warehouse on S3, against a server that speaks its protocol: the same tables, clear words without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from tests.features.conftest import CATALOG
from tests.features.test_point_in_time import NOON, ask, row, table
from tests.labels.rows import NOW, STORY
from tests.labels.test_versions import fill

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import ExitCode, IntegrityError, Unavailable
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.features.catalog import Catalog
from mangaassist.features.store import FeatureStore
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.versions import finalise, read
from mangaassist.storage.ledger import Ledger
from mangaassist.storage.tables import Tables

HOUR = timedelta(hours=1)
BUCKET = "manga"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )


@pytest.fixture
def s3_home(home: Home, endpoint: str) -> Home:
    """A home whose warehouse is a bucket of its own server, under a prefix of its own test."""
    client(endpoint).create_bucket(Bucket=BUCKET)
    settings = Settings(
        warehouse=f"s3://{BUCKET}/{home.path.parent.name}",
        s3_endpoint=endpoint,
        s3_region="us-east-1",
        s3_access_key_id="key",
        s3_secret_access_key="secret",
    )
    return replace(home, settings=settings)


def objects(home: Home) -> dict[str, datetime]:
    prefix = home.settings.warehouse.partition(f"{BUCKET}/")[2] + "/"
    found = client(home.settings.s3_endpoint).list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return {one["Key"]: one["LastModified"] for one in found.get("Contents", [])}


def rows(*values: int) -> pa.Table:
    return pa.table({"n": list(values)})


def test_features_are_written_and_read_there(s3_home: Home) -> None:
    """FEA-1 on S3: two opened homes see each other's rows, and a pinned read repeats itself."""
    catalog = Catalog.parse(CATALOG, source="shop.yaml")
    writer = FeatureStore(Tables.open(s3_home))
    writer.append(catalog, "shopper", table(row(NOON - 3 * HOUR, None, 1)))
    pinned = writer.snapshots(catalog)
    writer.append(catalog, "shopper", table(row(NOON - 2 * HOUR, None, 2)))
    reader = FeatureStore(Tables.open(s3_home))
    for snapshots, value in ((pinned, 1), (None, 2)):
        found = reader.read(catalog, ask(("u", NOON)), ["orders"], as_of="at", snapshots=snapshots)
        assert found["orders"].to_list() == [value]
    assert not (s3_home.path / "warehouse").exists()
    assert any(key.endswith(".parquet") for key in objects(s3_home))


def test_labels_are_written_and_pinned_there(s3_home: Home) -> None:
    """LAB-2 on S3: a label version reads the same rows after more labels came."""
    store = LabelStore(Tables.open(s3_home), Ledger.open(s3_home), SimulatedClock(NOW))
    fill(store, "hello", "where is it")
    first = finalise(store, STORY, actor="retrain")
    known = read(store, STORY, first.number)
    assert known.height == 2
    fill(store, "more")
    assert finalise(store, STORY, actor="retrain").number == 2
    assert read(store, STORY, first.number).equals(known)
    store.ledger.close()


def test_expiry_frees_objects_and_keeps_what_is_pinned(s3_home: Home) -> None:
    """LAB-2: the collector lists the bucket as it lists a folder."""
    tables = Tables.open(s3_home)
    snapshots = [tables.append("labels.intent", rows(*range(step * 10, step * 10 + 10))) for step in range(4)]
    pinned, before = snapshots[1], objects(s3_home)
    known = tables.fingerprint("labels.intent", pinned)
    now = max(before.values()) + 2 * HOUR
    call: dict[str, Any] = {"older_than": now, "keep": [pinned], "now": now, "grace": HOUR}
    planned = tables.expire("labels.intent", **call)
    assert objects(s3_home) == before, "a dry run changes nothing"
    done = tables.expire("labels.intent", **call, dry_run=False)
    assert set(done.snapshots) == {snapshots[0], snapshots[2]}
    assert done.files == planned.files == len(before.keys() - objects(s3_home).keys()) > 0
    assert tables.fingerprint("labels.intent", pinned) == known
    assert sorted(tables.read("labels.intent")["n"]) == list(range(40))
    with pytest.raises(IntegrityError, match="no such snapshot"):
        tables.read("labels.intent", snapshot=snapshots[0])


@pytest.mark.service
def test_two_machines_share_postgres_and_a_bucket(s3_home: Home, tmp_path: Any, postgres_url: str) -> None:
    """Catalog on PostgreSQL, warehouse on S3: nothing of the tables is left on either machine."""
    settings = replace(s3_home.settings, catalog_url=postgres_url)
    one, other = (
        Tables.open(replace(Home.open(tmp_path / name), settings=settings)) for name in ("one", "other")
    )
    first = one.append("labels.intent", rows(1))
    other.append("labels.intent", rows(2))
    assert sorted(one.read("labels.intent")["n"]) == [1, 2]
    assert other.read("labels.intent", snapshot=first)["n"].to_list() == [1]
    for name in ("one", "other"):
        assert {path.name for path in (tmp_path / name).iterdir()} <= {"home.json", "locks"}
    one.close()
    other.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"warehouse": "s3://no-such-bucket/x"}, "NO_SUCH_BUCKET"),
        ({"s3_endpoint": "http://127.0.0.1:9"}, "NETWORK_CONNECTION"),
    ],
)
def test_a_bucket_that_does_not_answer(s3_home: Home, change: dict[str, str], says: str) -> None:
    """Exit 3 and one sentence that names the settings, for the first write and for a later read."""
    away = replace(s3_home, settings=replace(s3_home.settings, **change))
    with pytest.raises(Unavailable, match=f"expected a bucket that answers, got AWS Error {says}") as caught:
        Tables.open(away).append("labels.intent", rows(1))
    assert (caught.value.exit_code, "s3_endpoint" in caught.value.next_step) == (ExitCode.BROKEN, True)
    assert "Request ID" not in str(caught.value)


def test_a_server_that_went_away_is_no_damage(s3_home: Home) -> None:
    Tables.open(s3_home).append("labels.intent", rows(1))
    away = replace(s3_home, settings=replace(s3_home.settings, s3_endpoint="http://127.0.0.1:9"))
    with pytest.raises(Unavailable, match="expected a bucket that answers"):
        Tables.open(away).read("labels.intent")
    with pytest.raises(Unavailable, match="expected a bucket that answers"):
        Tables.open(away).append("labels.intent", rows(2))


def test_an_object_that_is_gone_is_damage(s3_home: Home) -> None:
    tables = Tables.open(s3_home)
    tables.append("labels.intent", rows(1))
    data = next(key for key in objects(s3_home) if key.endswith(".parquet"))
    client(s3_home.settings.s3_endpoint).delete_object(Bucket=BUCKET, Key=data)
    with pytest.raises(IntegrityError, match="Restore the warehouse"):
        tables.read("labels.intent")


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(Settings(s3_secret_access_key="hush"))
