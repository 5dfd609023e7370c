"""Frozen-bin sketches: a few counts that stand for a column, exact to merge over workers and time.

The bins are chosen once, on the reference, and never again: re-binning on combined data lets one outlier
hide a shift of a whole standard deviation. Because the bins do not move, merging is integer addition, so any
grouping of five-minute sketches into hours, days or workers gives the very counts of one pass over all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.drift.centroid import CentroidSketch, count_centroid, count_centroid_windows

NUMERIC_BINS = 10
SCORE_BINS = 50
TOP_VALUES = 20

# Rows compared at a time: 256 KiB of float64 stay in the second-level cache while every edge passes over.
_CHUNK = 1 << 15


@dataclass(frozen=True, slots=True)
class NumericSketch:
    """Counts of a numeric column in frozen bins.

    Attributes:
        edges: (k,) strictly increasing, in the column's unit. Bin i holds edges[i-1] < x <= edges[i]; the
            first and the last bin are open, so no value falls outside.
        counts: (k + 1,) rows per bin.
        missing: rows that are null or NaN.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int = 0

    @property
    def cells(self) -> NDArray[np.int64]:
        """(k + 2,) the bins, then the missing rows: missingness is part of a distribution."""
        return np.array([*self.counts, self.missing], dtype=np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """One readable name per cell."""
        if not self.edges:
            return ("any value", "missing")
        inner = [_between(low, high) for low, high in pairwise(self.edges)]
        # The edge just below the smallest value was made by fit_numeric, and reads badly in digits.
        alone = len(self.edges) > 1 and _neighbours(*self.edges[:2])
        first = f"below {self.edges[1]:g}" if alone else f"up to {self.edges[0]:g}"
        return (first, *inner, f"above {self.edges[-1]:g}", "missing")


@dataclass(frozen=True, slots=True)
class CategoricalSketch:
    """Counts of a categorical column: the reference's most frequent values, the rest, the missing.

    Attributes:
        values: (k,) the kept values, most frequent in the reference first.
        counts: (k + 1,) rows per kept value, then all other values together.
        missing: rows that are null.
    """

    values: tuple[str, ...]
    counts: tuple[int, ...]
    missing: int = 0

    @property
    def cells(self) -> NDArray[np.int64]:
        """(k + 2,) kept values, other, missing."""
        return np.array([*self.counts, self.missing], dtype=np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """One readable name per cell."""
        return (*self.values, "other", "missing")


BinSketch = NumericSketch | CategoricalSketch
Sketch = NumericSketch | CategoricalSketch | CentroidSketch
S = TypeVar("S", bound=NumericSketch | CategoricalSketch | CentroidSketch)


def fit_numeric(values: pl.Series, *, bins: int = NUMERIC_BINS) -> NumericSketch:
    """Freeze quantile edges on ``values`` and count them.

    Edges are values that occur (the inverted empirical distribution), so integers and heavy ties bin
    cleanly. Where the smallest value fills the first bin by itself, a bin below it is added: otherwise
    something smaller than anything seen could not be told from it. A column without a finite value has one
    open bin.
    """
    array = _floats(values)
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        return count(NumericSketch((), (0,)), values)
    # Sorted positions of the quantiles, ceil(i n / bins) - 1 in whole numbers; partition finds them
    # without sorting the rest.
    positions = np.unique(-(-np.arange(1, bins) * finite.size // bins) - 1)
    edges = np.unique(np.partition(finite, positions)[positions])
    smallest = finite.min()
    if edges[0] == smallest:
        edges = np.concatenate([[np.nextafter(smallest, -np.inf)], edges])
    return count(NumericSketch(tuple(edges.tolist()), (0,) * (edges.size + 1)), values)


def fit_categorical(values: pl.Series, *, top: int = TOP_VALUES) -> CategoricalSketch:
    """Freeze the ``top`` most frequent values (ties by name) and count them."""
    found = sorted(_frequencies(values).items(), key=lambda item: (-item[1], item[0]))
    kept = tuple(value for value, _ in found[:top])
    return count(CategoricalSketch(kept, (0,) * (len(kept) + 1)), values)


def empty(sketch: S) -> S:
    """The same bins with nothing in them."""
    return refill(sketch, np.zeros(len(sketch.cells), dtype=np.int64))


def refill(sketch: S, cells: NDArray[np.int64]) -> S:
    """The same bins holding ``cells``, in the order and number of ``sketch.cells``."""
    plain: list[int] = cells.tolist()
    if isinstance(sketch, CentroidSketch):
        return replace(sketch, sums=tuple(plain[:-2]), counted=plain[-2], missing=plain[-1])
    return replace(sketch, counts=tuple(plain[:-1]), missing=plain[-1])


def count(sketch: S, values: pl.Series) -> S:
    """A new sketch of ``values`` in the bins of ``sketch``, whose own counts are ignored."""
    if isinstance(sketch, CentroidSketch):
        return refill(sketch, count_centroid(sketch, values).cells)
    if isinstance(sketch, NumericSketch):
        return refill(sketch, _count_numeric(sketch.edges, values))
    return refill(sketch, _count_categorical(sketch.values, values))


def count_windows(sketch: S, values: pl.Series, window: NDArray[np.int64], windows: int) -> list[S]:
    """One sketch per time window in one pass.

    Args:
        sketch: the bins.
        values: (n,) the column.
        window: (n,) index of each row's window, 0 <= window < ``windows``.
        windows: how many windows there are.
    """
    if isinstance(sketch, CentroidSketch):
        counted = count_centroid_windows(sketch, values, window, windows)
        return [refill(sketch, one.cells) for one in counted]
    if isinstance(sketch, NumericSketch):
        codes = _numeric_codes(sketch.edges, values)
    else:
        codes = category_codes(values, sketch.values)
    width = len(sketch.counts) + 1
    grid = np.bincount(window * width + codes, minlength=windows * width).reshape(windows, width)
    return [refill(sketch, row) for row in grid]


def merge(sketches: Sequence[S]) -> S:
    """The sketch of all rows together: exact, associative and commutative.

    Raises:
        InputError: for no sketch at all, or for sketches whose bins differ.
    """
    if not sketches:
        raise InputError(
            "sketches", expected="at least one", got="none", next_step="Pass the sketches of one reference."
        )
    first = sketches[0]
    bins = _bins(first)
    for other in sketches[1:]:
        theirs = _bins(other)
        # Sketches of one reference share their bins, and to see that they are one object costs nothing.
        if type(other) is not type(first) or (theirs is not bins and theirs != bins):
            raise _unmergeable(f"the bins {_shown(first)}", _shown(other))
    return refill(first, np.array([_plain(one) for one in sketches], dtype=np.int64).sum(axis=0))


def as_dict(sketch: Sketch) -> dict[str, Any]:
    """The sketch as a JSON object."""
    if isinstance(sketch, CentroidSketch):
        return {**asdict(sketch), "sums": list(sketch.sums)}
    bins: dict[str, Any] = (
        {"edges": list(sketch.edges)}
        if isinstance(sketch, NumericSketch)
        else {"values": list(sketch.values)}
    )
    return {**bins, "counts": list(sketch.counts), "missing": sketch.missing}


def from_dict(body: Mapping[str, Any]) -> Sketch:
    """The inverse of :func:`as_dict`.

    Raises:
        InputError: when the counts do not fit the bins.
    """
    if "sums" in body:
        return CentroidSketch(**{**body, "sums": tuple(body["sums"])})
    numeric = "edges" in body
    bins = tuple(body["edges"] if numeric else body["values"])
    counts = tuple(body["counts"])
    if len(counts) != len(bins) + 1 or any(value < 0 for value in (*counts, body["missing"])):
        raise InputError(
            "sketch",
            expected=f"{len(bins) + 1} counts of zero or more",
            got=f"{len(counts)} counts",
            next_step="The stored sketch is damaged: fit the reference again.",
        )
    if numeric:
        return NumericSketch(tuple(float(edge) for edge in bins), counts, body["missing"])
    return CategoricalSketch(bins, counts, body["missing"])


def category_codes(values: pl.Series, known: Sequence[str]) -> NDArray[np.int64]:
    """(n,) index into ``known``; len(known) for any other value, len(known) + 1 for null."""
    mapping = {value: index for index, value in enumerate(known)}
    text = values.cast(pl.String)
    coded = text.replace_strict(mapping, default=len(known), return_dtype=pl.Int64) if mapping else None
    if coded is None:
        coded = pl.Series([0] * len(values), dtype=pl.Int64)
    codes: NDArray[np.int64] = coded.to_numpy().astype(np.int64, copy=True)
    codes[values.is_null().to_numpy()] = len(known) + 1
    return codes


def _floats(values: pl.Series) -> NDArray[np.float64]:
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
        raise InputError(
            f"column '{values.name}'",
            expected="numbers",
            got=str(values.dtype),
            next_step="Sketch it as a categorical column.",
        )
    array: NDArray[np.float64] = values.cast(pl.Float64).to_numpy()
    return array


def _frequencies(values: pl.Series) -> dict[str, int]:
    table = values.drop_nulls().value_counts(name="__n")
    return dict(zip(table[:, 0].cast(pl.String).to_list(), table["__n"].to_list(), strict=True))


def _count_numeric(edges: tuple[float, ...], values: pl.Series) -> NDArray[np.int64]:
    """Cumulative counts by comparison: no bin index per row is ever stored.

    With tens of edges, comparing a cached chunk with every edge is several times faster than a binary
    search per value, because comparisons run a vector at a time and never mispredict.
    """
    array = _floats(values)
    at_most = np.zeros(len(edges), dtype=np.int64)
    missing = 0
    for start in range(0, array.size, _CHUNK):
        chunk = array[start : start + _CHUNK]
        missing += int(np.count_nonzero(np.isnan(chunk)))
        at_most += np.array([np.count_nonzero(chunk <= edge) for edge in edges], dtype=np.int64)
    present = array.size - missing
    return np.concatenate([np.diff(at_most, prepend=0, append=present), [missing]])


def _count_categorical(known: tuple[str, ...], values: pl.Series) -> NDArray[np.int64]:
    found = _frequencies(values)
    kept = [found.get(value, 0) for value in known]
    missing = values.null_count()
    return np.array([*kept, len(values) - missing - sum(kept), missing], dtype=np.int64)


def _numeric_codes(edges: tuple[float, ...], values: pl.Series) -> NDArray[np.int64]:
    array = _floats(values)
    codes = np.searchsorted(np.array(edges), array, side="left").astype(np.int64)
    codes[np.isnan(array)] = len(edges) + 1
    return codes


def _bins(sketch: Sketch) -> tuple[float, ...] | tuple[str, ...]:
    if isinstance(sketch, CentroidSketch):
        return sketch.bins
    return sketch.edges if isinstance(sketch, NumericSketch) else sketch.values


def _neighbours(low: float, high: float) -> bool:
    """Whether there is no number between the two."""
    return bool(np.nextafter(low, np.inf) == high)


def _between(low: float, high: float) -> str:
    return f"exactly {high:g}" if _neighbours(low, high) else f"{low:g} to {high:g}"


def _plain(sketch: Sketch) -> tuple[int, ...]:
    """The cells as plain numbers."""
    if isinstance(sketch, CentroidSketch):
        return (*sketch.sums, sketch.counted, sketch.missing)
    return (*sketch.counts, sketch.missing)


def _shown(sketch: Sketch) -> str:
    bins = _bins(sketch)
    kind = {NumericSketch: "edges", CategoricalSketch: "values"}.get(type(sketch), "parts of a centroid")
    return f"{len(bins)} {kind} ({', '.join(map(str, bins[:3]))}…)"


def _unmergeable(expected: str, got: str) -> InputError:
    return InputError(
        "sketches",
        expected=expected,
        got=got,
        next_step="Merge only sketches counted in one reference's bins.",
    )
