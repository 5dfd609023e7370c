"""Cohen's kappa over all pairs of rotating annotators, in time linear in the number of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from mangaassist.stats.domain import FloatArray, IntArray, codes, same_length
from mangaassist.stats.intervals import Estimate, two_sided_z, wilson

_BLOCKS = 200
_NO_SPREAD = 1e-12


def pairwise_kappa(
    items: ArrayLike,
    workers: ArrayLike,
    labels: ArrayLike,
    *,
    n_items: int,
    n_workers: int,
    n_classes: int,
    level: float = 0.95,
) -> Estimate | None:
    """Mean observed agreement of all pairs who share items, corrected by their mean chance agreement.

    Source: Conger (1980), Psychological Bulletin 88, 322-328; for two annotators it is Cohen's kappa. Chance
    comes from each annotator's own label frequencies on shared items, so pairs that share few items do not
    make it unstable. The interval is a jackknife over items (blocks of items beyond 200), because votes on
    one item hang together; with complete agreement, where that spread is 0, the low end comes from the
    Wilson bound instead, and where it is 0 otherwise the interval is everything.

    Args:
        items, workers, labels: integer codes of each vote, shape (votes,) each; a worker is not paired with
            itself.

    Returns:
        The estimate with n = shared items, or None where fewer than 2 items are shared or chance agreement
        is certain because only one class occurs.

    Raises:
        InputError: for codes outside their range or unequal lengths.
    """
    item, worker = codes("kappa.items", items, n_items), codes("kappa.workers", workers, n_workers)
    label = codes("kappa.labels", labels, n_classes)
    same_length("kappa", item, worker)
    same_length("kappa", item, label)
    order = np.argsort(item, kind="stable")
    votes = _Votes(item[order], worker[order], label[order], n_workers, n_classes)
    left, right = _pairs(votes)
    shared = np.unique(votes.item[left])
    if len(shared) < 2:
        return None
    blocks = min(len(shared), _BLOCKS)
    agreed, parts, labelled = _tallies(votes, left, right, shared, blocks)
    pairs, used = sum(parts[1:], start=parts[0]), labelled.sum(axis=0)
    observed, chance = _agreement(agreed.sum(), pairs, used)
    if chance >= 1.0:
        return None
    kappa = (observed - chance) / (1 - chance)
    if observed == 1.0:
        low = (wilson(len(shared), len(shared), level=level).low - chance) / (1 - chance)
        return Estimate(1.0, low, 1.0, len(shared), level)
    without = [
        _agreement(agreed.sum() - agreed[b], pairs - parts[b], used - labelled[b]) for b in range(blocks)
    ]
    left_out = np.array([(o - c) / (1 - c) for o, c in without if c < 1.0])
    if not len(left_out) or np.ptp(left_out) < _NO_SPREAD:  # a few items that look alike are not certainty
        return Estimate(float(kappa), -1.0, 1.0, len(shared), level)
    spread = np.sqrt((blocks - 1) / blocks * np.sum((left_out - left_out.mean()) ** 2))
    half = two_sided_z(level) * float(spread)
    return Estimate(float(kappa), max(-1.0, kappa - half), min(1.0, kappa + half), len(shared), level)


@dataclass(frozen=True, slots=True, eq=False)
class _Votes:
    """Votes sorted by item, shape (votes,) each."""

    item: IntArray
    worker: IntArray
    label: IntArray
    workers: int
    classes: int


def _pairs(votes: _Votes) -> tuple[IntArray, IntArray]:
    """Row numbers of every two votes of different workers on one item, shape (pairs,) each."""
    left, right, distance = [], [], 1
    rows = np.arange(len(votes.item))
    # Votes of one item stand side by side, so the d-th neighbour is of the same item or there is none.
    while len(rows := rows[rows + distance < len(votes.item)]):
        rows = rows[votes.item[rows] == votes.item[rows + distance]]
        apart = rows[votes.worker[rows] != votes.worker[rows + distance]]
        left.append(apart)
        right.append(apart + distance)
        distance += 1
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *left]), np.concatenate([empty, *right])


def _tallies(
    votes: _Votes, left: IntArray, right: IntArray, shared: IntArray, blocks: int
) -> tuple[FloatArray, list[sparse.csr_array], FloatArray]:
    """Per block of items: agreements (blocks,), shared items per pair (workers, workers), labels used.

    Labels used are counts of shape (blocks, workers, classes) on items that any pair shares.
    """
    a, k = votes.workers, votes.classes
    place = np.searchsorted(shared, votes.item)
    paired = shared[np.minimum(place, len(shared) - 1)] == votes.item
    block = place % blocks
    agree: FloatArray = (votes.label[left] == votes.label[right]).astype(np.float64)
    agreed: FloatArray = np.bincount(block[left], weights=agree, minlength=blocks).astype(np.float64)
    cell = (block * a + votes.worker)[paired] * k + votes.label[paired]
    labelled = np.bincount(cell, minlength=blocks * a * k).reshape(blocks, a, k).astype(np.float64)
    by_block = np.argsort(block[left], kind="stable")
    ends = np.searchsorted(block[left][by_block], np.arange(blocks + 1))
    parts = [
        _matrix(votes, left[by_block[start:end]], right[by_block[start:end]]) for start, end in pairwise(ends)
    ]
    return agreed, parts, labelled


def _matrix(votes: _Votes, left: IntArray, right: IntArray) -> sparse.csr_array:
    """How many items each pair of workers shares, shape (workers, workers)."""
    place: tuple[NDArray[np.int64], NDArray[np.int64]] = (votes.worker[left], votes.worker[right])
    return sparse.csr_array((np.ones(len(left)), place), shape=(votes.workers, votes.workers))


def _agreement(agreed: float, pairs: sparse.csr_array, used: FloatArray) -> tuple[float, float]:
    """Observed and chance agreement, averaged over pairs by the items they share."""
    share = used / np.maximum(used.sum(axis=1, keepdims=True), 1)
    n = float(pairs.sum())
    return float(agreed) / n, float((share * (pairs @ share)).sum()) / n
