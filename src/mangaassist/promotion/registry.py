"""The model registry (PRO-1): versions and deployments of every story, kept in the ledger and nowhere else.

Every transition is a compare-and-swap on the subject ``registry/<story>``: of two processes that decide at
the same moment exactly one writes, the other gets a Conflict and nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from mangaassist.core.errors import Conflict, GateRefused, InputError
from mangaassist.core.story import CanaryStage
from mangaassist.core.verdict import Decision
from mangaassist.governance.signing import KeyRing
from mangaassist.governance.switches import Switches
from mangaassist.promotion.registry_reader import RegistryReader
from mangaassist.promotion.requirements import (
    known,
    moved,
    of_run,
    require_aborted,
    require_canary,
    require_gate,
    require_growth,
    require_movable,
    require_no_challenger,
    require_pass,
    require_uncapped,
    require_unsettled,
    rollback_target,
    subject,
)
from mangaassist.promotion.versions import (
    ADVANCED,
    CAP_SHADOW,
    FAILED,
    PROMOTED,
    REENABLED,
    REGISTERED,
    ROLLED_BACK,
    SHADOW,
    SHADOW_STARTED,
    SIGNED,
    Deployment,
    StoryState,
    Version,
    canary_body,
)
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Entry, Ledger
from mangaassist.training.tags import RunTags

_ATTEMPTS = 100
"""Appends that only lost to a registration are repeated; each loss means another process got through."""

_BESIDE_DEPLOYMENTS = frozenset({REGISTERED, SIGNED})
"""Entries that say something about a version and change nobody's answers."""

Build = Callable[[StoryState], Mapping[str, Any] | None]


