"""Are the labels good enough to train on? Pools by agreement, sources by precision (LAB-6, LAB-7)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.story import LabelPolicy
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.agreement import multiply_annotated, pairwise_kappa
from mangaassist.labels.consensus import KEY, SETTLED, attach, consensus
from mangaassist.labels.lots import lot_votes, unmeasured
from mangaassist.labels.overlap import MINIMUM_ITEMS, POOLS
from mangaassist.labels.votes import current_votes
from mangaassist.stats.intervals import clopper_lower, wilson

AUDITOR = "vendor"
"""The family of sources whose labels the others are audited against."""


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
    if used.is_empty():
        lots = votes.n_unique("iaa_lot_id")
        if (votes["review_status"] == "qa_failed").any():
            sentence = f"All {lots} measured {pool} lots were rejected; their labels must be given again."
            return Verdict(name, Status.FAIL, sentence, threshold=floor)
        sentence = f"Agreement on {pool} labels is not known yet: none of {lots} lots has passed a review."
        return Verdict(name, Status.INSUFFICIENT, sentence, threshold=floor, n=0)
    kappa = pairwise_kappa(triple) if items >= minimum else None
    if kappa is None:
        sentence = f"Agreement on {pool} labels cannot be measured: {unmeasured(items, minimum)}."
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
        precision_verdict(source, *known.get(source, (0, 0)), floor=policy.precision_floor)
        for source in sorted(others["label_source"].unique())
    ]


def precision_verdict(source: str, right: int, n: int, *, floor: float) -> Verdict:
    """What ``right`` of ``n`` checked labels of ``source`` say against the floor; see above."""
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
