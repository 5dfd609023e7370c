"""One file of the write spool: a header, then frames that are only ever added.

Header (32 bytes): magic, then two offsets with a CRC each. ``acknowledged`` is how far appends were confirmed
to their callers; below it every byte must be good, past it a torn end is what a kill leaves. ``drained`` is
how far the drain got, a hint for counting only. A frame is length, CRC, record count, payload (a JSON array).

A writer holds an exclusive file lock on its segment as long as it lives; a segment that can be locked is
finished and may be deleted once drained.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mangaassist.core.errors import IntegrityError
from mangaassist.core.identity import canonical_json

SUFFIX = ".segment"
HEADER_BYTES = 32
_MAGIC = b"MASPOOL1"
_OFFSET = struct.Struct("<QI")
_ACKNOWLEDGED_AT = 8
_DRAINED_AT = 20
_FRAME = struct.Struct("<III")
_COUNT = struct.Struct("<I")


def encode_frame(records: Sequence[Mapping[str, Any]]) -> bytes:
    """``records`` as one frame: after a crash they are all there or none is.

    Raises:
        TypeError: for a value without a JSON form.
    """
    payload = canonical_json(list(records))
    checksum = zlib.crc32(payload, zlib.crc32(_COUNT.pack(len(records))))
    return _FRAME.pack(len(payload), checksum, len(records)) + payload


class SegmentWriter:
    """The only writer of one segment file."""

    def __init__(self, path: Path) -> None:
        # Renamed into sight only when locked and whole: a drain that could lock it would delete it as empty.
        draft = path.with_suffix(".draft")
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        self._descriptor = os.open(draft, flags, 0o644)
        self.size = HEADER_BYTES
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            _write_fully(self._descriptor, _MAGIC + _pack_offset(HEADER_BYTES) + _pack_offset(HEADER_BYTES))
            os.fsync(self._descriptor)
            draft.replace(path)
            sync_folder(path.parent)
        except OSError:
            os.close(self._descriptor)
            draft.unlink(missing_ok=True)
            raise

    def commit(self, frames: Sequence[bytes]) -> None:
        """Write ``frames`` and return once they are on disk and marked acknowledged."""
        data = b"".join(frames)
        _write_fully(self._descriptor, data)
        os.fdatasync(self._descriptor)
        self.size += len(data)
        os.pwrite(self._descriptor, _pack_offset(self.size), _ACKNOWLEDGED_AT)

    def close(self) -> None:
        """Let go of the file, cutting off what a failed commit may have left behind."""
        try:
            os.ftruncate(self._descriptor, self.size)
        finally:
            os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame in a segment: its byte range and how many records it holds."""

    start: int
    end: int
    count: int
    payload: bytes

    def records(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = orjson.loads(self.payload)
        return records


class SegmentReader:
    """A segment opened by the drain."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        # Asked before anything is read: a writer that ends meanwhile only makes this one drain too careful.
        self.finished = self._try_lock()

    def acknowledged(self) -> int:
        """How far appends were confirmed; the end of the header when that cannot be read."""
        return _unpack_offset(os.pread(self._descriptor, _OFFSET.size, _ACKNOWLEDGED_AT))

    def drained(self) -> int:
        """How far an earlier drain said it got."""
        return _unpack_offset(os.pread(self._descriptor, _OFFSET.size, _DRAINED_AT))

    def set_drained(self, offset: int) -> None:
        os.pwrite(self._descriptor, _pack_offset(offset), _DRAINED_AT)

    def frames(self, start: int) -> Iterator[Frame]:
        """Frames from byte ``start``: the acknowledged ones, and of a finished segment all whole ones.

        Raises:
            IntegrityError: acknowledged bytes are not what was written.
        """
        if os.pread(self._descriptor, len(_MAGIC), 0) != _MAGIC:
            raise _damaged(self.path, 0)
        acknowledged = self.acknowledged()
        end = os.fstat(self._descriptor).st_size if self.finished else acknowledged
        while start < end:
            frame = self._frame(start, end)
            if frame is None:
                if start < acknowledged:
                    raise _damaged(self.path, start)
                return  # the torn end of an append nobody was told had succeeded
            yield frame
            start = frame.end
        if start < acknowledged:
            raise _damaged(self.path, start)

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def _frame(self, start: int, end: int) -> Frame | None:
        head = os.pread(self._descriptor, _FRAME.size, start)
        if len(head) < _FRAME.size:
            return None
        length, checksum, count = _FRAME.unpack(head)
        stop = start + _FRAME.size + length
        if stop > end or not count:
            return None
        payload = os.pread(self._descriptor, length, start + _FRAME.size)
        if zlib.crc32(payload, zlib.crc32(_COUNT.pack(count))) != checksum:
            return None
        return Frame(start, stop, count, payload)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def sync_folder(folder: Path) -> None:
    """Make names created in or removed from ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_fully(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _pack_offset(offset: int) -> bytes:
    return _OFFSET.pack(offset, zlib.crc32(offset.to_bytes(8, "little")))


def _unpack_offset(data: bytes) -> int:
    if len(data) < _OFFSET.size:
        return HEADER_BYTES
    offset, checksum = _OFFSET.unpack(data)
    return int(offset) if zlib.crc32(data[:8]) == checksum else HEADER_BYTES


def _damaged(path: Path, offset: int) -> IntegrityError:
    return IntegrityError(
        f"spool segment {path.name}",
        expected="the records that were acknowledged",
        got=f"damaged bytes from offset {offset}",
        next_step="Restore the file from a backup; what lies before the damage was kept.",
    )
