"""Sample-ratio mismatch (EXP-2). Tolerance PRINTED: half a unit in the reference's last digit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.stats.srm import sample_ratio, sequential_sample_ratio


def test_the_published_mismatch() -> None:
    assert sample_ratio([821_588, 815_482], [1, 1]).p_value == pytest.approx(1.82e-6, abs=5e-9)
    assert sequential_sample_ratio([821_588, 815_482], [1, 1]).p_value < 0.001


def test_planted_bug_zero_weight_arm_keeps_its_degree_of_freedom() -> None:
    """A public package answers .1407 for [5000, 5200, 0] by counting the closed arm."""
    found = sample_ratio([5000, 5200, 0], [0.5, 0.5, 0])
    assert found.p_value == pytest.approx(0.0477, abs=5e-5)
    assert found.df == 1
    assert stats.chi2.sf(found.statistic, 2) == pytest.approx(0.1407, abs=5e-5)


def test_a_unit_in_a_closed_arm_is_impossible() -> None:
    assert sample_ratio([5000, 5200, 1], [0.5, 0.5, 0]).p_value == 0
    assert sequential_sample_ratio([5000, 5200, 1], [0.5, 0.5, 0]).p_value == 0


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0.05, 1)), min_size=2, max_size=6))
def test_agrees_with_scipy(arms: list[tuple[int, float]]) -> None:
    n, weight = np.array([a for a, _ in arms]), np.array([w for _, w in arms])
    oracle = stats.chisquare(n, weight / weight.sum() * n.sum())
    found = sample_ratio(n, weight)
    assert found.statistic == pytest.approx(oracle.statistic, rel=1e-9)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-300)


def test_looking_after_every_batch_keeps_the_sequential_level() -> None:
    """100 looks at healthy 80/20 splits: the chi-square cries wolf, the sequential test does not."""
    rng = np.random.default_rng(0)
    chi = sequential = 0
    for _ in range(150):
        arrivals = np.cumsum(rng.multinomial(1000, [0.8, 0.2], size=100), axis=0)
        chi += any(sample_ratio(row, [8, 2]).p_value < 0.01 for row in arrivals)
        sequential += any(sequential_sample_ratio(row, [8, 2]).p_value < 0.01 for row in arrivals)
    assert sequential / 150 <= 0.01 + 0.017
    assert chi / 150 > 0.04


def test_a_broken_split_is_found_while_it_runs() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(50):
        arrivals = np.cumsum(rng.multinomial(1000, [0.52, 0.48], size=60), axis=0)
        p = [sequential_sample_ratio(row, [1, 1]).p_value for row in arrivals]
        found.append(next((i for i, value in enumerate(p) if value < 0.001), 60))
    assert np.median(found) < 25


def test_bad_counts_and_weights_are_refused() -> None:
    for observed, weights in (
        ([0, 0], [1, 1]),
        ([-1, 5], [1, 1]),
        ([5, 5], [1]),
        ([5, 5], [1, 0]),
        ([5, 5], [1, -1]),
    ):
        with pytest.raises(InputError):
            sample_ratio(observed, weights)
