"""Many cohorts, one treatment: random-effects pooling, shrunken effects and the probability of harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least, finite, open_unit, same_length
from mangaassist.stats.intervals import Estimate, two_sided_z

_TAUS = 400


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Posterior of the cohort effects as normals, one set per value of tau.

    Attributes:
        weight: posterior weight of each tau, shape (g,).
        mean, error: of each cohort's effect given that tau, shape (g, k).
    """

    weight: FloatArray
    mean: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """A random-effects summary.

    Attributes:
        mean: the average effect over cohorts, with its interval; ``n`` counts cohorts.
        standard_error: of the average.
        tau2: variance of the true effect between cohorts.
        q: Cochran's heterogeneity statistic.
        q_p_value: its p-value; a small one says cohorts disagree beyond chance.
        i2: share of the total variation that is between cohorts.
        cohort_mean: each cohort's effect, drawn towards the average by what it lacks in data, shape (k,).
        cohort_error: posterior standard deviation of each, shape (k,).
        method: how ``tau2`` was estimated.
        posterior: the mixture behind the cohort effects.
    """

    mean: Estimate
    standard_error: float
    tau2: float
    q: float
    q_p_value: float
    i2: float
    cohort_mean: FloatArray
    cohort_error: FloatArray
    method: str
    posterior: Mixture

    def probability_below(self, limit: float) -> FloatArray:
        """P(true effect < limit) per cohort, shape (k,): harm beyond a margin is ``limit = -margin``."""
        mixture = self.posterior
        below = special.ndtr((limit - mixture.mean) / mixture.error)
        return np.asarray(mixture.weight @ below, dtype=np.float64)


def pool(
    effects: ArrayLike,
    variances: ArrayLike,
    *,
    method: Literal["reml", "dersimonian-laird"] = "reml",
    level: float = 0.95,
) -> Pooled:
    """Pool cohort effects, letting the true effect differ between cohorts (the random treatment slope).

    Sources: DerSimonian and Laird (1986), Controlled Clinical Trials 7, 177-188; REML: Viechtbauer (2005),
    Journal of Educational and Behavioral Statistics 30, 261-293. Cohort effects are averaged over tau under a
    flat prior on tau (Gelman 2006, Bayesian Analysis 1, 515-534), whichever ``method`` estimates ``tau2``:
    plugging in one tau from a dozen cohorts gives 95% intervals that cover 86%.

    Args:
        effects: estimated effect per cohort, shape (k,).
        variances: their sampling variances, shape (k,).

    Raises:
        InputError: for fewer than 2 cohorts, or variances that are not above 0.
    """
    y, v = finite("pool.effects", effects, ndim=1), finite("pool.variances", variances, ndim=1)
    same_length("pool", y, v)
    k = at_least("pool.cohorts", len(y), 2)
    if (v <= 0).any():
        raise InputError(
            "pool.variances",
            expected="variances above 0",
            got=f"a minimum of {v.min():g}",
            next_step="Leave out cohorts without variation and report them as insufficient.",
        )
    q, moment = _dersimonian_laird(y, v)
    tau2 = _reml(y, v, moment) if method == "reml" else moment
    weight = 1.0 / (v + tau2)
    mean = float(weight @ y / weight.sum())
    error = float(1.0 / np.sqrt(weight.sum()))
    half = two_sided_z(level) * error
    mixture = _posterior(y, v)
    cohort_mean = mixture.weight @ mixture.mean
    cohort_variance = mixture.weight @ (mixture.error**2 + (mixture.mean - cohort_mean) ** 2)
    return Pooled(
        Estimate(mean, mean - half, mean + half, k, level),
        error,
        tau2,
        q,
        float(special.chdtrc(k - 1, q)),
        max(0.0, 1.0 - (k - 1) / q) if q > 0 else 0.0,
        np.asarray(cohort_mean, dtype=np.float64),
        np.sqrt(cohort_variance),
        method,
        mixture,
    )


def _dersimonian_laird(y: FloatArray, v: FloatArray) -> tuple[float, float]:
    """Cochran's Q and the moment estimate of tau squared."""
    w = 1.0 / v
    q = float(w @ (y - w @ y / w.sum()) ** 2)
    scale = w.sum() - (w**2).sum() / w.sum()
    return q, max(0.0, (q - (len(y) - 1)) / float(scale))


