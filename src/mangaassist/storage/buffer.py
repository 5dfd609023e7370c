"""Rows gathered until they are worth a commit: Iceberg wants few large appends, callers make many small."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa

from mangaassist.core.clock import Clock


class _Appends(Protocol):
    def append(self, name: str, rows: pa.Table) -> int: ...


class BufferedWriter:
    """Buffers rows of one table and appends them by count or age; safe between threads.

    Rows are in memory until :meth:`flush` returns: a killed process loses them. What must not be lost goes
    through :class:`mangaassist.storage.spool.Spool`.
    """

    def __init__(
        self,
        tables: _Appends,
        name: str,
        schema: pa.Schema,
        *,
        clock: Clock,
        max_rows: int = 10_000,
        max_age: timedelta = timedelta(seconds=30),
    ) -> None:
        self._tables = tables
        self._name = name
        self._schema = schema
        self._clock = clock
        self._max_rows = max_rows
        self._max_age = max_age
        self._lock = threading.Lock()
        self._batches: list[pa.Table] = []
        self._oldest: datetime | None = None

    def add(self, rows: pa.Table | Sequence[Mapping[str, Any]]) -> int | None:
        """Take ``rows``; the snapshot id when they made the buffer due, else None."""
        batch = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=self._schema)
        with self._lock:
            if batch.num_rows:
                self._batches.append(batch.select(self._schema.names).cast(self._schema))
                self._oldest = self._oldest or self._clock.now()
            return self._flush() if self._due() else None

    def tick(self) -> int | None:
        """Append what has become too old while nothing was added."""
        with self._lock:
            return self._flush() if self._due() else None

    def flush(self) -> int | None:
        """Append everything; the snapshot id, None when there was nothing."""
        with self._lock:
            return self._flush()

    def pending(self) -> int:
        """Rows not appended yet."""
        with self._lock:
            return self._rows()

    def __enter__(self) -> BufferedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def _rows(self) -> int:
        return sum(batch.num_rows for batch in self._batches)

    def _due(self) -> bool:
        aged = self._oldest is not None and self._clock.now() - self._oldest >= self._max_age
        return aged or self._rows() >= self._max_rows

    def _flush(self) -> int | None:
        if not self._batches:
            return None
        # Forgotten only after the commit: a failed append leaves the rows for the next try.
        snapshot = self._tables.append(self._name, pa.concat_tables(self._batches))
        self._batches, self._oldest = [], None
        return snapshot
