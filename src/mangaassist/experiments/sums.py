"""The expressions of the one scan: which columns a metric needs, and which sums and products of them.

A complete table, the usual case, needs each column's sum and each pair's product once, however many metrics
share them. A table with missing values needs them per metric, over the units that have its own columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import polars as pl

from mangaassist.experiments.plan import Kind, Metric, Transform
from mangaassist.stats.domain import FloatArray, IntArray

ROWS = "__rows"


@dataclass(frozen=True, slots=True)
class Shape:
    """Columns of the prepared rows that make up one metric.

    Attributes:
        own: one value, or numerator and denominator; a unit without them is not in the metric.
        covariates: may be missing.
    """

    own: tuple[str, ...]
    covariates: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.own + self.covariates


def shape_of(metric: Metric, *, clustered: bool) -> Shape:
    """The metric's columns; untransformed ones keep one name for all metrics, so that they are summed once.

    In clustered rows a mean per row is the sum over the cluster divided by its number of values, and
    covariates are averaged, so a column may stand for different things and is named after its metric.
    """
    if not clustered:
        own = [_name(metric, column) for column in (metric.column, metric.denominator) if column]
        return Shape(tuple(own), tuple(f"={name}" for name in metric.covariate_columns))
    covariates = tuple(f"{metric.name}:{name}:covariate" for name in metric.covariate_columns)
    second = "denominator" if metric.kind is Kind.RATIO else "values"
    return Shape((f"{metric.name}:value", f"{metric.name}:{second}"), covariates)


def _name(metric: Metric, column: str) -> str:
    plain = metric.transform is Transform.NONE
    return f"={column}" if plain else f"{metric.name}:transformed"


def units_of(
    frame: pl.LazyFrame, metrics: Sequence[Metric], *, unit: str, keys: Sequence[str], clustered: bool
) -> pl.LazyFrame:
    """One row per unit: its identity and keys as text, every needed column as a float."""
    names = [pl.col(name).cast(pl.String) for name in (unit, *keys)]
    if clustered:
        sums = [one for metric in metrics for one in _cluster_sums(metric)]
        return frame.group_by(names).agg(*sums)
    columns: dict[str, pl.Expr] = {}
    for metric in metrics:
        shape = shape_of(metric, clustered=False)
        for name, column in zip(shape.columns, metric.columns, strict=True):
            number = pl.col(column).cast(pl.Float64)
            columns[name] = number if name.startswith("=") else transformed(number, metric)
    return frame.select(*names, *(expression.alias(name) for name, expression in columns.items()))


def _cluster_sums(metric: Metric) -> list[pl.Expr]:
    shape = shape_of(metric, clustered=True)
    value = transformed(pl.col(metric.column).cast(pl.Float64), metric)
    second = value.count() if metric.kind is not Kind.RATIO else pl.col(metric.denominator).sum()
    found = [value.sum().alias(shape.own[0]), second.cast(pl.Float64).alias(shape.own[1])]
    for name, column in zip(shape.covariates, metric.covariate_columns, strict=True):
        found.append(pl.col(column).cast(pl.Float64).mean().alias(name))
    return found


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


def shared_sums(shapes: Iterable[Shape], pivots: Mapping[str, float]) -> list[pl.Expr]:
    """Sums of every column and every product any metric needs, each once; NaN where a value is missing."""
    pairs: dict[tuple[str, str], None] = {}
    for shape in shapes:
        for a, b in combinations_with_replacement(shape.columns, 2):
            pairs[min(a, b), max(a, b)] = None
    singles = list(dict.fromkeys(name for pair in pairs for name in pair))
    shifted = {name: pl.col(name).fill_null(float("nan")) - pivots[name] for name in singles}
    found = [one.sum().alias(_single(name)) for name, one in shifted.items()]
    return found + [(shifted[a] * shifted[b]).sum().alias(_pair(a, b)) for a, b in pairs]


def _single(name: str) -> str:
    return f"sum/{name}"


def _pair(a: str, b: str) -> str:
    return f"product/{min(a, b)}/{max(a, b)}"


def is_complete(cells: pl.DataFrame) -> bool:
    """Whether shared sums stand for all units: no value was missing, as null or as NaN."""
    numbers = [name for name, kind in cells.schema.items() if kind == pl.Float64]
    return not any(cells[name].is_nan().any() for name in numbers)


def masked_sums(shapes: Mapping[str, Shape], pivots: Mapping[str, float]) -> list[pl.Expr]:
    """Per metric: usable units, sums and products over them.

    A covariate that is missing (a user without a past) takes the pivot: the same constant in every arm, from
    before assignment, so the comparison stays fair.
    """
    found = []
    for metric, shape in shapes.items():
        usable = pl.all_horizontal([pl.col(column).is_not_null() for column in shape.own])
        shifted = {name: pl.col(name) - pivots[name] for name in shape.own}
        shifted |= {name: (pl.col(name) - pivots[name]).fill_null(0.0) for name in shape.covariates}
        kept = {name: pl.when(usable).then(one) for name, one in shifted.items()}
        found.append(usable.sum().alias(f"{metric}/n"))
        found += [one.sum().alias(f"{metric}/{_single(name)}") for name, one in kept.items()]
        for a, b in combinations_with_replacement(shape.columns, 2):
            found.append((kept[a] * shifted[b]).sum().alias(f"{metric}/{_pair(a, b)}"))
    return found


def read_sums(
    cells: pl.DataFrame, metric: str, shape: Shape, pivots: Mapping[str, float]
) -> tuple[tuple[str, ...], FloatArray, IntArray, FloatArray, FloatArray]:
    """Columns, pivot, usable units, sums and products of one metric per cell, from either kind of scan."""
    masked = f"{metric}/n" in cells.columns
    prefix = f"{metric}/" if masked else ""
    p = len(shape.columns)
    totals, products = np.empty((len(cells), p)), np.empty((len(cells), p, p))
    for i, a in enumerate(shape.columns):
        totals[:, i] = cells[prefix + _single(a)].to_numpy()
        for j, b in enumerate(shape.columns[: i + 1]):
            products[:, i, j] = products[:, j, i] = cells[prefix + _pair(a, b)].to_numpy()
    n = cells[f"{metric}/n" if masked else ROWS].to_numpy().astype(np.int64)
    return shape.columns, np.array([pivots[name] for name in shape.columns]), n, totals, products
