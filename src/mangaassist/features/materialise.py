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
from mangaassist.features.records import records

if TYPE_CHECKING:
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

    Args:
        at: now. Reads are right from here on: what becomes available later is taken along (see ``records``).
        grace: how long superseded generations stay; the one before the current one stays in any case, as
            what to fall back to.
        rebuild: write a generation even if nothing is new, for example because the store is damaged.

    Raises:
        Unavailable, IntegrityError: the tables or the online store do not answer, or are damaged.
    """
    at = utc(at, field="at")
    with online.lock(catalog.version):
        snapshots = features.snapshots(catalog)
        current = None if rebuild else _trusted(online, catalog.version)
        if current is not None and current.snapshots == snapshots:
            return Materialised(current, False, _collect(online, current, at - grace))
        manifest = _build(features, catalog, online, snapshots, at)
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


def _build(
    features: FeatureStore,
    catalog: Catalog,
    online: OnlineStore,
    snapshots: Mapping[str, int | None],
    at: datetime,
) -> Manifest:
    views = {view: features.rows(catalog, view, snapshots) for view in snapshots}
    generation = digest([catalog.version, dict(snapshots), isoformat(at)])[:16]
    content, keys = hashlib.sha256(), 0

    def counted() -> Iterator[Item]:
        nonlocal keys
        for item in digesting(records(catalog, views, watermark=at), content):
            keys += 1
            yield item

    seal = online.write(catalog.version, generation, counted())
    return Manifest(
        name=catalog.version,
        generation=generation,
        fingerprint=catalog.fingerprint,
        catalog=catalog.as_dict(),
        snapshots=dict(snapshots),
        watermark=at,
        rows=sum(view.height for view in views.values()),
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
