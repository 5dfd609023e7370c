"""Many votes, one label: by priority of sources, by majority of them, or by a model of everybody's errors.

Every tie says how it was broken, and an escalation wins whatever the policy.
"""

from __future__ import annotations

from contextlib import suppress

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.story import Combination, LabelPolicy
from mangaassist.labels.agreement import crowd_labels
from mangaassist.labels.records import EXAMPLE_COLUMNS, family
from mangaassist.labels.votes import current_examples, current_votes

KEY = ["example_id", "role"]
SETTLED = ("unanimous", "majority", "escalation", "model")
"""Ways of reaching a label that leave no doubt which one is meant."""
MODEL_SURE = 0.90
"""Posterior from which the model's label is settled."""

_ESCALATED = -1
_EVERYBODY = pl.col("label").is_not_null()
_DECIDED = [*KEY, "label", "source", "votes", "agreement", "sources", "resolved_by", "holdout_eligible"]


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
        targets.join(known.drop_nulls("family"), on="example_id", maintain_order="left_right")
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

    An escalation wins. Otherwise, by the policy's combination:

    priority: the first source of the policy that voted decides, by majority among its votes. Ties go to the
        larger summed confidence (a vote without one counts 1), then to the label most votes of any source
        support, then to the alphabetically first: never to chance or file order.
    majority: every source has one vote, the label its own votes settle on; a source that is of two minds has
        none. Ties go to the label of the first source of the policy.
    model: the most probable label given every annotator's errors, estimated from all votes at once
        (:func:`mangaassist.labels.agreement.crowd_labels`).

    Returns:
        :data:`EXAMPLE_COLUMNS`, sorted by role, capture time and id. ``votes`` and ``agreement`` (share of
        them equal to the label) count the deciding source, or all votes under majority and model; ``source``
        is the first family behind the label, ``sources`` are all that voted; ``resolved_by`` is unanimous,
        majority, escalation or model, or for labels in doubt confidence, other_sources, order, priority or
        improbable; ``holdout_eligible`` is False for flagged lots and for labels in doubt.
    """
    votes = votes_on(examples, labels, policy)
    decided = _decide(votes, policy.combination)
    return (
        current_examples(examples)
        .join(decided, on=KEY)
        .select(EXAMPLE_COLUMNS)
        .sort("role", "captured_at", "example_id")
    )


def _decide(votes: pl.DataFrame, combination: Combination) -> pl.DataFrame:
    """One row per example and role: the winning label and how it won."""
    if combination == "priority":
        return _by_priority(votes)
    senior = (pl.col("tier") == _ESCALATED).any().over(KEY)
    rest = votes.filter(~senior)
    combined = _by_majority(rest) if combination == "majority" else _by_model(rest)
    return pl.concat([_by_priority(votes.filter(senior)), combined])


def _by_priority(votes: pl.DataFrame) -> pl.DataFrame:
    """The first source decides."""
    deciding = votes.filter(pl.col("tier") == pl.col("tier").min().over(KEY))
    winner = _winner(deciding, votes, KEY)
    return _with_turnout(winner, votes, pl.col("family") == pl.col("source"))


def _by_majority(votes: pl.DataFrame) -> pl.DataFrame:
    """Every source that has made up its mind has one vote; where none has, the first decides."""
    voices = _winner(votes, votes, [*KEY, "source"]).filter(pl.col("resolved_by").is_in(SETTLED))
    ballot = (
        voices.sort("tier")
        .group_by([*KEY, "label"], maintain_order=True)
        .agg(count=pl.len(), tier=pl.col("tier").first(), source=pl.col("source").first())
        .sort(*KEY, "count", "tier", descending=[False, False, True, False])
    )
    resolved = (
        pl.when(~_contested(KEY))
        .then(pl.lit("unanimous"))
        .when(pl.col("count") > pl.col("count").shift(-1))
        .then(pl.lit("majority"))
        .otherwise(pl.lit("priority"))
    )
    winner = ballot.with_columns(resolved_by=resolved).unique(KEY, keep="first", maintain_order=True)
    undecided = votes.join(winner, on=KEY, how="anti")
    return pl.concat([_with_turnout(winner, votes, _EVERYBODY), _by_priority(undecided)])


def _by_model(votes: pl.DataFrame) -> pl.DataFrame:
    """The most probable label under Dawid and Skene's model; an unnamed voter counts as the source itself."""
    item = pl.concat_str([pl.col(name) for name in KEY], separator="/")
    voter = pl.concat_str([pl.col("label_source"), pl.col("annotator_id").fill_null("")], separator="/")
    said = votes.select(*KEY, "label", "family", "tier", item.alias("item"), voter.alias("voter"))
    crowd = crowd_labels(said.select("label", example_id="item", annotator_id="voter"))
    best = crowd.select(item="example_id", chosen="dawid_skene", probability="probability")
    supports = pl.col("label") == pl.col("chosen")
    winner = (
        said.join(best, on="item")
        .sort(*KEY, ~supports, "tier", "family")
        .group_by(KEY, maintain_order=True)
        .agg(
            label=pl.col("chosen").first(),
            source=pl.col("family").first(),
            resolved_by=pl.when(supports.all())
            .then(pl.lit("unanimous"))
            .when(pl.col("probability").first() >= MODEL_SURE)
            .then(pl.lit("model"))
            .otherwise(pl.lit("improbable")),
        )
    )
    return _with_turnout(winner, votes, _EVERYBODY)


