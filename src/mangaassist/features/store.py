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
from mangaassist.storage.arrow import storable_schema
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

        A feature that is new in the catalog gets its column with the first append; one that was removed
        keeps its column, empty from then on.

        Args:
            rows: the view's entity (text), event_ts, one column per feature, and ingested_at unless given.
            ingested_at: when all of these rows became known.

        Raises:
            InputError: for an unknown view, missing or unknown columns, wrong types, a null key or time, or
                a table whose entity or dtypes are others than the catalog's.
        """
        if ingested_at is not None:
            known = pl.lit(utc(ingested_at, field="ingested_at"), dtype=INSTANT)
            rows = rows.with_columns(known.alias(INGESTED))
        frame = _conform(catalog, view, rows)
        table, schema = catalog.table(view), _stored(catalog, view)
        self._columns(catalog, view, None)
        return self.tables.append(table, frame.to_arrow().cast(schema), evolve=True)

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
            With the setting ``ray_address`` the same comes from that cluster (features/distributed.py).
        """
        if address := self.tables.home.settings.ray_address:
            from mangaassist.features import distributed

            return distributed.read(
                self, catalog, entities, names, as_of=as_of, snapshots=snapshots, address=address
            )
        features = catalog.chosen(names)
        views = dict.fromkeys(feature.view for feature in features)
        rows = {view: self.rows(catalog, view, snapshots, names=names) for view in views}

        def others(view: str) -> pl.DataFrame:
            return self.rows(catalog, view, snapshots).drop(_keys(catalog, view))

        return point_in_time(rows, features, entities, as_of=as_of, others=others)

    def snapshots(self, catalog: Catalog) -> dict[str, int | None]:
        """The newest snapshot of each view; None for views without rows."""
        views = sorted({feature.view for feature in catalog.features.values()})
        return {view: self.tables.snapshot(catalog.table(view)) for view in views}

    def rows(
        self,
        catalog: Catalog,
        view: str,
        snapshots: Mapping[str, int | None] | None = None,
        *,
        names: Sequence[str] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> pl.DataFrame:
        """Rows of one view in the catalog's columns and types; empty before the first.

        Args:
            names: of the view's features, those to read; None reads all. Features that came into the
                catalog after a row was written are empty in it.
            share: (i, n) reads the i-th of n parts, which together are all rows.

        Raises:
            InputError: the table's entity or dtypes are others than the catalog's.
        """
        schema = _schema(catalog, view)
        keys = _keys(catalog, view)
        if names is not None:
            schema = pl.Schema({name: kind for name, kind in schema.items() if name in {*keys, *names}})
        pinned = None if snapshots is None else snapshots.get(view)
        absent = snapshots is not None and pinned is None
        known = set() if absent else self._columns(catalog, view, pinned)
        if not known:
            return pl.DataFrame(schema=schema)
        stored = self.tables.read(
            catalog.table(view),
            snapshot=pinned,
            columns=[name for name in schema if name in known],
            share=share,
        )
        return _shaped(stored, schema)

    def added(self, catalog: Catalog, view: str, after: int | None, upto: int | None) -> pl.DataFrame | None:
        """The rows that came after one snapshot of a view's table and up to another, as :meth:`rows`.

        Args:
            after, upto: as :meth:`snapshots` gave them, the later one the newest there is.

        Returns:
            None when it cannot be told any more: a snapshot has expired, or is not the newest by now.
        """
        if after is None:
            return self.rows(catalog, view, {view: upto})
        if upto in (None, after):
            return pl.DataFrame(schema=_schema(catalog, view))
        table, schema = catalog.table(view), _schema(catalog, view)
        numbers = [self.tables.number(table, snapshot) for snapshot in (after, upto)]
        if numbers[0] is None:
            return None
        known = self._columns(catalog, view, upto)
        found, newest = self.tables.since(
            table, numbers[0], columns=[name for name in schema if name in known]
        )
        if newest != numbers[1]:
            return None
        return pl.DataFrame(schema=schema) if found is None else _shaped(found, schema)

    def _columns(self, catalog: Catalog, view: str, snapshot: int | None) -> set[str]:
        """The columns of a view's table, none before the first append, checked against the catalog."""
        table = catalog.table(view)
        stored = self.tables.schema(table, snapshot=snapshot)
        if stored is None:
            return set()
        for field in storable_schema(_stored(catalog, view)):
            if field.name in _keys(catalog, view) and field.name not in stored.names:
                step = "Rows of one table share one entity: give the changed view a new name."
                raise _misfit(f"table '{table}'", f"a column '{field.name}'", "none", step)
            if field.name in stored.names and stored.field(field.name).type != field.type:
                got = f"{stored.field(field.name).type} in the rows stored so far"
                step = "Stored rows keep their meaning: give the changed feature a new name."
                raise _misfit(f"table '{table}': column '{field.name}'", str(field.type), got, step)
        return set(stored.names)


def _keys(catalog: Catalog, view: str) -> list[str]:
    return [catalog.view(view)[0].entity, EVENT, INGESTED]


def _shaped(stored: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """``stored`` in the catalog's columns and types; empty where it has none."""
    return stored.select(
        (pl.col(name) if name in stored.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema.items()
    )


def _stored(catalog: Catalog, view: str) -> pa.Schema:
    """The columns of a view's table as the catalog wants them."""
    entity, *times = _keys(catalog, view)
    instants = [(name, pa.timestamp("us", tz="UTC")) for name in times]
    values = [(feature.name, _ARROW[feature.dtype]) for feature in catalog.view(view)]
    return pa.schema([(entity, pa.string()), *instants, *values])


def _schema(catalog: Catalog, view: str) -> pl.Schema:
    entity, *times = _keys(catalog, view)
    columns: dict[str, pl.DataType] = {entity: pl.String(), **dict.fromkeys(times, INSTANT)}
    return pl.Schema(columns | {feature.name: DTYPES[feature.dtype] for feature in catalog.view(view)})


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
