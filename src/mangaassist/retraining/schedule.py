"""When a story should be retrained: its cadence, or what the triage of a drift proposes (RET-1, DRF-3)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mangaassist.core.clock import isoformat, utc
from mangaassist.core.identity import digest
from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.retraining.policy import RetrainPolicy
from mangaassist.retraining.triage import CORRUPTED, Conclusion, Proposal, Triage

_NO_LIMITS = RetrainPolicy()
_WHY = {
    Conclusion.UPSTREAM: "A model it reads has changed",
    Conclusion.SLICE_REGRESSION: "Quality has fallen in a slice",
}


class Proposed(StrEnum):
    """What is proposed."""

    RETRAIN = "retrain"
    REVIEW = "review"
    PAGE = "page"
    NOTHING = "nothing"


class Cause(StrEnum):
    """Why."""

    FIRST = "first"
    CADENCE = "cadence"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class RetrainProposal:
    """What should happen next; recording it is the caller's part.

    Attributes:
        story: its name.
        action: retrain, review by a person, a page to the data platform, or nothing.
        cause: what led to it; None for nothing.
        reason: one sentence.
        due: when the next retrain by cadence is due.
        key: identity of the occasion: the same occasion proposed again has the same key; empty for nothing.
        verdicts: the triage's findings that led to it.
        severity: of the page a person gets with it; empty for none.
    """

    story: str
    action: Proposed
    cause: Cause | None
    reason: str
    due: datetime
    key: str = ""
    verdicts: tuple[Verdict, ...] = ()
    severity: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The proposal as a JSON object, the body of its ledger entry."""
        return {
            "story": self.story,
            "action": str(self.action),
            "cause": str(self.cause) if self.cause else None,
            "reason": self.reason,
            "due": isoformat(self.due),
            "key": self.key,
            "verdicts": [one.as_dict() for one in self.verdicts],
            "severity": self.severity,
        }


def propose(
    story: Story,
    *,
    last_retrain_at: datetime | None,
    now: datetime,
    triage: Triage | None,
    frozen: bool,
    barred: str = "",
    recorded: Collection[str] = (),
    policy: RetrainPolicy = _NO_LIMITS,
    spent: float = 0.0,
) -> RetrainProposal:
    """The next step for ``story``: pure, so that asking twice answers the same.

    In this order: a freeze ignores everything (PRO-8); corrupted data are a page and nothing is retrained on
    them, not even by the cadence; the cooldown after a retrain; what the triage proposes; the cadence; a look
    by a person. An occasion whose key is in ``recorded`` was proposed before and is not again.

    Args:
        story: its cadence is used.
        last_retrain_at: start of the last retrain, whatever became of it; None if there was none.
        triage: of the latest look at the champion; None if nothing is deployed.
        frozen: the switch for drift triggers.
        barred: why nothing may be retrained on the data as they are; empty when nothing bars it.
        recorded: keys of proposals in the ledger.
        policy: cooldown and budget.
        spent: cost of this story's runs in the last thirty days, in the money of the policy.
    """
    now = utc(now, field="now")
    last = utc(last_retrain_at, field="last_retrain_at") if last_retrain_at else None
    due = last + story.cadence if last else now
    if frozen:
        return _nothing(story, due, "Global freeze is on: schedules and drift triggers are ignored.")
    if barred:
        return _nothing(story, due, f"Nothing is retrained on corrupted data. {barred}")
    cooling = last is not None and now - last < policy.cooldown
    if triage and triage.conclusion in CORRUPTED:
        found = [_by_triage(story, triage, Proposed.PAGE, due, "Nothing is retrained on such data")]
    elif last is not None and cooling:
        return _nothing(story, due, f"Cooling down after the retrain of {isoformat(last)}.")
    else:
        over = ""
        if policy.per_month is not None and spent >= policy.per_month:
            over = f"The month's budget of {policy.per_month:g} is spent ({spent:.3g}), so a person decides"
        found = _candidates(story, due, now, triage, over, first=last is None)
    refused = ""
    for proposal in found:
        if proposal.key not in recorded:
            return proposal
        refused = refused or f"Already proposed: {proposal.reason}"
    return _nothing(story, due, refused or f"Nothing fired; the cadence is due at {isoformat(due)}.")


def _candidates(
    story: Story, due: datetime, now: datetime, triage: Triage | None, over: str, *, first: bool
) -> list[RetrainProposal]:
    found = []
    if triage and triage.proposal in (Proposal.RETRAIN_NOW, Proposal.RETRAIN_DOWNSTREAM):
        # Safety does not wait for money.
        action = Proposed.REVIEW if over and not triage.severity else Proposed.RETRAIN
        why = _WHY.get(triage.conclusion, "A drift without a known cause has lasted for more than seven days")
        why = f"{why}. {over}" if action is Proposed.REVIEW else why
        found.append(_by_triage(story, triage, action, due, why))
    if now >= due:
        found.append(_by_cadence(story, due, first=first))
    if triage and triage.fired and triage.conclusion is Conclusion.UNEXPLAINED:
        why = "No loss of quality was shown and it has not lasted long, so a person should look"
        found.append(_by_triage(story, triage, Proposed.REVIEW, due, why))
    return found


def _by_cadence(story: Story, due: datetime, *, first: bool) -> RetrainProposal:
    cause = Cause.FIRST if first else Cause.CADENCE
    reason = "No version was ever trained." if first else f"The cadence was due at {isoformat(due)}."
    # Before the first retrain "due" is whenever one asks; it stays one occasion.
    key = digest([story.name, str(cause), None if first else isoformat(due)])
    return RetrainProposal(story.name, Proposed.RETRAIN, cause, reason, due, key)


def _by_triage(story: Story, triage: Triage, action: Proposed, due: datetime, why: str) -> RetrainProposal:
    return RetrainProposal(
        story.name,
        action,
        Cause.DRIFT,
        f"{why}: {triage.reason}",
        due,
        digest([story.name, str(action), triage.version, triage.occasion]),
        tuple(one for one in triage.findings if one.status is Status.FAIL),
        triage.severity,
    )


def _nothing(story: Story, due: datetime, reason: str) -> RetrainProposal:
    return RetrainProposal(story.name, Proposed.NOTHING, None, reason, due)
