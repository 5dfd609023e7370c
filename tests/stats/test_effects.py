"""Effects from sufficient statistics, read three ways (EXP-4, EXP-5).

Tolerances: PRINTED 6e-6, gbstats' public test values have five decimals; CLOSE 1e-9, the same algebra in
another order; RATE .017 in the short form, 3.5 standard errors of a .05 rate over 2,000 experiments (the
required half point is held by the long form over 20,000: .005, 3.2 standard errors).
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.stats.effects import (
    Effect,
    Metric,
    Term,
    compare,
    covariate_balance,
    two_proportions,
)
from mangaassist.stats.group_sequential import boundary_plan, spending_plan
from mangaassist.stats.inference import (
    always_valid,
    fixed,
    group_sequential,
    non_inferiority,
    t_tail,
    z_value,
)
from mangaassist.stats.moments import Moments, merge, of_counts, of_rows, of_sums
from mangaassist.stats.ranks import capped, log_effect, rank_effect

PRINTED = 6e-6
CLOSE = 1e-9
RATE = 0.017
LONG_RATE = 0.005

LOOKS = (0.25, 0.5, 0.75, 1.0)
MEAN = Metric(Term(0))
METRICS = {
    "mean": Metric(Term(0)),
    "mean, cuped": Metric(Term(0), (Term(3), Term(4))),
    "proportion": Metric(Term(1)),
    "proportion, cuped": Metric(Term(1), (Term(3),)),
    "ratio": Metric(Term(0, 2)),
    "ratio, cuped": Metric(Term(0, 2), (Term(3, 4),)),
}


def test_welch_and_relative_lift_match_gbstats() -> None:
    control, treatment = of_sums(3407, 1396.87, 52377.9767), of_sums(3461, 2422.7, 134698.29)
    absolute = fixed(compare(treatment, control, MEAN))
    assert (absolute.estimate.low, absolute.estimate.high) == pytest.approx((0.04538, 0.53462), abs=PRINTED)
    assert absolute.p_value == pytest.approx(0.02016, abs=PRINTED)
    relative = fixed(compare(treatment, control, MEAN, relative=True, reading="delta"))
    assert (relative.estimate.low, relative.estimate.high) == pytest.approx((-0.03526, 1.44989), abs=4e-5)
    assert relative.p_value == pytest.approx(0.06191, abs=PRINTED)


def test_fieller_never_disagrees_with_the_absolute_reading() -> None:
    """The same arms: the delta method calls a lift with p = .020 insignificant (.062), Fieller does not."""
    control, treatment = of_sums(3407, 1396.87, 52377.9767), of_sums(3461, 2422.7, 134698.29)
    absolute, relative = (compare(treatment, control, MEAN, relative=r) for r in (False, True))
    assert fixed(relative).p_value == pytest.approx(fixed(absolute).p_value, abs=1e-12)
    assert fixed(relative).estimate.low > 0
    edge = fixed(relative).estimate.low
    assert fixed(relative, null=edge).p_value == pytest.approx(0.05, abs=1e-9)
    assert z_value(relative) == pytest.approx(z_value(absolute))


def test_fieller_and_delta_meet_when_control_is_precise_and_part_when_it_is_not() -> None:
    rng = np.random.default_rng(6)
    t, c = of_rows(rng.normal(11, 2, 20_000)), of_rows(rng.normal(10, 2, 20_000))
    sharp = [fixed(compare(t, c, MEAN, relative=True, reading=r)).estimate for r in ("fieller", "delta")]
    assert sharp[0].low == pytest.approx(sharp[1].low, rel=1e-3)
    vague = compare(of_rows(rng.normal(1, 5, 30)), of_rows(rng.normal(0.1, 5, 30)), MEAN, relative=True)
    assert np.isinf(fixed(vague).estimate.high)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_welch_agrees_with_scipy(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(1, 3, n), rng.normal(0, 1, m)
    found = fixed(compare(of_rows(a), of_rows(b), MEAN))
    oracle = stats.ttest_ind(a, b, equal_var=False)
    interval = oracle.confidence_interval()
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-7)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((interval.low, interval.high), rel=1e-7)
    for alternative in ("greater", "less"):
        side = stats.ttest_ind(a, b, equal_var=False, alternative=alternative).pvalue
        one = fixed(compare(of_rows(a), of_rows(b), MEAN), alternative=alternative)
        assert one.p_value == pytest.approx(side, rel=1e-7)


def test_two_proportions_is_the_unpooled_z_test() -> None:
    found = fixed(two_proportions(of_counts(230, 1000), of_counts(200, 1000)))
    se = np.sqrt(0.23 * 0.77 / 1000 + 0.2 * 0.8 / 1000)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(0.03 / se), rel=1e-10)


def test_cuped_is_the_regression_with_covariates() -> None:
    """With one mean the coefficient is the within-arm least-squares slope; checked against numpy's lstsq."""
    rng = np.random.default_rng(0)
    x = rng.normal(5, 2, (400, 2))
    arm = np.arange(400) % 2
    y = x @ [1.0, -0.5] + rng.normal(size=400) + 0.3 * arm
    rows = np.column_stack([y, x])
    effect = compare(of_rows(rows[arm == 1]), of_rows(rows[arm == 0]), Metric(Term(0), (Term(1), Term(2))))
    design = np.column_stack([np.ones(400), arm, x])
    slope, residual, _, _ = np.linalg.lstsq(design, y, rcond=None)
    assert effect.value == pytest.approx(slope[1], abs=CLOSE)
    # Least squares also pays for the chance imbalance of x; at 400 rows that is under half a percent.
    error = np.sqrt(residual[0] / 396 * np.linalg.inv(design.T @ design)[1, 1])
    assert effect.standard_error == pytest.approx(error, rel=0.01)
    explained = np.corrcoef(x @ [1.0, -0.5], y - 0.3 * arm)[0, 1] ** 2
    assert effect.variance_reduction == pytest.approx(explained, abs=0.02)


