"""Group-sequential boundaries (EXP-5).

Tolerances: BOUND 1e-6, the required |dz| where a reference has seven digits or more; TABLE 6e-6 and RATIO
6e-5, the rounding of five- and four-decimal tables; GRID 1e-9, refining the quadrature threefold; RATE
.004, 3.6 standard errors of a .05 rate over 40,000 simulated experiments.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.stats import crossing as quadrature
from mangaassist.stats import group_sequential
from mangaassist.stats.group_sequential import (
    boundary_plan,
    cumulative_plan,
    drift_for,
    expected_fraction,
    inflation,
    nominal_z,
    obrien_fleming,
    pocock,
    power_of,
    spending_plan,
    wang_tsiatis,
)
from mangaassist.stats.sequential_p_values import sequential_p, stagewise_p

BOUND = 1e-6
TABLE = 6e-6
RATIO = 6e-5
GRID = 1e-9
RATE = 0.004

LOOKS = (4 / 14, 7 / 14, 11 / 14, 1.0)

schedules = st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True).map(
    lambda ticks: tuple(sorted(t / max(ticks) for t in ticks))
)
families = st.sampled_from(["obf", "pocock", "power:1", "power:3"])


def equal(looks: int) -> np.ndarray:
    return np.arange(1, looks + 1) / looks


def walks(looks: tuple[float, ...], runs: int, seed: int, drift: float = 0.0) -> np.ndarray:
    """z-values of ``runs`` simulated experiments at each look."""
    at = np.asarray(looks)
    steps = np.diff(at, prepend=0.0)
    noise = np.random.default_rng(seed).normal(size=(runs, len(at))) * np.sqrt(steps)
    z: np.ndarray = np.cumsum(noise + drift * steps, axis=1) / np.sqrt(at)
    return z


@pytest.mark.parametrize(
    ("looks", "obf", "obf_r", "pocock_c", "pocock_r"),
    [
        (2, 1.97743, (1.0078, 1.0071), 2.17827, (1.1104, 1.1001)),
        (3, 2.00404, (1.0174, 1.0161), 2.28948, (1.1664, 1.1506)),
        (4, 2.02430, (1.0238, 1.0222), 2.36130, (1.2025, 1.1831)),
        (5, 2.04007, (1.0284, 1.0265), 2.41318, (1.2286, 1.2066)),
    ],
)
def test_classical_tables(
    looks: int, obf: float, obf_r: tuple[float, float], pocock_c: float, pocock_r: tuple[float, float]
) -> None:
    classic, constant = obrien_fleming(equal(looks)), pocock(equal(looks))
    assert classic.z[-1] == pytest.approx(obf, abs=TABLE)
    assert classic.z == pytest.approx(classic.z[-1] / np.sqrt(equal(looks)))
    assert constant.z == pytest.approx([pocock_c] * looks, abs=TABLE)
    for plan, printed in ((classic, obf_r), (constant, pocock_r)):
        assert (inflation(plan, 0.8), inflation(plan, 0.9)) == pytest.approx(printed, abs=RATIO)
        assert plan.bounds[-1].cumulative_alpha == pytest.approx(0.05, abs=1e-10)


def test_one_sided_values_of_rpact() -> None:
    plan = obrien_fleming(equal(3), alpha=0.025, sides=1)
    assert plan.z == pytest.approx([3.4710914, 2.4544323, 2.0040356], abs=BOUND)
    spent = [bound.cumulative_alpha for bound in plan.bounds]
    assert spent == pytest.approx([0.00025917, 0.00716006, 0.025], abs=1e-8)
    shaped = wang_tsiatis([0.2, 0.5, 1.0], delta=0.3, alpha=0.025, sides=1)
    assert shaped.z == pytest.approx([2.8688923, 2.3885055, 2.0793148], abs=BOUND)


def test_gsdesign_rounded_values() -> None:
    assert np.round(obrien_fleming(equal(4)).z, 2).tolist() == [4.05, 2.86, 2.34, 2.02]
    # gsDesign prints maximum sample sizes in percent, at 80% and at 90% power.
    assert round(100 * inflation(obrien_fleming(equal(5)), 0.8), 1) == 102.8
    assert round(100 * inflation(pocock(equal(4)), 0.8), 1) == 120.2


def test_lan_demets_conventions_differ_and_both_are_named() -> None:
    a = spending_plan(LOOKS, spending="obf")
    assert a.convention == "one-sided"
    assert a.z == pytest.approx([4.03334, 2.96456, 2.29184, 2.02377], abs=TABLE)
    per_side = [bound.cumulative_alpha / 2 for bound in a.bounds]
    assert per_side == pytest.approx([2.74949e-5, 0.00152532, 0.0114504, 0.025], rel=1e-5)
    assert (inflation(a, 0.8), inflation(a, 0.9)) == pytest.approx((1.02201, 1.02057), abs=TABLE)
    b = spending_plan(LOOKS, spending="obf", convention="two-sided")
    assert b.z == pytest.approx([3.66676, 2.77757, 2.24283, 2.05391], abs=TABLE)
    per_side = [bound.cumulative_alpha / 2 for bound in b.bounds]
    assert per_side == pytest.approx([1.2282e-4, 0.0027873, 0.0135132, 0.025], rel=5e-5)
    assert (inflation(b, 0.8), inflation(b, 0.9)) == pytest.approx((1.03384, 1.03153), abs=TABLE)


def test_other_spending_values() -> None:
    plan = spending_plan(LOOKS, spending="pocock")
    assert plan.z == pytest.approx([2.32691, 2.38959, 2.33619, 2.36416], abs=TABLE)
    assert inflation(plan, 0.8) == pytest.approx(1.19772, abs=TABLE)
    five = spending_plan(equal(5), spending="obf")
    assert five.z == pytest.approx([4.87688, 3.35701, 2.68028, 2.28982, 2.03103], abs=TABLE)


def test_conventions_agree_where_spending_is_linear_in_alpha() -> None:
    for family in ("pocock", "power:2.5"):
        one = spending_plan(LOOKS, spending=family, convention="one-sided")
        two = spending_plan(LOOKS, spending=family, convention="two-sided")
        assert one.z == pytest.approx(two.z, abs=1e-9)


def test_planted_bug_cumulative_spending_as_nominal_level() -> None:
    """A dead public package does this; the truth is .0593 (convention B's spending), not .05."""
    spent = [bound.cumulative_alpha for bound in spending_plan(LOOKS, convention="two-sided").bounds]
    assert boundary_plan(LOOKS, nominal_z(spent)).alpha == pytest.approx(0.0593, abs=5e-5)


def test_planted_bug_naive_peeking() -> None:
    assert boundary_plan(LOOKS, [1.96] * 4).alpha == pytest.approx(0.1232, abs=5e-5)
    z = walks(LOOKS, 40_000, 0)
    assert (np.abs(z) > 1.96).any(axis=1).mean() == pytest.approx(0.1232, abs=0.006)


def test_planted_bug_wrong_convention_is_visible_in_alpha_spent() -> None:
    """Reading B's first critical value under A would stop 4.5 times as often as A's plan allows."""
    a, b = spending_plan(LOOKS), spending_plan(LOOKS, convention="two-sided")
    assert b.bounds[0].nominal_p / a.bounds[0].nominal_p == pytest.approx(4.467, abs=0.01)


def test_the_registered_table_of_the_worked_example_is_audited() -> None:
    """Nominal .0001/.001/.01/.05 at days 4, 7, 11, 14 costs .0514; read as cumulative it is a valid plan."""
    nominal = boundary_plan(LOOKS, nominal_z([0.0001, 0.001, 0.01, 0.05]))
    z = walks(LOOKS, 40_000, 1)
    simulated = (np.abs(z) >= np.asarray(nominal.z)).any(axis=1).mean()
    assert nominal.alpha == pytest.approx(simulated, abs=RATE)
    assert nominal.alpha == pytest.approx(0.0514, abs=5e-5)
    custom = cumulative_plan(LOOKS, [0.0001, 0.001, 0.01, 0.05])
    assert [bound.cumulative_alpha for bound in custom.bounds] == pytest.approx([0.0001, 0.001, 0.01, 0.05])
    assert boundary_plan(LOOKS, custom.z).alpha == pytest.approx(0.05, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(schedules, families, st.sampled_from([1, 2]), st.floats(0.001, 0.2))
def test_bounds_spend_what_they_say(at: tuple[float, ...], family: str, sides: int, alpha: float) -> None:
    plan = spending_plan(at, spending=family, alpha=alpha, sides=sides)
    audited = boundary_plan(at, plan.z, sides=sides)
    # A one-sided plan's upper crossing and the audit are the same integral; two-sided plans are symmetric.
    spent = [bound.cumulative_alpha for bound in plan.bounds]
    assert [bound.cumulative_alpha for bound in audited.bounds] == pytest.approx(spent, abs=1e-9)
    assert spent[-1] == pytest.approx(alpha, abs=1e-9)
    assert (np.diff(spent) >= 0).all()


@settings(max_examples=10, deadline=None)
@given(schedules, families)
def test_quadrature_is_converged(at: tuple[float, ...], family: str) -> None:
    coarse = spending_plan(at, spending=family).z
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quadrature, "_PANEL_WIDTH", quadrature._PANEL_WIDTH / 3)
        group_sequential._spending_plan.cache_clear()
        fine = spending_plan(at, spending=family).z
    assert coarse == pytest.approx(fine, abs=GRID)


def test_two_looks_agree_with_the_bivariate_normal() -> None:
    """An oracle from another algorithm: scipy's bivariate distribution function."""
    plan = spending_plan([0.4, 1.0], spending="pocock")
    correlation = np.sqrt(0.4)
    inside = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]]).cdf(
        plan.z, lower_limit=[-plan.z[0], -plan.z[1]]
    )
    assert 1 - inside == pytest.approx(0.05, abs=1e-5)


