"""Implicit feedback end to end: a file of events in, labels out, revised as the world does."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.labels.test_implicit import impression
from typer.testing import CliRunner

from mangaassist.cli.main import app
from mangaassist.core.clock import SimulatedClock, SystemClock
from mangaassist.core.errors import GateRefused, InputError
from mangaassist.core.home import Home
from mangaassist.core.identity import user_digest
from mangaassist.labels.event_intake import EventIntake
from mangaassist.labels.votes import current_votes
from mangaassist.lifecycle.implicit import exclude_user, label_events, receive_file
from mangaassist.lifecycle.intake import select_now
from mangaassist.lifecycle.maintenance import maintain
from mangaassist.lifecycle.platform import Platform
from mangaassist.simulation.clicks import simulate_clicks
from mangaassist.stories.scaffold import create_story

SHOP = "shop"
REQUESTS = 6_000
USER = "sim-user-7"


@pytest.fixture
def platform(home: Home, clock: SimulatedClock) -> Platform:
    create_story(SHOP, "text-classification", home.path)
    return Platform.open(home, clock)


@pytest.fixture
def log(clock: SimulatedClock, tmp_path: Path) -> Path:
    """Sixty days of simulated clicks until now."""
    events = simulate_clicks(
        np.random.default_rng(1), requests=REQUESTS, until=clock.now(), days=60, queries=12, shuffled=0.3
    ).events
    path = tmp_path / "clicks.parquet"
    events.write_parquet(path)
    return path


def standing(platform: Platform) -> dict[str, str]:
    votes = current_votes(platform.labels.labels(platform.story(SHOP)))
    return dict(votes.select("example_id", "label").rows())


def add(platform: Platform, events: list[dict[str, Any]]) -> None:
    intake = EventIntake.open(platform.home, SHOP, platform.clock)
    assert intake.receive(events).refusals == ()
    intake.close()


def test_events_become_labels_once(platform: Platform, log: Path, clock: SimulatedClock) -> None:
    received = receive_file(platform, SHOP, log)
    assert received["stored"] == received["events"] > REQUESTS
    assert (received["duplicates"], received["refused"]) == (0, {})
    report = label_events(platform, SHOP)
    assert [one["verdict"]["status"] for one in report["surfaces"]] == ["pass", "pass"]
    assert report["volumes"]["shown"] == 10 * report["volumes"]["lists"] >= 10 * (REQUESTS - 20)
    assert report["labels"]["added"] == sum(report["classes"].values()) > 50
    assert set(report["classes"]) == {"relevant", "irrelevant"}
    assert len(standing(platform)) == report["labels"]["added"]
    selected = select_now(platform, SHOP)
    assert selected.counts["train"] == report["labels"]["added"]
    assert set(selected.rows["source"]) == {"implicit"}
    assert selected.rows["group_id"].n_unique() == 12

    again = label_events(platform, SHOP)
    assert not any(again["labels"].values())
    assert len(platform.ledger.entries(subject=f"events/{SHOP}", kind="events.labelled")) == 1
    clock.advance(timedelta(days=20))
    assert receive_file(platform, SHOP, log)["stored"] == 0  # the same file, weeks later


def test_a_late_return_revises_the_label_and_the_past_stays_what_it_was(
    platform: Platform, clock: SimulatedClock, log: Path
) -> None:
    receive_file(platform, SHOP, log)
    first = label_events(platform, SHOP)
    was = standing(platform)
    then = clock.now()
    events = platform.tables.read(f"events.{SHOP}")
    pair = _bought_most(events)
    clock.advance(timedelta(hours=1))
    add(platform, _returns(events, pair, clock.now()))
    report = label_events(platform, SHOP)
    assert report["labels"]["revised"] >= 1
    assert report["volumes"]["returned"] > first["volumes"]["returned"]
    now = standing(platform)
    changed = {one for one in was if now.get(one, was[one]) != was[one]}
    assert {(was[one], now[one]) for one in changed} == {("relevant", "irrelevant")}

    replayed = label_events(platform, SHOP, as_of=then, dry_run=True)
    assert (replayed["evidence"], replayed["classes"]) == (first["evidence"], first["classes"])
    with pytest.raises(GateRefused, match="--dry-run"):
        label_events(platform, SHOP, as_of=then)
    with pytest.raises(InputError, match="up to now"):
        label_events(platform, SHOP, as_of=clock.now() + timedelta(seconds=1))


def _bought_most(events: pl.DataFrame) -> tuple[str, str]:
    queries = events.filter(pl.col("kind") == "impression").select("request_id", asked="query")
    bought = events.filter(pl.col("kind") == "purchase").join(queries, on="request_id")
    row = bought.group_by("asked", "item").len().sort("len", "asked", "item").row(-1)
    return str(row[0]), str(row[1])


def _returns(events: pl.DataFrame, pair: tuple[str, str], at: datetime) -> list[dict[str, Any]]:
    """Everybody sends that item back, and those who only looked bought and returned it too."""
    queries = events.filter(pl.col("kind") == "impression").select("request_id", asked="query")
    clicks = events.filter((pl.col("kind") == "click") & (pl.col("item") == pair[1])).join(
        queries.filter(pl.col("asked") == pair[0]), on="request_id"
    )
    return [
        {
            "event_id": f"return-{request}",
            "kind": "return",
            "request_id": request,
            "at": at.isoformat(),
            "item": pair[1],
            "position": position,
        }
        for request, position in clicks.select("request_id", "position").rows()
    ]


def test_an_excluded_user_counts_for_nothing_and_is_not_named(platform: Platform, log: Path) -> None:
    receive_file(platform, SHOP, log)
    before = label_events(platform, SHOP)
    events = platform.tables.read(f"events.{SHOP}")
    lists = events.filter(pl.col("user") == user_digest(USER))["request_id"]
    theirs, acts = len(lists), events.filter(pl.col("request_id").is_in(lists.implode()))
    done = exclude_user(platform, SHOP, USER, actor="me", reason="asked for it")
    assert (done["already"], done["excluded"], done["erased"]) == (False, 1, acts.height)
    left = platform.tables.read(f"events.{SHOP}").sort("event_id")
    assert left.equals(events.join(acts, on="event_id", how="anti").sort("event_id"))
    (entry,) = platform.ledger.entries(kind="events.erased")
    assert entry.body == {"lists": theirs, "events": acts.height}
    assert exclude_user(platform, SHOP, USER, actor="me", reason="again")["already"]
    after = label_events(platform, SHOP)
    assert theirs > 0
    assert after["volumes"]["lists"] == before["volumes"]["lists"] - theirs
    assert after["volumes"]["clicked"] < before["volumes"]["clicked"]
    assert after["left_out"] == before["left_out"]
    assert after["evidence"] != before["evidence"]
    assert USER not in str([entry.body for entry in platform.ledger.entries(subject=f"events/{SHOP}")])
    with pytest.raises(InputError, match="why"):
        exclude_user(platform, SHOP, "other", actor="me", reason=" ")
    # What they do later is left out, counted, and erased once labels are made.
    late = impression("late", platform.clock.now(), user=user_digest(USER))
    add(platform, [late])
    assert label_events(platform, SHOP)["volumes"]["excluded_lists"] == 1
    assert platform.tables.read(f"events.{SHOP}").height == left.height
    # After the time snapshots are kept, no file on the disk has them.
    maintain(platform, dry_run=False, file_clock=SimulatedClock(SystemClock().now() + timedelta(days=9)))
    files = (platform.home.path / "warehouse" / "events" / SHOP / "data").rglob("*.parquet")
    kept = pl.concat([pl.read_parquet(one, columns=["request_id", "user"]) for one in files])
    assert user_digest(USER) not in set(kept["user"])
    assert not set(lists) & set(kept["request_id"])


def test_without_enough_to_correct_with_there_are_no_labels(
    platform: Platform, clock: SimulatedClock, tmp_path: Path
) -> None:
    """A ranker that never moves an item: clicks there are, examination there is none."""
    events = simulate_clicks(
        np.random.default_rng(2), requests=2_000, until=clock.now(), days=60, shuffled=0.0, wobble=0.0
    ).events
    events.write_parquet(tmp_path / "fixed.parquet")
    receive_file(platform, SHOP, tmp_path / "fixed.parquet")
    report = label_events(platform, SHOP)
    assert [one["verdict"]["status"] for one in report["surfaces"]] == ["insufficient"] * 2
    assert all(at["value"] is None for one in report["surfaces"] for at in one["positions"])
    assert not any(report["labels"].values())
    assert standing(platform) == {}


def test_who_takes_no_implicit_labels_says_so(platform: Platform) -> None:
    with pytest.raises(InputError, match="'intent', which takes vendor, programmatic, llm"):
        label_events(platform, "intent")
    with pytest.raises(InputError, match=f"mangaassist labels events {SHOP} FILE"):
        label_events(platform, SHOP)


def test_the_commands(tmp_path: Path) -> None:
    runner, home = CliRunner(), str(tmp_path / "home")

    def run(*words: str) -> dict[str, Any]:
        done = runner.invoke(app, ["--home", home, "labels", *words, "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    new = runner.invoke(app, ["--home", home, "story", "new", SHOP, "--kind", "text-classification"])
    assert new.exit_code == 0, new.output
    file = tmp_path / "clicks.jsonl"
    written = run("simulate-clicks", str(file), "--requests", "3000", "--days", "60", "--seed", "4")
    assert written["simulated"] is True
    file.write_text(file.read_text() + '{"event_id": "x", "kind": "dwell"}\nnot json\n')
    received = run("events", SHOP, str(file))
    assert received["stored"] == written["events"]
    assert received["refused"] == {"no_request_id": 1, "not_an_object": 1}
    line = f"event: expected a JSON object, got line {written['events'] + 2}, which is no JSON."
    assert {"event_id": None, "sentence": line} in received["refusals"]
    tried = run("implicit", SHOP, "--dry-run")
    assert tried["labels"]["added"] > 0
    assert run("exclude", SHOP, USER, "--reason", "asked for it")["user"] == user_digest(USER)
    made = run("implicit", SHOP)
    assert made["labels"]["added"] > 0
    assert made["volumes"]["excluded_lists"] == 0
    assert run("events", SHOP)["stored"] == 0
    shown = runner.invoke(app, ["--home", home, "labels", "implicit", SHOP])
    assert "is looked at" in shown.output
