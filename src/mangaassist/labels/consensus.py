"""Many votes, one label: source priority, then majority, and every tie says how it was broken."""

from __future__ import annotations

from contextlib import suppress

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.story import LabelPolicy
from mangaassist.labels.records import EXAMPLE_COLUMNS, family
from mangaassist.labels.votes import current_examples, current_votes

KEY = ["example_id", "role"]
SETTLED = ("unanimous", "majority", "escalation")
"""Ways of reaching a label that leave no doubt which one the winning source meant."""

_ESCALATED = -1


def votes_on(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy) -> pl.DataFrame:
    """The accepted votes on each example, one row per vote.

    Args:
        examples, labels: rows of the two tables, all versions, in any order.

    Returns:
        example_id, role, language, label, confidence, label_source, annotator_id, iaa_lot_id, escalation,
        holdout, family, and tier: 0 for the policy's first source and so on, -1 for an escalation.
        Only votes that passed review, of sources the policy accepts.
    """
    votes = current_votes(labels).filter(pl.col("review_status") == "qa_passed")
    return attach(examples, votes, policy)


def attach(examples: pl.DataFrame, votes: pl.DataFrame, policy: LabelPolicy) -> pl.DataFrame:
    """``votes`` joined to the examples they speak about; see :func:`votes_on` for the columns."""
    families = _families(votes, policy)
    ranks = {name: rank for rank, name in enumerate(policy.sources)}
    known = votes.rename({"role": "speaks_of"}).with_columns(
        family=pl.col("label_source").replace_strict(families, default=None, return_dtype=pl.String())
    )
    targets = current_examples(examples).select(*KEY, "language")
    tier = pl.col("family").replace_strict(ranks, default=len(ranks), return_dtype=pl.Int32())
    return (
        targets.join(known.drop_nulls("family"), on="example_id")
        .filter(pl.col("speaks_of").is_null() | (pl.col("speaks_of") == pl.col("role")))
        .with_columns(tier=pl.when("escalation").then(pl.lit(_ESCALATED, pl.Int32())).otherwise(tier))
        .drop("speaks_of")
    )


def _families(votes: pl.DataFrame, policy: LabelPolicy) -> dict[str, str]:
    """Family of every source that occurs; a source the policy no longer accepts is left out."""
    found = {}
    for source in votes["label_source"].unique():
        with suppress(InputError):
            found[source] = family(source, policy)
    return found


def consensus(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy) -> pl.DataFrame:
    """One row per labelled example and role, with the label the policy settles on.

    An escalation wins. Otherwise the first source of the policy that voted decides, by majority among its
    votes. Ties go to the larger summed confidence (a vote without one counts 1), then to the label most
    votes of any source support, then to the alphabetically first: never to chance or file order.

    Returns:
        :data:`EXAMPLE_COLUMNS`, sorted by role, capture time and id. ``votes`` and ``agreement`` (share of
        them equal to the label) count the deciding source; ``sources`` are all families that voted;
        ``resolved_by`` is unanimous, majority, escalation, confidence, other_sources or order;
        ``holdout_eligible`` is False for flagged lots and for ties.
    """
    votes = votes_on(examples, labels, policy)
    decided = _decide(votes)
    return (
        current_examples(examples)
        .join(decided, on=KEY)
        .select(EXAMPLE_COLUMNS)
        .sort("role", "captured_at", "example_id")
    )


def _decide(votes: pl.DataFrame) -> pl.DataFrame:
    """One row per example and role: the winning label and how it won."""
    deciding = votes.filter(pl.col("tier") == pl.col("tier").min().over(KEY))
    support = votes.group_by([*KEY, "label"]).agg(anywhere=pl.len())
    ballot = (
        deciding.group_by([*KEY, "label"])
        .agg(
            count=pl.len(),
            # Rounded, because the order of a floating-point sum must not decide a tie.
            weight=pl.col("confidence").fill_null(1.0).sum().round(9),
            tier=pl.col("tier").first(),
            source=pl.col("family").first(),
        )
        .join(support, on=[*KEY, "label"])
        .sort(
            *KEY, "count", "weight", "anywhere", "label", descending=[False, False, True, True, True, False]
        )
    )
    winner = ballot.with_columns(resolved_by=_resolution()).unique(KEY, keep="first", maintain_order=True)
    return winner.join(_turnout(votes, winner), on=KEY).with_columns(
        holdout_eligible=pl.col("untainted") & pl.col("resolved_by").is_in(SETTLED)
    )


def _resolution() -> pl.Expr:
    """How the first row of each example beat the second; only meaningful on first rows of a sorted ballot."""
    # The ballot is sorted by example, so the runner-up is simply the next row if it is of the same example.
    contested = pl.all_horizontal(pl.col(name) == pl.col(name).shift(-1) for name in KEY).fill_null(False)
    ahead = {name: pl.col(name) > pl.col(name).shift(-1) for name in ("count", "weight", "anywhere")}
    return (
        pl.when(pl.col("tier") == _ESCALATED)
        .then(pl.lit("escalation"))
        .when(~contested)
        .then(pl.lit("unanimous"))
        .when(ahead["count"])
        .then(pl.lit("majority"))
        .when(ahead["weight"])
        .then(pl.lit("confidence"))
        .when(ahead["anywhere"])
        .then(pl.lit("other_sources"))
        .otherwise(pl.lit("order"))
    )


def _turnout(votes: pl.DataFrame, winner: pl.DataFrame) -> pl.DataFrame:
    """Votes of the deciding source, the share that agrees with the label, and who voted at all."""
    chosen = winner.select(*KEY, pl.col("label").alias("chosen"), "source")
    own = pl.col("family") == pl.col("source")
    families = sorted(votes["family"].unique())
    counted = (
        votes.join(chosen, on=KEY)
        .group_by(KEY)
        .agg(
            own.sum().cast(pl.Int64()).alias("votes"),
            ((own & (pl.col("label") == pl.col("chosen"))).sum() / own.sum()).alias("agreement"),
            (pl.col("holdout") | ~own).all().alias("untainted"),
            *((pl.col("family") == name).any().alias(f"by.{name}") for name in families),
        )
    )
    voters: list[pl.Expr] = [pl.when(f"by.{name}").then(pl.lit(name)) for name in families]
    return counted.select(
        *KEY,
        "votes",
        "agreement",
        "untainted",
        pl.concat_str([*voters, pl.lit(None, pl.String)], separator=",", ignore_nulls=True).alias("sources"),
    )
