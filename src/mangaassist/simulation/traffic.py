"""Simulated requests, and what becomes of an answer: resolved or not, known minutes to days later."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist

import numpy as np

from mangaassist.core.identity import request_id
from mangaassist.core.language import detect_language
from mangaassist.simulation.conversations import Turn
from mangaassist.simulation.phrasings import OUT_OF_SCOPE
from mangaassist.simulation.shoppers import DEVICES, Shoppers, cohorts

SAFETY_CRITICAL = ("return_request", "escalation")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it reaches the model server, plus the truth, which the server never sees.

    Attributes:
        request_id: unique, and the key of its chance: the same answer always has the same outcome.
        at: when it arrives.
        user_id, text, language, device, cohort: what the server and its log see.
        true_intent, family: what only the simulation knows.
        turn: the conversation turn it is, for drawing labels on traffic.
    """

    request_id: str
    at: datetime
    user_id: str
    text: str
    language: str
    device: str
    cohort: str
    true_intent: str
    family: str
    turn: Turn


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one answered request.

    Attributes:
        request_id: whose.
        resolved: whether the shopper got what they came for.
        asked_human: whether they asked for a person afterwards.
        known_at: when the shop learns of it.
    """

    request_id: str
    resolved: bool
    asked_human: bool
    known_at: datetime


def requests_of(turns: Iterable[Turn], shoppers: Shoppers, generator: np.random.Generator) -> list[Request]:
    """``turns`` as requests, in the same order."""
    turns = list(turns)
    who = np.array([turn.shopper for turn in turns], dtype=np.int64)
    when = np.array([turn.at.timestamp() for turn in turns], dtype=np.float64)
    return [
        Request(
            request_id=request_id(generator),
            at=turn.at,
            user_id=shoppers.user_ids[turn.shopper],
            text=turn.utterance.text,
            language=str(detect_language(turn.utterance.text)),
            device=DEVICES[int(shoppers.device[turn.shopper])],
            cohort=cohort,
            true_intent=turn.utterance.intent,
            family=turn.utterance.family,
            turn=turn,
        )
        for turn, cohort in zip(turns, cohorts(shoppers, who, when), strict=True)
    ]


# Simulated chances of (being resolved, asking for a person afterwards), by what the answer was worth.
_CHANCES = {
    "right": (0.88, 0.04),
    "handed_over": (0.86, 1.00),
    "declined": (0.80, 0.05),
    "abstained": (0.50, 0.20),
    "wrong": (0.22, 0.40),
    "wrong_and_critical": (0.10, 0.60),
}
_RESOLVED_MINUTES, _UNRESOLVED_MINUTES = 20.0, 480.0
_LONGEST = timedelta(days=5)


def worth(true_intent: str, label: str, abstains: bool) -> str:
    """What an answer is worth to a shopper who meant ``true_intent``."""
    if true_intent == OUT_OF_SCOPE:
        return "declined" if abstains or label == OUT_OF_SCOPE else "wrong"
    if abstains or label == OUT_OF_SCOPE:
        return "abstained"
    if label != true_intent:
        return "wrong_and_critical" if true_intent in SAFETY_CRITICAL else "wrong"
    return "handed_over" if label == "escalation" else "right"


def outcome(request: Request, label: str, *, abstains: bool) -> Outcome:
    """What becomes of answering ``request`` with ``label``.

    The chance involved belongs to the request, not to the arm that answered it, so two models compared on
    the same request differ only where their answers do.
    """
    resolves, asks = _CHANCES[worth(request.true_intent, label, abstains)]
    first, second, third = _chance(request.request_id)
    resolved = first < resolves
    median = _RESOLVED_MINUTES if resolved else _UNRESOLVED_MINUTES
    minutes = median * math.exp(_SPREAD.inv_cdf(min(max(third, 1e-9), 1 - 1e-9)))
    return Outcome(
        request.request_id,
        resolved,
        second < asks,
        request.at + min(timedelta(minutes=minutes), _LONGEST),
    )


_SPREAD = NormalDist(0.0, 0.9)


def _chance(identity: str) -> tuple[float, float, float]:
    """Three uniform numbers in [0, 1) that belong to a request id."""
    data = hashlib.sha256(identity.encode()).digest()
    first, second, third = (int.from_bytes(data[i : i + 6], "big") / 2**48 for i in (0, 6, 12))
    return first, second, third
