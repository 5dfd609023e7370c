"""An estimate of accuracy without labels, for the days until labels come. It is no measurement.

Average thresholded confidence (Garg et al. 2022, "Leveraging unlabeled data to predict out-of-distribution
performance", ICLR, arXiv 2201.04234): on labelled reference rows find the confidence above which as many rows
lie as are right; later, the share of rows above it estimates the accuracy.

Where it fails: it only sees what moves the confidence. A model that is confidently wrong, because a word now
means something else or because the guideline changed, keeps its confidence and the estimate stays high. So an
estimate never fires, never proposes a retrain and never clears a model; labels do.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from mangaassist.core.verdict import Status, Verdict
from mangaassist.drift.profile import Profile
from mangaassist.drift.sketch import NumericSketch

MINIMUM_ROWS = 100
NAME = "estimate.accuracy"
_Z = 1.96


def trusted_confidence(confidence: pl.Series, right: pl.Series) -> float | None:
    """The confidence with as large a share of the rows above it as is right; None for no rows.

    Args:
        confidence: (n,) of labelled reference rows. right: (n,) whether the answer was.
    """
    values = np.sort(confidence.cast(pl.Float64).drop_nulls().drop_nans().to_numpy())
    if not values.size:
        return None
    wrong = round((1.0 - int(right.sum()) / len(right)) * values.size)
    # Rows at or below the edge count as wrong: the edge is the largest of the `wrong` smallest values.
    return float(values[wrong - 1]) if wrong else math.nextafter(float(values[0]), -math.inf)


def estimate_accuracy(
    reference: Profile, now: Profile, trusted: float | None, *, threshold: float
) -> Verdict:
    """``estimate.accuracy``: estimated fall of accuracy against the labelled reference, never blocking.

    The interval covers the chance in both samples, not the failure named above.

    Args:
        trusted: the confidence frozen with the reference, an edge of its confidence bins.
        threshold: the fall that would matter, in accuracy.
    """
    n, labelled = now.rows, reference.labelled
    if trusted is None or n < MINIMUM_ROWS or labelled < MINIMUM_ROWS:
        sentence = "An estimate needs a hundred labelled reference rows and a hundred rows now."
        return Verdict(NAME, Status.INSUFFICIENT, sentence, threshold=threshold, n=n, blocking=False)
    matrix = reference.confusion.matrix()
    accuracy = float(np.trace(matrix[:-1, :-1])) / labelled
    then, current = _share_above(reference.confidence, trusted), _share_above(now.confidence, trusted)
    fall = then - current
    half = _Z * math.sqrt(then * (1 - then) / reference.rows + current * (1 - current) / n)
    status = Status.PASS if fall + half <= threshold else Status.INSUFFICIENT
    if fall > threshold and fall - half > 0:
        status = Status.FAIL
    sentence = (
        f"Estimated without labels: accuracy {accuracy:.3f} in the reference, {accuracy - fall:.3f} now, "
        "from confidence alone; blind to a model that is confidently wrong."
    )
    return Verdict(NAME, status, sentence, fall, fall - half, fall + half, threshold, n, blocking=False)


def _share_above(confidence: NumericSketch, edge: float) -> float:
    counts = np.array(confidence.counts)
    return float(counts[confidence.edges.index(edge) + 1 :].sum() / max(1, counts.sum()))
