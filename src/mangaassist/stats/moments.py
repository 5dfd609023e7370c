"""Sufficient statistics: count, means, centred cross-products. One scan gives them, shards merge exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least, finite, successes_of


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What a group of units leaves behind for every analysis.

    Kept centred, because sums of squares of large values cancel: money in yen loses all its digits in
    ``sum(x**2) - n * mean**2``.

    Attributes:
        n: units.
        mean: means of the columns, shape (p,).
        scatter: sums of products of deviations from the means, shape (p, p).
    """

    n: int
    mean: FloatArray
    scatter: FloatArray

    @property
    def covariance(self) -> FloatArray:
        """Unbiased covariance matrix, shape (p, p).

        Raises:
            InputError: for fewer than 2 units; their variance is unknown, not 0.
        """
        return self.scatter / (at_least("moments.n", self.n, 2) - 1)


def of_rows(rows: ArrayLike) -> Moments:
    """Moments of unit rows, shape (n, p) or (n,) for one column.

    Raises:
        InputError: for no rows, or missing or infinite values.
    """
    table = finite("moments.rows", rows)
    table = table.reshape(len(table), -1)
    mean = table.mean(axis=0)
    centred = table - mean
    return Moments(len(table), mean, centred.T @ centred)


def of_sums(n: int, totals: ArrayLike, products: ArrayLike) -> Moments:
    """Moments from raw sums, as a query engine returns them.

    Args:
        n: units.
        totals: sums of the columns, shape (p,), or a number for one column.
        products: sums of products of columns, shape (p, p), or the sum of squares for one column.

    Raises:
        InputError: for no units, non-finite sums, or sums of squares below what the totals imply.
    """
    at_least("moments.n", n, 1)
    total = finite("moments.totals", np.atleast_1d(totals), ndim=1)
    product = finite("moments.products", np.atleast_2d(products), ndim=2)
    mean = total / n
    scatter = product - np.outer(total, mean)
    slack = 1e-9 * np.diagonal(product)
    if product.shape != (len(total), len(total)) or (np.diagonal(scatter) < -slack).any():
        raise InputError(
            "moments.products",
            expected=f"a {len(total)} x {len(total)} matrix no smaller than the totals imply",
            got=f"shape {product.shape}, smallest centred square {np.diagonal(scatter).min():g}",
            next_step="Compute sums and products over the same units.",
        )
    np.fill_diagonal(scatter, np.maximum(np.diagonal(scatter), 0.0))
    return Moments(n, mean, scatter)


def of_counts(successes: int, n: int) -> Moments:
    """Moments of ``n`` units of which ``successes`` are 1 and the rest 0."""
    x, n = successes_of("proportion", successes, n)
    return Moments(n, np.array([x / n]), np.array([[x * (n - x) / n]]))


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two disjoint groups.

    Source: Chan, Golub and LeVeque (1983), The American Statistician 37, 242-247.
    """
    if a.mean.shape != b.mean.shape:
        raise InputError(
            "moments",
            expected=f"{len(a.mean)} columns",
            got=f"{len(b.mean)}",
            next_step="Merge moments of the same columns.",
        )
    n = a.n + b.n
    step = b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(step, step) * (a.n * b.n / n)
    return Moments(n, a.mean + step * (b.n / n), scatter)
