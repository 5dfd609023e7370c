"""`mangaassist features`: every command on a home with a real history, and everything one can get wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.cli.journeys import Shell, new_story
from tests.features.catalogs import INTENT, INTENT_FILE

from mangaassist.core.clock import SystemClock, isoformat
from mangaassist.core.home import Home
from mangaassist.core.identity import request_id
from mangaassist.features.catalog import Catalog
from mangaassist.lifecycle.feature_reports import alarms
from mangaassist.lifecycle.jobs import watch_features
from mangaassist.lifecycle.platform import Platform
from mangaassist.serving.feature_reads import FeatureReads
from mangaassist.serving.router import NO_ANSWER, Answer, Arm, Language, Request

SHOPPERS = 40


@pytest.fixture
def now() -> datetime:
    return SystemClock().now()


@pytest.fixture
def stocked(tmp_path: Path, now: datetime) -> Shell:
    """Two nights of features of forty shoppers."""
    shell = Shell(tmp_path / "home")
    platform = Platform.open(Home.open(shell.home), SystemClock())
    for hours in (31, 7):
        deliver(platform, now - timedelta(hours=hours), orders=hours)
    return shell


def deliver(platform: Platform, event: datetime, *, orders: int) -> None:
    rows = pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in range(SHOPPERS)],
            "event_ts": [event] * SHOPPERS,
            "orders_90d": [orders + number for number in range(SHOPPERS)],
            "account_age_days": [100] * SHOPPERS,
            "returns_90d": [None, *[2] * (SHOPPERS - 1)],
        },
        schema_overrides={"returns_90d": pl.Int64},
    )
    platform.features.append(INTENT, "shopper", rows, ingested_at=event + timedelta(minutes=30))


def serve(shell: Shell, catalog: Catalog, *, reads: int, seed: int = 1) -> None:
    """``reads`` answers whose features were read online by ``catalog``, all of them kept."""
    platform, generator = shell.platform(), np.random.default_rng(seed)
    features = FeatureReads(platform.home, platform.online, pinned=lambda _: catalog, share=1.0)
    for _ in range(reads):
        at, user = platform.clock.now(), f"u{generator.integers(SHOPPERS + 10)}"
        request = Request("hello", request_id(generator), at, user)
        answer = Answer(
            request.request_id, "intent", NO_ANSWER, 1, Arm.CHAMPION, Language("en"), 1.0, 1, "", ()
        )
        features.beside(answer, request)
    features.stop()


def test_the_list_shows_every_feature(stocked: Shell) -> None:
    rows = stocked.json("features", "list")["features"]
    assert {row["name"] for row in rows if row["namespace"] == "intent"} == set(INTENT.features)
    assert "orders_90d" in stocked("features", "list").out


def test_reads_at_a_moment(stocked: Shell, now: datetime, tmp_path: Path) -> None:
    """What was known then, not what is known now; strangers and empty values with their reasons."""
    then = isoformat(now - timedelta(hours=3))
    body = stocked.json("features", "read", "intent", "--as-of", then, "--entity", "u1", "--entity", "nobody")
    first, second = body["rows"]
    assert first["user_id"] == "u1"
    assert first["features"]["orders_90d"] == {"value": 32, "reason": "value"}
    assert second["features"]["orders_90d"] == {"value": 0, "reason": "default"}
    keys = tmp_path / "keys.txt"
    keys.write_text("u0\nuser_id=u3\n", encoding="utf-8")
    at = isoformat(now)
    body = stocked.json(
        "features", "read", "intent", "--as-of", at, "--entities", str(keys), "--feature", "returns_90d"
    )
    assert [row["features"]["returns_90d"]["reason"] for row in body["rows"]] == ["missing", "value"]
    assert "u1" in stocked("features", "read", "intent", "--as-of", at, "--entity", "u1").out


def test_online_and_offline_reads_agree(stocked: Shell) -> None:
    made = stocked.json("features", "materialise", "intent")["generations"]
    assert [(one["built"], one["keys"], one["rows"]) for one in made] == [(True, SHOPPERS, 2 * SHOPPERS)]
    assert stocked.json("features", "materialise", "intent")["generations"][0]["built"] is False
    assert "Nothing new" in stocked("features", "materialise", "intent").out
    at = isoformat(SystemClock().now())
    arguments = (
        "features",
        "read",
        "intent",
        "--as-of",
        at,
        "--entity",
        "u1",
        "--entity",
        "u0",
        "--entity",
        "x",
    )
    offline, online = stocked.json(*arguments), stocked.json(*arguments, "--online")
    assert online["generation"] == made[0]["generation"]
    for before, after in zip(offline["rows"], online["rows"], strict=True):
        for name, cell in before["features"].items():
            assert {key: after["features"][name][key] for key in cell} == cell
    assert "u1" in stocked(*arguments, "--online").out


def test_what_can_be_said_wrongly(stocked: Shell, now: datetime) -> None:
    """One clear sentence each."""
    at = isoformat(now)
    read = ("features", "read", "intent")
    missing = stocked.error(*read, "--entity", "u1", code=2)
    assert (missing["field"], missing["got"]) == ("--as-of", "nothing")
    assert "there is no default" in missing["next_step"]
    unknown = stocked.error(*read, "--as-of", at, "--entity", "u", "--feature", "order_90d", code=2)
    assert unknown["next_step"] == "Did you mean 'orders_90d'?"
    assert stocked.error(*read, "--as-of", "yesterday", "--entity", "u", code=2)["field"] == "--as-of"
    late = isoformat(now + timedelta(days=1))
    assert stocked.error(*read, "--as-of", late, "--entity", "u", code=2)["field"] == "--as-of"
    assert stocked.error(*read, "--as-of", at, code=2)["field"] == "--entity"
    assert stocked.error(*read, "--as-of", at, "--entities", "/none", code=2)["field"] == "--entities"
    near = stocked.error("features", "read", "intnet", "--as-of", at, "--entity", "u", code=2)
    assert "intent" in near["next_step"]
    stocked("features", "materialise", "intent")
    past = stocked.error(*read, "--as-of", at, "--entity", "u1", "--online", code=2)
    assert "leave --online out" in past["next_step"]
    assert stocked.error("features", "leaks", "intent", code=2)["got"] == "none"
    new_story(stocked)
    bare = stocked.error("features", "status", "triage", code=2)
    assert bare["expected"] == "a story with features"


def test_parity_is_clean_then_finds_a_stale_store(stocked: Shell, now: datetime) -> None:
    assert stocked.json("features", "parity", "intent")["status"] == "insufficient"
    stocked("features", "materialise", "intent")
    serve(stocked, INTENT, reads=400)
    clean = stocked.json("features", "parity", "intent")
    verdicts = {one["name"]: one["status"] for one in clean["verdicts"]}
    assert {verdicts[f"features.parity.{name}"] for name in INTENT.features} == {"pass"}
    assert (clean["reads"], clean["cells"]) == (400, 1200)
    assert alarms(stocked.platform(), "intent") == []
    deliver(stocked.platform(), now - timedelta(hours=5, minutes=10), orders=900)
    serve(stocked, INTENT, reads=200, seed=2)
    skewed = stocked.json("features", "parity", "intent", code=1)
    failed = [one for one in skewed["verdicts"] if one["status"] == "fail"]
    assert [one["name"] for one in failed] == ["features.parity.orders_90d"]
    assert "behind the tables, last materialised" in failed[0]["sentence"]
    said = stocked("features", "parity", "intent", code=1).out
    assert "training reads" in said
    platform = stocked.platform()
    assert [one.name for one in alarms(platform, "intent")] == ["features.parity.orders_90d"]
    for _ in range(2):  # told once a day, however often it is looked at
        assert "features.parity.orders_90d" in watch_features(platform)
    told = [one for one in platform.outbox.recent() if "features.parity.orders_90d" in one["title"]]
    assert len(told) == 1


def test_status_tells_freshness_and_recency_apart(stocked: Shell) -> None:
    before = stocked.json("features", "status", "intent")
    assert (before["status"], before["online"], before["declared"]) == ("pass", [], [INTENT.version])
    stocked("features", "materialise", "intent")
    after = stocked.json("features", "status", "intent")
    assert [one["name"] for one in after["online"]] == [INTENT.version]
    names = {one["name"] for one in after["verdicts"]}
    assert {f"features.freshness.{name}" for name in INTENT.features} <= names
    assert {f"features.recency.{name}" for name in INTENT.features} <= names
    assert "newest signal" in stocked("features", "status", "intent").out


def test_diff_against_a_file_and_against_what_was_published(stocked: Shell, tmp_path: Path) -> None:
    assert stocked.json("features", "diff", "intent")["changes"] == []
    text = INTENT_FILE.read_text(encoding="utf-8")
    older = tmp_path / "older.yaml"
    older.write_text(text.replace("default: 0", "default: 1", 1), encoding="utf-8")
    body = stocked.json("features", "diff", "intent", "--against", str(older))
    (change,) = body["changes"]
    assert (change["field"], change["before"], change["after"], change["served"]) == (
        "default",
        "1",
        "0",
        True,
    )
    stocked("features", "materialise", "intent")
    published = stocked.json("features", "diff", "intent")
    assert [one["number"] for one in published["published"]] == [1]
    assert "No difference" in stocked("features", "diff", "intent").out


def test_a_story_of_ones_own_brings_its_catalog(tmp_path: Path, now: datetime) -> None:
    """FEA-2, FEA-7: features.yaml beside story.py, in a home, without a line of the package."""
    shell = Shell(tmp_path / "home")
    folder = new_story(shell, "tickets")
    story = folder / "story.py"
    text = story.read_text(encoding="utf-8").replace("    features=(),", '    features=("tickets_30d",),')
    story.write_text(text, encoding="utf-8")
    missing = shell.error("features", "read", "tickets", "--as-of", isoformat(now), "--entity", "u1", code=2)
    assert str(folder / "features.yaml") in missing["expected"]
    catalog = shell("features", "catalog", "intent").out
    path = folder / "features.yaml"
    path.write_text(catalog, encoding="utf-8")
    assert "expected 'tickets'" in shell("features", "catalog", "tickets", code=2).err
    catalog = catalog.replace("namespace: intent", "namespace: tickets")
    path.write_text(catalog, encoding="utf-8")
    assert "got 'tickets_30d'. Did you mean" in shell("features", "catalog", "tickets", code=2).err
    path.write_text(catalog.replace("orders_90d:", "tickets_30d:"), encoding="utf-8")
    assert shell.json("features", "catalog", "tickets")["path"] == str(path)
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "user_id,event_ts,ingested_at,account_age_days,tickets_30d,returns_90d\n"
        f"u1,{isoformat(now - timedelta(days=2))},{isoformat(now - timedelta(days=1))},400,3,0\n",
        encoding="utf-8",
    )
    shell("features", "append", "tickets", "shopper", str(rows))
    shell("features", "materialise", "tickets")
    for where in ((), ("--online",)):
        body = shell.json("features", "read", "tickets", "--as-of", "now", "--entity", "u1", *where)
        assert body["rows"][0]["features"]["tickets_30d"]["value"] == 3
    names = {row["namespace"] for row in shell.json("features", "list")["features"]}
    assert names == {"intent", "tickets"}
