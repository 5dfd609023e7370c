"""What the ledger says about earlier quarters: decided portfolios, what came of their picks, framings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mangaassist.core.errors import InputError, nearest
from mangaassist.experiments.correlation import RECORDED, Zone, correlate, pairs
from mangaassist.portfolio.break_even import Recommendation
from mangaassist.portfolio.candidates import Past
from mangaassist.portfolio.rules import Facts
from mangaassist.storage.ledger import Entry, Ledger

DECIDED = "portfolio.decided"
REFUSED = "portfolio.refused"
FINISHED = "portfolio.finished"
FOLLOWED_UP = "portfolio.followed_up"
FRAMED = "portfolio.framed"

PORTFOLIO = "portfolio/"
FRAMING = "framing/"
FOLLOW_UP = "portfolio-follow-up/"

_FOR_A_MODEL = (Recommendation.MODEL, Recommendation.MODEL_BY_OVERRIDE)


@dataclass(frozen=True, slots=True)
class Decided:
    """One quarter as decided, and what has come of it.

    Attributes:
        name: of the portfolio.
        at: when it was decided.
        actor: who decided.
        sequence: of the decision's entry.
        head: sequence of its last entry, for compare-and-swap.
        body: the decision's entry: text, digest, ranking, decision.
        finished: per candidate the body of its outcome, and when it was recorded under "at".
    """

    name: str
    at: datetime
    actor: str
    sequence: int
    head: int
    body: Mapping[str, Any]
    finished: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def picks(self) -> dict[str, Mapping[str, Any]]:
        """Rows of the ranking that were picked, by name."""
        return {row["name"]: row for row in self.body["ranking"]["candidates"] if row["outcome"] == "pick"}

    def past(self, name: str) -> Past:
        """The pick ``name`` as history for the next quarter."""
        row, found = self.picks[name], self.finished.get(name)
        return Past(
            name,
            row["confidence"],
            found["result"] == "won" if found else None,
            row["weeks"],
            found["weeks"] if found else None,
            row["cost_class"],
        )


def decided(ledger: Ledger, name: str) -> Decided | None:
    """The portfolio ``name``, or None when nobody decided it."""
    return _fold(name, ledger.entries(subject=PORTFOLIO + name))


def get(ledger: Ledger, name: str) -> Decided:
    """The portfolio ``name``.

    Raises:
        InputError: when nobody decided it.
    """
    found = decided(ledger, name)
    if found is None:
        known = [one.name for one in quarters(ledger)]
        raise InputError(
            "portfolio",
            expected="a decided portfolio",
            got=repr(name),
            next_step=nearest(name, known) + " Decide one with 'portfolio decide FILE'.",
        )
    return found


def quarters(ledger: Ledger) -> list[Decided]:
    """Every decided portfolio, oldest first."""
    names = dict.fromkeys(entry.subject.removeprefix(PORTFOLIO) for entry in ledger.entries(kind=DECIDED))
    found = (decided(ledger, name) for name in names)
    return [one for one in found if one is not None]


def _fold(name: str, entries: list[Entry]) -> Decided | None:
    known: Entry | None = None
    finished: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if entry.kind == DECIDED:
            known = entry
        elif entry.kind == FINISHED:
            finished[entry.body["candidate"]] = {**entry.body, "at": entry.at}
    if known is None:
        return None
    head = entries[-1].sequence
    return Decided(name, known.at, known.actor, known.sequence, head, known.body, finished)


def framings(ledger: Ledger) -> dict[str, Entry]:
    """The last decision on every framing."""
    return {entry.subject.removeprefix(FRAMING): entry for entry in ledger.entries(kind=FRAMED)}


def frozen_surfaces(ledger: Ledger) -> dict[str, float]:
    """Surfaces whose offline metric no longer predicts the online one, with the correlation."""
    found = {}
    for subject in dict.fromkeys(entry.subject for entry in ledger.entries(kind=RECORDED)):
        surface = subject.partition("/")[2]
        known = correlate(surface, pairs(ledger, surface))
        if known.zone is Zone.FREEZE:
            found[surface] = known.pearson
    return found


def facts(ledger: Ledger) -> Facts:
    """Everything a ranking may know from the ledger."""
    history = [quarter.past(name) for quarter in quarters(ledger) for name in quarter.finished]
    models = {name: entry.body["recommendation"] in _FOR_A_MODEL for name, entry in framings(ledger).items()}
    return Facts(tuple(history), models, frozen_surfaces(ledger), True)
