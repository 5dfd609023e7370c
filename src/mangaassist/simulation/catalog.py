"""The one real thing in the simulation: a list of existing manga, facts only.

Titles, authors, demographics, first years, genres and magazines were written down by hand and checked
against public bibliographies; ``year`` is the year of the first instalment, by cover or by sale, so two
sources may differ by one. How often a title is asked for is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from mangaassist.core.errors import InputError
from mangaassist.simulation.draws import cumulate

DEMOGRAPHICS = ("shonen", "shojo", "seinen", "josei", "kodomo")
TIERS = ("head", "mid", "long_tail")
COLUMNS = ("title_en", "title_ja", "author", "author_ja", "demographic", "year", "genres", "magazine")

# Shares of all queries that the head, and head and mid together, account for.
_HEAD, _MID = 0.5, 0.8
_QUERIES_A_DAY = 1_000
_ZIPF = 1.0


@dataclass(frozen=True, slots=True)
class Manga:
    """One existing work.

    Attributes:
        title_en: title of the English edition, or the usual romanisation where there is none.
        title_ja: Japanese title in its own script.
        authors: romanised, given name first; authors_ja: the same people in Japanese script.
        demographic: one of :data:`DEMOGRAPHICS`.
        year: first year of serialisation.
        genres: one or more.
        magazine: where it first ran; empty where that is not one magazine.
    """

    title_en: str
    title_ja: str
    authors: tuple[str, ...]
    authors_ja: tuple[str, ...]
    demographic: str
    year: int
    genres: tuple[str, ...]
    magazine: str


@dataclass(frozen=True, slots=True)
class Popularity:
    """How often each work is asked for, simulated.

    Attributes:
        queries: (n,) simulated queries over 90 days, in catalogue order.
        cumulative: (n,) running query shares, ending at 1.
        tiers: (n,) one of :data:`TIERS` each.
    """

    queries: tuple[int, ...]
    cumulative: tuple[float, ...]
    tiers: tuple[str, ...]


@cache
def read_catalog() -> tuple[Manga, ...]:
    """Every work of the packaged list, in the order of the file.

    Raises:
        InputError: for a line that does not have the eight columns.
    """
    text = resources.files("mangaassist.simulation").joinpath("data/catalog.tsv").read_text(encoding="utf-8")
    return tuple(_manga(number, line) for number, line in enumerate(text.splitlines()[1:], start=2))


def _manga(number: int, line: str) -> Manga:
    fields = line.split("\t")
    if len(fields) != len(COLUMNS):
        raise InputError(
            f"catalog.tsv line {number}",
            expected=f"{len(COLUMNS)} tab-separated columns",
            got=str(len(fields)),
            next_step="Reinstall the package: the file was changed.",
        )
    title_en, title_ja, author, author_ja, demographic, year, genres, magazine = fields
    return Manga(
        title_en,
        title_ja,
        tuple(author.split("; ")),
        tuple(author_ja.split("、")),
        demographic,
        int(year),
        tuple(genres.split(",")),
        magazine,
    )


def popularity(catalog: tuple[Manga, ...], generator: np.random.Generator) -> Popularity:
    """Simulated 90-day query counts: Zipf over a shuffled catalogue, and the tier each count implies.

    The head is the smallest set of works that draws half of all queries, the mid the next 30%.
    """
    ranks = generator.permutation(len(catalog)) + 1
    weights = ranks.astype(np.float64) ** -_ZIPF
    queries = generator.multinomial(90 * _QUERIES_A_DAY, weights / weights.sum())
    return Popularity(tuple(queries.tolist()), tuple(cumulate(queries.tolist())), tiers(queries))


def tiers(queries: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[str, ...]:
    """Tier of each work by the share of all queries that more frequent works have already drawn.

    Args:
        queries: (n,) counts over 90 days.
    """
    order = np.argsort(-queries, kind="stable")
    before = np.concatenate(([0.0], np.cumsum(queries[order])[:-1] / max(1, queries.sum())))
    names = np.select([before < _HEAD, before < _MID], [TIERS[0], TIERS[1]], TIERS[2])
    found = np.empty(len(queries), dtype=names.dtype)
    found[order] = names
    return tuple(found.tolist())
