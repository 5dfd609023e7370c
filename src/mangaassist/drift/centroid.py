"""Where a cloud of embeddings lies: a sum per coordinate, in whole numbers so that merging is exact.

Floating-point sums depend on the order of addition, so two workers would merge to different counts. Here each
coordinate is rounded to a step frozen with the reference and the steps are added as integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.errors import InputError

# The largest coordinate of the reference is 2**24 steps (as fine as float32); 64 times that is the most a
# coordinate counts for, so that eight thousand million rows still fit 64 bits.
_STEPS = 1 << 24
_MOST = _STEPS << 6
_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True, slots=True)
class CentroidSketch:
    """The sum of an embedding column.

    Attributes:
        step: size of one counted step, a power of two in the embedding's unit.
        spread: root of the reference's total variance: the typical distance from its centroid.
        dimensions: effective number of dimensions of the reference, (tr S)^2 / tr(S^2) of its covariance S.
        sums: (d,) steps per coordinate, added over the counted rows.
        counted: rows added.
        missing: rows that are null or hold a NaN or an infinity.
    """

    step: float
    spread: float
    dimensions: float
    sums: tuple[int, ...]
    counted: int = 0
    missing: int = 0

    @property
    def bins(self) -> tuple[float, ...]:
        """What must be equal for two sketches to merge."""
        return (self.step, self.spread, self.dimensions, float(len(self.sums)))

    @property
    def cells(self) -> NDArray[np.int64]:
        """(d + 2,) the sums, the rows counted, the rows missing: all of it adds."""
        return np.array([*self.sums, self.counted, self.missing], dtype=np.int64)

    @property
    def mean(self) -> NDArray[np.float64]:
        """(d,) the centroid; zeros for no rows."""
        return np.array(self.sums, dtype=np.float64) * self.step / max(1, self.counted)


def fit_centroid(values: pl.Series) -> CentroidSketch:
    """Freeze the step and the spread on ``values``, a column of equally long vectors, and add them.

    Raises:
        InputError: for a column that is no such thing, or has fewer than two usable rows.
    """
    total, squares, rows, shift, largest = None, None, 0, None, 0.0
    for _, matrix, present in _chunks(values):
        usable = matrix[present]
        if not len(usable):
            continue
        # Sums of squares about a point near the centroid lose no digits to its distance from zero.
        shift = usable.mean(axis=0) if shift is None else shift
        centred = usable - shift
        total = centred.sum(axis=0) + (0 if total is None else total)
        squares = centred.T @ centred + (0 if squares is None else squares)
        rows, largest = rows + len(usable), max(largest, float(np.abs(usable).max()))
    if total is None or squares is None or rows < 2:
        raise InputError(
            f"column '{values.name}'",
            expected="at least two embeddings",
            got=f"{rows}",
            next_step="Fit the reference on more rows.",
        )
    covariance = (squares - np.outer(total, total) / rows) / (rows - 1)
    variance, squared = float(np.trace(covariance)), float((covariance**2).sum())
    step = 2.0 ** (math.ceil(math.log2(largest)) - 24) if largest else 2.0**-24
    spread, dimensions = math.sqrt(max(0.0, variance)), variance**2 / squared if squared else 1.0
    return count_centroid(CentroidSketch(step, spread, dimensions, (0,) * len(total)), values)


def count_centroid(sketch: CentroidSketch, values: pl.Series) -> CentroidSketch:
    """The sketch of ``values`` in the steps of ``sketch``."""
    return count_centroid_windows(sketch, values, np.zeros(len(values), dtype=np.int64), 1)[0]


def count_centroid_windows(
    sketch: CentroidSketch, values: pl.Series, window: NDArray[np.int64], windows: int
) -> list[CentroidSketch]:
    """One sketch per window; see :func:`mangaassist.drift.sketch.count_windows`."""
    width = len(sketch.sums)
    sums = np.zeros((windows, width), dtype=np.int64)
    counted, missing = np.zeros(windows, dtype=np.int64), np.zeros(windows, dtype=np.int64)
    for start, matrix, present in _chunks(values):
        if matrix.shape[1] != width:
            raise InputError(
                f"column '{values.name}'",
                expected=f"vectors of {width} numbers",
                got=f"{matrix.shape[1]}",
                next_step="Fit a new reference for a new embedding model.",
            )
        here = window[start : start + len(matrix)]
        counted += np.bincount(here[present], minlength=windows)
        missing += np.bincount(here[~present], minlength=windows)
        steps = np.clip(np.rint(matrix[present] / sketch.step), -_MOST, _MOST).astype(np.int64)
        order = np.argsort(here[present], kind="stable")
        inside, first = np.unique(here[present][order], return_index=True)
        if inside.size:
            sums[inside] += np.add.reduceat(steps[order], first, axis=0)
    return [
        CentroidSketch(sketch.step, sketch.spread, sketch.dimensions, tuple(one), present, absent)
        for one, present, absent in zip(sums.tolist(), counted.tolist(), missing.tolist(), strict=True)
    ]


def norms(values: pl.Series) -> pl.Series:
    """Euclidean length of each embedding; null where it is missing."""
    found = [
        np.where(present, np.linalg.norm(matrix, axis=1), np.nan) for _, matrix, present in _chunks(values)
    ]
    return pl.Series(values.name, np.concatenate(found) if found else [], dtype=pl.Float64).fill_nan(None)


def _chunks(values: pl.Series) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.bool_]]]:
    """First row, (n, d) numbers and (n,) which rows are whole, some megabytes at a time.

    Raises:
        InputError: the column does not hold equally long vectors of numbers.
    """
    if isinstance(values.dtype, pl.List):
        widths = values.list.len().drop_nulls().unique()
        if len(widths) != 1:
            raise _no_vectors(values)
        values = values.list.to_array(int(widths[0]))
    if not isinstance(values.dtype, pl.Array) or not values.dtype.inner.is_numeric():
        raise _no_vectors(values)
    size = max(1, _CHUNK_VALUES // max(1, values.dtype.size))
    for start in range(0, len(values), size):
        part = values.slice(start, size)
        matrix = np.full((len(part), values.dtype.size), np.nan)
        matrix[part.is_not_null().to_numpy()] = part.drop_nulls().to_numpy()
        present = np.isfinite(matrix).all(axis=1)
        matrix[~present] = 0.0
        yield start, matrix, present


def _no_vectors(values: pl.Series) -> InputError:
    return InputError(
        f"column '{values.name}'",
        expected="equally long vectors of numbers",
        got=str(values.dtype),
        next_step="Store embeddings as lists or arrays of one length.",
    )
