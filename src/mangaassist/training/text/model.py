"""The fitted text classifier: what it answers and the files it is stored as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mangaassist.core.errors import IntegrityError
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import Prediction
from mangaassist.training.archive import pack_arrays, unpack_arrays
from mangaassist.training.text.card import packed
from mangaassist.training.text.features import Block, Vocabulary
from mangaassist.training.text.preprocessing import normalise, preprocessing_digest, tokenize

FORMAT = "ngram-linear/1"
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class TextModel:
    """A linear n-gram classifier with calibrated confidence; implements ``core.story.Model``.

    Attributes:
        labels: in-scope labels, sorted; column j of ``weights`` belongs to ``labels[j]``.
        vocabulary: the n-grams it knows.
        weights: float32, shape (vocabulary.size, len(labels) or one more); the extra last column belongs to
            ``out_of_scope_label`` and is never answered with.
        biases: float32, shape (weights.shape[1],).
        temperature: confidence is softmax(margins / temperature) over the in-scope labels.
        threshold: an answer whose scope score is below it abstains. The scope score is the best in-scope
            margin, less the out-of-scope margin where that column exists.
        out_of_scope_label: the label that means "none of these"; None when training had no such rows.
        facts: what the fit measured about itself, as JSON, for the manifest and the model card.
    """

    labels: tuple[str, ...]
    vocabulary: Vocabulary
    weights: NDArray[np.float32]
    biases: NDArray[np.float32]
    temperature: float
    threshold: float
    out_of_scope_label: str | None
    facts: Mapping[str, Any]

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One answer per text; a text of which nothing is known abstains.

        Each text is scored by itself, so that its answer does not depend on its company; texts that it reads
        alike are scored once.
        """
        read = [normalise(text) for text in texts]
        answers = {one: self._answer(one) for one in dict.fromkeys(read)}
        return [answers[one] for one in read]

    def unknown_share(self, text: str) -> float:
        """Share of the words of ``text`` that no training row had; 1 for a text without words."""
        found = tokenize(text)
        known = self.vocabulary.word.columns
        return sum(word not in known for word in found) / len(found) if found else 1.0

    def _answer(self, normalised: str) -> Prediction:
        columns, values = self.vocabulary.row_of(normalised)
        # Row by row instead of a BLAS product: same speed at this size, same bits on every processor.
        margins = (values[:, None] * self.weights[columns]).sum(axis=0) + self.biases
        chances, scope = confidence(margins[None, :], len(self.labels), self.temperature)
        order = np.argsort(-chances[0], kind="stable")[:_SHOWN]
        ranked = tuple((self.labels[index], float(chances[0, index])) for index in order)
        abstains = len(columns) == 0 or bool(scope[0] < self.threshold)
        return Prediction(ranked[0][0], ranked[0][1], abstains, ranked)

    def files(self) -> dict[str, bytes]:
        """The artifact: manifest.json, vocabulary.json, weights.npz and MODEL_CARD.md."""
        words, characters = self.vocabulary.word, self.vocabulary.character
        parts = {
            "vocabulary.json": canonical_json({"word": words.terms, "character": characters.terms}),
            "weights.npz": pack_arrays(
                {
                    "weights": self.weights,
                    "biases": self.biases,
                    "word_idf": words.idf,
                    "character_idf": characters.idf,
                }
            ),
        }
        return packed(self, parts, form=FORMAT, preprocessing=preprocessing_digest())


def confidence(
    margins: NDArray[np.floating[Any]], in_scope: int, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of the first ``in_scope`` columns, shape (n, in_scope), and scope scores, shape (n,)."""
    inside = margins[:, :in_scope].astype(np.float64)
    best = inside.max(axis=1)
    shares = np.exp((inside - best[:, None]) / temperature)
    scope = best - margins[:, in_scope] if margins.shape[1] > in_scope else best
    return shares / shares.sum(axis=1, keepdims=True), scope


def load_text_model(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> TextModel:
    """The model behind a verified manifest (:func:`mangaassist.training.formats.load` verifies it).

    Raises:
        IntegrityError: when the parts do not fit together.
    """
    arrays = unpack_arrays(files["weights.npz"], field="weights.npz")
    terms = _terms(files["vocabulary.json"])
    model = TextModel(
        labels=tuple(manifest["labels"]),
        vocabulary=Vocabulary(
            Block(terms["word"], arrays["word_idf"]), Block(terms["character"], arrays["character_idf"])
        ),
        weights=arrays["weights"],
        biases=arrays["biases"],
        temperature=float(manifest["temperature"]),
        threshold=float(manifest["threshold"]),
        out_of_scope_label=manifest["out_of_scope_label"],
        facts=manifest["facts"],
    )
    _check_shapes(model)
    return model


def _terms(data: bytes) -> dict[str, tuple[str, ...]]:
    body = orjson.loads(data)
    return {block: tuple(body[block]) for block in ("word", "character")}


def _check_shapes(model: TextModel) -> None:
    outputs = len(model.labels) + (model.out_of_scope_label is not None)
    found = {
        "weights": (model.weights.shape, (model.vocabulary.size, outputs)),
        "biases": (model.biases.shape, (outputs,)),
        "word_idf": (model.vocabulary.word.idf.shape, (len(model.vocabulary.word.terms),)),
        "character_idf": (model.vocabulary.character.idf.shape, (len(model.vocabulary.character.terms),)),
    }
    for name, (got, expected) in found.items():
        if got != expected:
            raise IntegrityError(
                f"weights.npz: {name}",
                expected=f"shape {expected} for the manifest's labels and vocabulary",
                got=f"shape {got}",
                next_step="Restore the artifact from a backup, or replay the training step.",
            )