class Registry(RegistryReader):
    """The registry of one ledger, as whoever moves something has it; safe to share between threads.

    Args:
        deployable: raises GateRefused for a version that this installation could not serve as it was trained.
    """

    def __init__(
        self,
        ledger: Ledger,
        artifacts: ArtifactStore,
        keys: KeyRing,
        switches: Switches | None = None,
        *,
        deployable: Callable[[Version], None] = lambda _: None,
    ) -> None:
        super().__init__(ledger, artifacts, keys, switches)
        self._deployable = deployable

    def sign(
        self, story: str, number: int, *, region: str | None = None, actor: str, at: datetime
    ) -> Version:
        """Vouch for a version with the region's present key: a copy for another region, or a new key.

        Raises:
            GateRefused: this machine does not hold the region's key.
            IntegrityError: the artifact is damaged.
        """

        def build(state: StoryState) -> Mapping[str, Any]:
            version = known(state, number)
            self._check_stored(version.artifact, {})
            signature = self.keys.sign(version.artifact, name=version.name, region=region, actor=actor, at=at)
            return {"version": number, "signature": signature.as_dict()}

        return self._commit(story, SIGNED, build, actor=actor, at=at).versions[number]

    def register(
        self,
        story: str,
        *,
        artifact: str,
        tags: Mapping[str, Any],
        metrics: Mapping[str, Any],
        gate: Decision,
        run_id: str,
        actor: str,
        at: datetime,
        documents: Mapping[str, str] | None = None,
        policy: str = "",
        capped: str | None = None,
        waivers: Sequence[Mapping[str, str]] = (),
    ) -> Version:
        """Enter a version. Registering the same run again returns the version it already has.

        Args:
            artifact: id of the model's files, already stored.
            gate: the offline gate's decision. A refusal is registered too, as failed_promotion.
            documents: digests of stored documents that explain the version, by name (TRN-6).
            capped: "shadow" for a version that may never see users.

        Raises:
            GateRefused: a mandatory tag is missing or empty (TRN-4).
            IntegrityError: the artifact or a document is not in the store.
            Conflict: the run already registered another artifact.
        """
        complete = {**tags, **RunTags.of(tags).as_dict()}
        self._check_stored(artifact, documents or {})
        if capped not in (None, CAP_SHADOW):
            raise InputError(
                "capped", expected="'shadow' or nothing", got=repr(capped), next_step="Leave it out."
            )
        content = {
            "artifact": artifact,
            "tags": complete,
            "metrics": dict(metrics),
            "documents": dict(documents or {}),
            "run_id": run_id,
            "capped": capped,
            "waivers": [dict(waiver) for waiver in waivers],
            "policy": policy,
            "gate": gate.as_dict(),
        }

        def build(state: StoryState) -> Mapping[str, Any] | None:
            if of_run(state, run_id, artifact) is not None:
                return None
            number = len(state.versions) + 1
            return {
                **content,
                "version": number,
                "signature": self.keys.sign(artifact, name=f"{story}/{number}", actor=actor, at=at).as_dict(),
                "rollback_to": state.deployment.champion,
            }

        state = self._commit(story, REGISTERED, build, actor=actor, at=at)
        return next(version for version in state.versions.values() if version.run_id == run_id)

    def start_shadow(
        self, story: str, number: int, *, actor: str, at: datetime, epoch: int | None = None
    ) -> Deployment:
        """Let a version that passed the offline gate answer unseen; asking twice changes nothing.

        A capped version in shadow makes room for it.

        Raises:
            GateRefused: its gate did not pass, it failed before, another challenger is out, or a kill
                switch denies promotions.
        """

        def build(state: StoryState) -> Mapping[str, Any] | None:
            version, deployment = known(state, number), state.deployment
            if deployment.challenger == number and deployment.stage == SHADOW:
                return None
            self.switches.permissions(story).require_promotion()
            require_gate(version)
            self._deployable(version)
            if deployment.challenger is None or state.versions[deployment.challenger].capped is None:
                require_no_challenger(deployment)
            return {"version": number, "gate": version.entry}

        return self._commit(story, SHADOW_STARTED, build, actor=actor, at=at, epoch=epoch).deployment

    def advance(
        self,
        story: str,
        number: int,
        *,
        stage: CanaryStage,
        holdout: float,
        decision: Decision,
        epoch: int | None = None,
        evidence: str | None = None,
        extended: str = "",
    ) -> Deployment:
        """Give the challenger ``stage.share`` of users.

        Args:
            holdout: the part of users that never meets this challenger.
            decision: the passing decision that allows it.
            epoch: the deployment the decision was made about; a newer one is a Conflict.
            evidence: digest of the stored evidence.
            extended: why this canary gets the extended stage, too; empty when it does not.
        """

        def build(state: StoryState) -> Mapping[str, Any]:
            self.switches.permissions(story).require_promotion()
            require_movable(state, number, decision)
            self._deployable(known(state, number))
            require_growth(state.deployment, stage)
            return canary_body(number, stage, holdout, decision, evidence, extended=extended)

        return self._decided(story, ADVANCED, build, decision, epoch)

    def promote(
        self,
        story: str,
        number: int,
        *,
        decision: Decision,
        epoch: int | None = None,
        evidence: str | None = None,
    ) -> Deployment:
        """Make the challenger champion; the old champion becomes the rollback pointer."""

        def build(state: StoryState) -> Mapping[str, Any]:
            self.switches.permissions(story).require_promotion()
            require_movable(state, number, decision)
            self._deployable(known(state, number))
            require_canary(state.deployment)
            return {
                "version": number,
                "previous": state.deployment.champion,
                "decision": decision.as_dict(),
                "evidence": evidence,
            }

        return self._decided(story, PROMOTED, build, decision, epoch)

    def fail(
        self,
        story: str,
        number: int,
        *,
        decision: Decision,
        epoch: int | None = None,
        evidence: str | None = None,
        severity: str | None = None,
    ) -> Deployment:
        """Take a version out of the running for good; users in its canary get the champion again.

        Args:
            severity: "SEV-3" when this is an automatic abort that has to page somebody (PRO-3).
        """

        def build(state: StoryState) -> Mapping[str, Any]:
            require_unsettled(known(state, number))
            return {
                "version": number,
                "stage": state.deployment.stage if state.deployment.challenger == number else None,
                "decision": decision.as_dict(),
                "evidence": evidence,
                "severity": severity,
            }

        return self._decided(story, FAILED, build, decision, epoch)

    def rollback(
        self,
        story: str,
        *,
        decision: Decision,
        to: int | None = None,
        epoch: int | None = None,
        evidence: str | None = None,
        severity: str | None = None,
    ) -> Deployment:
        """Put an earlier champion back; the present one becomes failed_promotion.

        Args:
            to: which earlier champion; None for the one before.
            evidence: digest of the stored evidence.
            severity: "SEV-3" when nobody asked for it, so that somebody has to be paged.

        Raises:
            GateRefused: there is no earlier champion, ``to`` never was one, or a challenger is out.
            IntegrityError: the earlier champion's artifact is damaged.
        """

        def build(state: StoryState) -> Mapping[str, Any]:
            require_no_challenger(state.deployment)
            target = rollback_target(state, to)
            self._check_stored(state.versions[target].artifact, {})
            return {
                "version": state.deployment.champion,
                "to": target,
                "decision": decision.as_dict(),
                "evidence": evidence,
                "severity": severity,
            }

        return self._decided(story, ROLLED_BACK, build, decision, epoch)

    def reenable(
        self,
        story: str,
        number: int,
        *,
        stage: CanaryStage,
        holdout: float,
        decision: Decision,
        evidence: str | None = None,
        role: str = "",
    ) -> Deployment:
        """Start the canary of an aborted version again after a false alarm (PRO-3).

        Args:
            role: in which the decision's actor answers for it.
        """

        def build(state: StoryState) -> Mapping[str, Any]:
            version = known(state, number)
            self.switches.permissions(story).require_promotion()
            require_no_challenger(state.deployment)
            before = self.before_failure(story, number)[1]
            require_aborted(version, before)
            require_pass(version, decision)
            require_uncapped(version)
            self._deployable(version)
            body = canary_body(number, stage, holdout, decision, evidence, extended=before.extended)
            return {**body, "role": role}

        return self._decided(story, REENABLED, build, decision, None)

    def _decided(
        self, story: str, kind: str, build: Build, decision: Decision, epoch: int | None
    ) -> Deployment:
        return self._commit(story, kind, build, actor=decision.actor, at=decision.at, epoch=epoch).deployment

    def _commit(
        self, story: str, kind: str, build: Build, *, actor: str, at: datetime, epoch: int | None = None
    ) -> StoryState:
        """Append what ``build`` makes of the current state; None from it means nothing to do.

        The state it was built from is the compare-and-swap point. Losing to a registration changes nothing
        the decision was about, so it is built again; losing to another transition is a Conflict.
        """
        for _ in range(_ATTEMPTS):
            state = self.state(story)
            if epoch is None and kind not in _BESIDE_DEPLOYMENTS:
                epoch = state.deployment.epoch
            if epoch is not None and state.deployment.epoch != epoch:
                raise moved(story, epoch, state.deployment)
            body = build(state)
            if body is None:
                return state
            try:
                entry = self.ledger.append(
                    kind=kind,
                    subject=subject(story),
                    body=body,
                    actor=actor,
                    at=at,
                    expected=state.sequence,
                )
            except Conflict:
                continue
            return self._applied(story, state, entry)
        raise Conflict(
            subject(story),
            expected=f"a free moment within {_ATTEMPTS} attempts",
            got="other processes writing all the time",
            next_step="Run the command again.",
        )

    def _applied(self, story: str, before: StoryState, entry: Entry) -> StoryState:
        """Fold our own entry without reading it back: the swap proved that nothing came between."""
        with self._lock:
            self.switches.skip(entry.sequence)
            after = self._fold(before, entry)
            cached = self._states.get(story)
            if cached is None or cached.sequence < after.sequence:
                self._states[story] = after
            if self._seen.get(story) == entry.sequence - 1:
                self._seen[story] = entry.sequence
        if entry.sequence in after.voided:
            self.switches.permissions(story).require_promotion()
            raise GateRefused(
                subject(story),
                expected="promotions to be allowed",
                got="a kill switch that was on a moment ago",
                next_step="Run the command again.",
            )
        return after
