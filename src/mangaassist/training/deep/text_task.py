"""The network of the deep text classifier and what it is trained on: hashed n-grams in weighted bags.

A bag of n-gram embeddings (Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification"), summed
with the weights of :func:`bag`, one hidden layer, and one yes or no per label, so that a margin of 0 means
what it means for the linear classifier.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.identity import digest, digest_bytes
from mangaassist.training.archive import pack_arrays, unpack_arrays
from mangaassist.training.deep.loop import Rows
from mangaassist.training.text.preprocessing import character_ngrams, normalise, word_ngrams

if TYPE_CHECKING:
    import torch
    from torch.optim.lr_scheduler import LRScheduler

BUCKETS, WIDTH, HIDDEN = 1 << 15, 32, 64
BATCH = 32
# Each n-gram is left out of a bag with this probability while training, so that no single one is relied on.
_FORGET = 0.1
_DROPOUT = 0.3
_RATE = 5e-3
DATA = "rows.npz"

Bag = tuple[NDArray[np.int64], NDArray[np.float32]]


def bag(text: str) -> Bag:
    """Buckets of the n-grams of a raw text and their weights: each family's squares sum to 1.

    A bucket is CRC-32 of the n-gram after its family's letter, modulo ``BUCKETS``.
    """
    normalised = normalise(text)
    families = [("w", word_ngrams(normalised)), ("c", character_ngrams(normalised))]
    ids = [zlib.crc32(f"{family}{gram}".encode()) % BUCKETS for family, grams in families for gram in grams]
    weights = [len(grams) ** -0.5 for _, grams in families for _ in grams]
    return np.array(ids, dtype=np.int64), np.array(weights, dtype=np.float32)


def pack_rows(bags: Sequence[Bag], codes: NDArray[np.int64], *, classes: int, epochs: int) -> bytes:
    """What :func:`load_task` reads, the same bytes for the same rows."""
    lengths = np.array([len(ids) for ids, _ in bags], dtype=np.int64)
    return pack_arrays(
        {
            "ids": np.concatenate([ids for ids, _ in bags]),
            "weights": np.concatenate([weights for _, weights in bags]),
            "ends": np.cumsum(lengths),
            "codes": codes,
            "classes": np.array([classes]),
            "epochs": np.array([epochs]),
        }
    )


def load_task(folder: Path) -> TextTask:
    """The task whose rows were packed into ``folder``."""
    data = (folder / DATA).read_bytes()
    arrays = unpack_arrays(data, field=DATA)
    return TextTask(
        digest_bytes(data),
        arrays["ids"],
        arrays["weights"],
        arrays["ends"],
        arrays["codes"],
        int(arrays["classes"][0]),
        int(arrays["epochs"][0]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class TextTask:
    """Bags with their labels.

    Attributes:
        data: digest of the packed rows.
        ids, weights: the bags one after the other.
        ends: shape (n,), where each bag ends.
        codes: shape (n,), the label of each.
        classes: number of labels.
        epochs: how many passes the learning rate is spread over.
    """

    data: str
    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    ends: NDArray[np.int64]
    codes: NDArray[np.int64]
    classes: int
    epochs: int

    @property
    def identity(self) -> str:
        """See :class:`~mangaassist.training.deep.loop.Task`."""
        return digest([self.data, BUCKETS, WIDTH, HIDDEN, BATCH, _FORGET, _DROPOUT, _RATE])

    def model(self) -> torch.nn.Module:
        """Embeddings, ReLU, a hidden layer and the margins of every label."""
        from mangaassist.training.deep.text_network import Network

        return Network(BUCKETS, WIDTH, HIDDEN, self.classes, dropout=_DROPOUT)

    def optimiser(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Adam, fused: four times the speed of the default on a processor."""
        import torch

        return torch.optim.Adam(parameters, lr=_RATE, fused=True)

    def scheduler(self, optimiser: torch.optim.Optimizer) -> LRScheduler:
        """The rate falls to 0 along a line."""
        import torch

        steps = self.epochs * -(-len(self.codes) // BATCH)
        return torch.optim.lr_scheduler.LinearLR(
            optimiser, start_factor=1.0, end_factor=0.0, total_iters=steps
        )

    def batch(self, epoch: int, cursor: int) -> Rows | None:
        """A slice of the epoch's own order."""
        rows = np.random.default_rng([epoch, len(self.codes)]).permutation(len(self.codes))
        chosen = rows[cursor * BATCH : (cursor + 1) * BATCH]
        return chosen if len(chosen) else None

    def loss(self, model: torch.nn.Module, rows: Rows, generator: np.random.Generator) -> torch.Tensor:
        """Binary cross entropy of every label, summed over labels and rows."""
        import torch

        starts = np.concatenate([[0], self.ends])[rows]
        lengths = self.ends[rows] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])[:-1] if len(rows) else lengths
        cells = np.repeat(starts - offsets, lengths) + np.arange(lengths.sum())
        kept = generator.random(len(cells)) >= _FORGET
        margins = model(
            torch.from_numpy(self.ids[cells]),
            torch.from_numpy(offsets.astype(np.int64)),
            torch.from_numpy(self.weights[cells] * kept.astype(np.float32)),
        )
        wanted = torch.nn.functional.one_hot(torch.from_numpy(self.codes[rows]), self.classes).float()
        return torch.nn.functional.binary_cross_entropy_with_logits(margins, wanted, reduction="sum")
