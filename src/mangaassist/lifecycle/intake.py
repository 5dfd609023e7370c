"""Somebody's labelled file into a story's label tables, and the label versions that came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mangaassist.labels import versions as label_versions_of
from mangaassist.labels.importing import Columns, read_file
from mangaassist.lifecycle.platform import Platform


def import_file(
    platform: Platform, name: str, path: Path, columns: Columns, *, source: str, role: str
) -> dict[str, Any]:
    """Read ``path`` completely, then add all of it or nothing.

    Raises:
        InputError: for an unknown story, source, role or column, and for everything wrong inside the file.
    """
    story = platform.story(name)
    file = read_file(path, columns, now=platform.clock.now())
    batch = platform.labels.import_file(story, file, source=source, role=role)
    return {
        "story": name,
        "file": file.name,
        "role": role,
        "source": source,
        "repeated": batch.repeated,
        "label_versions": dict(batch.label_versions),
        **file.report.as_dict(),
    }


def label_versions(platform: Platform, name: str) -> list[dict[str, Any]]:
    """Every finalised label version of a story, oldest first."""
    story = platform.story(name)
    return [version.as_dict() for version in label_versions_of.versions(platform.labels, story)]
