"""The JSON of the HTTP surface, with its limits and examples."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mangaassist.serving.router import Answer

MOST_CHARACTERS = 10_000
MOST_IN_A_BATCH = 256
MOST_OUTCOMES = 1_000

Name = Annotated[str, Field(min_length=1, max_length=200)]


class PredictBody(BaseModel):
    """One text to classify."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"text": "Where is my order?", "user_id": "u-17", "device": "ios", "cohort": "returning"},
                {"text": "返品したいのですが"},
            ]
        },
    )

    text: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS, pattern=r"\S")]
    user_id: Name | None = None
    request_id: Name | None = None
    device: Name | None = None
    cohort: Name | None = None


class BatchBody(BaseModel):
    """Several texts, answered together."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"requests": [{"text": "Where is my order?"}, {"text": "在庫はありますか"}]}]
        },
    )

    requests: Annotated[list[PredictBody], Field(min_length=1, max_length=MOST_IN_A_BATCH)]


class PredictAnswer(BaseModel):
    """The answer to one text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "request_id": "1c0c5d0e-6a0d-4b53-9f0e-5f1f4e1f8a10",
                    "story": "intent",
                    "label": "order_status",
                    "confidence": 0.94,
                    "abstains": False,
                    "probabilities": {"order_status": 0.94, "shipping": 0.03},
                    "version": 3,
                    "arm": "champion",
                    "language": "en",
                    "latency_ms": 0.8,
                    "reason": "",
                }
            ]
        },
    )

    request_id: str
    story: str
    label: str | None
    confidence: float
    abstains: bool
    probabilities: dict[str, float]
    version: int | None
    arm: str
    language: str
    latency_ms: float
    reason: str


class BatchAnswer(BaseModel):
    """The answers, in the order of the requests."""

    predictions: list[PredictAnswer]


class OutcomeBody(BaseModel):
    """What became of one answered request."""

    model_config = ConfigDict(extra="forbid")

    story: Name
    request_id: Name
    resolved: bool
    known_at: datetime | None = None


class OutcomesBody(BaseModel):
    """Outcomes, possibly of several stories."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"outcomes": [{"story": "intent", "request_id": "1c0c5d0e", "resolved": True}]}]
        },
    )

    outcomes: Annotated[list[OutcomeBody], Field(min_length=1, max_length=MOST_OUTCOMES)]


class OutcomesAnswer(BaseModel):
    """How many outcomes are durable now."""

    recorded: int


class ErrorAnswer(BaseModel):
    """Every refusal has this shape."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": "InputError",
                    "field": "story",
                    "expected": "a known story",
                    "got": "'intnet'",
                    "next_step": "Did you mean 'intent'?",
                    "message": "story: expected a known story, got 'intnet'. Did you mean 'intent'?",
                    "exit_code": 2,
                }
            ]
        },
    )

    error: str
    field: str
    expected: str
    got: str
    next_step: str
    message: str
    exit_code: int


class StoryHealth(BaseModel):
    """What is served for one story."""

    champion: int | None
    challenger: int | None
    stage: str
    epoch: int
    stale_seconds: float
    pinned: bool


class HealthAnswer(BaseModel):
    """Whether the process is alive, and whether it should get requests."""

    live: bool
    ready: bool
    reasons: list[str]
    stories: dict[str, StoryHealth]


def answer_body(answer: Answer) -> dict[str, Any]:
    """:class:`PredictAnswer` as a plain dictionary; built by hand because it is the hot path."""
    prediction = answer.prediction
    return {
        "request_id": answer.request_id,
        "story": answer.story,
        "label": prediction.label or None,
        "confidence": prediction.confidence,
        "abstains": prediction.abstains,
        "probabilities": dict(prediction.probabilities),
        "version": answer.version,
        "arm": str(answer.arm),
        "language": str(answer.language),
        "latency_ms": answer.latency_ms,
        "reason": answer.reason,
    }
