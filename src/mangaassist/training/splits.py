"""Which rows teach and which rows judge (TRN-2): grouped, strict in time, no text on both sides.

A story with a golden set keeps every labelled row for training; calibration and validation then come from
grouped folds. A story without one gives up its latest groups as the test set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_text, digest_bytes

FOLDS = 3
TEST_SHARE = 0.15
# A cut-off that leaves less or more than this for the test is no cut-off: the times are too coarse.
_USABLE_SHARE = (0.05, 0.40)
_REQUIRED = ("example_id", "text", "group_id", "label", "captured_at")


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What was put where, and why.

    Attributes:
        method: "golden" (nothing carved out), "time" (latest groups) or "groups" (random groups, because
            the capture times do not order the rows).
        cut_off: nothing in train was captured after it; None for a split without times.
        embargoed_groups: rows left out because their group was active on both sides of the cut-off.
        embargoed_texts: test rows left out because the same text is in train.
        not_eligible: test rows left out because their label lot is too uncertain for a hold-out (LAB-4).
        unseen_labels: labels that occur in test only.
    """

    method: str
    train: int
    test: int
    cut_off: datetime | None
    embargoed_groups: int
    embargoed_texts: int
    not_eligible: int
    unseen_labels: tuple[str, ...]
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        body = asdict(self)
        body["cut_off"] = isoformat(self.cut_off) if self.cut_off else None
        return body


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """A split of labelled examples.

    Attributes:
        train: rows to learn from, in the order given.
        test: rows to judge by; empty when the story has a golden set.
        folds: fold of each train row, shape (train.height,), 0..FOLDS-1; groups never straddle.
    """

    train: pl.DataFrame
    test: pl.DataFrame
    folds: NDArray[np.int64]
    report: SplitReport


@dataclass(frozen=True, slots=True)
class Leak:
    """One way in which the test set is known to the training set.

    Attributes:
        kind: "group", "text" or "time".
        count: how many groups, texts or rows.
        example: one of them.
    """

    kind: str
    count: int
    example: str


def split(frame: pl.DataFrame, *, seed: int, has_golden: bool) -> Splits:
    """Split labelled examples; deterministic in the rows and ``seed``.

    Args:
        frame: columns example_id, text, label, group_id and captured_at; rows whose holdout_eligible is
            False, where that column exists, never judge.
        has_golden: True when another, frozen set judges the model.

    Raises:
        InputError: when a column is missing or nothing is left to train on.
    """
    missing = [name for name in _REQUIRED if name not in frame.columns]
    if missing:
        raise InputError(
            "split",
            expected=f"columns {', '.join(_REQUIRED)}",
            got=f"no {', '.join(missing)}",
            next_step="Pass the labelled examples as the label store returns them.",
        )
    if frame.height == 0:
        raise InputError(
            "split",
            expected="at least one labelled example",
            got="none",
            next_step="Import labels with role 'train' first.",
        )
    if has_golden:
        return _finish(_Cut(frame, frame.clear(), "golden"), seed)
    return _latest_groups(frame, seed)


def _latest_groups(frame: pl.DataFrame, seed: int) -> Splits:
    latest = frame.group_by("group_id").agg(pl.col("captured_at").max().alias("last"), pl.len().alias("rows"))
    cut_off = _cut_off(latest, frame.height)
    if cut_off is None:
        return _random_groups(frame, seed)
    late = latest.filter(pl.col("last") > cut_off)["group_id"].implode()
    train = frame.filter(~pl.col("group_id").is_in(late))
    active = frame.filter(pl.col("group_id").is_in(late))
    test = active.filter(pl.col("captured_at") > cut_off)
    return _finish(_Cut(train, test, "time", cut_off, active.height - test.height), seed)