def test_covariates_that_say_nothing_do_no_harm() -> None:
    rng = np.random.default_rng(1)
    y, x = rng.normal(size=200), rng.normal(size=200)
    rows = np.column_stack([y, x, x, np.ones(200)])
    t, c = of_rows(rows[:100]), of_rows(rows[100:])
    one = compare(t, c, Metric(Term(0), (Term(1),)))
    copies = compare(t, c, Metric(Term(0), (Term(1), Term(2), Term(3))))
    assert copies.value == pytest.approx(one.value, abs=1e-8)
    assert copies.standard_error == pytest.approx(one.standard_error, rel=1e-6)


def test_ratio_variance_agrees_with_the_cluster_bootstrap() -> None:
    """Clicks over views per user: the delta method against resampling users (4% Monte Carlo error)."""
    rng = np.random.default_rng(2)
    views = rng.poisson(6, 800) + 1
    clicks = rng.binomial(views, rng.beta(2, 6, 800))
    t, c = np.arange(800) % 2 == 0, np.arange(800) % 2 == 1
    rows = np.column_stack([clicks, views]).astype(float)
    effect = compare(of_rows(rows[t]), of_rows(rows[c]), Metric(Term(0, 1)))
    draws = []
    for _ in range(2000):
        i, j = (rng.choice(np.flatnonzero(arm), arm.sum()) for arm in (t, c))
        draws.append(clicks[i].sum() / views[i].sum() - clicks[j].sum() / views[j].sum())
    assert effect.value == pytest.approx(clicks[t].sum() / views[t].sum() - clicks[c].sum() / views[c].sum())
    assert effect.standard_error == pytest.approx(np.std(draws), rel=0.06)


