"""Residency (GOV-3): customer data of a region is read and written in that region only.

A table carries the region of its story from its first write on, and so does every set of files that holds
texts (step outputs, archived label versions): editing the story moves no data. The check sits where a home's
tables, artifacts and online features are opened; what is refused is told to the ledger, once a process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from mangaassist.core.clock import Clock
from mangaassist.core.errors import GateRefused
from mangaassist.core.home import Home
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Ledger
from mangaassist.storage.maintenance import Expired
from mangaassist.storage.scanning import Between
from mangaassist.storage.tables import Tables

REFUSED: Final = "residency.refused"
MARK: Final = "mangaassist.residency"
"""The mark that holds the region, as the story named it ("us", "jp", "ap-northeast-1")."""
STORY: Final = "mangaassist.story"
"""The mark that holds whose customers' data they are; a table says it by its name."""


def resident(story: str, region: str) -> dict[str, str]:
    """The marks of files with texts of a story's customers, for :meth:`ArtifactStore.put_files`."""
    return {MARK: region, STORY: story}


@dataclass(slots=True)
class Residency:
    """What a process of one region may touch.

    Attributes:
        region: where this process runs (``settings.region``).
        of: a story's declared residency; None for a name that is no story.
        ledger: where refusals are told; asked for at the first one.
    """

    region: str
    of: Callable[[str], str | None]
    ledger: Callable[[], Ledger]
    clock: Clock
    _told: set[tuple[str, str]] = field(default_factory=set)

    def require(self, story: str, action: str, *, tag: str = "") -> None:
        """Refuse ``action`` on the data of ``story`` unless they live in this region.

        Args:
            tag: the region the data themselves carry; it wins over what the story says today. Empty: none.

        Raises:
            GateRefused: they live elsewhere.
        """
        lives = tag or self.of(story)
        if lives is None or lives == self.region:
            return
        if (story, action) not in self._told:
            self._told.add((story, action))
            body = {"action": action, "residency": lives, "region": self.region}
            self.ledger().append(
                kind=REFUSED,
                subject=f"residency/{story}",
                body=body,
                actor=f"region-{self.region}",
                at=self.clock.now(),
            )
        raise GateRefused(
            f"{action} of '{story}'",
            expected=f"a process in region '{lives}', where its customer data stay",
            got=f"one in region '{self.region}'",
            next_step=f'Run it where settings.toml says region = "{lives}".',
        )


class ResidentArtifacts(ArtifactStore):
    """An artifact store for a process that obeys :class:`Residency`.

    Files without marks are nobody's data: models, matrices, verdicts. What only checks bytes against digests
    (:meth:`check`, :meth:`collect`) shows them to nobody and is open to every region.
    """

    def __init__(self, root: Path, residency: Residency) -> None:
        super().__init__(root)
        self._residency = residency

    def put_files(
        self, files: Mapping[str, bytes], *, durable: bool = False, marks: Mapping[str, str] | None = None
    ) -> str:
        self._admit(marks or {}, "write of files")
        return super().put_files(files, durable=durable, marks=marks)

    def read(self, digest: str, name: str) -> bytes:
        self._admit(self.marks(digest), f"read of artifact {digest[:12]}")
        return super().read(digest, name)

    def files(self, digest: str) -> dict[str, bytes]:
        self._admit(self.marks(digest), f"read of artifact {digest[:12]}")
        return super().files(digest)

    def _admit(self, marks: Mapping[str, str], action: str) -> None:
        if MARK in marks:
            self._residency.require(marks[STORY], action, tag=marks[MARK])


class ResidentTables(Tables):
    """The tables of a home for a process that obeys :class:`Residency`.

    A table's story is the second part of its name; a table of no story belongs to the platform.
    """

    _residency: Residency
    _tags: dict[str, str]

    @classmethod
    def under(cls, home: Home, residency: Residency) -> ResidentTables:
        """The tables of ``home``, guarded."""
        tables = cls.open(home)
        assert isinstance(tables, cls)
        tables._residency, tables._tags = residency, {}
        return tables

    def append(
        self,
        name: str,
        rows: pa.Table,
        *,
        properties: Mapping[str, str] | None = None,
        marks: Mapping[str, str] | None = None,
        evolve: bool = False,
    ) -> int:
        story = self._admitted(name, "write")
        if story is not None and not self._tags[name]:
            marks = {**(marks or {}), MARK: self._residency.region}
        snapshot = super().append(name, rows, properties=properties, marks=marks, evolve=evolve)
        if story is not None:
            self._tags[name] = self._residency.region
        return snapshot

    def read(
        self,
        name: str,
        *,
        snapshot: int | None = None,
        columns: Sequence[str] | None = None,
        between: Between | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> pl.DataFrame:
        self._admitted(name, "read")
        return super().read(name, snapshot=snapshot, columns=columns, between=between, share=share)

    def since(
        self, name: str, after: int, *, columns: Sequence[str] | None = None
    ) -> tuple[pl.DataFrame | None, int]:
        self._admitted(name, "read")
        return super().since(name, after, columns=columns)

    def erase(self, name: str, column: str, values: Collection[str]) -> int:
        self._admitted(name, "write")
        return super().erase(name, column, values)

    def expire(
        self,
        name: str,
        *,
        older_than: datetime,
        keep: Collection[int],
        now: datetime,
        grace: timedelta,
        dry_run: bool = True,
    ) -> Expired:
        self._admitted(name, "clean-up")
        return super().expire(name, older_than=older_than, keep=keep, now=now, grace=grace, dry_run=dry_run)

    def _admitted(self, name: str, action: str) -> str | None:
        """The story whose table it is, once this region may touch it; None for the platform's own."""
        story = name.split(".")[1] if "." in name else ""
        if self._residency.of(story) is None:
            return None
        if name not in self._tags:
            self._tags[name] = self.marks(name).get(MARK, "")
        self._residency.require(story, f"{action} of table '{name}'", tag=self._tags[name])
        return story
