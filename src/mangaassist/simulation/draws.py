"""Uniform draws in blocks: a scalar call into numpy costs more than the sentence it decides about."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
_BLOCK = 4096


def draws(generator: np.random.Generator) -> Iterator[float]:
    """Endless uniform numbers in [0, 1) from ``generator``, taken in blocks of 4,096."""
    while True:
        yield from generator.random(_BLOCK).tolist()


def pick(options: Sequence[Item], draw: float) -> Item:
    """The option that ``draw`` in [0, 1) falls on, all equally likely."""
    return options[int(draw * len(options))]


def pick_weighted(options: Sequence[Item], cumulative: Sequence[float], draw: float) -> Item:
    """The option that ``draw`` in [0, 1) falls on; ``cumulative`` ends at 1."""
    return options[min(bisect_right(cumulative, draw), len(options) - 1)]


def cumulate(weights: Sequence[float]) -> list[float]:
    """Running shares of ``weights``, ending at 1."""
    total = np.cumsum(np.asarray(weights, dtype=np.float64))
    shares: list[float] = (total / total[-1]).tolist()
    return shares
