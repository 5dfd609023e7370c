"""Evidence becomes verdicts, a policy turns verdicts into a decision, the ledger keeps both.

A verdict is what one pure function found in one piece of evidence. Only a fresh ``pass`` promotes;
``fail`` rolls back; ``insufficient`` and ``stale`` hold until a deadline that rolls back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mangaassist.core.clock import isoformat, parse_instant

if TYPE_CHECKING:
    from mangaassist.core.story import Enforced


class Status(StrEnum):
    """What a verdict says."""

    PASS = "pass"
    FAIL = "fail"
    INSUFFICIENT = "insufficient"
    STALE = "stale"


class Action(StrEnum):
    """What a decision does."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll_back"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One finding.

    Attributes:
        name: what was judged, dotted and stable ("golden.accuracy", "canary.error_rate").
        status: what was found.
        sentence: the finding in one plain sentence.
        value: the measured number, in the metric's own unit; None where there is none.
        low, high: the interval around ``value``; None where it has none.
        threshold: the number ``value`` was held against.
        n: how many observations stand behind it.
        evidence: digests or snapshot ids of the data it was computed from.
        blocking: False for findings that inform but do not decide.
    """

    name: str
    status: Status
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    n: int = 0
    evidence: tuple[str, ...] = ()
    blocking: bool = True

    @property
    def passed(self) -> bool:
        return self.status is Status.PASS

    def as_dict(self) -> dict[str, Any]:
        """The verdict as a JSON object."""
        # By hand: every transition writes dozens, and dataclasses.asdict copies what cannot change.
        flat = {name: getattr(self, name) for name in self.__slots__}
        return {**flat, "status": str(self.status), "evidence": list(self.evidence)}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Verdict:
        """The inverse of :meth:`as_dict`."""
        return cls(**{**body, "status": Status(body["status"]), "evidence": tuple(body["evidence"])})


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy made of a set of verdicts.

    Attributes:
        action: what happens.
        subject: what it happens to ("intent/3").
        reason: one sentence.
        actor: who decided: a policy, or a person by name.
        at: when.
        verdicts: everything that was known.
        policy: digest of the policy that decided.
        deadline: until when a hold may last; a hold that reaches it rolls back.
    """

    action: Action
    subject: str
    reason: str
    actor: str
    at: datetime
    verdicts: tuple[Verdict, ...] = field(default=())
    policy: str = ""
    deadline: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """The decision as a JSON object."""
        return {
            "action": str(self.action),
            "subject": self.subject,
            "reason": self.reason,
            "actor": self.actor,
            "at": isoformat(self.at),
            "policy": self.policy,
            "deadline": isoformat(self.deadline) if self.deadline else None,
            "verdicts": [verdict.as_dict() for verdict in self.verdicts],
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Decision:
        """The inverse of :meth:`as_dict`."""
        deadline = body.get("deadline")
        return cls(
            action=Action(body["action"]),
            subject=body["subject"],
            reason=body["reason"],
            actor=body["actor"],
            at=parse_instant(body["at"], field="decision.at"),
            verdicts=tuple(Verdict.from_dict(one) for one in body["verdicts"]),
            policy=body["policy"],
            deadline=parse_instant(deadline, field="decision.deadline") if deadline else None,
        )


def worst(verdicts: Iterable[Verdict]) -> Status:
    """The status that decides: any blocking fail, then stale, then insufficient, else pass.

    No verdict at all is ``insufficient``: nothing was shown.
    """
    statuses = {verdict.status for verdict in verdicts if verdict.blocking}
    for status in (Status.FAIL, Status.STALE, Status.INSUFFICIENT):
        if status in statuses:
            return status
    return Status.PASS if statuses else Status.INSUFFICIENT


def enforce(verdicts: Iterable[Verdict], policy: Sequence[Enforced]) -> list[Verdict]:
    """The verdicts as a story's policy has them: blocking, informing, or left out."""
    found = []
    for verdict in verdicts:
        modes = [one.mode for one in policy if fnmatchcase(verdict.name, one.verdict)]
        if not modes:
            found.append(verdict)
        elif modes[-1] != "off":
            found.append(replace(verdict, blocking=modes[-1] == "block"))
    return found


def decide(
    subject: str,
    verdicts: Iterable[Verdict],
    *,
    actor: str,
    at: datetime,
    policy: str = "",
    deadline: datetime | None = None,
) -> Decision:
    """The one rule: a fresh pass promotes, a fail rolls back, anything else holds until the deadline."""
    found = tuple(verdicts)
    status = worst(found)
    deciding = [verdict for verdict in found if verdict.blocking and verdict.status is status]
    sentences = " ".join(verdict.sentence for verdict in deciding[:3]) or "No verdict was produced."
    if status is Status.PASS:
        action, reason = Action.PROMOTE, f"All {len(deciding)} verdicts pass."
    elif status is Status.FAIL:
        action, reason = Action.ROLL_BACK, sentences
    elif deadline is not None and at >= deadline:
        action, reason = Action.ROLL_BACK, f"Still {status} at the deadline. {sentences}"
    else:
        action, reason = Action.HOLD, sentences
    return Decision(action, subject, reason, actor, at, found, policy, deadline)
