"""Each annotator against the others, week by week, and against their own last month (LAB-5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.story import LabelPolicy, Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.consensus import attach
from mangaassist.labels.intake import LabelStore, subject
from mangaassist.labels.overlap import ANNOTATED_BY
from mangaassist.labels.pauses import Pause, pause, pauses, running
from mangaassist.labels.votes import current_votes
from mangaassist.stats.agreement import cohen_kappa
from mangaassist.stats.intervals import Estimate, two_sided_z


@dataclass(frozen=True, slots=True)
class PausePolicy:
    """When an annotator is paused.

    Attributes:
        recent: how far back "now" reaches.
        baseline: how far their own baseline reaches back from there.
        sigmas: standard errors of the difference that recent agreement must lie below the baseline.
        minimum: judged votes needed in either stretch.
    """

    recent: timedelta = timedelta(days=7)
    baseline: timedelta = timedelta(days=30)
    sigmas: float = 2.0
    minimum: int = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """One annotator now.

    Attributes:
        annotator, pool: who, and the language pool of most of their votes.
        votes: judged votes on record.
        recent, baseline: kappa against the others in the last week and in the 30 days before; None where
            there were too few votes or one class only.
        verdict: fails when recent agreement is too far below their own baseline.
        paused: the pause they are in; None when their votes count.
    """

    annotator: str
    pool: str
    votes: int
    recent: Estimate | None
    baseline: Estimate | None
    verdict: Verdict
    paused: Pause | None

    def as_dict(self) -> dict[str, Any]:
        """The standing as a JSON object."""
        return {
            "annotator": self.annotator,
            "pool": self.pool,
            "votes": self.votes,
            "recent": estimate_dict(self.recent),
            "baseline": estimate_dict(self.baseline),
            "verdict": self.verdict.as_dict(),
            "paused": self.paused.as_dict() if self.paused else None,
        }


def estimate_dict(one: Estimate | None) -> dict[str, Any] | None:
    """An estimate as a JSON object."""
    return None if one is None else {"value": one.value, "low": one.low, "high": one.high, "n": one.n}


def judged_votes(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy) -> pl.DataFrame:
    """Every vote of a named annotator beside what the others said about the same example.

    The others are the senior annotator where one settled the example, else the majority of the other votes;
    a vote without others, or whose others are tied, judges nobody. The vote itself never counts, so nobody
    is measured against themself.

    Args:
        examples, labels: rows of the two tables.

    Returns:
        example_id, annotator_id, language, labeled_at, label and others; sorted by annotator and time.
    """
    standing = current_votes(labels).filter(~pl.col("held") & pl.col("annotator_id").is_not_null())
    votes = (
        attach(examples, standing, policy)
        .filter(pl.col("family") == ANNOTATED_BY)
        .unique(["example_id", "annotator_id", "label"], maintain_order=True)
    )
    settled = votes.filter("escalation").select("example_id", pl.col("label").alias("senior"))
    own = votes.filter(~pl.col("escalation")).with_row_index("vote")
    judged = own.join(_others(own), on="vote", how="left").join(
        settled.unique("example_id", keep="last", maintain_order=True), on="example_id", how="left"
    )
    return (
        judged.with_columns(others=pl.coalesce("senior", "others"))
        .drop_nulls("others")
        .select("example_id", "annotator_id", "language", "labeled_at", "label", "others")
        .sort("annotator_id", "labeled_at", "example_id")
    )


def _others(votes: pl.DataFrame) -> pl.DataFrame:
    """The majority of the other votes on each vote's example: vote, others (null on a tie or alone)."""
    tally = votes.group_by("example_id", "label").agg(count=pl.len())
    without = (
        votes.select("vote", "example_id", own=pl.col("label"))
        .join(tally, on="example_id")
        .with_columns(count=pl.col("count").cast(pl.Int64()) - (pl.col("label") == pl.col("own")))
        .filter(pl.col("count") > 0)
    )
    top = without.filter(pl.col("count") == pl.col("count").max().over("vote"))
    return (
        top.group_by("vote")
        .agg(others=pl.col("label").first(), tied=pl.len() > 1)
        .select("vote", others=pl.when(~pl.col("tied")).then("others"))
    )


