"""The HTTP surface: predictions, outcomes, events, health, metrics, OpenAPI.

An answer is sent only after its row in the prediction log is durable; a log that cannot be written is a 503
and no answer. Short texts are classified on the event loop, long ones and batches on a worker thread, so that
nobody waits behind them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mangaassist.core.clock import parse_instant
from mangaassist.core.errors import (
    Forbidden,
    GateRefused,
    InputError,
    IntegrityError,
    MangaAssistError,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from mangaassist.serving.api import (
    BatchAnswer,
    BatchBody,
    ErrorAnswer,
    HealthAnswer,
    OutcomesAnswer,
    OutcomesBody,
    PredictAnswer,
    PredictBody,
    answer_body,
)
from mangaassist.serving.event_api import event_routes
from mangaassist.serving.limits import BodyLimit
from mangaassist.serving.metrics import CONTENT_TYPE
from mangaassist.serving.prediction_log import Outcome
from mangaassist.serving.router import Request
from mangaassist.serving.service import Service

MOST_BYTES = 4 << 20
_INLINE_CHARACTERS = 1_000
_CLOCK_SKEW = timedelta(minutes=5)
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in (
        (400, "The body is not JSON, or a value is out of range."),
        (404, "No story of that name."),
        (413, "The body is too large."),
        (422, "A field is missing or has the wrong type."),
        (503, "The answer could not be logged, so it was not given."),
    )
}


def create_app(
    service: Service,
    *,
    routers: Sequence[APIRouter] = (),
    most_bytes: int = MOST_BYTES,
    exposed: Sequence[Callable[[], bytes]] = (),
    new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
) -> FastAPI:
    """The application of one serving process.

    Args:
        service: started and stopped with the application.
        routers: further routes, for example the status page's.
        most_bytes: largest accepted request body.
        exposed: further Prometheus texts, appended to the server's own.
        new_id: names requests that came without an id.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)

    # The interactive pages would fetch their scripts from elsewhere; /openapi.json is served.
    app = FastAPI(
        title="MangaAssist",
        version="1",
        summary="Predictions of registered models, logged before they are given.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(_predictions(service, new_id))
    app.include_router(event_routes(service, _ERRORS))
    app.include_router(_operations(service, exposed))
    for router in routers:
        app.include_router(router)
    app.add_middleware(BodyLimit, most_bytes=most_bytes)
    _shape_errors(app)
    return app


def _predictions(service: Service, new_id: Callable[[], str]) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["predictions"])

    def request_of(body: PredictBody) -> Request:
        return Request(
            body.text,
            body.request_id or new_id(),
            service.clock.now(),
            body.user_id,
            body.cohort,
            body.device,
        )

    @router.post(
        "/stories/{story}/predict",
        responses={200: {"model": PredictAnswer}, **_ERRORS},
        summary="Classify one text",
    )
    async def predict(story: str, body: PredictBody) -> Response:
        service.require(story)
        request = request_of(body)
        if len(body.text) <= _INLINE_CHARACTERS:
            answer = service.answer(story, request)
        else:
            answer = await run_in_threadpool(service.answer, story, request)
        await asyncio.wrap_future(service.settle(story, [answer]))
        service.copy_to_shadow(story, request)
        return _json(answer_body(answer))

    @router.post(
        "/stories/{story}/predict/batch",
        responses={200: {"model": BatchAnswer}, **_ERRORS},
        summary="Classify several texts",
    )
    async def predict_batch(story: str, body: BatchBody) -> Response:
        service.require(story)
        requests = [request_of(one) for one in body.requests]
        answers = await run_in_threadpool(service.answer_many, story, requests)
        await asyncio.wrap_future(service.settle(story, answers))
        for request in requests:
            service.copy_to_shadow(story, request)
        return _json({"predictions": [answer_body(answer) for answer in answers]})

    @router.post(
        "/outcomes",
        status_code=202,
        responses={202: {"model": OutcomesAnswer}, **_ERRORS},
        summary="Report what became of answered requests",
    )
    async def outcomes(body: OutcomesBody) -> Response:
        by_story: dict[str, list[Outcome]] = {}
        for outcome in _checked(service, body):
            by_story.setdefault(outcome.story, []).append(outcome)
        for story, known in by_story.items():
            await service.commits.durable(story, outcomes=known)
        return _json({"recorded": len(body.outcomes)}, status=202)

    return router


