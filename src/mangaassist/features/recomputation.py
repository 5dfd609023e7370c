"""The point-in-time rule as a loop over rows, and features checked against it before training.

Slow and obvious on purpose: it shares no code with the joins, so that it can judge them and whatever else
may have filled a training table, such as a join with today's values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.verdict import Status, Verdict
from mangaassist.features.catalog import Catalog, Feature
from mangaassist.features.leaks import MINIMUM_SAMPLE, sample_of
from mangaassist.features.point_in_time import EVENT, INGESTED, Reason, reason_column
from mangaassist.features.store import FeatureStore

Row = Mapping[str, Any]
Cell = tuple[Any, str]


def recomputed(rows: Iterable[Row], feature: Feature, entity: str | None, at: datetime) -> Cell:
    """What serving saw of ``feature`` for ``entity`` at ``at``, and why (FEA-1).

    Args:
        rows: of the feature's view, by column; times with a zone.
    """
    if entity is None:
        return feature.default, Reason.MISSING.value
    best: Row | None = None
    for row in rows:
        visible = max(row[INGESTED], row[EVENT] + feature.serving_lag) <= at
        if row[feature.entity] == entity and visible and (best is None or _rank(row) > _rank(best)):
            best = row
    if best is None:
        return feature.default, Reason.DEFAULT.value
    if at - best[EVENT] > feature.ttl:
        return feature.default, Reason.STALE.value
    value = best[feature.name]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return feature.default, Reason.MISSING.value
    return value, Reason.VALUE.value


def _rank(row: Row) -> tuple[Any, ...]:
    """Later events decide, then later arrivals, then larger values column by column, empty ones smallest."""
    names = sorted(set(row) - {EVENT, INGESTED})
    return (row[EVENT], row[INGESTED], *(_ordered(row[name]) for name in names))


def _ordered(value: Any) -> tuple[Any, ...]:
    missing = value is None
    nan = isinstance(value, float) and math.isnan(value)
    return (not missing, nan, 0 if missing or nan else value)


def recomputation_verdicts(
    store: FeatureStore,
    catalog: Catalog,
    examples: pl.DataFrame,
    names: Sequence[str],
    *,
    generator: np.random.Generator,
    captured_at: str = "captured_at",
    snapshots: Mapping[str, int | None] | None = None,
    minimum: int = MINIMUM_SAMPLE,
) -> list[Verdict]:
    """One verdict "features.recomputed.<name>" per feature: do the examples hold what serving saw?

    A sample of entities (1%, at least ``minimum``; one example each) is recomputed row by row.

    Args:
        examples: entity columns (text), the moment of capture, and the features as they were materialised;
            reasons are compared where there are any.
        snapshots: what the examples were read at; None for the newest.

    Returns:
        Verdicts in the order of ``names``. ``value`` is the share of cells that differ: fail above 0;
        insufficient, without blocking, with no example.

    Raises:
        InputError: for unknown features.
    """
    verdicts = []
    stored: dict[str, dict[str, list[Row]]] = {}
    for feature in catalog.chosen(names):
        sample = sample_of(examples, feature.entity, generator, minimum=minimum)
        if feature.view not in stored:
            stored[feature.view] = _by_entity(store.rows(catalog, feature.view, snapshots), feature, examples)
        differing = []
        reasons = reason_column(feature.name)
        for row in sample.iter_rows(named=True):
            entity, at = row[feature.entity], row[captured_at]
            expected = recomputed(stored[feature.view].get(entity, []), feature, entity, at)
            found = (row[feature.name], row.get(reasons, expected[1]))
            if found != expected:
                differing.append((entity, at, found, expected))
        verdicts.append(_verdict(feature, sample.height, differing))
    return verdicts


def _by_entity(rows: pl.DataFrame, feature: Feature, examples: pl.DataFrame) -> dict[str, list[Row]]:
    asked = examples[feature.entity].drop_nulls().unique().implode()
    found: dict[str, list[Row]] = {}
    for row in rows.filter(pl.col(feature.entity).is_in(asked)).iter_rows(named=True):
        found.setdefault(row[feature.entity], []).append(row)
    return found


def _verdict(feature: Feature, rows: int, differing: Sequence[tuple[str, datetime, Cell, Cell]]) -> Verdict:
    name, share = feature.name, len(differing) / rows if rows else 0.0
    if not rows:
        status, sentence = Status.INSUFFICIENT, f"{name} could not be recomputed: there is no example."
    elif differing:
        entity, at, found, expected = differing[0]
        status = Status.FAIL
        sentence = (
            f"{name} is not what serving saw for {len(differing)} of {rows} entities; for {feature.entity} "
            f"{entity} at {isoformat(at)} the examples hold {found[0]!r} ({found[1]}) and serving saw "
            f"{expected[0]!r} ({expected[1]}). Read it with as_of."
        )
    else:
        status, sentence = Status.PASS, f"{name} is what serving saw for all of {rows} entities recomputed."
    return Verdict(
        f"features.recomputed.{name}",
        status,
        sentence,
        value=share,
        threshold=0.0,
        n=rows,
        blocking=status is not Status.INSUFFICIENT,
    )
