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
from mangaassist.experiments.plan import Columns, Kind, Metric, Transform
from mangaassist.experiments.unit_table import require_columns
from mangaassist.stats.domain import FloatArray, IntArray
from mangaassist.stats.moments import Moments

Mask = NDArray[np.bool_]

UNITS_CHECKED_EXACTLY = 40_000_000
"""Above this many rows, one unit in 2, 4, ... (by hash, so with all its rows) is checked for being unique."""

# The two results of a scan read different columns; sharing a subplan would hold all of them in memory.
_APART = pl.QueryOptFlags(comm_subplan_elim=False)

_PIVOT_ROWS = 10_000
_ROWS = "__rows"
_EVENTS = "__events"


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
            mask &= (self.keys[column] == value).fill_null(False).to_numpy()
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
            added up first, and a mean per row becomes the ratio of two sums (:func:`own_columns`).
        metrics: what to sum; quantiles need the values themselves and are left out.
        dimensions: cohort columns.

    Raises:
        InputError: for a column that is not there, or a value that is infinite.
    """
    summed = [metric for metric in metrics if metric.kind is not Kind.QUANTILE]
    unit = columns.cluster or columns.unit
    keys = [columns.arm, *dimensions, *([columns.day] if columns.day else [])]
    require_columns(frame, [unit, *keys, *(name for metric in summed for name in metric.columns)])
    rows = _units_of(frame, summed, unit=unit, keys=keys, clustered=bool(columns.cluster))
    shapes = {metric.name: own_columns(metric, clustered=bool(columns.cluster)) for metric in summed}
    pivots = _pivots(rows, {name for own, extra in shapes.values() for name in (*own, *extra)})
    total = int(rows.select(pl.len()).collect().item())
    one_in = 1 << max(0, (total - 1) // UNITS_CHECKED_EXACTLY).bit_length()
    cells, hashes = _scan(rows, shapes, pivots, unit=unit, keys=keys, one_in=one_in)
    blocks = {name: _block(cells, name, own + extra, pivots) for name, (own, extra) in shapes.items()}
    for metric in summed:
        _refuse_infinite(metric, blocks[metric.name])
    check = _check_units(rows, hashes, unit=unit, arm=columns.arm, one_in=one_in)
    return Table(cells.select(keys), cells[_ROWS].to_numpy().astype(np.int64), blocks, check)


def own_columns(metric: Metric, *, clustered: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A metric's columns in the prepared rows: one value, or numerator and denominator; then covariates."""
    covariates = tuple(f"{name}:covariate" for name in metric.covariate_columns)
    if metric.kind is Kind.RATIO:
        return (f"{metric.name}:numerator", f"{metric.name}:denominator"), covariates
    return ((f"{metric.name}:value", _EVENTS) if clustered else (f"{metric.name}:value",)), covariates


def _units_of(
    frame: pl.LazyFrame, metrics: Sequence[Metric], *, unit: str, keys: Sequence[str], clustered: bool
) -> pl.LazyFrame:
    """One row per unit with keys as text and every value as a float; NaN counts as missing."""
    values = {}
    for metric in metrics:
        own, covariates = own_columns(metric, clustered=False)
        for name, column in zip(own + covariates, metric.columns, strict=True):
            number = pl.col(column).cast(pl.Float64)
            values[name] = transformed(number, metric) if name.endswith(":value") else number
    named = [expression.alias(name) for name, expression in values.items()]
    rows = frame.select(pl.col(unit).cast(pl.String), *(pl.col(key).cast(pl.String) for key in keys), *named)
    if not clustered:
        return rows
    sums = [pl.col(name).sum() if not name.endswith(":covariate") else pl.col(name).mean() for name in values]
    return rows.group_by(unit, *keys).agg(*sums, pl.len().cast(pl.Float64).alias(_EVENTS))


