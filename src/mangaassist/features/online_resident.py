"""The online store for a process that obeys residency (GOV-3): a story's features stay in its region."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager

from mangaassist.features.online import Generation, Item, Manifest, OnlineStore
from mangaassist.governance.residency import Residency


class ResidentOnline:
    """``store``, asked first whether this region may touch the story a name belongs to.

    What is checked is opening a generation; reading from one that is open costs nothing more.
    """

    def __init__(self, store: OnlineStore, residency: Residency) -> None:
        self._store = store
        self._residency = residency

    def lock(self, name: str) -> AbstractContextManager[None]:
        return self._admitted(name, "write").lock(name)

    def write(self, name: str, generation: str, items: Iterable[Item]) -> str:
        return self._admitted(name, "write").write(name, generation, items)

    def publish(self, manifest: Manifest) -> None:
        self._admitted(manifest.name, "write").publish(manifest)

    def manifests(self, name: str) -> list[Manifest]:
        return self._store.manifests(name)

    def current(self, name: str) -> Manifest | None:
        return self._store.current(name)

    def open(self, manifest: Manifest) -> Generation:
        return self._admitted(manifest.name, "read").open(manifest)

    def collect(self, name: str, *, keep: Collection[str]) -> list[str]:
        return self._admitted(name, "clean-up").collect(name, keep=keep)

    def drop(self, name: str) -> None:
        self._admitted(name, "clean-up").drop(name)

    def names(self) -> list[str]:
        return self._store.names()

    def _admitted(self, name: str, action: str) -> OnlineStore:
        """The store, once this region may touch the story of schema version ``name`` ("intent@5f0c...")."""
        self._residency.require(name.partition("@")[0], f"{action} of online features")
        return self._store
