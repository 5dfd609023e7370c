"""The numbers a rollout is judged by, and the four automatic abort rules of PRO-3.

The rules are the source's, number for number. Each looks at a trailing window, once per five-minute bucket,
and fires when it has held at every look for longer than its time; a look with too little data holds nothing.
What they are not is a test with an error rate: at many looks, rules like these also fire by chance. The
anytime-valid differences of :mod:`mangaassist.promotion.differences` are, and stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import sqrt

from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.evidence import BUCKET_SECONDS, ArmEvidence, Bucket, StageEvidence
from mangaassist.promotion.latency import Latency


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of shadow and canary; the first block is the source's.

    Attributes:
        safety_sigmas, safety_for: a safety metric this many standard errors below hold-out for longer than.
        error_ratio, error_for: error rate above this multiple of the hold-out's for longer than.
        latency_ratio, latency_for: p99 above this multiple of the hold-out's for longer than.
        exception_share: share of canary requests an exception type unseen in the hold-out may reach.
        minimum_window: requests of each arm a window needs before a rule about rates applies to it.
        minimum_latency: requests of each arm a window needs before its p99 means anything.
        minimum_exceptions: how often a new exception type must have been seen.
        latency_floor_ms: a p99 that is slower by less than this is not slower to anybody.
        harm_alpha: chance, over the whole rollout and all metrics and languages, of calling an equal
            challenger harmful.
        non_inferiority_alpha: chance of calling a challenger worse by the margin not inferior.
        minimum_cohort: canary requests a language needs before a verdict about it.
        silence: how long an arm may be silent while traffic exists before its evidence is stale.
        outcome_silence: how long no outcome may become known before the evidence is stale.
        disagreement, cohort_disagreement: share of different answers in shadow, overall and in a language,
            above which a person has to review them.
        disagreement_limit: share above which shadow fails without a review.
        error_limit, latency_p95_ms, resolved_floor: absolute limits where there is no champion to compare
            with.
    """

    safety_sigmas: float = 2.0
    safety_for: timedelta = timedelta(hours=1)
    error_ratio: float = 2.0
    error_for: timedelta = timedelta(minutes=5)
    latency_ratio: float = 1.5
    latency_for: timedelta = timedelta(minutes=15)
    exception_share: float = 0.001

    minimum_window: int = 20
    minimum_latency: int = 100
    minimum_exceptions: int = 2
    latency_floor_ms: float = 1.0
    harm_alpha: float = 0.01
    non_inferiority_alpha: float = 0.05
    minimum_cohort: int = 30
    silence: timedelta = timedelta(minutes=30)
    outcome_silence: timedelta = timedelta(hours=24)
    disagreement: float = 0.10
    cohort_disagreement: float = 0.15
    disagreement_limit: float = 0.50
    error_limit: float = 0.01
    latency_p95_ms: float = 15.0
    resolved_floor: float = 0.50


def abort_verdicts(evidence: StageEvidence, rules: Rules) -> list[Verdict]:
    """The four rules on canary against hold-out."""
    canary, holdout = evidence.arm("canary"), evidence.arm("holdout")
    verdicts = [
        _safety(canary, holdout, "resolved", rules),
        _safety(canary, holdout, "safety", rules),
        _errors(canary, holdout, rules),
        _slow(canary, holdout, rules),
    ]
    return [*verdicts, new_exceptions("canary", canary, holdout, rules)]


def new_exceptions(stage: str, challenger: ArmEvidence, other: ArmEvidence, rules: Rules) -> Verdict:
    """Rule 4: an exception type that only the challenger raises, by its share of all its requests."""
    new = {kind: count for kind, count in challenger.exceptions.items() if kind not in other.exceptions}
    kind, count = max(new.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    share = count / challenger.n if challenger.n else 0.0
    fires = share > rules.exception_share and count >= rules.minimum_exceptions
    if kind:
        sentence = f"{kind} was raised only by the {stage}, {count} times in {challenger.n} ({share:.2%})."
    else:
        sentence = f"No exception type was raised only by the {stage} in {challenger.n} requests."
    return Verdict(
        f"{stage}.new_exception",
        Status.FAIL if fires else Status.PASS,
        sentence,
        value=share,
        threshold=rules.exception_share,
        n=challenger.n,
    )


def _safety(canary: ArmEvidence, holdout: ArmEvidence, metric: str, rules: Rules) -> Verdict:
    """Rule 1: more than two standard errors of the difference below hold-out, over a trailing hour."""
    width = _buckets(rules.safety_for)

    def z(ago: int) -> float | None:
        mine, n = _count(canary.window(width, ago=ago), metric)
        theirs, m = _count(holdout.window(width, ago=ago), metric)
        if min(n, m) < rules.minimum_window:
            return None
        pooled = (mine + theirs + 1) / (n + m + 2)
        return (mine / n - theirs / m) / sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))

    held = _held(lambda ago: _below(z(ago), -rules.safety_sigmas), rules.safety_for)
    now = z(0)
    what = "Requests resolved" if metric == "resolved" else "Requests given a safety-critical label"
    return Verdict(
        f"canary.rule.{metric}",
        Status.FAIL if held > rules.safety_for else Status.PASS,
        _rule_sentence(f"{what} are {_sigmas(now)} hold-out", now, held, rules.safety_for),
        value=now,
        threshold=-rules.safety_sigmas,
        n=_count(canary.window(width), metric)[1],
    )


