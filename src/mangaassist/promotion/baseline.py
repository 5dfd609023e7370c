"""Was an aborted canary a false alarm? Its own rows beside the hour before it began (PRO-3)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from math import sqrt

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.story import Rules
from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.accumulator import rebuild
from mangaassist.promotion.comparisons import errors_against, latency_against
from mangaassist.promotion.evidence import RESOLVED, ArmEvidence, StageEvidence
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.rules import new_exceptions
from mangaassist.promotion.versions import SHADOW

_STAGE = "canary"


def against_baseline(
    registry: Registry,
    story: str,
    number: int,
    predictions: pl.DataFrame,
    outcomes: pl.DataFrame,
    *,
    safety_labels: Collection[str] = (),
    before: timedelta = timedelta(hours=1),
) -> StageEvidence:
    """The evidence of the aborted canary with the champion's last hour before it as its hold-out.

    Raises:
        InputError: the version's canary was never aborted.
    """
    entry, deployment = registry.before_failure(story, number)
    if deployment.canary_since is None or deployment.challenger != number:
        raise InputError(
            f"{story}/{number}",
            expected="a version whose canary was aborted",
            got="one that failed elsewhere",
            next_step="Only an aborted canary can be enabled again.",
        )
    began = deployment.canary_since
    canary = rebuild(deployment, predictions, outcomes, now=entry.at, safety_labels=safety_labels)
    earlier = replace(deployment, stage=SHADOW, since=began - before, canary_since=None)
    baseline = rebuild(
        earlier,
        predictions.filter(pl.col("at") <= began),
        outcomes,
        now=entry.at,
        safety_labels=safety_labels,
    )
    found = canary.evidence(entry.at)
    arms = {_STAGE: found.arm(_STAGE), "holdout": baseline.evidence(entry.at).arm("champion")}
    return replace(found, arms=arms)


def baseline_verdicts(evidence: StageEvidence, rules: Rules) -> list[Verdict]:
    """The four rules of PRO-3 on everything the canary did, against that hour."""
    canary, baseline = evidence.arm(_STAGE), evidence.arm("holdout")
    return [
        errors_against(_STAGE, canary, baseline, rules),
        latency_against(_STAGE, canary, baseline, rules.latency_ratio, rules),
        new_exceptions(_STAGE, canary, baseline, rules),
        _resolved(canary, baseline, rules),
    ]


def _resolved(canary: ArmEvidence, baseline: ArmEvidence, rules: Rules) -> Verdict:
    mine, theirs = canary.rate(RESOLVED), baseline.rate(RESOLVED)
    if min(mine.n, theirs.n) < rules.minimum_window:
        return Verdict(
            "canary.rule.resolved",
            Status.INSUFFICIENT,
            f"{min(mine.n, theirs.n)} outcomes to compare, {rules.minimum_window} needed.",
            threshold=-rules.safety_sigmas,
            n=mine.n,
        )
    z = (mine.s / mine.n - theirs.s / theirs.n) / sqrt(mine.variance + theirs.variance)
    return Verdict(
        "canary.rule.resolved",
        Status.FAIL if z < -rules.safety_sigmas else Status.PASS,
        f"Requests resolved are {z:+.1f} standard errors from the hour before the canary.",
        value=z,
        threshold=-rules.safety_sigmas,
        n=mine.n,
    )
