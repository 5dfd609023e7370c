"""The catalogue: existing works, facts only."""

from __future__ import annotations

import csv
import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mangaassist.simulation.catalog import DEMOGRAPHICS, TIERS, Manga, popularity, read_catalog, tiers

_SCRIPT = re.compile(r"[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")

# Titles whose author in the bibliography is spelled otherwise or belongs to another work of the same name;
# each was looked at. The rest must agree.
_REVIEWED_AUTHORS = {
    "日常": "another work of that name",
    "サイボーグ009": "earlier pen name",
    "金田一少年の事件簿": "a later writer of the series",
    "子連れ狼": "misprint in the bibliography",
    "orange": "another work of that name",
    "地球へ…": "older form of a character",
    "パーマン": "joint pen name",
    "妖怪ウォッチ": "another adaptation of the game",
}


@pytest.fixture(scope="module")
def catalog() -> tuple[Manga, ...]:
    return read_catalog()


def test_there_are_hundreds_of_works_and_each_title_occurs_once(catalog: tuple[Manga, ...]) -> None:
    """Issue 2, part 7: at least 300 titles."""
    assert len(catalog) >= 320
    for titles in ([one.title_en for one in catalog], [one.title_ja for one in catalog]):
        assert [title for title, times in Counter(titles).items() if times > 1] == []


def test_every_field_has_the_form_of_a_fact(catalog: tuple[Manga, ...]) -> None:
    for one in catalog:
        assert one.demographic in DEMOGRAPHICS, one
        assert 1945 < one.year <= 2025, one
        assert one.genres, one
        assert all(genre == genre.strip().lower() != "" for genre in one.genres), one
        assert len(one.authors) == len(one.authors_ja), one
        texts = [one.title_en, one.title_ja, *one.authors, *one.authors_ja, one.magazine]
        assert all(text == text.strip() == unicodedata.normalize("NFC", text) for text in texts), one


def test_titles_and_names_are_in_their_scripts(catalog: tuple[Manga, ...]) -> None:
    for one in catalog:
        assert not _SCRIPT.search(one.title_en + "".join(one.authors) + one.magazine), one
    japanese = [one for one in catalog if _SCRIPT.search(one.title_ja)]
    latin = [one for one in catalog if not _SCRIPT.search(one.title_ja)]
    assert len(japanese) > 0.75 * len(catalog)
    # A work that is titled in Latin letters in Japan is titled almost the same abroad.
    assert len({one.title_ja for one in latin}) == len(latin)
    names = [name for one in catalog for name in one.authors_ja]
    assert np.mean([bool(_SCRIPT.search(name)) for name in names]) > 0.95


def test_every_demographic_and_decade_is_there(catalog: tuple[Manga, ...]) -> None:
    assert set(Counter(one.demographic for one in catalog)) == set(DEMOGRAPHICS)
    assert {one.year // 10 for one in catalog} >= set(range(195, 203))


def test_tiers_follow_the_queries() -> None:
    """EVA-2: head, mid and long tail by 90-day query frequency; the naive reading of the rule agrees."""
    queries = np.array([5, 40, 30, 10, 3, 2, 10])
    expected = []
    for mine in range(len(queries)):
        ahead = [other for other in range(len(queries)) if (queries[other], -other) > (queries[mine], -mine)]
        before = sum(queries[other] for other in ahead) / queries.sum()
        expected.append(TIERS[0] if before < 0.5 else TIERS[1] if before < 0.8 else TIERS[2])
    assert list(tiers(queries)) == expected


def test_popularity_is_zipf_like_and_repeatable(catalog: tuple[Manga, ...]) -> None:
    first, again = (popularity(catalog, np.random.default_rng(3)) for _ in range(2))
    assert first == again
    assert first != popularity(catalog, np.random.default_rng(4))
    share = max(first.queries) / sum(first.queries)
    assert 0.12 < share < 0.18
    assert Counter(first.tiers)["head"] < 40
    assert Counter(first.tiers)["long_tail"] > 200
    assert first.cumulative[-1] == pytest.approx(1.0)


@pytest.mark.data
def test_titles_authors_and_years_agree_with_public_bibliographies(
    catalog: tuple[Manga, ...], data_dir: Path
) -> None:
    serials = _rows(data_dir / "catalog_madb_manga_ja" / "manga_serials.tsv")
    anime = _rows(data_dir / "catalog_bangumi_anime_titles_en_ja" / "titles.tsv")
    known = {row["title"] for row in serials} | {row["title"] for row in anime}
    assert np.mean([one.title_ja in known for one in catalog]) >= 0.70
    by_title: dict[str, list[dict[str, str]]] = {}
    for row in serials:
        by_title.setdefault(row["title"], []).append(row)
    found = [one for one in catalog if one.title_ja in by_title]
    disputed = {one.title_ja for one in found if not _has_author(one, by_title[one.title_ja])}
    assert disputed <= set(_REVIEWED_AUTHORS)
    gaps = [
        min(abs(int(row["date_published"][:4]) - one.year) for row in rows)
        for one in found
        if (rows := [row for row in by_title[one.title_ja] if row["date_published"]])
    ]
    # The bibliography also lists one-shots before and runs in other magazines after the first instalment.
    assert np.mean(np.array(gaps) <= 1) > 0.88


def _rows(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


def _has_author(one: Manga, rows: list[dict[str, str]]) -> bool:
    named = _plain("".join(row["creator"] + row["original_author"] for row in rows))
    return all(_plain(name) in named for name in one.authors_ja)


def _plain(text: str) -> str:
    return re.sub(r"[\s・.]", "", unicodedata.normalize("NFKC", text).casefold())
