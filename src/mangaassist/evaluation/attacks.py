"""Hostile spellings of a text, each a seeded function of the text alone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

import numpy as np

from mangaassist.core.language import Language, detect_language

Rewrite = Callable[[str, np.random.Generator], str]

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# About one slip in ten letters, at least one: what a thumb does on a phone.
_SLIPS_PER_LETTER = 0.1
_LETTER = re.compile(r"[^\W\d_]")
_LATIN_LETTER = re.compile(r"[A-Za-z]")
_LATIN_WORD = re.compile(r"[A-Za-z]+")
_HIRAGANA_TO_KATAKANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}
_KATAKANA_TO_HIRAGANA = {code + 0x60: code for code in range(0x3041, 0x3097)}
_FULL_WIDTH = {0x20: 0x3000, **{code: code + 0xFEE0 for code in range(0x21, 0x7F)}}
# Cyrillic, Greek and small-capital letters that look Latin.
_HOMOGLYPHS = dict(zip("aceopxyishjkndtvm", "асеорхуіѕһјκոԁτνм", strict=True))
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
_ACCENTS = "\u0301\u0308\u0302\u0300"

# Everyday shop words in both languages: what bilingual shoppers swap in mid-sentence.
_ENGLISH_TO_JAPANESE = {
    "order": "注文", "return": "返品", "refund": "返金", "cancel": "キャンセル", "shipping": "配送",
    "delivery": "配達", "manga": "漫画", "volume": "巻", "book": "本", "recommend": "おすすめ",
    "price": "値段", "payment": "支払い", "card": "カード", "account": "アカウント", "address": "住所",
    "help": "助けて", "where": "どこ", "when": "いつ", "please": "お願いします", "thanks": "ありがとう",
    "hello": "こんにちは", "new": "新しい", "buy": "買う", "store": "店", "point": "ポイント",
    "coupon": "クーポン", "stock": "在庫", "person": "人", "speak": "話す", "broken": "壊れた",
    "weather": "天気", "alarm": "アラーム", "reminder": "リマインダー", "music": "音楽", "money": "お金",
}  # fmt: skip
_JAPANESE_TO_ENGLISH = {
    "注文": "order", "返品": "return", "返金": "refund", "キャンセル": "cancel", "配送": "shipping",
    "届": "deliver ", "漫画": "manga", "マンガ": "manga", "おすすめ": "recommend", "値段": "price",
    "支払い": "payment", "カード": "card", "アカウント": "account", "住所": "address", "在庫": "stock",
    "クーポン": "coupon", "ポイント": "points", "本": "book", "新刊": "new release", "予約": "preorder",
    "お願いします": "please", "ありがとう": "thanks", "教えて": "tell me", "天気": "weather",
    "アラーム": "alarm", "リマインダー": "reminder",
}  # fmt: skip

# Old, simplified and cursive forms of everyday characters, which fonts, IMEs and Chinese shoppers put there.
_KANJI_VARIANTS = {
    "国": "國", "学": "學", "円": "圓", "画": "畫", "読": "讀", "気": "氣", "来": "來", "発": "發",
    "売": "賣", "買": "买", "書": "书", "語": "语", "話": "话", "届": "屆", "変": "變", "対": "對",
    "応": "應", "価": "價", "値": "值", "払": "拂", "換": "换", "説": "說", "総": "總", "歳": "歲",
    "巻": "卷", "予": "豫", "約": "约", "員": "员", "辺": "邊", "会": "會", "万": "萬", "図": "圖",
    "時": "时", "間": "间", "週": "周", "楽": "樂", "条": "條", "検": "檢", "験": "驗", "様": "樣",
}  # fmt: skip
# Everyday words written by their sound, as children and hurried people do.
_KANJI_TO_KANA = {
    "注文": "ちゅうもん", "返品": "へんぴん", "返金": "へんきん", "配送": "はいそう", "配達": "はいたつ",
    "漫画": "まんが", "新刊": "しんかん", "予約": "よやく", "値段": "ねだん", "支払い": "しはらい",
    "支払": "しはらい", "住所": "じゅうしょ", "在庫": "ざいこ", "本": "ほん", "巻": "かん", "届": "とど",
    "教えて": "おしえて", "天気": "てんき", "今日": "きょう", "明日": "あした", "音楽": "おんがく",
    "お願い": "おねがい", "変更": "へんこう", "確認": "かくにん", "商品": "しょうひん", "交換": "こうかん",
    "探して": "さがして", "買い": "かい", "人": "ひと", "店": "みせ", "電話": "でんわ",
}  # fmt: skip
_SMALL_KANA = dict(
    zip("ぁぃぅぇぉっゃゅょァィゥェォッャュョ", "あいうえおつやゆよアイウエオツヤユヨ", strict=True)
)
_LONG_VOWEL = {ord("ー"): "-", ord("～"): "ー", ord("〜"): "ー"}
_MARKS = "\u3099\u309a"  # combining voicing marks, as Unicode decomposes to
_VOICED = re.compile(
    "[がぎぐげござじずぜぞだぢづでどばびぶべぼぱぴぷぺぽガギグゲゴザジズゼゾダヂヅデドバビブベボパピプペポ]"
)


def _neighbours() -> dict[str, str]:
    found: dict[str, str] = {}
    for row, keys in enumerate(_ROWS):
        for column, key in enumerate(keys):
            beside = keys[max(0, column - 1) : column] + keys[column + 1 : column + 2]
            below = _ROWS[row + 1][max(0, column - 1) : column + 1] if row + 1 < len(_ROWS) else ""
            found[key] = beside + below
    return found


_NEIGHBOURS = _neighbours()


def _slips(text: str, letters: re.Pattern[str], generator: np.random.Generator) -> list[int]:
    """Positions to hit, last first, so that a change of length moves none of the others."""
    places = [match.start() for match in letters.finditer(text)]
    count = min(len(places), max(1, round(len(places) * _SLIPS_PER_LETTER)))
    return sorted((places[index] for index in generator.permutation(len(places))[:count]), reverse=True)


def _edit(
    text: str, letters: re.Pattern[str], generator: np.random.Generator, change: Callable[[str], str]
) -> str:
    for at in _slips(text, letters, generator):
        text = text[:at] + change(text[at]) + text[at + 1 :]
    return text


def _keyboard(text: str, generator: np.random.Generator) -> str:
    def slip(letter: str) -> str:
        near = _NEIGHBOURS[letter.lower()]
        return near[generator.integers(len(near))]

    return _edit(text, _LATIN_LETTER, generator, slip)


def _swap(text: str, generator: np.random.Generator) -> str:
    for at in _slips(text[:-1], _LETTER, generator):
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def _drop(text: str, generator: np.random.Generator) -> str:
    return _edit(text, _LETTER, generator, lambda _: "")


def _double(text: str, generator: np.random.Generator) -> str:
    return _edit(text, _LETTER, generator, lambda letter: letter * 2)


def _upper(text: str, _: np.random.Generator) -> str:
    return text.upper()


def _random_case(text: str, generator: np.random.Generator) -> str:
    up = generator.random(len(text)) < 0.5
    return "".join(c.upper() if high else c.lower() for c, high in zip(text, up, strict=True))


def _full_width(text: str, _: np.random.Generator) -> str:
    return text.translate(_FULL_WIDTH)


def _half_width_kana(text: str, _: np.random.Generator) -> str:
    return "".join(_HALF_WIDTH.get(character, character) for character in text)


def _half_width_table() -> dict[str, str]:
    """Katakana -> its half-width spelling, inverted from Unicode's own decompositions."""
    plain = {unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(0xFF66, 0xFF9E)}
    marked = {
        unicodedata.normalize("NFKC", chr(code) + mark): chr(code) + mark
        for code in range(0xFF66, 0xFF9E)
        for mark in "\uff9e\uff9f"
    }
    return {**plain, **{kana: spelled for kana, spelled in marked.items() if len(kana) == 1}}


