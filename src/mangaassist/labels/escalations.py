"""Disagreements that wait for a senior annotator, and the word that settles them (LAB-4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.story import LabelPolicy, Story
from mangaassist.labels.intake import Batch, LabelStore
from mangaassist.labels.lots import lot_votes
from mangaassist.labels.records import Label, labels_frame
from mangaassist.labels.votes import current_examples, one_example


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One example whose annotators disagree.

    Attributes:
        example_id, text, language, lot, pool: which.
        source: label source of its votes.
        votes: (annotator, label), sorted.
        tied: whether no label has more votes than every other.
        since: when the last of the votes was given.
    """

    example_id: str
    text: str
    language: str
    lot: str
    pool: str
    source: str
    votes: tuple[tuple[str, str], ...]
    tied: bool
    since: datetime

    def as_dict(self) -> dict[str, Any]:
        """The disagreement as a JSON object."""
        return {
            "example_id": self.example_id,
            "text": self.text,
            "language": self.language,
            "lot": self.lot,
            "pool": self.pool,
            "tied": self.tied,
            "since": isoformat(self.since),
            "votes": [{"annotator": who, "label": label} for who, label in self.votes],
        }


def queue(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy) -> list[Disagreement]:
    """Every disagreement in a lot that no senior annotator has settled; ties first, then the oldest.

    Lots that were rejected are not in it: their examples are annotated again.

    Args:
        examples, labels: rows of the two tables.
    """
    votes = lot_votes(examples, labels, policy).filter(pl.col("review_status") != "qa_failed")
    key = ["example_id", "iaa_lot_id"]
    open_ = votes.filter(
        (pl.col("label").n_unique().over(key) > 1) & ~pl.col("escalation").any().over("example_id")
    )
    tally = open_.group_by(*key, "label").len()
    best = tally.filter(pl.col("len") == pl.col("len").max().over(key)).group_by(key).agg(tied=pl.len() > 1)
    texts = current_examples(examples).unique("example_id", maintain_order=True).select("example_id", "text")
    grouped = (
        open_.sort("annotator_id", "label", nulls_last=True)
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("language", "pool", "label_source").first(),
            pl.col("annotator_id").fill_null("unnamed"),
            "label",
            since=pl.col("labeled_at").max(),
        )
        .join(best, on=key)
        .join(texts, on="example_id")
        .sort(~pl.col("tied"), "since", "example_id")
    )
    return [
        Disagreement(
            row["example_id"],
            row["text"],
            row["language"],
            row["iaa_lot_id"],
            row["pool"],
            row["label_source"],
            tuple(zip(row["annotator_id"], row["label"], strict=True)),
            row["tied"],
            row["since"],
        )
        for row in grouped.iter_rows(named=True)
    ]


def settle(
    store: LabelStore, story: Story, example: str, label: str, *, actor: str, reason: str
) -> tuple[Disagreement, Batch]:
    """Let a senior annotator say what a disputed example is; their word wins over the votes.

    Args:
        example: its id, or enough of its first characters.

    Raises:
        InputError: without a reason, for an example that does not wait, or when the senior is one of those
            who disagree.
    """
    if not reason.strip():
        raise InputError("--reason", expected="why", got="nothing", next_step="Add --reason TEXT.")
    examples, labels = store.examples(story), store.labels(story)
    waiting = {one.example_id: one for one in queue(examples, labels, story.labels)}
    found = waiting[one_example(pl.Series(list(waiting), dtype=pl.String()), example)]
    if actor in {who for who, _ in found.votes}:
        raise InputError(
            "--actor",
            expected="somebody who did not vote on it",
            got=repr(actor),
            next_step="Ask another senior annotator.",
        )
    standing = lot_votes(examples, labels, story.labels).filter(
        (pl.col("example_id") == found.example_id) & (pl.col("iaa_lot_id") == found.lot)
    )
    word = Label(
        found.example_id,
        label,
        found.source,
        standing["captured_at"][0],
        store.clock.now(),
        annotator_id=actor,
        lot=found.lot,
        escalation=True,
    )
    # It counts as far as the votes it settles do: a draft until its lot is accepted.
    status = pl.lit(standing["review_status"][0])
    frame = labels_frame([word], model_target=story.name).with_columns(review_status=status)
    about = {
        "change": "settled",
        "reason": reason,
        "example_id": found.example_id,
        "votes": dict(found.votes),
        "after": label,
    }
    return found, store.restate(story, frame, actor=actor, about=about)
