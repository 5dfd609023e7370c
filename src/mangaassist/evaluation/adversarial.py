"""Accuracy under attack beside accuracy on the same rows left alone (EVA-1, adversarial mode)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.identity import digest_bytes
from mangaassist.core.story import Model, Story
from mangaassist.evaluation.attacks import ATTACKS, Rewrite
from mangaassist.evaluation.report import Adversarial, Attack, Metric
from mangaassist.stats.intervals import two_sided_z, wilson

_ROWS_PER_ATTACK = 500


def attack(
    story: Story,
    model: Model,
    frame: pl.DataFrame,
    *,
    seed: int,
    curated: pl.DataFrame | None = None,
    attacks: Mapping[str, Rewrite] = ATTACKS,
    limit: int = _ROWS_PER_ATTACK,
) -> Adversarial | None:
    """Attack up to ``limit`` in-scope rows of ``frame`` in every way; None when nothing could be attacked.

    The same rows, texts and seed give the same attacked texts, whatever the model, so two versions can be
    compared row by row.

    Args:
        frame: columns text and label.
        curated: the story's own adversarial rows (role "adversarial"), evaluated as they are.
    """
    texts, labels = _sample(story, frame, seed, limit)
    hostile = {
        name: [rewrite(text, _generator(seed, name, text)) for text in texts]
        for name, rewrite in attacks.items()
    }
    answers = _answers(model, [*texts, *chain.from_iterable(hostile.values())])
    clean = _right(answers, texts, labels)
    tried, survived = np.zeros(len(texts)), np.zeros(len(texts))
    found = []
    for name, attacked in hostile.items():
        hit = [row for row, text in enumerate(attacked) if text != texts[row]]
        if hit:
            right = _right(answers, [attacked[row] for row in hit], [labels[row] for row in hit])
            tried[hit] += 1
            survived[hit] += right
            example = (texts[hit[0]], attacked[hit[0]])
            found.append(_attack(name, clean[hit], right, example))
    if not found:
        return None
    return Adversarial(
        accuracy=_together(tried, survived),
        clean=float(tried @ clean / tried.sum()),
        attacks=tuple(found),
        curated=_curated(story, model, curated),
    )


def _attack(
    name: str, clean: NDArray[np.bool_], right: NDArray[np.bool_], example: tuple[str, str]
) -> Attack:
    estimate = wilson(int(right.sum()), len(right))
    before = float(clean.mean())
    return Attack(name, len(right), before, estimate.value, estimate.low, estimate.high, example)


def _together(tried: NDArray[np.float64], survived: NDArray[np.float64]) -> Metric:
    """Accuracy over all attacked texts. The attacks on one row are not independent, so the interval is that
    of a ratio over rows as clusters (Cochran 1977, Sampling Techniques, 6.3)."""
    n = int(tried.sum())
    rows = int((tried > 0).sum())
    value = float(survived.sum() / n)
    if rows < 2:
        return Metric(value, None, None, n)
    spread = np.square(survived - value * tried).sum() * rows / (rows - 1)
    half = two_sided_z(0.95) * float(np.sqrt(spread)) / n
    return Metric(value, max(0.0, value - half), min(1.0, value + half), n)


def _sample(story: Story, frame: pl.DataFrame, seed: int, limit: int) -> tuple[list[str], list[str]]:
    """The rows attacked: drawn by a hash of the text, so that a new row moves none of the others."""
    pairs = [
        (text, label)
        for text, label in zip(frame["text"], frame["label"], strict=True)
        if label != story.out_of_scope_label
    ]
    drawn = sorted(pairs, key=lambda pair: digest_bytes(f"{seed}/{pair[0]}".encode()))[:limit]
    return [text for text, _ in drawn], [label for _, label in drawn]


def _generator(seed: int, name: str, text: str) -> np.random.Generator:
    return np.random.default_rng(int(digest_bytes(f"{seed}/{name}/{text}".encode())[:16], 16))


def _answers(model: Model, texts: Sequence[str]) -> dict[str, str]:
    """The label of every different text, asked for at once: to a model many spellings may read alike."""
    different = list(dict.fromkeys(texts))
    return {text: one.label for text, one in zip(different, model.predict(different), strict=True)}


def _right(
    answers: Mapping[str, str], texts: Sequence[str], labels: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array(
        [answers[text] == label for text, label in zip(texts, labels, strict=True)], dtype=np.bool_
    )


def _curated(story: Story, model: Model, curated: pl.DataFrame | None) -> Metric | None:
    if curated is None:
        return None
    texts, labels = _sample(story, curated, 0, curated.height)
    if not texts:
        return None
    right = _right(_answers(model, texts), texts, labels)
    return Metric.of(wilson(int(right.sum()), len(right)))
