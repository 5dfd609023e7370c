"""The online store (FEA-6): generations of records, built aside, published whole, read without a lock.

A *name* is one schema version of one namespace ("intent@5f0c..."), so stories and schema versions never meet.
Under a name there are generations, each immutable from the moment it is published. A reader opens the one the
name's current manifest tells of and keeps it until it has opened the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import orjson

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import IntegrityError, Unavailable
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json

Item = tuple[bytes, bytes]


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
            raise damaged("online manifest", f"{type(error).__name__}: {error}") from error


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


def damaged(what: str, got: str) -> IntegrityError:
    """The error for what an online store holds and did not write."""
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
        from mangaassist.features.online_embedded import EmbeddedStore

        return EmbeddedStore(home)
    from mangaassist.features.online_redis import RedisStore

    return RedisStore.connect(url)
