"""Examination by position: known truth recovered, intervals that cover, and refusals instead of numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.stats.click_models import Examination, Exposures, examination, read_exposures

TRUTH = np.array([1.0, 0.7, 0.5, 0.35, 0.2])


def simulate(
    generator: np.random.Generator,
    *,
    requests: int,
    queries: int,
    shuffled: bool = False,
    wobble: float = 0.5,
) -> Exposures:
    """Lists of as many items as TRUTH has positions; a noisy ranker puts attractive items first.

    With ``shuffled`` the lists are drawn at random and the unit is the whole list.
    """
    k = len(TRUTH)
    attraction = generator.beta(2, 5, (queries, k))
    query = generator.integers(0, queries, requests)
    score = attraction[query] + wobble * generator.normal(size=(requests, k))
    order = np.argsort(generator.random((requests, k)) if shuffled else -score, axis=1)
    clicked = generator.random((requests, k)) < TRUTH * np.take_along_axis(attraction[query], order, axis=1)
    unit = np.zeros((requests, k)) if shuffled else query[:, None] * k + order
    request = np.repeat(np.arange(requests), k)
    return read_exposures(unit.ravel(), np.tile(np.arange(1, k + 1), requests), clicked.ravel(), request)


def alternating(rows: Exposures, rounds: int = 3_000) -> NDArray[np.float64]:
    """The slow obvious twin: attraction given examination, examination given attraction, in plain loops.

    These are the EM steps of the position-based model with Poisson clicks: the expected clicks of a row are
    shared between its two factors.
    """
    places = sorted(set(rows.position.tolist()))
    seen = list(zip(rows.unit.tolist(), rows.position.tolist(), rows.clicked.tolist(), strict=True))
    looked = dict.fromkeys(places, 1.0)
    for _ in range(rounds):
        attraction = {}
        for unit in {row[0] for row in seen}:
            own = [row for row in seen if row[0] == unit]
            attraction[unit] = sum(row[2] for row in own) / sum(looked[row[1]] for row in own)
        before = dict(looked)
        for place in places:
            own = [row for row in seen if row[1] == place]
            looked[place] = sum(row[2] for row in own) / sum(attraction[row[0]] for row in own)
        if max(abs(looked[one] - before[one]) for one in places) < 1e-12:
            break
    return np.array([looked[place] / looked[places[0]] for place in places])


@pytest.mark.parametrize("shuffled", [False, True])
def test_known_examination_is_recovered_within_its_interval(shuffled: bool) -> None:
    rows = simulate(np.random.default_rng(1), requests=20_000, queries=400, shuffled=shuffled)
    found = examination(rows, generator=np.random.default_rng(2), replicates=100)
    assert found.identified.all()
    assert not found.reason
    # Five intervals at 95%: widened by half they hold jointly for any seed but one in a thousand.
    slack = 0.5 * (found.high - found.low)
    assert (np.abs(found.value - TRUTH) <= 1.5 * slack + 1e-12).all(), found.value
    assert (slack[1:] < 0.1).all()
    clicks = np.bincount(rows.position, weights=rows.clicked)[1:]
    naive = clicks / clicks[0]
    if not shuffled:  # the ranker puts good items first, so raw click rates exaggerate the bias
        assert (naive[1:] < found.value[1:]).all()


def test_the_likelihood_is_maximised_where_the_alternating_steps_end() -> None:
    rows = simulate(np.random.default_rng(3), requests=60, queries=4)
    found = examination(rows, generator=np.random.default_rng(4), replicates=20)
    np.testing.assert_allclose(found.value, alternating(rows), rtol=1e-6)


def _covered(found: Examination) -> NDArray[np.bool_]:
    return (found.low <= TRUTH) & (found.high >= TRUTH)


def _coverage(simulations: int, requests: int) -> NDArray[np.float64]:
    hits = np.zeros(len(TRUTH))
    for seed in range(simulations):
        rows = simulate(np.random.default_rng([5, seed]), requests=requests, queries=100)
        hits += _covered(examination(rows, generator=np.random.default_rng([6, seed]), replicates=80))
    return hits[1:] / simulations


def test_intervals_cover() -> None:
    # 60 simulations: a true 95% gives 51 hits or fewer with probability 0.003 in each of four positions.
    assert (_coverage(60, 1_000) > 51 / 60).all()


@pytest.mark.soak
def test_intervals_cover_at_their_level() -> None:
    # 1,000 simulations: standard error 0.7 points; four standard errors to each side.
    coverage = _coverage(1_000, 2_000)
    assert ((coverage > 0.922) & (coverage < 0.978)).all(), coverage


def test_rarely_shown_items_do_no_harm() -> None:
    """Every item is shown three times or so: estimating each attraction would bias the examination."""
    rows = simulate(np.random.default_rng(7), requests=10_000, queries=3_300)
    found = examination(rows, generator=np.random.default_rng(8), replicates=40)
    assert (np.abs(found.value - TRUTH) <= 0.75 * (found.high - found.low) + 1e-12).all(), found.value


def test_items_that_never_move_give_no_number() -> None:
    generator = np.random.default_rng(9)
    rows = simulate(generator, requests=5_000, queries=50, wobble=0.0)
    found = examination(rows, generator=generator)
    assert not found.identified.any()
    assert np.isnan(found.value).all()
    assert "nothing can be compared" in found.reason
    assert found.units == 0


def test_a_position_without_a_bridge_is_left_out() -> None:
    """Positions 1 and 2 swap items, 3 and 4 swap others: nothing says how 3 compares with 1."""
    generator = np.random.default_rng(10)
    n = 2_000
    flip = generator.integers(0, 2, n)
    unit = np.stack([flip, 1 - flip, 2 + flip, 3 - flip], axis=1)
    clicked = generator.random((n, 4)) < 0.3
    rows = read_exposures(unit.ravel(), np.tile([1, 2, 3, 4], n), clicked.ravel(), np.repeat(np.arange(n), 4))
    found = examination(rows, generator=generator, replicates=50)
    assert found.identified.tolist() == [True, True, False, False]
    assert found.reason == "No chain of comparisons leads from position 1 to 3, 4."


def test_a_position_nobody_clicked_is_left_out() -> None:
    generator = np.random.default_rng(11)
    rows = simulate(generator, requests=2_000, queries=20)
    silent = read_exposures(
        rows.unit, rows.position, np.where(rows.position == 5, 0.0, rows.clicked), rows.request
    )
    found = examination(silent, generator=generator, replicates=50)
    assert found.identified.tolist() == [True, True, True, True, False]


def test_a_handful_of_requests_is_refused() -> None:
    """Resamples of three requests lose the comparison too often for an interval."""
    rows = read_exposures([0, 1, 1, 0, 0, 1], [1, 2] * 3, [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 2, 2])
    found = examination(rows, generator=np.random.default_rng(12))
    assert not found.identified.any()
    assert "resamples leave positions without a comparison" in found.reason


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (([], [], [], []), "1 or more"),
        (([1], [0], [1], [1]), "positions from 1"),
        (([1, 2], [1], [1], [1]), "2 and 1 rows"),
    ],
)
def test_bad_columns_are_refused(columns: tuple[list[int], ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_exposures(*columns)
