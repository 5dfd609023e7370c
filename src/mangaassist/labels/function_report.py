"""How labelling functions do: what they cover, where they meet and clash, how often they are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.labels.functions import Ballot, RuleSet, combine
from mangaassist.stats.intervals import Estimate, wilson
from mangaassist.stats.label_model import ABSTAIN


@dataclass(frozen=True, slots=True)
class FunctionReport:
    """One function, or the whole rule set, over the examples of a story.

    Attributes:
        name: of the function, or the version of the rule set.
        version: as its author calls it; code: digest of what it does.
        labels: what it said at least once.
        spoken: examples it labelled.
        coverage: their share of all examples.
        overlap: share of all examples that it and another function labelled.
        conflicts: share of all examples that another function labelled otherwise.
        precision: share of its labels that agree with the vendor's, where the vendor settled on one, with a
            95% Wilson interval; None where they never met.
    """

    name: str
    version: str
    code: str
    labels: tuple[str, ...]
    spoken: int
    coverage: float
    overlap: float
    conflicts: float
    precision: Estimate | None

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {**asdict(self), "labels": list(self.labels)}


def report(rules: RuleSet, ballot: Ballot, truth: Sequence[str | None]) -> list[FunctionReport]:
    """One report per function and, first, one of the rule set as it is combined.

    Args:
        truth: the vendor's label of each example, None where it has none; shape (examples,).
    """
    combined, _ = combine(rules, ballot)
    columns = [combined, *ballot.votes.T]
    names = [rules.version, *ballot.functions]
    versions = [rules.combining, *(one.version for one in rules.functions)]
    codes = ["", *(one.code for one in rules.functions)]
    met, clashed = _meetings(ballot.votes)
    return [
        FunctionReport(
            name=name,
            version=version,
            code=code,
            labels=tuple(ballot.classes[one] for one in np.unique(column) if one != ABSTAIN),
            spoken=int((column != ABSTAIN).sum()),
            coverage=_share(column != ABSTAIN),
            overlap=_share(met[:, index]),
            conflicts=_share(clashed[:, index]),
            precision=_precision(column, ballot.classes, truth),
        )
        for index, (name, version, code, column) in enumerate(
            zip(names, versions, codes, columns, strict=True)
        )
    ]


def _meetings(votes: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where each function met another and where it was contradicted; column 0 is the rule set as a whole.

    Both of shape (examples, 1 + functions).
    """
    spoken = votes != ABSTAIN
    voices = spoken.sum(axis=1, keepdims=True)
    met = spoken & (voices > 1)
    top = np.where(spoken, votes, np.iinfo(votes.dtype).min).max(axis=1, keepdims=True)
    bottom = np.where(spoken, votes, np.iinfo(votes.dtype).max).min(axis=1, keepdims=True)
    # Somebody disagrees with a speaker exactly when not all that speak say the same.
    clashed = spoken & (top != bottom) & (voices > 1)
    return (
        np.concatenate([met.any(axis=1, keepdims=True), met], axis=1),
        np.concatenate([clashed.any(axis=1, keepdims=True), clashed], axis=1),
    )


def _share(chosen: NDArray[np.bool_]) -> float:
    return float(chosen.mean()) if len(chosen) else 0.0


def _precision(
    column: NDArray[np.integer[Any]], classes: Sequence[str], truth: Sequence[str | None]
) -> Estimate | None:
    pairs = [
        (classes[said], known)
        for said, known in zip(column.tolist(), truth, strict=True)
        if said != ABSTAIN and known is not None
    ]
    return wilson(sum(said == known for said, known in pairs), len(pairs)) if pairs else None
