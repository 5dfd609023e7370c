"""What stands now in two append-only tables: the newest statement of every annotator, every example once."""

from __future__ import annotations

from collections.abc import Sequence

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
    # Few different values stand in many rows: each is parsed once.
    parsed = labels.select(metadata.unique()).with_columns(
        role=metadata.str.json_path_match("$.role"),
        escalation=metadata.str.json_path_match("$.escalation").eq_missing("true"),
        holdout=metadata.str.json_path_match("$.holdout").ne_missing("false"),
        held=metadata.str.json_path_match("$.held").eq_missing("true"),
    )
    return labels.join(parsed, on="metadata", how="left", maintain_order="left", nulls_equal=True)


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
    return _newest(labels.filter(~pl.col("example_id").is_in(erased(labels).implode())), VOTE_KEY)


def votes_of_lots(labels: pl.DataFrame, standing: pl.DataFrame) -> pl.DataFrame:
    """The votes as they were given in each lot, of lots of which anything stands.

    A text that comes back in a later lot is in both: what an annotator says there replaces the vote, and says
    nothing about the lot before. Votes taken back without another in their place are in none.

    Args:
        labels: rows of the labels table; standing: their :func:`current_votes`.
    """
    lots = standing["iaa_lot_id"].unique().implode()
    given = _newest(labels.filter(pl.col("iaa_lot_id").is_in(lots)), (*VOTE_KEY, "iaa_lot_id"))
    return given.join(standing, on=VOTE_KEY, how="semi", nulls_equal=True, maintain_order="left")


def _newest(labels: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The last word of everybody by ``key`` where it was not taken back."""
    votes = with_metadata(labels)
    newest = votes.filter(pl.col("label_version") == pl.col("label_version").max().over(key))
    ordered = newest.sort(*key, "labeled_at", "label", "confidence", "metadata", nulls_last=True)
    last = ordered.select(pl.struct(key).is_last_distinct()).to_series()
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
