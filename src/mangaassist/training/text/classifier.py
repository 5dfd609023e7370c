"""Fitting the text classifier: all rows train it, grouped folds calibrate it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.core.language import detect_language
from mangaassist.stats.calibration import expected_calibration_error, fit_temperature
from mangaassist.stats.confident import confident_joint
from mangaassist.stats.intervals import wilson
from mangaassist.training.splits import assign_folds
from mangaassist.training.text.features import read_corpus
from mangaassist.training.text.linear import OutOfFold, fit_linear, out_of_fold
from mangaassist.training.text.model import TextModel, confidence

if TYPE_CHECKING:
    import polars as pl

# Share of in-scope traffic that is answered when there are no out-of-scope examples to weigh against it.
_KEEP = 0.97
# Fewer out-of-scope examples than this cannot place a threshold.
_OUT_OF_SCOPE_MINIMUM = 20
# Fewer held-out rows than this say nothing about label noise.
_NOISE_MINIMUM = 50
_RARE_BELOW = 20
# Without anything held out: the temperature margins of this kind of machine usually get, and a threshold
# at which every label says a sure no.
_UNCALIBRATED = (0.2, -1.0)
# On small sets where every held-out row is right the best temperature is 0: certainty nobody has shown.
_COLDEST = 0.1
_LIBRARIES = ("numpy", "scikit-learn", "sudachipy", "sudachidict-core")


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted model with the evidence its calibration rests on.

    Attributes:
        codes: label code of each in-scope row, shape (m,), into ``model.labels``.
        rows: position of each in-scope row in the training data, shape (m,).
        probabilities: calibrated out-of-fold probabilities, shape (m, len(model.labels)); NaN where nothing
            could be held out.
    """

    model: TextModel
    codes: NDArray[np.int64]
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def fit_examples(examples: pl.DataFrame, *, seed: int, out_of_scope_label: str | None = None) -> TextModel:
    """Fit on the columns text, label and group_id of ``examples``; what a story's ``fit`` calls."""
    return fit(
        examples["text"].to_list(),
        examples["label"].to_list(),
        examples["group_id"].to_list(),
        seed=seed,
        out_of_scope_label=out_of_scope_label,
    ).model


def fit(
    texts: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int,
    out_of_scope_label: str | None = None,
) -> Fit:
    """Fit a :class:`TextModel` on every row; the same rows and seed give byte-identical files.

    Args:
        texts, labels, groups: one per row; rows of one group never calibrate each other.
        out_of_scope_label: rows with this label teach and measure abstention instead of being a class.

    Raises:
        InputError: when fewer than two in-scope labels are there to tell apart.
    """
    names = sorted(set(labels) - {out_of_scope_label})
    if len(names) < 2:
        raise InputError(
            "labels",
            expected="at least two different labels to tell apart",
            got=f"only '{names[0]}'" if names else "none",
            next_step="Import examples of another label; one label needs no model.",
        )
    has_outside = out_of_scope_label is not None and out_of_scope_label in labels
    columns = [*names, out_of_scope_label] if has_outside else names
    code_of = {label: code for code, label in enumerate(columns)}
    codes = np.array([code_of[label] for label in labels], dtype=np.int64)
    corpus = read_corpus(texts)
    folds = assign_folds(groups, labels, seed=seed)
    held_out = out_of_fold(corpus, texts, codes, folds=folds, classes=len(columns), seed=seed)
    temperature, threshold, rule = calibrate(held_out, codes, len(names))
    vocabulary = corpus.vocabulary()
    weights, biases = fit_linear(corpus.matrix(vocabulary), codes, len(columns), seed=seed)
    rows = np.flatnonzero(codes < len(names))
    chances, _ = confidence(held_out.margins[rows], len(names), temperature)
    facts: dict[str, Any] = {
        "seed": seed,
        **composition(texts, labels, groups),
        "features": vocabulary.size,
        "threshold_rule": rule,
        "out_of_fold": measure(chances, codes[rows], held_out.known[rows]),
        "libraries": {
            name: version(name) for name in ("numpy", "scikit-learn", "sudachipy", "sudachidict-core")
        },
    }
    model = TextModel(
        labels=tuple(names),
        vocabulary=vocabulary,
        weights=weights,
        biases=biases,
        temperature=temperature,
        threshold=threshold,
        out_of_scope_label=out_of_scope_label if has_outside else None,
        facts=facts,
    )
    return Fit(model, codes[rows], rows, chances)


