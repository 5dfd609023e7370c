"""Offline quality of a classifier, every number with its interval, its floor and its ceiling (EVA-1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.core.identity import digest
from mangaassist.core.language import detect_language
from mangaassist.core.story import Model, Prediction, Story
from mangaassist.evaluation.answers import Answers
from mangaassist.evaluation.report import Ceiling, Confused, Confusion, EvaluationReport, Metric
from mangaassist.stats.calibration import expected_calibration_error
from mangaassist.stats.intervals import Estimate, bootstrap, macro_f1, macro_f1_interval, wilson
from mangaassist.training.floors import Floor

# Enough for a 95% interval of a mean to two digits; the metrics decided on have closed forms.
_REPLICATES = 200
# A model may be certain and wrong; its loss on that row is then this bad and not infinite.
_SMALLEST_CHANCE = 1e-9
_SHOWN_PAIRS = 20


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Predictions beside what the floors said.

    Attributes:
        confidences: of the top label, shape (n,).
        losses: negative log-likelihood of the true label, shape (n,).
        floors: floor -> whether it was right, shape (n,) each.
    """

    answers: Answers
    confidences: NDArray[np.float64]
    losses: NDArray[np.float64]
    floors: Mapping[str, NDArray[np.int64]]


def evaluate(
    story: Story,
    model: Model,
    frame: pl.DataFrame,
    *,
    on: str,
    floors: Mapping[str, Floor],
    ceilings: Mapping[str, Ceiling] | None = None,
    seed: int,
) -> EvaluationReport:
    """Judge ``model`` on labelled rows.

    Accuracy, macro-F1 and recall are of the top label before abstention, over rows with a right answer;
    rows with the story's out-of-scope label measure abstention only.

    Args:
        frame: columns example_id, text and label; language (else detected) and the story's slice columns.
        on: what the rows are, "golden" or "test".
        floors: predictors fitted on the same training rows (:func:`mangaassist.training.floors.fit_floors`).
        ceilings: best reachable accuracy, under "all" and optionally by language.
        seed: of the bootstrap.

    Raises:
        InputError: without any row that has a right answer.
    """
    outcome = _outcome(story, model, frame, floors)
    if not outcome.answers.in_scope.any():
        raise InputError(
            f"{on} set of '{story.name}'",
            expected="labelled rows",
            got="none" if frame.height == 0 else f"only '{story.out_of_scope_label}' rows",
            next_step=f"Import examples with --role {'golden' if on == 'golden' else 'train'}.",
        )
    known = dict(ceilings or {})
    return EvaluationReport(
        story=story.name,
        on=on,
        metrics=_metrics(outcome, known.get("all"), np.random.default_rng(seed)),
        recalls=_recalls(outcome.answers),
        languages=_languages(outcome, known),
        answers=outcome.answers,
    )


def rows_digest(frame: pl.DataFrame) -> str:
    """Identity of evaluation rows: ids and true labels, in order."""
    return digest([frame["example_id"].to_list(), frame["label"].to_list()])


def _outcome(story: Story, model: Model, frame: pl.DataFrame, floors: Mapping[str, Floor]) -> _Outcome:
    texts, truth = frame["text"].to_list(), frame["label"].to_list()
    predictions = model.predict(texts)
    known = {*model.labels, *truth, *(one.label for one in predictions)}
    labels = tuple(sorted(known | ({story.out_of_scope_label} if story.out_of_scope_label else set())))
    code = {label: index for index, label in enumerate(labels)}
    answers = Answers(
        rows=rows_digest(frame),
        labels=labels,
        actual=tuple(code[label] for label in truth),
        predicted=tuple(code[one.label] for one in predictions),
        abstains=tuple(one.abstains for one in predictions),
        out_of_scope=code[story.out_of_scope_label] if story.out_of_scope_label else -1,
        dimensions=_dimensions(story, frame),
    )
    losses = [_loss(one, label, len(model.labels)) for one, label in zip(predictions, truth, strict=True)]
    said = {
        name: np.array([code.get(label, -1) for label in floor.predict(texts)], dtype=np.int64)
        for name, floor in floors.items()
    }
    confidences = np.array([one.confidence for one in predictions], dtype=np.float64)
    return _Outcome(answers, confidences, np.array(losses, dtype=np.float64), said)


