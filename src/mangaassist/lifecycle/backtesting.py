"""Past rollouts judged again by another gate policy, from the evidence that was stored when they were judged.

Every offline gate is decided again, and every look at a shadow or a canary whose evidence the ledger names:
those that moved something, and the holds whose reasons changed. Looks in between left no evidence, so an
abort that another policy would have made there shows up at the next stored look. History is not replayed:
each decision is taken on what was seen under the policy that ruled then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.story import Story
from mangaassist.core.verdict import Action, Decision, Verdict
from mangaassist.evaluation.gate import gate_decision
from mangaassist.evaluation.report import EvaluationReport
from mangaassist.lifecycle.files import VERDICTS, read_json, read_verdicts
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.release import CHAMPION_REPORT, FINDINGS, stored_report
from mangaassist.promotion import stages, trust
from mangaassist.promotion.controller import ACTOR, HELD, reviewer
from mangaassist.promotion.evidence import StageEvidence
from mangaassist.promotion.requirements import subject as registry_subject
from mangaassist.promotion.rollbacks import subject as promotion_subject
from mangaassist.promotion.versions import (
    ADVANCED,
    CAP_SHADOW,
    FAILED,
    FULL,
    PROMOTED,
    REENABLED,
    REGISTERED,
    SHADOW,
    Version,
)
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Entry

GATE = "offline"


@dataclass(frozen=True, slots=True)
class Again:
    """One past decision and what the policy tried out makes of it.

    Attributes:
        sequence: the ledger entry.
        version: what was decided about; ``stage``: "offline", "shadow" or the canary stage.
        was, would: the action taken, and the one that would have been; None when it cannot be decided again.
        next_was, next_would: the stage a promotion led to, and would have led to.
        verdicts: name of every verdict that differs to (before, after), "-" for one that is not there.
        reason: of the new decision, or why there is none.
    """

    sequence: int
    version: int
    stage: str
    at: str
    was: str
    would: str | None
    next_was: str | None
    next_would: str | None
    verdicts: dict[str, tuple[str, str]]
    reason: str

    @property
    def same(self) -> bool:
        return (self.was, self.next_was) == (self.would, self.next_would)

    def as_dict(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return {
            "entry": self.sequence,
            "version": self.version,
            "stage": self.stage,
            "at": self.at,
            "was": self.was,
            "would": self.would,
            "next_was": self.next_was,
            "next_would": self.next_would,
            "same": self.same,
            "verdicts": {name: list(pair) for name, pair in self.verdicts.items()},
            "reason": self.reason,
        }


def backtest(platform: Platform, story: Story) -> dict[str, Any]:
    """Every past decision about the story's versions, decided again by ``story`` as it is given.

    Args:
        story: the story under the policy to be tried out.
    """
    found = list(_all(platform, story))
    undecided = [one for one in found if one.would is None]
    changed = [one for one in found if one.would is not None and not one.same]
    return {
        "story": story.name,
        "policy": story.digest,
        "decisions": len(found),
        "same": len(found) - len(changed) - len(undecided),
        "different": [one.as_dict() for one in changed],
        "undecidable": [one.as_dict() for one in undecided],
        "verdicts_changed": sum(bool(one.verdicts) for one in found),
        "all": [one.as_dict() for one in found],
    }


def _all(platform: Platform, story: Story) -> Iterator[Again]:
    registry = platform.registry
    registry.switches.refresh()
    entries = [
        *platform.ledger.entries(subject=registry_subject(story.name)),
        *platform.ledger.entries(subject=promotion_subject(story.name), kind=HELD),
    ]
    extended: dict[int, str] = {}
    for entry in sorted(entries, key=lambda one: one.sequence):
        if entry.kind == REGISTERED:
            version = registry.get(story.name, entry.body["version"])
            yield _gate_again(platform.artifacts, story, version, entry)
        elif entry.kind in (ADVANCED, PROMOTED, FAILED, HELD) and entry.body.get("evidence"):
            decision = Decision.from_dict(entry.body["decision"])
            if decision.actor == ACTOR:
                yield _look_again(platform, story, entry, decision, extended)
        if entry.kind in (ADVANCED, REENABLED) and entry.body.get("extended"):
            extended[entry.body["version"]] = entry.body["extended"]


def _gate_again(store: ArtifactStore, story: Story, version: Version, entry: Entry) -> Again:
    documents, was = version.documents, version.gate
    missing = [name for name in (FINDINGS, "evaluation", "slices", "bias") if name not in documents]
    if missing:
        reason = f"Registered without what its gate saw ({', '.join(missing)})."
        return _again(entry, version.number, GATE, was, None, reason=reason)
    champion = documents.get(CHAMPION_REPORT)
    again = gate_decision(
        story,
        stored_report(store, documents["evaluation"], documents["slices"], documents["bias"]),
        EvaluationReport.from_dict(read_json(store.read(champion, "report.json"))) if champion else None,
        read_verdicts(store.read(documents[FINDINGS], VERDICTS)),
        actor=was.actor,
        at=was.at,
    )
    return _again(entry, version.number, GATE, was, again)


def _look_again(
    platform: Platform, story: Story, entry: Entry, was: Decision, extended: dict[int, str]
) -> Again:
    body = orjson.loads(platform.artifacts.get(entry.body["evidence"]))
    number, stage = body["challenger"], body["stage"]
    why = extended.get(number, "")
    if stage == SHADOW and entry.kind == ADVANCED:
        why = entry.body.get("extended", "")
    try:
        evidence = StageEvidence.from_dict(body)
        judged = stages.judge(
            story,
            evidence,
            extended=why,
            paused=platform.registry.switches.paused(story.name, evidence.since, was.at),
            reviewed_by=reviewer(platform.ledger, story.name, number, before=entry.sequence),
            actor=was.actor,
            at=was.at,
            policy=story.digest,
        )
        again = _allowed(platform, judged, entry, number)
        follows = _next(story, why, stage, again)
    except InputError as error:
        return _again(entry, number, stage, was, None, reason=str(error))
    return _again(entry, number, stage, was, again, follows=follows)


def _allowed(platform: Platform, decision: Decision, entry: Entry, number: int) -> Decision:
    """What kill switches and a cap let become of it, as they stood then."""
    registry, story = platform.registry, decision.subject.partition("/")[0]
    action = decision.action
    if not registry.switches.at(story, entry.sequence).may_promote:
        action = Action.HOLD
    elif action is Action.PROMOTE and registry.get(story, number).capped == CAP_SHADOW:
        action = Action.REFUSE
    return replace(decision, action=action)


def _next(story: Story, extended: str, stage: str, decision: Decision) -> str | None:
    if decision.action is not Action.PROMOTE:
        return None
    following = stages.following(stages.planned(story.rollout, extended), stage)
    return following.name if following else FULL


def _again(
    entry: Entry,
    number: int,
    stage: str,
    was: Decision,
    again: Decision | None,
    *,
    follows: str | None = None,
    reason: str = "",
) -> Again:
    led = {ADVANCED: entry.body.get("stage"), PROMOTED: FULL}.get(entry.kind)
    return Again(
        sequence=entry.sequence,
        version=number,
        stage=stage,
        at=isoformat(entry.at),
        was=str(was.action),
        would=str(again.action) if again else None,
        next_was=led,
        next_would=follows,
        verdicts=_differences(was.verdicts, again.verdicts) if again else {},
        reason=again.reason if again else reason,
    )


def _differences(before: tuple[Verdict, ...], after: tuple[Verdict, ...]) -> dict[str, tuple[str, str]]:
    old, new = ({one.name: _said(one) for one in some} for some in (before, after))
    # The correlation is no part of the stage's evidence: it is about earlier rollouts.
    names = [name for name in dict.fromkeys([*old, *new]) if name != trust.NAME]
    return {
        name: (old.get(name, "-"), new.get(name, "-")) for name in names if old.get(name) != new.get(name)
    }


def _said(verdict: Verdict) -> str:
    return str(verdict.status) if verdict.blocking else f"{verdict.status} (informs)"
