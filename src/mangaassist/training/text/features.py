"""The n-gram vocabulary and the sparse tf-idf rows made with it."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
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
        counts: dict[int | None, int] = Counter(map(self.columns.get, grams))
        counts.pop(None, None)
        found = np.array([*counts], dtype=np.int32)
        tf = np.array([*counts.values()], dtype=np.int32)
        weights = _DAMPED[tf] * self.idf[found]
        # One after the other, as Corpus.matrix sums them, so that both give the same bits.
        squares = np.cumsum(np.square(weights, dtype=np.float64))
        return found, weights / np.float32(math.sqrt(squares[-1])) if len(found) else weights


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
        return self.row_of(normalise(text))

    def row_of(self, normalised: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """:meth:`row` of a text that is normalised already."""
        word_columns, word_weights = self.word.row(word_ngrams(normalised))
        columns, weights = self.character.row(character_ngrams(normalised))
        return (
            np.concatenate([word_columns, columns + len(self.word.terms)], dtype=np.int32),
            np.concatenate([word_weights, weights]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """N-gram counts of every text, in order of first appearance.

    Attributes:
        grams: gram -> its number.
        numbers, tf: shape (cells,), the gram and how often it occurs.
        texts: shape (cells,), the text each cell belongs to, rising.
    """

    grams: dict[str, int]
    numbers: NDArray[np.int64]
    tf: NDArray[np.int64]
    texts: NDArray[np.int64]

    def block(self, rows: NDArray[np.int64], total: int) -> Block:
        """The n-grams of the texts ``rows``; rare ones are left out of large sets."""
        minimum = 2 if len(rows) >= _RARE_FROM else 1
        inside = np.zeros(total, dtype=np.bool_)
        inside[rows] = True
        frequency = np.bincount(self.numbers[inside[self.texts]], minlength=len(self.grams)).tolist()
        kept = sorted(gram for gram, number in self.grams.items() if frequency[number] >= minimum)
        idf = [math.log((1 + len(rows)) / (1 + frequency[self.grams[gram]])) + 1 for gram in kept]
        return Block(tuple(kept), np.array(idf, dtype=np.float32))

    def matrix(self, block: Block, total: int) -> csr_array:
        """:meth:`Block.row` of every text, to the last bit, without a loop over texts."""
        from scipy.sparse import csr_array

        column_of = np.full(len(self.grams), -1, dtype=np.int32)
        column_of[[self.grams[term] for term in block.terms if term in self.grams]] = [
            column for column, term in enumerate(block.terms) if term in self.grams
        ]
        columns = column_of[self.numbers]
        known = columns >= 0
        columns, texts = columns[known], self.texts[known]
        weights = _DAMPED[self.tf[known]] * block.idf[columns]
        squares = np.bincount(texts, weights=np.square(weights, dtype=np.float64), minlength=total)
        weights /= np.sqrt(squares).astype(np.float32)[texts]
        ends = np.concatenate([[0], np.cumsum(np.bincount(texts, minlength=total))]).astype(np.int32)
        return csr_array((weights, columns, ends), shape=(total, len(block.terms)))


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Texts cut into n-grams once, for the several vocabularies that cross-fitting learns from them."""

    size: int
    _word: _Counts
    _character: _Counts

    def vocabulary(self, rows: NDArray[np.int64] | None = None) -> Vocabulary:
        """The n-grams of the texts ``rows`` (default all) with their document frequencies."""
        rows = np.arange(self.size) if rows is None else rows
        return Vocabulary(self._word.block(rows, self.size), self._character.block(rows, self.size))

    def matrix(self, vocabulary: Vocabulary) -> csr_array:
        """One row per text, shape (size, vocabulary.size), float32: the same bits as ``vocabulary.row``."""
        from scipy.sparse import csr_array, hstack

        blocks = ((self._word, vocabulary.word), (self._character, vocabulary.character))
        return csr_array(hstack([counts.matrix(block, self.size) for counts, block in blocks], format="csr"))


def read_corpus(texts: Sequence[str]) -> Corpus:
    """Cut ``texts`` into n-grams."""
    normalised = [normalise(text) for text in texts]
    return Corpus(
        len(texts),
        _count(word_ngrams(text) for text in normalised),
        _count(character_ngrams(text) for text in normalised),
    )


def _count(rows: Iterable[list[str]]) -> _Counts:
    grams: dict[str, int] = {}
    numbers, tf, lengths = array("q"), array("q"), array("q")
    for found in rows:
        counts = Counter(found)
        numbers.extend([grams.setdefault(gram, len(grams)) for gram in counts])
        tf.extend(counts.values())
        lengths.append(len(counts))
    texts = np.repeat(np.arange(len(lengths)), np.frombuffer(lengths, dtype=np.int64))
    return _Counts(grams, np.frombuffer(numbers, dtype=np.int64), np.frombuffer(tf, dtype=np.int64), texts)
