"""What a rollout has shown so far: one frozen value per look, whoever computed it and however often.

Every number is a count, so the order in which rows arrive does not matter, and a value grown row by row for
eighteen days equals the value rebuilt from the tables in one go. Rows are judged by when they happened,
outcomes by when they became known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import InputError
from mangaassist.promotion.latency import NO_LATENCY, Latency

BUCKET_SECONDS = 300
"""One look every five minutes (PRO-3), on the five-minute marks of UTC."""

WINDOW_BUCKETS = 26
"""Buckets kept: a rule about an hour, held for more than an hour, looks back two hours and one bucket."""

WINDOW_HOURS = 96
"""Hours kept: a small share of little traffic takes days of silence to be sure of."""

ALL = "all"
RESOLVED, ERROR, SAFETY = "resolved", "error", "safety"
METRICS = (RESOLVED, ERROR, SAFETY)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of requests, with what its variance needs when requests come in clusters of one user each.

    Attributes:
        n, s: requests and those that count.
        units: users (an anonymous request is its own).
        nn, ss, ns: sums over users of n_u squared, s_u squared and n_u times s_u.
    """

    n: int = 0
    s: int = 0
    units: int = 0
    nn: int = 0
    ss: int = 0
    ns: int = 0

    @property
    def value(self) -> float | None:
        return self.s / self.n if self.n else None

    @property
    def variance(self) -> float:
        """Variance of ``value``: the larger of the cluster-robust one and the smoothed binomial one.

        Cluster-robust by linearising the ratio (Cochran 1977, 6.3); the binomial one keeps a rate that has
        not varied yet from looking certain.
        """
        smoothed = (self.s + 1) / (self.n + 2)
        binomial = smoothed * (1 - smoothed) / self.n
        if self.units < 2:
            return binomial
        r = self.s / self.n
        residual = self.ss - 2 * r * self.ns + r * r * self.nn
        return max(binomial, residual / self.n**2 * self.units / (self.units - 1))


