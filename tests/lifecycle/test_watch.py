"""The hub at work: counted once, commit by commit, and equal to counting everything again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.drift.frames import START, STORY, traffic

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.drift import store
from mangaassist.drift.hub import DriftReport, read_history
from mangaassist.drift.profile import merge_profiles
from mangaassist.lifecycle import watch as watching
from mangaassist.lifecycle.jobs import tell_proposal
from mangaassist.lifecycle.monitoring import (
    PROPOSED,
    Monitor,
    check,
    check_all,
    next_step,
    reference_cursor,
    spent,
)
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.rollout import read_predictions
from mangaassist.lifecycle.triage import barred, judge
from mangaassist.lifecycle.watch import Watch
from mangaassist.serving.prediction_log import PREDICTION_SCHEMA, predictions_table

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NAME = STORY.name
LOG = predictions_table(NAME)


class Shop(Platform):
    """A home whose champion is version 1 (or whatever :attr:`champion` says), with a log and late labels."""

    def __init__(self, home: Home) -> None:
        super().__init__(home, SimulatedClock(START))
        self.champion: int | None = 1
        self.known = pl.DataFrame(
            schema={
                "input_digest": pl.String(),
                "at": pl.Datetime("us", "UTC"),
                "truth": pl.String(),
                "known_at": pl.Datetime("us", "UTC"),
            }
        )

    @property
    def registry(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(
            stories=lambda: [NAME],
            versions=lambda _: [],
            deployment=lambda _: SimpleNamespace(champion=self.champion),
        )

    def story(self, name: str) -> Any:
        assert name == NAME
        return STORY

    def serve(self, frame: pl.DataFrame, *, version: int = 1) -> None:
        """Log ``frame`` and draw every fourth request for labels."""
        digests = [f"{version}-{at.isoformat()}-{i}" for i, at in enumerate(frame["at"])]
        rows = frame.with_columns(
            pl.Series("input_digest", digests),
            request_id=pl.Series(digests),
            story=pl.lit(NAME),
            version=pl.lit(version),
            answered_by=pl.lit(version),
            arm=pl.lit("champion"),
            epoch=pl.lit(1),
            japanese_share=pl.when(pl.col("language") == "ja").then(0.9).otherwise(0.0),
            abstains=pl.lit(value=False),
            latency_ms=pl.lit(1.0),
            features_stale=pl.lit(value=False),
        )
        absent = [pl.lit(None).alias(one) for one in PREDICTION_SCHEMA.names if one not in rows.columns]
        logged = rows.with_columns(absent).select(PREDICTION_SCHEMA.names).to_arrow().cast(PREDICTION_SCHEMA)
        self.tables.append(LOG, logged)
        self.known = pl.concat([self.known, rows.gather_every(4).select(self.known.columns)])

    def truths(self) -> pl.DataFrame:
        return self.known.filter(pl.col("known_at") <= self.clock.now())


@pytest.fixture
def shop(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    made = Shop(home)

    def truths(platform: Shop, _: Any) -> pl.DataFrame:
        return platform.truths()

    monkeypatch.setattr("mangaassist.lifecycle.monitoring.truths", truths)
    monkeypatch.setattr(watching, "truths", truths)
    with closing(made.tables), closing(made.ledger):
        yield made


def hours(shop: Shop, count: int, *, seed: int, **changes: Any) -> None:
    """Let hours pass with 60 requests each, logged in one commit."""
    clock: Any = shop.clock
    start, lasts = clock.now(), count * HOUR
    shop.serve(traffic(60 * count, seed=seed, start=start, lasts=lasts, **changes))
    clock.advance_to(start + lasts)


def recomputed(shop: Shop) -> Monitor:
    """What counting the whole log again gives."""
    log = read_predictions(shop, NAME)
    again = Monitor.open(shop, NAME, log)
    again.observe(log)
    again.learn(log, shop.truths())
    return again


def plain(report: DriftReport) -> dict[str, Any]:
    return report.as_dict()


@pytest.mark.parametrize("restarts", ["never", "sometimes"])
def test_looks_at_increments_equal_looks_at_everything(shop: Shop, restarts: str) -> None:
    """DRF-2: every report, through saves, restarts and a drift, is the one the whole log gives."""
    hours(shop, 30, seed=1)
    generator = np.random.default_rng(3)
    watch = Watch(shop)
    watch.look(NAME)
    watch.save()
    fired = []
    for step in range(12):
        hours(shop, 5, seed=1000 + step, japanese=0.3 if step < 3 else 0.8)
        expected = recomputed(shop).look(shop.clock.now())
        if restarts == "sometimes" and generator.random() < 0.5:
            watch = Watch(shop)
        report = watch.look(NAME)
        assert plain(report) == plain(expected)
        watch.save(every=timedelta(hours=int(generator.integers(0, 8))))
        fired.append(tuple(map(str, report.fired)))
    assert fired[0] == ()
    assert "input" in fired[-1]


def test_the_log_is_read_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """DRF-2: a look at nothing new opens no file of the log, and a restart only what was not stored."""
    hours(shop, 30, seed=1)
    watch = Watch(shop)
    watch.look(NAME)
    hours(shop, 5, seed=50)
    asked: list[tuple[int, int]] = []
    since = shop.tables.since

    def spied(name: str, after: int, **options: Any) -> Any:
        found = since(name, after, **options)
        if name == LOG:
            asked.append((after, 0 if found[0] is None else found[0].height))
        return found

    monkeypatch.setattr(shop.tables, "since", spied)
    for _ in range(3):
        watch.look(NAME)
    watch.save()
    Watch(shop).look(NAME)
    assert asked == [(1, 300), (2, 0), (2, 0), (2, 0)]


def test_two_hubs_count_nothing_twice(shop: Shop) -> None:
    """DRF-2: hubs that count and store the same stretch, in any order, agree with counting it all again."""
    hours(shop, 26, seed=1)
    one, two = Watch(shop), Watch(shop)
    for step in range(6):
        hours(shop, 2, seed=100 + 10 * step)
        one.look(NAME)
        if step % 2:
            hours(shop, 1, seed=500 + step)
        two.look(NAME)
        for hub in (one, two) if step % 3 else (two, one):
            hub.save()
    one.look(NAME)
    one.save()
    expected = recomputed(shop).requests.within(START, shop.clock.now())
    rows = shop.tables.since(store.table(NAME), 0)[0]
    assert rows is not None
    taken, cursor = store.in_turn(rows, cursor=reference_cursor(shop, NAME, 1))
    assert rows["rows"].sum() > taken["rows"].sum(), "both hubs stored the same stretch at least once"
    assert store.merge_rows(taken, expected) == merge_profiles(
        [window.profile for window in store.windows_of(taken, expected)]
    )
    assert cursor == shop.tables.since(LOG, 0, columns=["at"])[1]
    requests = store.merge_rows(taken, expected)
    assert (requests.inputs, requests.label) == (expected.inputs, expected.label)


def test_a_new_champion_starts_anew(shop: Shop) -> None:
    """DRF-4: its reference is its own traffic, and its windows are its own rows."""
    hours(shop, 26, seed=1)
    watch = Watch(shop)
    assert watch.look(NAME).version == 1
    shop.serve(traffic(500, seed=7, start=shop.clock.now() - HOUR, lasts=HOUR), version=2)
    shop.champion = 2
    assert watch.look(NAME).version == 2
    watch.save()
    shop.serve(traffic(300, seed=8, start=shop.clock.now(), lasts=HOUR), version=2)
    shop.serve(traffic(300, seed=9, start=shop.clock.now(), lasts=HOUR), version=1)
    clock: Any = shop.clock
    clock.advance_to(clock.now() + HOUR)
    report = watch.look(NAME)
    assert {one.n for one in report.verdicts if one.name.startswith("drift.input")} == {300}


def test_unchanged_findings_are_written_hourly_and_news_at_once(shop: Shop) -> None:
    """DRF-2: looking every five minutes does not mean a commit every five minutes."""
    hours(shop, 30, seed=1)
    watch, clock = Watch(shop), shop.clock
    assert isinstance(clock, SimulatedClock)
    for _ in range(36):
        watch.look(NAME)
        watch.save(every=HOUR)
        clock.advance_to(clock.now() + timedelta(minutes=5))
    looks = read_history(shop.tables, NAME).filter(pl.col("name") == "drift.prediction")
    assert 3 <= looks.height <= 4
    assert len(shop.tables.properties("drift." + NAME)) <= 6


def test_one_look_from_the_command(shop: Shop) -> None:
    """DRF-2: check and check_all leave their findings and windows behind; no champion is said, not raised."""
    hours(shop, 26, seed=1)
    report = check(shop, NAME)
    fleet = check_all(shop)
    assert fleet.reports[NAME].version == report.version == 1
    assert read_history(shop.tables, NAME).height == len(report.verdicts)
    shop.champion = None
    assert "no champion" in check_all(shop).unwatched[NAME]


def proposals(shop: Shop) -> list[str]:
    return [
        entry.body["action"] for entry in shop.ledger.entries(subject=f"monitoring/{NAME}", kind=PROPOSED)
    ]


def test_an_outage_pages_once_and_bars_every_retrain_until_it_is_over(shop: Shop) -> None:
    """DRF-3: with hours of silence even the first retrain waits; traffic that returns lifts it."""
    clock: Any = shop.clock
    for day in range(5):
        hours(shop, 24, seed=day)
    watch = Watch(shop)
    watch.look(NAME)
    for day in range(5):
        hours(shop, 24, seed=10 + day)
    watch.look(NAME)
    assert proposals(shop) == ["retrain"], "a story without a version wants its first"
    clock.advance_to(clock.now() + 5 * HOUR)
    for hub in (watch, Watch(shop)):
        hub.look(NAME)
        hub.save()
    assert proposals(shop) == ["retrain", "page"]
    assert "outage" in barred(shop, NAME)
    assert "corrupted data" in next_step(shop, NAME, None).reason
    found = Watch(shop).triage(NAME)
    assert (str(found.conclusion), str(found.proposal)) == ("outage", "page_data_platform")
    hours(shop, 24, seed=99)
    watch.look(NAME)
    assert barred(shop, NAME) == ""


def test_a_run_that_registers_nothing_is_tried_again_by_the_cadence(shop: Shop) -> None:
    """RET-1: the first retrain is proposed once; when its run stops early, the cadence asks a week later."""
    clock: Any = shop.clock
    assert str(next_step(shop, NAME, None).cause) == "first"
    body = {"version": None, "steps": []}
    shop.ledger.append(kind="run.ended", subject=f"run/{NAME}", body=body, actor="test", at=clock.now())
    clock.advance_to(START + 6 * DAY)
    assert str(next_step(shop, NAME, None).action) == "nothing"
    clock.advance_to(START + 7 * DAY)
    assert str(next_step(shop, NAME, None).cause) == "cadence"
    assert proposals(shop) == ["retrain", "retrain"]


@pytest.mark.parametrize(
    ("action", "severity", "told"),
    [
        ("page", "", [("SEV-2", ["data_platform", "on_call"])]),
        ("review", "", [("SEV-4", ["ml_platform_owner"])]),
        ("retrain", "SEV-3", [("SEV-3", ["on_call", "ml_platform_owner"])]),
        ("retrain", "", []),
    ],
)
def test_people_hear_what_is_left_to_them_once(
    shop: Shop, action: str, severity: str, told: list[tuple[str, list[str]]]
) -> None:
    """DRF-3: corruption pages the data platform, unsafe slices are SEV-3, reviews have an owner."""
    body = {"action": action, "severity": severity, "reason": "The world moved.", "key": "k"}
    for _ in range(2):
        shop.ledger.append(
            kind=PROPOSED, subject=f"monitoring/{NAME}", body=body, actor="t", at=shop.clock.now()
        )
        tell_proposal(shop, NAME)
    assert [(one["severity"], one["roles"]) for one in shop.outbox.recent()] == told


def test_a_column_that_changes_its_type_is_found_and_does_not_stop_the_hub(shop: Shop) -> None:
    """DRF-3: a number that comes as text counts as missing, and the triage names both."""
    hours(shop, 26, seed=1)
    monitor = Monitor.open(shop, NAME)
    clock: Any = shop.clock
    rows = read_predictions(shop, NAME).with_columns(
        pl.col("text_length").cast(pl.String), at=pl.lit(clock.now() + timedelta(minutes=1))
    )
    clock.advance_to(clock.now() + HOUR)
    monitor.observe(rows)
    found = judge(monitor, monitor.look(clock.now()))
    assert str(found.conclusion) == "schema_break"
    assert "text_length was a number and is String" in found.reason


def test_what_runs_cost_this_month(shop: Shop) -> None:
    """RET-1, GOV-6: processor seconds of steps that ran, at the settings' price; cached ones are free."""
    assert spent(shop, NAME, START) == 0.0
    steps = [
        {"status": "done", "compute_seconds": 1800.0},
        {"status": "cached", "compute_seconds": 9e9},
        {"status": "failed", "compute_seconds": None},
    ]
    for days in (40, 3):
        at = START - days * DAY
        shop.ledger.append(
            kind="run.ended", subject=f"run/{NAME}", body={"steps": steps}, actor="test", at=at
        )
    price = shop.home.settings.cpu_second_price
    assert spent(shop, NAME, START) == pytest.approx(1800 * price)
