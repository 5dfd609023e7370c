"""Changes reported from outside: a pipeline's deploys, a provider's events, a prompt store's versions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from mangaassist.core.clock import parse_instant
from mangaassist.governance.access import Action, Token
from mangaassist.incidents.changes import record
from mangaassist.incidents.records import Change
from mangaassist.lifecycle.platform import Platform

Line = Annotated[str, Field(min_length=1, max_length=300)]
Names = Annotated[list[Line], Field(max_length=50)]


class ChangeBody(BaseModel):
    """One thing that changed.

    ``touches`` are components it may break and ``cohorts`` whom it reaches; left out, nobody knows and
    everybody. ``at`` is when it took effect; left out, now.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "deploy",
                    "subject": "gateway",
                    "summary": "4f2a91c Timeouts per stage",
                    "touches": ["gateway"],
                    "revert": "git revert 4f2a91c && make deploy",
                }
            ]
        },
    )

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z_]{1,39}$")]
    subject: Line
    summary: Line
    at: datetime | None = None
    touches: Names = []
    cohorts: Names = []
    revert: Line | None = None


def change_routes(platform: Platform, allowed: Callable[[Action], Callable[..., Any]]) -> APIRouter:
    """``POST /v1/changes``, for whoever may record one."""
    router = APIRouter(prefix="/v1", tags=["changes"])
    may_record = Depends(allowed(Action.RECORD_CHANGE))

    @router.post("/changes", status_code=202, summary="Record that something changed")
    async def add(body: ChangeBody, token: Token = may_record) -> dict[str, Any]:
        now = platform.clock.now()
        change = Change(
            body.kind,
            body.subject,
            parse_instant(body.at.isoformat(), field="at") if body.at else now,
            now,
            token.name,
            body.summary,
            tuple(body.touches),
            tuple(body.cohorts),
            body.revert,
        )
        new = await run_in_threadpool(record, platform.ledger, change, actor=token.name)
        return {"id": change.id, "new": new}

    return router
