"""Offline-online correlation.

Tolerance COVERAGE .12: 3.2 standard errors of a 95% rate over 40 simulated histories.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.stats.correlation import pearson, true_correlation

COVERAGE = 0.12


def history(rng: np.random.Generator, rho: float, noise: float, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Measured gains of ``k`` experiments whose true gains have unit variance and correlation ``rho``."""
    truth = rng.multivariate_normal([0.5, 0.2], [[1, rho], [rho, 1]], size=k)
    measured = truth + noise * rng.normal(size=(k, 2))
    return measured[:, 0], measured[:, 1]


def test_pearson_agrees_with_scipy() -> None:
    x, y = history(np.random.default_rng(0), 0.6, 0.0, 25)
    found, oracle = pearson(x, y), stats.pearsonr(x, y)
    interval = oracle.confidence_interval()
    assert (found.value, found.low, found.high) == pytest.approx(
        (oracle.statistic, interval.low, interval.high)
    )


def test_exact_measurements_give_pearsons_answer() -> None:
    x, y = history(np.random.default_rng(1), 0.6, 0.0, 80)
    plain, corrected = pearson(x, y), true_correlation(x, y, np.zeros(80), np.zeros(80)).estimate
    assert corrected.value == pytest.approx(plain.value, abs=0.02)
    assert (corrected.low, corrected.high) == pytest.approx((plain.low, plain.high), abs=0.04)


def test_noise_hides_a_trustworthy_metric_and_the_correction_finds_it() -> None:
    """Errors of .7 of the gains: Pearson says .54 for .8, the correction closes most of the gap."""
    rng = np.random.default_rng(2)
    naive, corrected, covered = [], [], 0
    for _ in range(40):
        x, y = history(rng, 0.8, 0.7, 40)
        naive.append(pearson(x, y).value)
        found = true_correlation(x, y, np.full(40, 0.49), np.full(40, 0.49))
        corrected.append(found.estimate.value)
        covered += found.estimate.low <= 0.8 <= found.estimate.high
        assert found.estimate.high <= 1
    assert np.mean(naive) == pytest.approx(0.8 / 1.49, abs=0.06)
    assert abs(np.mean(corrected) - 0.8) < abs(np.mean(naive) - 0.8) / 2
    assert covered / 40 >= 0.95 - COVERAGE


def test_collapse_is_told_apart_from_noise() -> None:
    """AML-04: .41 in large experiments freezes; the same .41 in tiny ones proves little."""
    rng = np.random.default_rng(3)
    x, y = history(rng, 0.0, 0.0, 40)
    y = 0.41 * (x - x.mean()) / x.std() + np.sqrt(1 - 0.41**2) * stats.zscore(
        y - np.polyval(np.polyfit(x, y, 1), x)
    )
    assert pearson(x, y).value == pytest.approx(0.41, abs=1e-9)
    sharp = true_correlation(x, y, np.full(40, 0.01), np.full(40, 0.01))
    vague = true_correlation(x, y, np.full(40, 0.6), np.full(40, 0.6))
    assert sharp.probability_below(0.5) > 0.6
    assert vague.probability_below(0.5) < 0.4


def test_too_little_is_refused() -> None:
    with pytest.raises(InputError, match="4 or more"):
        pearson([1, 2, 3], [1, 2, 3])
    with pytest.raises(InputError, match="constant"):
        pearson([1, 1, 1, 1], [1, 2, 3, 4])
    with pytest.raises(InputError, match="0 or more"):
        true_correlation([1, 2, 3, 4], [1, 2, 4, 3], [-1, 1, 1, 1], [1, 1, 1, 1])
