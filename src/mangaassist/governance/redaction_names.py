"""Names of people, only where an honorific says that it is one.

In a manga shop さん and ちゃん are part of titles and characters, so a Japanese name must be a frequent
surname or given name, a full name, or stand in a salutation; known titles and whatever stands in 『』 are
left alone. The honorific stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

_HONORIFIC = re.compile(
    r" ?(?P<honorific>様(?![々子式相態])|さま|さん(?!が日|ざん)|氏(?![名族神])|ちゃん|くん"
    r"|君(?![主臨]))(?:方)?"
)
_KANJI_RUN = re.compile(r"[一-龥々〆ヶ]+$")
_KANA_RUN = re.compile(r"(?:[ァ-ヶー]+|[ぁ-ん]+)$")
_FOREIGN = re.compile(r"(?<![ァ-ヶー・])[ァ-ヶー]{2,12}(?:・[ァ-ヶー]{2,12}){1,2}$")
_PARTICLE = re.compile(r"(?:^|[^ぁ-んァ-ヶー]|[はがのをにとでもへや])$")
_VOLUME = re.compile(r"の? ?(?:第 ?)?[0-9]+(?:-[0-9]+)? ?巻")
_IN_TITLE_QUOTES = re.compile(r"『[^』]*』")
_LONGEST = 16

_WORD = r"(?:[A-Z]\.|[A-Z][A-Za-zÀ-ÿ]*(?:['’-][A-Z]?[a-zÀ-ÿ]+)*)"
_NOT_A_NAME = (
    r"(?!(?:Vol|Volume|Please|Thank|Thanks|The|This|That|Is|Can|Could|Will|Would|And|But|What|When"
    r"|Where|Who|How|Why|My"
    r"|Your|Our|Order|Manga|I|I'm|You|We|He|She|It|PLEASE|THANKS)\b)"
)
_TITLED = re.compile(
    rf"\b(?:(?:Mr|Mrs|Ms|Mx|Dr|Prof)(?:\. ?| )|(?:MR|MRS|MS"
    rf"|DR)\. ?)(?P<name>{_NOT_A_NAME}{_WORD}(?: {_NOT_A_NAME}{_WORD}){{0,2}})"
)


@dataclass(frozen=True, slots=True)
class _Lexicon:
    surnames: Mapping[str, str]
    given: Mapping[str, str]
    surname_readings: frozenset[str]
    given_readings: frozenset[str]
    lead_words: tuple[str, ...]
    not_names: frozenset[str]
    titles: re.Pattern[str]


def names(text: str) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of each name in folded ``text``, without its honorific."""
    found = [span for at in _HONORIFIC.finditer(text) if (span := _japanese(text, at)) is not None]
    for titled in _TITLED.finditer(text):
        start, end = titled.span("name")
        found.append((start, end - 2 if text[start:end].endswith(("'s", "’s")) else end))
    if not found:
        return
    closed = _titles(text)
    for start, end in found:
        if not any(first <= start < last or first < end <= last for first, last in closed):
            yield "NAME", start, end


def _titles(text: str) -> list[tuple[int, int]]:
    """Spans of known titles and of everything in 『』, the brackets of a title."""
    spans = [quoted.span() for quoted in _IN_TITLE_QUOTES.finditer(text)]
    spans += [title.span() for title in _lexicon().titles.finditer(text)]
    return spans


def _japanese(text: str, at: re.Match[str]) -> tuple[int, int] | None:
    if _VOLUME.match(text, at.end()):
        return None
    end = at.start()
    before = text[max(0, end - _LONGEST) : end]
    length = _length(before, at["honorific"])
    return (end - length, end) if length else None


def _length(before: str, honorific: str) -> int:
    """How many characters at the end of ``before`` are a name; 0 for none."""
    kanji = _KANJI_RUN.search(before)
    if kanji is not None:
        return _kanji_name(before, kanji.start(), honorific)
    foreign = _FOREIGN.search(before) if honorific in {"様", "さま", "さん", "氏"} else None
    if foreign is not None:
        return len(foreign[0])
    kana = _KANA_RUN.search(before)
    return _kana_name(before, kana.start()) if kana is not None else 0


def _kanji_name(before: str, start: int, honorific: str) -> int:
    lexicon = _lexicon()
    run = before[start:]
    for word in lexicon.lead_words:
        if run.startswith(word) and len(run) > len(word):
            run = run.removeprefix(word)
            break
    if run in lexicon.not_names:
        return 0
    previous = _KANJI_RUN.search(before[:start].removesuffix(" ")) if before[:start].endswith(" ") else None
    if previous is not None and (
        previous[0] in lexicon.surnames or (run in lexicon.given and len(previous[0]) <= 4)
    ):
        return len(run) + 1 + len(previous[0])
    if _is_full_name(run, lexicon) or run in lexicon.given:
        return len(run)
    opening = (len(before) < _LONGEST and start == 0) or before[start - 1 : start] == "\n"
    salutation = honorific == "様" and opening and 2 <= len(run) <= 5
    return len(run) if salutation and not _ends_as_office(run, lexicon) else 0


def _is_full_name(run: str, lexicon: _Lexicon) -> bool:
    """A surname alone or with one to three kanji that are no shop, place or office."""
    for length in range(min(3, len(run)), 0, -1):
        if run[:length] in lexicon.surnames:
            rest = run[length:]
            return not rest or (len(rest) <= 3 and not _ends_as_office(rest, lexicon))
    return False


def _ends_as_office(run: str, lexicon: _Lexicon) -> bool:
    return any(run.endswith(word) for word in lexicon.not_names)


def _kana_name(before: str, start: int) -> int:
    """A name by its reading: タナカ, たなか, タナカ タロウ, 田中はなこ."""
    lexicon = _lexicon()
    run = _hiragana(before[start:])
    ahead = before[:start]
    if run in lexicon.given_readings:
        surname = _KANJI_RUN.search(ahead.removesuffix(" "))
        if surname is not None and surname[0] in lexicon.surnames:
            return len(before) - surname.start()
        earlier = _KANA_RUN.search(ahead.removesuffix(" ")) if ahead.endswith(" ") else None
        if earlier is not None and _hiragana(earlier[0]) in lexicon.surname_readings:
            return len(before) - earlier.start()
    for length in range(min(6, len(run)), 2, -1):
        reading = run[-length:]
        if reading not in lexicon.surname_readings and reading not in lexicon.given_readings:
            continue
        if _PARTICLE.search(before[: len(before) - length]):
            return length
    return 0


def _hiragana(kana: str) -> str:
    return "".join(chr(ord(one) - 0x60) if "ァ" <= one <= "ヶ" else one for one in kana)


@lru_cache(maxsize=1)
def _lexicon() -> _Lexicon:
    from importlib import resources

    import yaml

    source = resources.files("mangaassist.governance").joinpath("redaction_names.yaml")
    words = yaml.safe_load(source.read_text(encoding="utf-8"))
    surnames, given = words["surnames"], words["given"]
    return _Lexicon(
        surnames=surnames,
        given=given,
        surname_readings=frozenset(reading for reading in surnames.values() if len(reading) >= 3),
        given_readings=frozenset(reading for reading in given.values() if len(reading) >= 3),
        lead_words=tuple(words["lead_words"]),
        not_names=frozenset(words["not_names"]),
        # Longest first, any case, with or without the spaces: Dr. Stone is also Dr.STONE.
        titles=re.compile(
            "|".join(
                re.escape(title).replace(r"\ ", " ?")
                for title in sorted(words["titles"], key=len, reverse=True)
            ),
            re.IGNORECASE,
        ),
    )