def _checked(service: Service, body: OutcomesBody) -> list[Outcome]:
    """The outcomes as values; all are checked before any is written."""
    now, found = service.clock.now(), []
    for one in body.outcomes:
        service.require(one.story)
        known_at = parse_instant(one.known_at.isoformat(), field="known_at") if one.known_at else now
        if known_at > now + _CLOCK_SKEW:
            raise InputError(
                "known_at",
                expected="a time that has come",
                got=known_at.isoformat(),
                next_step="Send the time at which the outcome became known, or leave it out.",
            )
        found.append(Outcome(one.request_id, one.story, one.resolved, known_at))
    return found


def _operations(service: Service, exposed: Sequence[Callable[[], bytes]]) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get(
        "/health",
        responses={200: {"model": HealthAnswer}, 503: {"model": HealthAnswer}},
        summary="Is the process alive, and should it get requests?",
    )
    async def health() -> Response:
        found = await run_in_threadpool(service.health)
        stories = {
            name: {
                "champion": live.deployment.champion,
                "challenger": live.deployment.challenger,
                "stage": live.deployment.stage,
                "epoch": live.epoch,
                "stale_seconds": live.stale_seconds,
                "pinned": live.pinned,
            }
            for name, live in found.stories.items()
        }
        body = {"live": True, "ready": found.ready, "reasons": list(found.reasons), "stories": stories}
        return _json(body, status=200 if found.ready else 503)

    @router.get("/metrics", summary="Prometheus metrics")
    async def metrics() -> Response:
        more = [await run_in_threadpool(one) for one in exposed]
        return Response(service.metrics.expose(service.live()) + b"".join(more), media_type=CONTENT_TYPE)

    return router


def _shape_errors(app: FastAPI) -> None:
    """Every refusal in one shape: field, expected, got, next step."""

    @app.exception_handler(MangaAssistError)
    async def refused(_: HttpRequest, error: MangaAssistError) -> Response:
        return _json(error.as_dict(), status=_status(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HttpRequest, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        # Without the right content type the body arrives here unparsed.
        unreadable = problem["type"] == "json_invalid" or isinstance(problem.get("input"), bytes)
        where = ".".join(str(part) for part in problem["loc"] if part != "body") or "body"
        if unreadable:
            field, expected, got = "body", "a JSON object, sent as application/json", "something else"
        else:
            field, expected, got = where, _sentence(problem["msg"]), _shown(problem.get("input"))
        shown = InputError(
            field,
            expected=expected,
            got=got,
            next_step="See /openapi.json for the fields and an example.",
        )
        return _json(shown.as_dict(), status=400 if unreadable else 422)

    @app.exception_handler(HTTPException)
    async def http(request: HttpRequest, error: HTTPException) -> Response:
        shown = InputError(
            "body" if error.status_code == 413 else "request",
            expected=_EXPECTED.get(error.status_code, "a request this server can answer"),
            got=str(error.detail) if error.status_code == 413 else f"{request.method} {request.url.path}",
            next_step="See /openapi.json for what there is.",
        )
        return _json(shown.as_dict(), status=error.status_code)


_EXPECTED = {
    400: "a body in JSON and UTF-8",
    404: "a path of this server",
    405: "a method this path has",
    413: "a smaller body",
}


_STATUSES: tuple[tuple[type[MangaAssistError], int], ...] = (
    (Unauthenticated, 401),
    (Forbidden, 403),
    (TooMany, 429),
    (GateRefused, 409),
    (Unavailable, 503),
    (IntegrityError, 503),
)


def _status(error: MangaAssistError) -> int:
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return 404 if error.field == "story" else 400


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _json(body: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
