"""Days of a simulated canary, many at a time: counts in arrays, and the evidence of any one look.

Every look covers five minutes. Each request is its own user, its outcome is known within the same look, and
the windows are empty when the day begins. Of the latencies only the slow tail is drawn, as order statistics:
no rule looks at anything faster.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from math import ceil, log, sqrt

import numpy as np
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.core.story import CanaryStage, RolloutPolicy, Rules
from mangaassist.promotion.evidence import (
    ALL,
    BUCKET_SECONDS,
    ERROR,
    METRICS,
    RESOLVED,
    WINDOW_BUCKETS,
    ArmEvidence,
    Bucket,
    Rate,
    StageEvidence,
)
from mangaassist.promotion.latency import GROWTH, Latency, latency_bin
from mangaassist.promotion.stages import holdout_share
from mangaassist.stats.domain import FloatArray, IntArray

LOOKS_A_DAY = 24 * 3600 // BUCKET_SECONDS
REQUESTS = 160.0
"""Mean requests of the whole simulated shop in five minutes."""

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_LANGUAGES = {"en": 0.55, "ja": 0.35, "mixed": 0.10}
_EXCEPTIONS = {"TimeoutError": 0.70, "ConnectionError": 0.25, "ValueError": 0.05}
"""Which exceptions the errors of either arm are, as shares."""

_TAIL_QUANTILE = 0.99
_TAIL_Z = Rules().certainty_z + 2.0
"""The tail reaches this many standard errors below the p99 of a window, further than any rule looks."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """A shop in which canary and hold-out are alike but for ``worse``.

    Attributes:
        stage: the canary stage, which sets the canary's share of the requests.
        policy: the rollout ``stage`` belongs to, which sets the hold-out's share.
        requests: mean requests of the whole shop in five minutes.
        resolved, errors, safety: chance that a request is resolved, fails, gets a safety-critical label.
        latency_ms, latency_sigma: median and log-standard deviation of log-normal latencies.
        worse: how far the canary's chance of resolving lies below ``resolved``.
        earlier: whether the stages before ``stage`` ran their full time, healthy, before the day begins.
    """

    stage: CanaryStage
    policy: RolloutPolicy
    requests: float = REQUESTS
    resolved: float = 0.80
    errors: float = 0.01
    safety: float = 0.10
    latency_ms: float = 3.0
    latency_sigma: float = 0.8
    worse: float = 0.0
    earlier: bool = False

    @property
    def canary(self) -> float:
        """Mean canary requests of a look."""
        return self.requests * self.stage.share

    @property
    def holdout(self) -> float:
        """Mean hold-out requests of a look."""
        return self.requests * holdout_share(self.policy)

    @property
    def sigma(self) -> float:
        """Standard error of one look's difference in resolved requests, at its mean traffic, when healthy."""
        return sqrt(self.resolved * (1 - self.resolved) * (1 / self.canary + 1 / self.holdout))

    def with_effect(self, sigmas: float) -> Traffic:
        """The same shop with a canary ``sigmas`` standard errors (:attr:`sigma`) worse at every look.

        Raises:
            InputError: so large a regression would need a negative rate.
        """
        if sigmas * self.sigma > self.resolved:
            raise InputError(
                "effect-sigma",
                expected=f"at most {self.resolved / self.sigma:.3g}, where no request is resolved any more",
                got=f"{sigmas:g}",
                next_step="Ask for less, or for more --requests: a look then measures more finely.",
            )
        return replace(self, worse=sigmas * self.sigma)


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm on many days; totals count from the beginning of the canary, up to and including each look.

    Attributes:
        n, errors, safety, resolved: requests of each look and those that count, shape
            (days, looks, languages).
        exceptions: failures of each look by type, shape (days, looks, types).
        tail: latency bins of each look's slowest requests, slowest first, -1 beyond the last request, shape
            (days, looks, depth).
        earlier: the same counts of the stages before, with one look each; None on the first day of all.
    """

    n: IntArray
    errors: IntArray
    safety: IntArray
    resolved: IntArray
    exceptions: IntArray
    tail: IntArray
    earlier: Arm | None = None

    def of(self, metric: str) -> IntArray:
        """The counts of a metric of :data:`mangaassist.promotion.evidence.METRICS`, by language."""
        return {RESOLVED: self.resolved, ERROR: self.errors}.get(metric, self.safety)

    @cached_property
    def total_n(self) -> IntArray:
        return _running(self.n, None if self.earlier is None else self.earlier.n)

    @cached_property
    def total_exceptions(self) -> IntArray:
        return _running(self.exceptions, None if self.earlier is None else self.earlier.exceptions)

    @cached_property
    def totals(self) -> dict[str, IntArray]:
        """Running counts by metric, shape (days, looks, languages) each."""
        before = self.earlier
        return {one: _running(self.of(one), None if before is None else before.of(one)) for one in METRICS}


@dataclass(frozen=True, eq=False)
class Days:
    """Some simulated days of one canary.

    Attributes:
        traffic: what they were drawn from.
        canary, holdout: the two arms.
    """

    traffic: Traffic
    canary: Arm
    holdout: Arm

    @property
    def shape(self) -> tuple[int, int]:
        """(days, looks)."""
        days, looks, _ = self.canary.n.shape
        return days, looks

    def evidence(self, day: int, look: int) -> StageEvidence:
        """What the controller is shown at the end of ``look`` (from 0) of ``day``."""
        at = _BEGAN + timedelta(seconds=BUCKET_SECONDS * (look + 1))
        traffic = self.traffic
        arms = {
            "canary": _arm_evidence(self.canary, day, look, at),
            "holdout": _arm_evidence(self.holdout, day, look, at),
        }
        rows = arms["canary"].n + arms["holdout"].n
        share, holdout = traffic.stage.share, holdout_share(traffic.policy)
        return StageEvidence(
            "simulated", 1, 2, traffic.stage.name, _BEGAN, share, holdout, at, arms, {}, rows
        )


def draw_days(traffic: Traffic, days: int, generator: np.random.Generator, looks: int = LOOKS_A_DAY) -> Days:
    """``days`` independent days of ``looks`` looks each."""
    holdout = replace(traffic, worse=0.0)
    return Days(
        traffic,
        _draw_arm(traffic, traffic.canary, _earlier_canary(traffic), (days, looks), generator),
        _draw_arm(holdout, holdout.holdout, _earlier_holdout(traffic), (days, looks), generator),
    )


@lru_cache(maxsize=1)
def latency_milliseconds() -> FloatArray:
    """The milliseconds each latency bin stands for, shape (bins,)."""
    return np.array([Latency(((index, 1),), 1).quantile(0.5) for index in range(latency_bin(1e7))])


def _draw_arm(
    traffic: Traffic, mean: float, before: float, shape: tuple[int, int], generator: np.random.Generator
) -> Arm:
    """One arm with ``mean`` requests a look, after ``before`` requests (mean) of a healthy past."""
    earlier = None
    if before:
        past = replace(traffic, worse=0.0)
        earlier = _draw_counts(past, before, (shape[0], 1), generator, depth=0)
    window = mean * Rules().latency_for.total_seconds() / BUCKET_SECONDS
    most = window + _TAIL_Z * sqrt(window)
    share = 1 - _TAIL_QUANTILE
    depth = ceil(most * share + _TAIL_Z * sqrt(most * share * _TAIL_QUANTILE)) + 2
    return replace(_draw_counts(traffic, mean, shape, generator, depth=depth), earlier=earlier)


def _draw_counts(
    traffic: Traffic, mean: float, shape: tuple[int, int], generator: np.random.Generator, *, depth: int
) -> Arm:
    n = generator.poisson([mean * share for share in _LANGUAGES.values()], (*shape, len(_LANGUAGES)))
    errors = generator.binomial(n, traffic.errors)
    return Arm(
        n,
        errors,
        generator.binomial(n, traffic.safety),
        generator.binomial(n, max(0.0, traffic.resolved - traffic.worse)),
        generator.multinomial(errors.sum(axis=2), list(_EXCEPTIONS.values())),
        _draw_tail(traffic, n.sum(axis=2), generator, depth),
    )


def _draw_tail(traffic: Traffic, n: IntArray, generator: np.random.Generator, depth: int) -> IntArray:
    """Bins of the ``depth`` slowest of ``n`` requests.

    The largest of n uniforms is V**(1/n), the next one that times V**(1/(n-1)), and so on (Renyi 1953).
    """
    left = n[..., None] - np.arange(depth)
    seen = left > 0
    logs = -np.cumsum(generator.standard_exponential(left.shape) / np.where(seen, left, 1), axis=2)
    # The upper tail by its own probability: 1 - u would have no digits left there.
    slow = traffic.latency_ms * np.exp(-traffic.latency_sigma * special.ndtri(-np.expm1(logs)))
    bins = np.floor(np.log(np.maximum(slow, 0.001) / 0.001) / log(GROWTH)).astype(np.int64)
    return np.where(seen, np.minimum(bins, len(latency_milliseconds()) - 1), -1)


def _earlier_canary(traffic: Traffic) -> float:
    if not traffic.earlier:
        return 0.0
    return traffic.requests * sum(one.share * _looks(one) for one in _stages_before(traffic))


def _earlier_holdout(traffic: Traffic) -> float:
    if not traffic.earlier:
        return 0.0
    return traffic.holdout * sum(_looks(one) for one in _stages_before(traffic))


def _stages_before(traffic: Traffic) -> tuple[CanaryStage, ...]:
    stages = traffic.policy.stages
    return stages[: stages.index(traffic.stage)]


def _looks(stage: CanaryStage) -> float:
    return stage.lasts.total_seconds() / BUCKET_SECONDS


def _running(counts: IntArray, before: IntArray | None) -> IntArray:
    total = np.cumsum(counts, axis=1)
    return total if before is None else total + before


def _arm_evidence(arm: Arm, day: int, look: int, at: datetime) -> ArmEvidence:
    requests = int(arm.total_n[day, look].sum())
    failures = zip(_EXCEPTIONS, arm.total_exceptions[day, look].tolist(), strict=True)
    return ArmEvidence(
        n=requests,
        stage_n=int(arm.n[day, : look + 1].sum()),
        exceptions={kind: count for kind, count in failures if count},
        rates=_rates(arm, day, look),
        buckets=tuple(_bucket(arm, day, one) for one in range(look - WINDOW_BUCKETS + 1, look + 1)),
        last_at=at,
        last_outcome_at=at,
    )


def _rates(arm: Arm, day: int, look: int) -> dict[tuple[str, str], Rate]:
    n = arm.total_n[day, look].tolist()
    rates = {}
    for metric, totals in arm.totals.items():
        counts = totals[day, look].tolist()
        rates[metric, ALL] = _rate(sum(n), sum(counts))
        for language, m, s in zip(_LANGUAGES, n, counts, strict=True):
            rates[metric, language] = _rate(m, s)
    return rates


def _rate(n: int, s: int) -> Rate:
    """Every request its own user."""
    return Rate(n=n, s=s, units=n, nn=n, ss=s, ns=s)


def _bucket(arm: Arm, day: int, look: int) -> Bucket:
    if look < 0:
        return Bucket()
    n = int(arm.n[day, look].sum())
    bins = Counter(one for one in arm.tail[day, look].tolist() if one >= 0)
    if bins:
        # The faster ones were not drawn; they stand at the foot of the tail.
        bins[min(bins)] += n - sum(bins.values())
    errors, safety, resolved = (int(one[day, look].sum()) for one in (arm.errors, arm.safety, arm.resolved))
    return Bucket(n, errors, safety, n, resolved, Latency.of(bins))
