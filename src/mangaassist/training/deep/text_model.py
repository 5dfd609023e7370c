"""The fitted deep text classifier: it answers with numpy alone and is stored as safetensors and JSON."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.errors import IntegrityError
from mangaassist.core.identity import digest
from mangaassist.core.story import Prediction
from mangaassist.training.deep.extra import require
from mangaassist.training.deep.text_task import BUCKETS, HIDDEN, WIDTH, bag
from mangaassist.training.text import preprocessing
from mangaassist.training.text.card import packed
from mangaassist.training.text.model import confidence
from mangaassist.training.text.preprocessing import tokenize

FORMAT = "hashed-ngram-network/1"
_SHOWN = 5
_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class DeepTextModel:
    """A small network over hashed n-grams with calibrated confidence; implements ``core.story.Model``.

    Attributes:
        labels: in-scope labels, sorted.
        arrays: float32 "embedding.weight" (BUCKETS, WIDTH), "hidden.weight" (HIDDEN, WIDTH), "hidden.bias",
            "output.weight" (outputs, HIDDEN), "output.bias", and uint32 "words", the sorted CRC-32 of every
            word that training saw; the extra last output belongs to ``out_of_scope_label``.
        temperature, threshold, out_of_scope_label, facts: as in the linear classifier's ``TextModel``.
    """

    labels: tuple[str, ...]
    arrays: Mapping[str, NDArray[Any]]
    temperature: float
    threshold: float
    out_of_scope_label: str | None
    facts: Mapping[str, Any]

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One answer per text; a text without n-grams abstains."""
        return [self._answer(text) for text in texts]

    def unknown_share(self, text: str) -> float:
        """Share of the words of ``text`` that no training row had; 1 for a text without words."""
        found = word_marks(tokenize(text))
        return float(1 - np.isin(found, self.arrays["words"]).mean()) if len(found) else 1.0

    def margins(self, text: str) -> tuple[NDArray[np.float32], bool]:
        """One margin per output, and whether ``text`` has any n-gram."""
        ids, weights = bag(text)
        one = self.arrays
        # No BLAS product: a text alone and in company gets the same bits.
        inner = np.maximum((weights[:, None] * one["embedding.weight"][ids]).sum(axis=0), 0)
        hidden = np.maximum((one["hidden.weight"] * inner).sum(axis=1) + one["hidden.bias"], 0)
        return (one["output.weight"] * hidden).sum(axis=1) + one["output.bias"], len(ids) > 0

    def _answer(self, text: str) -> Prediction:
        margins, known = self.margins(text)
        chances, scope = confidence(margins[None, :], len(self.labels), self.temperature)
        order = np.argsort(-chances[0], kind="stable")[:_SHOWN]
        ranked = tuple((self.labels[index], float(chances[0, index])) for index in order)
        abstains = not known or bool(scope[0] < self.threshold)
        return Prediction(ranked[0][0], ranked[0][1], abstains, ranked)

    def files(self) -> dict[str, bytes]:
        """The artifact: manifest.json, weights.safetensors and MODEL_CARD.md."""
        from safetensors.numpy import save

        parts = {_WEIGHTS: save(dict(self.arrays))}
        own = preprocessing_digest()
        return packed(self, parts, form=FORMAT, preprocessing=own, made_of=_KIND)


_KIND = "hashed word and character n-grams, a network with one hidden layer, no pickle"


def word_marks(words: Sequence[str]) -> NDArray[np.uint32]:
    """CRC-32 of each word."""
    return np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint32)


@cache
def preprocessing_digest() -> str:
    """Identity of what this code makes of text: the n-grams and the buckets they fall into."""
    ids, _ = bag("Where is 返品?")
    return digest([preprocessing.preprocessing_digest(), BUCKETS, ids.tolist()])


def load_deep_text_model(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> DeepTextModel:
    """The model behind a verified manifest (:func:`mangaassist.training.formats.load` verifies it).

    Raises:
        InputError: without the extra.
        IntegrityError: when the parts do not fit together.
    """
    require("safetensors")
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(files[_WEIGHTS])
    except SafetensorError as error:
        raise _misfit(_WEIGHTS, "a safetensors file", str(error)) from error
    model = DeepTextModel(
        labels=tuple(manifest["labels"]),
        arrays=arrays,
        temperature=float(manifest["temperature"]),
        threshold=float(manifest["threshold"]),
        out_of_scope_label=manifest["out_of_scope_label"],
        facts=manifest["facts"],
    )
    outputs = len(model.labels) + (model.out_of_scope_label is not None)
    shapes = {
        "embedding.weight": (BUCKETS, WIDTH),
        "hidden.weight": (HIDDEN, WIDTH),
        "hidden.bias": (HIDDEN,),
        "output.weight": (outputs, HIDDEN),
        "output.bias": (outputs,),
        "words": arrays["words"].shape,
    }
    for name, expected in shapes.items():
        if arrays[name].shape != expected:
            raise _misfit(f"{_WEIGHTS}: {name}", f"shape {expected}", f"shape {arrays[name].shape}")
    return model


def _misfit(field: str, expected: str, got: str) -> IntegrityError:
    return IntegrityError(
        field,
        expected=expected,
        got=got,
        next_step="Restore the artifact from a backup, or replay the training step.",
    )
