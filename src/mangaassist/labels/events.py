"""Implicit feedback: the records of what was shown and done, and of what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa

from mangaassist.core.identity import digest
from mangaassist.governance.redaction import redact

KINDS = ("impression", "click", "dwell", "cart", "purchase", "return")
MOST_POSITIONS = 200
LONGEST_QUERY = 2_000
_MOST_PAYLOAD = 2_000
_MOST_SHOWN = 80
_UTC = pa.timestamp("us", tz="UTC")
EVENT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("at", _UTC, nullable=False),
        pa.field("known_at", _UTC, nullable=False),
        pa.field("surface", pa.string()),
        pa.field("device", pa.string()),
        pa.field("language", pa.string()),
        pa.field("user", pa.string()),
        pa.field("query", pa.string()),
        pa.field("items", pa.string()),
        pa.field("randomised", pa.string()),
        pa.field("item", pa.string()),
        pa.field("position", pa.int32()),
        pa.field("dwell_ms", pa.float64()),
    ]
)
"""One event a row. An impression names the list: ``surface``, ``device``, ``language``, ``query``, ``items``
in order of position (JSON) and ``randomised``, the positions whose items were shuffled evenly among
themselves (JSON; empty for none); personal data is taken out of the query. Every other kind names the
``item`` and ``position`` acted on. ``at`` is when it happened, ``known_at`` when it arrived, ``user`` a
digest, ``event_id`` the producer's key."""
REFUSAL_SCHEMA = pa.schema(
    [
        pa.field("refusal_id", pa.string(), nullable=False),
        pa.field("known_at", _UTC, nullable=False),
        pa.field("event_id", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("sentence", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
    ]
)
"""One refused event a row; ``payload`` is what came, without anything that could name a user."""


@dataclass(frozen=True, slots=True)
class EventLimits:
    """Which events are believable.

    Attributes:
        skew: how far clocks may disagree.
        oldest: how long after it happened an event may still arrive.
        resend: how long after an event arrived its copy is still recognised in the table.
    """

    skew: timedelta = timedelta(minutes=5)
    oldest: timedelta = timedelta(days=30)
    resend: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One event that cannot be used.

    Attributes:
        event_id: its key; None when it has none.
        reason: a stable name ("from_the_future").
        sentence: what was expected and what came.
        payload: the event as JSON text; a digest where it is none.
    """

    event_id: str | None
    reason: str
    sentence: str
    payload: str

    def as_row(self, known_at: datetime) -> dict[str, Any]:
        """The row as the spool keeps it; the same event refused twice has the same ``refusal_id``."""
        return {
            "refusal_id": digest([self.reason, self.payload])[:32],
            "known_at": known_at,
            "event_id": self.event_id,
            "reason": self.reason,
            "sentence": self.sentence,
            "payload": self.payload,
        }


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for an event that is no JSON; ``place`` says where it stood, ``content`` is a digest."""

    place: str
    content: str


def refuse(
    row: Mapping[str, Any], reason: str, field: str, expected: str, *, got: str | None = None
) -> Refusal:
    """The refusal of ``row`` for what its ``field`` holds, or for what ``got`` says in its stead."""
    if got is None:
        # Two values are never repeated: they may say who somebody is.
        got = "something else" if field in ("user", "query") else _shown(row.get(field))
    return Refusal(_key(row), reason, f"{field}: expected {expected}, got {got}.", _payload(row))


def _key(row: Mapping[str, Any]) -> str | None:
    key = row.get("event_id")
    return key if isinstance(key, str) and key.isprintable() else None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = _text(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


def _payload(row: Mapping[str, Any]) -> str:
    """The event as it came, in short, without what may name a person: its user and fields nobody knows."""
    kept = {name: row[name] for name in EVENT_SCHEMA.names if name != "user" and row.get(name) is not None}
    query = kept.pop("query", None)
    if isinstance(query, str):
        kept["query"] = clean(query[:LONGEST_QUERY])
    return _text(kept)[:_MOST_PAYLOAD]


@lru_cache(maxsize=50_000)
def clean(query: str) -> str:
    """The query without personal data (GOV-2); the same few are asked again and again."""
    return redact(query).text


def _text(value: Any) -> str:
    # Refused values are of any kind; what JSON cannot spell is shown as Python does, in ASCII.
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS).decode()
    except (TypeError, orjson.JSONEncodeError):
        return ascii(value)
