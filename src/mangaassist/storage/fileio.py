"""Iceberg's files on a local disk: a commit survives a power cut, a flipped byte is noticed at the read.

The catalog row that makes a commit visible is fsynced by its database; the files it names are not, by
pyiceberg, and would be lost with the page cache. Here each file and its folder are.

Every file gets a checksum beside it (``.<name>.crc``), compared before its bytes reach a decoder: pyiceberg's
Avro decoder trusts its input to the point of crashing the process, and a Parquet file with a flipped byte
reads as other rows in half of all cases.
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from pyarrow.fs import LocalFileSystem
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

from mangaassist.storage.segment import sync_folder

_BUFFER_BYTES = 1 << 20
MOVED = "mangaassist.moved"
"""Property of a catalog: JSON of the folders that its files were written to, and where each is now."""
_READ_WHOLE = frozenset({".avro", ".json"})
"""Metadata, small enough to be checked and decoded from the same bytes in memory."""


def checksum_path(path: str) -> str:
    """Where the checksum of the file ``path`` lies."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.crc"


class _SyncedFile(io.FileIO):
    """A raw file that reaches the disk, and leaves its checksum, before it counts as closed."""

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._path = path
        self._checksum = 0

    def write(self, data: Any) -> int:
        written = super().write(data)
        self._checksum = zlib.crc32(memoryview(data)[:written], self._checksum)
        return written

    def close(self) -> None:
        if not self.closed:
            os.fsync(self.fileno())
            # Not synced: one that is lost to a power cut is simply not compared.
            Path(checksum_path(str(self._path))).write_text(f"{self._checksum:08x}", encoding="ascii")
        super().close()


class _LocalFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> OutputStream:
        path = Path(self._path)
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = _SyncedFile(path, "wb" if overwrite else "xb")
        sync_folder(path.parent)
        return io.BufferedWriter(raw, _BUFFER_BYTES)

    def checked(self) -> Path:
        """Where it lies, after its checksum was compared; OSError where that differs."""
        path = Path(self._path)
        _compare(path, _checksum_of(path))
        return path

    def open(self, seekable: bool = True) -> InputStream:
        path = Path(self._path)
        if path.suffix not in _READ_WHOLE:
            self.checked()
            return super().open(seekable)
        data = path.read_bytes()
        _compare(path, zlib.crc32(data))
        stream: InputStream = pa.BufferReader(data)
        return stream


class DurableFileIO(PyArrowFileIO):
    """pyiceberg's own file access, with the above where the file system is the local one."""

    @staticmethod
    def parse_location(location: str, properties: Properties = EMPTY_DICT) -> tuple[str, str, str]:
        """As pyiceberg's; a file of a home that was copied or moved is looked for where the home is now."""
        scheme, host, path = PyArrowFileIO.parse_location(location, properties)
        if scheme == "file":
            for old, new in orjson.loads(properties.get(MOVED, "{}")).items():
                if path.startswith(old + "/"):
                    return scheme, host, new + path.removeprefix(old)
        return scheme, host, path

    def new_input(self, location: str) -> PyArrowFile:
        return _local(super().new_input(location))

    def new_output(self, location: str) -> PyArrowFile:
        return _local(super().new_output(location))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        super().delete(location)
        text = location if isinstance(location, str) else location.location
        scheme, _, path = self.parse_location(text, self.properties)
        if scheme == "file":
            Path(checksum_path(path)).unlink(missing_ok=True)


def checked_path(files: FileIO, location: str) -> Path | None:
    """Where ``location`` lies on a local disk, its checksum compared; None where it lies elsewhere.

    Raises:
        OSError: the file is not there, or not what was written.
    """
    file = files.new_input(location)
    return file.checked() if isinstance(file, _LocalFile) else None


def _local(file: PyArrowFile) -> PyArrowFile:
    if not isinstance(file._filesystem, LocalFileSystem):
        return file
    return _LocalFile(file.location, file._path, file._filesystem, file._buffer_size)


def _checksum_of(path: Path) -> int:
    """The CRC-32 of a file of any size; some 3 GB a second, beside which decoding is slow."""
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_BUFFER_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _compare(path: Path, found: int) -> None:
    try:
        kept = int(Path(checksum_path(str(path))).read_text(encoding="ascii"), 16)
    except (FileNotFoundError, ValueError):
        return  # written by another engine, or lost to a power cut
    if found != kept:
        raise OSError(f"{path.name} does not match its checksum")
