"""What a model said to each row, as a value that goes to JSON and comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """What the model said to each row: everything later questions (slices, bias, paired tests) need.

    Attributes:
        rows: digest of the rows and their true labels; equal digests can be compared row by row.
        labels: every true or answerable label, sorted.
        actual, predicted: codes into ``labels``, one per row; ``predicted`` is the top label even where
            the model abstained.
        abstains: one per row.
        out_of_scope: code of the out-of-scope label; -1 where the story has none.
        dimensions: slice column -> its value per row.
    """

    rows: str
    labels: tuple[str, ...]
    actual: tuple[int, ...]
    predicted: tuple[int, ...]
    abstains: tuple[bool, ...]
    out_of_scope: int = -1
    dimensions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def in_scope(self) -> NDArray[np.bool_]:
        """Shape (n,): rows that have a right answer."""
        return np.not_equal(self.actual, self.out_of_scope)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Shape (n,): the top label is the true one, abstained or not."""
        return np.equal(self.actual, self.predicted)

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """Shape (n,): the model did not abstain."""
        return ~np.array(self.abstains, dtype=np.bool_)

    def with_label(self, label: str) -> NDArray[np.bool_]:
        """Shape (n,): rows whose true label is ``label``."""
        code = self.labels.index(label) if label in self.labels else -2
        return np.equal(self.actual, code)

    def as_dict(self) -> dict[str, Any]:
        """The answers as a JSON object; each dimension as its values and one code per row."""
        body = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**body, "dimensions": {name: _coded(found) for name, found in self.dimensions.items()}}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`."""
        dimensions = {
            name: tuple(coded["values"][code] for code in coded["codes"])
            for name, coded in body["dimensions"].items()
        }
        tuples = {name: tuple(body[name]) for name in ("labels", "actual", "predicted", "abstains")}
        return cls(rows=body["rows"], out_of_scope=body["out_of_scope"], dimensions=dimensions, **tuples)


def _coded(values: Sequence[str]) -> dict[str, list[Any]]:
    known = sorted(set(values))
    code = {value: index for index, value in enumerate(known)}
    return {"values": known, "codes": [code[value] for value in values]}
