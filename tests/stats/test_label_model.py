"""The label model of functions that abstain: against the closed form, and on votes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.stats.label_model import ABSTAIN, one_coin


def planted(
    generator: np.random.Generator, accuracies: list[float], *, items: int, classes: int, speaks: float
) -> tuple[np.ndarray, np.ndarray]:
    """True classes and votes of functions with those accuracies that speak independently of the truth."""
    truth = generator.integers(classes, size=items)
    votes = np.full((items, len(accuracies)), ABSTAIN)
    for column, accuracy in enumerate(accuracies):
        right = generator.random(items) < accuracy
        wrong = (truth + generator.integers(1, classes, size=items)) % classes
        said = np.where(right, truth, wrong)
        votes[:, column] = np.where(generator.random(items) < speaks, said, ABSTAIN)
    return truth, votes


def test_it_recovers_planted_accuracies_and_beats_the_majority() -> None:
    """Five functions, one of them bad; 20,000 items bring the estimates within 0.03 (fixed seed)."""
    planned = [0.95, 0.9, 0.8, 0.7, 0.4]
    truth, votes = planted(np.random.default_rng(3), planned, items=20_000, classes=4, speaks=0.6)
    found = one_coin(votes, n_classes=4)
    assert found.converged
    assert found.accuracy == pytest.approx(planned, abs=0.03)
    spoken = (votes != ABSTAIN).any(axis=1)
    counts = np.stack([(votes == label).sum(axis=1) for label in range(4)], axis=1)
    by_majority = (counts.argmax(axis=1) == truth)[spoken].mean()
    by_model = (found.posterior.argmax(axis=1) == truth)[spoken].mean()
    assert by_model > by_majority + 0.02


def test_one_step_is_bayes_rule_by_hand() -> None:
    """Two functions that always meet: the posterior is the product of their likelihoods."""
    found = one_coin([[0, 1], [0, -1]], n_classes=3, max_iterations=0, accuracy=0.8)
    odds = 0.8 * 0.1
    assert found.posterior[0] == pytest.approx(np.array([odds, odds, 0.01]) / (2 * odds + 0.01))
    assert found.posterior[1] == pytest.approx([0.8, 0.1, 0.1])


def test_nobody_speaking_leaves_every_class_alike() -> None:
    found = one_coin([[-1, -1]], n_classes=2)
    assert found.posterior.tolist() == [[0.5, 0.5]]
    assert found.accuracy.tolist() == pytest.approx([0.8, 0.8])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(-1, 2), min_size=3, max_size=3), min_size=1, max_size=30),
    order=st.permutations(range(3)),
)
def test_the_order_of_functions_and_items_does_not_matter(rows: list[list[int]], order: list[int]) -> None:
    """A posterior belongs to its item, an accuracy to its function."""
    votes = np.array(rows)
    plain, moved = one_coin(votes, n_classes=3), one_coin(votes[::-1][:, order], n_classes=3)
    assert moved.posterior[::-1] == pytest.approx(plain.posterior, abs=1e-6)
    assert moved.accuracy == pytest.approx(plain.accuracy[order], abs=1e-6)
    assert plain.posterior.sum(axis=1) == pytest.approx(np.ones(len(rows)))


@pytest.mark.parametrize("votes", [[0, 1], [[0.5]], [[3]], [[-2]]])
def test_votes_of_another_shape_are_refused(votes: object) -> None:
    with pytest.raises(InputError, match="label_model"):
        one_coin(votes, n_classes=3)  # type: ignore[arg-type]


def test_one_class_is_no_question() -> None:
    with pytest.raises(InputError, match="classes"):
        one_coin([[0]], n_classes=1)
