"""Alarms (INC-3): calibrated for the fleet, dated, and nothing lost in a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from benchmarks import bench_alarms

from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.incidents import alarm_state, calibration
from mangaassist.incidents.alarms import (
    MINUTE,
    TICK,
    Label,
    Watch,
    fleet_thresholds,
    recovered,
    tick,
    watch,
)
from mangaassist.incidents.baselines import fit, hours_of
from mangaassist.incidents.records import Alarm
from mangaassist.incidents.watches import Stretch, Watches, begun, follow
from mangaassist.stats.change_points import shift_interval
from mangaassist.stats.domain import FloatArray

TICKS_A_WEEK, EACH = calibration.TICKS_A_WEEK, calibration.EACH
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
# Nothing in it is as in the noise the thresholds were calibrated on.
OTHER_NOISE = calibration.Noise(
    correlation=(0.1, 0.5), degrees=5.0, season=2.0, night=0.4, wild=0.001, missing=0.03
)


def begin(history: FloatArray) -> Watch:
    labels = [Label("quality", f"model.metric_{one}", "all") for one in range(history.shape[1])]
    return watch(labels, fit(history, hours_of(MONDAY, TICK, len(history))), thresholds=fleet_thresholds(480))


def followed(now: Watch, values: FloatArray, start: datetime) -> tuple[Watch, list[Alarm]]:
    found: list[Alarm] = []
    for index, row in enumerate(values):
        now, alarms = tick(now, row, start + index * TICK)
        found += alarms
    return now, found


def quiet(ticks: int, series: int = 4, seed: int = 3) -> FloatArray:
    return calibration.quiet(ticks, series, calibration.Noise(), np.random.default_rng(seed))


def test_a_quiet_fleet_is_within_its_budget_at_both_paces() -> None:
    """Half a week of 480: at exactly the budget of 0.5 more than 4 have a chance of 2 in 10,000."""
    found = bench_alarms.quiet_fleet(0.5, seed=5, noise=OTHER_NOISE)
    assert found["weeks"] == pytest.approx(0.5, abs=0.02)
    assert found["alarms"] <= 4
    minutes, ticks = calibration.quiet_minutes(1, 40, OTHER_NOISE, np.random.default_rng(6))
    textbook = {"fast": 4.0, "slow": 5.0}
    assert calibration.false_alarms(ticks, textbook)[0] > 20, "this test can tell a bad threshold"
    assert calibration.false_alarms(minutes, {"quick": 4.5})[0] > 20


@pytest.mark.soak
@pytest.mark.parametrize("noise", [calibration.MINUTES, OTHER_NOISE])
def test_over_many_weeks_the_rate_is_within_budget(noise: calibration.Noise) -> None:
    found = bench_alarms.quiet_fleet(60, seed=11, noise=noise)
    # 60 expected at most; one more than 1.4 a week would be four standard errors above one.
    assert found["a_week"] < 1.4


def test_minutes_find_a_collapse_sooner_and_it_is_told_once() -> None:
    """The same fall at both paces: one alarm, from the minutes, and over when both are back to usual."""
    minutes = calibration.quiet(
        EACH * (TICKS_A_WEEK + 150), 3, calibration.MINUTES, np.random.default_rng(8), step=MINUTE
    )
    history, began, ended = EACH * TICKS_A_WEEK, EACH * (TICKS_A_WEEK + 20), EACH * (TICKS_A_WEEK + 60)
    minutes[began:ended, 1] -= 8.0
    labels = tuple(Label("quality", f"model.metric_{one}", "all") for one in range(3))
    first = MONDAY + MINUTE

    def stretches(until: int) -> tuple[Stretch, Stretch]:
        ticks = calibration.five_minutes(minutes[:until])
        return (
            Stretch(labels, first + 4 * MINUTE, TICK, ticks),
            Stretch(labels, first, MINUTE, minutes[:until]),
        )

    now = begun(*stretches(history))
    now, quiet_alarms = follow(now, stretches(began))
    now, found = follow(now, stretches(ended))
    assert (quiet_alarms, [one.name for one in found]) == ([], ["model.metric_1"])
    onset = first + began * MINUTE
    assert found[0].at <= onset + 9 * MINUTE
    assert found[0].onset.earliest - 2 * MINUTE <= onset <= found[0].onset.latest + 2 * MINUTE
    assert now.parts[0].firing[1], "the five minutes found it, too, and said nothing"
    assert now.parts[1].firing[1]
    now, after = follow(now, stretches(len(minutes)))
    assert (after, any(now.firing().values())) == ([], False)


def test_thresholds_grow_with_the_fleet_and_end_where_the_table_ends() -> None:
    small, large = fleet_thresholds(10), fleet_thresholds(480)
    assert small["fast"] < large["fast"]
    assert small["slow"] < large["slow"]
    with pytest.raises(InputError, match="series-ticks"):
        fleet_thresholds(100_000)


@pytest.mark.parametrize(("shift", "within", "most"), [(8.0, 6, 1), (4.0, 14, 1), (1.5, 140, 4)])
def test_a_shift_alarms_is_dated_and_ends(shift: float, within: int, most: int) -> None:
    """A shift no larger than the noise may seem to end and begin again within its 33 hours."""
    values = quiet(4 * TICKS_A_WEEK + 3 * 288)
    history, later = values[: 4 * TICKS_A_WEEK], values[4 * TICKS_A_WEEK :].copy()
    began, ended = 100, 500
    later[began:ended, 2] -= shift * 1.4
    start = MONDAY + 4 * TICKS_A_WEEK * TICK
    now, found = followed(begin(history), later[:ended], start)
    first = found[0]
    assert {one.name for one in found} == {"model.metric_2"}
    assert len(found) <= most
    assert not first.rising
    assert first.value < first.usual
    truth = start + began * TICK
    assert first.at <= truth + within * TICK
    assert first.onset.earliest - 2 * TICK <= truth <= first.onset.latest + 2 * TICK
    assert not recovered(now)
    now, again = followed(now, later[ended:], start + ended * TICK)
    assert recovered(now)
    assert not again


def test_a_single_wild_value_and_a_hole_are_no_alarm() -> None:
    values = quiet(4 * TICKS_A_WEEK + 288)
    later = values[4 * TICKS_A_WEEK :].copy()
    later[50] += 40.0
    later[100:130] = np.nan
    _, found = followed(begin(values[: 4 * TICKS_A_WEEK]), later, MONDAY + 4 * TICKS_A_WEEK * TICK)
    assert found == []


def test_an_incident_in_the_history_does_not_move_the_baseline() -> None:
    values = quiet(4 * TICKS_A_WEEK)
    hours = hours_of(MONDAY, TICK, len(values))
    clean = fit(values, hours)
    hurt = values.copy()
    hurt[1000:1200] -= 50.0
    moved = np.abs(fit(hurt, hours).centre - clean.centre)
    assert np.median(moved) < 0.05
    assert moved.max() < 1.0


def test_a_restart_at_any_tick_changes_nothing() -> None:
    values = quiet(2 * TICKS_A_WEEK + 200)
    later = values[2 * TICKS_A_WEEK :].copy()
    later[60:, 1] += 5.0
    start = MONDAY + 2 * TICKS_A_WEEK * TICK
    whole, expected = followed(begin(values[: 2 * TICKS_A_WEEK]), later, start)
    now, found = begin(values[: 2 * TICKS_A_WEEK]), []
    for index, row in enumerate(later):
        (now,) = alarm_state.from_bytes(alarm_state.to_bytes(Watches((now,)))).parts
        now, alarms = tick(now, row, start + index * TICK)
        found += alarms
    assert [one.as_dict() for one in found] == [one.as_dict() for one in expected]
    assert expected
    assert alarm_state.to_bytes(Watches((now,))) == alarm_state.to_bytes(Watches((whole,)))


def test_a_damaged_state_and_a_repeated_tick_are_refused() -> None:
    now = begin(quiet(2 * TICKS_A_WEEK))
    body = alarm_state.to_bytes(Watches((now,)))
    with pytest.raises(IntegrityError, match="alarm state"):
        alarm_state.from_bytes(body[: len(body) // 2])
    after, _ = tick(now, np.zeros(4), MONDAY)
    with pytest.raises(InputError, match="in order"):
        tick(after, np.zeros(4), MONDAY)
    with pytest.raises(InputError, match="4 values"):
        tick(after, np.zeros(3), MONDAY + TICK)


def test_series_that_cannot_be_watched_say_so() -> None:
    hours = hours_of(MONDAY, TICK, 400)
    with pytest.raises(InputError, match="20 values"):
        fit(np.full((400, 1), np.nan), hours)
    with pytest.raises(InputError, match="vary"):
        fit(np.ones((400, 1)), hours)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_onset_interval_holds_the_onset_nine_times_in_ten(correlation: float) -> None:
    generator, covered, tries = np.random.default_rng(8), 0, 400
    first = 1.0 / np.sqrt(1.0 - correlation**2)
    later = (1.0 - correlation) * first
    for _ in range(tries):
        r = generator.normal(size=120)
        began, size = int(generator.integers(60, 100)), generator.uniform(2.0, 4.0)
        r[began] += size * first
        r[began + 1 :] += size * later
        low, best, high = shift_interval(r, response=later, first=first)
        assert low <= best <= high
        covered += low <= began <= high
    assert 0.86 <= covered / tries <= 0.99


@pytest.mark.data
def test_nab_where_anomalies_are_single_values_a_cusum_is_the_wrong_tool(data_dir: Path) -> None:
    """On the ad exchange anomalies are single hours: the windowed Gaussian finds more, and we say so."""
    series = bench_alarms.recordings(data_dir / "anomaly_nab", ["realAdExchange"])
    found = bench_alarms.compare(series)
    ours, matched = found["ours"], list(found.values())[2]
    assert ours["windows"] == matched["windows"] == 14
    assert 0.0 < ours["recall"] < matched["recall"]
    assert 0.0 < ours["precision"] <= 1.0


@pytest.mark.data
@pytest.mark.soak
def test_nab_where_anomalies_last_we_find_more(data_dir: Path) -> None:
    series = bench_alarms.recordings(data_dir / "anomaly_nab", ["realKnownCause"])
    found = bench_alarms.compare(series)
    ours, matched = found["ours"], list(found.values())[2]
    assert ours["recall"] > 1.5 * matched["recall"]
    assert ours["precision"] > 1.5 * matched["precision"]


def test_the_windowed_gaussian_is_the_slow_obvious_one() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 900)
    at = tuple(MONDAY + index * timedelta(hours=1) for index in range(len(values)))
    fast = bench_alarms.deviations(bench_alarms.Recording("x", at, values, ()), size=300, every=50)
    window, waiting, mean, spread = [], [], 0.0, 1.0
    for index, value in enumerate(values):
        expected = abs(value - mean) / spread if window else 0.0
        assert fast[index] == pytest.approx(expected, rel=1e-6, abs=1e-6) or index == 1
        if len(window) < 300:
            window.append(value)
        else:
            waiting.append(value)
            if len(waiting) < 50:
                continue
            window, waiting = window[50:] + waiting, []
        mean, spread = float(np.mean(window)), float(np.std(window)) or 1e-6
