"""Monitoring (INC-3): CUSUM run lengths and change points.

Tolerances: TABLE .1 ticks on Hawkins and Olwell's one-sided table; SIMULATED 12% on run lengths over 400
series (their standard error is 5%); the reference's 477 and 49 ticks are such simulations, the exact value
is 465.4.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.stats.change_points import change_points
from mangaassist.stats.cusum import (
    baseline,
    calibrated_threshold,
    cusum,
    run_length,
    threshold_for,
    whiten,
)

SIMULATED = 0.12


def autoregressive(rng: np.random.Generator, ticks: int, series: int, a: float) -> np.ndarray:
    """Standard normal series with lag-one correlation ``a``."""
    x = rng.normal(size=(ticks, series))
    for t in range(1, ticks):
        x[t] = a * x[t - 1] + np.sqrt(1 - a * a) * x[t]
    return x


def mean_alarm(z: np.ndarray, h: float) -> float:
    found = cusum(z, h=h)
    assert (found.alarm >= 0).all()
    return float(found.alarm.mean()) + 1


def test_run_lengths_match_the_tables() -> None:
    """Montgomery (2009), table 9.3: k = .5, two-sided: h = 4: 168, 8.38 at 1 sigma; h = 5: 465, 10.4."""
    assert run_length(4.0) == pytest.approx(168, abs=0.5)
    assert run_length(5.0) == pytest.approx(465, abs=0.5)
    assert run_length(4.0, shift=1.0) == pytest.approx(8.38, abs=0.01)
    assert run_length(5.0, shift=1.0) == pytest.approx(10.4, abs=0.05)
    assert run_length(5.0, sides=1) == pytest.approx(2 * run_length(5.0))


def test_run_lengths_agree_with_simulation_and_autocorrelation_ruins_them() -> None:
    rng = np.random.default_rng(0)
    independent = mean_alarm(rng.normal(size=(4000, 400)), 5.0)
    assert independent == pytest.approx(run_length(5.0), rel=SIMULATED)
    assert independent == pytest.approx(477, rel=SIMULATED)
    assert mean_alarm(autoregressive(rng, 1500, 400, 0.5), 5.0) == pytest.approx(49, rel=SIMULATED)


def test_whitened_residuals_restore_the_run_length() -> None:
    rng = np.random.default_rng(1)
    x = autoregressive(rng, 4000, 150, 0.5)
    residuals = np.stack([whiten(column[500:], baseline(column[:500])) for column in x.T], axis=1)
    # Baselines estimated from 500 ticks cost a part of it (Jones, Champ and Rigdon 2004).
    alarm = cusum(residuals, h=5.0).alarm
    assert np.where(alarm < 0, len(residuals), alarm).mean() > 0.5 * run_length(5.0)


def test_fleet_threshold() -> None:
    """480 series at five-minute ticks, at most one false alarm a week: about 12.6."""
    h = threshold_for(480 * 2016)
    assert h == pytest.approx(12.6, abs=0.05)
    assert run_length(h) == pytest.approx(480 * 2016, rel=1e-6)


def test_calibration_on_autocorrelated_data_raises_the_threshold() -> None:
    rng = np.random.default_rng(2)
    quiet = calibrated_threshold(rng.normal(size=(4000, 20)), 2000.0, safety=0.0)
    assert quiet == pytest.approx(threshold_for(2000.0), abs=1.0)
    sticky = autoregressive(rng, 4000, 20, 0.5)
    h = calibrated_threshold(sticky, 2000.0, safety=0.0)
    assert h > quiet + 3
    fresh = autoregressive(rng, 4000, 200, 0.5)
    alarm = cusum(fresh, h=h).alarm
    # Runs are near exponential: with a mean of 2,000 ticks a fifth is still quiet after 4,000 / 1.25.
    assert (alarm < 0).mean() > 0.03
    assert np.where(alarm < 0, 4000, alarm).mean() > 1000


def test_vectorised_cusum_agrees_with_its_slow_twin_and_resumes() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(0.2, 1, (300, 7))
    z[rng.random(z.shape) < 0.1] = np.nan
    found = cusum(z, h=4.0)
    for series in range(7):
        high = low = 0.0
        alarm = -1
        for tick, value in enumerate(z[:, series]):
            if not np.isnan(value):
                high, low = max(0.0, high + value - 0.5), max(0.0, low - value - 0.5)
            if alarm < 0 and max(high, low) > 4.0:
                alarm = tick
        assert found.alarm[series] == alarm
        assert (found.high[series], found.low[series]) == pytest.approx((high, low))
    half = cusum(z[:150], h=4.0)
    rest = cusum(z[150:], h=4.0, start=half)
    assert rest.high == pytest.approx(found.high)
    assert rest.low == pytest.approx(found.low)


def test_direction_of_a_shift() -> None:
    z = np.zeros((60, 2))
    z[20:, 0], z[20:, 1] = 1.5, -1.5
    found = cusum(z, h=5.0)
    assert found.alarm.tolist() == [25, 25]
    assert found.rising.tolist() == [True, False]


def test_robust_baseline_ignores_a_tenth_of_outliers() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(10, 2, 2000)
    x[::10] = 1e6
    usual = baseline(x)
    assert usual.centre == pytest.approx(10, abs=0.4)
    assert usual.scale == pytest.approx(2, abs=0.4)
    with pytest.raises(InputError, match="vary"):
        baseline([1.0] * 30)


def exact_segments(x: np.ndarray, penalty: float, shortest: int) -> float:
    """Optimal partitioning without pruning: the cost PELT has to reach."""
    n = len(x)
    best = [-penalty] + [np.inf] * n
    for end in range(shortest, n + 1):
        for start in range(end - shortest + 1):
            if best[start] < np.inf:
                segment = x[start:end]
                cost = best[start] + ((segment - segment.mean()) ** 2).sum() + penalty
                best[end] = min(best[end], cost)
    return best[n]


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(1, 3), st.floats(0.5, 10), st.integers(0, 2**32 - 1))
def test_pelt_reaches_the_optimum(n: int, shortest: int, penalty: float, seed: int) -> None:
    if n < 2 * shortest:
        return
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) + 3 * (np.arange(n) > n * rng.random())
    found = change_points(x, scale=1.0, penalty=penalty, shortest=shortest)
    cost = sum(((x[s.start : s.end] - s.mean) ** 2).sum() for s in found) + penalty * (len(found) - 1)
    assert cost == pytest.approx(exact_segments(x, penalty, shortest), abs=1e-8)
    assert all(s.end - s.start >= shortest for s in found)
    assert [s.start for s in found] == [0, *(s.end for s in found[:-1])]


def test_changes_are_located_and_quiet_series_left_alone() -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(0, 1, 120), rng.normal(2, 1, 80), rng.normal(0, 1, 100)])
    found = change_points(x)
    assert [s.start for s in found] == pytest.approx([0, 120, 200], abs=4)
    false = np.mean([len(change_points(rng.normal(size=200))) > 1 for _ in range(300)])
    assert false <= 0.05
    with pytest.raises(InputError):
        change_points([1.0, 1.0, 1.0, 1.0])
