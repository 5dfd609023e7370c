"""The durable write spool: an append that returned is on disk, and reaches its table exactly once.

Appends go to segment files, one per writer, with one fsync shared by all threads that wait. The drain moves
records into an Iceberg table; the commit that adds them also sets, in a table property, how far each segment
was read. A drain killed anywhere finds that mark again: before the commit nothing was added, after it
nothing is added twice. A property outlives the expiry of the snapshot it came with.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from mangaassist.core.errors import InputError, IntegrityError, Unavailable
from mangaassist.core.home import unwritable
from mangaassist.core.identity import canonical_json
from mangaassist.storage.segment import (
    HEADER_BYTES,
    SUFFIX,
    Frame,
    SegmentReader,
    SegmentWriter,
    encode_frame,
    sync_folder,
)

if TYPE_CHECKING:
    import pyarrow as pa

_IDENTITY = "spool.json"


class _Tables(Protocol):
    """The part of :class:`mangaassist.storage.tables.Tables` a drain needs."""

    def append(
        self, name: str, rows: pa.Table, *, properties: Mapping[str, str], marks: Mapping[str, str]
    ) -> int: ...

    def marks(self, name: str) -> dict[str, str]: ...


class _Batch:
    """Frames that share one fsync."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.done = False
        self.error: OSError | None = None


