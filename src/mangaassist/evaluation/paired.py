"""Two models on the same rows: is the newer one worse, or is it chance?"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from mangaassist.stats.intervals import newcombe, two_sided_z


@dataclass(frozen=True, slots=True)
class Change:
    """What a candidate does to a share of right answers.

    Attributes:
        before, after: the champion's and the candidate's share.
        lost, gained: rows only the champion had right, rows only the candidate has right; None when the two
            were measured on different rows.
        low, high: 95% interval of after less before.
        p_worse: one-sided probability of so large a loss by chance.
        n: candidate rows.
    """

    before: float
    after: float
    lost: int | None
    gained: int | None
    low: float
    high: float
    p_worse: float
    n: int

    @property
    def difference(self) -> float:
        return self.after - self.before


def paired_change(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Change:
    """The same rows under both models, shape (n,) each with n >= 1; see :func:`change_of`."""
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    return change_of(len(after), int(before.sum()), int(after.sum()), lost, gained)


def change_of(n: int, before: int, after: int, lost: int, gained: int) -> Change:
    """``n`` rows under both models, of which ``before`` and ``after`` were right.

    The p-value is McNemar's exact one: only rows on which the two differ say anything. The interval is
    Wald's for paired proportions with Agresti and Min's (2005, Statistics in Medicine 24, 729-740) half a
    row added to each of the four cells, which keeps its coverage when the two models hardly differ.
    """
    p_worse = float(special.bdtrc(lost - 1, lost + gained, 0.5)) if lost else 1.0
    total, b, c = n + 2, lost + 0.5, gained + 0.5
    centre = (c - b) / total
    half = two_sided_z(0.95) * sqrt(b + c - (c - b) ** 2 / total) / total
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Change(before / n, after / n, lost, gained, low, high, p_worse, n)


def unpaired_change(before: tuple[int, int], after: tuple[int, int]) -> Change:
    """(right, n) of both models on different rows: Newcombe's interval, Fisher's exact one-sided p."""
    (x, n), (y, m) = after, before
    interval = newcombe(x, n, y, m)
    p_worse = float(stats.hypergeom.cdf(x, n + m, x + y, n))
    return Change(y / m, x / n, None, None, interval.low, interval.high, p_worse, n)
