"""Phrasing families: enough of them, apart by role, and sentences that carry what they mean."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_text
from mangaassist.core.language import Language, detect_language
from mangaassist.simulation import phrasings
from mangaassist.simulation.catalog import popularity, read_catalog
from mangaassist.simulation.draws import draws
from mangaassist.simulation.phrasings import (
    INTENTS,
    LANGUAGES,
    OUT_OF_SCOPE,
    Family,
    Utterance,
    read_families,
    speak,
)
from mangaassist.simulation.samples import Sample

LABELS = (*INTENTS, OUT_OF_SCOPE)


def _said(families: list[Family], *, seed: int, register: int | None = None) -> list[Utterance]:
    generator = np.random.default_rng(seed)
    catalog = read_catalog()
    asked = popularity(catalog, generator)
    draw = draws(generator)
    return [
        speak(
            family,
            draw,
            catalog=catalog,
            asked=asked,
            register=int(next(draw) * 3) if register is None else register,
        )
        for family in families
    ]


def _all(role: str) -> list[Family]:
    return [
        family for (_, _, kept), families in read_families().items() if kept == role for family in families
    ]


@pytest.mark.parametrize(("intent", "language"), list(product(LABELS, LANGUAGES)))
def test_every_intent_has_ten_families_in_every_language_and_some_are_held_out(
    intent: str, language: str
) -> None:
    """Issue 2, part 7."""
    train = read_families()[(intent, language, "train")]
    golden = read_families()[(intent, language, "golden")]
    assert len(train) + len(golden) >= 10
    assert len(golden) >= 3


def test_no_golden_template_is_used_for_training() -> None:
    """Issue 2, part 7: accuracy measures unseen phrasings."""
    train = {family.parts for role in ("train", "season", "recall") for family in _all(role)}
    assert all(family.parts not in train for family in _all("golden"))
    identities = [family.identity for families in read_families().values() for family in families]
    assert len(identities) == len(set(identities))


def test_no_golden_text_occurs_in_history(history: list[Sample], golden: list[Sample]) -> None:
    """TRN-2: not even two families may meet in the same sentence."""
    trained = {canonical_text(one.example.text) for one in history}
    assert trained.isdisjoint(canonical_text(one.example.text) for one in golden)
    assert {one.family for one in history}.isdisjoint(one.family for one in golden)


def test_every_template_fills_completely_in_every_register() -> None:
    for role, register in product(phrasings.ROLES, range(3)):
        for said in _said(_all(role), seed=1, register=register):
            assert not re.search(r"[\[\]{}<>|]", said.text), said
            assert said.text.strip() == said.text != ""


def test_languages_are_what_the_detector_sees() -> None:
    """Families of a language stay in its script, apart from titles that cross over."""
    seen: dict[str, list[Language]] = {}
    for family in _all("train") * 5:
        seen.setdefault(family.language, []).append(
            detect_language(_said([family], seed=len(family.name))[0].text)
        )
    for language in LANGUAGES:
        assert np.mean([one == language for one in seen[language]]) > 0.8, language


def test_registers_differ_in_japanese() -> None:
    family = next(one for one in _all("train") if one.language == "ja" and one.intent == "account_help")
    formal, casual = (
        {said.text for said in _said([family] * 40, seed=2, register=register)} for register in (0, 2)
    )
    assert any("しまいました" in text for text in formal)
    assert not any("しまいました" in text for text in casual)


def test_sentences_repeat_with_the_seed_and_only_with_it() -> None:
    families = _all("train")
    assert _said(families, seed=5) == _said(families, seed=5)
    assert _said(families, seed=5) != _said(families, seed=6)


@pytest.mark.parametrize("line", ["fr\ttrain\tx\tbonjour", "en\tdev\tx\thello", "en\ttrain\thello"])
def test_a_broken_line_says_where(line: str) -> None:
    with pytest.raises(InputError, match=r"search_title\.tsv line 9"):
        phrasings._family("search_title", line, where="search_title.tsv line 9")
