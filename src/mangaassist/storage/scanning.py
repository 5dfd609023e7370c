"""Reading a table's files: which snapshot, which rows, and what damage looks like."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from pyiceberg.exceptions import ValidationError
from pyiceberg.table import DataScan, Table

from mangaassist.core.clock import utc
from mangaassist.core.errors import IntegrityError
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
)


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


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Files a catalog names but the disk does not give are damage, not a wrong setting."""
    try:
        with answering():
            yield
    except _DAMAGE as error:
        raise damaged_table(name, error) from error


def damaged_table(name: str, error: Exception) -> IntegrityError:
    """The error for files that are not there, or are not what was written."""
    return IntegrityError(
        f"table '{name}'",
        expected="the files its snapshots name",
        got=" ".join(f"{type(error).__name__} {error}".split())[:300],
        next_step="Restore the warehouse from a backup.",
    )
