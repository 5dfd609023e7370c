"""Label versions past 18 months move to a cold folder, whole and checked, before their snapshots may go.

The folder holds Parquet files and manifests by content (LAB-2). Reading an archived version needs nothing
else: :func:`mangaassist.labels.versions.read` finds it there and verifies every byte.
"""

from __future__ import annotations

import calendar
import io
from datetime import datetime

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import Story
from mangaassist.governance.residency import resident
from mangaassist.labels.intake import LabelStore, subject
from mangaassist.labels.versions import (
    ARCHIVED,
    COLD_FILES,
    LabelVersion,
    archived,
    contents,
    verified,
    version,
    versions,
)

KEEP_MONTHS = 18
"""How long a pinned version stays in the tables; younger ones never leave."""


def due(store: LabelStore, story: Story, *, months: int = KEEP_MONTHS) -> list[LabelVersion]:
    """Versions finalised at least ``months`` ago that are not in the cold folder yet, oldest first."""
    limit = months_before(store.clock.now(), months)
    done = archived(store, story)
    return [one for one in versions(store, story) if one.finalised_at <= limit and one.number not in done]


def months_before(at: datetime, months: int) -> datetime:
    """The same day and time so many months earlier; the last of a month where it has no such day."""
    year, month = divmod(at.year * 12 + at.month - 1 - months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return at.replace(year=year, month=month + 1, day=min(at.day, last))


def archive(store: LabelStore, story: Story, number: int, *, actor: str) -> str:
    """Copy one version to the cold folder, read it back, and say so in the ledger.

    Only then is its pin given up: until the entry is there, maintenance keeps its snapshots. Killed before
    that, the next call writes the same bytes again.

    Returns:
        The digest of its manifest in the cold folder.

    Raises:
        InputError: for an unknown version or a store without a cold folder.
        GateRefused: the labels live in another region than this process.
        IntegrityError: when the version is not what was finalised, here or in the copy.
    """
    if store.cold is None:
        raise InputError(
            "cold folder",
            expected="a label store with one",
            got="none",
            next_step="Open the store from a home.",
        )
    known = archived(store, story)
    if number in known:
        return known[number]
    pinned = version(store, story, number)
    frames = contents(store, story, pinned)
    files = {name: _parquet(frame) for name, frame in zip(COLD_FILES, frames, strict=True)}
    manifest = store.cold.put_files(
        {**files, "version.json": canonical_json(pinned.as_dict())},
        durable=True,
        marks=resident(story.name, story.residency),
    )
    verified(story, pinned, store.cold, manifest)
    store.ledger.append(
        kind=ARCHIVED,
        subject=subject(story),
        body={
            "label_version": number,
            "manifest": manifest,
            "content_hash": pinned.content_hash,
            "bytes": sum(len(data) for data in files.values()),
        },
        actor=actor,
        at=store.clock.now(),
    )
    return manifest


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()
