"""Labels from what shoppers did, corrected for where they looked (LAB-3, LAB-8).

One label per query and item. Under the position-based model a click divided by the examination of its
position is an unbiased count of interest among all times the pair was shown; what remains of those times
speaks, weakly, against the item. Nothing uncorrected becomes a label: clicks where the examination is not
known are left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mangaassist.core.identity import canonical_text, digest, example_id
from mangaassist.core.language import Language
from mangaassist.core.story import ImplicitPolicy, Story
from mangaassist.labels.propensities import PLACE, Correction
from mangaassist.labels.records import (
    LABELS_TABLE,
    Example,
    Label,
    examples_frame,
    frame_schema,
    labels_frame,
)
from mangaassist.labels.votes import current_votes, erased

SOURCE = "implicit"
ANNOTATOR = "shoppers"
"""All shoppers together are one annotator: their next statement about a pair replaces the one before."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the shown rows add up to.

    Attributes:
        pairs: one row per pair: example_id, query, item, language, captured_at (last shown), shown, clicks,
            purchases (kept), returns, positions, mean_weight, in_favour, against, confidence, and label,
            null where undecided.
        immature: rows whose maturity has not passed.
        uncorrected: rows at positions without a usable examination.
        unclear: clicks that say nothing: a look of middling or unknown length.
    """

    pairs: pl.DataFrame
    immature: int
    uncorrected: int
    unclear: int


def mature(rows: pl.DataFrame, policy: ImplicitPolicy, *, as_of: datetime) -> pl.DataFrame:
    """The rows inside the window whose acts have been waited for long enough."""
    return rows.filter((pl.col("at") > as_of - policy.window) & (pl.col("at") <= as_of - policy.maturity))


def count(rows: pl.DataFrame, found: Sequence[Correction], story: Story, *, as_of: datetime) -> Counted:
    """The corrected weight for and against every pair of query and item.

    A row at a position with weight w = 1 / examination adds its grade x w to one side. Being left alone adds
    ``policy.left`` x (1 - w x clicked) against, over all rows of the pair: what its corrected clicks leave of
    the times it was shown, never below 0 in sum.

    Args:
        rows: of :class:`mangaassist.labels.exposures.Shown`.
    """
    policy = story.labels.implicit
    ripe = mature(rows, policy, as_of=as_of)
    usable = _weights(found)
    weighed = ripe.join(usable, on=[*PLACE, "position"], how="inner").with_columns(grade=_grade(policy))
    gain = pl.col("grade") * pl.col("weight")
    alone = (1.0 - pl.col("weight") * pl.col("clicked").cast(pl.Float64())).sum()
    pairs = (
        _identified(weighed, story)
        .sort("at", "request_id", "position")
        .group_by("example_id", maintain_order=True)
        .agg(
            pl.col("query", "item").last(),
            language=pl.col("language").last(),
            captured_at=pl.col("at").last(),
            shown=pl.len(),
            clicks=pl.col("clicked").sum(),
            purchases=(pl.col("purchased") & ~pl.col("returned")).sum(),
            returns=pl.col("returned").sum(),
            positions=pl.col("position").unique().sort(),
            mean_weight=pl.col("weight").mean(),
            in_favour=gain.clip(lower_bound=0.0).sum(),
            against=-gain.clip(upper_bound=0.0).sum() + policy.left * alone.clip(lower_bound=0.0),
        )
    )
    unclear = ripe.filter(pl.col("clicked") & (_grade(policy) == 0.0)).height
    late = rows.filter(pl.col("at") > as_of - policy.maturity).height
    decided = _decide(pairs, policy).sort("example_id")
    return Counted(decided, late, ripe.height - weighed.height, unclear)


def _identified(rows: pl.DataFrame, story: Story) -> pl.DataFrame:
    """With ``example_id``: two spellings of one query are one example."""
    pairs = rows.select("query", "item").unique()
    texts = (pair_text(query, item) for query, item in pairs.rows())
    identities = [example_id(text, story.name) for text in texts]
    return rows.join(
        pairs.with_columns(example_id=pl.Series(identities, dtype=pl.String())), on=["query", "item"]
    )


def _weights(found: Sequence[Correction]) -> pl.DataFrame:
    """The weight of every position that may be corrected with."""
    rows = [
        (one.surface, one.device, one.position, one.weight)
        for correction in found
        if correction.verdict.passed
        for one in correction.propensities
        if one.usable
    ]
    schema = {"surface": pl.String(), "device": pl.String(), "position": pl.Int32(), "weight": pl.Float64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _grade(policy: ImplicitPolicy) -> pl.Expr:
    """What the strongest act on a row says: above 0 for the item, below against, 0 nothing."""
    dwell = pl.col("dwell_ms")
    return (
        pl.when("returned")
        .then(-policy.returned)
        .when("purchased")
        .then(policy.purchase)
        .when("cart")
        .then(policy.cart)
        .when(dwell >= _milliseconds(policy.satisfied))
        .then(policy.click)
        .when(dwell < _milliseconds(policy.quick_back))
        .then(-policy.quick)
        .otherwise(0.0)
    )


def _milliseconds(span: timedelta) -> float:
    return span.total_seconds() * 1000.0


def _decide(pairs: pl.DataFrame, policy: ImplicitPolicy) -> pl.DataFrame:
    """The label the larger weight speaks for, where there is enough of it."""
    total = pl.col("in_favour") + pl.col("against")
    larger = pl.max_horizontal("in_favour", "against")
    confidence = pl.when(total > 0).then((larger / total).round(6))
    enough = (pl.col("shown") >= policy.least_shown) & (pl.col("confidence") >= policy.least_confidence)
    side = (
        pl.when(pl.col("in_favour") > pl.col("against"))
        .then(pl.lit(policy.relevant))
        .otherwise(pl.lit(policy.irrelevant))
    )
    return pairs.with_columns(confidence=confidence).with_columns(label=pl.when(enough).then(side))


def pair_text(query: str, item: str) -> str:
    """A query and an item as the one text an example has."""
    return f"{query} ⇒ {item}"


def statements(
    counted: Counted, story: Story, *, as_of: datetime, evidence: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The examples and labels of the decided pairs, as the two tables hold them.

    A label's confidence is its share of the pair's corrected weight. Examples of one query are one group.

    Args:
        evidence: digest of the propensities, written into every label.
    """
    decided = counted.pairs.drop_nulls("label")
    examples, labels = [], []
    for row in decided.iter_rows(named=True):
        text = pair_text(row["query"], row["item"])
        captured = row["captured_at"]
        attributes = {"query": row["query"], "item": row["item"]}
        group = digest(["query", canonical_text(row["query"])])[:32]
        examples.append(Example(text, captured, "train", Language(row["language"]), group, attributes))
        labels.append(
            Label(
                row["example_id"],
                row["label"],
                SOURCE,
                captured,
                as_of,
                row["confidence"],
                ANNOTATOR,
                role="train",
                metadata=_metadata(row, evidence),
            )
        )
    pairs = examples_frame(examples, model_target=story.name, ingested_at=as_of)
    return pairs, labels_frame(labels, model_target=story.name)


