"""The content-addressed artifact store: bytes under the name of their SHA-256, written once, checked at read.

Layout: ``<root>/<first two digits>/<digest>``. A blob appears by rename, so it is there whole or not at all
whatever kills the writer, and two writers of the same bytes write the same file.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError, IntegrityError, nearest
from mangaassist.core.home import unwritable
from mangaassist.core.identity import canonical_json, digest_bytes

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MANIFEST_START = b'{"files":'
_DRAFTS = "drafts"


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection freed, or would free.

    Attributes:
        digests: the unreferenced blobs past their grace period, sorted.
        bytes: their size together.
        kept: how many blobs stay.
        dry_run: True when nothing was deleted.
    """

    digests: tuple[str, ...]
    bytes: int
    kept: int
    dry_run: bool


class ArtifactStore:
    """A store under ``root``, created on the first write; safe between threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._drafts = root / _DRAFTS
        self._draft_numbers = itertools.count()

    def put(self, data: bytes, *, durable: bool = False) -> str:
        """Store ``data`` and return its digest.

        Args:
            durable: fsync the file and its folder before returning, so that it survives a power cut.

        Raises:
            Unavailable: the disk is full. InputError: the store may not be written.
        """
        digest = digest_bytes(data)
        self._put_all({digest: data}, durable=durable)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of ``digest``, checked.

        Raises:
            IntegrityError: they are missing or are not what was stored. InputError: ``digest`` is none.
        """
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError as error:
            raise _lost(digest, "nothing under that name") from error
        except OSError as error:
            raise _lost(digest, os.strerror(error.errno or 0)) from error
        found = digest_bytes(data)
        if found != digest:
            raise _lost(digest, f"{len(data)} bytes whose digest is {found}")
        return data

    def has(self, digest: str) -> bool:
        """Whether a blob of that name is there; its bytes are not checked."""
        return self._path(digest).exists()

    def put_files(
        self, files: Mapping[str, bytes], *, durable: bool = False, marks: Mapping[str, str] | None = None
    ) -> str:
        """Store several files as one artifact; its id is the digest of their manifest.

        Args:
            files: relative POSIX names to contents.
            marks: what the manifest says beside the files, and its digest covers (:meth:`marks`).
        """
        for name in files:
            _check_name(name)
        digests = {name: digest_bytes(data) for name, data in files.items()}
        entries = {name: {"digest": digests[name], "size": len(data)} for name, data in files.items()}
        manifest = canonical_json({"files": entries, **({"marks": dict(marks)} if marks else {})})
        # The manifest goes last: whoever sees it can read every file it names.
        blobs = {digests[name]: data for name, data in files.items()}
        self._put_all({**blobs, digest_bytes(manifest): manifest}, durable=durable)
        return digest_bytes(manifest)

    def names(self, digest: str) -> tuple[str, ...]:
        """The file names of artifact ``digest``, sorted."""
        return tuple(sorted(self._manifest(digest)))

    def read(self, digest: str, name: str) -> bytes:
        """One file of artifact ``digest``.

        Raises:
            InputError: it has no file ``name``.
        """
        entries = self._manifest(digest)
        if name not in entries:
            raise InputError(
                "artifact file",
                expected=f"a file of {digest[:12]}",
                got=repr(name),
                next_step=nearest(name, entries),
            )
        return self.get(entries[name])

    def files(self, digest: str) -> dict[str, bytes]:
        """All files of artifact ``digest`` by name."""
        return {name: self.get(blob) for name, blob in sorted(self._manifest(digest).items())}

    def marks(self, digest: str) -> dict[str, str]:
        """What :meth:`put_files` kept beside the files of artifact ``digest``."""
        return dict(orjson.loads(self.get(digest)).get("marks", {}))

    def check(self, digest: str) -> None:
        """Compare every byte of a blob, or of an artifact and its files, with its digest.

        Raises:
            IntegrityError: one is missing or is not what was stored. InputError: ``digest`` is none.
        """
        self.get(digest)
        for blob in self._children(digest):
            self.get(blob)

    def collect(
        self, reachable: set[str], *, grace: timedelta, now: datetime, dry_run: bool = True
    ) -> Collected:
        """Free what nothing refers to.

        Args:
            reachable: digests somebody refers to; the files of a manifest among them are kept with it.
            grace: blobs younger than this stay, because their reference may not be written yet. It must
                be longer than the longest run.
            now: on the clock that stamps files, that is the system's and never a simulated one.

        Raises:
            IntegrityError: something reachable is damaged or missing; nothing was deleted.
        """
        keep = set(reachable).union(*(self._children(digest) for digest in reachable))
        before = (utc(now, field="now") - grace).timestamp()
        stale, kept = [], 0
        for path in self._blobs():
            if path.name in keep or path.stat().st_mtime > before:
                kept += 1
            else:
                stale.append(path)
        freed = {path.name: path.stat().st_size for path in stale}
        if not dry_run:
            freed = {path.name: size for path in stale if (size := self._remove(path, before)) is not None}
            self._remove_drafts(before)
        gone = tuple(sorted(freed))
        return Collected(gone, sum(freed.values()), kept + len(stale) - len(gone), dry_run)

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InputError(
                "digest",
                expected="64 hexadecimal characters",
                got=repr(digest),
                next_step="Copy it from 'registry list' or 'explain'.",
            )
        return self._root / digest[:2] / digest

    def _put_all(self, blobs: Mapping[str, bytes], *, durable: bool) -> None:
        try:
            for digest, data in blobs.items():
                self._write(digest, data, durable=durable)
            if durable:
                for folder in {self._path(digest).parent for digest in blobs} | {self._root}:
                    _fsync(folder)
        except OSError as error:
            raise unwritable(self._root, error) from error

    def _write(self, digest: str, data: bytes, *, durable: bool) -> None:
        path = self._path(digest)
        if path.exists() and self._reuse(path, data, durable=durable):
            return
        draft, descriptor = self._new_draft()
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                _write_fully(file, data)
                if durable:
                    os.fsync(file.fileno())
            _rename(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def _reuse(self, path: Path, data: bytes, *, durable: bool) -> bool:
        """Keep an existing blob if it is intact, and make it young for :meth:`collect`."""
        with self._lock(fcntl.LOCK_SH):
            try:
                with path.open("rb", buffering=0) as file:
                    if file.readall() != data:
                        return False  # damaged: write it again
                    os.utime(file.fileno())
                    if durable:
                        os.fsync(file.fileno())
            except FileNotFoundError:
                return False
        return True

    def _new_draft(self) -> tuple[Path, int]:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        while True:
            draft = self._drafts / f"{os.getpid()}.{threading.get_ident()}.{next(self._draft_numbers)}"
            try:
                return draft, os.open(draft, flags, 0o444)
            except FileNotFoundError:
                self._drafts.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                continue  # left by a killed process whose id came round again

    @contextmanager
    def _lock(self, mode: int) -> Iterator[None]:
        """Between re-using a blob (shared) and removing one (exclusive)."""
        descriptor = os.open(self._root / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, mode)
            yield
        finally:
            os.close(descriptor)

    def _manifest(self, digest: str) -> dict[str, str]:
        try:
            files: dict[str, Any] = orjson.loads(self.get(digest))["files"]
            return {name: entry["digest"] for name, entry in files.items()}
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                "artifact",
                expected="the id of a set of files",
                got=f"{digest[:12]}, which is a single blob",
                next_step="Pass the id that 'registry list' shows.",
            ) from error

    def _children(self, digest: str) -> set[str]:
        try:
            with self._path(digest).open("rb") as file:
                manifest = file.read(len(_MANIFEST_START)) == _MANIFEST_START
        except FileNotFoundError as error:
            raise _lost(digest, "nothing under that name") from error
        if not manifest:
            return set()
        try:
            return set(self._manifest(digest).values())
        except InputError:
            return set()  # a blob that merely begins like a manifest

    def _blobs(self) -> Iterator[Path]:
        if not self._root.exists():
            return
        for folder in sorted(self._root.iterdir()):
            if folder.is_dir() and folder.name != _DRAFTS:
                yield from sorted(path for path in folder.iterdir() if _DIGEST.fullmatch(path.name))

    def _remove(self, path: Path, before: float) -> int | None:
        """Delete one blob unless it was put again meanwhile; its size when deleted."""
        with self._lock(fcntl.LOCK_EX):
            try:
                found = path.stat()
            except FileNotFoundError:
                return None
            if found.st_mtime > before:
                return None
            path.unlink()
            return found.st_size

    def _remove_drafts(self, before: float) -> None:
        for draft in self._drafts.iterdir() if self._drafts.exists() else ():
            if draft.stat().st_mtime <= before:
                draft.unlink(missing_ok=True)


def _rename(draft: Path, path: Path) -> None:
    try:
        draft.replace(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(path)


def _write_fully(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if not name or name != str(path) or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(
            "artifact file",
            expected="a relative name such as 'weights/model.npz'",
            got=repr(name),
            next_step="Rename the file.",
        )


def _lost(digest: str, got: str) -> IntegrityError:
    return IntegrityError(
        f"artifact {digest}",
        expected="the bytes that were stored",
        got=got,
        next_step="Restore this file from a backup, or replay the run that made it.",
    )
