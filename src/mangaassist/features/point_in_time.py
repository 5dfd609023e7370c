"""The value serving would have seen at a given moment, never a later one (FEA-1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import polars as pl

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError, nearest
from mangaassist.features.catalog import Feature

EVENT, INGESTED = "event_ts", "ingested_at"
INSTANT = pl.Datetime("us", "UTC")
DTYPES: Mapping[str, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "string": pl.String(),
}
_ROW, _AS_OF, _RANK, _AVAILABLE = "__row", "__as_of", "__rank", "__available"


class Reason(StrEnum):
    """Why a cell holds what it holds."""

    VALUE = "value"
    MISSING = "missing"
    STALE = "stale"
    DEFAULT = "default"
    FALLBACK = "fallback"
    """Online only: the store could not be reached and the last good manifest answered (FEA-7)."""


def reason_column(feature: str) -> str:
    """The column that says why ``feature`` holds what it holds."""
    return f"{feature}__reason"


def point_in_time(
    views: Mapping[str, pl.DataFrame],
    features: Sequence[Feature],
    entities: pl.DataFrame,
    *,
    as_of: str | datetime,
) -> pl.DataFrame:
    """``entities`` with every feature as serving saw it at ``as_of``.

    A stored row is visible from max(ingested_at, event_ts + serving lag) on. Among the visible rows of an
    entity the one with the latest event decides, however late it arrived; an older event that arrives later
    changes nothing. Equal events are settled by arrival and then by value, so file order never matters.

    Args:
        views: rows by view: the entity column, event_ts, ingested_at and the features. In any order.
        features: what to read.
        entities: one row per read, with the entity columns (text; null where unknown).
        as_of: name of a column of ``entities`` with the moment of each read, or one moment for all. Times
            are compared in whole microseconds.

    Returns:
        ``entities`` unchanged, in order, plus per feature its value and ``<feature>__reason``: value; missing
        (the entity or the stored value is null); stale (older than the feature's ttl); default (nothing
        visible). Where the reason is not "value", the catalog's default stands.

    Raises:
        InputError: for a missing ``as_of``, times without a zone, null times, absent entity columns or
            column names already taken.
    """
    _check_entities(entities, features)
    moments = _moments(entities, as_of)
    found: dict[str, pl.Series] = {}
    for (view, lag), group in _by_view_and_lag(features).items():
        entity = group[0].entity
        requests = entities.select(pl.col(entity).cast(pl.String)).with_columns(moments).with_row_index(_ROW)
        seen = _visible(requests, views[view], group, lag)
        for feature in group:
            found[feature.name], found[reason_column(feature.name)] = _settle(seen, feature)
    ordered = [found[name] for one in features for name in (one.name, reason_column(one.name))]
    return entities.with_columns(ordered)


def _by_view_and_lag(features: Sequence[Feature]) -> dict[tuple[str, timedelta], list[Feature]]:
    """One as-of join serves all features that share a table and a lag."""
    groups: dict[tuple[str, timedelta], list[Feature]] = {}
    for feature in features:
        groups.setdefault((feature.view, feature.serving_lag), []).append(feature)
    return groups


def _visible(
    requests: pl.DataFrame, rows: pl.DataFrame, features: Sequence[Feature], lag: timedelta
) -> pl.DataFrame:
    """Per request, in order: entity, moment, and the deciding row's event_ts and values (null for none)."""
    entity, names = features[0].entity, [feature.name for feature in features]
    others = sorted(set(rows.columns) - {entity, EVENT, INGESTED})
    # The rank orders an entity's rows by which one decides; a running maximum over arrival then says, for
    # every moment, which of the rows visible so far that is.
    ranked = rows.sort(entity, EVENT, INGESTED, *others, nulls_last=False).with_row_index(_RANK)
    arrivals = (
        ranked.select(entity, _RANK, pl.max_horizontal(INGESTED, pl.col(EVENT) + lag).alias(_AVAILABLE))
        .sort(_AVAILABLE, _RANK)
        .with_columns(pl.col(_RANK).cum_max().over(entity))
        .unique([entity, _AVAILABLE], keep="last", maintain_order=True)
    )
    deciding = _join_as_of(requests.drop_nulls(entity), arrivals, entity)
    return (
        requests.join(deciding.select(_ROW, _RANK), on=_ROW, how="left")
        .join(ranked.select(_RANK, EVENT, *names), on=_RANK, how="left")
        .sort(_ROW)
    )


