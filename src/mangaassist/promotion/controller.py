"""The controller: looks at the evidence of a rollout and moves it one stage on, holds it or takes it back.

What it decides is in the ledger with its verdicts, the digest of the stored evidence and the digest of the
policy. A hold is recorded when it begins and when its reasons change, not at every look. Nothing is ever
promoted by a timeout: a stage undecided at its deadline rolls back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from time import perf_counter
from typing import Final

from mangaassist.core.errors import GateRefused, InputError, Unavailable
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import Story
from mangaassist.core.verdict import Action, Decision, Status, Verdict, decide
from mangaassist.promotion import stages, trust
from mangaassist.promotion.baseline import baseline_verdicts
from mangaassist.promotion.evidence import StageEvidence
from mangaassist.promotion.readers import Acknowledged, Reader
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.versions import CAP_SHADOW, SHADOW, Deployment
from mangaassist.storage.ledger import Entry, Ledger

HELD: Final = "promotion.held"
MEASURED: Final = "promotion.rollback_measured"
REVIEWED: Final = "promotion.shadow_reviewed"
ACTOR: Final = "promotion-controller"
PAGE: Final = "SEV-3"


@dataclass(frozen=True, slots=True)
class Rollback:
    """One rollback, timed (PRO-4).

    Attributes:
        version: the version taken back.
        deployment: who answers after it.
        seconds: from the decision until the last reader served the new deployment, wall clock.
        readers: how many readers were waited for.
        limit: the seconds the story's policy allows.
        expired: those among them that were cut off and counted by the end of their lease.
    """

    story: str
    version: int
    deployment: Deployment
    seconds: float
    readers: int
    limit: float
    expired: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """PRO-4 as a verdict: an acceptance criterion, measured."""
        status = Status.PASS if self.seconds <= self.limit else Status.FAIL
        seen = f"as seen by the last of {self.readers} readers" if self.readers else "with nobody serving it"
        if self.expired:
            seen += f", {len(self.expired)} of them cut off and pinned by the end of their lease"
        sentence = (
            f"Version {self.version} was taken back in {self.seconds:.3f} s {seen} (limit {self.limit:g} s)."
        )
        return Verdict(
            "rollback.seconds", status, sentence, value=self.seconds, threshold=self.limit, n=self.readers
        )


class Controller:
    """Moves the rollouts of every story; holds no state of its own that the ledger does not have.

    Args:
        readers: who has to have seen a rollback before it counts as done.
    """

    def __init__(self, registry: Registry, *, readers: Sequence[Reader] = ()) -> None:
        self._registry = registry
        self._readers = tuple(readers)
        self._last_hold: dict[str, tuple[str, ...]] = {}

    def step(self, story: Story, evidence: StageEvidence, now: datetime) -> Decision:
        """One look: judge the evidence, apply what follows, return the decision.

        Raises:
            InputError: the evidence is about another deployment than the present one.
            Conflict: somebody else moved the story between the look and the decision.
        """
        deployment = self._registry.deployment(story.name)
        _check_evidence(deployment, evidence)
        permissions = self._registry.switches.permissions(story.name)
        decision = self._judge(story, deployment, evidence, now)
        if not permissions.may_promote:
            # A switch pins what is there, in both directions: only a person moves anything now.
            held = replace(decision, action=Action.HOLD, reason=permissions.sentence, deadline=None)
            return self._hold(story.name, held, evidence)
        if decision.action is Action.PROMOTE:
            return self._promote(story, deployment, decision, evidence)
        if decision.action is Action.ROLL_BACK:
            return self._take_back(story, deployment, decision, evidence)
        return self._hold(story.name, decision, evidence)

    def rollback(
        self, story: Story, *, actor: str, reason: str, at: datetime, to: int | None = None
    ) -> Rollback:
        """A person's rollback: withdraw the challenger if there is one, else restore the previous champion.

        Works under a freeze, too: the way back is always open.

        Raises:
            GateRefused: there is nothing to go back to.
        """
        _require_reason(reason)
        started = perf_counter()
        deployment = self._registry.deployment(story.name)
        number = deployment.challenger if deployment.challenger is not None else deployment.champion
        decision = Decision(
            Action.ROLL_BACK, f"{story.name}/{number}", reason, actor, at, policy=story.digest
        )
        if deployment.challenger is not None and to is None:
            after = self._registry.fail(
                story.name, deployment.challenger, decision=decision, epoch=deployment.epoch
            )
        else:
            after = self._registry.rollback(story.name, decision=decision, to=to, epoch=deployment.epoch)
        return self._measure(story, number or 0, after, started, at=at, actor=actor)

    def review_disagreement(
        self, story: Story, number: int, *, actor: str, reason: str, at: datetime
    ) -> Entry:
        """Record that a person looked at the shadow's disagreements and accepts them (PRO-6)."""
        _require_reason(reason)
        self._registry.get(story.name, number)
        return self._registry.ledger.append(
            kind=REVIEWED,
            subject=subject(story.name),
            body={"version": number, "reason": reason},
            actor=actor,
            at=at,
        )

    def reenable(
        self, story: Story, number: int, evidence: StageEvidence, *, actor: str, reason: str, at: datetime
    ) -> Deployment:
        """Start an aborted canary again after a false alarm (PRO-3).

        Args:
            evidence: the aborted canary with the hour before it as its hold-out, as
                :func:`mangaassist.promotion.baseline.against_baseline` makes it.

        Raises:
            GateRefused: the canary breaks a rule against that hour, too.
        """
        _require_reason(reason)
        if (evidence.story, evidence.challenger) != (story.name, number):
            raise InputError(
                "evidence",
                expected=f"the aborted canary of {story.name}/{number}",
                got=f"{evidence.story}/{evidence.challenger}",
                next_step="Collect it with against_baseline for this version.",
            )
        verdicts = baseline_verdicts(evidence, story.rollout.rules)
        found = decide(f"{story.name}/{number}", verdicts, actor=actor, at=at, policy=policy_digest(story))
        if found.action is not Action.PROMOTE:
            raise GateRefused(
                f"{story.name}/{number}",
                expected="a canary no worse than the hour before it",
                got=found.reason,
                next_step="It was no false alarm: retrain instead.",
            )
        decision = replace(found, reason=f"False alarm: {reason}")
        first = story.rollout.stages[0]
        return self._registry.reenable(
            story.name,
            number,
            stage=first,
            holdout=stages.holdout_share(story.rollout),
            decision=decision,
            evidence=self._store(evidence),
        )

    def _judge(
        self, story: Story, deployment: Deployment, evidence: StageEvidence, now: datetime
    ) -> Decision:
        return stages.judge(
            story,
            evidence,
            extended=deployment.extended,
            paused=self._registry.switches.paused(story.name, evidence.since, now),
            reviewed_by=(
                reviewer(self._registry.ledger, story.name, deployment.challenger)
                if deployment.stage == SHADOW
                else None
            ),
            actor=ACTOR,
            at=now,
            policy=policy_digest(story),
        )

    def _promote(
        self, story: Story, deployment: Deployment, decision: Decision, evidence: StageEvidence
    ) -> Decision:
        number = deployment.challenger or 0
        version = self._registry.get(story.name, number)
        if version.capped == CAP_SHADOW:
            reason = f"Shadow passed, but version {number} is capped at shadow by a waiver."
            refused = replace(decision, action=Action.REFUSE, reason=reason, deadline=None)
            return self._hold(story.name, refused, evidence)
        extended = deployment.extended
        if deployment.stage == SHADOW:
            extended, decision = self._extension(story, decision)
        rollout = stages.planned(story.rollout, extended)
        following = stages.following(rollout, deployment.stage)
        digest, decision = self._documented(evidence, decision)
        if following is None:
            self._registry.promote(
                story.name, number, decision=decision, epoch=deployment.epoch, evidence=digest
            )
        else:
            self._registry.advance(
                story.name,
                number,
                stage=following,
                holdout=stages.holdout_share(rollout),
                decision=decision,
                epoch=deployment.epoch,
                evidence=digest,
                extended=extended,
            )
        return decision

    def _extension(self, story: Story, decision: Decision) -> tuple[str, Decision]:
        """Why the canary about to begin is extended (empty when it is not), and the decision saying so."""
        verdict = trust.verdict(story, trust.pairs(self._registry, story.name))
        why = trust.extension(story, verdict)
        reason = f"{decision.reason} The canary is extended: {why}" if why else decision.reason
        return why, replace(decision, verdicts=(*decision.verdicts, verdict), reason=reason)

    def _take_back(
        self, story: Story, deployment: Deployment, decision: Decision, evidence: StageEvidence
    ) -> Decision:
        started = perf_counter()
        number = deployment.challenger or 0
        digest, decision = self._documented(evidence, decision)
        after = self._registry.fail(
            story.name,
            number,
            decision=decision,
            epoch=deployment.epoch,
            evidence=digest,
            severity=PAGE if deployment.in_canary else None,
        )
        self._measure(story, number, after, started, at=decision.at, actor=decision.actor)
        return decision

    def _hold(self, story: str, decision: Decision, evidence: StageEvidence) -> Decision:
        """Record a hold when it is not the one recorded last."""
        standing = (str(evidence.challenger), evidence.stage, str(decision.action), *_standing(decision))
        if self._last_hold.get(story) is None:
            self._last_hold[story] = self._recorded_hold(story)
        if self._last_hold[story] == standing:
            return decision
        digest, decision = self._documented(evidence, decision)
        body = {"decision": decision.as_dict(), "evidence": digest, "standing": list(standing)}
        self._registry.ledger.append(
            kind=HELD, subject=subject(story), body=body, actor=decision.actor, at=decision.at
        )
        self._last_hold[story] = standing
        return decision

    def _recorded_hold(self, story: str) -> tuple[str, ...]:
        """The hold an earlier process recorded last."""
        found = self._registry.ledger.entries(subject=subject(story), kind=HELD)
        return tuple(found[-1].body["standing"]) if found else ()

    def _documented(self, evidence: StageEvidence, decision: Decision) -> tuple[str, Decision]:
        """Store the evidence and name it in every verdict drawn from it."""
        digest = self._store(evidence)
        named = tuple(replace(verdict, evidence=(digest,)) for verdict in decision.verdicts)
        return digest, replace(decision, verdicts=named)

    def _store(self, evidence: StageEvidence) -> str:
        return self._registry.artifacts.put(canonical_json(evidence.as_dict()), durable=True)

    def _measure(
        self, story: Story, version: int, after: Deployment, started: float, *, at: datetime, actor: str
    ) -> Rollback:
        limit, safe, late = story.rollout.rollback_within, Acknowledged(0), None
        try:
            for reader in self._readers:
                safe += reader.acknowledge(story.name, after.epoch, within=limit, withdrawn=version)
        except Unavailable as error:
            late = error
        seconds = perf_counter() - started
        measured = Rollback(
            story.name, version, after, seconds, safe.readers, limit.total_seconds(), safe.expired
        )
        body = {
            "version": version,
            "epoch": after.epoch,
            "seconds": seconds,
            "readers": safe.readers,
            "expired": list(safe.expired),
            "late": str(late) if late else None,
            "verdict": measured.verdict.as_dict(),
        }
        self._registry.ledger.append(
            kind=MEASURED, subject=subject(story.name), body=body, actor=actor, at=at
        )
        if late is not None:
            raise late
        return measured


