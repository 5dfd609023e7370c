"""After the decision: outcomes that came late, disagreements a person accepts, aborts that were false."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import GateRefused
from mangaassist.core.verdict import Decision
from mangaassist.governance.access import Action, check_role
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.rollout import controller, drain, page, read_outcomes, read_predictions
from mangaassist.promotion.accumulator import OUTCOME_HORIZON, rebuild
from mangaassist.promotion.baseline import against_baseline
from mangaassist.promotion.evidence import StageEvidence
from mangaassist.serving.prediction_log import predictions_table
from mangaassist.storage.tables import Between

_INSTANT = timedelta(microseconds=1)


def revise_now(platform: Platform, name: str) -> Decision:
    """Judge the canary that made the champion again, with the outcomes that came late (PRO-2).

    Shown to have done harm after all, the champion is taken back and somebody is paged.

    Raises:
        GateRefused: nothing can change any more, or nothing could be compared in the first place.
    """
    evidence = _late_evidence(platform, name)
    decision = controller(platform).revise(platform.story(name), evidence, platform.clock.now())
    page(platform, name)
    return decision


def _late_evidence(platform: Platform, name: str) -> StageEvidence:
    """The canary of the champion's promotion, up to it, with every outcome known by now."""
    now, champion = platform.clock.now(), platform.registry.deployment(name).champion
    found = platform.registry.before_promotion(name, champion) if champion is not None else None
    if found is None:
        raise _nothing_late(name, "a champion that was promoted", "none")
    entry, before = found
    if before.champion is None or before.canary_since is None:
        raise _nothing_late(name, "a champion that was compared with one before it", f"version {champion}")
    if now > entry.at + OUTCOME_HORIZON:
        got = f"one of {isoformat(entry.at)}"
        raise _nothing_late(name, f"a promotion of the last {OUTCOME_HORIZON.days} days", got)
    drain(platform, name)
    log = predictions_table(name)
    asked = platform.tables.read(log, between=Between("at", before.canary_since, entry.at + _INSTANT))
    counted = rebuild(
        before,
        asked,
        read_outcomes(platform, name),
        now=now,
        safety_labels=platform.story(name).safety_critical,
    )
    return counted.evidence(now)


def _nothing_late(name: str, expected: str, got: str) -> GateRefused:
    return GateRefused(
        f"second look at '{name}'",
        expected=expected,
        got=got,
        next_step="There is nothing to judge again; drift is watched by 'drift' and 'run'.",
    )


def reenable(
    platform: Platform, name: str, number: int, *, actor: str, role: str, reason: str
) -> dict[str, Any]:
    """Start an aborted canary again: it does no worse than the hour before it, and somebody answers (PRO-3).

    Raises:
        Forbidden: the role may not. GateRefused: it was no false alarm, or something else runs.
        InputError: the version's canary was never aborted, or a reason is missing.
    """
    check_role(actor, role, Action.REENABLE)
    drain(platform, name)
    story = platform.story(name)
    evidence = against_baseline(
        platform.registry,
        name,
        number,
        read_predictions(platform, name),
        read_outcomes(platform, name),
        safety_labels=story.safety_critical,
    )
    deployment = controller(platform).reenable(
        story, number, evidence, actor=actor, role=role, reason=reason, at=platform.clock.now()
    )
    sentence = f"Version {number} is in {deployment.stage} again, as {actor} ({role}) decided."
    return {**deployment.as_dict(), "actor": actor, "role": role, "sentence": sentence}


def review(
    platform: Platform, name: str, number: int, *, actor: str, role: str, reason: str
) -> dict[str, Any]:
    """Record that a person looked at the shadow's disagreements and accepts them (PRO-6).

    Raises:
        Forbidden: the role may not. InputError: there is no such version, or a reason is missing.
    """
    check_role(actor, role, Action.REVIEW)
    entry = controller(platform).review_disagreement(
        platform.story(name), number, actor=actor, reason=reason, at=platform.clock.now()
    )
    sentence = f"The disagreements of version {number} are reviewed; 'promote {name}' takes it into account."
    return {"story": name, **entry.body, "actor": actor, "role": role, "sentence": sentence}
