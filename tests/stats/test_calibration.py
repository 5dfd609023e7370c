"""Temperature scaling, reliability and confident learning (EVA rooms, label noise).

Tolerances: OPTIMUM 1e-7 on the loss, against scipy's bounded minimiser stopped at 1e-10; TRUTH .12 on a
temperature estimated from 6,000 simulated rows (its standard error is about .04); NOISE .03 on a noise rate
over 3,000 rows.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mangaassist.core.errors import InputError
from mangaassist.stats.calibration import (
    expected_calibration_error,
    fit_temperature,
    probabilities,
    reliability,
)
from mangaassist.stats.confident import confident_joint

OPTIMUM = 1e-7
TRUTH = 0.12
NOISE = 0.03


def draw(p: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One class per row of probabilities."""
    chosen: np.ndarray = (generator.random((len(p), 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
    return chosen


def test_temperature_is_recovered_and_ece_falls() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (6000, 5))
    labels = draw(probabilities(logits, 2.5), rng)
    fitted = fit_temperature(logits, labels)
    assert fitted.value == pytest.approx(2.5, abs=TRUTH)
    assert fitted.loss_after < fitted.loss_before
    right = logits.argmax(axis=1) == labels
    before = expected_calibration_error(probabilities(logits).max(axis=1), right)
    after = expected_calibration_error(probabilities(logits, fitted.value).max(axis=1), right)
    assert after < 0.02
    assert before > 0.08


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(0.05, 30))
def test_newton_finds_the_minimum_scipy_finds(seed: int, k: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (60, k))
    labels = np.where(rng.random(60) < 0.6, logits.argmax(axis=1), rng.integers(0, k, 60))

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / np.exp(log_t), axis=1)[np.arange(60), labels].mean())

    oracle = minimize_scalar(loss, bounds=(-9.2, 9.2), method="bounded", options={"xatol": 1e-10})
    assert fit_temperature(logits, labels).loss_after <= oracle.fun + OPTIMUM


def test_binary_margins_and_answers_survive_scaling() -> None:
    rng = np.random.default_rng(1)
    margin = rng.normal(0, 3, 2000)
    labels = (rng.random(2000) < 1 / (1 + np.exp(-margin / 1.8))).astype(int)
    fitted = fit_temperature(margin, labels)
    assert fitted.value == pytest.approx(1.8, abs=0.25)
    scaled = probabilities(margin, fitted.value)
    assert ((scaled[:, 1] > 0.5) == (margin > 0)).all()
    assert scaled[:, 1] == pytest.approx(1 / (1 + np.exp(-margin / fitted.value)), abs=1e-12)


def test_perfect_answers_reach_the_bound_and_say_so() -> None:
    logits = np.eye(3)[np.arange(30) % 3]
    assert fit_temperature(logits, np.arange(30) % 3).bounded
    assert fit_temperature(logits, (np.arange(30) + 1) % 3).bounded
    with pytest.raises(InputError, match="same score"):
        fit_temperature(np.zeros((4, 2)), [0, 1, 0, 1])
    with pytest.raises(InputError):
        fit_temperature(np.zeros((4, 2)), [0, 1, 2, 1])


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 20))
def test_ece_agrees_with_its_definition(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    stated, right = np.round(rng.random(n), 2), rng.random(n) < 0.6
    slow = 0.0
    for b in range(bins):
        inside = [
            i for i in range(n) if b / bins < stated[i] <= (b + 1) / bins or (b == 0 and stated[i] == 0)
        ]
        if inside:
            slow += len(inside) / n * abs(right[inside].mean() - stated[inside].mean())
    assert expected_calibration_error(stated, right, bins=bins) == pytest.approx(slow, abs=1e-9)


def test_equal_mass_bins_hold_equally_many_rows() -> None:
    stated = 1 - np.random.default_rng(2).random(1000) ** 4 * 0.3
    found = reliability(stated, np.ones(1000), bins=10, spacing="mass")
    assert found.count.tolist() == [100] * 10
    assert (np.diff(found.confidence) >= 0).all()
    assert found.expected_error <= found.maximum_error
    with pytest.raises(InputError):
        reliability([1.2], [1])


def test_confident_joint_finds_planted_noise() -> None:
    """Flip 12% of the labels under a good model: the rate and the flipped rows come back."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 3000)
    p = probabilities(rng.normal(0, 1, (3000, 4)) + 5 * np.eye(4)[truth])
    flipped = rng.random(3000) < 0.12
    given_labels = np.where(flipped, (truth + 1 + rng.integers(0, 3, 3000)) % 4, truth)
    found = confident_joint(p, given_labels)
    assert found.noise_rate.value == pytest.approx(flipped.mean(), abs=NOISE)
    assert found.joint.sum() == pytest.approx(1)
    assert found.joint.sum(axis=1) == pytest.approx(np.bincount(given_labels, minlength=4) / 3000)
    best = found.suspects[:200]
    assert flipped[best].mean() > 0.98
    assert (found.suggested[:200] == truth[best]).mean() > 0.98
    assert (np.diff(found.margin) <= 0).all()


def test_clean_labels_are_called_clean_and_empty_classes_stay_empty() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, 1000)
    p = probabilities(rng.normal(0, 1, (1000, 4)) + 6 * np.eye(4)[truth])
    found = confident_joint(p, truth)
    assert found.noise_rate.value < 0.01
    assert found.joint[3].sum() == found.joint[:, 3].sum() == 0
    with pytest.raises(InputError):
        confident_joint(2 * p, truth)
