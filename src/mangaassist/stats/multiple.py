"""Several tests at once. Two meanings stay apart.

A harm veto asks "does any guardrail show harm?": Holm or Bonferroni hold down false vetoes. Must-prove-safe
asks "is every guardrail shown to be safe?": the intersection-union test needs no correction, its price is
power (Schultzberg, Ankargren and Frånberg 2024, arXiv 2402.11609).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, finite


def bonferroni(p_values: ArrayLike) -> FloatArray:
    """Adjusted p-values, shape (m,): the family-wise error rate is held whatever the dependence."""
    p = _p_values(p_values)
    return np.minimum(1.0, p * len(p))


def holm(p_values: ArrayLike) -> FloatArray:
    """Adjusted p-values, shape (m,): as safe as Bonferroni and never less powerful.

    Source: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _unsort(np.minimum(1.0, steps), order)


def benjamini_hochberg(p_values: ArrayLike) -> FloatArray:
    """Adjusted p-values, shape (m,): holds the false discovery rate under independence.

    Source: Benjamini and Hochberg (1995), JRSS B 57, 289-300.
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _unsort(np.minimum(1.0, np.minimum.accumulate(steps[::-1])[::-1]), order)


def intersection_union(p_values: ArrayLike) -> float:
    """The p-value of "all of these hold": the largest one, uncorrected.

    Source: Berger (1982), Technometrics 24, 295-300.
    """
    return float(_p_values(p_values).max())


def _p_values(p_values: ArrayLike) -> FloatArray:
    p = finite("p_values", p_values, ndim=1)
    if (p < 0).any() or (p > 1).any():
        raise InputError(
            "p_values",
            expected="numbers from 0 to 1",
            got=f"{p.min():g} to {p.max():g}",
            next_step="Pass p-values, not test statistics.",
        )
    return p


def _unsort(values: FloatArray, order: np.ndarray[tuple[int, ...], np.dtype[np.intp]]) -> FloatArray:
    result = np.empty_like(values)
    result[order] = values
    return result
