"""Cohorts (COH-1): pooling, shrinkage, erosion, Simpson's paradox.

Tolerances: PRINTED half a unit in the last digit the reference prints; MONTE CARLO stated with each
simulation.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from mangaassist.core.errors import InputError
from mangaassist.stats.effects import Metric, Term
from mangaassist.stats.moments import of_counts, of_rows
from mangaassist.stats.pooling import erosion, pool
from mangaassist.stats.stratified import stratify, worst_cohort

# Colditz et al. (1994), JAMA 271, 698-702: tuberculosis cases and non-cases, vaccinated then control.
BCG = np.array(
    [
        (4, 119, 11, 128),
        (6, 300, 29, 274),
        (3, 228, 11, 209),
        (62, 13536, 248, 12619),
        (33, 5036, 47, 5761),
        (180, 1361, 372, 1079),
        (8, 2537, 10, 619),
        (505, 87886, 499, 87892),
        (29, 7470, 45, 7232),
        (17, 1699, 65, 1600),
        (186, 50448, 141, 27197),
        (5, 2493, 3, 2338),
        (27, 16886, 29, 17825),
    ],
    dtype=float,
)


def log_relative_risks() -> tuple[np.ndarray, np.ndarray]:
    a, c = BCG[:, 0], BCG[:, 2]
    n, m = a + BCG[:, 1], c + BCG[:, 3]
    return np.log((a / n) / (c / m)), 1 / a - 1 / n + 1 / c - 1 / m


def test_bcg_trials_match_the_reference() -> None:
    moment = pool(*log_relative_risks(), method="dersimonian-laird")
    assert moment.tau2 == pytest.approx(0.30876, abs=5e-6)
    assert (moment.mean.value, moment.mean.low, moment.mean.high) == pytest.approx(
        (-0.7141, -1.0644, -0.3638), abs=5e-5
    )
    assert moment.q == pytest.approx(152.2330, abs=5e-5)
    restricted = pool(*log_relative_risks())
    assert restricted.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert restricted.mean.value == pytest.approx(-0.7145, abs=5e-5)
    assert restricted.standard_error == pytest.approx(0.1798, abs=5e-5)


def test_reml_agrees_with_a_direct_search_of_the_likelihood() -> None:
    rng = np.random.default_rng(0)
    for k in (3, 8, 30):
        v = rng.uniform(0.01, 0.3, k)
        y = rng.normal(0.2, np.sqrt(0.1 + v))

        def loss(log_tau2: np.ndarray, y: np.ndarray = y, v: np.ndarray = v) -> float:
            total = v + np.exp(log_tau2[0])
            mean = (y / total).sum() / (1 / total).sum()
            return float(np.log(total).sum() + np.log((1 / total).sum()) + ((y - mean) ** 2 / total).sum())

        found = min(
            (minimize(loss, [start], method="Nelder-Mead") for start in (-6.0, -2.0)), key=lambda r: r.fun
        )
        mine = pool(y, v).tau2
        assert loss(np.array([np.log(max(mine, 1e-12))])) <= found.fun + 1e-6


def test_homogeneous_cohorts_shrink_to_one_number_and_wild_ones_stay() -> None:
    same = pool([0.02, 0.021, 0.019], [1e-4, 1e-4, 1e-4])
    assert same.tau2 == 0
    assert same.cohort_mean == pytest.approx([same.mean.value] * 3, abs=5e-4)
    assert same.q_p_value > 0.9
    wild = pool([0.03, -0.082, 0.02], [1e-6, 1e-6, 1e-6])
    assert wild.cohort_mean == pytest.approx([0.03, -0.082, 0.02], abs=1e-4)
    assert wild.q_p_value < 1e-10
    assert wild.i2 > 0.99


def test_the_jp_cohort_is_harmed_while_the_aggregate_wins() -> None:
    """AML-06: EN +5%, mixed +2%, JP -8.2% with a margin of 3%: P(harm) is near 1 for JP only."""
    found = pool([0.05, -0.082, 0.02], [0.008**2, 0.011**2, 0.015**2])
    harm = found.probability_below(-0.03)
    assert harm[1] > 0.999
    assert harm[0] < 0.001
    assert harm[2] < 0.01


def test_shrunken_cohorts_are_nearer_the_truth_and_their_intervals_cover() -> None:
    """500 launches of 12 cohorts: lower squared error than raw, 95% intervals near 95%."""
    rng = np.random.default_rng(1)
    raw = shrunk = covered = 0.0
    for _ in range(500):
        truth = rng.normal(0.02, 0.02, 12)
        v = rng.uniform(0.01, 0.04, 12) ** 2
        y = rng.normal(truth, np.sqrt(v))
        found = pool(y, v)
        raw += ((y - truth) ** 2).mean()
        shrunk += ((found.cohort_mean - truth) ** 2).mean()
        covered += (np.abs(found.cohort_mean - truth) <= 1.96 * found.cohort_error).mean()
    assert shrunk < 0.8 * raw
    assert covered / 500 == pytest.approx(0.95, abs=0.02)


def test_erosion_is_seen_and_a_steady_effect_is_not_called_eroding() -> None:
    rng = np.random.default_rng(2)
    months = np.arange(6.0)
    v = np.full(6, 0.01**2)
    alarms = [erosion(rng.normal(0.03, 0.01, 6), v, months).p_value < 0.05 for _ in range(1500)]
    # Half of the series scatter less than expected and are read as normal, the rest as Student: 4 to 5%.
    assert np.mean(alarms) == pytest.approx(0.045, abs=0.02)
    sliding = [erosion(rng.normal(0.03 - 0.008 * months, 0.01), v, months) for _ in range(200)]
    assert np.mean([one.p_value < 0.05 for one in sliding]) > 0.8
    assert np.mean([one.slope.value for one in sliding]) == pytest.approx(-0.008, abs=0.0006)


def test_erosion_slope_is_weighted_least_squares() -> None:
    y, t, v = np.array([0.05, 0.04, 0.01, 0.02]), np.array([0.0, 1, 2, 4]), np.array([1.0, 2, 1, 3]) * 1e-4
    oracle = np.polyfit(t, y, 1, w=1 / np.sqrt(v), cov="unscaled")
    found = erosion(y, v, t)
    assert found.slope.value == pytest.approx(oracle[0][0], abs=1e-12)


def test_planted_bug_ramp_up_simpson() -> None:
    """Friday 1% and Saturday 50% of traffic in treatment: both days favour it, the pooled rates do not."""
    control = [of_counts(20_000, 990_000), of_counts(5_000, 500_000)]
    treatment = [of_counts(230, 10_000), of_counts(6_000, 500_000)]
    found = stratify(treatment, control, Metric(Term(0)), weighting="equal")
    assert all(day.value > 0 for day in found.strata)
    assert found.adjusted.value == pytest.approx(0.00240, abs=5e-6)
    assert found.crude.value == pytest.approx(-0.00456, abs=5e-6)
    assert (found.crude.treatment, found.crude.control) == pytest.approx((0.0122, 0.0168), abs=5e-5)
    assert found.reversed
    assert found.contradicted


def test_no_simpson_alarm_under_a_constant_split() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(400):
        days = rng.normal(0, 1, 5)
        t = [of_rows(rng.normal(day + 0.1, 1, 200)) for day in days]
        c = [of_rows(rng.normal(day, 1, 200)) for day in days]
        alarms += stratify(t, c, Metric(Term(0))).contradicted
    assert alarms / 400 < 0.01


def test_stratified_mean_has_the_variance_it_claims() -> None:
    rng = np.random.default_rng(4)
    for weighting in ("equal", "size", "precision"):
        z = []
        for _ in range(400):
            t = [of_rows(rng.normal(0, s, n)) for s, n in ((1, 40), (3, 90))]
            c = [of_rows(rng.normal(0, s, n)) for s, n in ((1, 60), (3, 50))]
            found = stratify(t, c, Metric(Term(0)), weighting=weighting).adjusted
            z.append(found.value / found.standard_error)
        assert np.std(z) == pytest.approx(1, abs=0.12)
        assert stats.kstest(z, "norm").pvalue > 0.001


def test_worst_cohort_floor() -> None:
    found = worst_cohort([0.19, 0.168, 0.185], 0.183)
    assert (found.index, found.holds) == (1, False)
    assert worst_cohort([0.19, 0.18], 0.183).holds


def test_bad_cohorts_are_refused() -> None:
    for effects, variances in (
        ([0.1], [0.1]),
        ([0.1, 0.2], [0.1, 0.0]),
        ([0.1, 0.2], [0.1]),
        ([np.nan, 1], [1, 1]),
    ):
        with pytest.raises(InputError):
            pool(effects, variances)
    with pytest.raises(InputError):
        erosion([1, 2, 3], [1, 1, 1], [0, 0, 0])
    with pytest.raises(InputError, match="both arms"):
        stratify([of_counts(1, 2)], [], Metric(Term(0)))
    with pytest.raises(InputError):
        worst_cohort([0.1], 0.0)