def subject(story: str) -> str:
    """The ledger subject of what happens around a story's rollouts without moving them."""
    return f"promotion/{story}"


def reviewer(ledger: Ledger, story: str, number: int | None, *, before: int | None = None) -> str | None:
    """Who last reviewed the disagreements of a version's shadow; before an entry's sequence, if given."""
    entries = ledger.entries(subject=subject(story), kind=REVIEWED)
    names = [
        entry.actor
        for entry in entries
        if entry.body["version"] == number and (before is None or entry.sequence < before)
    ]
    return names[-1] if names else None


@lru_cache(maxsize=64)
def policy_digest(story: Story) -> str:
    """``story.digest``, computed once: a controller asks for it at every look."""
    return story.digest


def rollback_seconds(ledger: Ledger, story: str) -> list[tuple[int, float]]:
    """(version, seconds) of every measured rollback of ``story``, oldest first."""
    found = ledger.entries(subject=subject(story), kind=MEASURED)
    return [(entry.body["version"], entry.body["seconds"]) for entry in found]


def _standing(decision: Decision) -> list[str]:
    """What keeps a decision from promoting: the blocking verdicts that do not pass."""
    return [f"{one.name}={one.status}" for one in decision.verdicts if one.blocking and not one.passed]


def _check_evidence(deployment: Deployment, evidence: StageEvidence) -> None:
    if deployment.challenger is None:
        raise InputError(
            f"challenger of '{deployment.story}'",
            expected="a version in shadow or canary",
            got="none",
            next_step="Start one with 'retrain'.",
        )
    found = (evidence.story, evidence.challenger, evidence.stage, evidence.since)
    wanted = (deployment.story, deployment.challenger, deployment.stage, deployment.since)
    if found != wanted:
        raise InputError(
            "evidence",
            expected=f"version {deployment.challenger} in {deployment.stage} since {deployment.since}",
            got=f"version {evidence.challenger} in {evidence.stage} since {evidence.since}",
            next_step="Collect it for the present deployment.",
        )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InputError(
            "reason",
            expected="a sentence saying why",
            got="nothing",
            next_step="Add --reason; it stays in the ledger.",
        )
