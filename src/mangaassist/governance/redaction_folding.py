"""Width and compatibility folding that remembers where every character came from.

Rules are written once, for ASCII digits and one hyphen; what a shopper typed in full width, half-width
katakana or with zero-width characters between is folded first. Findings are reported in the typed text, so
each folded character keeps the span it came from.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

# Stands for a placeholder already in the text; no rule matches it, so nothing is ever found inside one.
PLACEHOLDER = "\ufffc"

_HYPHENS = dict.fromkeys(
    map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2500\u2501\ufe63\uff0d"), "-"
)
# The long vowel mark and the kanji for one stand in for a hyphen only between digits.
_HYPHEN_BETWEEN_DIGITS = re.compile(r"(?<=[0-9)])[ー一](?=[0-9(])")
_INVISIBLE = "\u00ad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff"
_MARKS = "\u0300-\u036f\u3099\u309a\uff9e\uff9f"
# Characters that NFKC leaves as they are, those of most messages; a bracket may begin a placeholder.
_PLAIN = r"\n -Z\\-~、。「」『』ぁ-ゖァ-ヺー一-龥"
_HAS_INVISIBLE = re.compile(f"[{_INVISIBLE}]")


@dataclass(frozen=True, slots=True)
class Folded:
    """Folded text; ``starts[i]`` and ``ends[i]`` bound the original characters that became ``text[i]``.

    ``starts`` and ``ends`` are as long as ``text``, in characters of the original, never decreasing.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The original span of the folded characters ``start:end``, of at least one character."""
        return self.starts[start], self.ends[end - 1]


def fold(text: str, placeholders: Sequence[str]) -> Folded:
    """NFKC character by character (with its combining marks), one hyphen, no invisible characters.

    Numbers in circles, super- and subscripts and fractions are left as they are: they number lists and
    quantities, and would otherwise grow onto the digits beside them. Unicode Standard Annex 15 defines NFKC.
    """
    plain = unicodedata.is_normalized("NFKC", text) and not _HAS_INVISIBLE.search(text)
    if plain and not ("[" in text and any(mark in text for mark in placeholders)):
        return Folded(_one_hyphen(text), range(len(text)), range(1, len(text) + 1))
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for found in _clusters(tuple(placeholders)).finditer(text):
        start, end = found.span()
        if found.lastgroup == "plain":
            pieces.append(found[0])
            starts.extend(range(start, end))
            ends.extend(range(start + 1, end + 1))
            continue
        piece = _fold_cluster(found[0], found.lastgroup)
        pieces.append(piece)
        starts.extend([start] * len(piece))
        ends.extend([end] * len(piece))
    return Folded(_one_hyphen("".join(pieces)), starts, ends)


@lru_cache(maxsize=4)
def _clusters(placeholders: tuple[str, ...]) -> re.Pattern[str]:
    marks = "|".join(map(re.escape, placeholders))
    return re.compile(
        f"(?P<placeholder>{marks})|(?P<plain>(?:[{_PLAIN}](?![{_MARKS}]))+)|(?P<invisible>[{_INVISIBLE}]+)"
        f"|.[{_MARKS}]*",
        re.DOTALL,
    )


def _fold_cluster(cluster: str, group: str | None) -> str:
    if group == "placeholder":
        return PLACEHOLDER
    if group == "invisible":
        return ""
    if unicodedata.category(cluster[0]) == "No":
        return cluster
    return unicodedata.normalize("NFKC", cluster)


def _one_hyphen(text: str) -> str:
    """One character for one character, so that offsets hold."""
    return _HYPHEN_BETWEEN_DIGITS.sub("-", text.translate(_HYPHENS))
