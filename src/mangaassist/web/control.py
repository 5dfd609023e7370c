"""Control over HTTP: roll back, review, re-enable, freeze, release. Every call has a token, a role, a limit
and an entry.

Freezing is open to everybody on duty, lifting a freeze to those who answer for it.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from mangaassist.core.clock import Clock
from mangaassist.core.errors import TooMany
from mangaassist.governance.access import Access, Action, Token, require
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.rollout import roll_back
from mangaassist.lifecycle.second_looks import reenable, review
from mangaassist.lifecycle.switches import set_switch

PER_MINUTE = 30
"""Control calls of one token a minute: far more than a person makes, far less than a loop does."""

Reason = Annotated[str, Field(min_length=3, max_length=500)]


class ReasonBody(BaseModel):
    """Why somebody moves a version by hand."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


class SwitchBody(BaseModel):
    """A kill switch to set: everything, one story, or one technique of it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"story": "intent", "reason": "SEV-2"}]}
    )

    reason: Reason
    story: str | None = None
    technique: str | None = None


@dataclass
class RateLimit:
    """A token bucket per caller: ``per_minute`` calls, as many at once, refilled evenly."""

    clock: Clock
    per_minute: int = PER_MINUTE
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, caller: str) -> None:
        """One call of ``caller``.

        Raises:
            TooMany: its bucket is empty.
        """
        now = self.clock.now().timestamp()
        with self._lock:
            left, since = self._buckets.get(caller, (float(self.per_minute), now))
            left = min(self.per_minute, left + (now - since) * self.per_minute / 60)
            if left < 1:
                raise TooMany(
                    "rate",
                    expected=f"at most {self.per_minute} control calls a minute",
                    got="more",
                    next_step=f"Wait {60 * (1 - left) / self.per_minute:.0f} s.",
                )
            self._buckets[caller] = (left - 1, now)


Authorize = Callable[..., Any]


def authorizer(platform: Platform) -> Callable[[Action], Authorize]:
    """A FastAPI dependency per action that gives the caller's token, or refuses.

    Programs send it as a bearer token; a browser that is asked for a password sends that as a basic one.
    """
    access, limit = Access(platform.ledger), RateLimit(platform.clock)

    def allowed(action: Action) -> Authorize:
        def check(authorization: Annotated[str | None, Header()] = None) -> Token:
            token = access.authenticate(_credential(authorization or ""), at=platform.clock.now())
            limit.take(token.id)
            require(token, action)
            return token

        return check

    return allowed


def _credential(authorization: str) -> str | None:
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return text
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(text, validate=True).decode().partition(":")[2]
    except ValueError:
        return None


def control_routes(platform: Platform, allowed: Callable[[Action], Authorize]) -> APIRouter:
    """The control endpoints of one home."""
    router = APIRouter(prefix="/v1/control", tags=["control"])
    may_roll_back = Depends(allowed(Action.ROLL_BACK))
    may_review, may_reenable = Depends(allowed(Action.REVIEW)), Depends(allowed(Action.REENABLE))
    may_freeze, may_release = Depends(allowed(Action.FREEZE)), Depends(allowed(Action.RELEASE))

    @router.post("/stories/{story}/rollback", summary="Back to the last known good version")
    async def rollback(story: str, body: ReasonBody, token: Token = may_roll_back) -> dict[str, Any]:
        platform.module(story)
        return await run_in_threadpool(roll_back, platform, story, actor=token.name, reason=body.reason)

    @router.post("/stories/{story}/versions/{number}/review", summary="Accept the disagreements of a shadow")
    async def accept(story: str, number: int, body: ReasonBody, token: Token = may_review) -> dict[str, Any]:
        return await run_in_threadpool(by_hand, review, story, number, body, token)

    @router.post(
        "/stories/{story}/versions/{number}/reenable", summary="Start an aborted canary again: a false alarm"
    )
    async def again(story: str, number: int, body: ReasonBody, token: Token = may_reenable) -> dict[str, Any]:
        return await run_in_threadpool(by_hand, reenable, story, number, body, token)

    def by_hand(
        move: Callable[..., dict[str, Any]], story: str, number: int, body: ReasonBody, token: Token
    ) -> dict[str, Any]:
        platform.module(story)
        return move(platform, story, number, actor=token.name, role=token.role, reason=body.reason)

    def set_one(state: str, body: SwitchBody, token: Token) -> dict[str, Any]:
        return set_switch(
            platform, state, story=body.story, technique=body.technique, reason=body.reason, actor=token.name
        )

    @router.post("/freeze", summary="Pin to the last known good version and stop changes")
    async def freeze(body: SwitchBody, token: Token = may_freeze) -> dict[str, Any]:
        return await run_in_threadpool(set_one, "on", body, token)

    @router.post("/release", summary="Lift a freeze")
    async def release(body: SwitchBody, token: Token = may_release) -> dict[str, Any]:
        return await run_in_threadpool(set_one, "off", body, token)

    return router
