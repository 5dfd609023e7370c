"""What the registry's ledger entries add up to: versions, the deployment, and the fold that makes them.

The fold is the only definition of state. It trusts the order of the ledger: entries of one story were
appended by compare-and-swap, so each was valid when it was written. One thing it decides itself: an
advancing entry that came after a kill switch said no is void, however it got there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from mangaassist.core.clock import isoformat
from mangaassist.core.story import CanaryStage
from mangaassist.core.verdict import Action, Decision
from mangaassist.governance.signing import Signature
from mangaassist.storage.ledger import Entry

REGISTERED: Final = "registry.registered"
SHADOW_STARTED: Final = "registry.shadow_started"
ADVANCED: Final = "registry.advanced"
PROMOTED: Final = "registry.promoted"
FAILED: Final = "registry.failed"
ROLLED_BACK: Final = "registry.rolled_back"
REENABLED: Final = "registry.reenabled"
SIGNED: Final = "registry.signed"
ADVANCING: Final = frozenset({SHADOW_STARTED, ADVANCED, PROMOTED, REENABLED})

NONE, SHADOW, FULL = "none", "shadow", "full"
"""Stages that are not canary steps: nothing deployed, challenger unseen by users, champion alone."""

CAP_SHADOW: Final = "shadow"
"""The only cap: a version registered under a waiver may be compared but never see users."""


class VersionStatus(StrEnum):
    """Where a version stands."""

    REGISTERED = "registered"
    SHADOW = "shadow"
    CANARY = "canary"
    CHAMPION = "champion"
    RETIRED = "retired"
    FAILED_PROMOTION = "failed_promotion"


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version.

    Attributes:
        story, number: its name; numbers start at 1 and have no gaps.
        artifact: id of its files in the artifact store.
        tags: the six mandatory run tags and whatever else the run recorded.
        metrics: headline numbers of its evaluation.
        documents: digests of what explains it (evaluation report, training config, ...) by name.
        status: where it stands.
        registered_at: when it entered the registry.
        capped: "shadow" when a waiver keeps it from users; None otherwise.
        run_id: the run that made it; registering the same run again changes nothing.
        gate: the offline gate's decision.
        policy: digest of the story specification it was gated by.
        waivers: what was waived for it: name, actor, reason.
        entry: ledger sequence of its registration.
        signatures: who vouches for the artifact, by region (GOV-3).
    """

    story: str
    number: int
    artifact: str
    tags: Mapping[str, Any]
    metrics: Mapping[str, Any]
    documents: Mapping[str, str]
    status: VersionStatus
    registered_at: datetime
    capped: str | None
    run_id: str
    gate: Decision
    policy: str
    waivers: tuple[Mapping[str, str], ...]
    entry: int
    signatures: Mapping[str, Signature]

    @property
    def label_version(self) -> Any:
        """The label version it was trained on."""
        return self.tags["label_version"]

    @property
    def name(self) -> str:
        """``story/number``, the subject of decisions about it."""
        return f"{self.story}/{self.number}"

    def as_dict(self) -> dict[str, Any]:
        """The registry record (PRO-1)."""
        return {
            "story": self.story,
            "version": self.number,
            "status": str(self.status),
            "capped": self.capped,
            "artifact": self.artifact,
            "dataset_version": self.tags["data_snapshot_id"],
            "training_code_sha": self.tags["code_revision"],
            "tags": dict(self.tags),
            "metrics": dict(self.metrics),
            "documents": dict(self.documents),
            "registered_at": isoformat(self.registered_at),
            "run_id": self.run_id,
            "waivers": [dict(waiver) for waiver in self.waivers],
            "signatures": {region: one.as_dict() for region, one in sorted(self.signatures.items())},
        }


