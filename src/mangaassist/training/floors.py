"""What a model must beat to be worth anything: the majority class, and the nearest class mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mangaassist.training.text.features import Vocabulary, read_corpus

_CHUNK = 1_000


class Floor(Protocol):
    """A predictor without abstention."""

    def predict(self, texts: Sequence[str]) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Majority:
    """Always answers ``label``."""

    label: str

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [self.label] * len(texts)


@dataclass(frozen=True, slots=True, eq=False)
class NearestCentroid:
    """Answers with the label whose mean row points most nearly the same way (Rocchio).

    Attributes:
        centroids: float32, shape (vocabulary.size, len(labels)), each column of length 1.
    """

    labels: tuple[str, ...]
    vocabulary: Vocabulary
    centroids: NDArray[np.float32]

    def predict(self, texts: Sequence[str]) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(texts), _CHUNK):
            scores = read_corpus(texts[start : start + _CHUNK]).matrix(self.vocabulary) @ self.centroids
            answers += [self.labels[code] for code in scores.argmax(axis=1)]
        return answers


def fit_floors(
    texts: Sequence[str], labels: Sequence[str], *, out_of_scope_label: str | None = None
) -> Mapping[str, Floor]:
    """Both floors on the rows and features the model itself gets; "majority" and "nearest_centroid".

    Rows with ``out_of_scope_label`` are left out: no answer is right for them.
    """
    rows = [row for row, label in enumerate(labels) if label != out_of_scope_label]
    known = [labels[row] for row in rows]
    counts = Counter(known)
    majority = min(counts, key=lambda label: (-counts[label], label))
    return {
        "majority": Majority(majority),
        "nearest_centroid": _centroids([texts[row] for row in rows], known),
    }


def _centroids(texts: Sequence[str], labels: Sequence[str]) -> NearestCentroid:
    from scipy.sparse import csr_array

    names, codes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    corpus = read_corpus(texts)
    vocabulary = corpus.vocabulary()
    member = csr_array(
        (np.ones(len(codes), dtype=np.float32), (codes, np.arange(len(codes)))),
        shape=(len(names), len(codes)),
    )
    sums = (member @ corpus.matrix(vocabulary)).toarray()
    lengths = np.sqrt(np.square(sums, dtype=np.float64).sum(axis=1))
    centroids = (sums / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)
    return NearestCentroid(tuple(names.tolist()), vocabulary, np.ascontiguousarray(centroids.T))
