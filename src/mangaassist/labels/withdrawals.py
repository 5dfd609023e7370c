"""Examples taken out for good, as a person may ask: gone from every future version, never from the record.

What was finalised before stays as it was, so that a model can still be explained; which models those are is
what :mod:`mangaassist.lifecycle.label_impact` answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_json, digest
from mangaassist.core.story import Story
from mangaassist.labels.intake import Batch, LabelStore
from mangaassist.labels.records import ANY_SOURCE, LABELS_TABLE, Label, attribute, labels_frame
from mangaassist.labels.votes import VOTE_KEY, current_examples, current_votes, erased

_NOBODY = "withdrawal"
"""What the record of an example that nobody had labelled says it is."""


def withdraw(
    store: LabelStore,
    story: Story,
    example_ids: Sequence[str],
    *,
    actor: str,
    reason: str,
    user: str | None = None,
) -> Batch:
    """Take examples out for good: what was said becomes a withdrawn record, later votes count for nothing.

    Args:
        example_ids: full ids of examples of ``story``.
        user: whose request it was; the ledger keeps a digest of it, never the id itself.

    Raises:
        InputError: without a reason, or when none of the examples is there to withdraw.
    """
    if not reason.strip():
        raise InputError("--reason", expected="why", got="nothing", next_step="Add --reason TEXT.")
    examples, labels = store.examples(story), store.labels(story)
    gone = set(erased(labels))
    wanted = sorted(set(example_ids) & set(examples["example_id"]) - gone)
    if not wanted:
        raise InputError(
            "example",
            expected=f"one of '{story.name}' that is not withdrawn yet",
            got=f"{len(set(example_ids) & gone)} of {len(set(example_ids))} withdrawn, the others unknown",
            next_step="Nothing is left to do if all of them are withdrawn.",
        )
    standing = current_votes(labels).filter(pl.col("example_id").is_in(wanted))
    voted = standing.unique(VOTE_KEY, keep="first", maintain_order=True)
    rows = pl.concat([voted.select(list(LABELS_TABLE)), _unvoted(store, story, wanted, voted)])
    about = {
        "change": "withdrawn",
        "reason": reason,
        "examples": wanted,
        "votes": standing.height,
        "user": digest(user) if user is not None else None,
    }
    marked = rows.with_columns(review_status=pl.lit("withdrawn"), metadata=_erased())
    return store.restate(story, marked, actor=actor, about=about)


def _unvoted(store: LabelStore, story: Story, wanted: Sequence[str], voted: pl.DataFrame) -> pl.DataFrame:
    """Records for examples without votes, so that labels still on their way find the door closed."""
    silent = current_examples(store.examples(story)).filter(
        pl.col("example_id").is_in(wanted) & ~pl.col("example_id").is_in(voted["example_id"].implode())
    )
    first = story.labels.sources[0]
    source = _NOBODY if first == ANY_SOURCE else first
    marks = [
        Label(row["example_id"], _NOBODY, source, row["captured_at"], store.clock.now())
        for row in silent.unique("example_id", maintain_order=True).iter_rows(named=True)
    ]
    return labels_frame(marks, model_target=story.name)


def _erased() -> pl.Expr:
    def rewrite(metadata: str) -> str:
        return canonical_json({**orjson.loads(metadata), "erased": True}).decode()

    return pl.col("metadata").map_elements(rewrite, return_dtype=pl.String())


def examples_of(store: LabelStore, story: Story, user: str) -> list[str]:
    """Ids of the examples a user gave: by their ``user_id`` attribute, or as their own group.

    Raises:
        InputError: when there are none.
    """
    own = store.examples(story).filter((attribute("user_id") == user) | (pl.col("group_id") == user))
    if own.is_empty():
        raise InputError(
            "--user",
            expected=f"somebody whose examples '{story.name}' holds",
            got="nobody by that id",
            next_step="Check the id; examples carry it as user_id or as their group.",
        )
    return own["example_id"].unique().sort().to_list()
