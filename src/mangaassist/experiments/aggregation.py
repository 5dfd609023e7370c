"""One scan of the unit table: counts, sums and products per cell of (arm, cohort, day), all metrics at once.

Every analysis after this one works on the sums. They add up over cells, so the aggregate, each cohort and
each day come from the same pass. Columns are shifted by a pivot first, as sums of large squares cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.experiments.plan import Columns, Metric, Transform
from mangaassist.experiments.sums import (
    ROWS,
    is_complete,
    masked_sums,
    read_sums,
    shape_of,
    shared_sums,
    units_of,
)
from mangaassist.experiments.unit_table import require_columns
from mangaassist.stats.domain import FloatArray, IntArray
from mangaassist.stats.moments import Moments

Mask = NDArray[np.bool_]

UNITS_CHECKED_EXACTLY = 40_000_000
"""Above this many rows, one unit in 2, 4, ... (by hash, so with all its rows) is checked for being unique."""

# The two results of a scan read different columns; sharing a subplan would hold all of them in memory.
_APART = pl.QueryOptFlags(comm_subplan_elim=False)

_PIVOT_ROWS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Sums of one metric's columns per cell, about a pivot.

    Attributes:
        columns: what was summed: own columns, then covariates.
        pivot: subtracted from every value, shape (p,).
        n: usable units per cell, shape (cells,).
        totals: shape (cells, p).
        products: shape (cells, p, p).
    """

    columns: tuple[str, ...]
    pivot: FloatArray
    n: IntArray
    totals: FloatArray
    products: FloatArray

    def moments(self, cells: Mask) -> Moments | None:
        """Moments over the union of some cells; None when they hold no usable unit."""
        n = int(self.n[cells].sum())
        if n == 0:
            return None
        total, product = self.totals[cells].sum(axis=0), self.products[cells].sum(axis=0)
        mean = total / n
        scatter = product - np.outer(total, mean)
        np.fill_diagonal(scatter, np.maximum(np.diagonal(scatter), 0.0))
        return Moments(n, mean + self.pivot, scatter)