def _restricted_likelihood(tau2: FloatArray, y: FloatArray, v: FloatArray) -> FloatArray:
    """Logarithm, up to a constant, for each tau squared of shape (g,)."""
    w = 1.0 / (v + tau2[:, None])
    total = w.sum(axis=1)
    residual = y - (w @ y / total)[:, None]
    value = 0.5 * (np.log(w).sum(axis=1) - np.log(total) - (w * residual**2).sum(axis=1))
    return np.asarray(value, dtype=np.float64)


def _posterior(y: FloatArray, v: FloatArray) -> Mixture:
    """Cohort effects given each tau, on a grid that reaches four spreads of the estimates."""
    ceiling = 4.0 * float(np.std(y, ddof=1)) + 2.0 * float(np.sqrt(v.max()))
    tau2 = np.linspace(0.0, ceiling, _TAUS) ** 2
    likelihood = _restricted_likelihood(tau2, y, v)
    weight = np.exp(likelihood - likelihood.max())
    w = 1.0 / (v + tau2[:, None])
    total = w.sum(axis=1, keepdims=True)
    mean = (w @ y)[:, None] / total
    shrink = v * w
    variance = shrink * tau2[:, None] + shrink**2 / total
    return Mixture(weight / weight.sum(), mean + (1.0 - shrink) * (y - mean), np.sqrt(variance))


def _reml(y: FloatArray, v: FloatArray, start: float) -> float:
    """The maximum of the restricted likelihood over tau squared >= 0.

    Searched on a bracketed log grid first, because the likelihood may have its maximum at the boundary.
    """
    from scipy.optimize import minimize_scalar

    ceiling = 10.0 * max(float(np.var(y, ddof=1)), start, float(v.max()))
    grid = np.concatenate([[0.0], np.geomspace(1e-8 * ceiling, ceiling, 200)])
    likelihood = _restricted_likelihood(grid, y, v)
    best = int(likelihood.argmax())
    if best == 0:
        return 0.0
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(
        lambda t: -float(_restricted_likelihood(np.array([t]), y, v)[0]),
        bounds=(float(low), float(high)),
        method="bounded",
        options={"xatol": 1e-10 * float(high)},
    )
    return float(found.x)


@dataclass(frozen=True, slots=True)
class Trend:
    """How an effect moves over time.

    Attributes:
        slope: change of the effect per unit of time, with its interval; ``n`` counts periods.
        p_value: one-sided, of "the effect is not eroding" (slope >= 0).
    """

    slope: Estimate
    p_value: float


def erosion(effects: ArrayLike, variances: ArrayLike, times: ArrayLike, *, level: float = 0.95) -> Trend:
    """Is a launched effect slipping away month after month, below what the launch could see?

    Weighted least squares of the effect on time with known variances (meta-regression; Thompson and Higgins
    2002, Statistics in Medicine 21). When the points scatter more than their variances allow, the error is
    scaled up by that excess and read with Student's tails (Birge 1932, Physical Review 40, 207-227).

    Args:
        effects, variances, times: one period each, shape (periods,); times in any unit.

    Raises:
        InputError: for fewer than 3 periods, or times that are all equal.
    """
    y, v = finite("erosion.effects", effects, ndim=1), finite("erosion.variances", variances, ndim=1)
    t = finite("erosion.times", times, ndim=1)
    same_length("erosion", y, v)
    same_length("erosion", y, t)
    k = at_least("erosion.periods", len(y), 3)
    if np.ptp(t) == 0 or (v <= 0).any():
        raise InputError(
            "erosion",
            expected="different times and variances above 0",
            got=f"times {t.min():g} to {t.max():g}, smallest variance {v.min():g}",
            next_step="Pass one effect per period.",
        )
    slope, error, excess = _line(y, v, t)
    error *= float(np.sqrt(max(excess, 1.0)))
    df = float(k - 2) if excess > 1.0 else 1e9
    half = -float(special.stdtrit(df, 0.5 * (1.0 - open_unit("level", level)))) * error
    estimate = Estimate(slope, slope - half, slope + half, k, level)
    return Trend(estimate, float(special.stdtr(df, slope / error)))


def _line(y: FloatArray, v: FloatArray, t: FloatArray) -> tuple[float, float, float]:
    """Slope, its standard error under the known variances, and the Birge ratio of the residuals."""
    w = 1.0 / v
    centred = t - w @ t / w.sum()
    information = float(w @ centred**2)
    slope = float(w @ (centred * y)) / information
    residual = y - w @ y / w.sum() - slope * centred
    return slope, float(1.0 / np.sqrt(information)), float(w @ residual**2) / (len(y) - 2)