def _errors(canary: ArmEvidence, holdout: ArmEvidence, rules: Rules) -> Verdict:
    """Rule 2: error rate over twice the hold-out's."""
    width = _buckets(rules.error_for)

    def ratio(ago: int) -> float | None:
        mine, n = _count(canary.window(width, ago=ago), "errors")
        theirs, m = _count(holdout.window(width, ago=ago), "errors")
        if min(n, m) < rules.minimum_window:
            return None
        if not theirs:
            return float("inf") if mine >= rules.minimum_exceptions else 0.0
        return (mine / n) / (theirs / m)

    held = _held(lambda ago: _above(ratio(ago), rules.error_ratio), rules.error_for)
    now = ratio(0)
    shown = "too few to compare" if now is None else f"{now:.2f} times the hold-out's"
    return Verdict(
        "canary.rule.errors",
        Status.FAIL if held > rules.error_for else Status.PASS,
        _rule_sentence(f"The error rate is {shown}", now, held, rules.error_for),
        value=now,
        threshold=rules.error_ratio,
        n=_count(canary.window(width), "errors")[1],
    )


def _slow(canary: ArmEvidence, holdout: ArmEvidence, rules: Rules) -> Verdict:
    """Rule 3: p99 over one and a half times the hold-out's."""
    width = _buckets(rules.latency_for)

    def ratio(ago: int) -> float | None:
        mine, theirs = canary.window(width, ago=ago), holdout.window(width, ago=ago)
        if min(sum(one.n for one in mine), sum(one.n for one in theirs)) < rules.minimum_latency:
            return None
        slow, base = (Latency.merged(one.latency for one in part).quantile(0.99) for part in (mine, theirs))
        return slow / base if slow - base >= rules.latency_floor_ms else min(slow / base, 1.0)

    held = _held(lambda ago: _above(ratio(ago), rules.latency_ratio), rules.latency_for)
    now = ratio(0)
    shown = "not comparable on so few requests" if now is None else f"{now:.2f} times the hold-out's"
    return Verdict(
        "canary.rule.latency",
        Status.FAIL if held > rules.latency_for else Status.PASS,
        _rule_sentence(f"p99 latency is {shown}", now, held, rules.latency_for),
        value=now,
        threshold=rules.latency_ratio,
        n=sum(one.n for one in canary.window(width)),
    )


def _held(condition: Callable[[int], bool], longest: timedelta) -> timedelta:
    """How long the condition has held without a break up to now, as far as it matters."""
    looks = 0
    while looks <= _buckets(longest) and condition(looks):
        looks += 1
    return timedelta(seconds=looks * BUCKET_SECONDS)


def _buckets(duration: timedelta) -> int:
    return int(duration.total_seconds()) // BUCKET_SECONDS


def _count(window: Sequence[Bucket], metric: str) -> tuple[int, int]:
    """(how many count, out of how many) in a window."""
    if metric == "resolved":
        return sum(one.resolved for one in window), sum(one.outcomes for one in window)
    counted = sum(one.errors if metric == "errors" else one.safety for one in window)
    return counted, sum(one.n for one in window)


def _below(value: float | None, threshold: float) -> bool:
    return value is not None and value < threshold


def _above(value: float | None, threshold: float) -> bool:
    return value is not None and value > threshold


def _sigmas(z: float | None) -> str:
    if z is None:
        return "too few to compare with"
    return f"{abs(z):.1f} standard errors {'below' if z < 0 else 'above'}"


def _rule_sentence(finding: str, now: float | None, held: timedelta, longest: timedelta) -> str:
    minutes, limit = int(held.total_seconds()) // 60, int(longest.total_seconds()) // 60
    if now is None or not minutes:
        return f"{finding}."
    more = "or more " if held > longest else ""
    return f"{finding} and have been beyond the limit for {minutes} min {more}(limit {limit} min)."
