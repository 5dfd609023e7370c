"""Generations as LMDB files in a folder of the home: the online store of one machine."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb

from mangaassist.core.errors import IntegrityError
from mangaassist.core.home import Home, unwritable
from mangaassist.features.online import Generation, Item, Manifest, damaged
from mangaassist.storage.segment import sync_folder

_CURRENT = "current"
_SUFFIX = ".lmdb"
_SMALLEST_MAP = 16 << 20
_BATCH = 10_000


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
            sync_folder(folder)
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
            raise damaged("online manifest", "a manifest that is gone") from error
        except (OSError, UnicodeDecodeError) as error:
            raise damaged("online manifest", str(error)) from error

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
            raise damaged(str(self._path), str(error)) from error

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
                raise damaged(str(path), "other bytes")
            file = _File(path)
        except (OSError, lmdb.Error) as error:
            raise damaged(str(path), str(error)) from error
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
    sync_folder(path.parent)
