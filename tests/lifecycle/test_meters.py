"""Meters: windows counted from the log and from what waits for it, at both steps (INC-2, INC-3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents.alarms import MINUTE, TICK
from mangaassist.incidents.records import Series
from mangaassist.lifecycle import probe_history
from mangaassist.lifecycle.meters import DAYS, FEWEST, MIX_LIMIT, WEEKS, Grid, Meter
from mangaassist.lifecycle.platform import Platform
from mangaassist.serving.prediction_log import Outcome, PredictionLog, PredictionRecord

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def answer(
    at: datetime,
    *,
    language: str = "en",
    confidence: float = 0.8,
    error: str | None = None,
    latency: float = 10.0,
    story: str = "intent",
) -> PredictionRecord:
    return PredictionRecord(
        request_id=f"{at.isoformat()}-{language}-{confidence}",
        at=at,
        story=story,
        version=1,
        answered_by=1,
        arm="champion",
        epoch=1,
        shadow_of=None,
        user=None,
        language=language,
        cohort=None,
        device=None,
        input_digest="x",
        text_length=3,
        japanese_share=0.0,
        unknown_share=None,
        label="greeting",
        confidence=confidence,
        abstains=False,
        latency_ms=latency,
        error=error,
    )


@pytest.fixture
def platform(home: Home) -> Platform:
    return Platform.open(home, SimulatedClock(NOON))


def only(found: list[Series], name: str, cohort: str = "all") -> Series:
    (one,) = [one for one in found if (one.name, one.cohort) == (name, cohort)]
    return one


def test_rows_in_the_table_and_rows_that_wait_are_one_series(platform: Platform) -> None:
    """A minute is there as soon as it has ended, drained or not, and nothing counts twice."""
    log = PredictionLog.open(platform.home, "intent")
    before, now = NOON - timedelta(minutes=7), NOON - timedelta(minutes=2)
    log.write([answer(before + n * timedelta(seconds=1), confidence=0.9) for n in range(FEWEST)])
    log.drain(platform.tables)
    late = [answer(now + n * timedelta(seconds=1), confidence=0.5, latency=100.0) for n in range(FEWEST)]
    log.write([*late, answer(now + timedelta(seconds=50), error="ValueError")])
    log.write_outcomes([Outcome("a", "intent", n % 2 == 0, now) for n in range(FEWEST)])
    meter = Meter(platform, "intent", fine=True)
    for _ in range(2):
        meter.follow(NOON)
        minutes = Grid.until(NOON, DAYS, MINUTE)
        values = only(list(meter.series("quality", minutes)), "intent.confidence").values
        assert values[[-7, -2]] == pytest.approx([0.9, 0.5])
        assert np.isfinite(values).sum() == 2
        errors = only(list(meter.series("errors", minutes)), "intent.error_rate").values
        assert errors[[-7, -2]] == pytest.approx([0.0, 1 / (FEWEST + 1)])
        resolved = only(list(meter.series("quality", minutes)), "intent.resolved").values
        assert resolved[-2] == pytest.approx(0.5)
        (tail,) = meter.series("latency", Grid.until(NOON, WEEKS))
        assert tail.at(len(tail.values) - 1) == NOON
        assert tail.values[[-2, -1]] == pytest.approx([10.0, 100.0], rel=0.1)
        (requests,) = meter.series("upstream", Grid.until(NOON, WEEKS))
        assert requests.values[-2:].tolist() == [FEWEST, FEWEST + 1]
        log.drain(platform.tables)
    log.close()


def test_other_people_are_another_mix_and_a_few_are_none(platform: Platform) -> None:
    """Traffic of a day before is the usual one; half an hour of 600 says something, one of 60 does not."""
    log = PredictionLog.open(platform.home, "intent")
    day, half = timedelta(days=1), timedelta(minutes=25)
    usual = [answer(NOON - day - half + n * timedelta(seconds=2)) for n in range(500)]
    usual += [answer(NOON - day - half + n * timedelta(seconds=10), language="ja") for n in range(100)]
    log.write(usual)
    meter = Meter(platform, "intent")

    def mix() -> float:
        meter.follow(NOON)
        (found,) = meter.series("traffic_mix", Grid.until(NOON, WEEKS)) or [None]
        return float(found.values[-1]) if found is not None else float("nan")

    log.write([answer(NOON - half + n * timedelta(seconds=20), language="ja") for n in range(60)])
    meter.follow(NOON)
    assert list(meter.series("traffic_mix", Grid.until(NOON, WEEKS))) == []
    log.write([answer(NOON - half + n * timedelta(seconds=2), language="ja") for n in range(500)])
    log.close()
    assert mix() == pytest.approx(500 / 600, abs=0.01)
    assert mix() > MIX_LIMIT


def test_probes_are_remembered_by_component(platform: Platform) -> None:
    def asked(status: Status, value: float | None) -> list[Verdict]:
        return [Verdict("probe.model.intent", status, "", value, threshold=1000.0)]

    for minutes, found in (
        (7, asked(Status.PASS, 250.0)),
        (3, asked(Status.FAIL, 20.0)),
        (2, asked(Status.PASS, 30.0)),
    ):
        probe_history.remember(platform, found, at=NOON - minutes * MINUTE)
    (series,) = probe_history.series(platform, Grid.until(NOON, DAYS))
    assert (series.name, series.component, series.step) == ("intent.answer_time", "intent", TICK)
    # A wrong answer that came fast is beyond the limit all the same.
    assert series.values[-2:].tolist() == [0.25, probe_history.WRONG]