def transformed(value: pl.Expr, metric: Metric) -> pl.Expr:
    """A unit's value as the metric wants it averaged."""
    if metric.transform is Transform.LOG:
        return value.log1p()
    if metric.transform is Transform.WINSORISE:
        limit = value.quantile(metric.cap_quantile) if metric.cap is None else pl.lit(metric.cap)
        return pl.min_horizontal(value, limit)
    if metric.transform is Transform.RANK:
        return value.rank("average") / pl.len()
    return value


def _pivots(rows: pl.LazyFrame, names: set[str]) -> dict[str, float]:
    """A rough centre per column, from the first rows."""
    ordered = sorted(names)
    head = rows.select(ordered).head(_PIVOT_ROWS).collect()
    return {name: _centre(head[name]) for name in ordered}


def _centre(values: pl.Series) -> float:
    finite = values.filter(values.is_finite())
    centre = finite.mean() if len(finite) else None
    return float(centre) if isinstance(centre, int | float) else 0.0


def _scan(
    rows: pl.LazyFrame,
    shapes: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
    pivots: Mapping[str, float],
    *,
    unit: str,
    keys: Sequence[str],
    one_in: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sums per cell and a hash per unit, from one pass; a second one only where NaN stands for missing."""
    hashed = pl.col(unit).hash(seed=0)
    hashes = rows.select(hashed.alias("hash"), pl.col(unit).is_null().alias("nobody"))
    if one_in > 1:
        hashes = hashes.filter((pl.col("hash") % one_in == 0) | pl.col("nobody"))
    sums = [one for name, shape in shapes.items() for one in _sums(name, *shape, pivots)]
    cells, units = pl.collect_all(
        [rows.group_by(keys).agg(pl.len().alias(_ROWS), *sums).sort(keys), hashes],
        engine="streaming",
        optimizations=_APART,
    )
    if any(cells[name].is_nan().any() for name in cells.columns if cells[name].dtype == pl.Float64):
        cleaned = rows.with_columns(pl.col(pl.Float64).fill_nan(None))
        cells = (
            cleaned.group_by(keys).agg(pl.len().alias(_ROWS), *sums).sort(keys).collect(engine="streaming")
        )
    return cells, units


def _sums(
    name: str, own: tuple[str, ...], covariates: tuple[str, ...], pivots: Mapping[str, float]
) -> list[pl.Expr]:
    """Count, sums and products of one metric over units that have all of its own columns.

    A covariate that is missing (a user without a past) takes the pivot: the same constant in every arm, from
    before assignment, so the comparison stays fair.
    """
    usable = pl.all_horizontal([pl.col(column).is_not_null() for column in own])
    shifted = [pl.col(column) - pivots[column] for column in own]
    shifted += [(pl.col(column) - pivots[column]).fill_null(0.0) for column in covariates]
    kept = [pl.when(usable).then(one) for one in shifted]
    found = [usable.sum().alias(f"{name}/n")]
    found += [one.sum().alias(f"{name}/{i}") for i, one in enumerate(kept)]
    for i, left in enumerate(kept):
        found += [(left * shifted[j]).sum().alias(f"{name}/{j}/{i}") for j in range(i + 1)]
    return found


def _block(cells: pl.DataFrame, name: str, columns: tuple[str, ...], pivots: Mapping[str, float]) -> Block:
    p = len(columns)
    totals = np.stack([cells[f"{name}/{i}"].to_numpy() for i in range(p)], axis=1)
    products = np.empty((len(cells), p, p))
    for i in range(p):
        for j in range(i + 1):
            products[:, i, j] = products[:, j, i] = cells[f"{name}/{j}/{i}"].to_numpy()
    pivot = np.array([pivots[column] for column in columns])
    return Block(columns, pivot, cells[f"{name}/n"].to_numpy().astype(np.int64), totals, products)


def _refuse_infinite(metric: Metric, block: Block) -> None:
    bad = ~np.isfinite(block.products).all(axis=(0, 1)) if len(block.products) else np.zeros(0, dtype=bool)
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