def test_planted_bug_ratio_averaged_per_user() -> None:
    """Heavier users click less: the mean of each user's own ratio answers another question."""
    control = of_rows(np.tile([[1.0, 10.0], [1.0, 1.0]], (200, 1)))
    treatment = np.tile([[2.2, 10.0], [0.9, 1.0]], (200, 1))
    jitter = np.random.default_rng(3).normal(0, 1e-3, treatment.shape) * [1, 0]
    effect = compare(of_rows(treatment + jitter), control, Metric(Term(0, 1)))
    per_user = (treatment[:, 0] / treatment[:, 1]).mean() - (1 / 10 + 1) / 2
    assert effect.value == pytest.approx(3.1 / 11 - 2 / 11, abs=1e-3)
    assert effect.value > 0 > per_user - 0.02
    assert abs(per_user - effect.value) > 0.05


def test_planted_bug_cuped_on_a_post_treatment_covariate() -> None:
    """The covariate carries the effect: adjusting by it removes the effect, and the balance test says why."""
    rng = np.random.default_rng(4)
    arm = np.arange(4000) % 2
    during = rng.normal(size=4000) + 0.5 * arm
    y = during + 0.3 * rng.normal(size=4000)
    rows = np.column_stack([y, during])
    t, c = of_rows(rows[arm == 1]), of_rows(rows[arm == 0])
    metric = Metric(Term(0), (Term(1),))
    assert compare(t, c, Metric(Term(0))).value == pytest.approx(0.5, abs=0.1)
    assert abs(compare(t, c, metric).value) < 0.05
    assert covariate_balance(t, c, metric).p_value < 1e-10
    before = np.column_stack([y, during - 0.5 * arm])
    honest = covariate_balance(of_rows(before[arm == 1]), of_rows(before[arm == 0]), metric)
    assert honest.p_value > 0.001


