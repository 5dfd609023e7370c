"""Confident learning: how noisy the labels are and which ones are probably wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, IntArray, codes, finite, same_length
from mangaassist.stats.intervals import Estimate, wilson


@dataclass(frozen=True, slots=True, eq=False)
class ConfidentJoint:
    """Given labels against probable true ones.

    Attributes:
        counts: how many fell in each cell, shape (k, k); rows are given labels, columns probable true ones.
        joint: estimated joint distribution of given and true label, shape (k, k), sums to 1.
        noise_rate: estimated share of wrong labels; the interval covers sampling, not a biased model.
        suspects: row numbers of probable errors, the most certain first, shape (m,).
        suggested: the probable true class of each suspect, shape (m,).
        margin: how much more probable the suggestion is than the given label, shape (m,), falling.
    """

    counts: IntArray
    joint: FloatArray
    noise_rate: Estimate
    suspects: IntArray
    suggested: IntArray
    margin: FloatArray


def confident_joint(probabilities: ArrayLike, labels: ArrayLike, *, level: float = 0.95) -> ConfidentJoint:
    """Estimate label noise from out-of-sample probabilities.

    Source: Northcutt, Jiang and Chuang (2021), JAIR 70, 1373-1411. A row counts as truly class j when its
    probability of j reaches the mean probability of j among the rows labelled j; so a class the model is
    generally unsure of is held to a lower bar. Probable errors are the off-diagonal rows, ranked by margin.

    Args:
        probabilities: out-of-fold predictions, shape (n, k); in-fold ones would believe every label.
        labels: given labels as codes 0..k-1, shape (n,).

    Raises:
        InputError: for probabilities outside 0..1, unequal lengths, or no row that reaches any bar.
    """
    p = finite("confident.probabilities", probabilities, ndim=2)
    n, k = p.shape
    given = codes("confident.labels", labels, k)
    same_length("confident", p, given)
    if p.min() < 0 or p.max() > 1 + 1e-9:
        raise InputError(
            "confident.probabilities",
            expected="numbers from 0 to 1",
            got=f"{p.min():g} to {p.max():g}",
            next_step="Apply the softmax first.",
        )
    rows = np.bincount(given, minlength=k)
    sums = np.bincount(given, weights=p[np.arange(n), given], minlength=k)
    # A class nobody is labelled with has no bar to reach, so nothing can be moved into it.
    bar = np.divide(sums, rows, out=np.full(k, np.inf), where=rows > 0)
    reached = np.where(p >= bar - 1e-12, p, -1.0)
    true = reached.argmax(axis=1)
    sure = reached.max(axis=1) >= 0
    table = np.bincount(given[sure] * k + true[sure], minlength=k * k).reshape(k, k)
    joint = _calibrate(table, rows)
    wrong = round(float(n * (1 - np.trace(joint))))
    suspects = np.flatnonzero(sure & (true != given))
    margin = p[suspects, true[suspects]] - p[suspects, given[suspects]]
    order = np.argsort(-margin, kind="stable")
    rate = wilson(min(max(wrong, 0), n), n, level=level)
    return ConfidentJoint(
        table.astype(np.int64), joint, rate, suspects[order], true[suspects][order], margin[order]
    )


def _calibrate(table: IntArray, rows: IntArray) -> FloatArray:
    """Counts spread so that each given label keeps its own share; a row of zeros keeps its labels."""
    filled = table.astype(np.float64)
    empty = (filled.sum(axis=1) == 0) & (rows > 0)
    filled[empty, empty] = 1.0
    total = filled.sum(axis=1, keepdims=True)
    share = np.divide(filled, total, out=np.zeros_like(filled), where=total > 0)
    return np.asarray(share * (rows / rows.sum())[:, None], dtype=np.float64)
