"""Rollbacks and how long they took, to the last reader (PRO-4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Final

from mangaassist.core.errors import Unavailable
from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.readers import Acknowledged, Reader
from mangaassist.promotion.versions import Deployment
from mangaassist.storage.ledger import Ledger

MEASURED: Final = "promotion.rollback_measured"


@dataclass(frozen=True, slots=True)
class Rollback:
    """One rollback, timed (PRO-4).

    Attributes:
        version: the version taken back.
        deployment: who answers after it.
        seconds: from the decision until the last reader served the new deployment, wall clock.
        readers: how many readers were waited for.
        limit: the seconds the story's policy allows.
        expired: those among them that were cut off and counted by the end of their lease.
    """

    story: str
    version: int
    deployment: Deployment
    seconds: float
    readers: int
    limit: float
    expired: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """PRO-4 as a verdict: an acceptance criterion, measured."""
        status = Status.PASS if self.seconds <= self.limit else Status.FAIL
        seen = f"as seen by the last of {self.readers} readers" if self.readers else "with nobody serving it"
        if self.expired:
            seen += f", {len(self.expired)} of them cut off and pinned by the end of their lease"
        sentence = (
            f"Version {self.version} was taken back in {self.seconds:.3f} s {seen} (limit {self.limit:g} s)."
        )
        return Verdict(
            "rollback.seconds", status, sentence, value=self.seconds, threshold=self.limit, n=self.readers
        )


def measure(
    ledger: Ledger,
    readers: Sequence[Reader],
    story: Story,
    version: int,
    after: Deployment,
    *,
    started: float,
    actor: str,
    at: datetime,
) -> Rollback:
    """Wait until every reader serves ``after``, and put how long that took into the ledger.

    Args:
        started: ``perf_counter()`` when the rollback was decided.

    Raises:
        Unavailable: a reader had not seen it in time; that is in the ledger, too.
    """
    limit, safe, late = story.rollout.rollback_within, Acknowledged(0), None
    try:
        for reader in readers:
            safe += reader.acknowledge(story.name, after.epoch, within=limit, withdrawn=version)
    except Unavailable as error:
        late = error
    seconds = perf_counter() - started
    measured = Rollback(
        story.name, version, after, seconds, safe.readers, limit.total_seconds(), safe.expired
    )
    body = {
        "version": version,
        "epoch": after.epoch,
        "seconds": seconds,
        "readers": safe.readers,
        "expired": list(safe.expired),
        "late": str(late) if late else None,
        "verdict": measured.verdict.as_dict(),
    }
    ledger.append(kind=MEASURED, subject=subject(story.name), body=body, actor=actor, at=at)
    if late is not None:
        raise late
    return measured


def rollback_seconds(ledger: Ledger, story: str) -> list[tuple[int, float]]:
    """(version, seconds) of every measured rollback of ``story``, oldest first."""
    found = ledger.entries(subject=subject(story), kind=MEASURED)
    return [(entry.body["version"], entry.body["seconds"]) for entry in found]


def subject(story: str) -> str:
    """The ledger subject of what happens around a story's rollouts without moving them."""
    return f"promotion/{story}"
