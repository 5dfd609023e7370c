"""Five-minute profiles of traffic, merged exactly into whatever stretch a detector needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.drift import sketch as sketches
from mangaassist.drift.derived import add_derived
from mangaassist.drift.profile import (
    Profile,
    confusions,
    empty_profile,
    from_request_cells,
    merge_profiles,
    request_cells,
    require_columns,
)
from mangaassist.drift.reference import COHORT, Reference
from mangaassist.drift.sketch import category_codes

WINDOW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Window:
    """The profile of start <= t < end.

    Attributes:
        cohort: the language of its rows; empty for all of them.
    """

    start: datetime
    end: datetime
    profile: Profile
    cohort: str = ""


def request_windows(
    reference: Reference, requests: pl.DataFrame, *, every: timedelta = WINDOW, apart: bool = False
) -> list[Window]:
    """Five-minute profiles of served requests, oldest first; minutes without traffic give no window.

    Args:
        requests: rows of the prediction log of the version under watch alone (its own arm, no shadow copies,
            no errors), with ``at`` (UTC), the reference's input columns, ``label`` and ``confidence``.
        apart: one window per language and five minutes instead of one for all rows; they merge to the same.

    Raises:
        InputError: for a missing column or an input column of another type than the reference's.
    """
    blank = empty_profile(reference.profile)
    made = {one.name for one in reference.derived}
    sources = dict.fromkeys(one.source for one in reference.derived)
    plain = [name for name in blank.inputs if name not in made]
    require_columns(requests, ("at", *plain, *sources, "label", "confidence", *((COHORT,) if apart else ())))
    requests = add_derived(requests, reference.derived)
    slots, index = _slots(requests["at"], every, requests[COHORT] if apart else None)
    size = len(slots)
    inputs = {
        name: sketches.count_windows(sketch, requests[name], index, size)
        for name, sketch in blank.inputs.items()
    }
    confidence = sketches.count_windows(blank.confidence, requests["confidence"], index, size)
    label = sketches.count_windows(blank.label, requests["label"], index, size)
    return [
        Window(
            start,
            start + every,
            replace(
                blank,
                inputs={name: counted[position] for name, counted in inputs.items()},
                confidence=confidence[position],
                label=label[position],
            ),
            cohort,
        )
        for position, (start, cohort) in enumerate(slots)
    ]


def outcome_windows(
    reference: Reference, outcomes: pl.DataFrame, *, every: timedelta = WINDOW, apart: bool = False
) -> list[Window]:
    """Five-minute profiles of labels by the time they became known, oldest first.

    Args:
        outcomes: late labels beside what the version had answered: ``known_at`` (UTC), ``truth``, ``label``.
        apart: one window per language, as for :func:`request_windows`.

    Raises:
        InputError: for a missing column.
    """
    blank = empty_profile(reference.profile)
    require_columns(outcomes, ("known_at", "truth", "label", *((COHORT,) if apart else ())))
    known = outcomes.filter(pl.col("truth").is_not_null())
    slots, index = _slots(known["known_at"], every, known[COHORT] if apart else None)
    truths = sketches.count_windows(blank.truth, known["truth"], index, len(slots))
    matrices = confusions(blank.confusion.labels, known, index, len(slots))
    return [
        Window(start, start + every, replace(blank, truth=truth, confusion=confusion), cohort)
        for (start, cohort), truth, confusion in zip(slots, truths, matrices, strict=True)
    ]


def merge_alike(windows: Sequence[Window]) -> list[Window]:
    """Windows of the same start, end and cohort merged into one each, oldest first."""
    parts: dict[tuple[datetime, datetime, str], list[Profile]] = {}
    for window in windows:
        parts.setdefault((window.start, window.end, window.cohort), []).append(window.profile)
    return [
        Window(start, end, merge_profiles(found) if len(found) > 1 else found[0], cohort)
        for (start, end, cohort), found in sorted(parts.items(), key=lambda item: item[0])
    ]


def merge_windows(windows: Sequence[Window]) -> Window:
    """One window over all of ``windows``, from the earliest start to the latest end."""
    profile = merge_profiles([window.profile for window in windows])
    return Window(min(one.start for one in windows), max(one.end for one in windows), profile)


class Tally:
    """Request windows of one reference added up as they come: a look then costs one sum, not all its windows.

    Windows of the same minutes are one slot, whatever their language. Counts are whole numbers, so what was
    added can be taken back exactly.
    """

    def __init__(self, bins: Profile) -> None:
        """
        Args:
            bins: a profile of the reference.
        """
        self._bins = bins
        self._slots: dict[tuple[datetime, datetime], NDArray[np.int64]] = {}

    def add(self, windows: Iterable[Window]) -> None:
        """Count ``windows`` in."""
        for one in windows:
            place, cells = (one.start, one.end), request_cells(one.profile)
            known = self._slots.get(place)
            self._slots[place] = cells if known is None else known + cells

    def take_back(self, windows: Iterable[Window]) -> None:
        """Undo :meth:`add` of the same windows, those forgotten since aside."""
        for one in windows:
            known = self._slots.get((one.start, one.end))
            if known is not None:
                self._slots[one.start, one.end] = known - request_cells(one.profile)

    def forget(self, before: datetime) -> None:
        """Let go of windows that start before ``before``."""
        self._slots = {place: cells for place, cells in self._slots.items() if place[0] >= before}

    def within(self, since: datetime, until: datetime) -> Profile:
        """The requests of the windows that lie in ``since`` to ``until`` as a whole."""
        blank = request_cells(empty_profile(self._bins))
        found = [cells for (start, end), cells in self._slots.items() if since <= start and end <= until]
        return from_request_cells(self._bins, np.sum([blank, *found], axis=0))


def _slots(
    at: pl.Series, every: timedelta, cohorts: pl.Series | None = None
) -> tuple[list[tuple[datetime, str]], NDArray[np.int64]]:
    """Start and cohort of the occupied windows, in order, and each row's position among them."""
    micros = at.cast(pl.Datetime("us", "UTC")).to_physical().to_numpy()
    width = every // timedelta(microseconds=1)
    names = sorted(cohorts.drop_nulls().unique().to_list()) if cohorts is not None else []
    cohort = category_codes(cohorts, names) if cohorts is not None else 0
    occupied, index = np.unique(micros // width * (len(names) + 2) + cohort, return_inverse=True)
    slots, codes = np.divmod(occupied, len(names) + 2)
    starts = pl.Series(slots * width, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")).to_list()
    said = [*names, "", ""] if cohorts is not None else ["", ""]
    return [(start, said[code]) for start, code in zip(starts, codes, strict=True)], index.astype(np.int64)
