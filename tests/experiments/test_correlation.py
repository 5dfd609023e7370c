"""Offline-online correlation: zones, noise, replay, and the five causes with the numbers of the incident."""

from __future__ import annotations

import numpy as np
import pytest
from tests.experiments.tables import pairs_at

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status
from mangaassist.experiments import diagnostics
from mangaassist.experiments.correlation import (
    Pair,
    Zone,
    cautious_launches,
    correlate,
    pairs,
    record,
    replayed,
    zone_of,
)
from mangaassist.storage.ledger import Ledger


@pytest.mark.parametrize(
    ("pearson", "zone", "status"),
    [
        (0.41, Zone.FREEZE, Status.FAIL),
        (0.55, Zone.YELLOW, Status.INSUFFICIENT),
        (0.71, Zone.TRUST, Status.PASS),
    ],
)
def test_incidents_freeze_at_41_and_restored_55_is_yellow(pearson: float, zone: Zone, status: Status) -> None:
    """AML-04, EVA-5: .41 freezes, .55 is yellow, .71 is trusted."""
    found = correlate("reranker", pairs_at(pearson))
    assert found.pearson == pytest.approx(pearson, abs=1e-12)
    assert found.zone is zone
    assert found.verdict().status is status
    assert found.low < pearson < found.high


def test_zones_meet_where_the_requirement_says() -> None:
    """EVA-5: above .6, .5 to .6, below .5."""
    assert [zone_of(r) for r in (0.61, 0.6, 0.5, 0.49)] == [Zone.TRUST, Zone.YELLOW, Zone.YELLOW, Zone.FREEZE]


def test_measurement_noise_is_taken_out_by_its_reliability() -> None:
    """EVA-5: forty noisy experiments at .5; the obvious twin divides by the known reliabilities."""
    found = correlate("s", pairs_at(0.5, n=40, error=0.01), window=40)
    x, y = np.array([(p.offline, p.online) for p in pairs_at(0.5, n=40)]).T
    twin = 0.5 / np.sqrt((1 - 0.01**2 / x.var(ddof=1)) * (1 - 0.005**2 / y.var(ddof=1)))
    assert found.corrected == pytest.approx(twin, abs=0.1)
    assert found.corrected > 0.55
    assert found.collapsed is not None
    assert found.collapsed < 0.5
    assert correlate("s", pairs_at(0.5)).corrected is None


def test_a_short_record_says_nothing_and_a_constant_one_is_refused() -> None:
    assert correlate("s", pairs_at(0.9)[:5]).zone is Zone.UNKNOWN
    with pytest.raises(InputError, match="constant side"):
        correlate("s", [Pair(str(i), 0.01, 0.02 * i) for i in range(6)])


def test_replay_through_a_new_harness_needs_every_experiment() -> None:
    """EVA-5: six past experiments through the rebuilt metric set."""
    past = pairs_at(0.41)
    better = [one.offline for one in pairs_at(0.55)]
    generator = np.random.default_rng(0)
    online = np.array([one.online for one in past])
    restored = online * 2 + generator.normal(0, 0.005, 6)
    found = replayed("reranker", past, list(restored))
    assert (found["before"].zone, found["after"].zone, found["adopt"]) == (Zone.FREEZE, Zone.TRUST, True)
    with pytest.raises(InputError, match="one change for each of 6"):
        replayed("reranker", past, better[:4])


def test_the_five_causes_with_the_numbers_of_the_incident() -> None:
    """AML-04: proxy mismatch is the primary hit, leakage and drift partial, Goodharting possible."""
    found = {
        one.name: one
        for one in (
            diagnostics.selection_bias([300, 120, 60, 20, 0], [2900, 1250, 500, 250, 100]),
            diagnostics.label_leakage(3.3, 1.8),
            diagnostics.distribution_shift(0.14, 56),
            diagnostics.proxy_mismatch(
                [0.0, 0.1, 0.0, 0.2, 0.9, 0.8, 0.6, 0.1, 0, 0], [60, 20, 10, 4, 2, 1, 1, 1, 1, 0]
            ),
            diagnostics.goodharting(True, 0.038, [0.033, 0.030]),
        )
    }
    assert found["diagnosis.proxy_mismatch"].status is Status.FAIL
    assert found["diagnosis.proxy_mismatch"].blocking
    assert found["diagnosis.label_leakage"].value == pytest.approx(1 - 1.8 / 3.3)
    for name in ("label_leakage", "distribution_shift", "goodharting"):
        assert found[f"diagnosis.{name}"].status is Status.FAIL
        assert not found[f"diagnosis.{name}"].blocking
    assert "20%" not in found["diagnosis.selection_bias"].sentence
    assert found["diagnosis.selection_bias"].status is Status.PASS


def test_selection_bias_needs_more_than_sampling_noise() -> None:
    """EVA-5: forty evaluation queries cannot prove a drift that forty thousand can."""
    production = [5000, 3000, 1500, 500]
    assert diagnostics.selection_bias([16, 16, 6, 2], production).status is Status.PASS
    assert diagnostics.selection_bias([9000, 1000, 500, 10], production).blocking


def test_a_portfolio_is_won_on_the_primary_without_losing_elsewhere() -> None:
    """EVA-4."""
    assert diagnostics.portfolio_win(0.02, [0.0, -0.005])
    assert not diagnostics.portfolio_win(0.05, [0.03, -0.02])


def test_goodhart_watch_sees_offline_wins_that_users_do_not() -> None:
    """EVA-5: offline gains grow from launch to launch while online stays flat."""
    widening = [Pair(str(i), 0.01 * i, 0.002 * (-1) ** i) for i in range(10)]
    assert diagnostics.goodhart_watch(widening).status is Status.FAIL
    steady = [Pair(str(i), 0.01 * (i % 4), 0.005 * (i % 4)) for i in range(10)]
    assert diagnostics.goodhart_watch(steady).status is Status.PASS


def test_a_yellow_reading_makes_the_next_four_launches_cautious() -> None:
    """EVA-5: they stay so while the correlation recovers; a reading in the zone starts the count again."""
    yellow = pairs_at(0.55)
    assert cautious_launches(yellow[:5]) == 0
    assert cautious_launches(yellow) == 4
    assert cautious_launches(pairs_at(0.71)) == 0
    agreeing = [Pair(f"good{i}", 0.3 * (i + 1), 0.2 * (i + 1)) for i in range(4)]
    zones = [correlate("s", [*yellow, *agreeing[: n + 1]]).zone for n in range(4)]
    assert zones == [Zone.TRUST] * 4
    assert [cautious_launches([*yellow, *agreeing[: n + 1]]) for n in range(4)] == [3, 2, 1, 0]


def test_an_experiment_counts_once(ledger: Ledger, clock: SimulatedClock) -> None:
    pair = Pair("reranker-l12", 0.06, 0.03)
    record(ledger, "reranker", pair, actor="a", at=clock.now())
    with pytest.raises(InputError, match="counts once"):
        record(ledger, "reranker", pair, actor="b", at=clock.now())
    record(ledger, "prompt", pair, actor="b", at=clock.now())
    assert pairs(ledger, "reranker") == [pair]
