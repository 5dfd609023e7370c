"""The n-gram vocabulary and the sparse tf-idf rows made with it."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist.training.text.preprocessing import MAX_CHARACTERS, character_ngrams, normalise, word_ngrams

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Above this many texts an n-gram seen once is noise; below it every one may be the only clue to its label.
_RARE_FROM = 2_000
# 1 + ln tf by tf; a text holds no more n-grams of one kind than characters. Written with the C library's
# logarithm: numpy's and the BLAS kernels' last bits depend on the processor, and artifact digests with them.
_DAMPED = np.array([0.0, *(1 + math.log(tf) for tf in range(1, MAX_CHARACTERS + 1))], dtype=np.float32)


@dataclass(frozen=True)
class Block:
    """One family of n-grams.

    Attributes:
        terms: shape (m,), sorted; the column of a term is its position.
        idf: shape (m,), float32, smooth inverse document frequency ln((1+n)/(1+df)) + 1.
    """

    terms: tuple[str, ...]
    idf: NDArray[np.float32]

    @cached_property
    def columns(self) -> dict[str, int]:
        return {term: column for column, term in enumerate(self.terms)}

    def row(self, grams: Iterable[str]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Columns and weights of one text: (1 + ln tf) * idf, scaled to length 1; empty when unknown."""
        columns = self.columns
        counts = Counter(gram for gram in grams if gram in columns)
        found = np.fromiter((columns[gram] for gram in counts), dtype=np.int32, count=len(counts))
        tf = np.fromiter(counts.values(), dtype=np.int32, count=len(counts))
        weights = _DAMPED[tf] * self.idf[found]
        length = np.float32(math.sqrt(np.square(weights, dtype=np.float64).sum()))
        return found, weights / length if length > 0 else weights


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a fitted featuriser knows: word n-grams, then character n-grams."""

    word: Block
    character: Block

    @property
    def size(self) -> int:
        return len(self.word.terms) + len(self.character.terms)

    def row(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Columns and weights of one raw text, each block of length 1."""
        normalised = normalise(text)
        word_columns, word_weights = self.word.row(word_ngrams(normalised))
        columns, weights = self.character.row(character_ngrams(normalised))
        return (
            np.concatenate([word_columns, columns + len(self.word.terms)]),
            np.concatenate([word_weights, weights]),
        )

    def matrix(self, texts: Sequence[str]) -> csr_array:
        """One row per text, shape (len(texts), size), float32: the same numbers as :meth:`row`."""
        from scipy.sparse import csr_array

        rows = [self.row(text) for text in texts]
        ends = np.cumsum([0, *(len(columns) for columns, _ in rows)], dtype=np.int32)
        columns = np.concatenate([np.empty(0, np.int32), *(columns for columns, _ in rows)])
        weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in rows)])
        return csr_array((weights, columns, ends), shape=(len(rows), self.size))


def learn_vocabulary(texts: Sequence[str]) -> Vocabulary:
    """The n-grams of ``texts`` with their document frequencies; rare ones are left out of large sets."""
    normalised = [normalise(text) for text in texts]
    minimum = 2 if len(texts) >= _RARE_FROM else 1
    return Vocabulary(
        _learn_block(normalised, word_ngrams, minimum), _learn_block(normalised, character_ngrams, minimum)
    )


def _learn_block(normalised: Sequence[str], ngrams: Callable[[str], list[str]], minimum: int) -> Block:
    numbers: dict[str, int] = {}
    seen = array("l")
    for text in normalised:
        seen.extend([numbers.setdefault(gram, len(numbers)) for gram in set(ngrams(text))])
    frequency = np.bincount(np.frombuffer(seen, dtype=np.dtype("l")), minlength=len(numbers))
    kept = sorted(gram for gram, number in numbers.items() if frequency[number] >= minimum)
    chosen = frequency[[numbers[gram] for gram in kept]] if kept else np.empty(0, np.int32)
    idf = [math.log((1 + len(normalised)) / (1 + count)) + 1 for count in chosen.tolist()]
    return Block(tuple(kept), np.array(idf, dtype=np.float32))
