"""Growing the evidence of a rollout row by row, or all at once from the tables; the result is the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.promotion.evidence import (
    ALL,
    BUCKET_SECONDS,
    ERROR,
    RESOLVED,
    SAFETY,
    WINDOW_BUCKETS,
    WINDOW_HOURS,
    Agreement,
    ArmEvidence,
    Bucket,
    Rate,
    StageEvidence,
)
from mangaassist.promotion.latency import NO_LATENCY, Latency, latency_bin
from mangaassist.promotion.versions import Deployment

Row = Mapping[str, Any]
OUTCOME_HORIZON = timedelta(days=7)
"""An outcome later than this after its request is not evidence: waiting longer would need endless memory."""

_COPY_HORIZON = timedelta(hours=1)
_BUCKETS_AN_HOUR = 3600 // BUCKET_SECONDS
_EMPTY = Bucket()


class _RateSum:
    """A :class:`Rate` in the making."""

    __slots__ = ("n", "nn", "ns", "s", "ss", "units", "users")

    def __init__(self) -> None:
        self.n = self.s = self.units = self.nn = self.ss = self.ns = 0
        self.users: dict[str, tuple[int, int]] = {}

    def add(self, user: str | None, counts: int) -> None:
        n, s = self.users.get(user, (0, 0)) if user is not None else (0, 0)
        self.units += n == 0
        self.n += 1
        self.s += counts
        self.nn += 2 * n + 1
        self.ss += counts * (2 * s + 1)
        self.ns += n * counts + s + counts
        if user is not None:
            self.users[user] = (n + 1, s + counts)

    def frozen(self) -> Rate:
        return Rate(self.n, self.s, self.units, self.nn, self.ss, self.ns)


class _BucketSum:
    """A :class:`Bucket` in the making."""

    __slots__ = ("_frozen", "errors", "latency", "n", "outcomes", "resolved", "safety")

    def __init__(self) -> None:
        self.n = self.errors = self.safety = self.outcomes = self.resolved = 0
        self.latency: dict[int, int] = {}
        self._frozen: Bucket | None = None

    def add(self, latency: int, *, failed: bool, safety: bool) -> None:
        self.n += 1
        self.errors += failed
        self.safety += safety
        self.latency[latency] = self.latency.get(latency, 0) + 1
        self._frozen = None

    def add_outcome(self, resolved: bool) -> None:
        self.outcomes += 1
        self.resolved += resolved
        self._frozen = None

    def frozen(self) -> Bucket:
        if self._frozen is None:
            latency = Latency.of(self.latency) if self.latency else NO_LATENCY
            self._frozen = Bucket(self.n, self.errors, self.safety, self.outcomes, self.resolved, latency)
        return self._frozen


class _ArmSum:
    """An :class:`ArmEvidence` in the making."""

    def __init__(self) -> None:
        self.n = self.stage_n = 0
        self.exceptions: dict[str, int] = {}
        self.latency: dict[int, int] = {}
        self.rates: dict[tuple[str, str], _RateSum] = {}
        self.buckets: dict[int, _BucketSum] = {}
        self.hours: dict[int, int] = {}
        self.last_at: datetime | None = None
        self.last_outcome_at: datetime | None = None
        self._frozen: ArmEvidence | None = None
        self._frozen_hour = 0

    def add(self, row: Row, *, in_stage: bool, safety: bool) -> None:
        error, at = row["error"], row["at"]
        latency = latency_bin(row["latency_ms"])
        self.n += 1
        self.stage_n += in_stage
        self.latency[latency] = self.latency.get(latency, 0) + 1
        self._bucket(at).add(latency, failed=error is not None, safety=safety)
        hour = bucket_index(at) // _BUCKETS_AN_HOUR
        self.hours[hour] = self.hours.get(hour, 0) + 1
        if error is not None:
            self.exceptions[error] = self.exceptions.get(error, 0) + 1
        for cohort in (ALL, row["language"]):
            self._rate(ERROR, cohort).add(row["user"], error is not None)
            self._rate(SAFETY, cohort).add(row["user"], safety)
        self.last_at = at if self.last_at is None else max(self.last_at, at)
        self._frozen = None

    def begin_stage(self) -> None:
        self.stage_n = 0
        self._frozen = None

    def add_outcome(self, *, user: str | None, language: str, resolved: bool, known_at: datetime) -> None:
        self._bucket(known_at).add_outcome(resolved)
        for cohort in (ALL, language):
            self._rate(RESOLVED, cohort).add(user, resolved)
        last = self.last_outcome_at
        self.last_outcome_at = known_at if last is None else max(last, known_at)
        self._frozen = None

    def frozen(self, last_bucket: int) -> ArmEvidence:
        first = last_bucket - WINDOW_BUCKETS + 1
        for index in [index for index in self.buckets if index < first]:
            del self.buckets[index]
        buckets = tuple(
            self.buckets[index].frozen() if index in self.buckets else _EMPTY
            for index in range(first, last_bucket + 1)
        )
        hours = self._last_hours((last_bucket + 1) // _BUCKETS_AN_HOUR)
        if self._frozen is not None:
            self._frozen = replace(self._frozen, buckets=buckets, hours=hours)
            return self._frozen
        self._frozen = ArmEvidence(
            self.n,
            self.stage_n,
            dict(self.exceptions),
            Latency.of(self.latency),
            {key: rate.frozen() for key, rate in self.rates.items()},
            buckets,
            hours,
            self.last_at,
            self.last_outcome_at,
        )
        return self._frozen

    def _last_hours(self, end: int) -> tuple[int, ...]:
        if self._frozen is not None and self._frozen_hour == end:
            return self._frozen.hours
        self._frozen_hour = end
        first = end - WINDOW_HOURS
        for hour in [hour for hour in self.hours if hour < first]:
            del self.hours[hour]
        return tuple(self.hours.get(hour, 0) for hour in range(first, end))

    def _rate(self, metric: str, cohort: str) -> _RateSum:
        found = self.rates.get((metric, cohort))
        if found is None:
            found = self.rates[metric, cohort] = _RateSum()
        return found

    def _bucket(self, at: datetime) -> _BucketSum:
        index = bucket_index(at)
        found = self.buckets.get(index)
        if found is None:
            found = self.buckets[index] = _BucketSum()
        return found


class EvidenceAccumulator:
    """The evidence of one challenger's rollout.

    Feed it every row up to an instant, then ask for :meth:`evidence` at that instant; a look costs
    microseconds. After the controller moved the challenger, call :meth:`enter` with the new deployment.

    Args:
        deployment: one with a challenger.
        safety_labels: the story's safety-critical labels.
    """

    def __init__(self, deployment: Deployment, *, safety_labels: Collection[str] = ()) -> None:
        self._safety = frozenset(safety_labels)
        self._deployment = deployment
        self._reset()
        self.enter(deployment)

    def enter(self, deployment: Deployment) -> None:
        """Count on for a later stage of the same rollout; leaving shadow starts the counts anew.

        Raises:
            InputError: the deployment has no challenger, or another one.
        """
        if deployment.challenger is None or deployment.challenger != self._deployment.challenger:
            raise InputError(
                "deployment",
                expected=f"one with challenger {self._deployment.challenger}",
                got=f"challenger {deployment.challenger}",
                next_step="Start a new accumulator for every challenger.",
            )
        if deployment.in_canary != self._deployment.in_canary:
            self._reset()
        for arm in self._arms.values():
            arm.begin_stage()
        self._deployment = deployment

    def observe(self, rows: Iterable[Row]) -> None:
        """Count prediction rows; an answered request comes before its shadow copy."""
        deployment = self._deployment
        began, stage_began = self._began(), _since(deployment)
        for row in rows:
            arm = self._arm_of(row)
            if arm is None or row["at"] <= began:
                continue
            label = _answered_label(row)
            self._arms[arm].add(row, in_stage=row["at"] > stage_began, safety=label in self._safety)
            self._rows += 1
            if arm != "shadow":
                self._waiting[row["request_id"]] = (row["at"], arm, row["user"], row["language"])
            if not deployment.in_canary:
                self._compare(row, label)

    def observe_outcomes(self, rows: Iterable[Row]) -> None:
        """Count outcomes in the order in which they became known; the first of a request counts."""
        for row in rows:
            waiting = self._waiting.pop(row["request_id"], None)
            if waiting is None:
                continue
            at, arm, user, language = waiting
            if row["known_at"] - at <= OUTCOME_HORIZON:
                self._arms[arm].add_outcome(
                    user=user, language=language, resolved=row["resolved"], known_at=row["known_at"]
                )

    def evidence(self, now: datetime) -> StageEvidence:
        """What has been shown up to ``now``; rules about the last minutes see complete buckets only."""
        deployment = self._deployment
        self._forget(now)
        last = bucket_index(now) - 1
        challenger = deployment.challenger
        return StageEvidence(
            deployment.story,
            deployment.champion,
            -1 if challenger is None else challenger,
            deployment.stage,
            _since(deployment),
            deployment.share,
            deployment.holdout,
            now,
            {name: arm.frozen(last) for name, arm in self._arms.items()},
            {name: Agreement(n, agreed) for name, (n, agreed) in self._agreement.items()},
            self._rows,
        )

    def _reset(self) -> None:
        self._arms: dict[str, _ArmSum] = defaultdict(_ArmSum)
        self._agreement: dict[str, tuple[int, int]] = {}
        self._waiting: dict[str, tuple[datetime, str, str | None, str]] = {}
        self._answers: dict[str, tuple[datetime, str | None]] = {}
        self._rows = 0

    def _began(self) -> datetime:
        began = self._deployment.canary_since if self._deployment.in_canary else None
        return began or _since(self._deployment)

    def _arm_of(self, row: Row) -> str | None:
        arm, deployment = row["arm"], self._deployment
        if arm in ("shadow", "canary"):
            wanted: tuple[str, ...] = ("canary",) if deployment.in_canary else ("shadow",)
            return arm if arm in wanted and row["version"] == deployment.challenger else None
        wanted = ("holdout",) if deployment.in_canary else ("champion",)
        return arm if arm in wanted and row["version"] == deployment.champion else None

    def _compare(self, row: Row, label: str | None) -> None:
        if row["arm"] == "champion":
            self._answers[row["request_id"]] = (row["at"], label)
            return
        found = self._answers.pop(row["shadow_of"], None)
        if found is None or row["error"] is not None or self._deployment.champion is None:
            return
        for cohort in (ALL, row["language"]):
            n, agreed = self._agreement.get(cohort, (0, 0))
            self._agreement[cohort] = (n + 1, agreed + (found[1] == label))

    def _forget(self, now: datetime) -> None:
        """Drop what can no longer be joined; rows come roughly in order, so the oldest stand first."""
        for waiting, horizon in ((self._waiting, OUTCOME_HORIZON), (self._answers, _COPY_HORIZON)):
            before = now - horizon
            for request_id in list(takewhile(lambda one: waiting[one][0] < before, waiting)):  # noqa: B023
                del waiting[request_id]


def rebuild(
    deployment: Deployment,
    predictions: pl.DataFrame,
    outcomes: pl.DataFrame,
    *,
    now: datetime,
    safety_labels: Collection[str] = (),
) -> EvidenceAccumulator:
    """The accumulator a restarted process continues with: everything up to ``now`` from the tables.

    Args:
        predictions, outcomes: rows of the story's prediction and outcome tables, in any order; those of
            other versions and of the future are left out.
    """
    accumulator = EvidenceAccumulator(deployment, safety_labels=safety_labels)
    rows = predictions.filter(pl.col("at") <= now).sort("at", pl.col("shadow_of").is_not_null())
    known = outcomes.filter(pl.col("known_at") <= now).sort("known_at")
    accumulator.observe(_utc_rows(rows, "at"))
    accumulator.observe_outcomes(_utc_rows(known, "known_at"))
    return accumulator


def bucket_index(at: datetime) -> int:
    """Which five-minute bucket of UTC ``at`` falls into."""
    return int(at.timestamp()) // BUCKET_SECONDS


def _utc_rows(frame: pl.DataFrame, column: str) -> Iterable[Row]:
    return frame.with_columns(pl.col(column).dt.convert_time_zone("UTC")).iter_rows(named=True)


def _since(deployment: Deployment) -> datetime:
    return deployment.since or datetime.min.replace(tzinfo=UTC)


def _answered_label(row: Row) -> str | None:
    """The label the routed version itself answered with; None when it abstained or failed."""
    if row["abstains"] or row["error"] is not None:
        return None
    label: str | None = row["label"]
    return label
