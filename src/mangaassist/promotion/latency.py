"""Latency histograms with fixed geometric bins: any two can be compared, and one is cheap to grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, floor, log, sqrt

from mangaassist.core.errors import InputError

GROWTH = 1.02
"""Each bin is 2% wide, so a quantile is at most 1% off its sample's."""

_LEAST_MS = 0.001
_LOG_GROWTH = log(GROWTH)


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies seen, binned.

    Attributes:
        bins: (bin, count) in order of latency; bin i spans 0.001 * 1.02**i milliseconds and the 2% above.
        n: how many.
    """

    bins: tuple[tuple[int, int], ...] = ()
    n: int = 0

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Latency:
        """From bin to count."""
        return cls(tuple(sorted(counts.items())), sum(counts.values()))

    @classmethod
    def merged(cls, parts: Iterable[Latency]) -> Latency:
        """The histogram of everything the parts saw."""
        counts: dict[int, int] = {}
        for part in parts:
            for index, count in part.bins:
                counts[index] = counts.get(index, 0) + count
        return cls.of(counts)

    def quantile(self, q: float) -> float:
        """The ``q`` quantile in milliseconds (geometric middle of its bin).

        Raises:
            InputError: nothing was seen.
        """
        return self._at_rank(q * self.n)

    def quantile_interval(self, q: float, *, z: float = 1.96) -> tuple[float, float]:
        """Distribution-free limits of the ``q`` quantile by order statistics.

        Source: David and Nagaraja (2003), Order Statistics, 7.1, with the binomial taken as normal.
        """
        spread = z * sqrt(self.n * q * (1.0 - q))
        return self._at_rank(q * self.n - spread), self._at_rank(q * self.n + spread)

    def _at_rank(self, rank: float) -> float:
        if not self.n:
            raise InputError(
                "latency", expected="at least one request", got="none", next_step="Wait for traffic."
            )
        seen = 0
        for index, count in self.bins:
            seen += count
            if seen >= rank:
                return _middle(index)
        return _middle(self.bins[-1][0])


NO_LATENCY = Latency()


def latency_bin(milliseconds: float) -> int:
    """The bin a latency falls into; anything up to a microsecond is bin 0."""
    if milliseconds <= _LEAST_MS:
        return 0
    return floor(log(milliseconds / _LEAST_MS) / _LOG_GROWTH)


def _middle(index: int) -> float:
    return _LEAST_MS * exp(_LOG_GROWTH * (index + 0.5))
