"""Factors from history: nothing without it, a little from a little, and the truth from a lot."""

from __future__ import annotations

import numpy as np
import pytest
from tests.portfolio.examples import QUARTER

from mangaassist.portfolio.calibration import calibrate
from mangaassist.portfolio.candidates import Past
from mangaassist.portfolio.schema import read_portfolio


def past(n: int, *, confidence: float, wins: int, ratio: float = 1.0, cost_class: str = "") -> list[Past]:
    return [Past(f"p{i}", confidence, i < wins, 10.0, 10.0 * ratio, cost_class) for i in range(n)]


def test_without_history_nothing_is_corrected() -> None:
    """POR-1."""
    found = calibrate([])
    assert (found.confidence.value, found.effort.value, found.effort_of("any").value) == (1.0, 1.0, 1.0)
    assert found.confidence.raw is None
    assert not found.confidence.shown


@pytest.mark.parametrize(("expected", "raw"), [(8.4, 7 / 8.4), (10.0, 0.7)])
def test_seven_of_twelve_against_what_was_expected(expected: float, raw: float) -> None:
    """POR-1: 8.4 expected wins are within noise of 7, 10 hardly; either is corrected part of the way."""
    found = calibrate(past(12, confidence=expected / 12, wins=7)).confidence
    assert found.raw == pytest.approx(raw)
    assert raw < found.value < 1.0
    assert found.low < found.value < found.high
    assert not found.shown or expected == 10.0


def test_eight_in_ten_that_win_half_the_time_end_at_the_known_haircut() -> None:
    """POR-1: with enough quarters the factor is realised over stated, .5 / .8."""
    found = calibrate(past(400, confidence=0.8, wins=200)).confidence
    assert found.value == pytest.approx(0.625, abs=0.02)
    assert found.shown


def test_the_interval_covers_the_true_factor() -> None:
    """POR-2: over teams drawn from the prior, the 95% interval holds the true factor in about 95%."""
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        truth = float(np.exp(generator.normal(0, 0.3)))
        stated = generator.uniform(0.3, 0.8, 12)
        won = generator.random(12) < np.minimum(stated * truth, 1.0)
        history = [
            Past(f"p{i}", float(p), bool(w), 1, None)
            for i, (p, w) in enumerate(zip(stated, won, strict=True))
        ]
        found = calibrate(history).confidence
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 300 <= 0.99


def test_effort_factors_learn_a_class_without_blaming_the_others() -> None:
    """POR-1: the class that runs over is corrected, the rest hardly."""
    history = past(8, confidence=0.7, wins=6, ratio=1.0, cost_class="tuning")
    history += past(8, confidence=0.7, wins=2, ratio=2.4, cost_class="replacement")
    found = calibrate(history)
    assert found.effort_of("replacement").value == pytest.approx(2.4, rel=0.08)
    assert found.effort_of("tuning").value == pytest.approx(1.0, rel=0.08)
    assert 1.0 < found.effort_of("never seen").value < 2.4
    wide, narrow = found.effort_of("never seen"), found.effort_of("tuning")
    assert wide.high - wide.low > narrow.high - narrow.low


def test_work_of_no_class_counts_like_work_of_a_class_of_its_own() -> None:
    """POR-1: against the same history with a class per project, whose effects are then solved for."""
    ratios = [1.0, 1.2, 2.0, 2.4, 0.9]
    loose = [Past(f"p{i}", 0.5, None, 10.0, 10.0 * r) for i, r in enumerate(ratios)]
    single = [Past(f"p{i}", 0.5, None, 10.0, 10.0 * r, f"class {i}") for i, r in enumerate(ratios)]
    ours, twin = calibrate(loose).effort, calibrate(single).effort
    assert (ours.value, ours.low, ours.high) == pytest.approx((twin.value, twin.low, twin.high))


def test_one_overrun_moves_a_class_part_of_the_way() -> None:
    found = calibrate([Past("a", 0.5, False, 10.0, 30.0, "replacement")]).effort_of("replacement")
    assert 1.2 < found.value < 3.0


def test_expected_effort_is_the_mean_and_not_the_median() -> None:
    """POR-1: budgets add up expectations; a lognormal's is above its median."""
    generator = np.random.default_rng(5)
    ratios = np.exp(generator.normal(0.2, 0.5, 4000))
    history = [Past(f"p{i}", 0.5, None, 1.0, float(r), "c") for i, r in enumerate(ratios)]
    assert calibrate(history).effort_of("c").value == pytest.approx(float(ratios.mean()), rel=0.03)


def test_the_example_history_reproduces_the_sources_haircuts() -> None:
    """POR-1: 1.3 on effort over all, 2.4 on the class that overran, none on the rest."""
    found = calibrate(read_portfolio(QUARTER, source="quarter.yaml").history)
    assert found.effort.value == pytest.approx(1.30, abs=0.02)
    assert found.effort_of("replacement").raw == pytest.approx(2.4, abs=0.1)
    assert found.effort_of("replacement").low > 1.5
    assert found.effort_of("tuning").value == pytest.approx(1.05, abs=0.03)
    assert found.confidence.n == 12
    assert found.confidence.raw == pytest.approx(7 / 8.4)
