"""Freshness and recency, apart (FEA-5): how old is the newest value, and how old the newest signal in it.

A job that runs every hour over events that stopped last week keeps its values fresh and their signal old. A
job that stopped leaves both behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.verdict import Status, Verdict
from mangaassist.features.catalog import Catalog, Feature
from mangaassist.features.online import Manifest
from mangaassist.features.point_in_time import EVENT, INGESTED
from mangaassist.features.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Age:
    """How old one feature is where it is read.

    Attributes:
        computed_at: when the newest value came; None without any.
        signal_at: the newest event any value summarises; None without any.
        reads: seconds from a value's arrival to its being served: p50, p95, max; None without reads.
        verdicts: ``features.freshness.<name>`` and ``features.recency.<name>``.
    """

    feature: str
    computed_at: datetime | None
    signal_at: datetime | None
    reads: Mapping[str, float] | None
    verdicts: tuple[Verdict, Verdict]

    def as_dict(self) -> dict[str, Any]:
        """The ages of one feature as a JSON object."""
        return {
            "feature": self.feature,
            "computed_at": isoformat(self.computed_at) if self.computed_at else None,
            "signal_at": isoformat(self.signal_at) if self.signal_at else None,
            "read_age_seconds": dict(self.reads) if self.reads else None,
            "verdicts": [one.as_dict() for one in self.verdicts],
        }


def ages(
    features: FeatureStore, catalog: Catalog, reads: pl.DataFrame, *, manifest: Manifest | None, now: datetime
) -> list[Age]:
    """The age of every feature as serving sees it at ``now``.

    Args:
        reads: served cells, as :data:`mangaassist.features.parity.READ_SCHEMA`.
        manifest: the generation in use; without one the tables themselves are judged.
    """
    snapshots = manifest.snapshots if manifest else None
    views = {one.view: features.rows(catalog, one.view, snapshots) for one in catalog.features.values()}
    return [_age(one, views[one.view], reads, now) for one in catalog.features.values()]


def _age(feature: Feature, rows: pl.DataFrame, reads: pl.DataFrame, now: datetime) -> Age:
    served = rows.filter(
        (pl.col(INGESTED) <= now)
        & (pl.col(EVENT) + feature.serving_lag <= now)
        & pl.col(feature.name).is_not_null()
    )
    computed, signal = _newest(served, INGESTED), _newest(served, EVENT)
    # A value computed within its promise summarises the window before it: what is older than both together
    # is a summary of nothing.
    oldest = feature.freshness_sla + feature.recency_window
    return Age(
        feature.name,
        computed,
        signal,
        _read_ages(reads.filter(pl.col("feature") == feature.name)),
        (
            _verdict("freshness", feature, now=now, newest=computed, most=feature.freshness_sla),
            _verdict("recency", feature, now=now, newest=signal, most=oldest),
        ),
    )


def _newest(rows: pl.DataFrame, column: str) -> datetime | None:
    found = rows[column].max()
    return found if isinstance(found, datetime) else None


def _read_ages(reads: pl.DataFrame) -> dict[str, float] | None:
    found = reads.drop_nulls("ingested_at")
    if found.is_empty():
        return None
    seconds = (found["at"] - found["ingested_at"]).dt.total_microseconds() / 1e6
    return {"p50": float(seconds.quantile(0.5) or 0.0), "p95": float(seconds.quantile(0.95) or 0.0)} | {
        "max": float(seconds.max())  # type: ignore[arg-type]  # of numbers, and there is one
    }


def _verdict(
    kind: str, feature: Feature, *, now: datetime, newest: datetime | None, most: timedelta
) -> Verdict:
    name = f"features.{kind}.{feature.name}"
    if newest is None:
        sentence = f"{feature.name} has no value yet."
        return Verdict(name, Status.INSUFFICIENT, sentence, threshold=most.total_seconds(), blocking=False)
    age = now - newest
    late = age > most
    what, limit = (
        ("value", "promised") if kind == "freshness" else ("signal", "covered by window and promise")
    )
    sentence = f"The newest {what} of {feature.name} is {_said(age)} old; {limit}: at most {_said(most)}."
    return Verdict(
        name,
        Status.FAIL if late else Status.PASS,
        sentence,
        value=age.total_seconds(),
        threshold=most.total_seconds(),
        n=1,
    )


def _said(span: timedelta) -> str:
    seconds = span.total_seconds()
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
