"""A simulated example together with what only the simulation knows about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mangaassist.core.identity import canonical_text, example_id
from mangaassist.core.language import Language, detect_language
from mangaassist.labels.records import Example
from mangaassist.simulation.conversations import Turn
from mangaassist.simulation.shoppers import DEVICES, Shoppers

STORY = "intent"


@dataclass(frozen=True, slots=True)
class Sample:
    """One example and its truth. Only ``example`` may be stored; the rest labels and scores it.

    Attributes:
        example: the row for the examples table.
        example_id: its identity under the intent story.
        intent: what was meant.
        family: the phrasing family it came from.
        language: by script, as the platform sees it.
    """

    example: Example
    example_id: str
    intent: str
    family: str
    language: Language

    @property
    def captured_at(self) -> datetime:
        return self.example.captured_at


def samples_of(turns: Iterable[Turn], shoppers: Shoppers, *, role: str) -> list[Sample]:
    """One sample per distinct text, at its first occurrence, in the order of ``turns``."""
    seen: set[str] = set()
    found: list[Sample] = []
    for turn in turns:
        key = canonical_text(turn.utterance.text)
        if key not in seen:
            seen.add(key)
            found.append(_sample(turn, shoppers, role))
    return found


def _sample(turn: Turn, shoppers: Shoppers, role: str) -> Sample:
    said = turn.utterance
    language = detect_language(said.text)
    attributes = {
        "user_id": shoppers.user_ids[turn.shopper],
        "device": DEVICES[int(shoppers.device[turn.shopper])],
        "turn": turn.turn,
        "catalog_tier": said.tier,
        "simulated_family": said.family,
    }
    example = Example(said.text, turn.at, role, language, turn.conversation, attributes, "simulation")
    return Sample(example, example_id(said.text, STORY), said.intent, said.family, language)
