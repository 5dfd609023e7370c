"""Thresholds of the catalog move only in the open: tightened with a reason, loosened with a director too.

A launch may always register something tighter than the catalog. What changes here changes the catalog for
every later launch; experiments that are registered already keep what they were signed with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mangaassist.core.errors import GateRefused, InputError, nearest
from mangaassist.experiments.catalog import Catalog, limit_name, load, with_limits
from mangaassist.storage.ledger import Ledger

CHANGED = "guardrail.threshold_changed"
ROLE = "director"

_SUBJECT = "guardrail-catalog"
_LEAST_WORDS = 8


@dataclass(frozen=True, slots=True)
class Change:
    """One governed change.

    Attributes:
        guardrail: its name.
        before, after: the limit.
        loosened: whether it allows more harm than before.
        reason: why.
        role, actor: who.
        at: when.
    """

    guardrail: str
    before: float
    after: float
    loosened: bool
    reason: str
    role: str
    actor: str
    at: datetime


def in_force(ledger: Ledger) -> Catalog:
    """The shipped catalog with every governed change applied."""
    shipped = load()
    limits = {one.guardrail: one.after for one in changes(ledger) if one.guardrail in shipped.guardrails}
    return with_limits(shipped, limits)


def changes(ledger: Ledger) -> list[Change]:
    """Every governed change, oldest first: the audit trail against thresholds that creep."""
    return [
        Change(**entry.body, actor=entry.actor, at=entry.at)
        for entry in ledger.entries(subject=_SUBJECT, kind=CHANGED)
    ]


def change_threshold(
    ledger: Ledger, name: str, limit: float, *, reason: str, role: str, actor: str, at: datetime
) -> Change:
    """Change a guardrail's limit for later launches.

    Raises:
        InputError: for an unknown guardrail, a limit that turns harm into good, or a reason that is none.
        GateRefused: for loosening without a director.
    """
    catalog = in_force(ledger)
    if name not in catalog.guardrails:
        raise InputError(
            "guardrail",
            expected="one of the catalog",
            got=repr(name),
            next_step=nearest(name, catalog.guardrails),
        )
    entry = catalog.guardrails[name]
    before = entry.mapping()[limit_name(entry)].number()
    if limit == 0 or (limit > 0) != (before > 0):
        raise InputError(
            "limit",
            expected=f"a limit on the same side of 0 as {before:g}",
            got=f"{limit:g}",
            next_step="Harm has a direction; write it like -1% or 5%.",
        )
    if len(reason.split()) < _LEAST_WORDS:
        raise InputError(
            "reason",
            expected=f"a reason of at least {_LEAST_WORDS} words",
            got=repr(reason),
            next_step="Say what the calibration showed.",
        )
    loosened = abs(limit) > abs(before)
    if loosened and role != ROLE:
        raise GateRefused(
            f"threshold of '{name}'",
            expected=f"the role '{ROLE}' to loosen {before:g} to {limit:g}",
            got=repr(role),
            next_step="Tightening is open to the team; loosening is not.",
        )
    body = {
        "guardrail": name,
        "before": before,
        "after": limit,
        "loosened": loosened,
        "reason": reason,
        "role": role,
    }
    head = ledger.head(_SUBJECT)
    ledger.append(kind=CHANGED, subject=_SUBJECT, body=body, actor=actor, at=at, expected=head)
    return changes(ledger)[-1]