def _metadata(row: dict[str, Any], evidence: str) -> dict[str, Any]:
    return {
        "positions": row["positions"],
        "mean_weight": round(row["mean_weight"], 6),
        "events": {name: row[name] for name in ("shown", "clicks", "purchases", "returns")},
        "in_favour": round(row["in_favour"], 6),
        "against": round(row["against"], 6),
        "propensities": evidence,
    }


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new against the standing labels.

    Attributes:
        labels: rows to append: new and changed statements, and withdrawn ones whose pair has no label now.
        added, revised, withdrawn: how many; revised ones name another label than before.
        repeated: how many state the same label on changed evidence.
    """

    labels: pl.DataFrame
    added: int
    revised: int
    repeated: int
    withdrawn: int


def changes(labels: pl.DataFrame, stated: pl.DataFrame) -> Changes:
    """``stated`` against the implicit labels that stand in ``labels`` (rows of the labels table).

    A pair somebody had taken out for good stays out.
    """
    stated = stated.filter(~pl.col("example_id").is_in(erased(labels).implode()))
    standing = current_votes(labels).filter(
        (pl.col("label_source") == SOURCE) & (pl.col("annotator_id") == ANNOTATOR)
    )
    before = standing.select("example_id", was="label", metadata_was="metadata")
    compared = stated.join(before, on="example_id", how="left")
    news = compared.filter(
        pl.col("was").is_null()
        | (pl.col("label") != pl.col("was"))
        | (pl.col("metadata") != pl.col("metadata_was"))
    )
    gone = standing.join(stated, on="example_id", how="anti").with_columns(review_status=pl.lit("withdrawn"))
    rows = pl.concat([news.select(list(LABELS_TABLE)), gone.select(list(LABELS_TABLE))])
    added = news.filter(pl.col("was").is_null()).height
    revised = news.filter(pl.col("label") != pl.col("was")).height
    return Changes(
        rows.cast(frame_schema(LABELS_TABLE)), added, revised, news.height - added - revised, gone.height
    )


def evidence_digest(found: Sequence[Correction], policy: ImplicitPolicy, excluded: Sequence[str]) -> str:
    """Identity of what labels were corrected with."""
    body = [one.as_dict() for one in found]
    rules = {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in asdict(policy).items()
    }
    return digest([body, rules, sorted(excluded)])
