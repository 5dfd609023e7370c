"""Taking back what was said: one vote, or a whole source to its version before (LAB-6, LAB-8).

Nothing is overwritten. A change is a new record with a higher label version, and the ledger says who and why.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.story import Story
from mangaassist.labels.intake import Batch, LabelStore
from mangaassist.labels.labellers import SUPERSEDED_BY
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


def roll_back_source(
    store: LabelStore, story: Story, source: str, *, actor: str, reason: str, labeller: str | None = None
) -> Batch:
    """Undo what ``labeller`` said as ``source``: each example is again what it was before, or unlabelled.

    What a rule set or a prompt below the precision floor calls for (LAB-6). Its labels may fill many label
    versions; examples somebody has labelled for the same source since are left alone.

    Args:
        labeller: rule set or prompt; None undoes the newest label version of the source, whoever it was.

    Raises:
        InputError: without a reason, or for a source without labels, or nothing of that labeller in force.
    """
    _check_reason(reason)
    labels = store.labels(story)
    own = with_metadata(labels).filter(pl.col("label_source") == source)
    if own.is_empty():
        known = labels["label_source"].unique().to_list()
        raise InputError(
            "label source", expected="one that has labels", got=repr(source), next_step=nearest(source, known)
        )
    undone = _undone(own, labeller)
    if undone.is_empty():
        raise InputError(
            f"label source '{source}'",
            expected="examples on which the labeller has the last word",
            got=f"none of '{labeller}'",
            next_step="See who is in force with 'mangaassist labels audit NAME'.",
        )
    rows, restored = _as_before(own.join(undone, on="example_id"))
    about = {
        "change": "rolled back",
        "reason": reason,
        "source": source,
        "labeller": labeller,
        "restored": restored,
        "withdrawn": rows.height - restored,
    }
    return store.restate(story, rows, actor=actor, about=about)


def _undone(own: pl.DataFrame, labeller: str | None) -> pl.DataFrame:
    """example_id and the first label version to undo there, for examples where it is the last word."""
    newest = pl.col("label_version").max()
    if labeller is None:
        last = own.filter(pl.col("label_version") == newest)
        return last.group_by("example_id").agg(first=pl.col("label_version").min())
    silenced = pl.col("metadata").str.json_path_match(f"$.{SUPERSEDED_BY}").eq_missing(pl.lit(labeller))
    spoke = pl.col("annotator_id").eq_missing(pl.lit(labeller))
    gone = pl.col("review_status") == "withdrawn"
    last = own.filter(pl.col("label_version") == newest.over("example_id"))
    last_word = last.filter(silenced | (spoke & ~gone)).select("example_id").unique()
    theirs = own.filter(silenced | spoke).join(last_word, on="example_id", how="semi")
    return theirs.group_by("example_id").agg(first=pl.col("label_version").min())


def _as_before(touched: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Records that make every vote what it was before version ``first``, and how many of them restore one."""
    key, columns = list(VOTE_KEY), list(LABELS_TABLE)
    now = current_votes(touched.select(columns))
    before = current_votes(touched.filter(pl.col("label_version") < pl.col("first")).select(columns))
    restored = before.join(now.select(columns), on=columns, how="anti", nulls_equal=True)
    gone = now.join(before, on=key, how="anti", nulls_equal=True)
    withdrawn = gone.with_columns(review_status=pl.lit("withdrawn"))
    return pl.concat([restored, withdrawn]).select(columns), restored.height


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise InputError("reason", expected="why", got="nothing", next_step="Say why.")
