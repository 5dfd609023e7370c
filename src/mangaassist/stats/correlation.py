"""Does an offline gain foretell an online one? Correlation over experiments, their noise taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least, finite, open_unit, same_length
from mangaassist.stats.intervals import Estimate, two_sided_z

_SCALES = 24
_CORRELATIONS = 67


def pearson(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Pearson's correlation with Fisher's interval.

    Source: Fisher (1921), Metron 1, 3-32.

    Raises:
        InputError: for fewer than 4 pairs, unequal lengths, or a side without variation.
    """
    a, b = finite("correlation.x", x, ndim=1), finite("correlation.y", y, ndim=1)
    same_length("correlation", a, b)
    n = at_least("correlation.pairs", len(a), 4)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise InputError(
            "correlation",
            expected="values that vary on both sides",
            got="a constant side",
            next_step="Include experiments with different gains.",
        )
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
    centre, half = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15)), two_sided_z(level) / np.sqrt(n - 3)
    return Estimate(r, float(np.tanh(centre - half)), float(np.tanh(centre + half)), n, level)


@dataclass(frozen=True, slots=True, eq=False)
class TrueCorrelation:
    """Correlation of the true gains behind noisy measurements.

    Attributes:
        estimate: posterior mean with a central credible interval; ``n`` counts experiments.
        grid: correlations considered, shape (g,).
        weight: their posterior probability, shape (g,).
    """

    estimate: Estimate
    grid: FloatArray
    weight: FloatArray

    def probability_below(self, limit: float) -> float:
        """P(true correlation < limit): the evidence for a freeze."""
        return float(np.interp(limit, self.grid, np.cumsum(self.weight) - 0.5 * self.weight))


def true_correlation(
    x: ArrayLike, y: ArrayLike, x_variance: ArrayLike, y_variance: ArrayLike, *, level: float = 0.95
) -> TrueCorrelation:
    """The correlation that would be seen if every gain were measured without error.

    Measurement error pulls Pearson's correlation towards 0 (Spearman 1904), so a harness can look broken only
    because its experiments were small; dividing by the reliabilities can leave [-1, 1]. Here the pair of true
    gains is bivariate normal, sampling variances are known, and the posterior of the correlation is taken
    on a grid under flat priors on it and on both standard deviations, the means integrated out (van
    Houwelingen, Arends and Stijnen 2002, Statistics in Medicine 21, 589-624, for the likelihood).

    Args:
        x, y: measured offline and online gain per experiment, shape (k,).
        x_variance, y_variance: their sampling variances, shape (k,); 0 for an exact one.

    Raises:
        InputError: as :func:`pearson`, and for negative variances.
    """
    pearson(x, y, level=level)
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    v, w = (
        finite("correlation.x_variance", x_variance, ndim=1),
        finite("correlation.y_variance", y_variance, ndim=1),
    )
    for column in (v, w):
        same_length("correlation", a, column)
    if min(v.min(), w.min()) < 0:
        raise InputError(
            "correlation.variance",
            expected="0 or more",
            got=f"{min(v.min(), w.min()):g}",
            next_step="Pass squared standard errors.",
        )
    grid = np.linspace(-0.99, 0.99, _CORRELATIONS)
    likelihood = _log_likelihood(a, b, v, w, grid)
    weight = np.exp(special.logsumexp(likelihood, axis=(0, 1)))
    weight = weight / weight.sum()
    tails = np.array([0.5 * (1 - open_unit("level", level)), 0.5 * (1 + level)])
    low, high = np.interp(tails, np.cumsum(weight) - 0.5 * weight, grid)
    estimate = Estimate(float(weight @ grid), float(low), float(high), len(a), level)
    return TrueCorrelation(estimate, grid, weight)


def _log_likelihood(
    x: FloatArray, y: FloatArray, v: FloatArray, w: FloatArray, grid: FloatArray
) -> FloatArray:
    """For every pair of standard deviations and correlation, up to a constant, shape (s, s, g)."""
    sx = _scales(x, v)[:, None, None, None]
    sy = _scales(y, w)[None, :, None, None]
    c = grid[None, None, :, None] * sx * sy
    a, b = sx**2 + v, sy**2 + w
    determinant = a * b - c**2
    p, q, r = b / determinant, a / determinant, -c / determinant
    s, t, u = (part.sum(axis=-1) for part in (p, q, r))
    left, right = (p * x + r * y).sum(axis=-1), (r * x + q * y).sum(axis=-1)
    square = (p * x**2 + 2 * r * x * y + q * y**2).sum(axis=-1)
    mean = s * t - u**2
    fitted = (t * left**2 - 2 * u * left * right + s * right**2) / mean
    value = -0.5 * (np.log(determinant).sum(axis=-1) + np.log(mean) + square - fitted)
    return np.asarray(value - value.max(), dtype=np.float64)


def _scales(values: FloatArray, variances: FloatArray) -> FloatArray:
    ceiling = 3.0 * float(values.std(ddof=1)) + float(np.sqrt(variances.max()))
    return (np.arange(_SCALES) + 0.5) * ceiling / _SCALES
