"""`POST /v1/stories/{story}/events`: what shoppers did, acknowledged once it is on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from mangaassist.core.identity import user_digest
from mangaassist.serving.api import ErrorAnswer
from mangaassist.serving.service import Service

MOST_EVENTS = 1_000


class EventsBody(BaseModel):
    """A batch of events; send it again with the same keys when no answer came."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "event_id": "7f1c-1",
                            "kind": "impression",
                            "request_id": "7f1c",
                            "at": "2026-11-20T09:30:00Z",
                            "surface": "search",
                            "device": "mobile",
                            "language": "ja",
                            "user_id": "u-17",
                            "query": "異世界 漫画",
                            "items": ["m-12", "m-7", "m-3"],
                        },
                        {
                            "event_id": "7f1c-2",
                            "kind": "dwell",
                            "request_id": "7f1c",
                            "at": "2026-11-20T09:31:10Z",
                            "item": "m-7",
                            "position": 2,
                            "dwell_ms": 61000,
                        },
                    ]
                }
            ]
        },
    )

    events: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_EVENTS)]


class RefusedEvent(BaseModel):
    """An event that was kept for people to look at and will count for nothing."""

    event_id: str | None
    reason: str
    sentence: str


class EventsAnswer(BaseModel):
    """What is durable now: ``accepted`` events, and the refused ones apart."""

    accepted: int
    duplicates: int
    refused: list[RefusedEvent]


def event_routes(service: Service, errors: Mapping[int | str, dict[str, Any]]) -> APIRouter:
    """The events of every story ``service`` knows.

    Args:
        errors: the refusals every route describes.
    """
    router = APIRouter(prefix="/v1", tags=["events"])

    @router.post(
        "/stories/{story}/events",
        status_code=202,
        responses={202: {"model": EventsAnswer}, **errors, 400: {"model": ErrorAnswer}},
        summary="Report lists shown, clicks, looks, carts, purchases and returns",
    )
    async def events(story: str, body: EventsBody) -> Response:
        service.require(story)
        batch = [_received(one) for one in body.events]
        receipt = await run_in_threadpool(service.events(story).receive, batch)
        refused = [
            {"event_id": one.event_id, "reason": one.reason, "sentence": one.sentence}
            for one in receipt.refusals
        ]
        answer = {"accepted": receipt.accepted, "duplicates": receipt.duplicates, "refused": refused}
        return Response(orjson.dumps(answer), status_code=202, media_type="application/json")

    return router


def _received(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with a digest for the user's id; when it became known is this server's to say."""
    row = {**event, "known_at": None}
    user = row.pop("user_id", None)
    if isinstance(user, str):
        row["user"] = user_digest(user)
    return row
