"""What a stage of a rollout has to show (PRO-2, PRO-3, PRO-6): evidence in, verdicts out.

A stage passes only when its planned time is over, enough requests were seen, the evidence is fresh and
nothing speaks against the challenger. Where there is no champion to compare with, absolute limits stand
in and the sentence says so.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from mangaassist.core.errors import InputError
from mangaassist.core.story import CanaryStage, RolloutPolicy, Rules, Story
from mangaassist.core.verdict import Decision, Status, Verdict, decide, enforce
from mangaassist.promotion.comparisons import (
    absolute_errors,
    absolute_latency,
    absolute_resolved,
    agreements,
    errors_against,
    latency_against,
)
from mangaassist.promotion.differences import harm_verdicts, non_inferiority
from mangaassist.promotion.evidence import RESOLVED, ArmEvidence, StageEvidence
from mangaassist.promotion.rules import abort_verdicts, new_exceptions
from mangaassist.promotion.versions import SHADOW

_LEAST_HOLDOUT = 0.05
_SILENT = 7.0
"""Requests an arm should have had since its last one: silence is then chance with odds of exp(-7)."""


def judge(
    story: Story,
    evidence: StageEvidence,
    *,
    extended: str,
    paused: timedelta,
    reviewed_by: str | None,
    actor: str,
    at: datetime,
    policy: str,
) -> Decision:
    """What ``story``'s policy makes of the evidence of one stage: the same code live and in a back-test.

    Args:
        extended: why this rollout has the extended stage, too; empty when it has not.
        paused: how long kill switches kept the challenger from traffic since the stage began.
        reviewed_by: who reviewed the shadow's disagreements, if somebody did.
        policy: digest of the policy.

    Raises:
        InputError: the story's plan has no stage of the evidence's name.
    """
    rollout = planned(story.rollout, extended)
    if evidence.stage == SHADOW:
        lasts = rollout.shadow
        verdicts = shadow_verdicts(evidence, rollout, rollout.rules, paused=paused, reviewed_by=reviewed_by)
    else:
        stage = rollout.stages[stage_index(rollout, evidence.stage)]
        lasts = stage.lasts
        verdicts = canary_verdicts(evidence, rollout, stage, rollout.rules, paused=paused)
    return decide(
        f"{story.name}/{evidence.challenger}",
        enforce(verdicts, story.enforced),
        actor=actor,
        at=at,
        policy=policy,
        deadline=deadline(evidence, lasts, rollout.hold, paused),
    )


def judge_late(story: Story, evidence: StageEvidence, *, actor: str, at: datetime, policy: str) -> Decision:
    """What is left of a promotion once late outcomes are in: the verdicts that rest on outcomes, again.

    They are anytime-valid, so further looks cost no further false alarms; windows of the last minutes have
    nothing more to say.
    """
    rollout = story.rollout
    verdicts = [
        *harm_verdicts(evidence, rollout, rollout.rules),
        non_inferiority(evidence, rollout, rollout.rules),
    ]
    subject = f"{story.name}/{evidence.challenger}"
    return decide(subject, enforce(verdicts, story.enforced), actor=actor, at=at, policy=policy)


def planned(policy: RolloutPolicy, extended: str) -> RolloutPolicy:
    """``policy`` with the extended stage at its place in the ramp when there is a reason for one (EVA-3).

    It stands instead of a stage of the same share, and beside all others: the ramp is as careful as before.
    """
    if not extended:
        return policy
    others = [stage for stage in policy.stages if stage.share != policy.extended.share]
    return replace(policy, stages=tuple(sorted([*others, policy.extended], key=lambda one: one.share)))


def holdout_share(policy: RolloutPolicy) -> float:
    """The users who never meet a challenger during its rollout: all the last stage leaves, or one in 20."""
    return max(_LEAST_HOLDOUT, 1.0 - max(stage.share for stage in policy.stages))


def following(policy: RolloutPolicy, stage: str) -> CanaryStage | None:
    """The stage after ``stage``; None after the last."""
    index = 0 if stage == SHADOW else stage_index(policy, stage) + 1
    return policy.stages[index] if index < len(policy.stages) else None


def stage_index(policy: RolloutPolicy, name: str) -> int:
    """Where in the plan the stage ``name`` stands.

    Raises:
        InputError: nowhere.
    """
    names = [stage.name for stage in policy.stages]
    if name not in names:
        raise InputError(
            "stage",
            expected=f"one of {', '.join(names)}",
            got=name,
            next_step="The story's rollout policy changed during a rollout: withdraw the challenger.",
        )
    return names.index(name)


def shadow_verdicts(
    evidence: StageEvidence,
    policy: RolloutPolicy,
    rules: Rules,
    *,
    paused: timedelta = timedelta(0),
    reviewed_by: str | None = None,
) -> list[Verdict]:
    """Everything shadow is judged by.

    Args:
        paused: how long kill switches kept the challenger from traffic since the stage began.
        reviewed_by: who reviewed the disagreements, if somebody did.
    """
    shadow, champion = evidence.arm("shadow"), evidence.arm("champion")
    verdicts = [
        _duration("shadow", evidence, policy.shadow, paused),
        _minimum_n("shadow", shadow.stage_n, policy.shadow_minimum_n),
        _freshness("shadow", evidence, shadow, champion, expected_share=1.0, rules=rules),
        new_exceptions("shadow", shadow, champion, rules),
    ]
    if evidence.champion is None:
        return [
            *verdicts,
            absolute_errors("shadow", shadow, rules),
            absolute_latency("shadow", shadow, rules),
        ]
    return [
        *verdicts,
        *agreements(evidence, rules, reviewed_by),
        errors_against("shadow", shadow, champion, rules),
        latency_against("shadow", shadow, champion, policy.latency_ratio, rules),
    ]


def canary_verdicts(
    evidence: StageEvidence,
    policy: RolloutPolicy,
    stage: CanaryStage,
    rules: Rules,
    *,
    paused: timedelta = timedelta(0),
) -> list[Verdict]:
    """Everything a canary stage is judged by; the last stage must also show non-inferiority."""
    canary, holdout = evidence.arm("canary"), evidence.arm("holdout")
    expected = stage.share / evidence.holdout if evidence.holdout else 0.0
    verdicts = [
        _duration("canary", evidence, stage.lasts, paused),
        _minimum_n("canary", canary.stage_n, stage.minimum_n),
        _freshness("canary", evidence, canary, holdout, expected_share=expected, rules=rules),
        _outcome_freshness(evidence, canary, rules),
    ]
    final = stage.name == policy.stages[-1].name
    if evidence.champion is None:
        return [
            *verdicts,
            new_exceptions("canary", canary, holdout, rules),
            absolute_errors("canary", canary, rules),
            absolute_latency("canary", canary, rules),
            *([absolute_resolved(canary, rules)] if final else []),
        ]
    return [
        *verdicts,
        *abort_verdicts(evidence, rules),
        *harm_verdicts(evidence, policy, rules),
        *([non_inferiority(evidence, policy, rules)] if final else []),
    ]


def deadline(evidence: StageEvidence, lasts: timedelta, hold: timedelta, paused: timedelta) -> datetime:
    """Until when a stage may stay undecided; time under a kill switch does not count."""
    return evidence.since + lasts + hold + paused


def _duration(stage: str, evidence: StageEvidence, lasts: timedelta, paused: timedelta) -> Verdict:
    elapsed = (evidence.at - evidence.since - paused).total_seconds() / 3600
    planned = lasts.total_seconds() / 3600
    without = f", not counting {_hours(paused.total_seconds() / 3600)} under a kill switch" if paused else ""
    done = elapsed >= planned
    return Verdict(
        f"{stage}.duration",
        Status.PASS if done else Status.INSUFFICIENT,
        f"{evidence.stage} has run for {_hours(elapsed)} of {_hours(planned)}{without}.",
        value=elapsed,
        threshold=planned,
    )


def _minimum_n(stage: str, n: int, minimum: int) -> Verdict:
    return Verdict(
        f"{stage}.minimum_n",
        Status.PASS if n >= minimum else Status.INSUFFICIENT,
        f"{n} of at least {minimum} requests seen in this stage.",
        value=float(n),
        threshold=float(minimum),
        n=n,
    )


def _freshness(
    stage: str,
    evidence: StageEvidence,
    arm: ArmEvidence,
    other: ArmEvidence,
    *,
    expected_share: float,
    rules: Rules,
) -> Verdict:
    """Stale when the arm is silent although the traffic beside it says it should not be."""
    began = arm.last_at or evidence.since
    silent = evidence.at - began
    elsewhere = other.requests_within(silent)
    expected = elsewhere * expected_share
    stale = silent > rules.silence and expected >= _SILENT
    minutes = silent.total_seconds() / 60
    return Verdict(
        f"{stage}.freshness",
        Status.STALE if stale else Status.PASS,
        f"The last {stage} request was {minutes:.0f} min ago; {expected:.0f} were to be expected since.",
        value=minutes,
        threshold=rules.silence.total_seconds() / 60,
        n=elsewhere,
    )


def _outcome_freshness(evidence: StageEvidence, canary: ArmEvidence, rules: Rules) -> Verdict:
    """Stale when requests keep coming and nothing is heard of what became of them."""
    last = max(
        (one for one in (canary.last_outcome_at, evidence.arm("holdout").last_outcome_at) if one is not None),
        default=evidence.since,
    )
    silent = evidence.at - last
    traffic = canary.stage_n > 0 and canary.last_at is not None and canary.last_at > last
    stale = traffic and silent > rules.outcome_silence
    hours = silent.total_seconds() / 3600
    return Verdict(
        "canary.outcomes",
        Status.STALE if stale else Status.PASS,
        f"The last outcome became known {_hours(hours)} ago.",
        value=hours,
        threshold=rules.outcome_silence.total_seconds() / 3600,
        n=canary.rate(RESOLVED).n,
    )


def _hours(hours: float) -> str:
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h"
