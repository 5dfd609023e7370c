"""The slice matrix (EVA-2): every part of the rows with its interval, small ones included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.evaluation.answers import Answers
from mangaassist.evaluation.paired import Change, change_of
from mangaassist.evaluation.report import Slice, SliceMatrix
from mangaassist.stats.intervals import wilson
from mangaassist.stats.multiple import holm

LABEL = "label"
MINIMUM = 30
_DEEPEST_CROSS = 3
_FLAG_BELOW = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The in-scope rows, counted once per combination of all dimensions that occurs; crosses add these up.

    Attributes:
        names: of the dimensions, d of them.
        values: the values of each dimension.
        codes: which value of each dimension a cell has, shape (d, cells).
        n: rows of each cell, shape (cells,).
        counts: rows of each cell for which each of the flags holds, shape (flags, cells).
    """

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    codes: NDArray[np.int64]
    n: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def totals(self) -> tuple[int, int]:
        """Rows, and those for which the first flag holds."""
        return int(self.n.sum()), int(self.counts[0].sum())


def slice_matrix(answers: Answers, dimensions: Sequence[str], *, minimum: int = MINIMUM) -> SliceMatrix:
    """Accuracy of every value of every dimension and of every cross of two or three that has rows.

    The true label is always a dimension; a column that only repeats it is left out. A slice is flagged when
    Fisher's exact test finds it worse than all other rows at 5% after Holm's correction over those tested.

    Args:
        dimensions: the story's slice columns; those the rows lack are reported as absent.
        minimum: rows below which a slice is reported as insufficient and not tested.
    """
    cells = _cells(answers, dimensions, answers.correct, answers.answered)
    slices = [
        one
        for names, n, (right, spoke) in _crosses(cells)
        for one in _counted(names, n, right, spoke, minimum)
    ]
    absent = tuple(name for name in dimensions if name not in answers.dimensions and name != LABEL)
    return SliceMatrix(tuple(_test(slices, *cells.totals)), minimum, absent)


def _cells(answers: Answers, names: Sequence[str], *flags: NDArray[np.bool_]) -> _Cells:
    """Count the in-scope rows by language, every dimension of ``names`` they have, and true label."""
    inside = answers.in_scope
    wanted = dict.fromkeys(("language", *names))
    coded = {name: _coded(answers.dimensions[name], inside) for name in wanted if name in answers.dimensions}
    label = _coded([answers.labels[code] for code in answers.actual], inside)
    # A dimension that is the label under another name would test every slice twice.
    coded = {name: one for name, one in coded.items() if not _same(one, label)}
    coded[LABEL] = label
    cell = np.zeros(int(inside.sum()), dtype=np.int64)
    for values, codes in coded.values():
        # Squeezed after every dimension, so that the code of a cell never outgrows the rows.
        cell = _squeezed(cell * len(values) + codes)
    n = np.bincount(cell)
    member = np.zeros(len(n), dtype=np.int64)
    member[cell] = np.arange(len(cell))
    return _Cells(
        tuple(coded),
        tuple(values for values, _ in coded.values()),
        np.stack([codes[member] for _, codes in coded.values()]),
        n,
        np.stack([np.bincount(cell[flag[inside]], minlength=len(n)) for flag in flags]),
    )


_Coded = tuple[tuple[str, ...], NDArray[np.int64]]


def _same(one: _Coded, other: _Coded) -> bool:
    return one[0] == other[0] and np.array_equal(one[1], other[1])


def _squeezed(code: NDArray[np.int64]) -> NDArray[np.int64]:
    """``code`` with the numbers that do not occur left out; by counting where that beats sorting."""
    if len(code) and int(code.max()) > 4 * len(code):
        return np.unique(code, return_inverse=True)[1]
    return (np.cumsum(np.bincount(code) > 0) - 1)[code]


def _coded(column: Sequence[str], inside: NDArray[np.bool_]) -> _Coded:
    """The sorted values of the in-scope rows, and the place of each row's value among them."""
    known = sorted(set(column))
    place = {value: index for index, value in enumerate(known)}
    codes = np.fromiter(map(place.__getitem__, column), np.int64, len(column))[inside]
    present = np.bincount(codes, minlength=len(known)) > 0
    return tuple(np.array(known, dtype=object)[present]), (np.cumsum(present) - 1)[codes]


def _crosses(
    cells: _Cells,
) -> Iterator[tuple[list[str], NDArray[np.int64], NDArray[np.int64]]]:
    """Of each cross of one to three dimensions: names of its slices that have rows, their rows (slices,)
    and their flagged rows (flags, slices)."""
    for depth in range(1, min(_DEEPEST_CROSS, len(cells.names)) + 1):
        for cross in combinations(range(len(cells.names)), depth):
            sizes = tuple(len(cells.values[at]) for at in cross)
            code = np.ravel_multi_index(tuple(cells.codes[at] for at in cross), sizes)
            present, index = np.unique(code, return_inverse=True)
            places = np.stack(np.unravel_index(present, sizes), axis=1)
            names = [
                " & ".join(
                    f"{cells.names[at]}={cells.values[at][value]}"
                    for at, value in zip(cross, place, strict=True)
                )
                for place in places
            ]
            summed = [_added(index, one, len(present)) for one in (cells.n, *cells.counts)]
            yield names, summed[0], np.stack(summed[1:])


def _added(index: NDArray[np.intp], counts: NDArray[np.int64], slices: int) -> NDArray[np.int64]:
    # Exact: float64 holds every whole number a count of rows can reach.
    return np.bincount(index, weights=counts, minlength=slices).astype(np.int64)


def _counted(
    names: Sequence[str],
    n: NDArray[np.int64],
    right: NDArray[np.int64],
    spoke: NDArray[np.int64],
    minimum: int,
) -> Iterator[Slice]:
    for name, rows, correct, answered in zip(names, n.tolist(), right.tolist(), spoke.tolist(), strict=True):
        estimate = wilson(correct, rows)
        yield Slice(
            name=name,
            n=rows,
            correct=correct,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            answered=answered / rows,
            gap=None,
            p=None,
            insufficient=rows < minimum,
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
    old, new = before.correct, after.correct
    cells = _cells(after, dimensions, old, new, old & ~new, ~old & new)
    changes = [
        (name, change_of(*(int(one) for one in numbers)))
        for names, n, counts in _crosses(cells)
        for name, *numbers in zip(names, n, *counts, strict=True)
        if numbers[0] >= minimum
    ]
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