_HALF_WIDTH = _half_width_table()


def _to_katakana(text: str, _: np.random.Generator) -> str:
    return text.translate(_HIRAGANA_TO_KATAKANA)


def _to_hiragana(text: str, _: np.random.Generator) -> str:
    return text.translate(_KATAKANA_TO_HIRAGANA)


def _kanji_variants(text: str, _: np.random.Generator) -> str:
    return "".join(_KANJI_VARIANTS.get(character, character) for character in text)


def _kanji_to_kana(text: str, generator: np.random.Generator) -> str:
    """One known word, the longest, by its sound."""
    present = [word for word in _KANJI_TO_KANA if word in text]
    if not present:
        return text
    longest = [word for word in present if len(word) == max(map(len, present))]
    word = longest[generator.integers(len(longest))]
    return text.replace(word, _KANJI_TO_KANA[word], 1)


def _voicing(text: str, generator: np.random.Generator) -> str:
    """Voicing marks left out: the commonest slip of flick input."""

    def unvoiced(letter: str) -> str:
        return unicodedata.normalize("NFD", letter).rstrip(_MARKS)

    return _edit(text, _VOICED, generator, unvoiced)


def _small_kana(text: str, _: np.random.Generator) -> str:
    return "".join(_SMALL_KANA.get(character, character) for character in text)


