"""Chance-corrected agreement of rotating annotators on the items that three or more of them saw."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.stats.intervals import Estimate, two_sided_z, wilson

MINIMUM_ANNOTATORS = 3
_BLOCKS = 200

Counts = NDArray[np.float64]


def multiply_annotated(votes: pl.DataFrame, *, annotators: int = MINIMUM_ANNOTATORS) -> pl.DataFrame:
    """The votes on items that at least so many named annotators saw.

    Args:
        votes: columns example_id, annotator_id, label; one row per annotator and item at most.
    """
    named = votes.drop_nulls("annotator_id")
    return named.filter(pl.len().over("example_id") >= annotators)


def pairwise_kappa(votes: pl.DataFrame, *, level: float = 0.95) -> Estimate | None:
    """Cohen's kappa over all pairs of annotators, weighted by the items they share.

    Source: Conger (1980), Psychological Bulletin 88, 322-328: mean observed agreement of the pairs, corrected
    by their mean chance agreement; for two annotators it is Cohen's kappa. Chance comes from each annotator's
    own label frequencies on these items, so pairs that share few items do not make it unstable. The interval
    is a jackknife over items (blocks of items beyond 200), because votes on one item hang together; with
    complete agreement, where that spread is 0, the low end comes from the Wilson bound instead.

    Args:
        votes: columns example_id, annotator_id (named) and label; one row per annotator and item.

    Returns:
        The estimate with n = items, or None where fewer than 2 items are shared or chance agreement is
        certain because only one class occurs.
    """
    codes = votes.select(
        *(pl.col(name).rank("dense").cast(pl.Int64) - 1 for name in ("example_id", "annotator_id", "label"))
    ).unique()
    pairs = codes.join(codes, on="example_id", suffix="_b").filter(
        pl.col("annotator_id") < pl.col("annotator_id_b")
    )
    items = pairs.n_unique("example_id")
    if items < 2:
        return None
    blocks = min(items, _BLOCKS)
    tallies = _tallies(codes.join(pairs.select("example_id").unique(), on="example_id"), pairs, blocks)
    total = [part.sum(axis=0) for part in tallies]
    observed, chance = _agreement(*total)
    if chance >= 1.0:
        return None
    kappa = (observed - chance) / (1 - chance)
    if observed == 1.0:
        low = (wilson(items, items, level=level).low - chance) / (1 - chance)
        return Estimate(1.0, low, 1.0, items, level)
    left_out = []
    for block in range(blocks):
        o, c = _agreement(*(whole - part[block] for whole, part in zip(total, tallies, strict=True)))
        if c < 1.0:
            left_out.append((o - c) / (1 - c))
    spread = np.sqrt((blocks - 1) / blocks * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    half = two_sided_z(level) * float(spread)
    return Estimate(float(kappa), max(-1.0, kappa - half), min(1.0, kappa + half), items, level)


def _tallies(codes: pl.DataFrame, pairs: pl.DataFrame, blocks: int) -> tuple[Counts, Counts, Counts]:
    """Per block of items: agreements (b, p), shared items (b, p) and labels (b, annotators, classes).

    Each annotator pair p is a cell of an annotators x annotators square.
    """
    a = int(codes["annotator_id"].max()) + 1  # type: ignore[arg-type]
    k = int(codes["label"].max()) + 1  # type: ignore[arg-type]
    cell = (pairs["annotator_id"] * a + pairs["annotator_id_b"]).to_numpy()
    block = (pairs["example_id"] % blocks).to_numpy()
    agree = (pairs["label"] == pairs["label_b"]).to_numpy().astype(np.float64)
    place = ((codes["example_id"] % blocks) * a * k + codes["annotator_id"] * k + codes["label"]).to_numpy()
    return (
        _tally(block * a * a + cell, agree, blocks * a * a).reshape(blocks, a * a),
        _tally(block * a * a + cell, np.ones(pairs.height), blocks * a * a).reshape(blocks, a * a),
        _tally(place, np.ones(codes.height), blocks * a * k).reshape(blocks, a, k),
    )


def _tally(place: NDArray[np.int64], weights: Counts, size: int) -> Counts:
    return np.asarray(np.bincount(place, weights=weights, minlength=size), dtype=np.float64)


def _agreement(agreements: Counts, shared: Counts, labels: Counts) -> tuple[float, float]:
    """Observed and chance agreement, averaged over pairs by the items they share."""
    share = labels / np.maximum(labels.sum(axis=1, keepdims=True), 1)
    expected = (share @ share.T).ravel()
    n = shared.sum()
    return float(agreements.sum() / n), float(shared @ expected / n)
