"""Columns a sketch can count, made from columns it cannot: texts and embeddings.

A text is watched by its length and by the script most of it is written in; an embedding by its length
(its norm) and by where the cloud of embeddings lies (its centroid). The texts themselves are never kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.drift.centroid import norms

# Scripts in the order ties are broken; Han stands for kanji.
_SCRIPTS = {
    "hiragana": r"\p{Hiragana}",
    "katakana": r"[\p{Katakana}ー]",
    "han": r"\p{Han}",
    "latin": r"\p{Latin}",
    "digit": r"\p{Nd}",
}


class Made(StrEnum):
    """What is made of a column."""

    LENGTH = "length"
    SCRIPT = "script"
    NORM = "norm"
    CENTROID = "centroid"


@dataclass(frozen=True, slots=True)
class Derived:
    """One made column.

    Attributes:
        source: the column it is made from.
        how: what is made.
    """

    source: str
    how: Made

    @property
    def name(self) -> str:
        return f"{self.source}.{self.how}"


def of_texts(names: Sequence[str]) -> tuple[Derived, ...]:
    """What is watched of columns of text."""
    return tuple(Derived(name, how) for name in names for how in (Made.LENGTH, Made.SCRIPT))


def of_embeddings(names: Sequence[str]) -> tuple[Derived, ...]:
    """What is watched of columns of embeddings."""
    return tuple(Derived(name, how) for name in names for how in (Made.NORM, Made.CENTROID))


def add_derived(frame: pl.DataFrame, derived: Sequence[Derived]) -> pl.DataFrame:
    """``frame`` with the made columns; the sources must be there.

    Raises:
        InputError: a source of another type.
    """
    return frame.with_columns(_made(frame[one.source], one) for one in derived)


def _made(values: pl.Series, one: Derived) -> pl.Series:
    match one.how:
        case Made.LENGTH:
            return _text(values).str.len_chars().cast(pl.Int64).alias(one.name)
        case Made.SCRIPT:
            return scripts(_text(values)).alias(one.name)
        case Made.NORM:
            return norms(values).alias(one.name)
        case Made.CENTROID:
            return values.alias(one.name)


def scripts(texts: pl.Series) -> pl.Series:
    """The script with most characters of each text; "other" for none of them, null for null."""
    counts = pl.DataFrame({name: texts.str.count_matches(pattern) for name, pattern in _SCRIPTS.items()})
    most = pl.max_horizontal(pl.all())
    first = pl.coalesce(pl.when(pl.col(name) == most).then(pl.lit(name)) for name in _SCRIPTS)
    return counts.select(
        pl.when(most.is_null()).then(None).when(most == 0).then(pl.lit("other")).otherwise(first)
    ).to_series()


def _text(values: pl.Series) -> pl.Series:
    if values.dtype not in (pl.String, pl.Null):
        raise InputError(
            f"column '{values.name}'",
            expected="text",
            got=str(values.dtype),
            next_step="Name only columns of text among the texts.",
        )
    return values.cast(pl.String)