def _long_vowel(text: str, _: np.random.Generator) -> str:
    return text.translate(_LONG_VOWEL)


def _mix_languages(text: str, generator: np.random.Generator) -> str:
    """Swap one known word for its translation; without one, add a polite word of the other language."""
    if detect_language(text) is Language.EN:
        known = [m for m in _LATIN_WORD.finditer(text) if m.group().lower() in _ENGLISH_TO_JAPANESE]
        if not known:
            return text + "、お願いします"
        hit = known[generator.integers(len(known))]
        return text[: hit.start()] + _ENGLISH_TO_JAPANESE[hit.group().lower()] + text[hit.end() :]
    present = [word for word in _JAPANESE_TO_ENGLISH if word in text]
    if not present:
        return text + " please"
    word = max(present, key=len)
    return text.replace(word, _JAPANESE_TO_ENGLISH[word], 1)


def _homoglyphs(text: str, generator: np.random.Generator) -> str:
    hit = generator.random(len(text)) < 0.3
    return "".join(_HOMOGLYPHS.get(c, c) if swapped else c for c, swapped in zip(text, hit, strict=True))


def _invisible(text: str, generator: np.random.Generator) -> str:
    def hide(letter: str) -> str:
        return letter + _INVISIBLE[generator.integers(len(_INVISIBLE))]

    return _edit(text, _LETTER, generator, hide)


def _accents(text: str, generator: np.random.Generator) -> str:
    def accent(letter: str) -> str:
        return unicodedata.normalize("NFC", letter + _ACCENTS[generator.integers(len(_ACCENTS))])

    return _edit(text, _LATIN_LETTER, generator, accent)


def _run_together(text: str, _: np.random.Generator) -> str:
    return text.replace(" ", "")


def _shout(text: str, generator: np.random.Generator) -> str:
    return text + "!" * int(generator.integers(2, 6)) + ("😡", "🙏", "😭")[generator.integers(3)]


ATTACKS: Mapping[str, Rewrite] = {
    "keyboard_neighbour": _keyboard,
    "letter_swap": _swap,
    "letter_drop": _drop,
    "letter_double": _double,
    "upper_case": _upper,
    "random_case": _random_case,
    "full_width": _full_width,
    "half_width_kana": _half_width_kana,
    "katakana": _to_katakana,
    "hiragana": _to_hiragana,
    "kanji_variants": _kanji_variants,
    "kanji_to_kana": _kanji_to_kana,
    "voicing_marks": _voicing,
    "small_kana": _small_kana,
    "long_vowel": _long_vowel,
    "code_mixing": _mix_languages,
    "homoglyphs": _homoglyphs,
    "zero_width": _invisible,
    "accents": _accents,
    "no_spaces": _run_together,
    "shouting": _shout,
}
"""Name -> rewrite. A rewrite that leaves a text as it is does not apply to it."""
