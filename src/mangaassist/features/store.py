"""Feature rows in their tables: append view by view, read point in time (FEA-1, FEA-7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl
import pyarrow as pa

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError, nearest
from mangaassist.features.catalog import Catalog
from mangaassist.features.point_in_time import DTYPES, EVENT, INGESTED, INSTANT, point_in_time
from mangaassist.storage.tables import Tables

_ARROW = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "string": pa.string()}


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """The feature tables of every namespace; each namespace writes and reads its own only.

    Attributes:
        tables: where the rows are.
    """

    tables: Tables

    def append(
        self, catalog: Catalog, view: str, rows: pl.DataFrame, *, ingested_at: datetime | None = None
    ) -> int:
        """Append ``rows`` of one view and return the snapshot id; the same rows twice change no read.

        Args:
            rows: the view's entity (text), event_ts, one column per feature, and ingested_at unless given.
            ingested_at: when all of these rows became known.

        Raises:
            InputError: for an unknown view, missing or unknown columns, wrong types, or a null key or time.
        """
        if ingested_at is not None:
            known = pl.lit(utc(ingested_at, field="ingested_at"), dtype=INSTANT)
            rows = rows.with_columns(known.alias(INGESTED))
        frame = _conform(catalog, view, rows)
        features = catalog.view(view)
        instant = pa.timestamp("us", tz="UTC")
        schema = pa.schema(
            [(features[0].entity, pa.string()), (EVENT, instant), (INGESTED, instant)]
            + [(feature.name, _ARROW[feature.dtype]) for feature in features]
        )
        return self.tables.append(catalog.table(view), frame.to_arrow().cast(schema))

    def read(
        self,
        catalog: Catalog,
        entities: pl.DataFrame,
        names: Sequence[str],
        *,
        as_of: str | datetime,
        snapshots: Mapping[str, int | None] | None = None,
    ) -> pl.DataFrame:
        """``entities`` with the features ``names`` as serving saw them at ``as_of``.

        Args:
            as_of: column of ``entities`` with the moment of each read, or one moment. Required: a read
                without it would return today's values, and today knows the label.
            snapshots: as :meth:`snapshots` gives them, to repeat an earlier read; None reads the newest.

        Returns, Raises:
            As :func:`mangaassist.features.point_in_time.point_in_time`; unknown names are InputErrors too.
        """
        features = catalog.chosen(names)
        views = {
            view: self._rows(catalog, view, snapshots) for view in {feature.view for feature in features}
        }
        return point_in_time(views, features, entities, as_of=as_of)

    def snapshots(self, catalog: Catalog) -> dict[str, int | None]:
        """The newest snapshot of each view; None for views without rows."""
        views = sorted({feature.view for feature in catalog.features.values()})
        return {view: self.tables.snapshot(catalog.table(view)) for view in views}

    def _rows(self, catalog: Catalog, view: str, snapshots: Mapping[str, int | None] | None) -> pl.DataFrame:
        pinned = None if snapshots is None else snapshots.get(view)
        absent = snapshots is not None and pinned is None
        if absent or not self.tables.exists(catalog.table(view)):
            return pl.DataFrame(schema=_schema(catalog, view))
        stored = self.tables.read(catalog.table(view), snapshot=pinned)
        return _conform(catalog, view, stored)


def _schema(catalog: Catalog, view: str) -> pl.Schema:
    features = catalog.view(view)
    columns: dict[str, pl.DataType] = {features[0].entity: pl.String(), EVENT: INSTANT, INGESTED: INSTANT}
    return pl.Schema(columns | {feature.name: DTYPES[feature.dtype] for feature in features})


def _conform(catalog: Catalog, view: str, rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` in the columns and types the catalog gives the view; nothing is guessed or widened."""
    schema = _schema(catalog, view)
    where = f"features of '{catalog.namespace}.{view}'"
    for name in schema:
        if name not in rows.columns:
            raise _misfit(where, f"a column '{name}'", ", ".join(rows.columns), nearest(name, rows.columns))
    for name in rows.columns:
        if name not in schema:
            raise _misfit(where, "columns of the view", f"'{name}'", nearest(name, schema))
    for name, expected in schema.items():
        found = rows.schema[name]
        if isinstance(expected, pl.Datetime):
            fits = isinstance(found, pl.Datetime) and found.time_zone is not None
        else:
            fits = found in (expected, pl.Null) or (expected.is_integer() and found.is_integer())
        if not fits:
            raise _misfit(f"{where}: column '{name}'", str(expected), str(found), "Convert it first.")
    entity = next(iter(schema))
    for name in (entity, EVENT, INGESTED):
        if rows[name].null_count():
            got = f"{rows[name].null_count()} empty ones"
            raise _misfit(f"{where}: column '{name}'", "a value in every row", got, "Drop those rows.")
    utc_times = [pl.col(name).dt.convert_time_zone("UTC").cast(INSTANT) for name in (EVENT, INGESTED)]
    return rows.with_columns(utc_times).select(list(schema)).cast(schema)


def _misfit(field: str, expected: str, got: str, step: str) -> InputError:
    return InputError(field, expected=expected, got=got, next_step=step)
