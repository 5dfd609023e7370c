"""The label-noise ceiling: what a perfect model would score against labels that are sometimes wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from mangaassist.core.story import LabelPolicy
from mangaassist.labels.consensus import KEY, consensus, votes_on
from mangaassist.stats.intervals import Estimate

METHOD = "pairwise agreement, one error rate per annotator"
MINIMUM_ITEMS = 30
"""Items with two votes or more below which agreement is too uncertain to extrapolate from."""

_BLOCKS = 20
_PRIOR_ITEMS = 5.0
_MOST_SKILL = 0.9999
_ROUNDS = 200

Reals = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NoiseCeiling:
    """The ceiling, or why there is none.

    Attributes:
        estimate: expected accuracy of a model that is always right, as measured against these labels, with a
            95% interval for sampling error; None where redundant votes are missing.
        method: how it was estimated.
        items: examples with two votes or more of the deciding source.
        reason: one sentence when ``estimate`` is None, else empty.
    """

    estimate: Estimate | None
    method: str
    items: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Votes:
    """Votes as codes, shape (votes,) each, and the settled class of every item, shape (items,)."""

    item: Codes
    annotator: Codes
    label: Codes
    settled: Codes
    annotators: int
    classes: int
    paired: NDArray[np.bool_]


def noise_ceiling(
    examples: pl.DataFrame,
    labels: pl.DataFrame,
    policy: LabelPolicy,
    *,
    role: str = "golden",
    minimum: int = MINIMUM_ITEMS,
) -> NoiseCeiling:
    """How right the consensus labels of one role are, from votes that were given twice or more.

    Source: the one-coin model of Dawid and Skene (1979); the annotators' skills are the rank-one fit of their
    pairwise agreements that Ma et al. (2018, "Gradient descent for sparse rank-one matrix completion for
    crowd-sourced aggregation") show to recover them, shrunk towards the mean where two people share few
    items. The ceiling is the mean posterior probability of the settled labels; its interval is a jackknife
    over 20 blocks of examples.

    Votes are taken to be wrong independently and evenly over the other classes. Mistakes that everybody makes
    on the same hard item leave no trace in agreement, so on hard tasks the figure is an upper bound.

    Args:
        examples, labels: rows of the two tables.
        role: whose labels the model is measured against.
        minimum: examples with two votes or more that are needed.
    """
    votes = _encode(examples, labels, policy, role)
    items = int(np.count_nonzero(np.bincount(votes.item[votes.paired]) >= 2)) if votes.item.size else 0
    if items < minimum:
        reason = f"{items} {role} examples have two votes or more and {minimum} are needed."
        return NoiseCeiling(None, METHOD, items, reason)
    if votes.classes < 2:
        return NoiseCeiling(None, METHOD, items, f"All {role} votes name one class.")
    n = len(votes.settled)
    block = np.arange(n) % _BLOCKS
    value = _expected_accuracy(votes, np.ones(n, dtype=bool))
    left_out = np.array([_expected_accuracy(votes, block != one) for one in range(_BLOCKS)])
    spread = np.sqrt((_BLOCKS - 1) / _BLOCKS * np.sum((left_out - left_out.mean()) ** 2))
    half = float(special.stdtrit(_BLOCKS - 1, 0.975) * spread)
    return NoiseCeiling(Estimate(value, max(0.0, value - half), min(1.0, value + half), n), METHOD, items)


def _encode(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy, role: str) -> _Votes:
    """The deciding source's votes on every settled example of ``role``, in order of example id."""
    settled = consensus(examples, labels, policy).filter(pl.col("role") == role).sort("example_id")
    final = settled.select(*KEY, "source", pl.col("label").alias("settled"))
    votes = votes_on(examples, labels, policy).join(final, on=KEY)
    votes = votes.filter(pl.col("family") == pl.col("source")).sort("example_id")
    # A senior sees disagreements only; pairing those votes would make everybody look worse than they are.
    who = pl.when("escalation").then(pl.lit("senior")).otherwise(pl.lit("annotator"))
    names = votes.select(who=pl.concat_str(who, "label_source", pl.col("annotator_id").fill_null("")))["who"]
    classes = {label: code for code, label in enumerate(sorted({*votes["label"], *settled["label"]}))}
    return _Votes(
        item=(votes["example_id"].rank("dense").to_numpy() - 1).astype(np.int64),
        annotator=(names.rank("dense").to_numpy() - 1).astype(np.int64),
        label=np.array([classes[label] for label in votes["label"]], dtype=np.int64),
        settled=np.array([classes[label] for label in settled["label"]], dtype=np.int64),
        annotators=names.n_unique(),
        classes=len(classes),
        paired=~votes["escalation"].to_numpy(),
    )


def _expected_accuracy(votes: _Votes, included: NDArray[np.bool_]) -> float:
    """Mean posterior probability of the settled labels of the ``included`` items."""
    chosen = included[votes.item]
    skill = _skills(votes, chosen)
    k = votes.classes
    right = (skill * (k - 1) + 1) / k
    odds = np.log(right * (k - 1) / (1 - right))
    prior = np.bincount(votes.settled[included], minlength=k) + 1.0
    prior /= prior.sum()
    n = len(votes.settled)
    item, label = votes.item[chosen], votes.label[chosen]
    # A class nobody voted for keeps its prior weight; its log odds are zero.
    logs = np.bincount(item * k + label, weights=odds[votes.annotator[chosen]], minlength=n * k)
    weights = np.exp(logs.reshape(n, k)) * prior
    posterior = weights[np.arange(n), votes.settled] / weights.sum(axis=1)
    return float(posterior[included].mean())


def _skills(votes: _Votes, chosen: NDArray[np.bool_]) -> Reals:
    """Skill of each annotator, shape (annotators,): 0 guesses, 1 is always right.

    Agreement a of two annotators among k classes satisfies (k a - 1) / (k - 1) = skill x skill.
    """
    a, k = votes.annotators, votes.classes
    shared, agreed = _pairs(votes, chosen & votes.paired)
    product = (k * agreed - shared) / (k - 1)
    overall = float(np.sqrt(np.clip(product.sum() / max(shared.sum(), 1.0), 0.0, _MOST_SKILL**2)))
    skill = np.full(a, overall)
    anchor = _PRIOR_ITEMS * overall**2
    for _ in range(_ROUNDS):
        updated = (product @ skill + anchor * overall) / np.maximum(shared @ skill**2 + anchor, 1e-12)
        updated = np.clip(updated, 0.0, _MOST_SKILL)
        moved = float(np.abs(updated - skill).max())
        skill = 0.5 * (skill + updated)
        if moved < 1e-9:
            break
    return skill


def _pairs(votes: _Votes, chosen: NDArray[np.bool_]) -> tuple[Reals, Reals]:
    """Items each pair of annotators shares, and those they agree on; both of shape (annotators, annotators).

    Unnamed votes of one source are one annotator here, who may therefore be paired with himself.
    """
    a = votes.annotators
    frame = pl.DataFrame(
        {"item": votes.item[chosen], "who": votes.annotator[chosen], "label": votes.label[chosen]}
    ).with_row_index("row")
    both = frame.join(frame, on="item").filter(pl.col("row") != pl.col("row_right"))
    cell = (both["who"].to_numpy() * a + both["who_right"].to_numpy()).astype(np.int64)
    agree = (both["label"] == both["label_right"]).to_numpy().astype(np.float64)
    shared = np.bincount(cell, weights=np.ones(len(cell)), minlength=a * a).reshape(a, a)
    agreed = np.bincount(cell, weights=agree, minlength=a * a).reshape(a, a)
    return np.asarray(shared, dtype=np.float64), np.asarray(agreed, dtype=np.float64)
