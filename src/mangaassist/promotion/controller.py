"""The controller: looks at the evidence of a rollout and moves it one stage on, holds it or takes it back.

What it decides is in the ledger with its verdicts, the digest of the stored evidence and the digest of the
policy. A hold is recorded when it begins and when its reasons change, not at every look. Nothing is ever
promoted by a timeout: a stage undecided at its deadline rolls back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from time import perf_counter
from typing import Final

from mangaassist.core.errors import GateRefused, InputError
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import Story
from mangaassist.core.verdict import Action, Decision, decide
from mangaassist.governance.switches import require_reason
from mangaassist.promotion import stages, trust
from mangaassist.promotion.baseline import baseline_verdicts
from mangaassist.promotion.evidence import StageEvidence
from mangaassist.promotion.readers import Reader
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.rollbacks import Rollback, measure, subject
from mangaassist.promotion.versions import CAP_SHADOW, SHADOW, Deployment
from mangaassist.storage.ledger import Entry, Ledger

HELD: Final = "promotion.held"
REVISED: Final = "promotion.revised"
REVIEWED: Final = "promotion.shadow_reviewed"
ACTOR: Final = "promotion-controller"
PAGE: Final = "SEV-3"


class Controller:
    """Moves the rollouts of every story; holds no state of its own that the ledger does not have.

    Args:
        readers: who has to have seen a rollback before it counts as done.
    """

    def __init__(self, registry: Registry, *, readers: Sequence[Reader] = ()) -> None:
        self._registry = registry
        self._readers = tuple(readers)
        self._last_hold: dict[tuple[str, str], tuple[str, ...]] = {}

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

    def revise(self, story: Story, evidence: StageEvidence, now: datetime) -> Decision:
        """Judge the canary that made the champion again, on what became known of it since (PRO-2).

        A champion shown to have done harm after all is taken back as its canary would have been.

        Args:
            evidence: of that canary, with every outcome known by ``now``.

        Raises:
            InputError: it is about another version than the champion.
            Conflict: somebody else moved the story between the look and the decision.
        """
        deployment = self._registry.deployment(story.name)
        if (evidence.story, evidence.challenger) != (story.name, deployment.champion):
            raise InputError(
                "evidence",
                expected=f"the canary of version {deployment.champion} of '{story.name}'",
                got=f"{evidence.story}/{evidence.challenger}",
                next_step="Collect it for the present champion.",
            )
        permissions = self._registry.switches.permissions(story.name)
        decision = stages.judge_late(story, evidence, actor=ACTOR, at=now, policy=policy_digest(story))
        if decision.action is Action.ROLL_BACK and permissions.may_promote:
            return self._undo(story, deployment, decision, evidence)
        if not permissions.may_promote:
            decision = replace(decision, action=Action.HOLD, reason=permissions.sentence)
        return self._hold(story.name, decision, evidence, kind=REVISED)

    def rollback(
        self, story: Story, *, actor: str, reason: str, at: datetime, to: int | None = None
    ) -> Rollback:
        """A person's rollback: withdraw the challenger if there is one, else restore the previous champion.

        Works under a freeze, too: the way back is always open.

        Raises:
            GateRefused: there is nothing to go back to.
        """
        require_reason(reason)
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
        return self._measured(story, number or 0, after, decision, started)

    def review_disagreement(
        self, story: Story, number: int, *, actor: str, reason: str, at: datetime
    ) -> Entry:
        """Record that a person looked at the shadow's disagreements and accepts them (PRO-6)."""
        require_reason(reason)
        self._registry.get(story.name, number)
        return self._registry.ledger.append(
            kind=REVIEWED,
            subject=subject(story.name),
            body={"version": number, "reason": reason},
            actor=actor,
            at=at,
        )

    def reenable(
        self,
        story: Story,
        number: int,
        evidence: StageEvidence,
        *,
        actor: str,
        reason: str,
        at: datetime,
        role: str = "",
    ) -> Deployment:
        """Start an aborted canary again after a false alarm (PRO-3).

        Args:
            role: in which the actor answers for it; stays in the ledger.
            evidence: the aborted canary with the hour before it as its hold-out, as
                :func:`mangaassist.promotion.baseline.against_baseline` makes it.

        Raises:
            GateRefused: the canary breaks a rule against that hour, too.
        """
        require_reason(reason)
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
            role=role,
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
        self._measured(story, number, after, decision, started)
        return decision

    def _undo(
        self, story: Story, deployment: Deployment, decision: Decision, evidence: StageEvidence
    ) -> Decision:
        """The champion before comes back; a challenger compared with the present one has lost its measure."""
        started = perf_counter()
        digest, decision = self._documented(evidence, decision)
        if deployment.challenger is not None:
            reason = f"Version {deployment.champion}, which it was compared with, is taken back."
            about = f"{story.name}/{deployment.challenger}"
            withdrawn = replace(decision, subject=about, reason=reason, verdicts=())
            deployment = self._registry.fail(
                story.name, deployment.challenger, decision=withdrawn, epoch=deployment.epoch
            )
        after = self._registry.rollback(
            story.name, decision=decision, epoch=deployment.epoch, evidence=digest, severity=PAGE
        )
        self._measured(story, evidence.challenger, after, decision, started)
        return decision

    def _measured(
        self, story: Story, version: int, after: Deployment, decision: Decision, started: float
    ) -> Rollback:
        return measure(
            self._registry.ledger,
            self._readers,
            story,
            version,
            after,
            started=started,
            actor=decision.actor,
            at=decision.at,
        )

    def _hold(self, story: str, decision: Decision, evidence: StageEvidence, *, kind: str = HELD) -> Decision:
        """Record a hold, or a second judgement, when it is not the one recorded last."""
        number = evidence.challenger
        standing = (str(number), evidence.stage, str(decision.action), *_standing(decision))
        if self._last_hold.get((kind, story)) is None:
            # A second judgement that says what the promotion said is none.
            said = (str(number), evidence.stage, str(Action.PROMOTE)) if kind == REVISED else ()
            self._last_hold[kind, story] = self._recorded_hold(story, kind) or said
        if self._last_hold[kind, story] == standing:
            return decision
        digest, decision = self._documented(evidence, decision)
        body = {"decision": decision.as_dict(), "evidence": digest, "standing": list(standing)}
        self._registry.ledger.append(
            kind=kind, subject=subject(story), body=body, actor=decision.actor, at=decision.at
        )
        self._last_hold[kind, story] = standing
        return decision

    def _recorded_hold(self, story: str, kind: str) -> tuple[str, ...]:
        """What an earlier process recorded last."""
        found = self._registry.ledger.entries(subject=subject(story), kind=kind)
        return tuple(found[-1].body["standing"]) if found else ()

    def _documented(self, evidence: StageEvidence, decision: Decision) -> tuple[str, Decision]:
        """Store the evidence and name it in every verdict drawn from it."""
        digest = self._store(evidence)
        named = tuple(replace(verdict, evidence=(digest,)) for verdict in decision.verdicts)
        return digest, replace(decision, verdicts=named)

    def _store(self, evidence: StageEvidence) -> str:
        return self._registry.artifacts.put(canonical_json(evidence.as_dict()), durable=True)


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
