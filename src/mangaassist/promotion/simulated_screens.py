"""Where on simulated days a rule could fire: the rules' conditions on all days and looks at once.

A screen only says where to look. Whether a rule fires there is for the rule itself to say, on the evidence
of that look (:mod:`mangaassist.promotion.simulated_rates`); that no screen misses a look is under test.
Every screen returns booleans of shape (days, looks).
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.story import RolloutPolicy, Rules
from mangaassist.promotion.differences import TESTS, tuning_n
from mangaassist.promotion.evidence import BUCKET_SECONDS, ERROR, METRICS, RESOLVED
from mangaassist.promotion.simulated_days import Days, latency_milliseconds
from mangaassist.stats.domain import FloatArray, IntArray
from mangaassist.stats.sequential import critical_z

Looks = NDArray[np.bool_]
_P99 = 0.99


def safety(days: Days, rules: Rules, metric: str) -> Looks:
    """Rule 1 on one metric: too far below hold-out in every trailing window, for too long."""
    n, m, enough = _windows(days, rules.safety_window, rules.minimum_window)
    mine, theirs = (
        _trailing(arm.of(metric).sum(axis=2), rules.safety_window) for arm in (days.canary, days.holdout)
    )
    beyond = enough & (pooled_z(mine, n, theirs, m) < -rules.safety_sigmas)
    return _held(beyond, rules.safety_for)


def errors(days: Days, rules: Rules) -> Looks:
    """Rule 2: error rate."""
    n, m, enough = _windows(days, rules.error_for, rules.minimum_window)
    mine, theirs = (_trailing(arm.errors.sum(axis=2), rules.error_for) for arm in (days.canary, days.holdout))
    with np.errstate(divide="ignore", invalid="ignore"):
        over = (mine / n) / (np.maximum(theirs, 1) / m) > rules.error_ratio
    certain = pooled_z(mine, n, theirs, m) >= rules.certainty_z
    return _held(enough & certain & (over | (theirs == 0)), rules.error_for)


def latency(days: Days, rules: Rules) -> Looks:
    """Rule 3: p99."""
    n, m, enough = _windows(days, rules.latency_for, rules.minimum_latency)
    mine, theirs = (
        _slowest_first(arm.tail, _buckets(rules.latency_for)) for arm in (days.canary, days.holdout)
    )
    slow, base = _p99(mine, n, 0.0), _p99(theirs, m, 0.0)
    certain = _p99(mine, n, -rules.certainty_z) > _p99(theirs, m, rules.certainty_z)
    felt = slow - base >= rules.latency_floor_ms
    return _held(enough & certain & felt & (slow / base > rules.latency_ratio), rules.latency_for)


def new_exceptions(days: Days, rules: Rules) -> Looks:
    """Rule 4: a type that only the canary raised."""
    mine, theirs = days.canary.total_exceptions, days.holdout.total_exceptions
    count = np.where(theirs == 0, mine, 0).max(axis=2)
    n = np.maximum(days.canary.total_n.sum(axis=2), 1)
    return np.asarray((count >= rules.minimum_exceptions) & (count / n > rules.exception_share))


def harm(days: Days, rules: Rules, policy: RolloutPolicy) -> Looks:
    """The anytime-valid differences: any metric shown to be worse, overall or in a language."""
    found = np.zeros(days.shape, dtype=np.bool_)
    level = 1.0 - rules.harm_alpha / TESTS
    for metric in METRICS:
        low, high, enough = _limits(days, metric, rules, policy, level)
        found |= (enough & (low > 0 if metric == ERROR else high < 0)).any(axis=2)
    return found


def inferior(days: Days, rules: Rules, policy: RolloutPolicy) -> Looks:
    """The final question of the last stage: resolved requests shown to be worse by the margin."""
    if days.traffic.stage != policy.stages[-1]:
        return np.zeros(days.shape, dtype=np.bool_)
    level = 1.0 - 2 * rules.non_inferiority_alpha
    _, high, enough = _limits(days, RESOLVED, rules, policy, level)
    return np.asarray(enough[..., 0] & (high[..., 0] < -policy.margin))


def cumulative_z(days: Days) -> FloatArray:
    """The textbook's pooled z of all resolved requests so far, NaN before both arms vary."""
    n, m = (arm.total_n.sum(axis=2) for arm in (days.canary, days.holdout))
    mine, theirs = (arm.totals[RESOLVED].sum(axis=2) for arm in (days.canary, days.holdout))
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (mine + theirs) / (n + m)
        return np.asarray((mine / n - theirs / m) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)))


