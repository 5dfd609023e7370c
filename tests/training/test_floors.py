"""Floors: what they answer, against the obvious computation."""

from __future__ import annotations

import numpy as np
from tests.training.examples import labelled_examples

from mangaassist.training.floors import fit_floors
from mangaassist.training.text.features import read_corpus


def test_the_majority_answers_itself() -> None:
    """STO-1: the most frequent in-scope label; a tie goes to the first in the alphabet."""
    floors = fit_floors(
        ["a", "b", "c", "d", "e", "f"], ["x", "y", "y", "oos", "oos", "oos"], out_of_scope_label="oos"
    )
    assert floors["majority"].predict(["anything", "else"]) == ["y", "y"]
    assert fit_floors(["a", "b"], ["y", "x"])["majority"].predict(["a"]) == ["x"]


def test_the_nearest_centroid_equals_the_slow_one() -> None:
    """STO-1: cosine to each label's summed rows, computed one text at a time."""
    frame = labelled_examples()
    texts, labels = frame["text"].to_list(), frame["label"].to_list()
    floor = fit_floors(texts, labels)["nearest_centroid"]
    vocabulary = read_corpus(texts).vocabulary()
    rows = read_corpus(texts).matrix(vocabulary).toarray()
    sums = {name: rows[[label == name for label in labels]].sum(axis=0) for name in sorted(set(labels))}
    unseen = ["where is my parcel", "返品してください", "a series like Akira", "refund"]
    expected = []
    for text in unseen:
        row = read_corpus([text]).matrix(vocabulary).toarray()[0]
        expected.append(max(sums, key=lambda name: float(row @ sums[name] / np.linalg.norm(sums[name]))))
    assert floor.predict(unseen) == expected
    assert np.mean([got == label for got, label in zip(floor.predict(texts), labels, strict=True)]) > 0.8