@dataclass(frozen=True, slots=True)
class Deployment:
    """Who answers a story's requests.

    Attributes:
        story: the story.
        epoch: ledger sequence of the transition that made it so; 0 before the first.
        champion: the version users get; None until one was promoted.
        challenger: the version in shadow or canary; None when there is none.
        stage: "none", "shadow", the name of a canary stage, or "full".
        since: when this deployment began; None before the first.
        last_known_good: the champion before this one, where a rollback goes; None when there is none.
        salt: what user ids are hashed with; one per rollout, so its ramps never move a user back.
        share: the part of users the challenger answers, in [0, 1].
        holdout: the part of users who never meet the challenger during this rollout, in [0, 1].
        shadow_since, canary_since: when the challenger's shadow and first canary stage began.
        extended: why this canary has the extended stage, too (EVA-3); empty when it has not.
    """

    story: str
    epoch: int = 0
    champion: int | None = None
    challenger: int | None = None
    stage: str = NONE
    since: datetime | None = None
    last_known_good: int | None = None
    salt: str = ""
    share: float = 0.0
    holdout: float = 0.0
    shadow_since: datetime | None = None
    canary_since: datetime | None = None
    extended: str = ""

    @property
    def in_canary(self) -> bool:
        return self.challenger is not None and self.stage != SHADOW

    @property
    def known_good(self) -> int | None:
        """The version a rollback from here would leave: no single one can withdraw it."""
        if self.challenger is not None or self.last_known_good is None:
            return self.champion
        return self.last_known_good

    def pinned(self) -> Deployment:
        """What somebody serves who cannot know whether this deployment still stands."""
        return Deployment(
            self.story, self.epoch, self.known_good, stage=FULL if self.known_good else NONE, since=self.since
        )

    def as_dict(self) -> dict[str, Any]:
        """The deployment as a JSON object."""
        return {
            "story": self.story,
            "epoch": self.epoch,
            "champion": self.champion,
            "challenger": self.challenger,
            "stage": self.stage,
            "since": isoformat(self.since) if self.since else None,
            "last_known_good": self.last_known_good,
            "share": self.share,
            "holdout": self.holdout,
            "extended": self.extended,
        }


@dataclass(frozen=True, slots=True)
class StoryState:
    """Everything the entries of one story add up to.

    Attributes:
        sequence: the last entry folded, the compare-and-swap point.
        versions: every version by number.
        champions: who was promoted, oldest first, without those rolled back; the last is champion.
        deployment: who answers now.
        voided: sequences of entries a kill switch made void.
    """

    story: str
    sequence: int = 0
    versions: Mapping[int, Version] = field(default_factory=dict)
    champions: tuple[int, ...] = ()
    deployment: Deployment = field(default_factory=lambda: Deployment(""))
    voided: tuple[int, ...] = ()

    @classmethod
    def empty(cls, story: str) -> StoryState:
        return cls(story, deployment=Deployment(story))


def fold(state: StoryState, entry: Entry, *, allowed: bool) -> StoryState:
    """``state`` after ``entry``.

    Args:
        allowed: whether the kill switches permitted promotions at the entry's sequence.
    """
    if entry.kind in ADVANCING and not allowed:
        return replace(state, sequence=entry.sequence, voided=(*state.voided, entry.sequence))
    moved = _FOLDS[entry.kind](state, entry) if entry.kind in _FOLDS else state
    return replace(moved, sequence=entry.sequence)


def _registered(state: StoryState, entry: Entry) -> StoryState:
    body = entry.body
    gate = Decision.from_dict(body["gate"])
    failed = gate.action in (Action.ROLL_BACK, Action.REFUSE)
    version = Version(
        story=state.story,
        number=body["version"],
        artifact=body["artifact"],
        tags=body["tags"],
        metrics=body["metrics"],
        documents=body["documents"],
        status=VersionStatus.FAILED_PROMOTION if failed else VersionStatus.REGISTERED,
        registered_at=entry.at,
        capped=body["capped"],
        run_id=body["run_id"],
        gate=gate,
        policy=body["policy"],
        waivers=tuple(body["waivers"]),
        entry=entry.sequence,
        signatures=_signatures({}, body.get("signature")),
    )
    return replace(state, versions={**state.versions, version.number: version})


def _signed(state: StoryState, entry: Entry) -> StoryState:
    version = state.versions[entry.body["version"]]
    signatures = _signatures(version.signatures, entry.body["signature"])
    changed = replace(version, signatures=signatures)
    return replace(state, versions={**state.versions, version.number: changed})