def test_boundaries_hold_their_error_and_power_in_simulation() -> None:
    """The slow twin of the recursion: 40,000 Brownian paths, null and alternative, each family."""
    for seed, family in enumerate(("obf", "pocock", "power:2")):
        plan = spending_plan(LOOKS, spending=family)
        critical = np.asarray(plan.z)
        assert (np.abs(walks(LOOKS, 40_000, seed)) >= critical).any(axis=1).mean() == pytest.approx(
            0.05, abs=RATE
        )
        drift = drift_for(plan, 0.8)
        z = walks(LOOKS, 40_000, 10 + seed, drift)
        assert (z >= critical).any(axis=1).mean() == pytest.approx(0.8, abs=0.007)
        stopped = np.where(
            (np.abs(z) >= critical).any(axis=1), (np.abs(z) >= critical).argmax(axis=1), len(LOOKS) - 1
        )
        assert np.asarray(LOOKS)[stopped].mean() == pytest.approx(expected_fraction(plan, drift), abs=0.005)


def test_power_of_one_look_is_the_z_test() -> None:
    plan = spending_plan([1.0])
    assert plan.z[0] == pytest.approx(stats.norm.ppf(0.975), abs=1e-10)
    assert power_of(plan, 2.8) == pytest.approx(stats.norm.sf(plan.z[0] - 2.8), abs=1e-12)
    assert inflation(plan, 0.8) == pytest.approx(1, abs=1e-9)


