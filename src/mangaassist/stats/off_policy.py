"""What would another policy have earned, judged from the log of this one?

Every estimator is a mean of per-row terms, so each comes with an interval; and every one is refused when
the log holds too little of what the other policy would do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.core.errors import GateRefused, InputError
from mangaassist.stats.domain import FloatArray, at_least, finite, positive, same_length
from mangaassist.stats.intervals import Estimate, two_sided_z

Estimator = Literal["ips", "snips", "dm", "dr", "switch-dr"]


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Logged decisions with the probabilities both policies gave to the action taken.

    Attributes:
        logged: probability under the policy that acted, shape (n,), above 0.
        target: probability under the policy to be judged, shape (n,).
        reward: what happened, shape (n,).
        predicted: a model's reward for the action taken, shape (n,); None without a model.
        value: that model's expected reward under the target policy, shape (n,); None without a model.
    """

    logged: FloatArray
    target: FloatArray
    reward: FloatArray
    predicted: FloatArray | None = None
    value: FloatArray | None = None

    @property
    def weight(self) -> FloatArray:
        """Importance weights target / logged, shape (n,)."""
        return self.target / self.logged


def read_log(
    logged: ArrayLike,
    target: ArrayLike,
    reward: ArrayLike,
    *,
    predicted: ArrayLike | None = None,
    value: ArrayLike | None = None,
) -> Log:
    """Check and align the columns of a log.

    Raises:
        InputError: for probabilities outside their range (a logged 0 means the row cannot have happened),
            unequal lengths, missing values, or one half of the reward model without the other.
    """
    columns = [finite("log.logged", logged, ndim=1), finite("log.target", target, ndim=1)]
    columns.append(finite("log.reward", reward, ndim=1))
    model = (predicted, value)
    if (predicted is None) != (value is None):
        raise InputError(
            "log.model",
            expected="both predicted and value, or neither",
            got="one of them",
            next_step="Pass the model's reward for the action taken and under the target policy.",
        )
    extra = [finite("log.model", column, ndim=1) for column in model if column is not None]
    for column in (*columns[1:], *extra):
        same_length("log", columns[0], column)
    for field, column, low in (("log.logged", columns[0], 0.0), ("log.target", columns[1], -1e-300)):
        if (column <= low).any() or (column > 1 + 1e-9).any():
            raise InputError(
                field,
                expected="probabilities above 0 and up to 1" if low == 0 else "probabilities from 0 to 1",
                got=f"{column.min():g} to {column.max():g}",
                next_step="Log the propensity of the action that was taken.",
            )
    return Log(*columns, *extra)


@dataclass(frozen=True, slots=True)
class Support:
    """Whether the log covers the target policy.

    Attributes:
        n: rows.
        effective_n: Kish's effective sample size of the weights.
        mean_weight: 1 when the propensities are right and the support complete.
        largest_share: share of all weight on one row.
        sufficient: enough effective rows, no row dominating, and a mean weight compatible with 1.
        reason: why not, in one sentence; empty when sufficient.
    """

    n: int
    effective_n: float
    mean_weight: float
    largest_share: float
    sufficient: bool
    reason: str


def effective_sample_size(weights: ArrayLike) -> float:
    """Kish (1965): (sum w)^2 / sum w^2. 0 when every weight is 0."""
    w = finite("weights", weights, ndim=1)
    squares = float((w**2).sum())
    return float(w.sum()) ** 2 / squares if squares > 0 else 0.0


