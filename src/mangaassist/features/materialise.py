"""Offline to online: the newest feature rows as a generation that readers take up when it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mangaassist.core.clock import isoformat, utc
from mangaassist.core.errors import IntegrityError
from mangaassist.core.identity import digest
from mangaassist.features.catalog import Catalog
from mangaassist.features.online import Item, Manifest, OnlineStore, digesting
from mangaassist.features.records import continued, records

if TYPE_CHECKING:
    import polars as pl

    from mangaassist.features.store import FeatureStore

GRACE = timedelta(hours=1)
"""How long a generation that was followed by another stays for readers that are slow to change over."""


@dataclass(frozen=True, slots=True)
class Materialised:
    """What one materialisation did.

    Attributes:
        manifest: what readers follow now.
        built: False when the tables had nothing new and the generation is the one it was.
        collected: generations that were dropped.
    """

    manifest: Manifest
    built: bool
    collected: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object; the catalog is left to its schema version."""
        body = self.manifest.as_dict()
        del body["catalog"]
        return {**body, "built": self.built, "collected": list(self.collected)}


def materialise(
    features: FeatureStore,
    catalog: Catalog,
    online: OnlineStore,
    *,
    at: datetime,
    grace: timedelta = GRACE,
    rebuild: bool = False,
) -> Materialised:
    """Bring what the tables of ``catalog`` hold to ``online``; reads go on all the while.

    The new generation is written aside and published in one step. A process killed before that step has
    changed nothing for anybody; what it left is dropped by the next materialisation.

    A generation is made of the current one and the rows that came since, or of all rows where that cannot be:
    the same bytes either way.

    Args:
        at: now. Reads are right from here on: what becomes available later is taken along (see ``records``).
        grace: how long superseded generations stay; the one before the current one stays in any case, as
            what to fall back to.
        rebuild: write a generation of all rows even if nothing is new, for example for a damaged store.

    Raises:
        Unavailable, IntegrityError: the tables or the online store do not answer, or are damaged.
    """
    at = utc(at, field="at")
    with online.lock(catalog.version):
        snapshots = features.snapshots(catalog)
        current = None if rebuild else _trusted(online, catalog.version)
        if current is not None and current.snapshots == snapshots:
            return Materialised(current, False, _collect(online, current, at - grace))
        source = _Source(features, catalog, snapshots, at)
        try:
            manifest = _build(source, online, current)
        except IntegrityError:
            if current is None:
                raise
            manifest = _build(source, online, None)
        online.publish(manifest)
        return Materialised(manifest, True, _collect(online, manifest, at - grace))


def _trusted(online: OnlineStore, name: str) -> Manifest | None:
    """The current manifest; None where there is none that can be read, so that a new one is made."""
    try:
        current = online.current(name)
        if current is not None:
            online.open(current)
    except IntegrityError:
        return None
    return current


@dataclass(frozen=True, slots=True)
class _Source:
    """What a generation is made of: the tables at ``snapshots``, to be right from ``at`` on."""

    features: FeatureStore
    catalog: Catalog
    snapshots: Mapping[str, int | None]
    at: datetime

    def items(self, online: OnlineStore, current: Manifest | None) -> tuple[Iterator[Item], int]:
        """Every record, and of how many rows they are."""
        if current is not None and current.watermark <= self.at:
            opened, added = online.open(current), self._added(current)
            if len(added) == len(self.snapshots):
                count = current.rows + sum(rows.height for rows in added.values())
                return continued(self.catalog, opened.items, added, watermark=self.at), count
        views = {view: self.features.rows(self.catalog, view, self.snapshots) for view in self.snapshots}
        return records(self.catalog, views, watermark=self.at), sum(rows.height for rows in views.values())

    def _added(self, current: Manifest) -> dict[str, pl.DataFrame]:
        """The rows since ``current`` by view, of those where that can be told."""
        found = {
            view: self.features.added(self.catalog, view, current.snapshots.get(view), upto)
            for view, upto in self.snapshots.items()
        }
        return {view: rows for view, rows in found.items() if rows is not None}


def _build(source: _Source, online: OnlineStore, current: Manifest | None) -> Manifest:
    items, rows = source.items(online, current)
    catalog, content, keys = source.catalog, hashlib.sha256(), 0
    generation = digest([catalog.version, dict(source.snapshots), isoformat(source.at)])[:16]

    def counted() -> Iterator[Item]:
        nonlocal keys
        for item in digesting(items, content):
            keys += 1
            yield item

    seal = online.write(catalog.version, generation, counted())
    return Manifest(
        name=catalog.version,
        generation=generation,
        fingerprint=catalog.fingerprint,
        catalog=catalog.as_dict(),
        snapshots=dict(source.snapshots),
        watermark=source.at,
        rows=rows,
        keys=keys,
        digest=content.hexdigest(),
        seal=seal,
    )


def _collect(online: OnlineStore, current: Manifest, before: datetime) -> tuple[str, ...]:
    """Drop what was superseded before ``before``, except the generation before the current one."""
    known = online.manifests(current.name)
    followed = [(one, after.watermark) for one, after in pairwise(known)]
    keep = {current.generation, *(one.generation for one, at in followed[-1:])}
    keep |= {one.generation for one, at in followed if at > before}
    return tuple(online.collect(current.name, keep=keep))
