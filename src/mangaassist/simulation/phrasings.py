"""How shoppers say things: phrasing families per intent and language, kept apart by role.

A family is one way of putting an intent: a template with free choices ``[a|b]``, choices bound to the
speaker's register ``<keigo|polite|casual>`` and slots ``{title}``. Families of role ``golden`` are never
used for training or traffic, so that golden accuracy measures phrasings the model has not seen; ``season``
and ``recall`` families only occur once the simulated event of that name has begun.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from mangaassist.core.errors import InputError
from mangaassist.simulation.catalog import Manga, Popularity
from mangaassist.simulation.draws import pick, pick_weighted

LANGUAGES = ("en", "ja", "mixed")
ROLES = ("train", "golden", "season", "recall")
REGISTERS = ("formal", "polite", "casual")
OUT_OF_SCOPE = "out_of_scope"
INTENTS = (
    "search_title",
    "recommendation",
    "product_detail",
    "series_info",
    "stock_availability",
    "price_promotion",
    "order_status",
    "shipping_info",
    "return_request",
    "payment_issue",
    "account_help",
    "review_opinion",
    "escalation",
    "greeting_chitchat",
)

_PART = re.compile(r"\[([^\]]*)\]|<([^>]*)>|\{([a-z_0-9]+)\}")

_TOPICS_EN = (
    "cooking chef",
    "detective cat",
    "samurai",
    "volleyball club",
    "time traveller",
    "shy vampire",
    "high school band",
    "mecha pilot",
    "ghost hunter",
    "office couple",
    "dragon egg",
    "doctor",
)
_TOPICS_JA = (
    "料理人",
    "探偵の猫",
    "侍",
    "バレー部",
    "タイムトラベル",
    "吸血鬼",
    "軽音部",
    "ロボット操縦士",
    "幽霊退治",
    "社内恋愛",
    "ドラゴン",
    "医者",
)
_GENRES = (
    ("romance", "恋愛"),
    ("horror", "ホラー"),
    ("sports", "スポーツ"),
    ("fantasy", "ファンタジー"),
    ("mystery", "ミステリー"),
    ("comedy", "ギャグ"),
    ("science fiction", "SF"),
    ("historical", "歴史"),
    ("cooking", "グルメ"),
    ("isekai", "異世界"),
    ("slice of life", "日常系"),
    ("school", "学園"),
)
_PRICES = ("1200", "3500", "480", "5980", "9800", "15000", "660")
_NUMBERED = {"vol": 30, "days": 12, "n": 6}


@dataclass(frozen=True, slots=True)
class Family:
    """One way of putting one intent in one language.

    Attributes:
        intent, language, role: what it says, in what, and where it may be used.
        name: unique within the intent.
        parts: the template cut into (kind, values): "text" (one value), "any" (choices), "register"
            (choices by register) and "slot" (one slot name).
    """

    intent: str
    language: str
    role: str
    name: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def identity(self) -> str:
        return f"{self.intent}/{self.name}"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One simulated sentence.

    Attributes:
        text: what was typed.
        intent: what was meant.
        family: identity of the phrasing family.
        tier: catalogue tier of the first work it names; empty when it names none.
    """

    text: str
    intent: str
    family: str
    tier: str


Families = Mapping[tuple[str, str, str], tuple[Family, ...]]


@cache
def read_families() -> Families:
    """All families of the package by (intent, language, role).

    Raises:
        InputError: for a line with a wrong language, role or slot.
    """
    found: dict[tuple[str, str, str], list[Family]] = {}
    folder = resources.files("mangaassist.simulation").joinpath("data/phrasings")
    for intent in (*INTENTS, OUT_OF_SCOPE):
        lines = folder.joinpath(f"{intent}.tsv").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines[1:], start=2):
            family = _family(intent, line, where=f"{intent}.tsv line {number}")
            found.setdefault((intent, family.language, family.role), []).append(family)
    return {key: tuple(families) for key, families in found.items()}


def _family(intent: str, line: str, *, where: str) -> Family:
    fields = line.split("\t")
    if len(fields) != 4 or fields[0] not in LANGUAGES or fields[1] not in ROLES:
        raise InputError(
            where,
            expected="language, role, family and template",
            got=repr(line[:60]),
            next_step="Reinstall the package: the file was changed.",
        )
    language, role, name, template = fields
    return Family(intent, language, role, name, _compile(template))


