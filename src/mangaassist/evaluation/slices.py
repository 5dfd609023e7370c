"""The slice matrix (EVA-2): every part of the rows with its interval, small ones included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.evaluation.paired import Change, paired_change
from mangaassist.evaluation.report import Answers, Slice, SliceMatrix
from mangaassist.stats.intervals import wilson
from mangaassist.stats.multiple import holm

LABEL = "label"
MINIMUM = 30
_DEEPEST_CROSS = 3
_FLAG_BELOW = 0.05


@dataclass(frozen=True, slots=True)
class _Dimension:
    """Values of one dimension and the code of each in-scope row."""

    name: str
    values: tuple[str, ...]
    codes: NDArray[np.int64]


def slice_matrix(answers: Answers, dimensions: Sequence[str], *, minimum: int = MINIMUM) -> SliceMatrix:
    """Accuracy of every value of every dimension and of every cross of two or three that has rows.

    The true label is always a dimension. A slice is flagged when Fisher's exact test finds it worse than
    all other rows at 5% after Holm's correction over the tested slices.

    Args:
        dimensions: the story's slice columns; those the rows lack are reported as absent.
        minimum: rows below which a slice is reported as insufficient and not tested.
    """
    found = _dimensions(answers, dimensions)
    correct, answered = answers.correct[answers.in_scope], answers.answered[answers.in_scope]
    slices = [
        one for names, index in _crosses(found) for one in _counted(names, index, correct, answered, minimum)
    ]
    absent = tuple(name for name in dimensions if name not in answers.dimensions and name != LABEL)
    return SliceMatrix(tuple(_test(slices, len(correct), int(correct.sum()))), minimum, absent)


def _dimensions(answers: Answers, names: Sequence[str]) -> list[_Dimension]:
    inside = answers.in_scope
    wanted = dict.fromkeys(("language", *names))
    columns: Mapping[str, Sequence[str]] = {
        **{name: answers.dimensions[name] for name in wanted if name in answers.dimensions},
        LABEL: [answers.labels[code] for code in answers.actual],
    }
    made = []
    for name, column in columns.items():
        values, codes = np.unique(np.array(column, dtype=object)[inside], return_inverse=True)
        made.append(_Dimension(name, tuple(values.tolist()), codes.astype(np.int64)))
    return made


def _crosses(found: Sequence[_Dimension]) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
    """Names of the slices of each cross of one to three dimensions, and the slice of each in-scope row."""
    for depth in range(1, min(_DEEPEST_CROSS, len(found)) + 1):
        for cross in combinations(found, depth):
            sizes = tuple(len(one.values) for one in cross)
            code = np.ravel_multi_index(tuple(one.codes for one in cross), sizes)
            present, index = np.unique(code, return_inverse=True)
            places = np.stack(np.unravel_index(present, sizes), axis=1)
            names = [
                " & ".join(f"{one.name}={one.values[at]}" for one, at in zip(cross, place, strict=True))
                for place in places
            ]
            yield names, index


def _counted(
    names: Sequence[str],
    index: NDArray[np.int64],
    correct: NDArray[np.bool_],
    answered: NDArray[np.bool_],
    minimum: int,
) -> Iterator[Slice]:
    n = np.bincount(index)
    right = np.bincount(index, weights=correct).astype(np.int64)
    spoke = np.bincount(index, weights=answered)
    for row, name in enumerate(names):
        estimate = wilson(int(right[row]), int(n[row]))
        yield Slice(
            name=name,
            n=int(n[row]),
            correct=int(right[row]),
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            answered=float(spoke[row] / n[row]),
            gap=None,
            p=None,
            insufficient=bool(n[row] < minimum),
            flagged=False,
        )


def slice_changes(
    before: Answers, after: Answers, dimensions: Sequence[str], *, minimum: int = MINIMUM
) -> list[tuple[str, Change]]:
    """How each slice large enough fares under ``after`` compared with ``before`` on the same rows.

    ``p_worse`` is McNemar's exact one-sided probability, Holm-adjusted over these slices.

    Raises:
        InputError: when the two answered different rows.
    """
    if before.rows != after.rows:
        raise InputError(
            "slice changes",
            expected="both reports on the same rows",
            got="different rows",
            next_step="Evaluate the champion again on the candidate's rows.",
        )
    old, new = before.correct[after.in_scope], after.correct[after.in_scope]
    changes = []
    for names, index in _crosses(_dimensions(after, dimensions)):
        sizes = np.bincount(index)
        for slice_index in np.flatnonzero(sizes >= minimum):
            rows = index == slice_index
            changes.append((names[slice_index], paired_change(old[rows], new[rows])))
    if not changes:
        return []
    adjusted = holm([change.p_worse for _, change in changes])
    return [
        (name, replace(change, p_worse=float(p))) for (name, change), p in zip(changes, adjusted, strict=True)
    ]


def _test(slices: Sequence[Slice], rows: int, correct: int) -> list[Slice]:
    """Fill in gap, p and flag. A slice that holds every row has no rest to be compared with."""
    n = np.array([one.n for one in slices], dtype=np.int64)
    right = np.array([one.correct for one in slices], dtype=np.int64)
    rest = rows - n
    gap = right / n - np.divide(correct - right, rest, out=np.zeros(len(n)), where=rest > 0)
    tested = np.array([not one.insufficient for one in slices]) & (rest > 0)
    p = np.full(len(n), np.nan)
    if tested.any():
        # Fisher's exact test, one-sided: right answers in the slice given both margins.
        p[tested] = holm(np.clip(stats.hypergeom.cdf(right[tested], rows, correct, n[tested]), 0, 1))
    return [
        replace(
            one,
            gap=float(gap[row]) if rest[row] else None,
            p=float(p[row]) if tested[row] else None,
            flagged=bool(tested[row] and p[row] < _FLAG_BELOW),
        )
        for row, one in enumerate(slices)
    ]