@dataclass(frozen=True, slots=True)
class UnitCheck:
    """Whether every unit is there once, and in one arm.

    Attributes:
        nobody: rows without a unit.
        checked: rows looked at.
        one_in: 1 when all were, else one unit in this many.
        repeated: units with more than one row.
        both_arms: units with rows in more than one arm.
        example: one of them, empty when there is none.
    """

    nobody: int
    checked: int
    one_in: int
    repeated: int
    both_arms: int
    example: str


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What one scan left behind.

    Attributes:
        keys: value of arm, cohort dimensions and day per cell.
        rows: units per cell, shape (cells,).
        blocks: sums per metric name.
        units: what was found about the units.
    """

    keys: pl.DataFrame
    rows: IntArray
    blocks: Mapping[str, Block]
    units: UnitCheck

    def where(self, **wanted: object) -> Mask:
        """Cells whose keys have the given values."""
        mask = np.ones(len(self.rows), dtype=bool)
        for column, value in wanted.items():
            mask &= np.fromiter((key == value for key in self.keys[column]), dtype=bool, count=len(mask))
        return mask

    def counts(self, column: str, cells: Mask | None = None) -> dict[str | None, int]:
        """Units per value of a key column; None counts those without one."""
        rows = self.rows if cells is None else np.where(cells, self.rows, 0)
        found = pl.DataFrame({"key": self.keys[column], "rows": rows}).group_by("key").agg(pl.sum("rows"))
        return {key: int(total) for key, total in found.iter_rows() if total}


def aggregate(
    frame: pl.LazyFrame, metrics: Sequence[Metric], *, columns: Columns, dimensions: Sequence[str] = ()
) -> Table:
    """Scan a unit table once.

    Args:
        frame: one row per unit. With ``columns.cluster`` there may be several per randomised unit: they are
            added up first, and a mean per row becomes the ratio of two sums.
        metrics: what to sum. Sums of a quantile's columns say whether values are missing and covariates
            agree; its effect needs the values themselves.
        dimensions: cohort columns.

    Raises:
        InputError: for a column that is not there, or a value that is infinite.
    """
    unit = columns.cluster or columns.unit
    keys = [columns.arm, *dimensions, *([columns.day] if columns.day else [])]
    require_columns(frame, [unit, columns.unit, columns.arm], named_under="columns")
    require_columns(frame, [*keys, *(name for metric in metrics for name in metric.columns)])
    clustered = bool(columns.cluster)
    rows = units_of(frame, metrics, unit=unit, keys=keys, clustered=clustered)
    shapes = {metric.name: shape_of(metric, clustered=clustered) for metric in metrics}
    pivots = _pivots(rows, sorted({name for shape in shapes.values() for name in shape.columns}))
    total = int(rows.select(pl.len()).collect().item())
    one_in = 1 << max(0, (total - 1) // UNITS_CHECKED_EXACTLY).bit_length()
    hashes = _hashes(rows, unit=unit, one_in=one_in)
    cells, units = pl.collect_all(
        [_grouped(rows, keys, shared_sums(shapes.values(), pivots)), hashes],
        engine="streaming",
        optimizations=_APART,
    )
    if not is_complete(cells):
        cleaned = rows.with_columns(pl.col(pl.Float64).fill_nan(None))
        cells = _grouped(cleaned, keys, masked_sums(shapes, pivots)).collect(engine="streaming")
    blocks = {name: Block(*read_sums(cells, name, shape, pivots)) for name, shape in shapes.items()}
    for metric in metrics:
        _refuse_infinite(metric, blocks[metric.name])
    check = _check_units(rows, units, unit=unit, arm=columns.arm, one_in=one_in)
    return Table(cells.select(keys), cells[ROWS].to_numpy().astype(np.int64), blocks, check)


def _grouped(rows: pl.LazyFrame, keys: Sequence[str], sums: Sequence[pl.Expr]) -> pl.LazyFrame:
    return rows.group_by(keys).agg(pl.len().alias(ROWS), *sums).sort(keys)


def _hashes(rows: pl.LazyFrame, *, unit: str, one_in: int) -> pl.LazyFrame:
    """A hash per row and whether it has a unit; of large tables only those of one unit in ``one_in``."""
    hashes = rows.select(pl.col(unit).hash(seed=0).alias("hash"), pl.col(unit).is_null().alias("nobody"))
    return hashes if one_in == 1 else hashes.filter((pl.col("hash") % one_in == 0) | pl.col("nobody"))


def _pivots(rows: pl.LazyFrame, names: Sequence[str]) -> dict[str, float]:
    """A rough centre per column, from the first rows."""
    head = rows.select(names).head(_PIVOT_ROWS).collect()
    return {name: _centre(head[name]) for name in names}


def _centre(values: pl.Series) -> float:
    finite = values.filter(values.is_finite())
    centre = finite.mean() if len(finite) else None
    return float(centre) if isinstance(centre, int | float) else 0.0


def _refuse_infinite(metric: Metric, block: Block) -> None:
    squares = np.diagonal(block.products, axis1=1, axis2=2)
    bad = ~np.isfinite(squares).all(axis=0)
    if bad.any():
        column = metric.columns[min(int(np.flatnonzero(bad)[0]), len(metric.columns) - 1)]
        raise InputError(
            f"column '{column}'",
            expected="finite numbers",
            got="an infinite value"
            + (", or the logarithm of one below 0" if metric.transform is Transform.LOG else ""),
            next_step="Find the division by zero upstream; one infinite user would decide everything.",
        )


def _check_units(rows: pl.LazyFrame, hashes: pl.DataFrame, *, unit: str, arm: str, one_in: int) -> UnitCheck:
    nobody = int(hashes["nobody"].sum())
    known = hashes.filter(~pl.col("nobody"))["hash"]
    if known.n_unique() == len(known):
        return UnitCheck(nobody, len(known), one_in, 0, 0, "")
    twice = (
        rows.filter(pl.col(unit).is_not_null())
        .group_by(unit)
        .agg(pl.len().alias("rows"), pl.col(arm).n_unique().alias("arms"))
        .filter(pl.col("rows") > 1)
        .collect(engine="streaming")
        .sort(unit)
    )
    both = twice.filter(pl.col("arms") > 1)
    example = both[unit][0] if len(both) else twice[unit][0] if len(twice) else ""
    return UnitCheck(nobody, len(known), one_in, len(twice), len(both), str(example))