def _cut_off(latest: pl.DataFrame, rows: int) -> datetime | None:
    """The instant after which about TEST_SHARE of the rows lie in groups still active; None if none fits."""
    by_time = latest.group_by("last").agg(pl.col("rows").sum()).sort("last")
    if by_time.height < 2:
        return None
    after = (rows - by_time["rows"].cum_sum()).to_numpy()[:-1] / rows
    best = int(np.abs(after - TEST_SHARE).argmin())
    if not _USABLE_SHARE[0] <= after[best] <= _USABLE_SHARE[1]:
        return None
    instant: datetime = by_time["last"][best]
    return instant


def _random_groups(frame: pl.DataFrame, seed: int) -> Splits:
    parts = round(1 / TEST_SHARE)
    folds = assign_folds(frame["group_id"].to_list(), frame["label"].to_list(), seed=seed, count=parts)
    chosen = pl.Series(folds == parts - 1)
    return _finish(_Cut(frame.filter(~chosen), frame.filter(chosen), "groups"), seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """Train and test before shared texts are taken out of the test."""

    train: pl.DataFrame
    test: pl.DataFrame
    method: str
    cut_off: datetime | None = None
    embargoed_groups: int = 0


def _finish(cut: _Cut, seed: int) -> Splits:
    train = cut.train
    known = {canonical_text(text) for text in train["text"]} if cut.test.height else set()
    fresh = [canonical_text(text) not in known for text in cut.test["text"]]
    unseen = cut.test.filter(pl.Series(fresh, dtype=pl.Boolean))
    test = unseen.filter(pl.col("holdout_eligible")) if "holdout_eligible" in unseen.columns else unseen
    report = SplitReport(
        method=cut.method,
        train=train.height,
        test=test.height,
        cut_off=cut.cut_off,
        embargoed_groups=cut.embargoed_groups,
        embargoed_texts=cut.test.height - unseen.height,
        not_eligible=unseen.height - test.height,
        unseen_labels=tuple(sorted(set(test["label"]) - set(train["label"]))),
        seed=seed,
    )
    folds = assign_folds(train["group_id"].to_list(), train["label"].to_list(), seed=seed)
    return Splits(train, test, folds, report)


def assign_folds(
    groups: Sequence[str], labels: Sequence[str], *, seed: int, count: int = FOLDS
) -> NDArray[np.int64]:
    """The fold of each row, shape (len(groups),): whole groups, each label spread over all folds.

    Groups of one label are dealt out in an order drawn from ``seed``; a group's label is the first in
    alphabetical order among its rows, so that the order of rows does not matter.
    """
    label_of: dict[str, str] = {}
    for group, label in zip(groups, labels, strict=True):
        label_of[group] = min(label, label_of.get(group, label))
    order = sorted(label_of, key=lambda group: (label_of[group], digest_bytes(f"{seed}/{group}".encode())))
    fold_of = {group: position % count for position, group in enumerate(order)}
    return np.array([fold_of[group] for group in groups], dtype=np.int64)


def fold_rows(
    folds: NDArray[np.int64], texts: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows to train on, rows held out) for each fold that has rows.

    A text that also occurs among the held-out rows is left out of training, so that a greeting everybody
    types does not make every fold look easy.
    """
    _, code = np.unique([canonical_text(text) for text in texts], return_inverse=True)
    for fold in np.unique(folds):
        held = np.flatnonzero(folds == fold)
        shared = np.isin(code, code[held])
        yield np.flatnonzero(~shared & (folds != fold)), held


def leaks(train: pl.DataFrame, test: pl.DataFrame, *, cut_off: datetime | None) -> tuple[Leak, ...]:
    """Every kind of leak between ``train`` and ``test``; empty when there is none."""
    late = [] if cut_off is None else train.filter(pl.col("captured_at") > cut_off)["example_id"].to_list()
    shared: Mapping[str, list[str]] = {
        "group": sorted(set(train["group_id"]) & set(test["group_id"])),
        "text": sorted(
            {canonical_text(text) for text in train["text"]} & {canonical_text(text) for text in test["text"]}
        ),
        "time": late,
    }
    return tuple(Leak(kind, len(found), found[0]) for kind, found in shared.items() if found)
