"""The numbers a rollout is judged by, and the four automatic abort rules of PRO-3.

The rules are the source's, number for number. Each looks at a trailing window, once per five-minute bucket,
and fires when it has held at every look for longer than its time; a look with too little data holds nothing.
Taken bare, such rules abort healthy canaries by chance: a few requests double an error rate. So a window also
has to differ by more than chance explains (``certainty_z``). The anytime-valid differences of
:mod:`mangaassist.promotion.differences` stand beside them for what is smaller and lasts longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import erfc, sqrt

from mangaassist.core.story import Rules
from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.evidence import BUCKET_SECONDS, ArmEvidence, Bucket, StageEvidence
from mangaassist.promotion.latency import Latency


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
    """Rule 4: an exception type that only the challenger raises, by its share of all its requests.

    Were the type as frequent in both arms, all ``count`` of it would be the challenger's with the chance of
    its share of the requests to the power of ``count``. That can come true only before the other arm's first
    one, so the chance holds for all looks together.
    """
    new = {kind: count for kind, count in challenger.exceptions.items() if kind not in other.exceptions}
    kind, count = max(new.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    share = count / challenger.n if challenger.n else 0.0
    chance = (challenger.n / max(1, challenger.n + other.n)) ** count
    certain = chance <= 0.5 * erfc(rules.certainty_z / sqrt(2))
    fires = share > rules.exception_share and count >= rules.minimum_exceptions and certain
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


@dataclass(frozen=True, slots=True)
class _Look:
    """One window: what was measured there, and whether that is beyond the limit for certain."""

    value: float
    beyond: bool


def _safety(canary: ArmEvidence, holdout: ArmEvidence, metric: str, rules: Rules) -> Verdict:
    """Rule 1: more than two standard errors of the difference below hold-out."""
    width = _buckets(rules.safety_window)

    def look(ago: int) -> _Look | None:
        mine, n = _count(canary.window(width, ago=ago), metric)
        theirs, m = _count(holdout.window(width, ago=ago), metric)
        if min(n, m) < rules.minimum_window:
            return None
        z = _pooled_z(mine, n, theirs, m)
        return _Look(z, z < -rules.safety_sigmas)

    what = "Requests resolved" if metric == "resolved" else "Requests given a safety-critical label"
    return _judged(
        Verdict(
            f"canary.rule.{metric}",
            Status.PASS,
            f"{what} are {{:+.1f}} standard errors from the hold-out's",
            threshold=-rules.safety_sigmas,
            n=_count(canary.window(width), metric)[1],
        ),
        look,
        rules.safety_for,
    )


def _errors(canary: ArmEvidence, holdout: ArmEvidence, rules: Rules) -> Verdict:
    """Rule 2: error rate over twice the hold-out's; where that has none, any certain rate is over."""
    width = _buckets(rules.error_for)

    def look(ago: int) -> _Look | None:
        mine, n = _count(canary.window(width, ago=ago), "errors")
        theirs, m = _count(holdout.window(width, ago=ago), "errors")
        if min(n, m) < rules.minimum_window:
            return None
        ratio = (mine / n) / (max(theirs, 1) / m)
        certain = _pooled_z(mine, n, theirs, m) >= rules.certainty_z
        return _Look(ratio, certain and (ratio > rules.error_ratio or not theirs))

    return _judged(
        Verdict(
            "canary.rule.errors",
            Status.PASS,
            "The error rate is {:.2f} times the hold-out's",
            threshold=rules.error_ratio,
            n=_count(canary.window(width), "errors")[1],
        ),
        look,
        rules.error_for,
    )


def _slow(canary: ArmEvidence, holdout: ArmEvidence, rules: Rules) -> Verdict:
    """Rule 3: p99 over one and a half times the hold-out's."""
    width = _buckets(rules.latency_for)

    def look(ago: int) -> _Look | None:
        mine, theirs = canary.window(width, ago=ago), holdout.window(width, ago=ago)
        if min(sum(one.n for one in mine), sum(one.n for one in theirs)) < rules.minimum_latency:
            return None
        slow, base = (Latency.merged(one.latency for one in part) for part in (mine, theirs))
        gap = slow.quantile(0.99) - base.quantile(0.99)
        ratio = slow.quantile(0.99) / base.quantile(0.99)
        least = slow.quantile_interval(0.99, z=rules.certainty_z)[0]
        most = base.quantile_interval(0.99, z=rules.certainty_z)[1]
        certain = least > most and gap >= rules.latency_floor_ms
        return _Look(ratio, certain and ratio > rules.latency_ratio)

    return _judged(
        Verdict(
            "canary.rule.latency",
            Status.PASS,
            "p99 latency is {:.2f} times the hold-out's",
            threshold=rules.latency_ratio,
            n=sum(one.n for one in canary.window(width)),
        ),
        look,
        rules.latency_for,
    )


def _judged(draft: Verdict, look: Callable[[int], _Look | None], longest: timedelta) -> Verdict:
    """``draft`` with what the last windows say; its sentence takes the newest window's value."""
    now = look(0)
    if now is None:
        # Minutes with too little in them neither fire nor hold a stage up.
        sentence = f"{draft.n} canary requests in the window: too few for {draft.name}."
        return replace(draft, status=Status.INSUFFICIENT, sentence=sentence, blocking=False)
    looks = 0
    while looks <= _buckets(longest) and (found := look(looks)) is not None and found.beyond:
        looks += 1
    held, limit = looks * BUCKET_SECONDS // 60, int(longest.total_seconds()) // 60
    finding = draft.sentence.format(now.value)
    if held:
        finding = f"{finding}, beyond the limit for {held} min (allowed: {limit} min)"
    status = Status.FAIL if held > limit else Status.PASS
    return replace(draft, status=status, value=now.value, sentence=f"{finding}.")


def _pooled_z(mine: int, n: int, theirs: int, m: int) -> float:
    """Difference of two rates in standard errors, pooled; one added of each kind keeps it finite."""
    pooled = (mine + theirs + 1) / (n + m + 2)
    return (mine / n - theirs / m) / sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))


def _buckets(duration: timedelta) -> int:
    return int(duration.total_seconds()) // BUCKET_SECONDS


def _count(window: Sequence[Bucket], metric: str) -> tuple[int, int]:
    """(how many count, out of how many) in a window."""
    if metric == "resolved":
        return sum(one.resolved for one in window), sum(one.outcomes for one in window)
    counted = sum(one.errors if metric == "errors" else one.safety for one in window)
    return counted, sum(one.n for one in window)
