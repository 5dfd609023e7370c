"""Are the labels good enough? Lots by agreement, sources by precision, each language apart (LAB-4, 6, 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import orjson
import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import LabelPolicy, Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.agreement import alpha, crowd_labels, multiply_annotated, pairwise_kappa
from mangaassist.labels.consensus import KEY, SETTLED, attach, consensus
from mangaassist.labels.intake import Batch, LabelStore
from mangaassist.labels.overlap import MINIMUM_ITEMS, POOLS, overlap_verdict, planned, with_pool
from mangaassist.labels.records import LABELS_TABLE
from mangaassist.labels.votes import current_votes
from mangaassist.stats.intervals import Estimate, clopper_lower, wilson

AUDITOR = "vendor"
"""The family of sources whose labels the others are audited against."""

Outcome = Literal["accepted", "flagged", "rejected", "unmeasured"]


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


def review(
    votes: pl.DataFrame,
    policy: LabelPolicy,
    *,
    minimum: int = MINIMUM_ITEMS,
    plan: pl.DataFrame | None = None,
) -> list[LotReview]:
    """The agreement of every lot, per language pool (LAB-4, LAB-7).

    A planned lot that did not come back as planned stays a draft until the rest of it is here.

    Args:
        votes: standing votes of any review status with language, as ``lot_votes`` gives them.
        minimum: triple-annotated items a lot needs.
        plan: the planned items, as :func:`mangaassist.labels.overlap.planned` gives them.

    Returns:
        One review per lot and pool, sorted.
    """
    found = [
        _review_one((str(lot), str(pool)), own, plan, policy, minimum)
        for (lot, pool), own in votes.partition_by("iaa_lot_id", "pool", as_dict=True).items()
    ]
    return sorted(found, key=lambda one: (one.lot, one.pool))


def _review_one(
    which: tuple[str, str], own: pl.DataFrame, plans: pl.DataFrame | None, policy: LabelPolicy, minimum: int
) -> LotReview:
    lot, pool = which
    plan = _plan_of(plans, lot, pool)
    regular = own.filter(~pl.col("escalation"))
    overlap = overlap_verdict(lot, pool, own, plan)
    shared = plan.filter(pl.col("annotations") > 2)["example_id"].implode()
    triple = multiply_annotated(
        regular if plan.is_empty() else regular.filter(pl.col("example_id").is_in(shared))
    )
    items = triple.n_unique("example_id") if triple.height else 0
    whole = overlap.passed or not overlap.blocking
    kappa = pairwise_kappa(triple) if items >= minimum else None
    outcome = _outcome(kappa, policy) if whole else "unmeasured"
    crowd = crowd_labels(regular.drop_nulls("annotator_id"))
    measured = LotReview(
        lot=lot,
        pool=pool,
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
    sentence = _lot_sentence(measured, policy, minimum)
    if not whole:
        sentence = f"Lot {lot} ({pool}) stays a draft: {overlap.sentence}"
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
    lots = current_votes(labels).filter(pl.col("iaa_lot_id").is_not_null() & ~pl.col("held"))
    return with_pool(attach(examples, lots, policy)).unique(
        ["example_id", "label_source", "annotator_id", "label"], maintain_order=True
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
        return f"{where} stays a draft: {_unmeasured(found.items, minimum)}."
    measured = f"{where}: kappa {found.kappa.value:.2f} on {found.items} triple-annotated items"
    return {
        "rejected": f"{measured}, below {policy.agreement_floor:.2f}: rejected, annotate again.",
        "flagged": f"{measured}, below {policy.holdout_floor:.2f}: accepted, kept out of hold-outs.",
    }.get(found.outcome, f"{measured}: accepted.")


def _unmeasured(items: int, minimum: int) -> str:
    return f"{items} triple-annotated items, {minimum} needed" if items < minimum else "one class only"


def _unsettled(votes: pl.DataFrame) -> int:
    counts = votes.group_by("example_id", "label").agg(n=pl.len(), senior=pl.col("escalation").any())
    best = counts.with_columns(top=pl.col("n") == pl.col("n").max().over("example_id"))
    settled = best.group_by("example_id").agg(done=(pl.col("top").sum() == 1) | pl.col("senior").any())
    return settled.filter(~pl.col("done")).height


def review_lots(
    store: LabelStore, story: Story, *, actor: str, minimum: int = MINIMUM_ITEMS
) -> tuple[list[LotReview], Batch | None]:
    """Measure every lot and write what follows for its labels as new records (LAB-4, LAB-8).

    Returns:
        All reviews, and the batch of restated labels; None when every label already says what it should.
    """
    examples, labels = store.examples(story), store.labels(story)
    votes = lot_votes(examples, labels, story.labels)
    reviews = review(votes, story.labels, minimum=minimum, plan=planned(store, story))
    restated = _restate(votes, labels, reviews)
    if restated.is_empty():
        return reviews, None
    about = {"change": "reviewed", "reviews": [one.sentence for one in reviews]}
    return reviews, store.restate(story, restated, actor=actor, about=about)


def _restate(votes: pl.DataFrame, labels: pl.DataFrame, reviews: Sequence[LotReview]) -> pl.DataFrame:
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
    standing = current_votes(labels).filter(~pl.col("held"))
    key = ["example_id", "iaa_lot_id"]
    judged = votes.select(*key, "pool").unique().join(outcomes, on=["iaa_lot_id", "pool"])
    changed = standing.join(judged, on=key).filter(
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


def agreement_verdicts(
    examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy, *, minimum: int = MINIMUM_ITEMS
) -> list[Verdict]:
    """LAB-7: the agreement of the accepted lots of each language pool against the floor.

    A pool in which every measured lot was rejected fails. A pool without lots cannot be measured and says so
    without blocking; a pool with lots but too few shared items blocks until there are more.

    Args:
        examples, labels: rows of the two tables.
    """
    votes = lot_votes(examples, labels, policy)
    return [_pool_verdict(pool, votes.filter(pl.col("pool") == pool), policy, minimum) for pool in POOLS]


def _pool_verdict(pool: str, votes: pl.DataFrame, policy: LabelPolicy, minimum: int) -> Verdict:
    name, floor = f"labels.agreement.{pool}", policy.agreement_floor
    used = votes.filter(~pl.col("escalation") & (pl.col("review_status") == "qa_passed"))
    triple = multiply_annotated(used)
    items = triple.n_unique("example_id") if triple.height else 0
    if votes.is_empty():
        sentence = f"No {pool} text was labelled by several annotators in a lot: agreement is unknown."
        return Verdict(name, Status.INSUFFICIENT, sentence, threshold=floor, blocking=False)
    if (votes["review_status"] == "qa_failed").any() and used.is_empty():
        lots = votes.n_unique("iaa_lot_id")
        sentence = f"All {lots} measured {pool} lots were rejected; their labels must be given again."
        return Verdict(name, Status.FAIL, sentence, threshold=floor)
    kappa = pairwise_kappa(triple) if items >= minimum else None
    if kappa is None:
        sentence = f"Agreement on {pool} labels cannot be measured: {_unmeasured(items, minimum)}."
        return Verdict(name, Status.INSUFFICIENT, sentence, threshold=floor, n=items)
    below = kappa.value < floor
    return Verdict(
        name,
        Status.FAIL if below else Status.PASS,
        f"Annotators of {pool} text agree with kappa {kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f}) "
        f"on {items} items; the floor is {floor:.2f}.",
        value=kappa.value,
        low=kappa.low,
        high=kappa.high,
        threshold=floor,
        n=items,
    )


def precision_verdicts(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy) -> list[Verdict]:
    """LAB-6: labels of rules and language models against the vendor's on the examples both saw.

    Passes when the exact one-sided 95% lower bound of the precision reaches the floor, fails when the
    measured precision is below it, and is insufficient, without blocking, in between or without overlap.

    Returns:
        One verdict per label source that is not the vendor's, sorted.
    """
    truth = consensus(examples, labels, replace(policy, sources=(AUDITOR,))).filter(
        pl.col("resolved_by").is_in(SETTLED)
    )
    standing = current_votes(labels).filter(pl.col("review_status") == "qa_passed")
    others = attach(examples, standing, policy).filter(pl.col("family") != AUDITOR)
    both = others.join(truth.select(*KEY, pl.col("label").alias("truth")), on=KEY)
    counts = both.group_by("label_source").agg(n=pl.len(), right=(pl.col("label") == pl.col("truth")).sum())
    known = {source: (right, n) for source, n, right in counts.rows()}
    return [
        _precision_verdict(source, *known.get(source, (0, 0)), floor=policy.precision_floor)
        for source in sorted(others["label_source"].unique())
    ]


def _precision_verdict(source: str, right: int, n: int, *, floor: float) -> Verdict:
    name = f"labels.precision.{source}"
    if n == 0:
        sentence = f"No {source} label was checked against a {AUDITOR} label."
        return Verdict(name, Status.INSUFFICIENT, sentence, threshold=floor, blocking=False)
    value, low, high = right / n, clopper_lower(right, n), wilson(right, n).high
    measured = f"{right} of {n} {source} labels agree with the {AUDITOR}'s ({value:.3f}, at least {low:.3f})"
    if low >= floor:
        status, sentence = Status.PASS, f"{measured}; the floor is {floor:.2f}."
    elif value < floor:
        status = Status.FAIL
        sentence = f"{measured}, below {floor:.2f}: go back to the previous rules or prompt."
    else:
        status, sentence = Status.INSUFFICIENT, f"{measured}: too few to show {floor:.2f}; check more."
    return Verdict(
        name,
        status,
        sentence,
        value=value,
        low=low,
        high=high,
        threshold=floor,
        n=n,
        blocking=status is not Status.INSUFFICIENT,
    )


def calibration_sample(
    examples: pl.DataFrame,
    labels: pl.DataFrame,
    policy: LabelPolicy,
    source: str,
    *,
    generator: np.random.Generator,
    n: int = 500,
) -> list[str]:
    """Example ids that ``source`` labelled and the vendor has not: the week's sample to send there (LAB-6).

    Returns:
        At most ``n`` ids in a random order, each example with the same chance.

    Raises:
        InputError: for a source without labels.
    """
    standing = attach(examples, current_votes(labels), policy)
    own = standing.filter(pl.col("label_source") == source)
    if own.is_empty():
        raise InputError(
            "label source", expected="one that has labels", got=repr(source), next_step="Import its labels."
        )
    audited = standing.filter(pl.col("family") == AUDITOR)["example_id"]
    candidates = sorted(set(own["example_id"]) - set(audited))
    return [candidates[index] for index in generator.permutation(len(candidates))[:n]]
