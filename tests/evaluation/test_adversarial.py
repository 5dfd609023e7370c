"""Attacks: each does what its name says, the same every time, and the report compares like with like."""

from __future__ import annotations

import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.scripted import STORY, Scripted, rows
from tests.training.examples import labelled_examples

from mangaassist.core.language import Language, detect_language
from mangaassist.evaluation.adversarial import attack
from mangaassist.evaluation.attacks import ATTACKS
from mangaassist.training.text.classifier import fit_examples

ENGLISH, JAPANESE = "where is my Naruto order", "ガンダムを返品したいです"


def rewritten(name: str, text: str, seed: int = 1) -> str:
    return ATTACKS[name](text, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("upper_case", ENGLISH, "WHERE IS MY NARUTO ORDER"),
        ("full_width", "ab 1!", "ａｂ\u3000１！"),
        ("half_width_kana", "ガンダムとパン", "ｶﾞﾝﾀﾞﾑとﾊﾟﾝ"),
        ("katakana", "したいです", "シタイデス"),
        ("hiragana", "ガンダム", "がんだむ"),
        ("no_spaces", "my order", "myorder"),
        ("kanji_variants", "国の学校と円", "國の學校と圓"),
        ("kanji_to_kana", "返品", "へんぴん"),
        ("kanji_to_kana", "本を見る", "ほんを見る"),
        ("voicing_marks", "が", "か"),
        ("voicing_marks", "order", "order"),
        ("small_kana", "ちょっとキャンセル", "ちよつとキヤンセル"),
        ("long_vowel", "ブリーチ", "ブリ-チ"),
        ("code_mixing", JAPANESE, "ガンダムをreturnしたいです"),
        ("code_mixing", "cancel it", "キャンセル it"),
        ("code_mixing", "hmm", "hmm、お願いします"),
        ("code_mixing", "うーん", "うーん please"),
    ],
)
def test_fixed_rewrites(name: str, text: str, expected: str) -> None:
    """EVA-1: width, kana, case and language mixing, spelled out."""
    assert rewritten(name, text) == expected


def test_half_width_is_undone_by_nfkc() -> None:
    text = "ガギグゲゴパピプペポヴァッー"
    assert unicodedata.normalize("NFKC", rewritten("half_width_kana", text)) == text


def test_code_mixing_mixes() -> None:
    """EVA-1: the result is mixed traffic by the platform's own rule."""
    for text in (ENGLISH, JAPANESE, "何か", "hello there"):
        assert detect_language(rewritten("code_mixing", text)) is Language.MIXED


@given(seed=st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_slips_are_small(seed: int) -> None:
    """EVA-1: a typo attack changes about one letter in ten, and changes the length as its name says."""
    lengths = {
        "keyboard_neighbour": 0,
        "letter_swap": 0,
        "letter_drop": -1,
        "letter_double": 1,
        "zero_width": 1,
    }
    letters = sum(letter.isalpha() for letter in ENGLISH)
    count = round(letters / 10)
    for name, change in lengths.items():
        made = rewritten(name, ENGLISH, seed)
        assert len(made) - len(ENGLISH) == change * count
        if name == "keyboard_neighbour":
            changed = [(a, b) for a, b in zip(ENGLISH, made, strict=True) if a != b]
            assert len(changed) == count
    assert sorted(rewritten("letter_swap", ENGLISH, seed)) == sorted(ENGLISH)
    visible = "".join(c for c in rewritten("zero_width", ENGLISH, seed) if unicodedata.category(c) != "Cf")
    assert visible == ENGLISH
    alike = rewritten("homoglyphs", ENGLISH, seed)
    assert len(alike) == len(ENGLISH)
    assert all(a == b or not b.isascii() for a, b in zip(ENGLISH, alike, strict=True))


@given(text=st.text(max_size=30), seed=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_any_text_can_be_attacked_twice_alike(text: str, seed: int) -> None:
    """EVA-1: no input breaks an attack, and the same seed gives the same text."""
    for name in ATTACKS:
        assert rewritten(name, text, seed) == rewritten(name, text, seed)


def test_the_report_compares_the_same_rows() -> None:
    """EVA-1: an attack that breaks every English row and spares Japanese, counted by hand."""
    frame = rows([("order a", "order"), ("order b", "return"), ("返品", "order"), ("x", "none")])
    shout = {"bang": lambda text, _: text + "!" if text.isascii() else text}
    model = Scripted({"order a!": ("return", 0.9, False)})
    made = attack(STORY, model, frame, seed=0, attacks=shout, curated=rows([("z", "order"), ("y", "none")]))
    [only] = made.attacks
    assert (only.n, only.clean, only.value, only.drop) == (2, 0.5, 0.0, 0.5)
    assert only.example[1] == only.example[0] + "!"
    assert (made.accuracy.value, made.clean) == (0.0, 0.5)
    assert (made.curated.value, made.curated.n) == (1.0, 1)


def test_nothing_to_attack_is_none() -> None:
    assert attack(STORY, Scripted(), rows([("x", "none")]), seed=0) is None
    assert attack(STORY, Scripted(), rows([("x", "order")]), seed=0, attacks={"same": lambda t, _: t}) is None
    made = attack(
        STORY, Scripted(), rows([("x", "order")]), seed=0, curated=pl.DataFrame({"text": [], "label": []})
    )
    assert made.curated is None
    assert made.accuracy.low is None


def test_attacked_texts_do_not_depend_on_their_company() -> None:
    """EVA-1: adding a row leaves the other rows' attacked texts alone."""
    seen: list[set[str]] = []

    class Recording(Scripted):
        def predict(self, texts):  # type: ignore[no-untyped-def]
            seen[-1].update(texts)
            return super().predict(texts)

    few, more = rows([("where is it", "order")]), rows([("refund", "return"), ("where is it", "order")])
    for frame in (few, more):
        seen.append(set())
        attack(STORY, Recording(), frame, seed=4)
    assert seen[0] < seen[1]


def test_the_default_model_stands_up_to_spelling() -> None:
    """STO-1: width, case, zero-width and look-alike attacks cost nothing; typos cost little."""
    unseen = rows(
        [
            ("can i return Gintama", "return_request"),
            ("ブリーチを返品したいです", "return_request"),
            ("ハイキューに似た漫画を教えて", "recommendation"),
            ("recommend a series like Monster", "recommendation"),
            ("where is my Berserk order", "order_tracking"),
            ("注文したドラゴンボールはいつ届きますか", "order_tracking"),
        ]
    )
    made = attack(STORY, fit_examples(labelled_examples(), seed=1), unseen, seed=1)
    by_name = {one.name: one for one in made.attacks}
    assert made.clean == 1
    for free in ("upper_case", "random_case", "full_width", "half_width_kana", "zero_width", "homoglyphs"):
        assert by_name[free].drop == 0
    assert by_name["letter_drop"].value > 0.8
    assert set(by_name) == set(ATTACKS)
    assert made.accuracy.low <= made.accuracy.value <= made.accuracy.high