def test_a_slipped_look_moves_no_earlier_boundary() -> None:
    planned, slipped = spending_plan(LOOKS), spending_plan((LOOKS[0], LOOKS[1], 0.9, 1.0))
    assert planned.z[:2] == slipped.z[:2]
    assert planned.z[2] > slipped.z[2]


@pytest.mark.parametrize("family", ["obf", "pocock", "power:2"])
def test_a_hundred_looks_are_exact(family: str) -> None:
    """The time it takes is in the benchmarks."""
    plan = spending_plan(equal(100), spending=family)
    assert boundary_plan(equal(100), plan.z).alpha == pytest.approx(0.05, abs=1e-9)


def test_extremely_early_looks_give_finite_bounds() -> None:
    plan = spending_plan([0.001, 0.01, 0.02, 1.0])
    assert np.isfinite(plan.z).all()
    assert (np.diff(plan.z) < 0).all()
    assert plan.z[-1] == pytest.approx(stats.norm.ppf(0.975), abs=1e-6)


def test_far_tail_p_values_are_not_zero() -> None:
    assert 0 < spending_plan([0.05, 1.0]).bounds[0].nominal_p < 1e-20


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), families)
def test_sequential_p_is_below_alpha_exactly_when_the_plan_stops(z: list[float], family: str) -> None:
    plan = spending_plan(LOOKS, spending=family)
    running = 1.0
    for look in range(4):
        p = sequential_p(LOOKS[: look + 1], z[: look + 1], spending=family)
        stopped = any(abs(z[k]) >= plan.z[k] for k in range(look + 1))
        assert (p <= 0.05) == stopped or abs(p - 0.05) < 1e-7
        assert p <= running + 1e-9
        running = p