def _join_as_of(requests: pl.DataFrame, arrivals: pl.DataFrame, entity: str) -> pl.DataFrame:
    """The newest arrival at or before each request. Polars does not check the order it needs: sort here."""
    return requests.sort(_AS_OF).join_asof(
        arrivals.sort(_AVAILABLE),
        left_on=_AS_OF,
        right_on=_AVAILABLE,
        by=entity,
        strategy="backward",
        check_sortedness=False,
    )


def _settle(seen: pl.DataFrame, feature: Feature) -> tuple[pl.Series, pl.Series]:
    """The feature's values and reasons, one per request."""
    stored = pl.col(feature.name)
    if feature.dtype == "float":
        stored = stored.fill_nan(None)
    reason = (
        pl.when(pl.col(feature.entity).is_null())
        .then(pl.lit(Reason.MISSING.value))
        .when(pl.col(EVENT).is_null())
        .then(pl.lit(Reason.DEFAULT.value))
        .when(pl.col(_AS_OF) - pl.col(EVENT) > feature.ttl)
        .then(pl.lit(Reason.STALE.value))
        .when(stored.is_null())
        .then(pl.lit(Reason.MISSING.value))
        .otherwise(pl.lit(Reason.VALUE.value))
    )
    default = pl.lit(feature.default, dtype=DTYPES[feature.dtype])
    value = pl.when(reason == Reason.VALUE.value).then(stored).otherwise(default)
    both = seen.select(
        value.cast(DTYPES[feature.dtype]).alias(feature.name), reason.alias(reason_column(feature.name))
    )
    return both[feature.name], both[reason_column(feature.name)]


def _check_entities(entities: pl.DataFrame, features: Sequence[Feature]) -> None:
    for entity in {feature.entity for feature in features}:
        if entity not in entities.columns:
            raise InputError(
                "entities",
                expected=f"a column '{entity}'",
                got=", ".join(entities.columns) or "no columns",
                next_step=nearest(entity, entities.columns),
            )
        if entities.schema[entity] not in (pl.String, pl.Null):
            raise InputError(
                f"entities: column '{entity}'",
                expected="text",
                got=str(entities.schema[entity]),
                next_step="Cast it to text; identifiers are not numbers.",
            )
    taken = {name for one in features for name in (one.name, reason_column(one.name))} & {*entities.columns}
    if taken:
        raise InputError(
            "entities",
            expected="no column named like a feature",
            got=", ".join(sorted(taken)),
            next_step="Rename or drop it.",
        )


def _moments(entities: pl.DataFrame, as_of: str | datetime) -> pl.Series:
    """The moment of each read, in UTC microseconds."""
    if isinstance(as_of, datetime):
        moment = utc(as_of, field="as_of")
        return pl.Series(_AS_OF, [moment] * entities.height, dtype=INSTANT)
    if as_of not in entities.columns:
        raise InputError(
            "as_of",
            expected="a column of the entities, or a moment",
            got=repr(as_of),
            next_step="Say when each value was needed; there is no default, because 'now' would leak.",
        )
    column = entities[as_of]
    if not isinstance(column.dtype, pl.Datetime) or column.dtype.time_zone is None:
        raise InputError(
            f"as_of: column '{as_of}'",
            expected="times with a time zone",
            got=str(column.dtype),
            next_step="Convert it, for example with dt.replace_time_zone('UTC').",
        )
    if column.null_count():
        raise InputError(
            f"as_of: column '{as_of}'",
            expected="a time in every row",
            got=f"{column.null_count()} empty ones",
            next_step="Drop those rows.",
        )
    return column.dt.convert_time_zone("UTC").cast(INSTANT).alias(_AS_OF)
