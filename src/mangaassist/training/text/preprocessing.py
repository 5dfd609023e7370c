"""From raw text to n-grams: one code path for training, batch and single prediction.

English words are taken as they stand; Japanese runs are cut by Sudachi and replaced by their normalised
forms, so that 引っ越し and 引越し are one word. Sudachi is loaded only when Japanese script is met.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import cache, lru_cache
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from mangaassist.core.identity import digest

# An utterance is short; what follows this many characters is a paste and is not read. Sudachi's own limit
# is 49,149 bytes.
MAX_CHARACTERS = 2_000
WORD_ORDERS = (1, 2)
CHARACTER_ORDERS = (2, 3, 4, 5)

_JAPANESE = r"\u3005\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HAS_JAPANESE = re.compile(f"[{_JAPANESE}]")
_RUN = re.compile(rf"[{_JAPANESE}]+|[^\W_{_JAPANESE}]+")
_WORD = re.compile(r"[^\W_]+")

# Letters that are drawn like Latin ones. The shop's languages are English and Japanese, so a Cyrillic or
# Greek letter among Latin ones is an attack or a keyboard accident, never a word.
_LOOKALIKES = dict(zip("аеорсухіјѕԁһկոԛѡαοινρτυκ", "aeopcyxijsdhkoqwaoivptuk", strict=True))
_KATAKANA_TO_HIRAGANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}


class _Folding(dict[int, str | None]):
    """Translation table filled on first sight: invisible characters vanish, look-alikes become Latin."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        folded = None if unicodedata.category(character) == "Cf" else _LOOKALIKES.get(character, character)
        self[code] = folded
        return folded


_FOLDING = _Folding()


def normalise(text: str) -> str:
    """NFKC, casefolded, look-alikes folded, invisible characters removed, single spaces, cut to length."""
    folded = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold().translate(_FOLDING)
    return " ".join(folded.split())[:MAX_CHARACTERS]


def words(normalised: str) -> list[str]:
    """The words of a normalised text in order: letters and digits as they stand, Japanese by Sudachi."""
    if _HAS_JAPANESE.search(normalised) is None:
        return _WORD.findall(normalised)
    found: list[str] = []
    for run in _RUN.findall(normalised):
        if _HAS_JAPANESE.match(run):
            found.extend(_cut(run))
        else:
            found.append(run)
    return found


@lru_cache(maxsize=512)
def _cut(run: str) -> tuple[str, ...]:
    """The words of a run of Japanese; kept for a while, as one request asks for them several times."""
    return tuple(morpheme.normalized_form() for morpheme in _tokenizer().tokenize(run))


def tokenize(text: str) -> list[str]:
    """The words of a raw text."""
    return words(normalise(text))


def word_ngrams(normalised: str) -> list[str]:
    """Words and pairs of neighbouring words."""
    found = words(normalised)
    return [*found, *(f"{first} {second}" for first, second in pairwise(found))]


def character_ngrams(normalised: str) -> list[str]:
    """Character n-grams inside blank-padded words; katakana counts as hiragana."""
    return [
        gram
        for word in normalised.translate(_KATAKANA_TO_HIRAGANA).split()
        for gram in (_padded_short(word) if len(word) <= _SHORT else _padded(word))
    ]


def _padded(word: str) -> tuple[str, ...]:
    """The n-grams of ``word`` with a blank on either side; a word shorter than n counts once as a whole."""
    padded = f" {word} "
    length = len(padded)
    found = [
        padded[start : start + order]
        for order in CHARACTER_ORDERS
        if order < length
        for start in range(length - order + 1)
    ]
    return (*found, padded) if length <= CHARACTER_ORDERS[-1] else tuple(found)


# Short words come again and again; their n-grams are kept, in a few megabytes.
_SHORT = 16
_padded_short = lru_cache(maxsize=4096)(_padded)


_local = threading.local()
_loading = threading.Lock()


def _tokenizer() -> Any:
    """This thread's tokenizer: one cannot be shared, the dictionary behind it is."""
    tokenizer = getattr(_local, "tokenizer", None)
    if tokenizer is None:
        from sudachipy import SplitMode

        with _loading:
            tokenizer = _dictionary().tokenizer(SplitMode.A)
        _local.tokenizer = tokenizer
    return tokenizer


@cache
def _dictionary() -> Any:
    from sudachipy import Dictionary

    return Dictionary(dict="core")


# Texts whose n-grams together touch every rule above; their digest changes when the behaviour does.
_PROBES = (
    "Where's my ORDER #12-345?  I'd like it back.",
    "ｆｕｌｌ　ｗｉｄｔｈ ﾊﾝｶｸ",
    "引っ越しで引越したので、お届け先を変えたいです。",
    "ワンピースの12巻をキャンセルしたい。refundできる？",
    "z\u200bero wi\u00addth раypal straße",
    "",
)


@cache
def preprocessing_digest() -> str:
    """Identity of what this code makes of text (TRN-6): parameters, dictionary version and the n-grams of
    a few probes, so that a change of Python, Unicode or Sudachi shows as well as a change of this file."""
    return digest(
        {
            "orders": [WORD_ORDERS, CHARACTER_ORDERS],
            "max_characters": MAX_CHARACTERS,
            "sudachidict": version("sudachidict-core"),
            "probes": [
                [word_ngrams(text), character_ngrams(text)]
                for text in (normalise(probe) for probe in _PROBES)
            ],
        }
    )
