"""What one audit looks at, gathered from the ledger: picks, launches, vetoes, registrations, incidents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mangaassist.experiments import registry
from mangaassist.experiments.looks import REFUSED as LOOK_REFUSED
from mangaassist.portfolio import ledger_facts as known
from mangaassist.portfolio.candidates import Past
from mangaassist.portfolio.outcomes import Result, vetoed
from mangaassist.portfolio.scoring import POINTS, SWING_BET
from mangaassist.storage.ledger import Entry, Ledger

INCIDENT_OPENED = "incident.opened"
INCIDENT_RECOVERED = "incident.recovered"
"""Kinds the audit reads; both entries of an incident share their subject."""

_RAN = (registry.RAMPED, registry.LOOKED, registry.DECIDED, LOOK_REFUSED)


@dataclass(frozen=True, slots=True)
class Period:
    """From ``since`` on, before ``until``; None leaves an end open."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    @property
    def quarters(self) -> int:
        """How many quarters it spans, at least one."""
        if self.since is None or self.until is None:
            return 1
        return max(1, round((self.until - self.since).days / 91))


@dataclass(frozen=True, slots=True)
class FinishedPick:
    """One pick and what came of it.

    Attributes:
        past: as history: stated confidence and weeks against what came.
        calibrated: the confidence it was given after calibration.
        predicted: worth it was picked for, what it teaches left out.
        realised: worth it brought, 0 when it did not win, None where its lift is not known.
        swing: whether it was a swing bet.
        learned: whether a swing bet met its learning target.
        hindsight: whether its experiment was frozen before the quarter was decided, so that the target was
            written by people who could already look.
        sustained: whether its shipped lift was there after 28 days; None where nobody has looked.
        registered: the experiment that tested it, empty for none.
        abandoned: whether it ended without a test.
    """

    past: Past
    calibrated: float
    predicted: float
    realised: float | None
    swing: bool
    learned: bool | None
    sustained: bool | None
    registered: str
    abandoned: bool
    hindsight: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """Whether one experiment was registered before it ran; ``problem`` is empty when it was."""

    experiment: str
    problem: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything an audit measures.

    Attributes:
        period: what it covers.
        picks: finished in the period.
        sustained: per shipped experiment followed up: is the lift still there.
        harmful: per vetoed experiment looked at again: would shipping have done harm.
        cohort_regressions: after the launches that were followed up, added up.
        vetoes: experiments a guardrail stopped, overridden ones included.
        overrides: of them.
        registrations: experiments that ran.
        recoveries: minutes from opening to recovery, per incident.
        earlier_recoveries: the same before the period.
    """

    period: Period
    picks: tuple[FinishedPick, ...] = ()
    sustained: tuple[bool, ...] = ()
    harmful: tuple[bool, ...] = ()
    cohort_regressions: int = 0
    vetoes: int = 0
    overrides: int = 0
    registrations: tuple[Registration, ...] = ()
    recoveries: tuple[float, ...] = ()
    earlier_recoveries: tuple[float, ...] = ()


def gather(ledger: Ledger, period: Period) -> Evidence:
    """Read the ledger once per kind and keep what falls into the period."""
    follow_ups = {
        entry.body["experiment"]: entry.body
        for entry in ledger.entries(kind=known.FOLLOWED_UP)
        if period.holds(entry.at)
    }
    shipped = [body for body in follow_ups.values() if body["shipped"]]
    experiments = registry.everything(ledger)
    stopped = [one for one in experiments if vetoed(one) and _ended_in(ledger, one, period)]
    now, before = _recoveries(ledger, period)
    return Evidence(
        period,
        _picks(ledger, period, follow_ups),
        tuple(body["held"] for body in shipped),
        tuple(body["held"] for body in follow_ups.values() if not body["shipped"]),
        sum(body["cohort_regressions"] for body in shipped),
        len(stopped),
        sum(one.override is not None for one in stopped),
        tuple(_registrations(ledger, experiments, period)),
        now,
        before,
    )


def _ended_in(ledger: Ledger, one: registry.Experiment, period: Period) -> bool:
    ends = ledger.entries(subject=one.subject, kind=registry.LOOKED)
    return period.holds(ends[-1].at)


def _picks(
    ledger: Ledger, period: Period, follow_ups: Mapping[str, Mapping[str, Any]]
) -> tuple[FinishedPick, ...]:
    return tuple(
        _pick(ledger, quarter, name, follow_ups)
        for quarter in known.quarters(ledger)
        for name, outcome in quarter.finished.items()
        if period.holds(outcome["at"])
    )


def _pick(
    ledger: Ledger, quarter: known.Decided, name: str, follow_ups: Mapping[str, Mapping[str, Any]]
) -> FinishedPick:
    row, outcome = quarter.picks[name], quarter.finished[name]
    followed = follow_ups.get(outcome["experiment"])
    return FinishedPick(
        quarter.past(name),
        row["confidence_calibrated"],
        row["value"],
        _realised(row, outcome),
        row["slot"] == SWING_BET,
        outcome["learned"],
        followed["held"] if followed and followed["shipped"] else None,
        outcome["experiment"],
        outcome["result"] == Result.ABANDONED,
        _hindsight(ledger, quarter, outcome["experiment"]),
    )


def _hindsight(ledger: Ledger, quarter: known.Decided, experiment: str) -> bool:
    if not experiment:
        return False
    frozen = ledger.entries(subject=f"experiment/{experiment}", kind=registry.FROZEN, limit=1)
    return bool(frozen) and frozen[0].sequence < quarter.sequence


def _realised(row: Mapping[str, Any], outcome: Mapping[str, Any]) -> float | None:
    if outcome["result"] != Result.WON:
        return 0.0
    if outcome["lift"] is None:
        return None
    return float(row["reach"] * outcome["lift"] * POINTS * row["worth"])


def _registrations(
    ledger: Ledger, experiments: Sequence[registry.Experiment], period: Period
) -> list[Registration]:
    found = []
    for one in experiments:
        entries = ledger.entries(subject=one.subject)
        ran = [entry for entry in entries if entry.kind in _RAN]
        if ran and period.holds(ran[0].at):
            found.append(Registration(one.name, _problem(one, entries, ran[0])))
    return found


def _problem(one: registry.Experiment, entries: Sequence[Entry], first: Entry) -> str:
    """What was missing when the experiment first touched anybody; empty when nothing was."""
    frozen = next((entry for entry in entries if entry.kind == registry.FROZEN), None)
    if frozen is None or frozen.sequence > first.sequence:
        return "ran before it was frozen"
    signed = {
        entry.body["role"]
        for entry in entries
        if entry.kind == registry.SIGNED
        and entry.sequence < frozen.sequence
        and entry.body["digest"] == frozen.body["digest"]
    }
    missing = [role for role in one.plan.sign_off if role not in signed]
    return f"frozen without {', '.join(missing)}" if missing else ""


def _recoveries(ledger: Ledger, period: Period) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Minutes per recovered incident, in the period and before it."""
    opened = {entry.subject: entry.at for entry in ledger.entries(kind=INCIDENT_OPENED)}
    now, before = [], []
    for entry in ledger.entries(kind=INCIDENT_RECOVERED):
        if entry.subject not in opened:
            continue
        minutes = (entry.at - opened[entry.subject]).total_seconds() / 60
        if period.holds(entry.at):
            now.append(minutes)
        elif period.since is not None and entry.at < period.since:
            before.append(minutes)
    return tuple(now), tuple(before)
