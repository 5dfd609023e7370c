"""Fitting the deep text classifier: all rows train it, grouped folds calibrate it, kills do not hurt it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.core.home import unwritable
from mangaassist.core.identity import digest_bytes
from mangaassist.training.deep.extra import require
from mangaassist.training.deep.launch import Job, Layout, launch
from mangaassist.training.deep.loop import Config
from mangaassist.training.deep.machines import start_on
from mangaassist.training.deep.text_model import DeepTextModel, word_marks
from mangaassist.training.deep.text_task import BATCH, DATA, Bag, bag, pack_rows
from mangaassist.training.job_folder import JobFolder, current_job_folder
from mangaassist.training.splits import assign_folds, fold_rows
from mangaassist.training.text.classifier import calibrate, composition, measure
from mangaassist.training.text.linear import OutOfFold
from mangaassist.training.text.model import confidence
from mangaassist.training.text.preprocessing import tokenize

if TYPE_CHECKING:
    import polars as pl

# Small sets need more passes to take as many steps; large ones gain nothing from more.
_STEPS, _MOST_EPOCHS, _LEAST_EPOCHS = 1_500, 40, 8
# A logistic margin is a log-odds: temperature 1, and a sure no at one in twenty.
_UNCALIBRATED = (1.0, -3.0)
_TASK = "mangaassist.training.deep.text_task:load_task"


def fit_examples(
    examples: pl.DataFrame,
    *,
    seed: int,
    out_of_scope_label: str | None = None,
    layout: Layout | None = None,
) -> DeepTextModel:
    """Fit on the columns text, label and group_id of ``examples``; what a story's ``fit`` calls.

    The same rows, seed and layout give byte-identical files on one kind of processor. Under a job folder the
    jobs are kept in it, and a fit that is called again goes on from their last checkpoints.

    Args:
        out_of_scope_label: rows with this label teach and measure abstention instead of being a class.
        layout: the processes that train; this one unless given.

    Raises:
        InputError: without the extra, or when fewer than two in-scope labels are there to tell apart.
    """
    require("torch", "safetensors")
    texts, labels, groups = (examples[name].to_list() for name in ("text", "label", "group_id"))
    names = sorted(set(labels) - {out_of_scope_label})
    if len(names) < 2:
        raise InputError(
            "labels",
            expected="at least two different labels to tell apart",
            got=f"only '{names[0]}'" if names else "none",
            next_step="Import examples of another label; one label needs no model.",
        )
    outside = out_of_scope_label if out_of_scope_label in labels else None
    columns = [*names, outside] if outside is not None else names
    codes = np.array([columns.index(label) for label in labels], dtype=np.int64)
    with _place() as place:
        trainer = _Trainer(place, [bag(text) for text in texts], codes, len(columns), seed, layout)
        held_out = _out_of_fold(trainer, texts, assign_folds(groups, labels, seed=seed))
        arrays = trainer.train(np.arange(len(codes)))
    words = np.unique(word_marks([word for text in texts for word in tokenize(text)]))
    temperature, threshold, rule = calibrate(held_out, codes, len(names), uncalibrated=_UNCALIBRATED)
    rows = np.flatnonzero(codes < len(names))
    chances, _ = confidence(held_out.margins[rows], len(names), temperature)
    facts: dict[str, Any] = {
        "seed": seed,
        **composition(texts, labels, groups),
        "features": int(sum(array.size for array in arrays.values())),
        "threshold_rule": rule,
        "out_of_fold": measure(chances, codes[rows], held_out.known[rows]),
        "libraries": {name: version(name) for name in ("numpy", "torch", "sudachipy", "sudachidict-core")},
    }
    return DeepTextModel(tuple(names), {**arrays, "words": words}, temperature, threshold, outside, facts)


@dataclass(frozen=True, slots=True, eq=False)
class _Trainer:
    """Trains on some of the rows, each choice of rows as a job of its own."""

    place: JobFolder
    bags: Sequence[Bag]
    codes: NDArray[np.int64]
    classes: int
    seed: int
    layout: Layout | None

    def train(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The network's arrays after training on ``rows``."""
        epochs = int(np.clip(_STEPS * BATCH // len(rows), _LEAST_EPOCHS, _MOST_EPOCHS))
        data = pack_rows(
            [self.bags[row] for row in rows], self.codes[rows], classes=self.classes, epochs=epochs
        )
        folder = self.place.folder / digest_bytes(data)[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / DATA).write_bytes(data)
        except OSError as error:
            raise unwritable(folder, error) from error
        job = Job(folder, _TASK, Config(seed=self.seed, epochs=epochs, keep=2))
        start = start_on(self.place.machines)
        trained = launch(job, self.layout, start=start, hear=self.place.hear)
        return {
            name.removeprefix("model."): tensor.numpy()
            for name, tensor in trained.final.tensors.items()
            if name.startswith("model.")
        }


def _out_of_fold(trainer: _Trainer, texts: Sequence[str], folds: NDArray[np.int64]) -> OutOfFold:
    """Margins of every row under a network that saw neither its group nor its text."""
    margins = np.full((len(texts), trainer.classes), np.nan)
    known = np.zeros(len(texts), dtype=np.bool_)
    for train, held in fold_rows(folds, texts):
        if len(train) == 0:
            continue
        labels = tuple(str(code) for code in range(trainer.classes))
        network = DeepTextModel(labels, trainer.train(train), 1.0, 0.0, None, {})
        margins[held] = [network.margins(texts[row])[0] for row in held]
        known[held] = np.isin(trainer.codes[held], trainer.codes[train])
    return OutOfFold(margins, known)


@contextmanager
def _place() -> Iterator[JobFolder]:
    """Where the wiring says, else a folder that is gone afterwards."""
    given = current_job_folder()
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="mangaassist-") as folder:
        yield JobFolder(Path(folder))
