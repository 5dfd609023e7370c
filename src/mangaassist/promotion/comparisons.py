"""One finding of a challenger beside its champion, or against absolute limits where there is none."""

from __future__ import annotations

from mangaassist.core.story import Rules
from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.differences import LANGUAGES
from mangaassist.promotion.evidence import ALL, ERROR, RESOLVED, Agreement, ArmEvidence, StageEvidence
from mangaassist.stats.intervals import clopper_lower, wilson

_ABSOLUTE = "There is no champion to compare with"


def agreements(evidence: StageEvidence, rules: Rules, reviewed_by: str | None) -> list[Verdict]:
    """How often the version in shadow gave the champion's answer, overall and in each language."""
    limits = {ALL: rules.disagreement, **dict.fromkeys(LANGUAGES, rules.cohort_disagreement)}
    verdicts = []
    for cohort, limit in limits.items():
        found = evidence.agreement.get(cohort, Agreement())
        if cohort == ALL or found.n >= rules.minimum_cohort:
            verdicts.append(_agreement(cohort, found, limit, rules=rules, reviewed_by=reviewed_by))
    return verdicts


def _agreement(
    cohort: str, found: Agreement, threshold: float, *, rules: Rules, reviewed_by: str | None
) -> Verdict:
    """Over the threshold a person has to look (PRO-6); far over it nobody can clear it."""
    name, where = "shadow.agreement", ""
    if cohort != ALL:
        name, where = f"{name}.{cohort}", f" in {cohort}"
    if not found.n:
        return Verdict(
            name,
            Status.INSUFFICIENT,
            "No request was answered by both versions yet.",
            threshold=1 - threshold,
        )
    estimate = wilson(found.n - found.agreed, found.n)
    sentence = f"The versions disagree on {estimate.value:.1%} of {found.n} requests{where}"
    if estimate.low > rules.disagreement_limit:
        status, sentence = Status.FAIL, f"{sentence}, more than any review could clear."
    elif estimate.value <= threshold:
        status, sentence = Status.PASS, f"{sentence}, within {threshold:.0%}."
    elif reviewed_by:
        status, sentence = Status.PASS, f"{sentence}, reviewed by {reviewed_by}."
    else:
        status, sentence = (
            Status.INSUFFICIENT,
            f"{sentence}, over {threshold:.0%}: a person must review them.",
        )
    return Verdict(
        name,
        status,
        sentence,
        value=1 - estimate.value,
        low=1 - estimate.high,
        high=1 - estimate.low,
        threshold=1 - threshold,
        n=found.n,
    )


def errors_against(stage: str, arm: ArmEvidence, champion: ArmEvidence, rules: Rules) -> Verdict:
    """The error rate, held against twice the champion's, or one in a thousand where it has none."""
    name, mine, theirs = f"{stage}.error_rate", arm.rate(ERROR), champion.rate(ERROR)
    if not mine.n or not theirs.n:
        return Verdict(name, Status.INSUFFICIENT, "Nothing to compare error rates on yet.")
    limit = max(rules.error_ratio * theirs.s / theirs.n, rules.exception_share)
    sentence = f"{mine.s} of {mine.n} {stage} requests failed, {theirs.s} of {theirs.n} of the champion's"
    return _share(name, mine.s, mine.n, limit, sentence)


def absolute_errors(stage: str, arm: ArmEvidence, rules: Rules) -> Verdict:
    """The error rate against an absolute limit, for want of a champion."""
    rate, name = arm.rate(ERROR), f"{stage}.error_rate"
    if not rate.n:
        return Verdict(name, Status.INSUFFICIENT, "No request was answered yet.", threshold=rules.error_limit)
    sentence = f"{rate.s} of {rate.n} {stage} requests failed. {_ABSOLUTE}, the limit is absolute"
    return _share(name, rate.s, rate.n, rules.error_limit, sentence)