def pooled_z(mine: IntArray, n: IntArray, theirs: IntArray, m: IntArray) -> FloatArray:
    """Difference of two rates in standard errors, as the rules smooth it; NaN without requests."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (mine + theirs + 1) / (n + m + 2)
        return np.asarray((mine / n - theirs / m) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)))


def _limits(
    days: Days, metric: str, rules: Rules, policy: RolloutPolicy, level: float
) -> tuple[FloatArray, FloatArray, Looks]:
    """(low, high, whether there is enough) of a difference, shape (days, looks, 1 + languages) each."""
    n, m, mine, theirs = (
        np.concatenate([one.sum(axis=2, keepdims=True), one], axis=2)
        for one in (
            days.canary.total_n,
            days.holdout.total_n,
            days.canary.totals[metric],
            days.holdout.totals[metric],
        )
    )
    enough = np.minimum(n, m) >= rules.minimum_cohort
    # Cells with too little are filled with something harmless and masked by the caller.
    n, m = np.where(enough, n, 2), np.where(enough, m, 2)
    mine, theirs = np.where(enough, mine, 1), np.where(enough, theirs, 1)
    variance = _variance(mine, n) + _variance(theirs, m)
    value = mine / n - theirs / m
    half = np.sqrt(variance) * _least_z(np.abs(value) / np.sqrt(variance), variance, policy, level)
    return value - half, value + half, enough


def _least_z(z: FloatArray, variance: FloatArray, policy: RolloutPolicy, level: float) -> FloatArray:
    """The sequence's critical value where ``z`` may exceed it, elsewhere its least value of all.

    The sequence's own function is asked, not a copy of its formula, and at few of the million cells.
    """
    tuning = tuning_n(policy)
    information = np.maximum(1, np.rint(0.25 / variance)).astype(np.int64)
    found = np.full(z.shape, critical_z(tuning, tuning_n=tuning, level=level) * (1 - 1e-9))
    near = z > found
    distinct, places = np.unique(information[near], return_inverse=True)
    exact = [critical_z(int(one), tuning_n=tuning, level=level) for one in distinct]
    found[near] = np.array(exact, dtype=np.float64)[places]
    return found


def _variance(s: IntArray, n: IntArray) -> FloatArray:
    """:attr:`mangaassist.promotion.evidence.Rate.variance` when every request is its own user."""
    smoothed, r = (s + 1) / (n + 2), s / n
    residual = s - 2 * r * s + r * r * n
    return np.maximum(smoothed * (1 - smoothed) / n, residual / n**2 * n / (n - 1))


def _windows(days: Days, window: timedelta, minimum: int) -> tuple[IntArray, IntArray, Looks]:
    """Requests of both arms in the trailing windows, and whether both have the minimum."""
    n, m = (_trailing(arm.n.sum(axis=2), window) for arm in (days.canary, days.holdout))
    return n, m, np.minimum(n, m) >= minimum


def _trailing(counts: IntArray, window: timedelta) -> IntArray:
    """Sums over the window that ends with each look."""
    total, width = np.cumsum(counts, axis=1), _buckets(window)
    total[:, width:] -= total[:, :-width].copy()
    return total


def _held(beyond: Looks, longest: timedelta) -> Looks:
    """Where a condition has held at every look for longer than ``longest``."""
    return _trailing(beyond.astype(np.int64), longest + timedelta(seconds=BUCKET_SECONDS)) > _buckets(longest)


def _slowest_first(tail: IntArray, width: int) -> IntArray:
    """The slowest bins of the window that ends with each look, as deep as the tail of one look."""
    depth = tail.shape[2]
    before = [np.full((tail.shape[0], width - 1, depth), -1, dtype=tail.dtype), tail]
    padded = np.concatenate(before, axis=1)
    looks = tail.shape[1]
    window = np.concatenate([padded[:, ago : ago + looks] for ago in range(width)], axis=2)
    return np.asarray(-np.sort(-window, axis=2)[..., :depth])


def _p99(slowest: IntArray, n: IntArray, z: float) -> FloatArray:
    """The p99 of each window in milliseconds, ``z`` standard errors of its rank further up or down."""
    rank = _P99 * n + z * np.sqrt(n * _P99 * (1.0 - _P99))
    place = np.clip(n - np.maximum(np.ceil(rank), 1), 0, slowest.shape[2] - 1).astype(np.int64)
    bins = np.take_along_axis(slowest, place[..., None], axis=2)[..., 0]
    return np.asarray(latency_milliseconds()[bins])


def _buckets(duration: timedelta) -> int:
    return int(duration.total_seconds()) // BUCKET_SECONDS
