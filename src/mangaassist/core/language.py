"""Which of the shop's languages a text is in, decided by script alone."""

from __future__ import annotations

import re
from enum import StrEnum


class Language(StrEnum):
    """The three traffic languages every metric is broken down by."""

    EN = "en"
    JA = "ja"
    MIXED = "mixed"


# Hiragana, katakana (with phonetic extensions and half width), iteration mark, CJK ideographs.
_JAPANESE = re.compile(
    r"[\u3005\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
_LATIN_WORD = re.compile(r"[A-Za-z\uff21-\uff3a\uff41-\uff5a]{2,}")


def detect_language(text: str) -> Language:
    """EN, JA or mixed by script.

    A Latin word of two letters or more beside Japanese script is mixed; a lone letter or a number
    ("DVD版のB面" has one, "第3巻" none) does not make a Japanese sentence mixed by itself.
    Text of neither script counts as EN, the shop's default locale.
    """
    japanese = _JAPANESE.search(text) is not None
    if not japanese:
        return Language.EN
    return Language.MIXED if _LATIN_WORD.search(text) else Language.JA


def japanese_share(text: str) -> float:
    """The part of the characters other than white space in Japanese script, in [0, 1]; 0 for empty text."""
    visible = len("".join(text.split()))
    return len(_JAPANESE.findall(text)) / visible if visible else 0.0
