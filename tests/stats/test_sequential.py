"""Always-valid sequences (EXP-5, PRO-3).

Tolerances: PRINTED 5e-9, the reference half-widths carry eight decimals; EXACT 1e-9, a closed form and its
inverse; ABORT .01, the required bound on false aborts in a day of 288 looks.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.stats.moments import of_counts, of_rows
from mangaassist.stats.sequential import (
    always_valid_difference,
    always_valid_interval,
    always_valid_p,
    always_valid_proportions,
    half_width,
    looks_until,
)

PRINTED = 5e-9
EXACT = 1e-9
ABORT = 0.01


@pytest.mark.parametrize(("n", "width"), [(1000, 0.10637547), (5000, 0.04292434), (100_000, 0.01055207)])
def test_half_width_matches_gbstats(n: int, width: float) -> None:
    assert half_width(n, 1.0, tuning_n=5000) == pytest.approx(width, abs=PRINTED)


@given(
    st.floats(-3, 3), st.floats(0.01, 2), st.integers(10, 10**6), st.integers(10, 10**5), st.floats(0.6, 0.99)
)
def test_p_value_is_the_inverse_of_the_interval(
    value: float, error: float, n: int, tuning_n: int, level: float
) -> None:
    """An interval whose edge touches 0 has p exactly 1 - level."""
    interval = always_valid_interval(value, error, n, tuning_n=tuning_n, level=level)
    half = interval.value - interval.low
    p = always_valid_p(half, error, n, tuning_n=tuning_n, level=level)
    assert p == pytest.approx(1 - level, abs=EXACT)


@given(st.floats(0.1, 8), st.integers(1000, 10**5))
def test_one_sided_p_faces_its_direction_and_survives_the_far_tail(z: float, n: int) -> None:
    up = always_valid_p(z, 1.0, n, tuning_n=1000, alternative="greater")
    down = always_valid_p(-z, 1.0, n, tuning_n=1000, alternative="less")
    assert up == pytest.approx(down, abs=EXACT)
    assert always_valid_p(-z, 1.0, n, tuning_n=1000, alternative="greater") == 1.0
    assert 0 < always_valid_p(30.0, 1.0, n, tuning_n=1000, alternative="greater") < 1e-100


def test_the_sequence_is_tightest_in_z_units_near_its_tuning() -> None:
    """Tuning at N* minimises the width at N* over all other tunings."""
    at = half_width(5000, 1.0, tuning_n=5000)
    assert all(
        half_width(5000, 1.0, tuning_n=other) >= at for other in (500, 2000, 4500, 5600, 20_000, 10**6)
    )


def aborts(looks: int, per_look: int, runs: int, seed: int) -> float:
    """Share of healthy canaries that a look-every-five-minutes one-sided harm rule would abort."""
    z = np.cumsum(np.random.default_rng(seed).normal(size=(runs, looks)), axis=1) / np.sqrt(per_look)
    n = per_look * np.arange(1, looks + 1)
    mean = z / np.arange(1, looks + 1)
    error = 1 / np.sqrt(n)
    fired = np.zeros(runs, dtype=bool)
    for look in range(looks):
        # A day's worth of monitoring runs at a false-abort budget of 1%.
        bound = next_bound(error[look], int(n[look]))
        fired |= mean[:, look] > bound
    return float(fired.mean())


def next_bound(error: float, n: int) -> float:
    """The smallest mean with one-sided p <= .01, by bisection on the public function."""
    low, high = 0.0, 50 * error
    for _ in range(50):
        middle = (low + high) / 2
        p = always_valid_p(middle, error, n, tuning_n=2880, level=0.99, alternative="greater")
        low, high = (middle, high) if p > 0.01 else (low, middle)
    return high


def test_288_looks_abort_at_most_one_healthy_canary_in_a_hundred() -> None:
    """The naive rule (cumulative z > 1.645) aborts more than 30% of them; the mixture at most 1%."""
    z = np.cumsum(np.random.default_rng(0).normal(size=(4000, 288)), axis=1) / np.sqrt(np.arange(1, 289))
    assert (z > 1.645).any(axis=1).mean() == pytest.approx(0.36, abs=0.03)
    assert aborts(288, 20, 4000, 0) <= ABORT


def test_detection_delay_in_looks() -> None:
    """At a one-sided 1% budget a shift of one look-sigma is seen in a median of some 20 to 40 looks.

    The reference's own bound needs 29 for 1 sigma and 63 for .5 sigma; other tunings trade one for the other.
    """
    rng = np.random.default_rng(1)
    for shift, slowest in ((1.0, 30), (0.5, 80)):
        total = np.cumsum(rng.normal(shift, 1, size=(400, 288)), axis=1)
        seen = [
            next(
                look
                for look in range(1, 289)
                if look == 288
                or always_valid_p(
                    run[look - 1] / look,
                    1 / np.sqrt(look),
                    look,
                    tuning_n=60,
                    level=0.99,
                    alternative="greater",
                )
                <= 0.01
            )
            for run in total
        ]
        assert np.median(seen) <= slowest


@pytest.mark.parametrize(("canary", "champion"), [(0.005, 0.005), (0.03, 0.01), (0.95, 0.95)])
def test_coverage_of_rare_events_in_unequal_arms_at_every_look(canary: float, champion: float) -> None:
    """A 5% canary beside its champion: the 95% interval must hold at all 40 looks at once.

    From the first 40 canary requests on; 600 runs have a standard error of .9 points, two of which are
    allowed.
    """
    rng = np.random.default_rng(2)
    x = np.cumsum(rng.binomial(40, canary, size=(600, 40)), axis=1)
    y = np.cumsum(rng.binomial(760, champion, size=(600, 40)), axis=1)
    missed = 0
    for run in range(600):
        for look in range(40):
            n, base_n = 40 * (look + 1), 760 * (look + 1)
            found = always_valid_proportions(int(x[run, look]), n, int(y[run, look]), base_n, tuning_n=16_000)
            if not found.low <= canary - champion <= found.high:
                missed += 1
                break
    assert missed / 600 <= 0.05 + 0.018


def test_difference_of_means_uses_welch_variance_and_agrees_with_proportions() -> None:
    a, b = np.random.default_rng(3).normal(1, 2, 500), np.random.default_rng(4).normal(0, 1, 800)
    found = always_valid_difference(of_rows(a), of_rows(b), tuning_n=1000)
    error = np.sqrt(a.var(ddof=1) / 500 + b.var(ddof=1) / 800)
    by_hand = always_valid_interval(a.mean() - b.mean(), error, 1300, tuning_n=1000)
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high), abs=1e-9)
    of_means = always_valid_difference(of_counts(300, 1000), of_counts(250, 1000), tuning_n=1000)
    of_shares = always_valid_proportions(300, 1000, 250, 1000, tuning_n=1000)
    # Score limits against a plug-in variance: 2% of the width at a thousand units an arm.
    assert of_shares.low == pytest.approx(of_means.low, abs=0.02 * (of_means.high - of_means.low))


def test_no_variation_is_not_certainty() -> None:
    with pytest.raises(InputError, match="above 0"):
        always_valid_difference(of_counts(0, 50), of_counts(0, 50), tuning_n=100)
    silent = always_valid_proportions(0, 50, 0, 50, tuning_n=100)
    assert silent.low < 0 < silent.high
    assert silent.high - silent.low > 0.05


def test_looks_until_is_the_first_crossing() -> None:
    n = looks_until(0.05, 1.0, tuning_n=5000)
    assert half_width(n, 1.0, tuning_n=5000) < 0.05 <= half_width(n - 1, 1.0, tuning_n=5000)
    with pytest.raises(InputError):
        looks_until(1e-6, 1.0, tuning_n=5000, limit=1000)