def _winner(deciding: pl.DataFrame, votes: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The label most of the ``deciding`` votes give per ``key``, and how it won."""
    support = votes.group_by([*KEY, "label"]).agg(anywhere=pl.len())
    ballot = (
        deciding.with_columns(source="family")
        .group_by([*dict.fromkeys([*key, "label"])])
        .agg(
            count=pl.len(),
            # Rounded, because the order of a floating-point sum must not decide a tie.
            weight=pl.col("confidence").fill_null(1.0).sum().round(9),
            tier=pl.col("tier").first(),
            **({} if "source" in key else {"source": pl.col("source").first()}),
        )
        .join(support, on=[*KEY, "label"])
        .sort(
            *key,
            "count",
            "weight",
            "anywhere",
            "label",
            descending=[*(False for _ in key), True, True, True, False],
        )
    )
    return ballot.with_columns(resolved_by=_resolution(key)).unique(key, keep="first", maintain_order=True)


def _with_turnout(winner: pl.DataFrame, votes: pl.DataFrame, own: pl.Expr) -> pl.DataFrame:
    return (
        winner.join(_turnout(votes, winner, own), on=KEY)
        .with_columns(holdout_eligible=pl.col("untainted") & pl.col("resolved_by").is_in(SETTLED))
        .select(_DECIDED)
    )


def _contested(key: list[str]) -> pl.Expr:
    """Whether the next row of a ballot sorted by ``key`` is a runner-up."""
    return pl.all_horizontal(pl.col(name) == pl.col(name).shift(-1) for name in key).fill_null(value=False)


def _resolution(key: list[str]) -> pl.Expr:
    """How the first row of each ``key`` beat the second; only meaningful on first rows of a sorted ballot."""
    ahead = {name: pl.col(name) > pl.col(name).shift(-1) for name in ("count", "weight", "anywhere")}
    return (
        pl.when(pl.col("tier") == _ESCALATED)
        .then(pl.lit("escalation"))
        .when(~_contested(key))
        .then(pl.lit("unanimous"))
        .when(ahead["count"])
        .then(pl.lit("majority"))
        .when(ahead["weight"])
        .then(pl.lit("confidence"))
        .when(ahead["anywhere"])
        .then(pl.lit("other_sources"))
        .otherwise(pl.lit("order"))
    )


def _turnout(votes: pl.DataFrame, winner: pl.DataFrame, own: pl.Expr) -> pl.DataFrame:
    """The votes that count (``own``), the share of them that agrees with the label, and who voted at all."""
    chosen = winner.select(*KEY, pl.col("label").alias("chosen"), "source")
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
