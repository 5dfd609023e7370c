"""Lots of labels by agreement: measured per language pool, then accepted, flagged or rejected (LAB-4)."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import orjson
import polars as pl

from mangaassist.core.identity import canonical_json, digest
from mangaassist.core.story import LabelPolicy, Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.agreement import alpha, crowd_labels, multiply_annotated, pairwise_kappa
from mangaassist.labels.consensus import attach
from mangaassist.labels.intake import Batch, LabelStore
from mangaassist.labels.overlap import MINIMUM_ITEMS, overlap_verdict, planned, with_pool
from mangaassist.labels.records import LABELS_TABLE
from mangaassist.labels.votes import current_votes, votes_of_lots
from mangaassist.stats.intervals import Estimate
from mangaassist.storage.fingerprint import fingerprint

Outcome = Literal["accepted", "flagged", "rejected", "unmeasured"]

_VOTE = ("example_id", "annotator_id", "label", "escalation")
_PLAN = ("example_id", "annotations")


@dataclass(frozen=True, slots=True)
class LotReview:
    """The agreement of one lot in one language pool.

    Attributes:
        lot, pool: which.
        kappa: over its triple-annotated items, the planned ones where it was planned; None where there were
            too few or one class only.
        alpha: Krippendorff's, on the same votes.
        items: triple-annotated items; examples: all items of the lot in that pool.
        unsettled: items whose annotators disagree without a majority and without an escalation.
        differing: items on which Dawid and Skene's model names another label than the majority.
        overlap: planned against delivered annotations.
        outcome: accepted; flagged (accepted, kept out of hold-outs); rejected; unmeasured (stays a draft).
        threshold: the kappa the outcome was decided by.
        sentence: the same for people.
    """

    lot: str
    pool: str
    kappa: Estimate | None
    alpha: Estimate | None
    items: int
    examples: int
    unsettled: int
    differing: int
    overlap: Verdict
    outcome: Outcome
    threshold: float
    sentence: str

    @property
    def verdict(self) -> Verdict:
        """Rejected fails; flagged fails its hold-out floor without blocking; unmeasured is insufficient."""
        statuses = {"accepted": Status.PASS, "unmeasured": Status.INSUFFICIENT}
        kappa = self.kappa
        return Verdict(
            f"labels.lot.{self.lot}.{self.pool}",
            statuses.get(self.outcome, Status.FAIL),
            self.sentence,
            value=kappa.value if kappa else None,
            low=kappa.low if kappa else None,
            high=kappa.high if kappa else None,
            threshold=self.threshold,
            n=self.items,
            blocking=self.outcome == "rejected",
        )

    def as_dict(self) -> dict[str, Any]:
        """The review as a JSON object."""
        return {
            "lot": self.lot,
            "pool": self.pool,
            "outcome": self.outcome,
            "kappa": asdict(self.kappa) if self.kappa else None,
            "alpha": asdict(self.alpha) if self.alpha else None,
            "n": self.items,
            "examples": self.examples,
            "unsettled": self.unsettled,
            "majority_against_dawid_skene": self.differing,
            "overlap": self.overlap.as_dict(),
            "verdict": self.verdict.as_dict(),
        }


Known = MutableMapping[tuple[str, str], tuple[str, LotReview]]
"""By lot and pool: the digest of what its last review was made from, and that review."""


def review(
    votes: pl.DataFrame,
    policy: LabelPolicy,
    *,
    minimum: int = MINIMUM_ITEMS,
    plan: pl.DataFrame | None = None,
    known: Known | None = None,
) -> list[LotReview]:
    """The agreement of every lot, per language pool (LAB-4, LAB-7).

    A planned lot that did not come back as planned stays a draft until the rest of it is here.

    Args:
        votes: votes of any review status with pool, one per annotator, item and lot.
        minimum: triple-annotated items a lot needs.
        plan: the planned items, as :func:`mangaassist.labels.overlap.planned` gives them.
        known: earlier reviews; a lot that is still what it was keeps its review, and new ones are put in.

    Returns:
        One review per lot and pool, sorted.
    """
    known = {} if known is None else known
    found = []
    for (name, pool), own in votes.partition_by("iaa_lot_id", "pool", as_dict=True).items():
        which = (str(name), str(pool))
        lot = _Lot(*which, own, _plan_of(plan, *which), policy, minimum)
        evidence = lot.evidence
        kept = known.get(which)
        if kept is None or kept[0] != evidence:
            kept = known[which] = (evidence, _measure(lot))
        found.append(kept[1])
    return sorted(found, key=lambda one: (one.lot, one.pool))


@dataclass(frozen=True, slots=True)
class _Lot:
    """One lot in one pool: its votes, its plan (empty without one), and what it is judged by."""

    name: str
    pool: str
    votes: pl.DataFrame
    plan: pl.DataFrame
    policy: LabelPolicy
    minimum: int

    @property
    def evidence(self) -> str:
        """Digest of all that a review is made from."""
        rows = (fingerprint(self.votes.select(_VOTE)), fingerprint(self.plan.select(_PLAN)))
        return digest([*rows, self.policy.agreement_floor, self.policy.holdout_floor, self.minimum])


def _measure(lot: _Lot) -> LotReview:
    own, plan, policy = lot.votes, lot.plan, lot.policy
    regular = own.filter(~pl.col("escalation"))
    overlap = overlap_verdict(lot.name, lot.pool, own, plan)
    shared = plan.filter(pl.col("annotations") > 2)["example_id"].implode()
    triple = multiply_annotated(
        regular if plan.is_empty() else regular.filter(pl.col("example_id").is_in(shared))
    )
    items = triple.n_unique("example_id") if triple.height else 0
    whole = overlap.passed or not overlap.blocking
    kappa = pairwise_kappa(triple) if items >= lot.minimum else None
    outcome = _outcome(kappa, policy) if whole else "unmeasured"
    crowd = crowd_labels(regular.drop_nulls("annotator_id"))
    measured = LotReview(
        lot=lot.name,
        pool=lot.pool,
        kappa=kappa,
        alpha=alpha(triple) if kappa else None,
        items=items,
        examples=own.n_unique("example_id"),
        unsettled=_unsettled(own),
        differing=crowd.filter(pl.col("majority") != pl.col("dawid_skene")).height,
        overlap=overlap,
        outcome=outcome,
        threshold=policy.agreement_floor if outcome == "rejected" else policy.holdout_floor,
        sentence="",
    )
    sentence = _lot_sentence(measured, policy, lot.minimum)
    if not whole:
        sentence = f"Lot {lot.name} ({lot.pool}) stays a draft: {overlap.sentence}"
    return replace(measured, sentence=sentence)


def _plan_of(plan: pl.DataFrame | None, lot: str, pool: str) -> pl.DataFrame:
    if plan is None:
        return pl.DataFrame(schema={"example_id": pl.String(), "annotations": pl.Int64()})
    return plan.filter((pl.col("lot") == lot) & (pl.col("pool") == pool))


def lot_votes(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy) -> pl.DataFrame:
    """Standing votes given in lots, whatever their status, with the pool of their language.

    Votes of annotators who were paused are left out (LAB-5).

    Args:
        examples, labels: rows of the two tables.
    """
    return _in_lots(examples, current_votes(labels), policy)


def _in_lots(examples: pl.DataFrame, votes: pl.DataFrame, policy: LabelPolicy) -> pl.DataFrame:
    lots = votes.filter(pl.col("iaa_lot_id").is_not_null() & ~pl.col("held"))
    return with_pool(attach(examples, lots, policy)).unique(
        ["example_id", "label_source", "annotator_id", "label", "iaa_lot_id"], maintain_order=True
    )


def _outcome(kappa: Estimate | None, policy: LabelPolicy) -> Outcome:
    if kappa is None:
        return "unmeasured"
    if kappa.value < policy.agreement_floor:
        return "rejected"
    return "accepted" if kappa.value >= policy.holdout_floor else "flagged"


def _lot_sentence(found: LotReview, policy: LabelPolicy, minimum: int) -> str:
    where = f"Lot {found.lot} ({found.pool})"
    if found.kappa is None:
        return f"{where} stays a draft: {unmeasured(found.items, minimum)}."
    measured = f"{where}: kappa {found.kappa.value:.2f} on {found.items} triple-annotated items"
    return {
        "rejected": f"{measured}, below {policy.agreement_floor:.2f}: rejected, annotate again.",
        "flagged": f"{measured}, below {policy.holdout_floor:.2f}: accepted, kept out of hold-outs.",
    }.get(found.outcome, f"{measured}: accepted.")


def unmeasured(items: int, minimum: int) -> str:
    """Why there is no kappa of so many triple-annotated items."""
    return f"{items} triple-annotated items, {minimum} needed" if items < minimum else "one class only"


def _unsettled(votes: pl.DataFrame) -> int:
    counts = votes.group_by("example_id", "label").agg(n=pl.len(), senior=pl.col("escalation").any())
    best = counts.with_columns(top=pl.col("n") == pl.col("n").max().over("example_id"))
    settled = best.group_by("example_id").agg(done=(pl.col("top").sum() == 1) | pl.col("senior").any())
    return settled.filter(~pl.col("done")).height


def lot_reviews(store: LabelStore, story: Story) -> list[LotReview]:
    """:func:`review` of all lots of the story as they were given; nothing is changed."""
    labels = store.labels(story)
    votes = votes_of_lots(labels, current_votes(labels))
    return _reviews(store, story, _in_lots(store.examples(story), votes, story.labels), minimum=MINIMUM_ITEMS)


def _reviews(store: LabelStore, story: Story, votes: pl.DataFrame, *, minimum: int) -> list[LotReview]:
    """Only lots that changed are measured anew."""
    known = store.reviews.setdefault(story.name, {})
    return review(votes, story.labels, minimum=minimum, plan=planned(store, story), known=known)


def review_lots(
    store: LabelStore, story: Story, *, actor: str, minimum: int = MINIMUM_ITEMS
) -> tuple[list[LotReview], Batch | None]:
    """Measure every lot and write what follows for its labels as new records (LAB-4, LAB-8).

    Returns:
        All reviews, and the batch of restated labels; None when every label already says what it should.
    """
    examples, labels = store.examples(story), store.labels(story)
    standing = current_votes(labels)
    votes = _in_lots(examples, votes_of_lots(labels, standing), story.labels)
    reviews = _reviews(store, story, votes, minimum=minimum)
    restated = _restate(votes, standing, reviews)
    if restated.is_empty():
        return reviews, None
    about = {"change": "reviewed", "reviews": [one.sentence for one in reviews]}
    return reviews, store.restate(story, restated, actor=actor, about=about)


def _restate(votes: pl.DataFrame, standing: pl.DataFrame, reviews: Sequence[LotReview]) -> pl.DataFrame:
    """The records, in the table's columns, whose status or hold-out flag the reviews change."""
    statuses = {"accepted": "qa_passed", "flagged": "qa_passed", "rejected": "qa_failed"}
    outcomes = pl.DataFrame(
        [
            (one.lot, one.pool, statuses[one.outcome], one.outcome != "flagged")
            for one in reviews
            if one.outcome != "unmeasured"
        ],
        schema={
            "iaa_lot_id": pl.String,
            "pool": pl.String,
            "new_status": pl.String,
            "new_holdout": pl.Boolean,
        },
        orient="row",
    )
    key = ["example_id", "iaa_lot_id"]
    judged = votes.select(*key, "pool").unique().join(outcomes, on=["iaa_lot_id", "pool"])
    counting = standing.filter(~pl.col("held"))
    changed = counting.join(judged, on=key).filter(
        (pl.col("review_status") != pl.col("new_status")) | (pl.col("holdout") != pl.col("new_holdout"))
    )
    return changed.with_columns(
        review_status=pl.col("new_status"),
        metadata=pl.when("new_holdout").then(_holdout(True)).otherwise(_holdout(False)),
    ).select(list(LABELS_TABLE))


def _holdout(eligible: bool) -> pl.Expr:
    """The metadata with its hold-out flag set; keys stay in canonical order."""

    def rewrite(metadata: str) -> str:
        body = {**orjson.loads(metadata), "holdout": eligible}
        return canonical_json(body).decode()

    return pl.col("metadata").map_elements(rewrite, return_dtype=pl.String())
