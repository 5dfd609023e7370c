"""Sample sizes (EXP-3).

Tolerances: PRINTED 2e-3 for the t-tests and .05 for proportions: the reference prints three and one
decimals, and its 393.407 is .0013 above the exact root (statsmodels: 393.40570); RATE .02 on powers over
4,000 simulations.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.stats.effects import Metric, Term, compare
from mangaassist.stats.group_sequential import spending_plan
from mangaassist.stats.inference import fixed
from mangaassist.stats.moments import of_rows
from mangaassist.stats.sizing import (
    cohort_claim,
    days_to_fill,
    detectable_effect,
    power_means,
    ratio_standard_deviation,
    simulated_power,
    size_means,
    size_proportions,
    with_clusters,
    with_cuped,
    with_looks,
)

PRINTED = 2e-3
RATE = 0.02


@pytest.mark.parametrize(("d", "power", "n"), [(0.5, 0.8, 63.766), (0.2, 0.8, 393.407), (1.0, 0.9, 22.021)])
def test_t_test_sizes(d: float, power: float, n: float) -> None:
    assert size_means(d, 1.0, power=power).exact == pytest.approx(n, abs=PRINTED)


@pytest.mark.parametrize(
    ("p", "q", "power", "variance", "n"),
    [
        (0.5, 0.75, 0.9, "pooled", 76.707),
        (0.10, 0.12, 0.8, "pooled", 3840.8),
        (0.10, 0.12, 0.8, "unpooled", 3838.1),
        (0.20, 0.25, 0.8, "pooled", 1093.7),
        (0.20, 0.25, 0.8, "unpooled", 1091.0),
    ],
)
def test_proportion_sizes_name_their_formula(
    p: float, q: float, power: float, variance: str, n: float
) -> None:
    size = size_proportions(p, q, power=power, variance=variance)
    assert size.exact == pytest.approx(n, abs=0.05)
    assert variance in size.formula


def test_the_sources_18420_does_not_follow_from_its_inputs() -> None:
    """AML-03: baseline .183, sigma .142, MDE 3%: 10,503 per arm, 5,367 with 50% CUPED and four looks."""
    plain = size_means(0.03 * 0.183, 0.142)
    assert plain.per_arm == 10_503
    planned = with_looks(with_cuped(plain, np.sqrt(0.5)), spending_plan((4 / 14, 7 / 14, 11 / 14, 1.0)))
    assert planned.per_arm == 5_368
    assert [name for name, _ in planned.factors] == ["CUPED", "looks (obf)"]
    assert planned.factors[1][1] == pytest.approx(1.02201, abs=6e-6)
    assert planned.per_arm < 18_420 / 3


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.05, 2), st.floats(0.6, 0.95), st.floats(0.01, 0.1), st.sampled_from([1, 2]), st.floats(0.3, 3)
)
def test_size_power_and_detectable_effect_are_inverses(
    d: float, power: float, alpha: float, sides: int, ratio: float
) -> None:
    size = size_means(d, 2.0, power=power, alpha=alpha, sides=sides, ratio=ratio)
    if size.exact < 3:
        return
    settings_ = {"alpha": alpha, "sides": sides, "ratio": ratio}
    assert power_means(d, 2.0, size.exact, **settings_) == pytest.approx(power, abs=1e-7)
    found = detectable_effect(size.exact, 2.0, power=power, **settings_)
    assert found == pytest.approx(d, rel=1e-5)


@given(st.floats(3, 400), st.floats(-4, 4))
def test_power_agrees_with_scipys_noncentral_t(n: float, d: float) -> None:
    df, shift = 2 * n - 2, abs(d) * np.sqrt(n / 2)
    critical = stats.t.isf(0.025, df)
    oracle = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
    if np.isfinite(oracle):
        assert power_means(d, 1.0, n) == pytest.approx(oracle, abs=2e-5)


def test_planned_sizes_deliver_their_power() -> None:
    """The slow twin: run the experiments. Means with a covariate of correlation .7, sized with CUPED."""
    size = with_cuped(size_means(0.3, 1.0), 0.7)
    metric = Metric(Term(0), (Term(1),))

    def experiment(rng: np.random.Generator, n: int) -> float:
        arms = []
        for shift in (0.3, 0.0):
            x = rng.normal(size=n)
            y = shift + 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=n)
            arms.append(of_rows(np.column_stack([y, x])))
        return fixed(compare(arms[0], arms[1], metric)).p_value

    found = simulated_power(experiment, size.per_arm, runs=2000, generator=np.random.default_rng(0))
    assert found.value == pytest.approx(0.8, abs=0.03)
    assert found.low < found.value < found.high


def test_clusters_and_ratios() -> None:
    plain = size_means(0.2, 1.0)
    assert with_clusters(plain, 21, 0.05).exact == pytest.approx(2 * plain.exact)
    assert with_clusters(plain, 1, 0.5).exact == pytest.approx(plain.exact)
    assert with_clusters(plain, 21, 0.05, variation=1.0).exact > with_clusters(plain, 21, 0.05).exact
    rng = np.random.default_rng(1)
    y = rng.poisson(5, 200_000) + 1.0
    x = rng.binomial(y.astype(int), 0.3) * 1.0
    c = np.cov(x, y)
    sd = ratio_standard_deviation(x.mean(), y.mean(), c[0, 0], c[1, 1], c[0, 1])
    blocks = (x.reshape(2000, 100).sum(1) / y.reshape(2000, 100).sum(1)).std()
    assert sd / 10 == pytest.approx(blocks, rel=0.06)


def test_cohort_claims_and_runtime() -> None:
    assert [cohort_claim(available, 100) for available in (120, 100, 85, 79)] == [
        "powered",
        "powered",
        "marginal",
        "refused",
    ]
    size = size_means(0.2, 1.0)
    assert days_to_fill(size, 788, share=0.5, horizon_days=14) == pytest.approx(16.0)


def test_what_cannot_be_sized_is_refused() -> None:
    for call in (
        lambda: size_means(0.0, 1.0),
        lambda: size_means(0.1, -1.0),
        lambda: size_means(0.1, 1.0, power=80),
        lambda: size_proportions(0.2, 0.2),
        lambda: size_proportions(0.2, 1.2),
        lambda: with_cuped(size_means(0.1, 1.0), 1.0),
        lambda: with_clusters(size_means(0.1, 1.0), 10, 1.5),
    ):
        with pytest.raises(InputError):
            call()
