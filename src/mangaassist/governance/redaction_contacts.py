"""E-mail addresses, plain and in the spellings people use against harvesters."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LOCAL = r"[A-Za-z0-9._%+'-]"
_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
# Starting only where a token starts keeps a long run without an @ linear.
_EMAIL = re.compile(rf"(?<!{_LOCAL}){_LOCAL}++@{_DOMAIN}")

_AT = r" ?(?:\((?:at|a|アット|アットマーク|@)\)|\[(?:at|@|アット)\]|\{at\}|<at>|★|☆) ?"
_DOT = r"(?:\.| ?[\[({](?:dot|ドット)[\])}] ?| dot )"
_LABELS = rf"[A-Za-z0-9-]{{1,63}}(?:{_DOT}[A-Za-z0-9-]{{1,63}}){{0,3}}{_DOT}[A-Za-z]{{2,24}}(?![A-Za-z0-9])"
_DISGUISED = re.compile(rf"(?<!{_LOCAL}){_LOCAL}++{_AT}{_LABELS}", re.IGNORECASE)
# Words or spaces instead of the sign are ordinary English; only a sentence about mail makes them an address.
_SPELT = re.compile(
    rf"(?:mail|メール|アドレス)[^@\n]{{0,24}}?(?<!{_LOCAL})({_LOCAL}++(?: @ ?|@ | at ){_LABELS})",
    re.IGNORECASE,
)


def emails(text: str) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of each address in folded ``text``."""
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield from _trimmed(text, *found.span())
    if "." not in text and "dot" not in text.lower() and "ドット" not in text:
        return
    for found in _DISGUISED.finditer(text):
        yield from _trimmed(text, *found.span())
    for found in _SPELT.finditer(text):
        yield from _trimmed(text, *found.span(1))


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Without the dots and quotes that lead up to an address; nothing where no local part is left."""
    while text[start] in ".'-%":
        start += 1
    if text[start] != "@":
        yield "EMAIL", start, end