@dataclass(frozen=True, slots=True)
class Bucket:
    """One arm in five minutes.

    Attributes:
        n, errors, safety: requests that arrived in it, those that failed, those answered with a
            safety-critical label.
        outcomes, resolved: outcomes that became known in it, and the good ones.
        latency: of the requests that arrived in it.
    """

    n: int = 0
    errors: int = 0
    safety: int = 0
    outcomes: int = 0
    resolved: int = 0
    latency: Latency = NO_LATENCY


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """One arm since its phase (shadow, or the first canary stage) began.

    Attributes:
        n: requests.
        stage_n: requests since the present stage began.
        exceptions: how often each exception type was raised.
        latency: of all requests.
        rates: (metric, language or "all") to its rate.
        buckets: the last complete five-minute buckets, oldest first.
        hours: requests in each of the last complete hours, oldest first.
        last_at: when the last request arrived; None before the first.
        last_outcome_at: when the last outcome became known.
    """

    n: int = 0
    stage_n: int = 0
    exceptions: Mapping[str, int] = field(default_factory=dict)
    latency: Latency = NO_LATENCY
    rates: Mapping[tuple[str, str], Rate] = field(default_factory=dict)
    buckets: tuple[Bucket, ...] = ()
    hours: tuple[int, ...] = ()
    last_at: datetime | None = None
    last_outcome_at: datetime | None = None

    def rate(self, metric: str, cohort: str = ALL) -> Rate:
        return self.rates.get((metric, cohort), Rate())

    def requests_within(self, recent: timedelta) -> int:
        """Requests of the ``recent`` time, by complete buckets, or by complete hours when that is long."""
        seconds = int(recent.total_seconds())
        if seconds <= BUCKET_SECONDS * len(self.buckets):
            return sum(one.n for one in self.window(seconds // BUCKET_SECONDS))
        return sum(self.hours[1 - seconds // 3600 :])

    def window(self, width: int, *, ago: int = 0) -> tuple[Bucket, ...]:
        """``width`` buckets, ending ``ago`` buckets before the last one."""
        end = len(self.buckets) - ago
        return self.buckets[max(0, end - width) : max(0, end)]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the version in shadow gave the champion's answer.

    Attributes:
        n: requests both answered.
        agreed: those with the same label, or on which both abstained.
    """

    n: int = 0
    agreed: int = 0


@dataclass(frozen=True, slots=True)
class StageEvidence:
    """What one look sees.

    Attributes:
        story, champion, challenger, stage, since, share, holdout: the deployment it is about.
        at: the instant of the look.
        arms: evidence by arm ("champion", "shadow", "canary", "holdout").
        agreement: in shadow, by language and "all".
        rows: prediction rows behind it.
    """

    story: str
    champion: int | None
    challenger: int
    stage: str
    since: datetime
    share: float
    holdout: float
    at: datetime
    arms: Mapping[str, ArmEvidence]
    agreement: Mapping[str, Agreement]
    rows: int

    def arm(self, name: str) -> ArmEvidence:
        return self.arms.get(name, ArmEvidence())

    def as_dict(self) -> dict[str, Any]:
        """The evidence as JSON."""
        return {
            "story": self.story,
            "champion": self.champion,
            "challenger": self.challenger,
            "stage": self.stage,
            "since": isoformat(self.since),
            "at": isoformat(self.at),
            "share": self.share,
            "holdout": self.holdout,
            "rows": self.rows,
            "agreement": {name: [one.n, one.agreed] for name, one in sorted(self.agreement.items())},
            "arms": {name: _arm_as_dict(one) for name, one in sorted(self.arms.items())},
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> StageEvidence:
        """The inverse of :meth:`as_dict`.

        Raises:
            InputError: evidence of a release that did not keep the buckets' histograms.
        """
        return cls(
            **{name: body[name] for name in ("story", "champion", "challenger", "stage", "share", "holdout")},
            since=parse_instant(body["since"], field="evidence.since"),
            at=parse_instant(body["at"], field="evidence.at"),
            arms={name: _arm_from_dict(one) for name, one in body["arms"].items()},
            agreement={name: Agreement(*one) for name, one in body["agreement"].items()},
            rows=body["rows"],
        )


def _arm_as_dict(arm: ArmEvidence) -> dict[str, Any]:
    return {
        "n": arm.n,
        "stage_n": arm.stage_n,
        "exceptions": dict(sorted(arm.exceptions.items())),
        "latency": [list(pair) for pair in arm.latency.bins],
        "rates": {
            f"{metric}.{cohort}": [rate.n, rate.s, rate.units, rate.nn, rate.ss, rate.ns]
            for (metric, cohort), rate in sorted(arm.rates.items())
        },
        "buckets": [
            [
                *(getattr(one, name) for name in _BUCKET),
                [list(pair) for pair in one.latency.bins],
            ]
            for one in arm.buckets
        ],
        "hours": list(arm.hours),
        "last_at": isoformat(arm.last_at) if arm.last_at else None,
        "last_outcome_at": isoformat(arm.last_outcome_at) if arm.last_outcome_at else None,
    }


_BUCKET = ("n", "errors", "safety", "outcomes", "resolved")


def _arm_from_dict(body: Mapping[str, Any]) -> ArmEvidence:
    instants = {name: body[name] for name in ("last_at", "last_outcome_at")}
    return ArmEvidence(
        n=body["n"],
        stage_n=body["stage_n"],
        exceptions=body["exceptions"],
        latency=_latency(body["latency"]),
        rates={_rate_key(name): Rate(*counts) for name, counts in body["rates"].items()},
        buckets=tuple(
            Bucket(**dict(zip(_BUCKET, one[:-1], strict=True)), latency=_latency(one[-1]))
            for one in body["buckets"]
        ),
        hours=tuple(body["hours"]),
        **{name: parse_instant(at, field=name) if at else None for name, at in instants.items()},
    )


def _rate_key(name: str) -> tuple[str, str]:
    metric, _, cohort = name.partition(".")
    return metric, cohort


def _latency(bins: Any) -> Latency:
    if not isinstance(bins, list):
        raise InputError(
            "evidence",
            expected="the latencies of every five minutes",
            got="only their number, as earlier releases kept it",
            next_step="What was decided on it cannot be decided again.",
        )
    return Latency.of(dict(bins)) if bins else NO_LATENCY
