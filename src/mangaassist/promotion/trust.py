"""Is the offline gate worth believing? What it promised of the last retrains beside what their canaries saw.

The measured correlation of few noisy retrains is pulled towards 0, so noise is taken out of it first. Below
.6 the gate is not trusted and the next canary is extended; the correlation gates nothing itself (EVA-3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
import orjson

from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.evidence import RESOLVED, StageEvidence
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.requirements import subject
from mangaassist.promotion.versions import FAILED, PROMOTED, SHADOW
from mangaassist.stats.correlation import true_correlation

NAME = "promotion.offline_online"
TRUSTED, WINDOW, LEAST = 0.6, 6, 4


@dataclass(frozen=True, slots=True)
class Pair:
    """One retrain that users have met.

    Attributes:
        version, champion: who was compared.
        offline: accuracy less the champion's on the same rows, before users met it.
        online: share of requests resolved less the hold-out's, when its canary was decided.
        offline_error, online_error: their standard errors.
        sequence: the ledger entry that decided it.
    """

    version: int
    champion: int
    offline: float
    offline_error: float
    online: float
    online_error: float
    sequence: int

    def as_dict(self) -> dict[str, Any]:
        """The pair as a JSON object."""
        return asdict(self)


def pairs(registry: Registry, story: str) -> list[Pair]:
    """Every version whose canary was decided on evidence against a champion, in the order of the decisions.

    Of a version that was decided about twice (aborted, then enabled again) the last decision counts. One
    without a paired offline comparison, such as the first version, has no pair.
    """
    found: dict[int, Pair] = {}
    for entry in registry.ledger.entries(subject=subject(story)):
        body = entry.body
        decided = entry.kind == PROMOTED or (entry.kind == FAILED and body["stage"] not in (None, SHADOW))
        if not decided or not body.get("evidence"):
            continue
        evidence = StageEvidence.from_dict(orjson.loads(registry.artifacts.get(body["evidence"])))
        pair = _pair(registry, evidence, entry.sequence)
        if pair is not None:
            found.pop(pair.version, None)
            found[pair.version] = pair
    return list(found.values())


def _pair(registry: Registry, evidence: StageEvidence, sequence: int) -> Pair | None:
    against = registry.get(evidence.story, evidence.challenger).metrics.get("against")
    canary, holdout = evidence.arm("canary").rate(RESOLVED), evidence.arm("holdout").rate(RESOLVED)
    if against is None or against["champion"] != evidence.champion:
        return None
    if canary.value is None or holdout.value is None:
        return None
    return Pair(
        version=evidence.challenger,
        champion=against["champion"],
        offline=against["difference"],
        offline_error=against["error"],
        online=canary.value - holdout.value,
        online_error=sqrt(canary.variance + holdout.variance),
        sequence=sequence,
    )


def verdict(story: Story, past: Sequence[Pair]) -> Verdict:
    """The correlation of the true changes over the last six pairs, as a finding that only informs."""
    last = list(past)[-WINDOW:]
    offline, online = np.array([one.offline for one in last]), np.array([one.online for one in last])
    if len(last) < LEAST:
        return _insufficient(f"{len(last)} of at least {LEAST} retrains of {story.name}", len(last))
    if not (np.ptp(offline) and np.ptp(online)):
        return _insufficient(f"{len(last)} retrains that all changed alike", len(last))
    errors = np.array([(one.offline_error, one.online_error) for one in last])
    found = true_correlation(offline, online, errors[:, 0] ** 2, errors[:, 1] ** 2).estimate
    trusted = found.value >= TRUSTED
    relation = "at least" if trusted else "below"
    sentence = (
        f"Offline and online changes correlate at {found.value:.2f} ({found.low:.2f} to {found.high:.2f}, "
        f"noise taken out) over the last {len(last)} retrains, {relation} {TRUSTED}."
    )
    return Verdict(
        NAME,
        Status.PASS if trusted else Status.FAIL,
        sentence,
        found.value,
        found.low,
        found.high,
        TRUSTED,
        len(last),
        blocking=False,
    )


def _insufficient(seen: str, n: int) -> Verdict:
    sentence = f"{seen} have been compared offline and online: nothing is known of the offline gate yet."
    return Verdict(NAME, Status.INSUFFICIENT, sentence, threshold=TRUSTED, n=n, blocking=False)


def extension(story: Story, found: Verdict) -> str:
    """Why the next canary is extended; empty when it is not."""
    if story.rollout.always_extended:
        return "the story's policy always extends it."
    return found.sentence if found.status is Status.FAIL else ""
