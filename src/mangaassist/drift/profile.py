"""A profile is every sketch of one stretch of traffic: inputs, predictions, and labels that came late.

Requests and late labels fill different parts of a profile at different times; both merge into hours, days or
weeks by adding counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.errors import InputError, nearest
from mangaassist.drift import sketch as sketches
from mangaassist.drift.sketch import CategoricalSketch, NumericSketch, Sketch


@dataclass(frozen=True, slots=True)
class ConfusionSketch:
    """True against predicted label, mergeable.

    Attributes:
        labels: (k,) the known labels; index k stands for any other.
        cells: (true index, predicted index) to rows, only where there are any.
    """

    labels: tuple[str, ...]
    cells: Mapping[tuple[int, int], int]

    @property
    def rows(self) -> int:
        return sum(self.cells.values())

    def matrix(self) -> NDArray[np.float64]:
        """(k + 1, k + 1) rows by true (first axis) and predicted label."""
        dense = np.zeros((len(self.labels) + 1,) * 2)
        for (true, predicted), rows in self.cells.items():
            dense[true, predicted] = rows
        return dense


@dataclass(frozen=True, slots=True)
class Profile:
    """All sketches of one stretch of traffic.

    Attributes:
        inputs: one sketch per input column.
        confidence: calibrated probability of the predicted label, finely binned.
        label: predicted label.
        truth: true label, of the rows whose label has become known.
        confusion: true against predicted label of those rows.
    """

    inputs: Mapping[str, Sketch]
    confidence: NumericSketch
    label: CategoricalSketch
    truth: CategoricalSketch
    confusion: ConfusionSketch

    @property
    def rows(self) -> int:
        """Requests counted."""
        return int(self.label.cells.sum())

    @property
    def labelled(self) -> int:
        """Late labels counted."""
        return self.confusion.rows


def request_cells(profile: Profile) -> NDArray[np.int64]:
    """(w,) every count of the request part (inputs, confidence, predicted label), one after the other.

    Two profiles of one reference merge by adding these, so the merge of many stored windows is one sum.
    """
    return np.concatenate([sketch.cells for sketch in _request_sketches(profile)])


def from_request_cells(bins: Profile, cells: NDArray[np.int64]) -> Profile:
    """The inverse of :func:`request_cells` in the bins of ``bins``, without labels.

    Raises:
        InputError: ``cells`` were counted in other bins.
    """
    parts = _request_sketches(bins)
    ends = np.cumsum([len(sketch.cells) for sketch in parts])
    if ends[-1] != len(cells):
        raise InputError(
            "cells",
            expected=f"the reference's {ends[-1]} counts",
            got=f"{len(cells)}",
            next_step="Read only windows counted against this reference.",
        )
    part = iter(np.split(cells, ends[:-1]))
    return Profile(
        inputs={name: sketches.refill(sketch, next(part)) for name, sketch in bins.inputs.items()},
        confidence=sketches.refill(bins.confidence, next(part)),
        label=sketches.refill(bins.label, next(part)),
        truth=sketches.empty(bins.truth),
        confusion=ConfusionSketch(bins.confusion.labels, {}),
    )


def _request_sketches(profile: Profile) -> list[Sketch]:
    return [*profile.inputs.values(), profile.confidence, profile.label]


def merge_profiles(profiles: Sequence[Profile]) -> Profile:
    """The profile of all rows together: exact, associative, commutative.

    Raises:
        InputError: for none, or for profiles of different references.
    """
    if not profiles:
        raise InputError(
            "profiles", expected="at least one", got="none", next_step="Start from empty_profile(reference)."
        )
    labels = merge_labels(profiles[0], profiles)
    return replace(merge_requests(profiles[0], profiles), truth=labels.truth, confusion=labels.confusion)


def merge_requests(bins: Profile, profiles: Sequence[Profile]) -> Profile:
    """The requests of all ``profiles``, without labels, in the bins of ``bins``; empty for none.

    Raises:
        InputError: they were counted in other bins.
    """
    blank = empty_profile(bins)
    if any(one.inputs.keys() != blank.inputs.keys() for one in profiles):
        raise InputError(
            "profiles",
            expected=f"the input columns {', '.join(sorted(blank.inputs))}",
            got="profiles with others",
            next_step="Merge only profiles counted against one reference.",
        )
    found = [blank, *profiles]
    return replace(
        blank,
        inputs={name: sketches.merge([one.inputs[name] for one in found]) for name in blank.inputs},
        confidence=sketches.merge([one.confidence for one in found]),
        label=sketches.merge([one.label for one in found]),
    )


def merge_labels(bins: Profile, profiles: Sequence[Profile]) -> Profile:
    """The labels of all ``profiles``, without requests, in the bins of ``bins``; empty for none.

    Raises:
        InputError: they were counted in other bins.
    """
    blank = empty_profile(bins)
    found = [blank, *profiles]
    return replace(
        blank,
        truth=sketches.merge([one.truth for one in found]),
        confusion=merge_confusions([one.confusion for one in found]),
    )


def empty_profile(profile: Profile) -> Profile:
    """The same bins with nothing in them."""
    return Profile(
        inputs={name: sketches.empty(sketch) for name, sketch in profile.inputs.items()},
        confidence=sketches.empty(profile.confidence),
        label=sketches.empty(profile.label),
        truth=sketches.empty(profile.truth),
        confusion=ConfusionSketch(profile.confusion.labels, {}),
    )


def profile_as_dict(profile: Profile) -> dict[str, Any]:
    """The profile as a JSON object."""
    return {
        "inputs": {name: sketches.as_dict(sketch) for name, sketch in profile.inputs.items()},
        "confidence": sketches.as_dict(profile.confidence),
        "label": sketches.as_dict(profile.label),
        "truth": sketches.as_dict(profile.truth),
        "confusion": confusion_cells(profile.confusion),
    }


def profile_from_dict(body: Mapping[str, Any]) -> Profile:
    """The inverse of :func:`profile_as_dict`.

    Raises:
        InputError, KeyError, TypeError, ValueError: for anything else.
    """
    confidence = sketches.from_dict(body["confidence"])
    label, truth = sketches.from_dict(body["label"]), sketches.from_dict(body["truth"])
    if (
        not isinstance(confidence, NumericSketch)
        or not isinstance(label, CategoricalSketch)
        or not isinstance(truth, CategoricalSketch)
    ):
        raise TypeError("confidence is not numeric, or a label not categorical")
    return Profile(
        inputs={name: sketches.from_dict(one) for name, one in body["inputs"].items()},
        confidence=confidence,
        label=label,
        truth=truth,
        confusion=confusion_from_cells(truth.values, body["confusion"]),
    )


def confusion_cells(confusion: ConfusionSketch) -> list[list[int]]:
    """[true, predicted, rows] of each pair that occurs, in order."""
    return [[*pair, rows] for pair, rows in sorted(confusion.cells.items())]


def confusion_from_cells(labels: tuple[str, ...], cells: Sequence[Sequence[int]]) -> ConfusionSketch:
    """The inverse of :func:`confusion_cells`."""
    return ConfusionSketch(labels, {(true, predicted): rows for true, predicted, rows in cells})


def confusions(
    labels: tuple[str, ...], frame: pl.DataFrame, window: NDArray[np.int64], windows: int
) -> list[ConfusionSketch]:
    size = len(labels) + 1
    true = np.minimum(sketches.category_codes(frame["truth"], labels), size - 1)
    predicted = np.minimum(sketches.category_codes(frame["label"], labels), size - 1)
    codes, rows = np.unique((window * size + true) * size + predicted, return_counts=True)
    cells: list[dict[tuple[int, int], int]] = [{} for _ in range(windows)]
    for code, count in zip(codes.tolist(), rows.tolist(), strict=True):
        rest, column = divmod(code, size)
        slot, row = divmod(rest, size)
        cells[slot][row, column] = count
    return [ConfusionSketch(labels, one) for one in cells]


def merge_confusions(found: Sequence[ConfusionSketch]) -> ConfusionSketch:
    """True against predicted label of all rows together.

    Raises:
        InputError: they know other labels.
    """
    total: dict[tuple[int, int], int] = {}
    for one in found:
        if one.labels != found[0].labels:
            raise InputError(
                "profiles",
                expected=f"{len(found[0].labels)} labels",
                got=f"{len(one.labels)} others",
                next_step="Merge only profiles counted against one reference.",
            )
        for pair, rows in one.cells.items():
            total[pair] = total.get(pair, 0) + rows
    return ConfusionSketch(found[0].labels, dict(sorted(total.items())))


def require_columns(frame: pl.DataFrame, names: Iterable[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise InputError(
                f"column '{name}'",
                expected="to be in the frame",
                got=f"{len(frame.columns)} other columns",
                next_step=nearest(name, frame.columns),
            )
