"""Divergences on frozen bins (DRF-1, DRF-2).

Tolerances: EXACT 1e-12 for identities; REFERENCE .02 on the PSI of a one-sigma shift: the reference says
.937, the exact value for true deciles is .926, and a sample of n rows adds about 9/n to it; RATE .012, 3
standard errors of a rate of .05 over 3,000 draws or more.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from mangaassist.core.errors import InputError
from mangaassist.stats.divergence import (
    chi_square,
    jensen_shannon,
    kl_top_k,
    ks_binned,
    ks_two_sample,
    psi,
    psi_null_quantile,
    psi_test,
)

EXACT = 1e-12
REFERENCE = 0.02
RATE = 0.012

bins = st.integers(2, 8).flatmap(
    lambda k: st.tuples(*[st.lists(st.integers(0, 50), min_size=k, max_size=k).filter(any) for _ in "ab"])
)


def deciles(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frozen decile edges of 100,000 standard normal draws and the counts between them."""
    x = np.random.default_rng(seed).normal(size=100_000)
    edges = np.quantile(x, np.linspace(0.1, 0.9, 9))
    return edges, np.bincount(np.searchsorted(edges, x), minlength=10)


def binned(edges: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)


def test_one_outlier_does_not_hide_a_one_sigma_shift() -> None:
    """.937 with frozen deciles, and still .937 with one value of a million added."""
    edges, reference = deciles(0)
    shifted = np.random.default_rng(1).normal(1.0, 1.0, 100_000)
    value = psi(reference, binned(edges, shifted))
    assert value == pytest.approx(0.937, abs=REFERENCE)
    assert psi(reference, binned(edges, np.append(shifted, 1e6))) == pytest.approx(value, abs=1e-3)


def test_psi_of_a_shift_equals_its_integral() -> None:
    """With exact deciles the value is a finite sum of normal probabilities: no simulation in the way."""
    edges = stats.norm.ppf(np.linspace(0.1, 0.9, 9))
    q = np.diff(np.concatenate([[0], stats.norm.cdf(edges - 1), [1]]))
    exact = ((q - 0.1) * np.log(q / 0.1)).sum()
    assert exact == pytest.approx(0.937, abs=REFERENCE)
    assert psi(np.full(10, 1e9), q * 1e10) == pytest.approx(exact, abs=1e-6)


def test_200_rows_without_drift_fool_the_fixed_threshold_but_not_the_test() -> None:
    """A bare PSI >= 0.1 fires on healthy small samples; how often depends on the bins, and it is never rare.

    The reference quotes 24.5% without naming its bins. Here: 200 rows on both sides in ten equal bins, where
    the chi-square tail predicts 35% (3 standard errors of 2,000 draws: .032).
    """
    rng = np.random.default_rng(3)
    pairs = rng.multinomial(200, np.full(10, 0.1), size=(2000, 2))
    found = [psi_test(a, b, threshold=0.1) for a, b in pairs]
    assert np.mean([one.value >= 0.1 for one in found]) == pytest.approx(stats.chi2.sf(10, 9), abs=0.035)
    assert np.mean([one.fires for one in found]) <= 0.01 + RATE
    assert not any(one.sufficient and not one.fires for one in found)


def test_null_quantile_holds_its_level() -> None:
    rng = np.random.default_rng(5)
    limit = psi_null_quantile(3000, 1000, 10, level=0.95)
    a = rng.multinomial(3000, np.full(10, 0.1), size=4000)
    b = rng.multinomial(1000, np.full(10, 0.1), size=4000)
    over = np.mean([psi(x, y) > limit for x, y in zip(a, b, strict=True)])
    assert over == pytest.approx(0.05, abs=RATE)


def test_sufficiency_grows_with_the_sample_and_a_large_drift_needs_little() -> None:
    edges, reference = deciles(6)
    rng = np.random.default_rng(7)
    small = psi_test(reference, binned(edges, rng.normal(size=60)), threshold=0.1)
    large = psi_test(reference, binned(edges, rng.normal(size=5000)), threshold=0.1)
    assert (small.fires, small.sufficient) == (False, False)
    assert (large.fires, large.sufficient) == (False, True)
    assert small.power < 0.5
    assert large.power > 0.999
    gross = psi_test(reference, binned(edges, rng.normal(3, 1, 60)), threshold=0.1)
    assert (gross.fires, gross.sufficient) == (True, True)
    assert gross.p_value < 1e-6 < small.p_value


