"""What became of a quarter's picks and of its vetoes: recorded once, and never against the experiment."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mangaassist.core.errors import GateRefused, InputError, nearest
from mangaassist.core.verdict import Decision
from mangaassist.experiments import registry
from mangaassist.experiments.looks import guardrail_vetoes
from mangaassist.portfolio import ledger_facts as known
from mangaassist.portfolio.scoring import SWING_BET
from mangaassist.storage.ledger import Ledger

SUSTAINED_AFTER = timedelta(days=28)
_MOST_WEEKS = 10_000


class Result(StrEnum):
    """What became of a pick."""

    WON = "won"
    LOST = "lost"
    ABANDONED = "abandoned"


def finish(
    ledger: Ledger,
    portfolio: str,
    candidate: str,
    *,
    weeks: float,
    actor: str,
    at: datetime,
    result: Result | None = None,
    learned: bool | None = None,
    lift: float | None = None,
    experiment: str = "",
) -> Result:
    """Record what became of a pick, once.

    Args:
        weeks: engineer-weeks it took.
        result: may be left out when its experiment was decided; must agree with it.
        learned: whether the registered learning target was met; needed for a swing bet.
        lift: measured absolute change of its metric, as a share; None where unknown.
        experiment: that tested it, when the portfolio did not say.

    Raises:
        InputError: for an unknown portfolio or pick, or numbers that cannot be.
        GateRefused: when it was finished before, or its experiment says otherwise.
    """
    quarter = known.get(ledger, portfolio)
    pick = quarter.picks.get(candidate)
    if pick is None:
        step = nearest(candidate, quarter.picks)
        raise InputError(
            f"pick of '{portfolio}'", expected="one of its picks", got=repr(candidate), next_step=step
        )
    _check_outcome(quarter, candidate, weeks, learned)
    named = experiment or pick["experiment"] or ""
    result = _agreed(ledger, candidate, named, result)
    body: dict[str, Any] = {
        "candidate": candidate,
        "result": str(result),
        "weeks": weeks,
        "learned": learned,
        "lift": lift,
        "experiment": named,
    }
    subject = known.PORTFOLIO + portfolio
    ledger.append(kind=known.FINISHED, subject=subject, body=body, actor=actor, at=at, expected=quarter.head)
    return result


def _check_outcome(quarter: known.Decided, candidate: str, weeks: float, learned: bool | None) -> None:
    if candidate in quarter.finished:
        raise GateRefused(
            f"pick '{candidate}'",
            expected="an open pick",
            got=f"one that is {quarter.finished[candidate]['result']}",
            next_step="What became of it was recorded; the ledger is not rewritten.",
        )
    if not 0 < weeks < _MOST_WEEKS:
        raise InputError(
            "weeks", expected="engineer-weeks above 0", got=f"{weeks:g}", next_step="Count what it took."
        )
    if quarter.picks[candidate]["slot"] == SWING_BET and learned is None:
        raise InputError(
            f"pick '{candidate}'",
            expected="whether its learning target was met",
            got="nothing",
            next_step="Pass --learned or --not-learned: a swing bet is judged by that.",
        )


def _agreed(ledger: Ledger, candidate: str, experiment: str, result: Result | None) -> Result:
    """The result that the experiment and the person both give."""
    says: Result | None = None
    if experiment:
        found = registry.get(ledger, experiment)
        says = {"shipped": Result.WON, "stopped": Result.LOST}.get(found.status)
        if says is None and result is not Result.ABANDONED:
            raise _disagree(candidate, f"experiment '{experiment}' to be decided", f"it is {found.status}")
    if result is None and says is None:
        raise InputError(
            f"pick '{candidate}'",
            expected="a result",
            got="none, and no experiment that tells it",
            next_step="Pass --result won, lost or abandoned.",
        )
    if result is not None and says is not None and result is not says:
        raise _disagree(candidate, f"the result of experiment '{experiment}' ({says})", str(result))
    return result or says or Result.ABANDONED


def _disagree(candidate: str, expected: str, got: str) -> GateRefused:
    return GateRefused(
        f"pick '{candidate}'",
        expected=expected,
        got=got,
        next_step="The experiment decides what won; a pick whose experiment never ended is abandoned.",
    )


def follow_up(
    ledger: Ledger,
    experiment: str,
    *,
    held: bool,
    actor: str,
    at: datetime,
    cohort_regressions: int = 0,
) -> None:
    """Record what became of a decision: a shipped lift after 28 days, or a veto looked at again.

    Args:
        held: for a shipped experiment, that its lift is still there; for a vetoed one, that shipping it would
            have done harm.
        cohort_regressions: registered cohorts that turned out worse after the launch.

    Raises:
        InputError: for an unknown experiment.
        GateRefused: before its decision, before 28 days, for a stop that was no veto, or a second time.
    """
    found = registry.get(ledger, experiment)
    subject = known.FOLLOW_UP + experiment
    decided_at = _decided_at(ledger, found)
    got = ""
    if decided_at is None:
        got = f"it is {found.status}"
    elif found.status == "shipped" and at < decided_at + SUSTAINED_AFTER:
        got = f"day {(at - decided_at).days} of {SUSTAINED_AFTER.days}"
    elif found.status == "stopped" and not vetoed(found):
        got = "a stop without a guardrail veto"
    elif ledger.head(subject):
        got = "an earlier follow-up"
    if got:
        raise GateRefused(
            f"follow-up of '{experiment}'",
            expected="a decision of which something can be known",
            got=got,
            next_step="Shipped lifts are read once after 28 days, vetoes once after their review.",
        )
    body = {
        "experiment": experiment,
        "shipped": found.status == "shipped",
        "held": held,
        "cohort_regressions": cohort_regressions,
        "decided_at": decided_at,
    }
    ledger.append(kind=known.FOLLOWED_UP, subject=subject, body=body, actor=actor, at=at, expected=0)


def _decided_at(ledger: Ledger, found: registry.Experiment) -> datetime | None:
    if not found.over:
        return None
    return ledger.entries(subject=found.subject, kind=registry.DECIDED)[-1].at


def vetoed(found: registry.Experiment) -> bool:
    """Whether a guardrail stopped it."""
    if not found.looks:
        return False
    return bool(guardrail_vetoes(Decision.from_dict(found.looks[-1]["decision"])))
