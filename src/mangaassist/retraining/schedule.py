"""When a story should be retrained: its cadence, or the one trigger that drift may pull (RET-1).

A drift signal starts triage, not a reflex (DRF-3). In this minimal form: concept drift sustained for the
policy's duration means that the model has become wrong, and proposes a retrain; input, prediction or label
drift alone proposes a review by a person, because the model may be robust to it. A seasonal calendar and the
graph of upstream models are what that person brings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mangaassist.core.clock import isoformat, utc
from mangaassist.core.identity import digest
from mangaassist.core.story import Story
from mangaassist.core.verdict import Verdict
from mangaassist.drift.history import Kind, Standing, State, kind_of
from mangaassist.drift.hub import DriftReport

# A candidate needs this long to get labels that its predecessor did not have.
COOLDOWN = timedelta(days=1)


class Proposed(StrEnum):
    """What is proposed."""

    RETRAIN = "retrain"
    REVIEW = "review"
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
        action: retrain, review by a person, or nothing.
        cause: what led to it; None for nothing.
        reason: one sentence.
        due: when the next retrain by cadence is due.
        key: identity of the occasion: the same occasion proposed again has the same key; empty for nothing.
        verdicts: what the latest look found in the kinds that led to it.
    """

    story: str
    action: Proposed
    cause: Cause | None
    reason: str
    due: datetime
    key: str = ""
    verdicts: tuple[Verdict, ...] = ()

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
        }


def propose(
    story: Story,
    *,
    last_retrain_at: datetime | None,
    now: datetime,
    drift: DriftReport | None,
    frozen: bool,
    recorded: Collection[str] = (),
    cooldown: timedelta = COOLDOWN,
) -> RetrainProposal:
    """The next step for ``story``: pure, so that asking twice answers the same.

    In this order: a global freeze ignores everything (PRO-8); the cooldown after a retrain; concept drift;
    the cadence; other drift. An occasion whose key is in ``recorded`` was proposed before and is not again.

    Args:
        story: its cadence is used.
        last_retrain_at: start of the last retrain, whatever became of it; None if there was none.
        drift: the latest report on the champion; None if nothing is deployed.
        frozen: the global switch.
        recorded: keys of proposals in the ledger.
        cooldown: the least time between two retrains that drift causes.
    """
    now = utc(now, field="now")
    last = utc(last_retrain_at, field="last_retrain_at") if last_retrain_at else None
    due = last + story.cadence if last else now
    if frozen:
        return _nothing(story, due, "Global freeze is on: schedules and drift triggers are ignored.")
    if last is not None and now - last < cooldown:
        return _nothing(story, due, f"Cooling down after the retrain of {isoformat(last)}.")
    refused = ""
    for proposal in _candidates(story, due, now, drift, first=last is None):
        if proposal.key not in recorded:
            return proposal
        refused = refused or f"Already proposed: {proposal.reason}"
    return _nothing(story, due, refused or f"Nothing fired; the cadence is due at {isoformat(due)}.")


def _candidates(
    story: Story, due: datetime, now: datetime, drift: DriftReport | None, *, first: bool
) -> list[RetrainProposal]:
    fired: dict[Kind, Standing] = {}
    if drift:
        fired = {kind: one for kind, one in drift.kinds.items() if one and one.state is State.FIRED}
    concept: dict[Kind, Standing] = {kind: one for kind, one in fired.items() if kind is Kind.CONCEPT}
    others: dict[Kind, Standing] = {kind: one for kind, one in fired.items() if kind is not Kind.CONCEPT}
    found = []
    if drift and concept:
        reason = f"The model has become wrong: {_told(concept, now)}."
        found.append(
            _by_drift(drift, concept, RetrainProposal(story.name, Proposed.RETRAIN, None, reason, due))
        )
    if now >= due:
        found.append(_by_cadence(story, due, first=first))
    if drift and others:
        reason = (
            "Traffic moved while no loss of quality was shown, so a person should look before a retrain: "
            f"{_told(others, now)}."
        )
        found.append(
            _by_drift(drift, others, RetrainProposal(story.name, Proposed.REVIEW, None, reason, due))
        )
    return found


def _by_cadence(story: Story, due: datetime, *, first: bool) -> RetrainProposal:
    cause = Cause.FIRST if first else Cause.CADENCE
    reason = "No version was ever trained." if first else f"The cadence was due at {isoformat(due)}."
    # Before the first retrain "due" is whenever one asks; it stays one occasion.
    key = digest([story.name, str(cause), None if first else isoformat(due)])
    return RetrainProposal(story.name, Proposed.RETRAIN, cause, reason, due, key)


def _by_drift(drift: DriftReport, fired: Mapping[Kind, Standing], draft: RetrainProposal) -> RetrainProposal:
    runs = sorted((one.name, isoformat(one.since)) for one in fired.values() if one.since)
    key = digest([draft.story, str(draft.action), drift.version, runs])
    verdicts = tuple(one for one in drift.verdicts if kind_of(one.name) in fired)
    return replace(draft, cause=Cause.DRIFT, key=key, verdicts=verdicts)


def _told(fired: Mapping[Kind, Standing], now: datetime) -> str:
    parts = []
    for one in fired.values():
        lasted = now - one.since if one.since else timedelta(0)
        value = "" if one.value is None else f" at {one.value:.3f}"
        limit = "" if one.threshold is None else f" (limit {one.threshold:g})"
        parts.append(f"{one.name}{value}{limit} for {lasted.total_seconds() / 3600:.0f} h")
    return "; ".join(parts)


def _nothing(story: Story, due: datetime, reason: str) -> RetrainProposal:
    return RetrainProposal(story.name, Proposed.NOTHING, None, reason, due)