def test_the_worked_incident_look_two_is_not_crossed() -> None:
    """AML-03: p = .04 at day 7 of 14 is no win; the sequential p-value says so without a table."""
    z = float(stats.norm.isf(0.02))
    plan = spending_plan(LOOKS)
    assert z < plan.z[1]
    assert sequential_p(LOOKS[:2], [0.5, z]) > 0.15


def test_stagewise_p_is_uniform_under_the_null() -> None:
    plan = spending_plan(LOOKS, spending="pocock")
    z = walks(LOOKS, 3000, 5)
    reached = np.abs(z) >= np.asarray(plan.z)
    ends = np.where(reached.any(axis=1), reached.argmax(axis=1), 3)
    grid = np.linspace(-6, 6, 400)
    tables = [np.array([stagewise_p(plan, look, x) for x in grid]) for look in range(4)]
    p = np.array([np.interp(z[i, k], grid, tables[k]) for i, k in enumerate(ends)])
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.013)


def test_stagewise_p_equals_alpha_on_the_last_boundary() -> None:
    plan = spending_plan(LOOKS)
    assert stagewise_p(plan, 3, plan.z[3]) == pytest.approx(0.05, abs=1e-6)
    assert stagewise_p(plan, 0, plan.z[0]) == pytest.approx(plan.bounds[0].nominal_p, rel=1e-9)
    with pytest.raises(InputError, match="registered"):
        stagewise_p(plan, 4, 2.0)


@pytest.mark.parametrize("fractions", [[], [0.5, 0.5], [0.6, 0.4], [0.0, 1.0], [0.5, 1.2], [0.5, np.nan]])
def test_bad_schedules_are_refused(fractions: list[float]) -> None:
    with pytest.raises(InputError):
        spending_plan(fractions)


def test_bad_plans_are_refused() -> None:
    for spending in ("obrien", "power", "power:x", "power:-1"):
        with pytest.raises(InputError):
            spending_plan(LOOKS, spending=spending)
    with pytest.raises(InputError, match="rising"):
        cumulative_plan(LOOKS, [0.01, 0.01, 0.02, 0.05])
    with pytest.raises(InputError):
        boundary_plan(LOOKS, [2.0, 2.0])
    with pytest.raises(InputError):
        spending_plan(LOOKS, alpha=5)


