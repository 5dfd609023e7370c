"""Prediction rows and outcomes of a rollout, drawn from a seeded generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from mangaassist.promotion.versions import SHADOW, Deployment
from mangaassist.serving.router import Arm, assign

Row = dict[str, Any]
TICK = timedelta(minutes=5)


@dataclass
class Traffic:
    """A shop whose challenger may be worse than its champion in one way or another.

    Attributes:
        per_tick: mean requests in five minutes.
        resolved: chance that a request is resolved, by arm that answered ("champion" or "challenger").
        errors: chance of an exception, likewise; ``exception`` names the challenger's.
        latency_ms: median latency, likewise.
        disagreement: chance that the challenger gives another label.
        delay: from a request to its outcome; ``bad_news``: how much later it comes from a request that the
            challenger did not resolve.
    """

    seed: int = 7
    per_tick: float = 4.0
    users: int = 3000
    resolved: dict[str, float] = field(default_factory=lambda: {"champion": 0.8, "challenger": 0.8})
    errors: dict[str, float] = field(default_factory=lambda: {"champion": 0.0, "challenger": 0.0})
    latency_ms: dict[str, float] = field(default_factory=lambda: {"champion": 2.0, "challenger": 2.0})
    exception: str = "TimeoutError"
    disagreement: float = 0.03
    delay: timedelta = timedelta(hours=1)
    bad_news: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)
        self.serial = 0
        self.waiting: list[Row] = []

    def tick(self, deployment: Deployment, until: datetime) -> tuple[list[Row], list[Row]]:
        """(prediction rows, outcomes known by now) of the five minutes that end at ``until``."""
        rows: list[Row] = []
        for _ in range(self.generator.poisson(self.per_tick)):
            at = until - TICK + timedelta(seconds=float(self.generator.uniform(0.001, 299.9)))
            rows.extend(self._request(deployment, at))
        rows.sort(key=lambda row: (row["at"], row["shadow_of"] is not None))
        known = [row for row in self.waiting if row["known_at"] <= until]
        self.waiting = [row for row in self.waiting if row["known_at"] > until]
        return rows, sorted(known, key=lambda row: row["known_at"])

    def _request(self, deployment: Deployment, at: datetime) -> Iterator[Row]:
        self.serial += 1
        user = f"user-{self.generator.integers(self.users)}"
        language = str(self.generator.choice(["en", "ja", "mixed"], p=[0.55, 0.35, 0.1]))
        label = str(self.generator.choice(["order_status", "escalation", "recommend"], p=[0.6, 0.1, 0.3]))
        base = {"request_id": f"r{self.serial}", "at": at, "user": user, "language": language}
        arm = assign(deployment, user)
        who = "challenger" if arm is Arm.CANARY else "champion"
        yield self._row(base, str(arm), who, deployment, label, shadow_of=None)
        if deployment.stage == SHADOW:
            other = "something_else" if self.generator.random() < self.disagreement else label
            copy = {**base, "request_id": f"r{self.serial}:shadow"}
            yield self._row(copy, "shadow", "challenger", deployment, other, shadow_of=f"r{self.serial}")
        resolved = bool(self.generator.random() < self.resolved[who])
        late = self.bad_news if who == "challenger" and not resolved else timedelta(0)
        known_at = at + self.delay + late
        self.waiting.append({"request_id": f"r{self.serial}", "resolved": resolved, "known_at": known_at})

    def _row(
        self,
        base: Row,
        arm: str,
        who: str,
        deployment: Deployment,
        label: str,
        *,
        shadow_of: str | None,
    ) -> Row:
        failed = self.generator.random() < self.errors[who]
        return {
            **base,
            "arm": arm,
            "version": deployment.challenger if who == "challenger" else deployment.champion,
            "shadow_of": shadow_of,
            "label": label,
            "abstains": False,
            "error": self.exception if failed else None,
            "latency_ms": float(self.latency_ms[who] * self.generator.lognormal(0.0, 0.25)),
        }
