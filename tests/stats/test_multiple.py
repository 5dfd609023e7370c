"""Corrections for several tests (GRD-1). Tolerance EXACT 1e-12: both sides are products and maxima."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.stats.multiple import benjamini_hochberg, bonferroni, holm, intersection_union

EXACT = 1e-12
families = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_the_four_guardrails_of_the_reference() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02], abs=EXACT)
    assert bonferroni(p) == pytest.approx([0.04, 0.16, 0.12, 0.02], abs=EXACT)
    assert intersection_union(p) == 0.04


@given(families)
def test_benjamini_hochberg_agrees_with_scipy(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p), abs=EXACT)


@given(families)
def test_holm_agrees_with_its_definition_and_orders_the_methods(p: list[float]) -> None:
    slow = np.zeros(len(p))
    for i, mine in enumerate(p):
        # Holm's adjusted p: the largest (m - rank) * p over hypotheses at least as small.
        ranks = [(sum(other < q for other in p), q) for q in p if q <= mine]
        slow[i] = min(1.0, max((len(p) - rank) * q for rank, q in ranks))
    assert holm(p) == pytest.approx(slow, abs=EXACT)
    assert (np.asarray(p) - EXACT <= benjamini_hochberg(p)).all()
    assert (benjamini_hochberg(p) <= holm(p) + EXACT).all()
    assert (holm(p) <= bonferroni(p) + EXACT).all()


def test_family_wise_error_and_false_discoveries_under_the_null() -> None:
    """2,000 families of 6 true nulls: any rejection at .05 in about 5% (3 standard errors: .015)."""
    p = np.random.default_rng(0).random((2000, 6))
    for method in (bonferroni, holm, benjamini_hochberg):
        rate = np.mean([(method(row) <= 0.05).any() for row in p])
        assert rate == pytest.approx(0.05, abs=0.015)
    assert np.mean([(row <= 0.05).any() for row in p]) > 0.2
    assert np.mean([intersection_union(row) <= 0.05 for row in p]) < 0.001


def test_what_is_not_a_p_value_is_refused() -> None:
    for bad in ([], [1.2], [-0.1], [np.nan]):
        with pytest.raises(InputError):
            holm(bad)