class Spool:
    """A spool in ``folder``; any number of processes may append, one drains at a time."""

    def __init__(self, folder: Path, *, segment_bytes: int = 16 << 20, drain_bytes: int = 64 << 20) -> None:
        """Open or create the spool.

        Args:
            segment_bytes: a writer starts a new file when its file has grown past this.
            drain_bytes: about how much is moved in one commit, which bounds the drain's memory.
        """
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._drain_bytes = drain_bytes
        # A segment's name is never used twice, or marks of a deleted one would hide records of the next.
        self._writer_id = uuid.uuid4().hex
        self._segments_made = 0
        self._segment: SegmentWriter | None = None
        self._condition = threading.Condition()
        self._batch = _Batch()
        self._writing = False
        self._closed = False

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Store ``records``, all or none, and return once they are on disk.

        Raises:
            Unavailable: the disk is full, or the spool was closed. InputError: it may not be written.
            TypeError: for a value without a JSON form.
        """
        if not records:
            return
        frame = encode_frame(records)
        with self._condition:
            self._check_open()
            batch = self._batch
            batch.frames.append(frame)
            while self._writing and not batch.done:
                self._condition.wait()
            if not batch.done:
                self._writing, self._batch = True, _Batch()
        # Whoever finds nobody writing writes for everybody who came since.
        if not batch.done:
            self._write(batch)
        if batch.error is not None:
            raise unwritable(self._folder, batch.error) from batch.error

    def drain(
        self,
        tables: _Tables,
        table: str,
        schema: pa.Schema,
        *,
        admit: Callable[[pa.Table], pa.Table] = lambda rows: rows,
    ) -> int:
        """Move what was appended, by all processes, into ``table``; returns the number of records read.

        A spool belongs to the first table it is drained into. Keys a record lacks become empty values.

        Args:
            admit: chooses, before each commit, which of its rows enter the table; the others are done with.

        Raises:
            InputError: another table, or records that do not fit ``schema``; they stay in the spool.
            IntegrityError: an acknowledged record was damaged; what lies before it was moved.
        """
        moved = 0
        with self._failing_clearly(), self._drain_lock():
            key = f"spool.{self._identity(table)}"
            while True:
                count, more = self._drain_once(tables, table, schema, key, admit)
                moved += count
                if not more:
                    return moved

    def pending(self) -> int:
        """Records appended and not yet drained, of all processes."""
        total = 0
        for path in self._paths():
            # Drained and deleted by another process meanwhile: nothing pending in it.
            with suppress(FileNotFoundError), SegmentReader(path) as reader:
                total += sum(frame.count for frame in reader.frames(reader.drained()))
        return total

    def waiting(self, schema: pa.Schema) -> pa.Table | None:
        """What was appended by all processes and is in no table yet; None for nothing, and nothing is moved.

        A drain that runs beside it may move some of it into the table before or after it is read here. What
        lies behind damage is left out; the drain tells of it.
        """
        records: list[dict[str, Any]] = []
        for path in self._paths():
            with suppress(FileNotFoundError, IntegrityError), SegmentReader(path) as reader:
                for frame in reader.frames(reader.drained()):
                    records += frame.records()
        return rows_of(records, schema) if records else None

    def close(self) -> None:
        """Finish this writer's segment, so that a drain may delete it."""
        with self._condition:
            while self._writing:
                self._condition.wait()
            self._closed = True
            self._end_segment()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(
                "spool", expected="an open spool", got="one that was closed", next_step="Open it again."
            )

    def _write(self, batch: _Batch) -> None:
        batch.error = OSError("the write was interrupted")
        try:
            self._open_segment().commit(batch.frames)
            batch.error = None
        except OSError as error:
            batch.error = error
        finally:
            with self._condition:
                if batch.error is not None or (self._segment and self._segment.size >= self._segment_bytes):
                    self._end_segment()
                batch.done, self._writing = True, False
                self._condition.notify_all()

    def _open_segment(self) -> SegmentWriter:
        if self._segment is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{self._writer_id}-{self._segments_made:06d}{SUFFIX}"
            self._segments_made += 1
            self._segment = SegmentWriter(self._folder / name)
        return self._segment

    def _end_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder.exists() else []

    def _drain_once(
        self,
        tables: _Tables,
        table: str,
        schema: pa.Schema,
        key: str,
        admit: Callable[[pa.Table], pa.Table],
    ) -> tuple[int, bool]:
        """One commit; how many records it moved and whether there may be more."""
        marks: dict[str, int] = orjson.loads(tables.marks(table).get(key, "{}"))
        paths = self._paths()
        taken = _take(paths, marks, self._drain_bytes)
        records = [record for one in taken for frame in one.frames for record in frame.records()]
        if records:
            ranges = {one.path.name: [one.start, one.end] for one in taken if one.frames}
            # Segments that are gone need no mark: their names never come back.
            kept = {path.name: marks[path.name] for path in paths if path.name in marks}
            ends = {one.path.name: one.end for one in taken}
            tables.append(
                table,
                admit(rows_of(records, schema)),
                properties={key: canonical_json(ranges).decode()},
                marks={key: canonical_json({**kept, **ends}).decode()},
            )
        for one in taken:
            one.release()
        sync_folder(self._folder)
        damage = next((one.damage for one in taken if one.damage is not None), None)
        if damage is not None:
            raise damage
        return len(records), any(not one.exhausted for one in taken)

    def _identity(self, table: str) -> str:
        """The spool's id, fixed together with its table by the first drain."""
        path = self._folder / _IDENTITY
        if not path.exists():
            draft = path.with_suffix(".draft")
            with draft.open("wb") as file:
                file.write(canonical_json({"id": uuid.uuid4().hex, "table": table}))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            sync_folder(self._folder)
        found = orjson.loads(path.read_bytes())
        if found["table"] != table:
            raise InputError(
                "spool",
                expected=f"table '{found['table']}', which it was drained into before",
                got=f"'{table}'",
                next_step="Use one spool folder per table.",
            )
        return str(found["id"])

    @contextmanager
    def _drain_lock(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "drain.lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._folder, error) from error


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one commit moves out of one segment, from byte ``start``.

    ``exhausted`` is False when the commit was full before the segment was read; ``finished`` as in
    :class:`SegmentReader`; ``damage`` is the error met in acknowledged bytes.
    """

    path: Path
    start: int
    frames: list[Frame]
    finished: bool
    exhausted: bool
    damage: IntegrityError | None

    @property
    def end(self) -> int:
        return self.frames[-1].end if self.frames else self.start

    def release(self) -> None:
        """Give the disk back, or note how far the drain got."""
        if self.finished and self.exhausted and self.damage is None:
            self.path.unlink()
        elif self.frames:
            with SegmentReader(self.path) as reader:
                reader.set_drained(self.end)


def _take(paths: Sequence[Path], marks: Mapping[str, int], limit: int) -> list[_Taken]:
    """What to move, up to about ``limit`` bytes; a damaged segment does not hold up the others."""
    taken: list[_Taken] = []
    for path in paths:
        with SegmentReader(path) as reader:
            one, size = _take_one(reader, marks.get(path.name, HEADER_BYTES), limit)
        taken.append(one)
        limit -= size
        if not one.exhausted:
            break
    return taken


def _take_one(reader: SegmentReader, start: int, limit: int) -> tuple[_Taken, int]:
    frames: list[Frame] = []
    size, exhausted, damage = 0, True, None
    try:
        for frame in reader.frames(start):
            if size >= limit:
                exhausted = False
                break
            frames.append(frame)
            size += frame.end - frame.start
    except IntegrityError as error:
        damage = error
    return _Taken(reader.path, start, frames, reader.finished, exhausted, damage), size


def rows_of(records: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Spooled records as Arrow rows; instants come back from their JSON spelling.

    Raises:
        InputError: a key the schema does not know, or a value of another type.
    """
    import pyarrow as pa

    known = set(schema.names)
    for record in records:
        if not known.issuperset(record):
            raise _unfit(f"columns {', '.join(schema.names)}", ", ".join(sorted(record.keys() - known)))
    columns = []
    for field in schema:
        values = [record.get(field.name) for record in records]
        spelled = pa.types.is_timestamp(field.type)
        try:
            column = pa.array(values, pa.string() if spelled else field.type)
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise _unfit(f"'{field.name}' as {field.type}", str(error)) from error
    return pa.table(columns, schema=schema)


def _unfit(expected: str, got: str) -> InputError:
    return InputError(
        "spooled record",
        expected=expected,
        got=got,
        next_step="Drain with the schema the records were written for; they are still in the spool.",
    )
