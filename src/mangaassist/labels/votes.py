"""What stands now in two append-only tables: the newest statement of every annotator, every example once."""

from __future__ import annotations

import polars as pl

from mangaassist.core.errors import InputError

VOTE_KEY = ("example_id", "role", "label_source", "annotator_id")
"""Who said it about what; a later ``label_version`` of the same key replaces what was said before."""


def with_metadata(labels: pl.DataFrame) -> pl.DataFrame:
    """``labels`` with what their metadata says as columns.

    Adds role (null: speaks about every role of the example), escalation, holdout (False for votes whose lot
    was accepted but may not enter a hold-out) and held (True for votes of an annotator who was paused).
    """
    metadata = pl.col("metadata")
    return labels.with_columns(
        role=metadata.str.json_path_match("$.role"),
        escalation=metadata.str.json_path_match("$.escalation").eq_missing("true"),
        holdout=metadata.str.json_path_match("$.holdout").ne_missing("false"),
        held=metadata.str.json_path_match("$.held").eq_missing("true"),
    )


def erased(labels: pl.DataFrame) -> pl.Series:
    """Ids of the examples that somebody had taken out for good: no later vote brings them back."""
    marked = pl.col("metadata").str.contains('"erased":true', literal=True)
    return labels.filter(marked & (pl.col("review_status") == "withdrawn"))["example_id"].unique()


def current_votes(labels: pl.DataFrame) -> pl.DataFrame:
    """The votes that stand: every key at its newest version, withdrawn and erased ones left out.

    A named annotator has one vote on an example, the last one given. Anonymous votes of one version all
    count, because they may come from different people: a file with the same text under two labels is a
    conflict to resolve, not a correction.

    Args:
        labels: rows of the labels table in any order; all versions together.

    Returns:
        The table's columns plus those of :func:`with_metadata`, sorted: equal tables give equal frames.
    """
    votes = with_metadata(labels.filter(~pl.col("example_id").is_in(erased(labels).implode())))
    newest = votes.filter(pl.col("label_version") == pl.col("label_version").max().over(VOTE_KEY))
    ordered = newest.sort(*VOTE_KEY, "labeled_at", "label", "confidence", "metadata", nulls_last=True)
    last = ordered.select(pl.struct(VOTE_KEY).is_last_distinct()).to_series()
    stands = (pl.col("review_status") != "withdrawn") & (pl.col("annotator_id").is_null() | last)
    return ordered.filter(stands)


def current_examples(examples: pl.DataFrame) -> pl.DataFrame:
    """Each example once per role, as it was last captured.

    A text that returns week after week stays inside a sliding window that way.

    Args:
        examples: rows of the examples table in any order.
    """
    order = ("role", "example_id", "captured_at", "ingested_at", "group_id", "text", "attributes")
    return examples.sort(*order).unique(["role", "example_id"], keep="last", maintain_order=True)


def one_example(ids: pl.Series, given: str) -> str:
    """The one of ``ids`` that is ``given`` or starts with it.

    Raises:
        InputError: when none does, or several do.
    """
    known = ids.unique()
    found = known.filter(known.str.starts_with(given)).sort() if given else known.clear()
    if len(found) != 1:
        raise InputError(
            "example",
            expected="an example id, or enough of its first characters",
            got=f"{given!r}, which fits {len(found) or 'none'} of {len(known):,}",
            next_step="Copy it from 'mangaassist labels queue NAME' or 'mangaassist labels report NAME'.",
        )
    return str(found[0])