def _signatures(known: Mapping[str, Signature], body: Mapping[str, str] | None) -> dict[str, Signature]:
    """A version of a release before signing has none, and is not loaded until somebody signs it."""
    return {**known} if body is None else {**known, body["region"]: Signature(**body)}


def _shadow_started(state: StoryState, entry: Entry) -> StoryState:
    number: int = entry.body["version"]
    changes = {number: VersionStatus.SHADOW}
    if state.deployment.challenger is not None:
        # Only a capped version may be replaced: it has nowhere to go, so it must not stand in the way.
        changes[state.deployment.challenger] = VersionStatus.RETIRED
    moved = _with_status(state, changes)
    return _deployed(
        moved,
        entry,
        challenger=number,
        stage=SHADOW,
        salt=f"{state.story}/{number}/{entry.sequence}",
        shadow_since=entry.at,
    )


def _advanced(state: StoryState, entry: Entry) -> StoryState:
    body = entry.body
    began = state.deployment.canary_since if entry.kind == ADVANCED else None
    return _deployed(
        _with_status(state, {body["version"]: VersionStatus.CANARY}),
        entry,
        challenger=body["version"],
        stage=body["stage"],
        salt=state.deployment.salt if entry.kind == ADVANCED else f"{state.story}/{entry.sequence}",
        share=body["share"],
        holdout=body["holdout"],
        shadow_since=state.deployment.shadow_since,
        canary_since=began or entry.at,
        extended=body.get("extended") or (state.deployment.extended if entry.kind == ADVANCED else ""),
    )


def _promoted(state: StoryState, entry: Entry) -> StoryState:
    number: int = entry.body["version"]
    changes = {number: VersionStatus.CHAMPION}
    if state.champions:
        changes[state.champions[-1]] = VersionStatus.RETIRED
    moved = replace(_with_status(state, changes), champions=(*state.champions, number))
    return _deployed(moved, entry)


def _failed(state: StoryState, entry: Entry) -> StoryState:
    number: int = entry.body["version"]
    moved = _with_status(state, {number: VersionStatus.FAILED_PROMOTION})
    return _deployed(moved, entry) if state.deployment.challenger == number else moved


def _rolled_back(state: StoryState, entry: Entry) -> StoryState:
    target: int = entry.body["to"]
    keep = state.champions[: state.champions.index(target) + 1]
    gone = state.champions[len(keep) :]
    changes = dict.fromkeys(gone, VersionStatus.RETIRED)
    changes[entry.body["version"]] = VersionStatus.FAILED_PROMOTION
    changes[target] = VersionStatus.CHAMPION
    moved = replace(_with_status(state, changes), champions=keep)
    return _deployed(moved, entry)


_FOLDS = {
    REGISTERED: _registered,
    SHADOW_STARTED: _shadow_started,
    ADVANCED: _advanced,
    REENABLED: _advanced,
    PROMOTED: _promoted,
    FAILED: _failed,
    ROLLED_BACK: _rolled_back,
    SIGNED: _signed,
}


def canary_body(
    number: int,
    stage: CanaryStage,
    holdout: float,
    decision: Decision,
    evidence: str | None,
    *,
    extended: str = "",
) -> dict[str, Any]:
    """What an entry that puts a version before ``stage.share`` of users says."""
    return {
        "version": number,
        "stage": stage.name,
        "share": stage.share,
        "holdout": holdout,
        "decision": decision.as_dict(),
        "evidence": evidence,
        "extended": extended,
    }


def _with_status(state: StoryState, changes: Mapping[int, VersionStatus]) -> StoryState:
    changed = {number: replace(state.versions[number], status=status) for number, status in changes.items()}
    return replace(state, versions={**state.versions, **changed})


def _deployed(state: StoryState, entry: Entry, **rollout: Any) -> StoryState:
    champions = state.champions
    deployment = Deployment(
        state.story,
        epoch=entry.sequence,
        champion=champions[-1] if champions else None,
        last_known_good=champions[-2] if len(champions) > 1 else None,
        since=entry.at,
        **{"stage": FULL if champions else NONE, **rollout},
    )
    return replace(state, deployment=deployment)
