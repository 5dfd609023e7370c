"""What each transition of the registry demands, one rule a function; each refusal is one clear sentence."""

from __future__ import annotations

from mangaassist.core.errors import Conflict, GateRefused, InputError
from mangaassist.core.story import CanaryStage
from mangaassist.core.verdict import Action, Decision
from mangaassist.promotion.versions import Deployment, StoryState, Version, VersionStatus


def subject(story: str) -> str:
    """The ledger subject that holds a story's versions and deployments."""
    return f"registry/{story}"


def known(state: StoryState, number: int) -> Version:
    """Version ``number``, or an InputError that lists the known ones."""
    if number not in state.versions:
        numbers = ", ".join(str(one) for one in sorted(state.versions)) or "none yet"
        raise InputError(
            "version",
            expected=f"a registered version of '{state.story}'",
            got=str(number),
            next_step=f"Known: {numbers}.",
        )
    return state.versions[number]


def of_run(state: StoryState, run_id: str, artifact: str) -> Version | None:
    """The version ``run_id`` registered, if any; another artifact under the same run is a Conflict."""
    for version in state.versions.values():
        if version.run_id == run_id:
            if version.artifact != artifact:
                raise Conflict(
                    f"run {run_id}",
                    expected=f"artifact {version.artifact[:12]} (version {version.number})",
                    got=artifact[:12],
                    next_step="A run makes one version: start a new run for other inputs.",
                )
            return version
    return None


def require_gate(version: Version) -> None:
    """Only a version fresh from a passed offline gate starts a shadow."""
    if version.status is not VersionStatus.REGISTERED:
        raise GateRefused(
            version.name,
            expected="a version that has not been deployed yet",
            got=f"status '{version.status}'",
            next_step="Retrain for a new version.",
        )
    if version.gate.action is not Action.PROMOTE:
        raise GateRefused(
            version.name,
            expected="a passed offline gate",
            got=f"{version.gate.action}: {version.gate.reason}",
            next_step="Retrain with what the verdicts ask for.",
        )


def require_no_challenger(deployment: Deployment) -> None:
    """One challenger at a time."""
    if deployment.challenger is not None:
        raise GateRefused(
            f"challenger of '{deployment.story}'",
            expected="none",
            got=f"version {deployment.challenger} in {deployment.stage}",
            next_step=f"Let it finish, or withdraw it with 'rollback {deployment.story}'.",
        )


def require_challenger(state: StoryState, number: int) -> None:
    """Only the challenger moves on."""
    known(state, number)
    if state.deployment.challenger != number:
        raise GateRefused(
            f"{state.story}/{number}",
            expected="the challenger",
            got=f"status '{state.versions[number].status}'",
            next_step="Only the version in shadow or canary can move on.",
        )


def require_pass(version: Version, decision: Decision) -> None:
    """Only a passing decision about this very version moves it."""
    if decision.action is not Action.PROMOTE or decision.subject != version.name:
        raise GateRefused(
            version.name,
            expected=f"a passing decision about {version.name}",
            got=f"{decision.action} about {decision.subject}",
            next_step="Only a fresh pass promotes.",
        )


def require_movable(state: StoryState, number: int, decision: Decision) -> None:
    """The challenger, uncapped, with a passing decision about it."""
    require_challenger(state, number)
    version = known(state, number)
    require_pass(version, decision)
    require_uncapped(version)


def require_growth(deployment: Deployment, stage: CanaryStage) -> None:
    """A ramp only grows: a smaller share would move users out of the canary without a decision to."""
    if stage.share <= deployment.share:
        raise GateRefused(
            f"stage '{stage.name}' of '{deployment.story}'",
            expected=f"a share above {deployment.share:g}",
            got=f"{stage.share:g}",
            next_step="Order the stages of the rollout policy by their share.",
        )


def require_canary(deployment: Deployment) -> None:
    """Nothing becomes champion straight from shadow."""
    if not deployment.in_canary:
        raise GateRefused(
            f"{deployment.story}/{deployment.challenger}",
            expected="a version that has been through its canary",
            got=f"stage '{deployment.stage}'",
            next_step="Let the canary stages pass first.",
        )


def require_unsettled(version: Version) -> None:
    """A champion is rolled back, not failed; what failed has failed."""
    if version.status not in (VersionStatus.REGISTERED, VersionStatus.SHADOW, VersionStatus.CANARY):
        raise GateRefused(
            version.name,
            expected="a version not yet promoted or failed",
            got=f"status '{version.status}'",
            next_step=f"Use 'rollback {version.story}' to take back a champion.",
        )


def require_aborted(version: Version, before: Deployment) -> None:
    """Only a canary can be enabled again, not what failed in shadow, offline or as champion."""
    if before.challenger != version.number or not before.in_canary:
        raise GateRefused(
            version.name,
            expected="a version whose canary was aborted",
            got=f"status '{version.status}', failed outside a canary",
            next_step="Retrain for a new version.",
        )


def require_uncapped(version: Version) -> None:
    """A waived version never sees users (LAB-3)."""
    if version.capped is not None:
        waived = ", ".join(waiver.get("name", "?") for waiver in version.waivers) or "a waiver"
        raise GateRefused(
            version.name,
            expected="a version without a cap",
            got=f"one capped at {version.capped} ({waived})",
            next_step="Retrain from at least two label sources; a waived version never sees users.",
        )


def rollback_target(state: StoryState, to: int | None) -> int:
    """Which champion a rollback puts back: ``to``, or the one before."""
    earlier = state.champions[:-1]
    if not earlier:
        raise GateRefused(
            f"rollback of '{state.story}'",
            expected="an earlier champion",
            got="a first champion" if state.champions else "no champion at all",
            next_step="There is nothing to go back to; 'freeze on' stops further changes.",
        )
    if to is not None and to not in earlier:
        raise GateRefused(
            f"rollback of '{state.story}' to {to}",
            expected=f"an earlier champion ({', '.join(map(str, earlier))})",
            got=f"version {to}",
            next_step="Only a version that users have had can come back without a canary.",
        )
    return to if to is not None else earlier[-1]


def moved(story: str, epoch: int, deployment: Deployment) -> Conflict:
    """The conflict of a decision about a deployment that is no longer there."""
    return Conflict(
        subject(story),
        expected=f"the deployment of epoch {epoch}",
        got=f"epoch {deployment.epoch} (stage '{deployment.stage}')",
        next_step="Somebody else moved it first: look again and decide on what it is now.",
    )
