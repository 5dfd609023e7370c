"""A model that answers from a script, and labelled rows to ask it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mangaassist.core.identity import example_id
from mangaassist.core.language import detect_language
from mangaassist.core.story import Prediction, Story
from mangaassist.evaluation.answers import Answers

STORY = Story(
    name="intent",
    kind="text-classification",
    predicts="what the shopper wants",
    slices=("language", "cohort"),
    safety_critical=("return", "escalation"),
    out_of_scope_label="none",
)
LABELS = ("escalation", "order", "return")


@dataclass(frozen=True)
class Scripted:
    """Answers ``answers[text]``; (label, confidence, abstains), else ``default``."""

    answers: Mapping[str, tuple[str, float, bool]] = field(default_factory=dict)
    default: str = "order"
    labels: tuple[str, ...] = LABELS

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [self._one(*self.answers.get(text, (self.default, 0.9, False))) for text in texts]

    def _one(self, label: str, confidence: float, abstains: bool) -> Prediction:
        others = [name for name in self.labels if name != label]
        rest = [(name, (1 - confidence) / len(others)) for name in others]
        return Prediction(label, confidence, abstains, ((label, confidence), *rest))

    def files(self) -> Mapping[str, bytes]:
        return {}


def rows(spec: Sequence[tuple[str, str]], **columns: Sequence[str]) -> pl.DataFrame:
    """Rows of (text, label) with further columns."""
    return pl.DataFrame(
        {
            "example_id": [example_id(text, "intent") for text, _ in spec],
            "text": [text for text, _ in spec],
            "label": [label for _, label in spec],
            "language": [str(detect_language(text)) for text, _ in spec],
            **columns,
        }
    )


def answers_of(
    actual: Sequence[int],
    predicted: Sequence[int],
    *,
    labels: tuple[str, ...] = ("none", *LABELS),
    abstains: Sequence[bool] | None = None,
    rows_id: str = "rows",
    **dimensions: Sequence[str],
) -> Answers:
    """Answers from codes; code 0 is the out-of-scope label."""
    return Answers(
        rows=rows_id,
        labels=labels,
        actual=tuple(actual),
        predicted=tuple(predicted),
        abstains=tuple(abstains or [False] * len(actual)),
        out_of_scope=0,
        dimensions={name: tuple(values) for name, values in dimensions.items()},
    )
