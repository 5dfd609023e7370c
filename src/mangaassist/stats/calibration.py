"""Do probabilities mean what they say? Temperature scaling and reliability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, IntArray, at_least, codes, finite, same_length

# Temperatures from 1/100 to 100: beyond that the data says "as sure as you like", which no data can.
_LOG_BOUND = float(np.log(100.0))


@dataclass(frozen=True, slots=True)
class Temperature:
    """A fitted temperature: probabilities are softmax(logits / value).

    Attributes:
        value: above 1 when the logits were too sure, below 1 when they were too timid.
        loss_before, loss_after: mean negative log-likelihood in nats at temperature 1 and at ``value``.
        n: rows it was fitted on.
        bounded: the data pushed it to the end of the range (every row right, or useless logits).
    """

    value: float
    loss_before: float
    loss_after: float
    n: int
    bounded: bool


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> Temperature:
    """The one number that calibrates a classifier's scores without changing any answer.

    Source: Guo, Pleiss, Sun and Weinberger (2017), ICML, section 4.2. The loss is convex in 1/T, so a Newton
    iteration kept inside a shrinking bracket finds the minimum from anywhere.

    Args:
        logits: scores before the softmax (logits or margins), shape (n, k), or (n,) for two classes.
        labels: index of the true class, shape (n,).

    Raises:
        InputError: for non-finite scores, labels outside 0..k-1, or scores equal in every row.
    """
    score = _centred(logits)
    label = codes("temperature.labels", labels, score.shape[1])
    same_length("temperature", score, label)
    if not np.ptp(score, axis=1).any():
        raise InputError(
            "temperature.logits",
            expected="scores that differ between classes",
            got="the same score for every class in every row",
            next_step="Fit the model first.",
        )
    inverse, bounded = _minimise(score, label)
    before, after = _loss(score, label, 1.0), _loss(score, label, inverse)
    return Temperature(1.0 / inverse, before, after, len(label), bounded)


def probabilities(logits: ArrayLike, temperature: float = 1.0) -> FloatArray:
    """softmax(logits / temperature), shape (n, k)."""
    return np.asarray(special.softmax(_centred(logits) / temperature, axis=1), dtype=np.float64)


def _centred(logits: ArrayLike) -> FloatArray:
    score = finite("logits", logits)
    if score.ndim == 1:
        score = np.stack([-score / 2, score / 2], axis=1)
    if score.ndim != 2 or score.shape[1] < 2:
        raise InputError(
            "logits",
            expected="shape (n, k) with two classes or more",
            got=f"shape {score.shape}",
            next_step="Pass one row per example.",
        )
    return np.asarray(score - score.max(axis=1, keepdims=True), dtype=np.float64)


def _loss(score: FloatArray, label: IntArray, inverse: float) -> float:
    scaled = score * inverse
    picked = scaled[np.arange(len(label)), label]
    return float(np.mean(special.logsumexp(scaled, axis=1) - picked))


def _minimise(score: FloatArray, label: IntArray) -> tuple[float, bool]:
    """The 1/T of least loss; its slope only rises with 1/T, so a sign change is the one minimum."""
    picked = score[np.arange(len(label)), label]
    low, high, point = -_LOG_BOUND, _LOG_BOUND, 0.0
    if not picked.any():
        return float(np.exp(high)), True
    for end, sign in ((low, 1), (high, -1)):
        if sign * _slope(score, picked, np.exp(end))[0] >= 0:
            return float(np.exp(end)), True
    for _ in range(100):
        inverse = np.exp(point)
        slope, curve = _slope(score, picked, inverse)
        low, high = (point, high) if slope < 0 else (low, point)
        # In log(1/T) the slope is b * slope and its derivative b * slope + b^2 * curve; stay in the bracket.
        bend = inverse * slope + inverse**2 * curve
        step = point - inverse * slope / bend if bend > 0 else np.inf
        target = step if low < step < high else 0.5 * (low + high)
        if abs(target - point) < 1e-10:
            break
        point = target
    return float(np.exp(point)), False


def _slope(score: FloatArray, picked: FloatArray, inverse: float) -> tuple[float, float]:
    """First and second derivative of the loss in 1/T."""
    share = special.softmax(score * inverse, axis=1)
    mean = (share * score).sum(axis=1)
    curve = float(np.mean((share * score**2).sum(axis=1) - mean**2))
    return float(np.mean(mean - picked)), curve


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Stated confidence against what happened, per bin; bins nobody is in are left out.

    Attributes:
        count: rows, shape (bins,).
        confidence: mean stated probability, shape (bins,).
        accuracy: share that was right, shape (bins,).
        expected_error: the expected calibration error, 0 to 1.
        maximum_error: the largest gap of any bin.
    """

    count: IntArray
    confidence: FloatArray
    accuracy: FloatArray
    expected_error: float
    maximum_error: float


def reliability(
    confidences: ArrayLike,
    correct: ArrayLike,
    *,
    bins: int = 15,
    spacing: Literal["width", "mass"] = "width",
) -> Reliability:
    """Reliability diagram and expected calibration error.

    Source: Naeini, Cooper and Hauskrecht (2015), AAAI; Guo et al. (2017). ``mass`` puts equally many rows in
    each bin, which is steadier when nearly all confidences are close to 1.

    Args:
        confidences: stated probability of the answer given, shape (n,).
        correct: whether it was right, shape (n,), booleans or 0/1.

    Raises:
        InputError: for unequal lengths, no rows, or confidences outside 0..1.
    """
    stated = finite("reliability.confidences", confidences, ndim=1)
    right = finite("reliability.correct", np.asarray(correct, dtype=np.float64), ndim=1)
    same_length("reliability", stated, right)
    at_least("reliability.bins", bins, 1)
    if stated.min() < 0 or stated.max() > 1:
        raise InputError(
            "reliability.confidences",
            expected="probabilities from 0 to 1",
            got=f"{stated.min():g} to {stated.max():g}",
            next_step="Apply the softmax and the temperature first.",
        )
    # Bins are (low, high], so that a confidence of exactly 1 belongs to the last one.
    index = (
        np.clip(np.ceil(stated * bins).astype(np.int64) - 1, 0, bins - 1)
        if spacing == "width"
        else np.argsort(np.argsort(stated, kind="stable"), kind="stable") * bins // len(stated)
    )
    count = np.bincount(index, minlength=bins)
    kept = count > 0
    confidence = np.bincount(index, weights=stated, minlength=bins)[kept] / count[kept]
    accuracy = np.bincount(index, weights=right, minlength=bins)[kept] / count[kept]
    gap = np.abs(accuracy - confidence)
    expected = float(gap @ count[kept] / len(stated))
    return Reliability(count[kept].astype(np.int64), confidence, accuracy, expected, float(gap.max()))


def expected_calibration_error(
    confidences: ArrayLike, correct: ArrayLike, *, bins: int = 15, spacing: Literal["width", "mass"] = "width"
) -> float:
    """The mean gap between stated confidence and accuracy over bins; see :func:`reliability`."""
    return reliability(confidences, correct, bins=bins, spacing=spacing).expected_error
