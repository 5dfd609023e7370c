"""What was found when: an append-only history from which "sustained" is derived, never kept.

A counter in memory forgets at a restart and a counter on disk can disagree with what was seen. Here every
check appends its verdicts, and how long something has lasted is a question to that table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import polars as pl

from mangaassist.core.clock import utc
from mangaassist.core.story import DriftPolicy
from mangaassist.core.verdict import Status, Verdict

SCHEMA: Mapping[str, pl.DataType] = {
    "at": pl.Datetime("us", "UTC"),
    "version": pl.Int64(),
    "name": pl.String(),
    "status": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "threshold": pl.Float64(),
    "n": pl.Int64(),
    "sentence": pl.String(),
}

# A finding lasts across a silence of at most this share of its required duration (6 h of 24 h): longer, and
# nobody knows what happened in between.
_SILENCE = 0.25
KEPT_EVERY = timedelta(hours=1)
"""How long unchanged findings may go unwritten."""


class Kind(StrEnum):
    """The four kinds of drift (DRF-1)."""

    INPUT = "input"
    PREDICTION = "prediction"
    LABEL = "label"
    CONCEPT = "concept"


class State(StrEnum):
    """Where a kind stands."""

    FIRED = "fired"
    RISING = "rising"
    QUIET = "quiet"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Standing:
    """One finding as the history tells it.

    Attributes:
        name: the verdict's name.
        kind: the kind it belongs to.
        state: fired when it has failed for as long as the policy asks.
        since: start of the unbroken run of fails; None when it does not fail.
        last: the latest pass or fail.
        value, threshold: of that latest one.
    """

    name: str
    kind: Kind
    state: State
    since: datetime | None
    last: datetime
    value: float | None
    threshold: float | None


def kind_of(name: str) -> Kind:
    """The kind a verdict name belongs to: "drift.input.device" is input."""
    return Kind(name.split(".")[1])


def sustained_for(policy: DriftPolicy, kind: Kind) -> timedelta:
    """How long a kind must fail before it fires."""
    return {
        Kind.INPUT: policy.input_sustained,
        Kind.PREDICTION: policy.prediction_sustained,
        Kind.LABEL: policy.label_sustained,
        Kind.CONCEPT: policy.concept_sustained,
    }[kind]


def rows(verdicts: Iterable[Verdict], *, at: datetime, version: int) -> pl.DataFrame:
    """The history rows of one check."""
    found = [
        {
            "at": utc(at, field="at"),
            "version": version,
            "name": one.name,
            "status": str(one.status),
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "threshold": one.threshold,
            "n": one.n,
            "sentence": one.sentence,
        }
        for one in verdicts
    ]
    return pl.DataFrame(found, schema=SCHEMA)


def is_news(found: pl.DataFrame, history: pl.DataFrame) -> bool:
    """Whether a look says something the history does not: a name or a status is new, or an hour has passed.

    Looks in between change no standing, because silences of an hour break no run: looking every five minutes
    need not mean 288 commits a day.

    Args:
        found: rows of one look, of one version. history: rows of earlier looks, oldest first.
    """
    if found.is_empty():
        return False
    known = (
        history.lazy()
        .filter(pl.col("version") == found["version"][0], pl.col("name").is_in(found["name"].to_list()))
        .group_by("name")
        .agg(pl.col("at", "status").sort_by("at").last())
    )
    compared = found.lazy().join(known, on="name", how="left", suffix="_before").collect()
    news = (pl.col("status") != pl.col("status_before")) | (pl.col("at") - pl.col("at_before") >= KEPT_EVERY)
    return bool(compared.select(news.fill_null(value=True).any()).item())


def standings(
    history: pl.DataFrame, policy: DriftPolicy, *, version: int, now: datetime
) -> tuple[Standing, ...]:
    """Where each finding stands at ``now``, from the rows of ``version`` alone, by name.

    Only pass and fail count. A pass ends a run; an insufficient check neither ends nor extends one; a
    silence longer than a quarter of the required duration ends it. A version's run never continues its
    predecessor's, because its bins are others. A finding silent for that long at ``now`` is insufficient.

    Args:
        history: rows of :data:`SCHEMA`, in any order.
        policy: the thresholds pinned to the version.
    """
    silence = {kind: sustained_for(policy, kind) * _SILENCE for kind in Kind}
    latest = (
        history.lazy()
        .filter(
            pl.col("version") == version,
            pl.col("at") <= utc(now, field="now"),
            pl.col("status").is_in([str(Status.PASS), str(Status.FAIL)]),
        )
        .sort("name", "at", maintain_order=True)
        .with_columns(
            kind=pl.col("name").str.split(".").list.get(1),
            fails=pl.col("status") == str(Status.FAIL),
            gap=pl.col("at").diff().over("name"),
        )
        .with_columns(allowed=pl.col("kind").replace_strict(silence, return_dtype=pl.Duration("us")))
        .with_columns(breaks=~pl.col("fails") | (pl.col("gap") > pl.col("allowed")).fill_null(True))
        .with_columns(run=pl.col("breaks").cum_sum().over("name"))
        .group_by("name", maintain_order=True)
        .agg(
            pl.col("kind", "at", "fails", "value", "threshold").last(),
            since=pl.col("at").filter(pl.col("fails") & (pl.col("run") == pl.col("run").last())).min(),
        )
        .collect()
    )
    return tuple(_standing(row, policy, now) for row in latest.iter_rows(named=True))


def by_kind(found: Iterable[Standing]) -> dict[Kind, Standing | None]:
    """The leading finding of each kind: fired before rising before quiet; the longest run, then the name."""
    order = {state: rank for rank, state in enumerate(State)}
    leading: dict[Kind, Standing | None] = dict.fromkeys(Kind)
    for one in sorted(found, key=lambda one: (order[one.state], one.since or one.last, one.name)):
        leading[one.kind] = leading[one.kind] or one
    return leading


def _standing(row: Mapping[str, object], policy: DriftPolicy, now: datetime) -> Standing:
    kind = Kind(str(row["kind"]))
    required = sustained_for(policy, kind)
    last, since = row["at"], row["since"]
    if not isinstance(last, datetime):
        raise TypeError("history: 'at' is not a time")
    run = since if isinstance(since, datetime) and row["fails"] else None
    if now - last > required * _SILENCE:
        state, run = State.INSUFFICIENT, None
    elif run is None:
        state = State.QUIET
    else:
        state = State.FIRED if now - run >= required else State.RISING
    value, threshold = row["value"], row["threshold"]
    return Standing(
        name=str(row["name"]),
        kind=kind,
        state=state,
        since=run,
        last=last,
        value=value if isinstance(value, float) else None,
        threshold=threshold if isinstance(threshold, float) else None,
    )