def support(log: Log, *, minimum: float = 50.0, dominating: float = 0.1) -> Support:
    """Is there enough in the log to judge the target at all?

    A mean weight far below 1 says that the target does things the log never shows; importance weighting then
    silently leaves their reward out. A single heavy row says that one event decides.

    Args:
        minimum: smallest acceptable effective sample size.
        dominating: largest acceptable share of one row.
    """
    w = log.weight
    n, effective, total = len(w), effective_sample_size(w), float(w.sum())
    share = float(w.max()) / total if total > 0 else 1.0
    mean = total / n
    error = float(w.std(ddof=1)) / np.sqrt(n) if n > 1 else np.inf
    reasons = []
    if effective < minimum:
        reasons.append(f"The effective sample size is {effective:.1f} of {n} rows, below {minimum:g}.")
    if share > dominating:
        reasons.append(f"One row carries {share:.0%} of the weight.")
    if abs(mean - 1.0) > max(4.0 * error, 0.05):
        reasons.append(
            f"The mean weight is {mean:.3f}, not 1: actions are missing or propensities are wrong."
        )
    return Support(n, effective, mean, share, not reasons, " ".join(reasons))


def evaluate(
    log: Log,
    estimator: Estimator = "snips",
    *,
    clip: float = np.inf,
    switch: float = 10.0,
    level: float = 0.95,
    minimum: float = 50.0,
    dominating: float = 0.1,
) -> Estimate:
    """The target policy's mean reward, or a refusal.

    Sources: IPS and clipping: Horvitz and Thompson (1952), Ionides (2008); SNIPS: Swaminathan and Joachims
    (2015), NeurIPS; DR: Dudik, Langford and Li (2011), ICML; switch-DR: Wang, Agarwal and Dudik (2017), ICML.

    Args:
        clip: weights above it are cut to it: less variance, some bias.
        switch: switch-DR trusts the model alone where the weight exceeds it.

    Raises:
        GateRefused: when :func:`support` is insufficient (DM uses no weights and is not refused for that).
        InputError: for an estimator that needs a reward model the log does not have.
    """
    if estimator != "dm":
        found = support(log, minimum=minimum, dominating=dominating)
        if not found.sufficient:
            raise GateRefused(
                "off-policy support",
                expected=f"an effective sample size of {minimum:g} with no dominating row",
                got=found.reason,
                next_step="Run an experiment, or judge a policy nearer to the one that logged.",
            )
    return estimate(log, estimator, clip=clip, switch=switch, level=level)


def estimate(
    log: Log, estimator: Estimator, *, clip: float = np.inf, switch: float = 10.0, level: float = 0.95
) -> Estimate:
    """The estimator's number without the support check, for diagnosis; see :func:`evaluate`.

    Intervals are normal over rows; SNIPS uses the delta method for its ratio.
    """
    value, terms = contributions(log, estimator, clip=clip, switch=switch)
    n = len(terms)
    half = two_sided_z(level) * float(terms.std(ddof=1) / np.sqrt(n))
    return Estimate(value, value - half, value + half, n, level)


def contributions(
    log: Log, estimator: Estimator, *, clip: float = np.inf, switch: float = 10.0
) -> tuple[float, FloatArray]:
    """The estimator's number, and what every row adds to its error, shape (n,): the mean's own terms, or, of
    SNIPS, those of the linearised ratio around the number. Differences of two estimates on the same rows have
    the variance of the differences of these."""
    at_least("log.rows", len(log.reward), 2)
    w = np.minimum(log.weight, positive("clip", min(clip, 1e300)))
    terms = _terms(log, estimator, w, switch)
    if estimator != "snips":
        return float(terms.mean()), terms
    value = float((w @ log.reward) / positive("snips.total_weight", float(w.sum())))
    return value, np.asarray(w * (log.reward - value) / w.mean(), dtype=np.float64)


def _terms(log: Log, estimator: Estimator, w: FloatArray, switch: float) -> FloatArray:
    if estimator in ("ips", "snips"):
        return np.asarray(w * log.reward, dtype=np.float64)
    if log.predicted is None or log.value is None:
        raise InputError(
            "log.model",
            expected=f"a reward model for '{estimator}'",
            got="none",
            next_step="Pass predicted and value, or use ips or snips.",
        )
    if estimator == "dm":
        return log.value
    # Switch-DR keeps the correction only where it is affordable; the model covers the rest of the value.
    kept = w if estimator == "dr" else np.where(log.weight <= switch, w, 0.0)
    return np.asarray(log.value + kept * (log.reward - log.predicted), dtype=np.float64)
