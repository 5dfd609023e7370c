"""What an experiment is worth for what it teaches: preposterior analysis of the decision that follows it."""

from __future__ import annotations

from dataclasses import dataclass

from mangaassist.portfolio.candidates import Learning


@dataclass(frozen=True, slots=True)
class Information:
    """The worth of running an experiment before a decision.

    Attributes:
        value: expected worth of the experiment's result (EVSI), 0 when no result changes the decision.
        perfect: the same for an experiment that never errs (EVPI), an upper limit.
        today: what would be decided without it: "follow" or "leave".
        after_win, after_loss: what is decided after either result.
    """

    value: float
    perfect: float
    today: str
    after_win: str
    after_loss: str

    @property
    def sentence(self) -> str:
        """Why it is worth that."""
        if self.after_win == self.after_loss:
            return f"Either result leads to '{self.today}', so the result is worth nothing."
        return (
            f"Without it the direction would be '{self.today}'; a win leads to '{self.after_win}', "
            f"a loss to '{self.after_loss}'."
        )


def value_of_information(
    probability: float, gain: float, loss: float, *, sensitivity: float, false_alarm: float
) -> Information:
    """Two states, two actions, one imperfect test.

    Source: Raiffa and Schlaifer (1961), Applied Statistical Decision Theory, chapter 4.

    Args:
        probability: that the direction is right, before the test.
        gain: worth of following it when it is right.
        loss: what following it costs when it is wrong, 0 or more.
        sensitivity: probability that a right direction wins the test.
        false_alarm: probability that a wrong one does.
    """
    right, wrong = probability * gain, (1.0 - probability) * loss
    won = sensitivity * right - false_alarm * wrong
    lost = (1.0 - sensitivity) * right - (1.0 - false_alarm) * wrong
    blind = max(0.0, right - wrong)
    value = max(0.0, max(0.0, won) + max(0.0, lost) - blind)
    choices = ("follow" if payoff > 0 else "leave" for payoff in (right - wrong, won, lost))
    return Information(value, right - blind, *choices)


def learning_value(
    learning: Learning, *, evidence: float, detectability: float, week_worth: float, effort_factor: float
) -> Information:
    """The worth of a registered learning target.

    Args:
        evidence: calibrated probability that the direction is right.
        detectability: sensitivity of its test.
        week_worth: worth of an engineer-week, which prices wasted ones.
        effort_factor: how much longer weeks of this class take than estimated.
    """
    return value_of_information(
        evidence,
        learning.gain,
        learning.weeks_at_stake * effort_factor * week_worth,
        sensitivity=detectability,
        false_alarm=learning.false_alarm,
    )