def composition(texts: Sequence[str], labels: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """What the rows are, for the model card."""
    return {
        "rows": len(texts),
        "groups": len(set(groups)),
        "rows_by_label": dict(sorted(Counter(labels).items())),
        "rows_by_language": dict(sorted(Counter(str(detect_language(text)) for text in texts).items())),
        "rare_below": _RARE_BELOW,
    }


def calibrate(
    held_out: OutOfFold,
    codes: NDArray[np.int64],
    in_scope: int,
    *,
    uncalibrated: tuple[float, float] = _UNCALIBRATED,
) -> tuple[float, float, str]:
    """Temperature, threshold and the sentence that says how the threshold was placed.

    Args:
        uncalibrated: the first two where nothing could be held out.
    """
    measured = np.isfinite(held_out.margins[:, 0])
    inside = measured & (codes < in_scope)
    if not inside.any():
        return *uncalibrated, "Nothing could be held out, so it abstains only when every label is a sure no."
    usable = inside & held_out.known
    temperature = uncalibrated[0]
    if usable.any():
        fitted = fit_temperature(held_out.margins[usable, :in_scope], codes[usable]).value
        temperature = max(_COLDEST, float(fitted))
    _, scope = confidence(held_out.margins, in_scope, temperature)
    outside = scope[measured & (codes == in_scope)]
    if len(outside) >= _OUT_OF_SCOPE_MINIMUM:
        return temperature, *_balanced_threshold(scope[inside], outside)
    # Never above 0: where a label's own machine says yes, unfamiliar phrasing is no reason to turn it away.
    threshold = min(0.0, float(np.quantile(scope[inside], 1 - _KEEP)))
    kept = float((scope[inside] >= threshold).mean())
    return temperature, threshold, f"The threshold keeps {kept:.1%} of held-out in-scope rows."


def _balanced_threshold(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> tuple[float, str]:
    """The score that best separates in-scope from out-of-scope rows: the largest mean of both recalls."""
    candidates = np.unique(np.concatenate([inside, outside]))
    kept = 1 - np.searchsorted(np.sort(inside), candidates) / len(inside)
    caught = np.searchsorted(np.sort(outside), candidates) / len(outside)
    best = int(np.argmax(kept + caught))
    rule = (
        f"The threshold keeps {kept[best]:.1%} of held-out in-scope rows and turns away {caught[best]:.1%} "
        f"of {len(outside)} held-out out-of-scope ones, the best mean of both."
    )
    return float(candidates[best]), rule


def measure(
    chances: NDArray[np.float64], codes: NDArray[np.int64], known: NDArray[np.bool_]
) -> Mapping[str, Any] | None:
    """Accuracy, calibration and estimated label noise of the held-out rows; None when there are none."""
    measured = np.isfinite(chances[:, 0])
    if not measured.any():
        return None
    chances, codes, known = chances[measured], codes[measured], known[measured]
    correct = chances.argmax(axis=1) == codes
    noise = confident_joint(chances, codes).noise_rate if len(codes) >= _NOISE_MINIMUM else None
    return {
        "accuracy": asdict(wilson(int(correct.sum()), len(codes))),
        "calibration_error": expected_calibration_error(chances.max(axis=1), correct),
        "labels_unseen_in_fold": int((~known).sum()),
        "label_noise": asdict(noise) if noise else None,
    }
