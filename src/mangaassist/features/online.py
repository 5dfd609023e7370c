"""The online store (FEA-6): generations of records, built aside, published whole, read without a lock.

A *name* is one schema version of one namespace ("intent@5f0c..."), so stories and schema versions never meet.
Under a name there are generations, each immutable from the moment it is published. A reader opens the one the
name's current manifest tells of and keeps it until it has opened the next.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import lmdb
import orjson

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import IntegrityError, Unavailable
from mangaassist.core.home import Home, unwritable
from mangaassist.core.identity import canonical_json

Item = tuple[bytes, bytes]

_CURRENT = "current"
_SUFFIX = ".lmdb"
_SMALLEST_MAP = 16 << 20
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one generation is.

    Attributes:
        name: schema version of its namespace, as :attr:`Catalog.version`.
        generation: which one of that name.
        fingerprint: of the catalog it was made by.
        catalog: that catalog, whole, as a JSON object.
        snapshots: view to table snapshot; None for a view without rows.
        watermark: reads are right from this moment on.
        rows: feature rows it was made from; keys: records in it.
        digest: SHA-256 over every key and record, the same in every engine.
        seal: what its engine checks when it opens it.
    """

    name: str
    generation: str
    fingerprint: str
    catalog: Mapping[str, Any]
    snapshots: Mapping[str, int | None]
    watermark: datetime
    rows: int
    keys: int
    digest: str
    seal: str

    def as_dict(self) -> dict[str, Any]:
        """The manifest as a JSON object."""
        return {**asdict(self), "watermark": isoformat(self.watermark)}

    def to_bytes(self) -> bytes:
        """The manifest as it is stored."""
        return canonical_json(self.as_dict())

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Manifest:
        """The inverse of :meth:`as_dict`."""
        return cls(**{**body, "watermark": parse_instant(body["watermark"], field="manifest.watermark")})

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The inverse of :meth:`to_bytes`.

        Raises:
            IntegrityError: it is none.
        """
        try:
            return cls.from_dict(orjson.loads(data))
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise _damaged("online manifest", f"{type(error).__name__}: {error}") from error


class Generation(Protocol):
    """One opened generation; safe to share between threads."""

    def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The records of ``keys``, in order; None where there is none.

        Raises:
            Unavailable, IntegrityError: the store does not answer, or is damaged.
        """

    def items(self) -> Iterator[Item]:
        """Every key and record, sorted by key."""


class OnlineStore(Protocol):
    """An engine that keeps generations; every method may raise Unavailable or IntegrityError."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Held by the one writer of ``name``; readers never need it."""

    def write(self, name: str, generation: str, items: Iterable[Item]) -> str:
        """Keep ``items`` (sorted by key) durably under a generation nobody reads yet; returns its seal."""

    def publish(self, manifest: Manifest) -> None:
        """Make a written generation the current one, at once and whole."""

    def manifests(self, name: str) -> list[Manifest]:
        """Every generation of ``name`` that was published and is still kept, oldest first."""

    def current(self, name: str) -> Manifest | None:
        """The manifest readers should follow; None before the first."""

    def open(self, manifest: Manifest) -> Generation:
        """The generation, checked against the manifest."""

    def collect(self, name: str, *, keep: Collection[str]) -> list[str]:
        """Drop every generation of ``name`` outside ``keep``, finished or not; returns what went."""

    def drop(self, name: str) -> None:
        """Forget everything under ``name``."""

    def names(self) -> list[str]:
        """The names that have a current manifest, sorted."""


def digesting(items: Iterable[Item], into: hashlib._Hash) -> Iterator[Item]:
    """``items``, counted into a digest on their way."""
    for key, record in items:
        into.update(b"%d %d " % (len(key), len(record)) + key + record)
        yield key, record


class EmbeddedStore:
    """Generations as LMDB files in a folder; one machine, any number of processes.

    Every generation is a file of its own that is never written to once it has its name. Reads therefore need
    neither LMDB's lock file nor its reader table, a file that is collected stays readable to those who have
    it open, and the check at opening holds for as long as it is open.

    Args:
        folder: where ``<name>/<generation>.lmdb`` and ``.json`` lie.
    """

    def __init__(self, home: Home, folder: str = "online") -> None:
        self._home = home
        self._folder = home.path / folder

    def lock(self, name: str) -> AbstractContextManager[None]:
        return self._home.lock(f"online.{name}")

    def write(self, name: str, generation: str, items: Iterable[Item]) -> str:
        folder = self._folder / name
        draft = folder / f"{generation}.draft"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            _write_lmdb(draft, items)
            seal = _sha256(draft)
            draft.replace(folder / f"{generation}{_SUFFIX}")
            _sync(folder)
        except lmdb.DiskError as error:
            raise unwritable(folder, OSError(28, str(error))) from error
        except OSError as error:
            raise unwritable(folder, error) from error
        return seal

    def publish(self, manifest: Manifest) -> None:
        folder = self._folder / manifest.name
        try:
            _write_whole(folder / f"{manifest.generation}.json", manifest.to_bytes())
            _write_whole(folder / _CURRENT, manifest.generation.encode())
        except OSError as error:
            raise unwritable(folder, error) from error

    def manifests(self, name: str) -> list[Manifest]:
        found = []
        for path in (self._folder / name).glob("*.json"):
            with suppress(IntegrityError, FileNotFoundError):  # a damaged or collected one is not there
                found.append(Manifest.from_bytes(path.read_bytes()))
        return sorted(found, key=lambda one: (one.watermark, one.generation))

    def current(self, name: str) -> Manifest | None:
        folder = self._folder / name
        try:
            generation = (folder / _CURRENT).read_text(encoding="ascii")
            return Manifest.from_bytes((folder / f"{generation}.json").read_bytes())
        except FileNotFoundError as error:
            if error.filename == str(folder / _CURRENT):
                return None
            raise _damaged("online manifest", "a manifest that is gone") from error
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged("online manifest", str(error)) from error

    def open(self, manifest: Manifest) -> Generation:
        return _opened(self._folder / manifest.name / f"{manifest.generation}{_SUFFIX}", manifest.seal)

    def collect(self, name: str, *, keep: Collection[str]) -> list[str]:
        folder, gone = self._folder / name, set()
        for path in sorted(folder.glob("*")):
            if path.name != _CURRENT and (path.stem not in keep or path.suffix == ".draft"):
                path.unlink(missing_ok=True)
                gone.add(path.stem)
        return sorted(gone)

    def drop(self, name: str) -> None:
        with self.lock(name):
            (self._folder / name / _CURRENT).unlink(missing_ok=True)
            self.collect(name, keep=())

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self._folder.glob(f"*/{_CURRENT}"))


