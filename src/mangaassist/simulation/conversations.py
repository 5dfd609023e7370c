"""Simulated conversations of one to five turns, and the season that changes what they are about.

A day is generated at a time from its own generator, so that any window of any day can be replayed alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from mangaassist.simulation.catalog import Manga, Popularity
from mangaassist.simulation.draws import cumulate, draws, pick, pick_weighted
from mangaassist.simulation.phrasings import (
    INTENTS,
    LANGUAGES,
    OUT_OF_SCOPE,
    Families,
    Utterance,
    speak,
)
from mangaassist.simulation.shoppers import DAY, DEVICES, HOUR_SHARES, LOCALES, Shoppers

LABELS = (*INTENTS, OUT_OF_SCOPE)
MIX = {
    "search_title": 0.13,
    "recommendation": 0.10,
    "product_detail": 0.07,
    "series_info": 0.08,
    "stock_availability": 0.10,
    "price_promotion": 0.08,
    "order_status": 0.11,
    "shipping_info": 0.06,
    "return_request": 0.06,
    "payment_issue": 0.04,
    "account_help": 0.04,
    "review_opinion": 0.04,
    "escalation": 0.05,
    "greeting_chitchat": 0.03,
    "out_of_scope": 0.04,
}
"""Relative weight of each label among the utterances that do not follow from the one before."""

# What tends to follow within one conversation.
_NEXT = {
    "search_title": ("stock_availability", "price_promotion", "product_detail", "series_info"),
    "recommendation": ("review_opinion", "search_title", "series_info", "price_promotion"),
    "order_status": ("shipping_info", "escalation", "return_request", "order_status"),
    "return_request": ("order_status", "payment_issue", "escalation", "return_request"),
    "stock_availability": ("price_promotion", "shipping_info", "search_title"),
    "payment_issue": ("account_help", "escalation", "order_status"),
    "greeting_chitchat": ("search_title", "recommendation", "order_status", "account_help"),
    "escalation": ("order_status", "return_request", "escalation"),
}
_FOLLOWS = 0.35
_LANGUAGE_SHARES = ((0.98, 0.0, 0.02), (0.02, 0.86, 0.12), (0.40, 0.30, 0.30))
_TURNS = (1, 2, 3, 4, 5)
_TURN_SHARES = (0.45, 0.25, 0.15, 0.10, 0.05)
MEAN_TURNS = float(np.dot(_TURNS, _TURN_SHARES))


@dataclass(frozen=True, slots=True)
class Season:
    """A planted event: an anime collaboration, and later a recall of its misprinted special edition.

    Attributes:
        begins: when the collaboration starts: its audience and its vocabulary.
        audience: weight of Japanese app shoppers relative to before.
        vocabulary: share of utterances put in season phrasings, where an intent and language has any.
        surge_begins: when pre-order questions surge; None for never.
        surge: weight of stock_availability relative to before.
        recall_begins: when the recall starts; None for never.
        recall: share of Japanese utterances that ask to send a recalled edition back.
    """

    begins: datetime
    audience: float = 6.0
    vocabulary: float = 0.35
    surge_begins: datetime | None = None
    surge: float = 1.6
    recall_begins: datetime | None = None
    recall: float = 0.25


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance in its conversation.

    Attributes:
        at: when it was sent.
        shopper: index of who sent it.
        conversation: identity of the conversation; turn: 1 for its first utterance.
        utterance: what was said and meant.
    """

    at: datetime
    shopper: int
    conversation: str
    turn: int
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a conversation needs: who, about what, in which words, under which event."""

    shoppers: Shoppers
    families: Families
    catalog: tuple[Manga, ...]
    asked: Popularity
    season: Season | None = None


def converse(stage: Stage, generator: np.random.Generator, *, day: datetime, turns: int) -> list[Turn]:
    """About ``turns`` utterances of the UTC day that starts at ``day``, in order of time.

    Conversations that begin shortly before midnight may end after it.
    """
    count = int(generator.poisson(turns / MEAN_TURNS))
    if count == 0:
        return []
    who, seconds = _starts(stage, generator, day, count)
    lengths = generator.choice(_TURNS, size=count, p=_TURN_SHARES)
    draw = draws(generator)
    found: list[Turn] = []
    for number, (shopper, second, length) in enumerate(
        zip(who.tolist(), seconds.tolist(), lengths.tolist(), strict=True)
    ):
        name, at = f"c{day:%Y%m%d}-{number:05d}", day + timedelta(milliseconds=int(second * 1e3))
        found.extend(_conversation(stage, draw, name=name, shopper=shopper, at=at, length=length))
    return sorted(found, key=lambda turn: (turn.at, turn.conversation, turn.turn))


def _starts(
    stage: Stage, generator: np.random.Generator, day: datetime, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(count,) shoppers and the second of the day each starts a conversation at."""
    shoppers, season = stage.shoppers, stage.season
    noon = day.timestamp() + DAY / 2
    weight = shoppers.activity * (shoppers.created <= noon)
    if season is not None and season.begins.timestamp() <= noon:
        app = shoppers.device != DEVICES.index("web")
        fans = (shoppers.locale == LOCALES.index("ja-JP")) & app
        weight = np.where(fans, weight * season.audience, weight)
    who = generator.choice(len(shoppers), size=count, p=weight / weight.sum())
    cumulative = np.cumsum(HOUR_SHARES, axis=1)[shoppers.locale[who]]
    hour = (generator.random((count, 1)) >= cumulative[:, :-1]).sum(axis=1)
    return who, (hour + generator.random(count)) * 3600.0


