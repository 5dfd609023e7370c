"""Reading a table's files: which snapshot, which rows, and what damage looks like."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyiceberg.exceptions import ValidationError
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.expressions.parser import parse
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, FileScanTask, Table

from mangaassist.core.clock import utc
from mangaassist.core.errors import IntegrityError
from mangaassist.storage.fileio import checked_path
from mangaassist.storage.warehouse import answering

# What pyiceberg's Avro, JSON and Parquet readers raise for bytes that are not what was written.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    ArithmeticError,
    AssertionError,
    TypeError,
    MemoryError,
    SystemError,
    ValidationError,
    struct.error,
    zlib.error,
    pa.ArrowException,
    NotImplementedError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
)
INSTANT = pl.Datetime("us", "UTC")
_WIDENING = pl.ScanCastOptions(
    integer_cast="upcast", float_cast="upcast", datetime_cast=["nanosecond-downcast", "convert-timezone"]
)
"""What files of other engines may need; ours have the table's types."""


@dataclass(frozen=True, slots=True)
class Between:
    """Rows with ``low`` <= ``column`` < ``high``, a column of instants."""

    column: str
    low: datetime
    high: datetime

    def filter(self) -> str:
        """The span as a table's engine understands it."""
        low, high = (utc(one, field=self.column).isoformat() for one in (self.low, self.high))
        return f"{self.column} >= '{low}' and {self.column} < '{high}'"

    def expression(self) -> pl.Expr:
        """The span as polars understands it."""
        low, high = (utc(one, field=self.column) for one in (self.low, self.high))
        return (pl.col(self.column) >= low) & (pl.col(self.column) < high)


def scan_of(name: str, table: Table, snapshot: int | None) -> DataScan:
    """All rows and columns of ``table`` at ``snapshot``; None for the newest.

    Raises:
        IntegrityError: the snapshot is gone.
    """
    if snapshot is not None and table.snapshot_by_id(snapshot) is None:
        raise IntegrityError(
            f"table '{name}'",
            expected=f"snapshot {snapshot}",
            got="no such snapshot",
            next_step="It was expired or never written here: restore it from a backup.",
        )
    return table.scan(snapshot_id=snapshot)


def rows_of(
    table: Table, tasks: Sequence[FileScanTask], schema: Schema, between: Between | None = None
) -> pl.DataFrame:
    """The columns ``schema`` of the files of ``tasks``, in their order, checksums compared first.

    Local files are decoded by polars, column beside column: pyiceberg's reader takes twice the work, and one
    core a row group. That one reads what polars cannot: files elsewhere than on a local disk, files with rows
    deleted by position, and tables in which a column changed its name or type.
    """
    plain = _told_by_name(table) and not any(task.delete_files for task in tasks)
    paths = _checked(table, tasks) if plain else None
    if paths is None:
        condition = parse(between.filter()) if between is not None else AlwaysTrue()
        return _frame(ArrowScan(table.metadata, table.io, schema, condition).to_table(tasks))
    wanted = _frame(schema_to_pyarrow(schema, include_field_ids=False).empty_table())
    if not paths:
        return wanted
    found = pl.scan_parquet(
        paths,
        schema={**wanted.schema, **({between.column: INSTANT} if between is not None else {})},
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
        hive_partitioning=False,
        cast_options=_WIDENING,
    )
    within = found if between is None else found.filter(between.expression())
    return within.select(wanted.columns).collect()


def _frame(rows: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(rows)
    assert isinstance(found, pl.DataFrame)
    return found


def _told_by_name(table: Table) -> bool:
    """Whether every name ever given to a column means one column of one type."""
    fields = {
        (one.field_id, one.name, str(one.field_type))
        for schema in table.metadata.schemas
        for one in schema.fields
    }
    return len({number for number, _, _ in fields}) == len({name for _, name, _ in fields}) == len(fields)


def _checked(table: Table, tasks: Sequence[FileScanTask]) -> list[Path] | None:
    """Where the files lie, their checksums compared on all cores; None unless all are local."""
    locations = [task.file.file_path for task in tasks]
    with ThreadPoolExecutor(min(len(locations), os.cpu_count() or 1) or 1) as threads:
        found = list(threads.map(partial(checked_path, table.io), locations))
    paths = [path for path in found if path is not None]
    return paths if len(paths) == len(locations) else None


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Files a catalog names but the disk does not give are damage, not a wrong setting."""
    try:
        with answering():
            yield
    except _DAMAGE as error:
        raise damaged_table(name, error) from error


def damaged_table(name: str, error: BaseException) -> IntegrityError:
    """The error for files that are not there, or are not what was written."""
    return IntegrityError(
        f"table '{name}'",
        expected="the files its snapshots name",
        got=" ".join(f"{type(error).__name__} {error}".split())[:300],
        next_step="Restore the warehouse from a backup.",
    )