class _File:
    """One opened LMDB file."""

    def __init__(self, path: Path) -> None:
        self._environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, create=False, max_spare_txns=16
        )
        self._path = path

    def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        try:
            with self._environment.begin() as transaction:
                return [transaction.get(key) for key in keys]
        except lmdb.Error as error:
            raise _damaged(str(self._path), str(error)) from error

    def items(self) -> Iterator[Item]:
        with self._environment.begin() as transaction:
            yield from transaction.cursor()

    def close(self) -> None:
        """Let go of the file; reads fail from here on."""
        self._environment.close()


class _OpenFiles:
    """What this process has open: LMDB must not open a file twice, nor use in a child what its parent did."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_path: WeakValueDictionary[str, _File] = WeakValueDictionary()
        os.register_at_fork(after_in_child=self._drop_inherited)

    def _drop_inherited(self) -> None:
        self.lock = threading.Lock()  # a thread of the parent may have held it
        for file in list(self.by_path.values()):
            file.close()
        self.by_path.clear()


_open_files = _OpenFiles()


def _opened(path: Path, seal: str) -> _File:
    """The opened file, shared by everybody in this process.

    Raises:
        IntegrityError: it is not the file that was sealed.
    """
    with _open_files.lock:
        known = _open_files.by_path.get(str(path))
        if known is not None:
            return known
        try:
            if _sha256(path) != seal:
                raise _damaged(str(path), "other bytes")
            file = _File(path)
        except (OSError, lmdb.Error) as error:
            raise _damaged(str(path), str(error)) from error
        _open_files.by_path[str(path)] = file
        return file


def _write_lmdb(path: Path, items: Iterable[Item]) -> None:
    """A new LMDB file with ``items``, on disk when this returns.

    The map grows as needed; the file takes only what is written.
    """
    size = _SMALLEST_MAP
    environment = lmdb.open(str(path), subdir=False, map_size=size, lock=False, sync=False, metasync=False)
    try:
        for batch in _batches(items):
            while True:
                try:
                    with environment.begin(write=True) as transaction:
                        transaction.cursor().putmulti(batch, append=True)
                    break
                except lmdb.MapFullError:
                    size *= 2
                    environment.set_mapsize(size)
        environment.sync(True)
    finally:
        environment.close()


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_whole(path: Path, data: bytes) -> None:
    """There whole or not at all, and on disk when this returns."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy(source: OnlineStore, manifest: Manifest, target: OnlineStore) -> Manifest:
    """Bring one generation from ``source`` to ``target``, where it becomes the current one.

    The generation before it stays, for readers that are about to open it.
    """
    with target.lock(manifest.name):
        here = target.current(manifest.name)
        if here is not None and here.generation == manifest.generation:
            return here
        seal = target.write(manifest.name, manifest.generation, source.open(manifest).items())
        copied = replace(manifest, seal=seal)
        target.publish(copied)
        target.collect(manifest.name, keep={manifest.generation, *([here.generation] if here else [])})
        return copied


def _damaged(what: str, got: str) -> IntegrityError:
    return IntegrityError(
        what,
        expected="what was materialised",
        got=got,
        next_step="Materialise again: mangaassist features materialise NAME",
    )


def away(what: str, got: str) -> Unavailable:
    """The error for an online store that does not answer."""
    return Unavailable(
        what,
        expected="an online store that answers",
        got=got,
        next_step="Start it, or correct 'online_url' in settings.toml; reads fall back meanwhile.",
    )


def online_store(home: Home, url: str) -> OnlineStore:
    """The store ``url`` names ("redis://HOST:PORT/DB"); LMDB files in the home when it is empty.

    Raises:
        InputError: the URL is none, or the extra for it is not installed.
    """
    if not url:
        return EmbeddedStore(home)
    from mangaassist.features.online_redis import RedisStore

    return RedisStore.connect(url)