@pytest.mark.soak
def test_type_one_error_of_every_family_and_schedule() -> None:
    """The long form: 400,000 paths each, tolerance 4 standard errors (.0014)."""
    for at in (LOOKS, tuple(equal(20)), (0.05, 0.06, 0.9, 1.0)):
        for seed, family in enumerate(("obf", "pocock", "power:1", "power:3")):
            critical = np.asarray(spending_plan(at, spending=family).z)
            rate = (np.abs(walks(at, 400_000, 100 + seed)) >= critical).any(axis=1).mean()
            assert rate == pytest.approx(0.05, abs=0.0014)


def arrived_walks(arrived: tuple[float, ...], runs: int, seed: int) -> np.ndarray:
    """z-values when other numbers of units came by each look than planned."""
    return walks(tuple(x / arrived[-1] for x in arrived), runs, seed)


@pytest.mark.parametrize("arrived", [(900, 950, 1000, 3000), (50, 2000, 2500, 2600), (286, 500, 786, 1000)])
def test_boundaries_by_what_arrived_keep_the_error(arrived: tuple[float, ...]) -> None:
    """EXP-5: traffic that came early or late; the error is spent at the registered times all the same."""
    plan = spending_plan(LOOKS, spending="pocock", information=arrived)
    registered = spending_plan(LOOKS, spending="pocock")
    rate = (np.abs(arrived_walks(arrived, 40_000, 8)) >= np.asarray(plan.z)).any(axis=1).mean()
    assert rate == pytest.approx(0.05, abs=RATE)
    spent = [bound.cumulative_alpha for bound in plan.bounds]
    assert spent == [bound.cumulative_alpha for bound in registered.bounds]
    assert plan.information is not None
    assert boundary_plan(plan.information, plan.z).alpha == pytest.approx(0.05, abs=1e-9)


def test_arrivals_as_planned_are_the_registered_plan_on_any_scale() -> None:
    registered, twin = spending_plan(LOOKS), spending_plan(LOOKS, information=[4, 7, 11, 14])
    assert twin.z == pytest.approx(registered.z, abs=1e-9)
    assert inflation(twin, 0.8) == pytest.approx(inflation(registered, 0.8), abs=1e-9)


def test_planted_bug_registered_fractions_for_late_traffic_miss_the_level() -> None:
    """Nearly all users in the last quarter: three almost independent chances more than planned for."""
    arrived = (50, 100, 150, 3000)
    wrong = np.asarray(spending_plan(LOOKS, spending="pocock").z)
    right = np.asarray(spending_plan(LOOKS, spending="pocock", information=arrived).z)
    z = np.abs(arrived_walks(arrived, 40_000, 9))
    assert (z >= wrong).any(axis=1).mean() > (z >= right).any(axis=1).mean() + RATE


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), families)
def test_sequential_p_by_what_arrived_meets_the_boundary(z: list[float], family: str) -> None:
    arrived = (120, 900, 950, 1400)
    plan = spending_plan(LOOKS, spending=family, information=arrived)
    for look in range(4):
        p = sequential_p(LOOKS[: look + 1], z[: look + 1], spending=family, information=arrived[: look + 1])
        stopped = any(abs(z[k]) >= plan.z[k] for k in range(look + 1))
        assert (p <= 0.05) == stopped or abs(p - 0.05) < 1e-7


def test_arrivals_that_do_not_rise_are_refused() -> None:
    for arrived in ([1, 2, 3], [1, 2, 2, 3], [0, 1, 2, 3], [4, 3, 2, 1], [1, 2, 3, np.nan]):
        with pytest.raises(InputError):
            spending_plan(LOOKS, information=arrived)


def test_a_plan_is_solved_once() -> None:
    """EXP-5: an analysis of a hundred readings asks for the same boundaries again and again."""
    assert spending_plan(LOOKS) is spending_plan(list(LOOKS))
