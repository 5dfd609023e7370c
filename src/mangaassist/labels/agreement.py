"""Chance-corrected agreement of rotating annotators on the items that several of them saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.stats import pairwise
from mangaassist.stats.agreement import alpha_of_votes, dawid_skene, majority
from mangaassist.stats.intervals import Estimate

MINIMUM_ANNOTATORS = 3
_SEED = 20_261_005
"""Of the bootstrap behind alpha's interval: the same votes always give the same interval."""


def multiply_annotated(votes: pl.DataFrame, *, annotators: int = MINIMUM_ANNOTATORS) -> pl.DataFrame:
    """The votes on items that at least so many named annotators saw.

    Args:
        votes: columns example_id, annotator_id, label; one row per annotator and item at most.
    """
    named = votes.drop_nulls("annotator_id")
    return named.filter(pl.len().over("example_id") >= annotators)


def pairwise_kappa(votes: pl.DataFrame, *, level: float = 0.95) -> Estimate | None:
    """:func:`mangaassist.stats.pairwise.pairwise_kappa` of a frame of votes.

    Args:
        votes: columns example_id, annotator_id (named) and label; one row per annotator and item.
    """
    if votes.is_empty():
        return None
    coded = _coded(votes.select("example_id", "annotator_id", "label").unique(maintain_order=True))
    return pairwise.pairwise_kappa(
        coded.item,
        coded.worker,
        coded.label,
        n_items=len(coded.items),
        n_workers=len(coded.workers),
        n_classes=len(coded.classes),
        level=level,
    )


def alpha(votes: pl.DataFrame, *, level: float = 0.95) -> Estimate | None:
    """Krippendorff's alpha of a frame of votes; None where kappa has no value either.

    Args:
        votes: as :func:`pairwise_kappa`.
    """
    shared = votes.filter(pl.len().over("example_id") > 1)
    if shared.n_unique("example_id") < 2 or shared.n_unique("label") < 2:
        return None
    coded = _coded(shared)
    return alpha_of_votes(
        coded.item,
        coded.label,
        n_items=len(coded.items),
        n_classes=len(coded.classes),
        generator=np.random.default_rng(_SEED),
        level=level,
    )


def crowd_labels(votes: pl.DataFrame) -> pl.DataFrame:
    """What the crowd says about each item, by majority and by Dawid and Skene's model of its errors.

    Args:
        votes: as :func:`pairwise_kappa`.

    Returns:
        example_id, votes, majority (null on a tie), dawid_skene and its probability; sorted by id.
    """
    columns = ("example_id", "votes", "majority", "dawid_skene", "probability")
    if votes.is_empty():
        kinds = (pl.String(), pl.Int64(), pl.String(), pl.String(), pl.Float64())
        return pl.DataFrame(schema=dict(zip(columns, kinds, strict=True)))
    coded = _coded(votes)
    sizes = {"n_items": len(coded.items), "n_classes": len(coded.classes)}
    most = majority(coded.item, coded.label, **sizes)
    model = dawid_skene(coded.item, coded.worker, coded.label, n_workers=len(coded.workers), **sizes)
    best = model.posterior.argmax(axis=1)
    classes = pl.Series([*coded.classes, None], dtype=pl.String())
    return pl.DataFrame(
        {
            "example_id": coded.items,
            "votes": most.votes.sum(axis=1).astype(np.int64),
            "majority": classes.gather(np.where(most.tied, len(coded.classes), most.winner)),
            "dawid_skene": classes.gather(best),
            "probability": model.posterior.max(axis=1),
        }
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Coded:
    """Votes as codes into the sorted names."""

    items: list[str]
    workers: list[str]
    classes: list[str]
    item: NDArray[np.int64]
    worker: NDArray[np.int64]
    label: NDArray[np.int64]


def _coded(votes: pl.DataFrame) -> _Coded:
    item, worker, label = (_codes(votes[name]) for name in ("example_id", "annotator_id", "label"))
    return _Coded(item[0], worker[0], label[0], item[1], worker[1], label[1])


def _codes(column: pl.Series) -> tuple[list[str], NDArray[np.int64]]:
    """The sorted different values, and the place of each row's value among them."""
    places = column.rank("dense").cast(pl.Int64()).to_numpy() - 1
    return column.unique().sort().to_list(), places