def test_balance_test_is_uniform_under_random_assignment() -> None:
    rng = np.random.default_rng(5)
    metric = Metric(Term(0), (Term(1), Term(2, 3)))
    p = []
    for _ in range(600):
        rows = rng.gamma(3, size=(400, 4))
        p.append(covariate_balance(of_rows(rows[:200]), of_rows(rows[200:]), metric).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def experiment(rng: np.random.Generator, n: int, lift: float = 0.0) -> Moments:
    """One batch of one arm: outcome, conversion, denominator and two measurements from before."""
    appetite = rng.gamma(4.0, 0.25, n)
    before_views = rng.poisson(5 * appetite) + 1.0
    before_clicks = rng.poisson(2 * appetite) * 1.0
    views = rng.poisson(5 * appetite) + 1.0
    clicks = rng.poisson(2 * appetite * (1 + lift)) * 1.0
    bought = (rng.random(n) < np.minimum(0.9, 0.2 * appetite)) * 1.0
    return of_rows(np.column_stack([clicks, bought, views, before_clicks, before_views]))


def rejections(metric: Metric, runs: int, seed: int, *, relative: bool) -> dict[str, float]:
    """Share of null experiments each reading calls significant at one of four looks."""
    rng = np.random.default_rng(seed)
    plan = spending_plan(LOOKS, spending="pocock")
    naive = boundary_plan(LOOKS, [1.96] * 4)
    found = dict.fromkeys(("fixed", "group-sequential", "always-valid", "naive"), 0)
    for _ in range(runs):
        arms, zs, stopped, anytime, peeked = [None, None], [], False, False, False
        for _ in LOOKS:
            batches = [experiment(rng, 120), experiment(rng, 120)]
            arms = [new if old is None else merge(old, new) for old, new in zip(arms, batches, strict=True)]
            effect = compare(arms[0], arms[1], metric, relative=relative)
            stopped |= abs(z_value(effect)) >= plan.z[len(zs)]
            anytime |= always_valid(effect, tuning_n=960).significant
            zs.append(z_value(effect))
            peeked |= abs(zs[-1]) >= naive.z[0]
        found["fixed"] += fixed(effect).significant
        found["group-sequential"] += stopped
        found["always-valid"] += anytime
        found["naive"] += peeked
    return {name: count / runs for name, count in found.items()}


@pytest.mark.parametrize("name", METRICS)
def test_error_rates_of_every_cell(name: str) -> None:
    """{mean, proportion, ratio} x {raw, CUPED} x the three readings, 4 looks, no effect."""
    found = rejections(METRICS[name], 1200, 11, relative=False)
    assert found["fixed"] == pytest.approx(0.05, abs=0.022)
    assert found["group-sequential"] == pytest.approx(0.05, abs=0.022)
    assert found["always-valid"] <= 0.05
    assert found["naive"] > 0.09


@pytest.mark.soak
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_error_rates_of_every_cell_long_form(name: str, relative: bool) -> None:
    """20,000 experiments a cell: within half a point of nominal."""
    found = rejections(METRICS[name], 20_000, 12, relative=relative)
    assert found["fixed"] == pytest.approx(0.05, abs=LONG_RATE)
    assert found["group-sequential"] == pytest.approx(0.05, abs=LONG_RATE)
    assert found["always-valid"] <= 0.05


def coverage(runs: int, seed: int) -> dict[str, float]:
    """Share of 95% intervals that hold a true lift of 20%: CUPED absolute and relative, ratio CUPED."""
    rng = np.random.default_rng(seed)
    hits = {"absolute": 0, "relative": 0, "ratio": 0}
    for _ in range(runs):
        t, c = experiment(rng, 300, lift=0.2), experiment(rng, 300)
        cuped = Metric(Term(0), (Term(3),))
        one = fixed(compare(t, c, cuped)).estimate
        two = fixed(compare(t, c, cuped, relative=True)).estimate
        three = fixed(compare(t, c, Metric(Term(0, 2), (Term(3, 4),)))).estimate
        hits["absolute"] += one.low <= 0.4 <= one.high
        hits["relative"] += two.low <= 0.2 <= two.high
        hits["ratio"] += three.low <= 0.4 / 6 <= three.high
    return {name: count / runs for name, count in hits.items()}


def test_coverage_of_a_real_lift_relative_and_absolute() -> None:
    """1,000 runs: 3.5 standard errors are 2.4 points."""
    for rate in coverage(1000, 13).values():
        assert rate == pytest.approx(0.95, abs=0.024)


@pytest.mark.soak
def test_coverage_of_a_real_lift_long_form() -> None:
    """20,000 runs: within 94 to 96%."""
    for rate in coverage(20_000, 14).values():
        assert 0.94 <= rate <= 0.96


def test_group_sequential_reading_of_the_worked_incident() -> None:
    """p = .04 at look 2 of 4 is not significant; a later crossing is, and stays so."""
    plan = spending_plan((4 / 14, 7 / 14, 11 / 14, 1.0))
    z = float(stats.norm.isf(0.02))
    effect = Effect(z, 1.0, float("inf"), 10_000, z, 0.0)
    second = group_sequential(effect, plan, earlier=[0.4])
    assert not second.significant
    assert second.p_value > 0.05
    assert fixed(effect).p_value == pytest.approx(0.04)
    assert second.estimate.low == pytest.approx(z - plan.z[1])
    later = group_sequential(Effect(4.0, 1.0, float("inf"), 20_000, 4, 0), plan, earlier=[0.4, z])
    assert later.significant
    remembered = group_sequential(
        Effect(1.0, 1.0, float("inf"), 30_000, 1, 0), plan, earlier=[0.4, z, 4.0][:3]
    )
    assert remembered.significant
    with pytest.raises(InputError, match="registered"):
        group_sequential(effect, plan, earlier=[0.0] * 4)


def test_chosen_tables_have_a_sequential_p_too() -> None:
    plan = boundary_plan(LOOKS, [3.0, 2.8, 2.5, 2.2])
    on = group_sequential(Effect(2.2, 1, float("inf"), 10, 2, 0), plan, earlier=[0.0, 0.0, 0.0])
    assert on.p_value == pytest.approx(plan.alpha, abs=1e-9)
    off = group_sequential(Effect(2.1, 1, float("inf"), 10, 2, 0), plan, earlier=[0.0, 0.0, 0.0])
    assert (on.significant, off.significant) == (True, False)
    assert off.p_value > plan.alpha


def test_small_samples_are_read_with_students_tails() -> None:
    effect = compare(of_rows([1.0, 2.0, 3.0]), of_rows([0.0, 0.5, 1.0]), MEAN)
    assert abs(z_value(effect)) < effect.value / effect.standard_error
    assert 2 * stats.norm.sf(z_value(effect)) == pytest.approx(fixed(effect).p_value, rel=1e-9)


def test_far_tails_are_not_zero() -> None:
    assert t_tail(37.0, float("inf")) == pytest.approx(stats.norm.sf(37.0), rel=1e-9)
    assert t_tail(37.0, float("inf")) > 0
    assert t_tail(60.0, 1000.0) == pytest.approx(stats.t.sf(60.0, 1000.0), rel=1e-6)


def test_non_inferiority_asks_about_the_margin() -> None:
    """AML-05: CSAT -1.43% against a margin of 1% cannot be proven safe, -.2% with the same error can."""
    bad = Effect(-0.0143, 0.003, float("inf"), 40_000, 0, 0, relative=True)
    good = Effect(-0.002, 0.003, float("inf"), 40_000, 0, 0, relative=True)
    assert not non_inferiority(bad, margin=0.01).significant
    assert non_inferiority(good, margin=0.01).significant
    assert non_inferiority(good, margin=0.01).p_value == pytest.approx(stats.norm.sf(0.008 / 0.003))
    latency = Effect(4.0, 1.0, float("inf"), 1000, 0, 0)
    assert non_inferiority(latency, margin=10.0, harm="up").significant
    with pytest.raises(InputError, match="positive"):
        non_inferiority(good, margin=0.0)


def test_what_cannot_be_compared_is_refused() -> None:
    constant = of_rows([1.0, 1.0, 1.0])
    with pytest.raises(InputError, match="differ"):
        compare(constant, constant, MEAN)
    with pytest.raises(InputError, match="2 or more"):
        compare(of_rows([1.0]), constant, MEAN)
    with pytest.raises(InputError, match="other than 0"):
        compare(of_rows([1.0, 2.0]), of_rows([-1.0, 1.0]), MEAN, relative=True)
    with pytest.raises(InputError, match="column"):
        compare(constant, constant, Metric(Term(1)))
    with pytest.raises(InputError, match="denominator"):
        compare(of_rows([[1.0, 0.0], [2.0, 0.0]]), of_rows([[1.0, 1.0], [2.0, 1.0]]), Metric(Term(0, 1)))


@given(st.integers(8, 60), st.integers(8, 60), st.integers(0, 2**32 - 1))
def test_rank_effect_agrees_with_brunner_munzel(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.round(rng.normal(0.3, 2, n), 1), np.round(rng.normal(0, 1, m), 1)
    effect = rank_effect(a, b)
    oracle = stats.brunnermunzel(a, b)
    assert fixed(effect).p_value == pytest.approx(oracle.pvalue, rel=1e-7)
    u = stats.mannwhitneyu(a, b).statistic
    assert effect.value == pytest.approx(u / (n * m) - 0.5, abs=CLOSE)


def test_capping_uses_common_limits_and_logs_refuse_zero() -> None:
    rng = np.random.default_rng(15)
    a, b = rng.pareto(1.5, 500), rng.pareto(1.5, 500)
    low, high = capped(a, b, upper=0.95)
    assert low.max() == high.max() == np.quantile(np.concatenate([a, b]), 0.95)
    assert (
        compare(of_rows(low), of_rows(high), MEAN).standard_error
        < compare(of_rows(a), of_rows(b), MEAN).standard_error
    )
    lift = log_effect(1.1 * (a + 1), a + 1)
    assert lift.value == pytest.approx(np.log(1.1))
    with pytest.raises(InputError, match="above 0"):
        log_effect([0.0, 1.0], [1.0, 2.0])
