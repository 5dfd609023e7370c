"""The truth behind weak labels: functions that mostly stay silent, each right at a rate of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least

ABSTAIN = -1


@dataclass(frozen=True, slots=True, eq=False)
class LabelModel:
    """Truth and the accuracy of every function, estimated together.

    Attributes:
        posterior: probability of each class per item, shape (items, classes); uniform where nobody spoke.
        accuracy: how often each function is right when it speaks, shape (functions,).
        iterations: EM steps taken.
        converged: whether the accuracies stopped moving before the limit.
    """

    posterior: FloatArray
    accuracy: FloatArray
    iterations: int
    converged: bool


def one_coin(
    votes: ArrayLike,
    *,
    n_classes: int,
    accuracy: float = 0.8,
    strength: float = 10.0,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> LabelModel:
    """Maximum a posteriori truth from functions that abstain.

    Sources: the one-coin form of Dawid and Skene (1979), Applied Statistics 28, 20-28; it is the generative
    model of Ratner et al. (2016), "Data Programming", without dependencies: a function that speaks is right
    with its own probability and otherwise says any other class alike. Full confusion matrices would learn
    nothing from a function that knows one class only, because silence is no answer in them. Classes are
    equally likely beforehand, so that a rare one loses no vote for being rare.

    Args:
        votes: class codes, -1 where a function abstains, shape (items, functions).
        accuracy, strength: the Beta prior of every accuracy, by its mean and by the votes it is worth.
        tolerance: largest change of an accuracy at which to stop.

    Raises:
        InputError: for votes of another shape or codes outside -1..n_classes - 1, or fewer than two classes.
    """
    table = np.asarray(votes)
    at_least("label_model.classes", n_classes, 2)
    _check(table, n_classes)
    spoken = table != ABSTAIN
    count = spoken.sum(axis=0)
    estimate = np.full(table.shape[1], accuracy, dtype=np.float64)
    posterior = np.full((len(table), n_classes), 1.0 / n_classes)
    steps, converged = 0, False
    while not converged and steps < max_iterations:
        posterior = _expect(table, spoken, estimate, n_classes)
        right = np.array(
            [posterior[spoken[:, j], table[spoken[:, j], j]].sum() for j in range(len(estimate))]
        )
        updated = (right + strength * accuracy) / (count + strength)
        converged = float(np.abs(updated - estimate).max(initial=0.0)) < tolerance
        estimate, steps = updated, steps + 1
    return LabelModel(_expect(table, spoken, estimate, n_classes), estimate, steps, converged)


def _check(table: NDArray[np.generic], n_classes: int) -> None:
    if table.ndim != 2 or table.dtype.kind != "i":
        raise InputError(
            "label_model.votes",
            expected="class codes of shape (items, functions)",
            got=f"{table.dtype} of shape {table.shape}",
            next_step="Encode the classes as integers and abstentions as -1.",
        )
    if table.size and not (table.min() >= ABSTAIN and table.max() < n_classes):
        raise InputError(
            "label_model.votes",
            expected=f"codes from -1 to {n_classes - 1}",
            got=f"{table.min()} to {table.max()}",
            next_step="Encode the classes again.",
        )


def _expect(
    table: NDArray[np.generic], spoken: NDArray[np.bool_], accuracy: FloatArray, n_classes: int
) -> FloatArray:
    """Posterior of every item: each vote adds its log odds to the class it names."""
    scores = np.zeros((len(table), n_classes))
    for j, weight in enumerate(np.log(accuracy * (n_classes - 1) / (1.0 - accuracy))):
        rows = np.flatnonzero(spoken[:, j])
        scores[rows, table[rows, j]] += weight
    scaled = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), dtype=np.float64)