def _conversation(
    stage: Stage, draw: Iterator[float], *, name: str, shopper: int, at: datetime, length: int
) -> list[Turn]:
    register = int(stage.shoppers.register[shopper])
    shares = _CUMULATIVE_LANGUAGES[int(stage.shoppers.locale[shopper])]
    found: list[Turn] = []
    intent = ""
    for turn in range(1, length + 1):
        language = pick_weighted(LANGUAGES, shares, next(draw))
        intent = _next_intent(stage.season, at, intent, draw)
        intent, role = _under_season(stage, at, intent, language, draw)
        family = pick(stage.families[(intent, language, role)], next(draw))
        said = speak(family, draw, catalog=stage.catalog, asked=stage.asked, register=register)
        found.append(Turn(at, shopper, name, turn, said))
        at += timedelta(milliseconds=15_000 + int(90_000 * next(draw)))
    return found


_CUMULATIVE_LANGUAGES = tuple(cumulate(shares) for shares in _LANGUAGE_SHARES)
_CUMULATIVE_MIX = cumulate([MIX[label] for label in LABELS])


def _next_intent(season: Season | None, at: datetime, before: str, draw: Iterator[float]) -> str:
    if before in _NEXT and next(draw) < _FOLLOWS:
        return pick(_NEXT[before], next(draw))
    intent = pick_weighted(LABELS, _CUMULATIVE_MIX, next(draw))
    if season is None or season.surge_begins is None or at < season.surge_begins:
        return intent
    # Other intents give way until stock_availability is asked `surge` times as often.
    share = MIX["stock_availability"] / sum(MIX.values())
    gives_way = share * (season.surge - 1.0) / (1.0 - share)
    return "stock_availability" if next(draw) < gives_way else intent


def _under_season(
    stage: Stage, at: datetime, intent: str, language: str, draw: Iterator[float]
) -> tuple[str, str]:
    """The intent and family role of one utterance once the season has had its say."""
    season = stage.season
    if season is None or at < season.begins:
        return intent, "train"
    recalled = season.recall_begins is not None and at >= season.recall_begins
    if recalled and language == "ja" and next(draw) < season.recall:
        return "return_request", "recall"
    if (intent, language, "season") in stage.families and next(draw) < season.vocabulary:
        return intent, "season"
    return intent, "train"


def midnight(instant: datetime) -> datetime:
    """The start of the UTC day that ``instant`` lies in."""
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
