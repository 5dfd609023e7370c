"""Freeing what nothing needs any more: old table snapshots and artifacts no ledger entry names.

Label versions past their 18 months are moved to the cold folder first, and give up their snapshots then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from mangaassist.core.clock import Clock, SystemClock
from mangaassist.core.errors import GateRefused
from mangaassist.core.identity import canonical_json
from mangaassist.labels import archive as label_archive
from mangaassist.labels import versions as label_versions
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.pairs import REGISTERED as BUNDLE_REGISTERED
from mangaassist.promotion.pairs import subject as bundle_subject
from mangaassist.storage.ledger import Entry
from mangaassist.stories.discovery import story_names

RETAIN = timedelta(days=7)
"""How long a snapshot nobody pinned can still be read; also longer than any run that might need it."""
GRACE = timedelta(days=1)
_DIGEST = re.compile(rb"\b[0-9a-f]{64}\b")


@dataclass(frozen=True, slots=True)
class Freed:
    """What one clean-up freed, or would free.

    Attributes:
        what: a table's name, "artifacts", or the label versions of a story that went to the cold folder.
        items: snapshots, artifacts or label versions; files and bytes: freed on disk.
    """

    what: str
    items: int
    files: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {"what": self.what, "items": self.items, "files": self.files, "bytes": self.bytes}


def maintain(platform: Platform, *, dry_run: bool, file_clock: Clock | None = None) -> list[Freed]:
    """Archive label versions past 18 months, expire unpinned old snapshots, collect artifacts nothing names.

    Args:
        file_clock: what the ages of files are measured by. They are stamped by the machine, so its clock
            decides even on a home that lives in simulated time; label versions are as old as the home says.

    Raises:
        IntegrityError: something still needed is damaged; nothing was deleted.
    """
    now = (file_clock or SystemClock()).now()
    freed = list(_archived(platform, dry_run=dry_run))
    released = dict(_released(platform, dry_run=dry_run))
    freed += [Freed(f"bundles of {name}", len(numbers), 0, 0) for name, numbers in released.items()]
    pinned = set(_pinned(platform))
    for name in platform.tables.names():
        try:
            gone = platform.tables.expire(
                name, older_than=now - RETAIN, keep=pinned, now=now, grace=GRACE, dry_run=dry_run
            )
        except GateRefused:
            continue  # another region's data, freed by its own maintenance; the refusal is in the ledger
        freed.append(Freed(name, len(gone.snapshots), gone.files, gone.bytes))
    named = {digest for digest in _named(platform, released) if platform.artifacts.has(digest)}
    collected = platform.artifacts.collect(named, grace=RETAIN, now=now, dry_run=dry_run)
    count = len(collected.digests)
    return [*freed, Freed("artifacts", count, count, collected.bytes)]


def _archived(platform: Platform, *, dry_run: bool) -> Iterator[Freed]:
    for name in story_names(platform.home.path):
        story = platform.story(name)
        due = label_archive.due(platform.labels, story)
        if due:
            yield Freed(f"label versions of {name} to the cold folder", len(due), 0, 0)
        for version in due if not dry_run else ():
            label_archive.archive(platform.labels, story, version.number, actor="maintenance")


def _pinned(platform: Platform) -> Iterator[int]:
    """Snapshots of label versions in the tables, and of the features every version was trained on."""
    for name in story_names(platform.home.path):
        story = platform.story(name)
        cold = label_versions.archived(platform.labels, story)
        for version in label_versions.versions(platform.labels, story):
            if version.number not in cold:
                yield version.snapshot_examples
                yield version.snapshot_labels
        for registered in platform.registry.versions(name):
            config = orjson.loads(
                platform.artifacts.read(registered.documents["training_config"], "config.json")
            )
            yield from (one for one in config["feature_snapshots"].values() if one is not None)


def _released(platform: Platform, *, dry_run: bool) -> Iterator[tuple[str, frozenset[int]]]:
    """Bundles out of use for 14 days, by name; released first, so that nobody flips back to lost files."""
    now = platform.clock.now()
    for name in platform.bundles.names():
        gone = platform.bundles.state(name).releasable(now)
        if gone and not dry_run:
            gone = platform.bundles.release(name, actor="maintenance", at=now)
        if gone:
            yield name, frozenset(one.number for one in gone)


def _named(platform: Platform, released: Mapping[str, frozenset[int]]) -> Iterator[str]:
    """Every digest any ledger entry mentions: models, documents, evidence, references.

    What only a released bundle mentions is needed by nobody; its registration and its decision stay.
    """
    for entry in platform.ledger.entries():
        if entry.kind == BUNDLE_REGISTERED and _is_released(platform, entry, released):
            continue
        yield from (found.decode() for found in _DIGEST.findall(canonical_json(entry.body)))


def _is_released(platform: Platform, entry: Entry, released: Mapping[str, frozenset[int]]) -> bool:
    name, number = entry.subject.removeprefix(bundle_subject("")), entry.body["number"]
    return number in released.get(name, ()) or number in platform.bundles.state(name).released
