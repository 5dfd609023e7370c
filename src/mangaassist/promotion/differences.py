"""Differences between canary and hold-out that stay valid however often one looks.

The normal-mixture confidence sequence (see :mod:`mangaassist.stats.sequential`) on the difference of two
rates with cluster-robust variances, since one user's requests belong together. Progress is measured as
information, 0.25 / variance: the number of requests per arm of the hardest-to-measure rate that would be as
informative. That keeps the sequence valid while the canary's share grows from stage to stage.
"""

from __future__ import annotations

from math import sqrt

from mangaassist.core.story import RolloutPolicy, Rules
from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.evidence import ALL, ERROR, METRICS, RESOLVED, Rate, StageEvidence
from mangaassist.stats.intervals import Estimate
from mangaassist.stats.sequential import always_valid_interval

LANGUAGES = ("en", "ja", "mixed")
TESTS = len(METRICS) * (1 + len(LANGUAGES))
"""Harm tests of one rollout; harm_alpha is divided by it (Bonferroni), whether or not all have data."""

_NAMES = {RESOLVED: "resolved requests", ERROR: "errors", "safety": "safety-critical answers"}


def rate_difference(canary: Rate, holdout: Rate, *, tuning_n: float, level: float) -> Estimate:
    """Canary minus hold-out with its always-valid interval; both must have requests.

    The variance is never below that of two arms with their common rate: a small canary that has not seen a
    rare event yet is otherwise taken to be certain that it never will.
    """
    common = (canary.s + holdout.s + 1) / (canary.n + holdout.n + 2)
    pooled = common * (1 - common) * (1 / canary.n + 1 / holdout.n)
    variance = max(canary.variance + holdout.variance, pooled)
    value = canary.s / canary.n - holdout.s / holdout.n
    information = max(1, round(0.25 / variance))
    interval = always_valid_interval(value, sqrt(variance), information, tuning_n=tuning_n, level=level)
    return Estimate(value, interval.low, interval.high, canary.n + holdout.n, level)


def harm_verdicts(evidence: StageEvidence, policy: RolloutPolicy, rules: Rules) -> list[Verdict]:
    """Is any metric shown to be worse, overall or in a language? Failing needs the whole interval."""
    cohorts = (ALL, *LANGUAGES)
    return [_harm(evidence, metric, cohort, policy, rules) for metric in METRICS for cohort in cohorts]


def _harm(evidence: StageEvidence, metric: str, cohort: str, policy: RolloutPolicy, rules: Rules) -> Verdict:
    canary = evidence.arm("canary").rate(metric, cohort)
    holdout = evidence.arm("holdout").rate(metric, cohort)
    name = f"canary.{metric}" if cohort == ALL else f"canary.{metric}.{cohort}"
    where = "" if cohort == ALL else f" in {cohort}"
    alpha = rules.harm_alpha / TESTS
    if min(canary.n, holdout.n) < rules.minimum_cohort:
        return Verdict(
            name,
            Status.INSUFFICIENT,
            f"{min(canary.n, holdout.n)} observations of {_NAMES[metric]}{where}, "
            f"{rules.minimum_cohort} needed.",
            threshold=0.0,
            n=canary.n,
            # A language with hardly any traffic cannot hold a rollout up for ever; all traffic together can.
            blocking=cohort == ALL and metric == RESOLVED,
        )
    found = rate_difference(canary, holdout, tuning_n=tuning_n(policy), level=1.0 - alpha)
    worse = found.low > 0 if metric == ERROR else found.high < 0
    return Verdict(
        name,
        Status.FAIL if worse else Status.PASS,
        f"{_NAMES[metric].capitalize()}{where} differ by {found.value:+.4f} from hold-out "
        f"({found.low:+.4f} to {found.high:+.4f}, anytime-valid at alpha {alpha:.2g}).",
        value=found.value,
        low=found.low,
        high=found.high,
        threshold=0.0,
        n=canary.n,
    )


def non_inferiority(evidence: StageEvidence, policy: RolloutPolicy, rules: Rules) -> Verdict:
    """The final question: is the online metric shown not to be worse by the margin?"""
    canary, holdout = (evidence.arm(arm).rate(RESOLVED) for arm in ("canary", "holdout"))
    alpha = rules.non_inferiority_alpha
    if min(canary.n, holdout.n) < rules.minimum_cohort:
        return Verdict(
            "canary.non_inferiority",
            Status.INSUFFICIENT,
            f"{min(canary.n, holdout.n)} outcomes known, {rules.minimum_cohort} needed.",
            threshold=-policy.margin,
            n=canary.n,
        )
    # One side of a two-sided sequence at level 1 - 2 alpha is wrong with chance alpha.
    found = rate_difference(canary, holdout, tuning_n=tuning_n(policy), level=1.0 - 2 * alpha)
    if found.low > -policy.margin:
        status, finding = Status.PASS, "not worse"
    elif found.high < -policy.margin:
        status, finding = Status.FAIL, "worse"
    else:
        status, finding = Status.INSUFFICIENT, "not yet shown not to be worse"
    return Verdict(
        "canary.non_inferiority",
        status,
        f"Resolved requests differ by {found.value:+.4f} from hold-out and are {finding} by more than "
        f"{policy.margin:g} (lower bound {found.low:+.4f}, anytime-valid at one-sided alpha {alpha:g}).",
        value=found.value,
        low=found.low,
        high=found.high,
        threshold=-policy.margin,
        n=canary.n,
    )


def tuning_n(policy: RolloutPolicy) -> float:
    """Where the sequences are tightest: at the information the largest planned stage promises."""
    return float(max(stage.minimum_n for stage in policy.stages))
