"""Triage, not reflex (DRF-3): findings in a fixed order, one conclusion, one proposal.

Retraining on corrupted data teaches the corruption, so broken and missing data come first and rule every
retrain out. Then a change upstream, which explains a drift and its slices; a slice regression, which no
calendar excuses; a known season; and only then time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.verdict import Status, Verdict
from mangaassist.retraining import causes
from mangaassist.retraining.causes import Facts


class Conclusion(StrEnum):
    """What the findings come to, most pressing first."""

    SCHEMA_BREAK = "schema_break"
    OUTAGE = "outage"
    UPSTREAM = "upstream"
    SLICE_REGRESSION = "slice_regression"
    SEASON = "season"
    SUSTAINED = "sustained"
    UNEXPLAINED = "unexplained"
    NO_DRIFT = "no_drift"


class Proposal(StrEnum):
    """What should happen."""

    NOTHING = "nothing"
    PAGE_DATA_PLATFORM = "page_data_platform"
    RETRAIN_DOWNSTREAM = "retrain_downstream"
    RETRAIN_NOW = "retrain_now"


class Confidence(StrEnum):
    """How sure the conclusion is: one step less for every cause before it that nobody could rule out."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


PROPOSALS = {
    Conclusion.SCHEMA_BREAK: Proposal.PAGE_DATA_PLATFORM,
    Conclusion.OUTAGE: Proposal.PAGE_DATA_PLATFORM,
    Conclusion.UPSTREAM: Proposal.RETRAIN_DOWNSTREAM,
    Conclusion.SLICE_REGRESSION: Proposal.RETRAIN_NOW,
    Conclusion.SEASON: Proposal.NOTHING,
    Conclusion.SUSTAINED: Proposal.RETRAIN_NOW,
    Conclusion.UNEXPLAINED: Proposal.NOTHING,
    Conclusion.NO_DRIFT: Proposal.NOTHING,
}
CORRUPTED = frozenset({Conclusion.SCHEMA_BREAK, Conclusion.OUTAGE})
"""Conclusions under which nothing is retrained, whatever else asks for it."""

SEVERITY = "SEV-3"


@dataclass(frozen=True, slots=True)
class Triage:
    """One triage.

    Attributes:
        story, version, at: of what, and when.
        findings: one verdict per possible cause, always in the same order.
        conclusion, proposal: what they come to.
        confidence: how sure.
        also: causes that were found too and did not decide.
        severity: "SEV-3" when a safety-critical slice has regressed; else empty.
        reason: one sentence.
        occasion: the same as long as nothing new has happened, so that it is proposed once.
    """

    story: str
    version: int
    at: datetime
    findings: tuple[Verdict, ...]
    conclusion: Conclusion
    proposal: Proposal
    confidence: Confidence
    also: tuple[Conclusion, ...]
    severity: str
    reason: str
    occasion: str

    @property
    def fired(self) -> bool:
        """Whether a drift has lasted as long as the policy asks."""
        return self.findings[0].status is Status.FAIL

    def as_dict(self) -> dict[str, Any]:
        """The triage as a JSON object."""
        return {
            "story": self.story,
            "version": self.version,
            "at": isoformat(self.at),
            "conclusion": str(self.conclusion),
            "proposal": str(self.proposal),
            "confidence": str(self.confidence),
            "also": [str(one) for one in self.also],
            "severity": self.severity,
            "reason": self.reason,
            "findings": [one.as_dict() for one in self.findings],
        }


def triage(facts: Facts) -> Triage:
    """Judge ``facts``: pure, so that asking twice answers the same."""
    slices = causes.slices(facts)
    findings = (
        causes.drift(facts),
        causes.schema(facts),
        causes.outage(facts),
        causes.upstream(facts),
        *slices,
        causes.season(facts),
        causes.sustained(facts),
    )
    status = {one.name: one.status for one in findings}
    conclusion, *also = _conclusions(facts, status, slices)
    deciding = [one for one in findings if _decides(one, conclusion)] or [findings[0]]
    safety = {f"triage.slice.label.{label}" for label in facts.safety_critical}
    severe = any(one.name in safety and one.status is Status.FAIL for one in slices)
    return Triage(
        facts.story,
        facts.report.version,
        facts.at,
        findings,
        conclusion,
        _proposal(conclusion, facts),
        _confidence(conclusion, status),
        tuple(also),
        SEVERITY if severe else "",
        " ".join(one.sentence for one in deciding[:3]),
        _occasion(facts, conclusion),
    )


def _conclusions(facts: Facts, status: dict[str, Status], slices: list[Verdict]) -> list[Conclusion]:
    """What was found, most pressing first; never empty."""
    there = {
        Conclusion.SCHEMA_BREAK: status["triage.schema"] is Status.FAIL,
        Conclusion.OUTAGE: status["triage.outage"] is Status.FAIL,
        Conclusion.UPSTREAM: status["triage.upstream"] is Status.FAIL,
        Conclusion.SLICE_REGRESSION: any(one.status is Status.FAIL for one in slices),
        Conclusion.SEASON: status["triage.season"] is Status.FAIL,
        Conclusion.SUSTAINED: status["triage.sustained"] is Status.FAIL,
    }
    found = [conclusion for conclusion in Conclusion if there.get(conclusion)]
    return found or [Conclusion.UNEXPLAINED if facts.moving else Conclusion.NO_DRIFT]


def _proposal(conclusion: Conclusion, facts: Facts) -> Proposal:
    # A drift that has not lasted is no reason to retrain, whoever caused it.
    if conclusion is Conclusion.UPSTREAM and not facts.fired:
        return Proposal.NOTHING
    return PROPOSALS[conclusion]


def _decides(one: Verdict, conclusion: Conclusion) -> bool:
    names = {
        Conclusion.SCHEMA_BREAK: "triage.schema",
        Conclusion.OUTAGE: "triage.outage",
        Conclusion.UPSTREAM: "triage.upstream",
        Conclusion.SLICE_REGRESSION: "triage.slice.",
        Conclusion.SEASON: "triage.season",
        Conclusion.SUSTAINED: "triage.drift",
    }
    return one.status is Status.FAIL and one.name.startswith(names.get(conclusion, "triage.drift"))


def _confidence(conclusion: Conclusion, status: dict[str, Status]) -> Confidence:
    """Slices of few labels are many and expected; together they count once."""
    before = {
        "triage.schema": Conclusion.SCHEMA_BREAK,
        "triage.outage": Conclusion.OUTAGE,
        "triage.upstream": Conclusion.UPSTREAM,
        "triage.slice": Conclusion.SLICE_REGRESSION,
        "triage.season": Conclusion.SEASON,
    }
    order = list(Conclusion)
    unknown = {
        prefix
        for prefix, cause in before.items()
        for name, found in status.items()
        if name.startswith(prefix)
        and found is Status.INSUFFICIENT
        and order.index(cause) < order.index(conclusion)
    }
    return list(Confidence)[min(len(unknown), 2)]


def _occasion(facts: Facts, conclusion: Conclusion) -> str:
    """What makes it the same occasion: the runs of drift, or the day for what has no run."""
    runs = sorted(f"{one.name} {isoformat(one.since)}" for one in facts.fired or facts.moving if one.since)
    return f"{conclusion} {' '.join(runs) or facts.at.date().isoformat()}"
