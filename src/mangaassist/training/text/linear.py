"""One-versus-rest linear support vector machines on sparse rows, and their out-of-fold margins."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist.training.splits import fold_rows
from mangaassist.training.text.features import Corpus

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Of 0.25, 0.5, 1, 2 and 4, C = 1 is within 0.4 points of the best on CLINC150 (full, imbalanced, small) and
# xSID (English, Japanese), so no fit spends its time on a grid.
_C = 1.0
# A class absent from a fold's training rows: as sure a no as a one-versus-rest machine gives.
_ABSENT = -1.0


def fit_linear(
    matrix: csr_array, codes: NDArray[np.int64], classes: int, *, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (features, classes) and biases (classes,): one squared-hinge machine per class.

    Rare classes weigh more, by the square root of how rare they are: full inverse frequency lets a class
    with one example dictate, none at all lets it drown.

    Args:
        matrix: tf-idf rows, shape (n, features).
        codes: class of each row, 0..classes-1; classes may be missing.
    """
    from sklearn.svm import LinearSVC

    weights = np.zeros((matrix.shape[1], classes), dtype=np.float32)
    biases = np.full(classes, _ABSENT, dtype=np.float32)
    counts = np.bincount(codes, minlength=classes)
    present = np.flatnonzero(counts)
    if len(present) == 1:
        biases[present] = 1.0
        return weights, biases
    balance = np.sqrt(len(codes) / (len(present) * counts[present]))
    machine = LinearSVC(
        C=_C, class_weight=dict(zip(present.tolist(), balance, strict=True)), random_state=seed, tol=1e-3
    )
    with warnings.catch_warnings():
        # A class count near the row count makes scikit-learn doubt that this is classification; the import
        # has said so to the person who can tell.
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        machine.fit(matrix, codes)
    coefficients, intercepts = machine.coef_, machine.intercept_
    if len(present) == 2:  # one machine for two classes: the other is its mirror image
        coefficients, intercepts = np.vstack([-coefficients, coefficients]), np.r_[-intercepts, intercepts]
    weights[:, present] = coefficients.T
    biases[present] = intercepts
    return weights, biases


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Margins under machines that saw neither a row's group nor its text.

    Attributes:
        margins: shape (n, classes); NaN for rows of a fold that had nothing to train on.
        known: shape (n,), True where the row's own class was among the fold's training rows.
    """

    margins: NDArray[np.float64]
    known: NDArray[np.bool_]


def out_of_fold(
    corpus: Corpus,
    texts: Sequence[str],
    codes: NDArray[np.int64],
    *,
    folds: NDArray[np.int64],
    classes: int,
    seed: int,
) -> OutOfFold:
    """Score every row by the machine of the folds it is not in.

    The vocabulary is learnt anew in each fold, so that nothing of the held-out texts is known.
    """
    margins = np.full((len(texts), classes), np.nan)
    known = np.zeros(len(texts), dtype=np.bool_)
    for train, held in fold_rows(folds, texts):
        if len(train) == 0:
            continue
        rows = corpus.matrix(corpus.vocabulary(train))
        weights, biases = fit_linear(rows[train], codes[train], classes, seed=seed)
        margins[held] = rows[held] @ weights + biases
        known[held] = np.isin(codes[held], codes[train])
    return OutOfFold(margins, known)
