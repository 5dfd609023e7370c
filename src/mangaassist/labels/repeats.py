"""The same text twice in one file: an exact repeat, a change of mind, or a disagreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mangaassist.core.identity import canonical_text
from mangaassist.labels.rows import Row

_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Repeats:
    """What came more than once.

    Attributes:
        duplicates: rows that repeat what the same annotator, or somebody unnamed, had said.
        relabelled: rows whose annotator said something else about the text later.
        conflicts: canonical text -> its kept rows, for texts with more than one label.
    """

    duplicates: int
    relabelled: int
    conflicts: Mapping[str, Sequence[Row]]


def without_repeats(rows: Sequence[Row]) -> tuple[list[Row], Repeats]:
    """``rows`` in order, every named annotator once per text, every unnamed label once per text.

    A named annotator's last label by time counts; where times are equal or absent, the last in the file.
    """
    said: dict[tuple[str, str | None], list[int]] = {}
    for index, row in enumerate(rows):
        key = (canonical_text(row.text), row.annotator_id or f"\0{row.label}")
        said.setdefault(key, []).append(index)
    keep, duplicates, relabelled = set[int](), 0, 0
    for indices in said.values():
        chosen = _standing(rows, indices)
        keep.add(chosen)
        same = sum(rows[index].label == rows[chosen].label for index in indices)
        duplicates += same - 1
        relabelled += len(indices) - same
    kept = [row for index, row in enumerate(rows) if index in keep]
    return kept, Repeats(duplicates, relabelled, _conflicts(kept))


def _standing(rows: Sequence[Row], indices: Sequence[int]) -> int:
    """The index that counts: an unnamed label's first, a named annotator's last by time."""
    if rows[indices[0]].annotator_id is None:
        return indices[0]
    return max(indices, key=lambda index: (rows[index].labeled_at or _EVER, index))


def _conflicts(kept: Sequence[Row]) -> dict[str, list[Row]]:
    by_text: dict[str, list[Row]] = {}
    for row in kept:
        by_text.setdefault(canonical_text(row.text), []).append(row)
    return {text: votes for text, votes in by_text.items() if len({vote.label for vote in votes}) > 1}
