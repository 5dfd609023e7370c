"""Shipping against a veto: possible, never quiet. A written review, a director, ninety days, rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import GateRefused, InputError, nearest
from mangaassist.core.identity import digest_bytes
from mangaassist.core.verdict import Action, Decision, Status, Verdict
from mangaassist.experiments import registry
from mangaassist.experiments.looks import guardrail_vetoes
from mangaassist.experiments.registry import Experiment
from mangaassist.storage.ledger import Ledger

TRACKED_FOR = timedelta(days=90)
ROLE = "director"
_LEAST_WORDS = 50
_TOO_OFTEN = 0.10


def override(ledger: Ledger, name: str, review: str, *, role: str, actor: str, at: datetime) -> Experiment:
    """Record an override of a vetoed experiment; ``experiment decide`` then promotes it under that name.

    Args:
        review: the written, incident-style review; kept whole in the ledger.

    Raises:
        GateRefused: without a guardrail veto, without a director, or a second time.
        InputError: for a review too short to be one.
    """
    known = registry.get(ledger, name)
    vetoes = guardrail_vetoes(Decision.from_dict(known.looks[-1]["decision"])) if known.looks else ()
    if not vetoes or known.over or known.override is not None:
        raise GateRefused(
            f"override of '{name}'",
            expected="one open guardrail veto",
            got="an earlier override" if known.override else known.status if known.over else "none",
            next_step="There is nothing to override: see 'experiment decide'.",
        )
    if role != ROLE:
        raise GateRefused(
            f"override of '{name}'",
            expected=f"the role '{ROLE}'",
            got=repr(role),
            next_step="A veto was signed by the team; only somebody outside it can set it aside.",
        )
    if len(review.split()) < _LEAST_WORDS:
        raise InputError(
            "review",
            expected=f"a written review of at least {_LEAST_WORDS} words",
            got=f"{len(review.split())} words",
            next_step="Say what was vetoed, why it ships anyway, what is watched, when it is rolled back.",
        )
    body = {
        "reason": " ".join(review.split())[:160],
        "review": review,
        "digest": digest_bytes(review.encode()),
        "vetoes": [one.as_dict() for one in vetoes],
        "track_until": isoformat(at + TRACKED_FOR),
        "owner": known.plan.owner,
    }
    ledger.append(
        kind=registry.OVERRIDDEN, subject=known.subject, body=body, actor=actor, at=at, expected=known.head
    )
    return registry.get(ledger, name)


def follow_up(
    ledger: Ledger, name: str, findings: Mapping[str, float], *, actor: str, at: datetime
) -> Experiment:
    """Record what became of the guardrails after an override.

    Args:
        findings: relative change since the launch by guardrail name.

    Raises:
        GateRefused: without an override. InputError: for a name that is no guardrail of the experiment.
    """
    known = registry.get(ledger, name)
    if known.override is None:
        raise GateRefused(
            f"follow-up of '{name}'", expected="an override", got="none", next_step="Nothing is tracked."
        )
    guardrails = [one.name for one in known.plan.guardrails]
    for guardrail in findings:
        if guardrail not in guardrails:
            raise InputError(
                f"follow-up of '{name}'",
                expected="a guardrail of the experiment",
                got=repr(guardrail),
                next_step=nearest(guardrail, guardrails),
            )
    body = {"findings": dict(findings)}
    ledger.append(
        kind=registry.FOLLOWED_UP, subject=known.subject, body=body, actor=actor, at=at, expected=known.head
    )
    return registry.get(ledger, name)


@dataclass(frozen=True, slots=True)
class Tracking:
    """One override's ninety days.

    Attributes:
        experiment: its name.
        until: when they end.
        follow_ups: how many were recorded.
        overdue: the time is up and nothing was recorded.
    """

    experiment: str
    until: datetime
    follow_ups: int
    overdue: bool


def tracked(ledger: Ledger, *, now: datetime) -> list[Tracking]:
    """Every override with what was recorded since."""
    found = []
    for entry in ledger.entries(kind=registry.OVERRIDDEN):
        name = entry.subject.partition("/")[2]
        until = parse_instant(entry.body["track_until"], field="track_until")
        since = ledger.entries(subject=entry.subject, kind=registry.FOLLOWED_UP, after=entry.sequence)
        found.append(Tracking(name, until, len(since), not since and now >= until))
    return found


def override_rates(ledger: Ledger) -> list[Verdict]:
    """GRD-2: overrides over launches per team; more than one in ten is a finding about the team."""
    launches: dict[str, int] = {}
    for entry in ledger.entries(kind=registry.DECIDED):
        if entry.body["action"] == Action.PROMOTE:
            launches[entry.body["owner"]] = launches.get(entry.body["owner"], 0) + 1
    overrides: dict[str, int] = {}
    for entry in ledger.entries(kind=registry.OVERRIDDEN):
        overrides[entry.body["owner"]] = overrides.get(entry.body["owner"], 0) + 1
    found = []
    for team in sorted({*launches, *overrides}):
        n = max(launches.get(team, 0), overrides.get(team, 0))
        rate = overrides.get(team, 0) / n
        often = rate > _TOO_OFTEN
        found.append(
            Verdict(
                f"guardrail.override_rate.{team}",
                Status.FAIL if often else Status.PASS,
                f"{team} overrode {overrides.get(team, 0)} of {n} launches ({rate:.0%})"
                + (": the framework is failing for this team." if often else "."),
                value=rate,
                threshold=_TOO_OFTEN,
                n=n,
                blocking=False,
            )
        )
    return found
