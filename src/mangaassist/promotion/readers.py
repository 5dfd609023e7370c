"""What a rollback waits for: whoever serves a deployment, and why each of them counts as safe (PRO-4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The readers that cannot serve a withdrawn version any more.

    Attributes:
        seen: how many serve the new deployment and said so.
        expired: names of those that said nothing, but whose lease must have ended since: they are cut off
            and serve a version that was not withdrawn.
    """

    seen: int
    expired: tuple[str, ...] = ()

    @property
    def readers(self) -> int:
        """How many readers that speaks for."""
        return self.seen + len(self.expired)

    def __add__(self, other: Acknowledged) -> Acknowledged:
        return Acknowledged(self.seen + other.seen, (*self.expired, *other.expired))


class Reader(Protocol):
    """Somebody who serves a deployment and can say since when."""

    def acknowledge(self, story: str, epoch: int, *, within: timedelta, withdrawn: int) -> Acknowledged:
        """Return once ``withdrawn`` cannot be served any more because ``epoch`` or a newer one is.

        Raises:
            Unavailable: it takes too long; who is late is named.
        """