def _share(name: str, count: int, n: int, limit: float, sentence: str) -> Verdict:
    """A share held against a limit: over it is a failure once chance is ruled out, undecided before."""
    found = wilson(count, n)
    if found.value <= limit:
        status = Status.PASS
    else:
        status = Status.FAIL if clopper_lower(count, n) > limit else Status.INSUFFICIENT
    return Verdict(
        name,
        status,
        f"{sentence} (limit {limit:.2%}).",
        value=found.value,
        low=found.low,
        high=found.high,
        threshold=limit,
        n=n,
    )


def latency_against(
    stage: str, arm: ArmEvidence, champion: ArmEvidence, limit: float, rules: Rules
) -> Verdict:
    """p99 against the champion's; a ratio above the limit fails once its interval is, too."""
    name, mine, theirs = f"{stage}.latency_p99", arm.latency, champion.latency
    if min(mine.n, theirs.n) < rules.minimum_latency:
        return Verdict(
            name,
            Status.INSUFFICIENT,
            f"{min(mine.n, theirs.n)} latencies, {rules.minimum_latency} needed for a p99.",
            threshold=limit,
            n=mine.n,
        )
    slow, base = mine.quantile(0.99), theirs.quantile(0.99)
    (slow_low, slow_high), (base_low, base_high) = (one.quantile_interval(0.99) for one in (mine, theirs))
    low, high = slow_low / base_high, slow_high / base_low
    sentence = f"p99 is {slow:.2f} ms, {slow / base:.2f} times the champion's {base:.2f} ms"
    if slow / base <= limit:
        status = Status.PASS
    elif slow - base < rules.latency_floor_ms:
        status, sentence = Status.PASS, f"{sentence}, by less than {rules.latency_floor_ms:g} ms"
    else:
        status = Status.FAIL if low > limit else Status.INSUFFICIENT
    return Verdict(
        name,
        status,
        f"{sentence} (limit {limit:.2f}).",
        value=slow / base,
        low=low,
        high=high,
        threshold=limit,
        n=mine.n,
    )


def absolute_latency(stage: str, arm: ArmEvidence, rules: Rules) -> Verdict:
    """p95 against an absolute limit, for want of a champion."""
    name = f"{stage}.latency_p95"
    if arm.latency.n < rules.minimum_cohort:
        return Verdict(
            name,
            Status.INSUFFICIENT,
            "Too few latencies yet.",
            threshold=rules.latency_p95_ms,
            n=arm.latency.n,
        )
    value = arm.latency.quantile(0.95)
    low, high = arm.latency.quantile_interval(0.95)
    if value <= rules.latency_p95_ms:
        status = Status.PASS
    else:
        status = Status.FAIL if low > rules.latency_p95_ms else Status.INSUFFICIENT
    return Verdict(
        name,
        status,
        f"p95 is {value:.2f} ms. {_ABSOLUTE}, the limit is absolute ({rules.latency_p95_ms:g} ms).",
        value=value,
        low=low,
        high=high,
        threshold=rules.latency_p95_ms,
        n=arm.latency.n,
    )


def absolute_resolved(canary: ArmEvidence, rules: Rules) -> Verdict:
    """Requests resolved against an absolute floor, for want of a champion."""
    rate, name = canary.rate(RESOLVED), "canary.resolved_floor"
    if rate.n < rules.minimum_cohort:
        return Verdict(
            name,
            Status.INSUFFICIENT,
            f"{rate.n} outcomes known, {rules.minimum_cohort} needed.",
            threshold=rules.resolved_floor,
            n=rate.n,
        )
    found = wilson(rate.s, rate.n)
    if found.low > rules.resolved_floor:
        status = Status.PASS
    else:
        status = Status.FAIL if found.high < rules.resolved_floor else Status.INSUFFICIENT
    return Verdict(
        name,
        status,
        f"{found.value:.1%} of {rate.n} requests were resolved. {_ABSOLUTE}, the floor is absolute "
        f"({rules.resolved_floor:.0%}).",
        value=found.value,
        low=found.low,
        high=found.high,
        threshold=rules.resolved_floor,
        n=rate.n,
    )
