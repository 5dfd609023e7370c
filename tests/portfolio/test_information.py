"""What a result is worth: against the decision tree written out, and at its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.portfolio.information import value_of_information

shares = st.floats(0.01, 0.99)
amounts = st.floats(0.0, 100.0)


def tree(p: float, gain: float, loss: float, sensitivity: float, false_alarm: float) -> float:
    """The slow twin: Bayes' rule at each result, then the better action."""
    won = p * sensitivity + (1 - p) * false_alarm
    after = {
        "won": p * sensitivity / won,
        "lost": p * (1 - sensitivity) / (1 - won),
    }
    chance = {"won": won, "lost": 1 - won}
    informed = sum(chance[k] * max(0.0, q * gain - (1 - q) * loss) for k, q in after.items())
    return informed - max(0.0, p * gain - (1 - p) * loss)


@given(shares, amounts, amounts, shares, shares)
def test_it_is_the_decision_tree_and_lies_between_nothing_and_perfect(
    p: float, gain: float, loss: float, sensitivity: float, false_alarm: float
) -> None:
    """POR-1: the EVOI overlay is a number with a definition."""
    found = value_of_information(p, gain, loss, sensitivity=sensitivity, false_alarm=false_alarm)
    assert found.value == pytest.approx(max(0.0, tree(p, gain, loss, sensitivity, false_alarm)), abs=1e-9)
    assert -1e-12 <= found.value <= found.perfect + 1e-9


def test_a_result_that_changes_nothing_is_worth_nothing() -> None:
    """POR-1: when a loss would not stop anybody, it is no learning bet but a hope with worse odds."""
    found = value_of_information(0.4, 100.0, 1.0, sensitivity=0.7, false_alarm=0.05)
    assert found.value == 0.0
    assert (found.today, found.after_win, found.after_loss) == ("follow", "follow", "follow")
    assert "worth nothing" in found.sentence


def test_a_perfect_test_is_worth_the_limit() -> None:
    found = value_of_information(0.4, 10.0, 8.0, sensitivity=1.0, false_alarm=0.0)
    assert found.value == pytest.approx(found.perfect) == pytest.approx(0.4 * 10.0)
