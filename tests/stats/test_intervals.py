"""Intervals: EVA and LAB-6 numbers rest on these.

Tolerances: EXACT 1e-12 for identities in floating point; PRINTED 5e-5 because the published values carry four
decimals; COVERAGE 0.02 because 1,500 simulated intervals have a standard error of .0056 (3.5 of them).
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from mangaassist.core.errors import InputError
from mangaassist.stats.intervals import (
    bootstrap,
    clopper_lower,
    clopper_pearson,
    clopper_upper,
    f1_scores,
    macro_f1,
    macro_f1_interval,
    newcombe,
    wilson,
)

EXACT = 1e-12
PRINTED = 5e-5
COVERAGE = 0.02

trials = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_matches_newcombe_1998_table_1() -> None:
    """81 of 263, 15 of 148, 0 of 20, 1 of 29: method 3 of the paper's table."""
    printed = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (x, n), (low, high) in printed.items():
        found = wilson(x, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=PRINTED)


def test_newcombe_matches_the_paper() -> None:
    """56/70 against 48/80 (method 10): .0524 to .3339."""
    found = newcombe(56, 70, 48, 80)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=PRINTED)


@given(trials, st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy_and_contains_its_value(case: tuple[int, int], level: float) -> None:
    x, n = case
    found = wilson(x, n, level=level)
    oracle = stats.binomtest(x, n).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(trials, st.floats(0.5, 0.999))
def test_clopper_agrees_with_scipy(case: tuple[int, int], level: float) -> None:
    x, n = case
    exact = stats.binomtest(x, n).proportion_ci(level, method="exact")
    found = clopper_pearson(x, n, level=level)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_precision_floor_on_29_of_29() -> None:
    """LAB-6: 29 right of 29 is just above a .90 floor one-sided, 28 of 28 is not."""
    assert clopper_lower(29, 29) == pytest.approx(0.05 ** (1 / 29), abs=EXACT)
    assert clopper_lower(29, 29) > 0.90 > clopper_lower(28, 28)
    assert clopper_upper(0, 29) == pytest.approx(1 - clopper_lower(29, 29), abs=EXACT)


@given(trials, trials)
def test_newcombe_is_antisymmetric(a: tuple[int, int], b: tuple[int, int]) -> None:
    there, back = newcombe(*a, *b), newcombe(*b, *a)
    assert (there.value, there.low, there.high) == pytest.approx(
        (-back.value, -back.high, -back.low), abs=EXACT
    )
    assert -1 - EXACT <= there.low <= there.value <= there.high <= 1 + EXACT


@pytest.mark.parametrize(("x", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(x: int, n: int) -> None:
    for function in (wilson, clopper_lower, clopper_pearson):
        with pytest.raises(InputError):
            function(x, n)


def test_level_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(InputError, match="95"):
        wilson(1, 2, level=95)


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    """On 400 mildly skewed rows both methods must sit near mean +- 1.96 se (within 8% of it)."""
    x = np.random.default_rng(1).gamma(4.0, size=400)
    se = x.std(ddof=1) / 20
    for method in ("percentile", "bca"):
        found = bootstrap(
            lambda rows: float(x[rows].mean()),
            400,
            generator=np.random.default_rng(2),
            replicates=3000,
            method=method,
        )
        assert found.value == pytest.approx(x.mean(), abs=EXACT)
        assert found.low == pytest.approx(x.mean() - 1.96 * se, abs=0.16 * se)
        assert found.high == pytest.approx(x.mean() + 1.96 * se, abs=0.16 * se)


def test_bca_agrees_with_scipy_on_a_skewed_statistic() -> None:
    """Same data, many replicates: the two differ by Monte Carlo error only (5% of the width)."""
    x = np.random.default_rng(3).gamma(3.0, size=60)
    oracle = stats.bootstrap(
        (x,), np.var, n_resamples=8000, method="BCa", rng=np.random.default_rng(4)
    ).confidence_interval
    found = bootstrap(
        lambda rows: float(np.var(x[rows])),
        60,
        generator=np.random.default_rng(5),
        replicates=8000,
        method="bca",
    )
    width = oracle.high - oracle.low
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=0.05 * width)


def test_cluster_bootstrap_is_wider_when_rows_of_a_group_agree() -> None:
    """40 conversations of 10 equal rows hold 40 observations, not 400: sqrt(10) wider."""
    generator = np.random.default_rng(6)
    x = np.repeat(generator.normal(size=40), 10)
    conversation = np.repeat(np.arange(40), 10)
    shuffled = generator.permutation(400)
    x, conversation = x[shuffled], conversation[shuffled]

    def mean(rows: np.ndarray) -> float:
        return float(x[rows].mean())

    rows = bootstrap(mean, 400, generator=np.random.default_rng(7), replicates=2000)
    whole = bootstrap(mean, 400, generator=np.random.default_rng(7), replicates=2000, groups=conversation)
    ratio = (whole.high - whole.low) / (rows.high - rows.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.1)


def test_bootstrap_refuses_what_it_cannot_know() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(InputError):
        bootstrap(lambda rows: 1.0, 1, generator=generator)
    with pytest.raises(InputError):
        bootstrap(lambda rows: 1.0, 4, generator=generator, groups=[1, 1, 1, 1])
    with pytest.raises(InputError):
        bootstrap(lambda rows: 1.0, 4, generator=generator, groups=[1, 2])
    with pytest.raises(InputError, match="undefined"):
        bootstrap(lambda rows: float("nan"), 4, generator=generator, replicates=10)


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_macro_f1_agrees_with_scikit_learn(k: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    true, predicted = generator.integers(0, k, n), generator.integers(0, k, n)
    table = np.bincount(true * k + predicted, minlength=k * k).reshape(k, k)
    assert macro_f1(table) == pytest.approx(f1_score(true, predicted, average="macro"), abs=EXACT)


def test_macro_f1_interval_agrees_with_its_slow_twin() -> None:
    """The multinomial shortcut against resampling rows one by one (Monte Carlo error: 6% of the width)."""
    generator = np.random.default_rng(8)
    true = generator.choice(5, 300, p=[0.5, 0.3, 0.1, 0.07, 0.03])
    predicted = np.where(generator.random(300) < 0.7, true, generator.integers(0, 5, 300))
    table = np.bincount(true * 5 + predicted, minlength=25).reshape(5, 5)
    fast = macro_f1_interval(table, generator=np.random.default_rng(9), replicates=4000)

    def slow(rows: np.ndarray) -> float:
        counted = np.bincount(true[rows] * 5 + predicted[rows], minlength=25).reshape(5, 5)
        return float(np.nanmean(f1_scores(counted)))

    twin = bootstrap(slow, 300, generator=np.random.default_rng(10), replicates=4000)
    assert fast.value == pytest.approx(twin.value, abs=EXACT)
    assert (fast.low, fast.high) == pytest.approx((twin.low, twin.high), abs=0.06 * (twin.high - twin.low))


def test_macro_f1_without_an_error_is_not_certainty() -> None:
    found = macro_f1_interval([[3, 0], [0, 2]], generator=np.random.default_rng(0))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(wilson(5, 5).low)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_coverage_of_wilson_and_newcombe(p: float) -> None:
    generator = np.random.default_rng(11)
    wilson_hits = newcombe_hits = 0
    for x, y in zip(generator.binomial(120, p, 1500), generator.binomial(90, 0.4, 1500), strict=True):
        one, two = wilson(int(x), 120), newcombe(int(x), 120, int(y), 90)
        wilson_hits += one.low <= p <= one.high
        newcombe_hits += two.low <= p - 0.4 <= two.high
    assert wilson_hits / 1500 == pytest.approx(0.95, abs=COVERAGE)
    assert newcombe_hits / 1500 == pytest.approx(0.95, abs=COVERAGE)