def standings(
    judged: pl.DataFrame, found: Sequence[Pause], *, at: datetime, policy: PausePolicy = PausePolicy()
) -> list[Standing]:
    """Where every annotator stands at ``at``; what they did around an earlier pause is left out.

    Args:
        judged: as :func:`judged_votes` gives it.
        found: all pauses on record.
    """
    paused = running(found)
    rows = []
    for (name,), own in judged.partition_by("annotator_id", as_dict=True, maintain_order=True).items():
        who = str(name)
        counted = own.filter(~_around(who, found))
        recent = _kappa(counted, at - policy.recent, at, policy)
        baseline = _kappa(counted, at - policy.recent - policy.baseline, at - policy.recent, policy)
        pool = "en" if own["language"].mode()[0] == "en" else "ja"
        verdict = _verdict(who, recent, baseline, policy, paused.get(who))
        rows.append(Standing(who, pool, own.height, recent, baseline, verdict, paused.get(who)))
    return rows


def _around(annotator: str, found: Sequence[Pause]) -> pl.Expr:
    """Votes from the start of what led to a pause until its end."""
    inside = pl.lit(False)
    for one in found:
        if one.annotator == annotator and one.until is not None:
            inside |= pl.col("labeled_at").is_between(pl.lit(one.since), pl.lit(one.until), closed="right")
    return inside


def _kappa(judged: pl.DataFrame, since: datetime, until: datetime, policy: PausePolicy) -> Estimate | None:
    inside = judged.filter(pl.col("labeled_at").is_between(pl.lit(since), pl.lit(until), closed="right"))
    if inside.height < policy.minimum:
        return None
    try:
        return cohen_kappa(inside["label"].to_numpy(), inside["others"].to_numpy())
    except InputError:  # one class only: agreement beyond chance cannot be seen
        return None


def _verdict(
    who: str,
    recent: Estimate | None,
    baseline: Estimate | None,
    policy: PausePolicy,
    paused: Pause | None,
) -> Verdict:
    name = f"labels.annotator.{who}"
    n = recent.n if recent else 0
    if recent is None or baseline is None:
        missing = "week" if recent is None else "month before it"
        sentence = f"{who} has too few votes that others also gave in the last {missing} to be judged."
        return Verdict(name, Status.INSUFFICIENT, sentence, n=n, blocking=False)
    sigma = math.hypot(_error(recent), _error(baseline))
    limit = baseline.value - policy.sigmas * sigma
    below = recent.value < limit
    distance = (baseline.value - recent.value) / sigma if sigma else 0.0
    sentence = (
        f"{who} agrees with the others at kappa {recent.value:.2f} this week ({recent.n} votes), "
        f"{abs(distance):.1f} sigma {'below' if distance >= 0 else 'above'} their own {baseline.value:.2f}"
    )
    tail = ": paused." if paused or below else "."
    return Verdict(
        name,
        Status.FAIL if below else Status.PASS,
        sentence + tail,
        value=recent.value,
        low=recent.low,
        high=recent.high,
        threshold=limit,
        n=n,
        blocking=False,
    )


def _error(one: Estimate) -> float:
    """The standard error below the estimate; with complete agreement the interval has no upper side."""
    return (one.value - one.low) / two_sided_z(one.level)


def watch(
    store: LabelStore, story: Story, *, actor: str, policy: PausePolicy = PausePolicy()
) -> list[Standing]:
    """Pause every annotator who fell too far below their own baseline, and say where all of them stand.

    The pause is in the ledger with its verdict; it lasts until a person resumes them.
    """
    judged = judged_votes(store.examples(story), store.labels(story), story.labels)
    at = store.clock.now()
    before = standings(judged, pauses(store.ledger, subject(story)), at=at, policy=policy)
    fallen = [one for one in before if one.verdict.status is Status.FAIL and one.paused is None]
    for one in fallen:
        pause(
            store.ledger,
            subject(story),
            one.annotator,
            since=at - policy.recent,
            at=at,
            actor=actor,
            reason=one.verdict.sentence,
            evidence=one.verdict.as_dict(),
        )
    if not fallen:
        return before
    return standings(judged, pauses(store.ledger, subject(story)), at=at, policy=policy)


def running_kappa(
    judged: pl.DataFrame, *, at: datetime, weeks: int = 12, policy: PausePolicy = PausePolicy()
) -> Mapping[str, tuple[tuple[datetime, Estimate | None], ...]]:
    """Kappa of each annotator in each of the last ``weeks`` stretches of ``policy.recent``, oldest first."""
    ends = [at - policy.recent * back for back in reversed(range(weeks))]
    return {
        str(name): tuple((end, _kappa(own, end - policy.recent, end, policy)) for end in ends)
        for (name,), own in judged.partition_by("annotator_id", as_dict=True, maintain_order=True).items()
    }


def series_rows(series: Mapping[str, Sequence[tuple[datetime, Estimate | None]]]) -> Iterator[dict[str, Any]]:
    """A running kappa as JSON rows."""
    for who, points in series.items():
        for at, one in points:
            if one is not None:
                yield {"annotator": who, "until": isoformat(at), **(estimate_dict(one) or {})}
