"""Looking and deciding: registered looks only, each recorded once, and the stop that follows by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from mangaassist.core.errors import GateRefused, InputError
from mangaassist.core.verdict import Action, Decision, Status, Verdict
from mangaassist.experiments import registry
from mangaassist.experiments.analysis import POLICY, Analysis, Look, analyse
from mangaassist.experiments.correlation import Pair, launch_verdict, pairs, record
from mangaassist.experiments.information import users_at
from mangaassist.experiments.plan import Plan
from mangaassist.experiments.readings import ALL
from mangaassist.experiments.registry import Experiment
from mangaassist.experiments.sizing import size_plan
from mangaassist.experiments.territory import release
from mangaassist.stats.intervals import two_sided_z
from mangaassist.storage.ledger import Ledger

REFUSED = "experiment.look_refused"


def take_look(
    ledger: Ledger,
    name: str,
    frame: pl.LazyFrame,
    *,
    at: datetime,
    actor: str,
    day: int | None = None,
    final: bool = False,
) -> tuple[Analysis, Decision]:
    """Take the next registered look, record it, and pause the rollout when it stops the experiment.

    Broken data (a sample-ratio mismatch, users in both arms) is recorded but spends no look.

    Args:
        day: which registered day this is; None takes the next one.
        final: for an always-valid plan, that this is the end.

    Raises:
        GateRefused: without every signature, for a look that is not in the plan, or after the end.
        Conflict: when somebody else looked at the same moment.
    """
    known = registry.require_frozen(registry.get(ledger, name), what="analysis")
    look = next_look(known, day=day, final=final)
    analysis = analyse(known.plan, frame, look)
    if known.plan.looks.method == "always-valid" and not final:
        analysis = _ended_by_size(known.plan, analysis, frame)
    decision = analysis.decision(actor=POLICY, at=at)
    broken = decision.action is Action.REFUSE
    body = {
        **analysis.as_dict(),
        "z": dict(analysis.z),
        "number": look.number,
        "decision": decision.as_dict(),
        "asked_by": actor,
    }
    kind = REFUSED if broken else registry.LOOKED
    entry = ledger.append(
        kind=kind, subject=known.subject, body=body, actor=POLICY, at=at, expected=known.head
    )
    if decision.action in (Action.ROLL_BACK, Action.PROMOTE):
        pause = {"reason": decision.reason, "action": str(decision.action), "look": look.number + 1}
        ledger.append(
            kind=registry.PAUSED,
            subject=known.subject,
            body=pause,
            actor=POLICY,
            at=at,
            expected=entry.sequence,
        )
    return analysis, decision


def _ended_by_size(plan: Plan, analysis: Analysis, frame: pl.LazyFrame) -> Analysis:
    """An always-valid plan ends when it has the users it was sized for."""
    if sum(analysis.units.values()) < size_plan(plan).total:
        return analysis
    return analyse(plan, frame, replace(analysis.look, final=True))


def next_look(known: Experiment, *, day: int | None, final: bool) -> Look:
    """The look that is due.

    Raises:
        GateRefused: when the plan has no such look, or the experiment has stopped.
    """
    plan, done = known.plan, known.looks
    if known.paused or known.over:
        raise _no_look(known, "a running experiment", known.paused or f"it is {known.status}")
    if plan.looks.method == "always-valid":
        return Look(len(done), final, earlier_values(done, len(done)))
    planned = len(plan.looks.fractions)
    number = _numbered(known, day) if day is not None else (done[-1]["number"] + 1 if done else 0)
    if number >= planned:
        raise _no_look(known, f"at most {planned} looks, as registered", f"look {number + 1}")
    return Look(number, number == planned - 1, earlier_values(done, number), users_at(done))


def _numbered(known: Experiment, day: int) -> int:
    days = known.plan.looks.days
    if day not in days:
        listed = ", ".join(map(str, days)) or "none by day"
        raise _no_look(known, f"a registered look (days {listed})", f"day {day}")
    number = days.index(day)
    if known.looks and number <= known.looks[-1]["number"]:
        raise _no_look(known, f"a look after day {days[known.looks[-1]['number']]}", f"day {day}")
    return number


def _no_look(known: Experiment, expected: str, got: str) -> GateRefused:
    return GateRefused(
        f"look at '{known.name}'",
        expected=expected,
        got=got,
        next_step="Looks that were not registered cost error nobody accounted for; the plan decides.",
    )


def earlier_values(looks: Sequence[Mapping[str, Any]], number: int) -> dict[str, list[float]]:
    """z-values per reading key before look ``number``; a look that was skipped counts as not crossed."""
    keys = {key for look in looks for key in look["z"]}
    by_number = {look["number"]: look["z"] for look in looks}
    return {key: [by_number.get(at, {}).get(key, 0.0) for at in range(number)] for key in keys}


def settle(ledger: Ledger, name: str, *, actor: str, at: datetime) -> Decision:
    """Decide what the looks so far amount to; a decision that ends the experiment is recorded once.

    A crossed boundary promotes, shown harm rolls back, an override of a veto promotes under a person's name,
    and what is still open after the last look rolls back: nothing ships by a timeout.

    Raises:
        InputError: before the first look.
        GateRefused: after the decision.
    """
    known = registry.require_frozen(registry.get(ledger, name), what="a decision")
    if known.over:
        raise GateRefused(
            f"experiment '{name}'",
            expected="an experiment that is still open",
            got=f"it is {known.status}",
            next_step="A decision is final; register a new experiment to revisit it.",
        )
    if not known.looks:
        raise InputError(
            f"experiment '{name}'",
            expected="at least one look",
            got="none",
            next_step=f"Run 'experiment look {name} FILE.parquet' on a registered day.",
        )
    decision = _decided(ledger, known, at)
    if decision.action in (Action.PROMOTE, Action.ROLL_BACK):
        body = {
            **decision.as_dict(),
            "asked_by": actor,
            "surface": known.plan.surface,
            "owner": known.plan.owner,
        }
        ledger.append(
            kind=registry.DECIDED,
            subject=known.subject,
            body=body,
            actor=decision.actor,
            at=at,
            expected=known.head,
        )
        _record_pair(ledger, known, at)
        release(ledger, known.plan, actor=POLICY, at=at)
    return decision


def _record_pair(ledger: Ledger, known: Experiment, at: datetime) -> None:
    """Leave what the harness promised beside what users did; the arm that did best stands for the change."""
    plan, last = known.plan, known.looks[-1]
    sign = 1.0 if plan.primary.metric.better == "higher" else -1.0
    shown = [
        one["relative"]
        for one in last["readings"]
        if one["metric"] == plan.primary.metric.name and one["cohort"] == ALL and one["relative"]
    ]
    recorded = {one.experiment for one in pairs(ledger, plan.surface)}
    if plan.offline is None or not shown or known.name in recorded:
        return
    best = max(shown, key=lambda one: sign * one["value"])
    bounded = best["low"] is not None and best["high"] is not None
    # The interval is at least as wide as a fixed one at its level, so the error is rather too large.
    error = (best["high"] - best["low"]) / (2 * two_sided_z(1 - plan.alpha)) if bounded else 0.0
    pair = Pair(known.name, plan.offline.change, sign * best["value"], plan.offline.error, error)
    record(ledger, plan.surface, pair, actor=POLICY, at=at)


def _decided(ledger: Ledger, known: Experiment, at: datetime) -> Decision:
    last = known.looks[-1]
    found = replace(Decision.from_dict(last["decision"]), at=at)
    if known.override is not None:
        reason = f"Override of a veto by {known.override['actor']}: {known.override['reason']}"
        return replace(found, action=Action.PROMOTE, reason=reason, actor=known.override["actor"])
    if found.action is Action.HOLD and last["final"]:
        reason = f"Still open after the last look, so the control stays. {found.reason}"
        return replace(found, action=Action.ROLL_BACK, reason=reason)
    if found.action is not Action.PROMOTE:
        return found
    promised = known.plan.offline
    gate = launch_verdict(
        ledger,
        known.plan.surface,
        clears_mde=clears_mde(known.plan, last),
        clears_offline=promised.change >= promised.mde if promised is not None else None,
    )
    verdicts = (*found.verdicts, gate)
    if gate.status is Status.FAIL and gate.blocking:
        return replace(found, action=Action.HOLD, reason=gate.sentence, verdicts=verdicts)
    return replace(found, verdicts=verdicts)


def clears_mde(plan: Plan, look: Mapping[str, Any]) -> bool:
    """Whether any arm's primary is at least as large as the smallest effect worth finding."""
    sign = 1.0 if plan.primary.metric.better == "higher" else -1.0
    return any(
        sign * one["absolute"]["value"] >= plan.primary.mde
        for one in look["readings"]
        if one["metric"] == plan.primary.metric.name and one["cohort"] == ALL
    )


def guardrail_vetoes(decision: Decision) -> tuple[Verdict, ...]:
    """The guardrails behind a stop."""
    return tuple(
        one for one in decision.verdicts if one.name.startswith("guardrail.") and one.status is Status.FAIL
    )
