"""Freeing what nothing needs any more: old table snapshots and artifacts no ledger entry names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from mangaassist.core.clock import SystemClock
from mangaassist.core.identity import canonical_json
from mangaassist.labels import versions as label_versions
from mangaassist.lifecycle.platform import Platform
from mangaassist.stories.discovery import story_names

RETAIN = timedelta(days=7)
"""How long a snapshot nobody pinned can still be read; also longer than any run that might need it."""
GRACE = timedelta(days=1)
_DIGEST = re.compile(rb"\b[0-9a-f]{64}\b")


@dataclass(frozen=True, slots=True)
class Freed:
    """What one clean-up freed, or would free.

    Attributes:
        what: a table's name, or "artifacts".
        items: snapshots or artifacts; files and bytes: on disk.
    """

    what: str
    items: int
    files: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {"what": self.what, "items": self.items, "files": self.files, "bytes": self.bytes}


def maintain(platform: Platform, *, dry_run: bool) -> list[Freed]:
    """Expire unpinned snapshots older than RETAIN and collect artifacts the ledger does not name.

    Ages are those of files, so the machine's clock decides here even on a home that lives in simulated time.

    Raises:
        IntegrityError: something still needed is damaged; nothing was deleted.
    """
    now = SystemClock().now()
    pinned = set(_pinned(platform))
    freed = []
    for name in platform.tables.names():
        gone = platform.tables.expire(
            name, older_than=now - RETAIN, keep=pinned, now=now, grace=GRACE, dry_run=dry_run
        )
        freed.append(Freed(name, len(gone.snapshots), gone.files, gone.bytes))
    named = {digest for digest in _named(platform) if platform.artifacts.has(digest)}
    collected = platform.artifacts.collect(named, grace=RETAIN, now=now, dry_run=dry_run)
    count = len(collected.digests)
    return [*freed, Freed("artifacts", count, count, collected.bytes)]


def _pinned(platform: Platform) -> Iterator[int]:
    """Snapshots of every label version, and of the features every registered version was trained on."""
    for name in story_names(platform.home.path):
        for version in label_versions.versions(platform.labels, platform.story(name)):
            yield version.snapshot_examples
            yield version.snapshot_labels
        for registered in platform.registry.versions(name):
            config = orjson.loads(
                platform.artifacts.read(registered.documents["training_config"], "config.json")
            )
            yield from (one for one in config["feature_snapshots"].values() if one is not None)


def _named(platform: Platform) -> Iterator[str]:
    """Every digest any ledger entry mentions: models, documents, evidence, references."""
    for entry in platform.ledger.entries():
        yield from (found.decode() for found in _DIGEST.findall(canonical_json(entry.body)))