@given(bins)
def test_divergences_are_non_negative_zero_on_themselves_and_bounded(
    case: tuple[list[int], list[int]],
) -> None:
    a, b = case
    assert psi(a, b) >= 0
    assert psi(a, a) == pytest.approx(0, abs=EXACT)
    assert psi(a, b) == pytest.approx(psi(b, a), abs=1e-9)
    assert 0 <= jensen_shannon(a, b) + EXACT <= 1 + 2 * EXACT
    assert jensen_shannon(a, b) == pytest.approx(jensenshannon(a, b, base=2) ** 2, abs=1e-9)
    assert kl_top_k(a, b, k=3) >= -EXACT
    assert 0 <= ks_binned(a, b).statistic <= 1


def test_kl_of_a_new_category_lands_in_the_rest() -> None:
    reference, now = [50, 30, 20, 0], [40, 25, 15, 20]
    p, q = np.array([50.5, 30.5, 20.5]), np.array([40.5, 25.5, 35.5])
    by_hand = ((q / q.sum()) * np.log((q / q.sum()) / (p / p.sum()))).sum()
    assert kl_top_k(reference, now, k=2) == pytest.approx(by_hand, abs=EXACT)


@given(st.integers(0, 2**32 - 1), st.integers(30, 300), st.integers(30, 300))
def test_ks_agrees_with_scipy(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.round(rng.normal(size=n), 1), np.round(rng.normal(0.3, 1, size=m), 1)
    found = ks_two_sample(a, b)
    oracle = stats.ks_2samp(a, b, method="asymp")
    assert found.statistic == pytest.approx(oracle.statistic, abs=EXACT)
    # scipy refines the asymptotic tail for finite samples; the plain one is larger, by up to .07 at n = 30.
    assert found.p_value == pytest.approx(oracle.pvalue, abs=0.1)


@given(st.integers(0, 2**32 - 1))
def test_binned_ks_never_exceeds_the_raw_one_and_meets_it_on_fine_bins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=80), rng.normal(0.5, 1, size=60)
    raw = ks_two_sample(a, b).statistic
    coarse = np.array([-1.0, 0.0, 1.0])
    assert ks_binned(binned(coarse, a), binned(coarse, b)).statistic <= raw + EXACT
    fine = np.sort(np.concatenate([a, b]))
    assert ks_binned(binned(fine, a), binned(fine, b)).statistic == pytest.approx(raw, abs=EXACT)


@given(bins)
def test_chi_square_agrees_with_scipy_and_forgets_empty_bins(case: tuple[list[int], list[int]]) -> None:
    a, b = np.array(case[0]), np.array(case[1])
    keep = (a + b) > 0
    if keep.sum() < 2:
        with pytest.raises(InputError):
            chi_square(a, b)
        return
    oracle = stats.chi2_contingency(np.stack([a, b])[:, keep], correction=False)
    found = chi_square(a, b)
    assert (found.statistic, found.df) == (pytest.approx(oracle.statistic, abs=1e-9), oracle.dof)
    assert found.p_value == pytest.approx(oracle.pvalue, abs=1e-9)
    assert 0 <= found.cramers_v <= 1 + EXACT


def test_cramers_v_stays_small_where_a_million_rows_make_p_vanish() -> None:
    found = chi_square([500_000, 500_000], [503_000, 497_000])
    assert found.p_value < 1e-4
    assert found.cramers_v == pytest.approx(0.003, abs=1e-4)


def test_bad_counts_are_refused() -> None:
    for bad in ([-1, 2], [0, 0], [np.nan, 1]):
        with pytest.raises(InputError):
            psi([1, 2], bad)
    with pytest.raises(InputError, match="3 bins"):
        psi([1, 2], [1, 2, 3])
