"""Taking back what was said: one vote, or a whole source to its version before (LAB-6, LAB-8).

Nothing is overwritten. A change is a new record with a higher label version, and the ledger says who and why.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.story import Story
from mangaassist.labels.intake import Batch, LabelStore
from mangaassist.labels.records import LABELS_TABLE, Label, labels_frame
from mangaassist.labels.votes import VOTE_KEY, current_votes, with_metadata


def edit(
    store: LabelStore, story: Story, vote: Label, *, actor: str, reason: str, withdraw: bool = False
) -> Batch:
    """Say something else in the name of the annotator of ``vote``, or take back what was said.

    Raises:
        InputError: without a reason, or when that annotator has no vote on that example.
    """
    _check_reason(reason)
    standing = current_votes(store.labels(story)).filter(
        (pl.col("example_id") == vote.example_id)
        & (pl.col("label_source") == vote.source)
        & pl.col("annotator_id").eq_missing(pl.lit(vote.annotator_id, pl.String()))
        & pl.col("role").eq_missing(pl.lit(vote.role, pl.String()))
    )
    if standing.is_empty():
        raise InputError(
            "label",
            expected=f"a standing vote of {vote.source}/{vote.annotator_id or 'anonymous'}",
            got=f"none on example {vote.example_id[:12]}",
            next_step="Check the example, the source and the annotator.",
        )
    status = "withdrawn" if withdraw else "qa_passed"
    frame = labels_frame([replace(vote, labeled_at=store.clock.now())], model_target=story.name)
    about = {
        "change": "withdrawn" if withdraw else "edited",
        "reason": reason,
        "before": sorted(standing["label"].to_list()),
        "after": None if withdraw else vote.label,
        "example_id": vote.example_id,
    }
    restated = frame.with_columns(review_status=pl.lit(status))
    return store.restate(story, restated, actor=actor, about=about)


def roll_back_source(store: LabelStore, story: Story, source: str, *, actor: str, reason: str) -> Batch:
    """Undo the newest label version of ``source``: every vote in it becomes what it was before, or goes.

    What a rule set or a prompt below the precision floor calls for (LAB-6).

    Raises:
        InputError: without a reason, or for a source without labels.
    """
    _check_reason(reason)
    labels = store.labels(story)
    own = with_metadata(labels).filter(pl.col("label_source") == source)
    if own.is_empty():
        known = labels["label_source"].unique().to_list()
        raise InputError(
            "label source", expected="one that has labels", got=repr(source), next_step=nearest(source, known)
        )
    last = pl.col("label_version") == pl.col("label_version").max()
    newest, earlier = own.filter(last), own.filter(~last)
    touched = newest.select(VOTE_KEY).unique()
    before = earlier.join(touched, on=list(VOTE_KEY), how="semi", nulls_equal=True)
    restored = before.filter(pl.col("label_version") == pl.col("label_version").max().over(VOTE_KEY))
    gone = newest.join(restored, on=list(VOTE_KEY), how="anti", nulls_equal=True)
    withdrawn = gone.with_columns(review_status=pl.lit("withdrawn"))
    rows = pl.concat([restored, withdrawn]).select(list(LABELS_TABLE))
    about = {
        "change": "rolled back",
        "reason": reason,
        "source": source,
        "restored": restored.height,
        "withdrawn": withdrawn.height,
    }
    return store.restate(story, rows, actor=actor, about=about)


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise InputError("reason", expected="why", got="nothing", next_step="Say why.")