def _compile(template: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    parts: list[tuple[str, tuple[str, ...]]] = []
    end = 0
    for match in _PART.finditer(template):
        if match.start() > end:
            parts.append(("text", (template[end : match.start()],)))
        free, register, slot = match.groups()
        if slot is not None:
            parts.append(("slot", (slot,)))
        elif register is not None:
            parts.append(("register", tuple(register.split("|"))))
        else:
            parts.append(("any", tuple(free.split("|"))))
        end = match.end()
    if end < len(template):
        parts.append(("text", (template[end:],)))
    return tuple(parts)


def speak(
    family: Family,
    draw: Iterator[float],
    *,
    catalog: tuple[Manga, ...],
    asked: Popularity,
    register: int,
) -> Utterance:
    """One sentence of ``family`` in the words of ``register``: 0 formal, 1 polite, 2 casual."""
    context = _Slots(catalog, asked, family.language, draw)
    pieces: list[str] = []
    for kind, values in family.parts:
        if kind == "text":
            pieces.append(values[0])
        elif kind == "slot":
            pieces.append(context.fill(values[0]))
        else:
            index = register if kind == "register" else int(next(draw) * len(values))
            pieces.append(_inner(values[min(index, len(values) - 1)], context))
    text = _typed("".join(pieces), family.language, register, draw)
    return Utterance(text, family.intent, family.identity, context.tier)


def _inner(choice: str, context: _Slots) -> str:
    if "{" not in choice:
        return choice
    return _PART.sub(lambda match: context.fill(match.group(3)), choice)


class _Slots:
    """Values for the slots of one sentence; the first work named decides author, genre and tier."""

    def __init__(
        self, catalog: tuple[Manga, ...], asked: Popularity, language: str, draw: Iterator[float]
    ) -> None:
        self._catalog, self._asked, self._language, self._draw = catalog, asked, language, draw
        self._work: Manga | None = None
        self.tier = ""

    def fill(self, slot: str) -> str:
        name, _, suffix = slot.rpartition("_")
        if suffix in ("en", "ja", "en2"):
            return self._named(name, japanese=suffix == "ja", other=suffix == "en2")
        if slot in _NUMBERED:
            return str(1 + int(next(self._draw) * _NUMBERED[slot]))
        if slot == "order":
            return f"MA-{100_000 + int(next(self._draw) * 900_000)}"
        if slot == "price":
            return pick(_PRICES, next(self._draw))
        japanese = self._language == "ja" or (self._language == "mixed" and next(self._draw) < 0.5)
        return self._named(slot.rstrip("2"), japanese=japanese, other=slot.endswith("2"))

    def _named(self, slot: str, *, japanese: bool, other: bool) -> str:
        draw = next(self._draw)
        if slot == "topic":
            return pick(_TOPICS_JA if japanese else _TOPICS_EN, draw)
        if slot == "genre":
            return pick(_GENRES, draw)[1 if japanese else 0]
        if other or self._work is None:
            index = pick_weighted(range(len(self._catalog)), self._asked.cumulative, draw)
            work = self._catalog[index]
            if not other:
                self._work, self.tier = work, self._asked.tiers[index]
        else:
            work = self._work
        if slot == "author":
            return (work.authors_ja if japanese else work.authors)[0]
        return work.title_ja if japanese else work.title_en


_OPENERS = {
    "en": (
        ("Hello, ", "Excuse me, ", "Good day. "),
        ("hi, ", "hello, ", "quick question: "),
        ("hey ", "yo ", "ok so "),
    ),
    "ja": (
        ("恐れ入りますが、", "お世話になります。", "失礼いたします。"),
        ("すみません、", "あの、", "こんにちは、"),
        ("ねえ、", "えっと、", "てか"),
    ),
    "mixed": (
        ("恐れ入りますが、", "Hello、", "Excuse me、"),
        ("すみません、", "hi、", "Hello, "),
        ("ねえ、", "hey ", "えっと、"),
    ),
}
_CLOSERS = {
    "en": ((" Thank you.", " Many thanks."), (" thanks", " please"), (" thx", " lol")),
    "ja": (("。よろしくお願いいたします。", "。"), ("。よろしくお願いします", "。"), ("！", "w")),
    "mixed": (("。よろしくお願いいたします。", ", thank you."), ("。", " thanks"), ("！", " pls")),
}
_OPENER_SHARE, _CLOSER_SHARE = 0.15, 0.15
_TYPO_SHARE = {"en": 0.12, "ja": 0.05, "mixed": 0.08}


def _typed(text: str, language: str, register: int, draw: Iterator[float]) -> str:
    """The sentence with what people add and get wrong: greetings, closings, capitals, slips of the finger."""
    if next(draw) < _OPENER_SHARE:
        text = pick(_OPENERS[language][register], next(draw)) + text
    if next(draw) < _CLOSER_SHARE:
        text += pick(_CLOSERS[language][register], next(draw))
    if language == "en":
        text = _cased(text, register, next(draw))
    if next(draw) < _TYPO_SHARE[language]:
        text = _mistyped(text, next(draw), next(draw))
    elif language != "en" and next(draw) < 0.1:
        text = text.translate(_FULL_WIDTH)
    return " ".join(text.split())


_FULL_WIDTH = {ord("0") + digit: ord("０") + digit for digit in range(10)} | {ord("?"): "？", ord("!"): "！"}


def _cased(text: str, register: int, draw: float) -> str:
    if register == 2:
        return text.lower().replace("'", "") if draw < 0.5 else text
    return text[:1].upper() + text[1:] if draw < 0.7 else text


def _mistyped(text: str, where: float, how: float) -> str:
    """One slip: two characters swapped, one dropped, or one doubled."""
    if len(text) < 4:
        return text
    at = 1 + int(where * (len(text) - 3))
    if how < 0.4:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if how < 0.7 else text[:at] + text[at] + text[at:]