def _dimensions(story: Story, frame: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """The slice columns of the frame as text; language always, a missing value as "unknown"."""
    found = {
        name: tuple(frame[name].cast(pl.String).fill_null("unknown").to_list())
        for name in ("language", *story.slices)
        if name in frame.columns
    }
    if "language" not in found:
        found["language"] = tuple(str(detect_language(text)) for text in frame["text"])
    return found


def _loss(prediction: Prediction, label: str, classes: int) -> float:
    """-ln p(label); a label that is not listed shares what the listed ones leave over."""
    listed = dict(prediction.probabilities)
    left = max(0.0, 1.0 - sum(listed.values())) / max(1, classes - len(listed))
    return float(-np.log(max(listed.get(label, left), _SMALLEST_CHANCE)))


def _metrics(outcome: _Outcome, ceiling: Ceiling | None, generator: np.random.Generator) -> dict[str, Metric]:
    answers, inside = outcome.answers, outcome.answers.in_scope
    correct, answered = answers.correct[inside], answers.answered[inside]
    table = _table(answers, np.array(answers.predicted))
    f1_floors = {name: macro_f1(_table(answers, said)) for name, said in outcome.floors.items()}
    confidences, losses = outcome.confidences[inside], outcome.losses[inside]
    found = {
        "accuracy": _accuracy(outcome, inside, ceiling),
        "macro_f1": Metric.of(macro_f1_interval(table, generator=generator), floors=f1_floors),
        "coverage": _share(answered),
        "calibration_error": _bootstrapped(
            lambda rows: expected_calibration_error(confidences[rows], correct[rows]), len(correct), generator
        ),
        "log_loss": _bootstrapped(lambda rows: float(losses[rows].mean()), len(correct), generator),
    }
    if answered.any():
        found["accuracy_when_answering"] = _share(correct[answered])
    if not inside.all():
        found["out_of_scope_recall"] = _share(~answers.answered[~inside])
    return found


def _bootstrapped(statistic: Callable[..., float], n: int, generator: np.random.Generator) -> Metric:
    if n < 2:
        value = float(statistic(np.arange(n)))
        return Metric(value, None, None, n)
    return Metric.of(bootstrap(statistic, n, generator=generator, replicates=_REPLICATES))


def _share(hits: NDArray[np.bool_]) -> Metric:
    return Metric.of(wilson(int(hits.sum()), len(hits)))


def _accuracy(outcome: _Outcome, rows: NDArray[np.bool_], ceiling: Ceiling | None) -> Metric:
    actual = np.array(outcome.answers.actual)[rows]
    floors = {name: float((said[rows] == actual).mean()) for name, said in outcome.floors.items()}
    hits = outcome.answers.correct[rows]
    return Metric.of(wilson(int(hits.sum()), len(hits)), floors=floors, ceiling=ceiling)


def _recalls(answers: Answers) -> dict[str, Metric]:
    rows = {label: answers.with_label(label) & answers.in_scope for label in answers.labels}
    return {label: _share(answers.correct[mine]) for label, mine in rows.items() if mine.any()}


def _languages(outcome: _Outcome, ceilings: Mapping[str, Ceiling]) -> dict[str, Metric]:
    language = np.array(outcome.answers.dimensions["language"])
    found = {}
    for name in sorted(set(language[outcome.answers.in_scope])):
        rows = outcome.answers.in_scope & (language == name)
        found[str(name)] = _accuracy(outcome, rows, ceilings.get(str(name), ceilings.get("all")))
    return found


def _table(answers: Answers, predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of (true, answered) over the in-scope rows, shape (k, k)."""
    k = len(answers.labels)
    actual = np.array(answers.actual)[answers.in_scope]
    said = predicted[answers.in_scope]
    # A floor may answer what is no label here; that is as wrong as any other wrong answer.
    said = np.where(said < 0, (actual + 1) % k, said)
    return np.bincount(actual * k + said, minlength=k * k).reshape(k, k)


def confusion(answers: Answers) -> Confusion:
    """The confusion matrix (TRN-6) with its most frequent mistakes."""
    table = _table(answers, np.array(answers.predicted))
    kept = np.flatnonzero(table.sum(axis=0) + table.sum(axis=1))
    totals = table.sum(axis=1)
    wrong = table - np.diag(np.diagonal(table))
    true, said = np.nonzero(wrong)
    order = np.lexsort((said, true, -wrong[true, said]))[:_SHOWN_PAIRS]
    pairs = tuple(
        Confused(answers.labels[t], answers.labels[s], int(wrong[t, s]), float(wrong[t, s] / totals[t]))
        for t, s in zip(true[order], said[order], strict=True)
    )
    counts = tuple(tuple(int(cell) for cell in row) for row in table[np.ix_(kept, kept)])
    return Confusion(tuple(answers.labels[index] for index in kept), counts, pairs)


def ceiling_from_facts(facts: Mapping[str, Any]) -> Ceiling | None:
    """The ceiling estimated from out-of-fold confident learning when the model was fitted; None without one.

    It counts a row the model is sure is mislabelled as label noise, so a weak model makes it too low; use
    redundant votes (``labels.noise``) where there are any.
    """
    measured = facts.get("out_of_fold")
    noise = measured.get("label_noise") if measured else None
    if noise is None:
        return None
    estimate = Estimate(**noise)
    method = "estimate: out-of-fold confident learning on the training labels"
    return Ceiling(1 - estimate.value, 1 - estimate.high, 1 - estimate.low, method)
