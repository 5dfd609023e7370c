"""The prediction log: one row for every answered request and every shadow copy, never the text itself.

An answer counts as given only when its rows are durable: :meth:`PredictionLog.write` returns after the
spool has fsynced, and the server replies after that. Rows move from the spool into the tables
``predictions.<story>`` and ``outcomes.<story>`` exactly once, by :meth:`PredictionLog.drain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.storage.spool import Spool
from mangaassist.storage.tables import Tables

_UTC = pa.timestamp("us", tz="UTC")
PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("at", _UTC, nullable=False),
        pa.field("story", pa.string(), nullable=False),
        pa.field("version", pa.int32()),
        pa.field("answered_by", pa.int32()),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("shadow_of", pa.string()),
        pa.field("user", pa.string()),
        pa.field("language", pa.string(), nullable=False),
        pa.field("cohort", pa.string()),
        pa.field("device", pa.string()),
        pa.field("input_digest", pa.string(), nullable=False),
        pa.field("text_length", pa.int32(), nullable=False),
        pa.field("japanese_share", pa.float64(), nullable=False),
        pa.field("unknown_share", pa.float64()),
        pa.field("label", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("abstains", pa.bool_(), nullable=False),
        pa.field("latency_ms", pa.float64(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("features_stale", pa.bool_(), nullable=False),
    ]
)
OUTCOME_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("story", pa.string(), nullable=False),
        pa.field("resolved", pa.bool_(), nullable=False),
        pa.field("known_at", _UTC, nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One row of the log.

    Attributes:
        request_id: the request; a shadow copy has its own id and names the request in ``shadow_of``.
        at: when the request arrived.
        version: the version the request was routed to; None when the story has no model yet.
        answered_by: the version whose answer was given; differs after a fallback, None for no answer.
        arm: "champion", "canary", "holdout" or "shadow".
        epoch: the deployment it was routed by.
        user: digest of the user id; None for an anonymous request.
        input_digest: digest of the text.
        text_length: in characters.
        japanese_share: part of the non-space characters in Japanese script, in [0, 1].
        unknown_share: part of the words the model has never seen; None when the model does not tell.
        label, confidence, abstains: the answer.
        latency_ms: from routing to answer, in milliseconds, a failed attempt included.
        error: type name of the exception the routed version raised; None when it answered.
        features_stale: whether a feature behind the answer was older than it may be.
    """

    request_id: str
    at: datetime
    story: str
    version: int | None
    answered_by: int | None
    arm: str
    epoch: int
    shadow_of: str | None
    user: str | None
    language: str
    cohort: str | None
    device: str | None
    input_digest: str
    text_length: int
    japanese_share: float
    unknown_share: float | None
    label: str | None
    confidence: float | None
    abstains: bool
    latency_ms: float
    error: str | None
    features_stale: bool = False

    def as_row(self) -> dict[str, Any]:
        """The row as the spool keeps it."""
        return {name: getattr(self, name) for name in _COLUMNS}


_COLUMNS = tuple(PREDICTION_SCHEMA.names)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an answered request.

    Attributes:
        resolved: whether the shopper got what the answer was for.
        known_at: when that became known; evidence before this instant must not use it.
    """

    request_id: str
    story: str
    resolved: bool
    known_at: datetime

    def as_row(self) -> dict[str, Any]:
        """The row as the spool keeps it."""
        return {
            "request_id": self.request_id,
            "story": self.story,
            "resolved": self.resolved,
            "known_at": self.known_at,
        }


class Appends(Protocol):
    """Where records become durable: a spool, or a twin in a test."""

    def append(self, records: Sequence[Mapping[str, Any]]) -> None: ...


def predictions_table(story: str) -> str:
    """The table a story's prediction rows end up in."""
    return f"predictions.{story}"


def outcomes_table(story: str) -> str:
    """The table a story's outcomes end up in."""
    return f"outcomes.{story}"


class PredictionLog:
    """The durable log of one story; safe to share between threads."""

    def __init__(self, story: str, predictions: Spool, outcomes: Spool) -> None:
        self.story = story
        self._predictions = predictions
        self._outcomes = outcomes

    @classmethod
    def open(cls, home: Home, story: str) -> PredictionLog:
        """The log of ``story`` in ``home``; what an earlier process left behind is drained with the rest."""
        folder = home.folder("spool")
        return cls(story, Spool(folder / predictions_table(story)), Spool(folder / outcomes_table(story)))

    def write(self, records: Sequence[PredictionRecord]) -> None:
        """Make ``records`` durable; returns after the fsync.

        Raises:
            Unavailable: the disk is full; none of the records counts as written.
        """
        self._predictions.append([record.as_row() for record in records])

    def write_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Make ``outcomes`` durable; returns after the fsync.

        Raises:
            InputError: an outcome of another story.
        """
        for outcome in outcomes:
            if outcome.story != self.story:
                raise InputError(
                    "outcome.story",
                    expected=self.story,
                    got=outcome.story,
                    next_step="Send it to its own story.",
                )
        self._outcomes.append([outcome.as_row() for outcome in outcomes])

    def drain(self, tables: Tables) -> int:
        """Move what is durable into the tables, exactly once; returns the number of rows moved."""
        moved = self._predictions.drain(tables, predictions_table(self.story), PREDICTION_SCHEMA)
        return moved + self._outcomes.drain(tables, outcomes_table(self.story), OUTCOME_SCHEMA)

    def waiting(self) -> tuple[pa.Table | None, pa.Table | None]:
        """Predictions and outcomes that :meth:`drain` has not moved yet; None for none."""
        return self._predictions.waiting(PREDICTION_SCHEMA), self._outcomes.waiting(OUTCOME_SCHEMA)

    def pending(self) -> int:
        """How many durable rows wait for :meth:`drain`."""
        return self._predictions.pending() + self._outcomes.pending()

    def close(self) -> None:
        """Release the files; pending rows stay on disk for the next drain."""
        self._predictions.close()
        self._outcomes.close()
