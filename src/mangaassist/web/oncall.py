"""The routes of the on-call page and the runbooks: ready-made answers, no store is read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request, Response

from mangaassist.core.errors import InputError
from mangaassist.incidents.snapshot import OncallSnapshot
from mangaassist.web.oncall_view import page
from mangaassist.web.pages import html, render
from mangaassist.web.runbooks import runbook, runbooks
from mangaassist.web.view import SERVICE, Missing

ONCALL, RUNBOOKS = "/oncall", "/runbooks"


def router(stored: Callable[[], OncallSnapshot | None], now: Callable[[], datetime]) -> APIRouter:
    """The pages at ``/oncall`` and ``/runbooks[/NAME]``.

    Args:
        stored: the snapshot the schedule wrote last; None before the first.
    """
    pages = APIRouter(include_in_schema=False)

    @pages.api_route(ONCALL, methods=["GET", "HEAD"])
    def oncall(request: Request) -> Response:
        at, root = now(), request.url.path.removesuffix(ONCALL)
        found = stored() or OncallSnapshot(
            at, "platform", problem="The schedule has not run in this home yet"
        )
        return html(request, page(found, now=at, root=root))

    @pages.api_route(RUNBOOKS, methods=["GET", "HEAD"])
    def every(request: Request) -> Response:
        root = request.url.path.removesuffix(RUNBOOKS)
        view = Missing(now(), "", ONCALL, SERVICE)
        return html(
            request,
            render("runbooks.html", view, root=root, address=RUNBOOKS, runbooks=runbooks().values(), body=""),
        )

    @pages.api_route(RUNBOOKS + "/{name}", methods=["GET", "HEAD"])
    def one(request: Request, name: str) -> Response:
        root = request.url.path.rpartition(RUNBOOKS)[0]
        try:
            found = runbook(name)
        except InputError as error:
            view = Missing(now(), str(error), RUNBOOKS, SERVICE)
            return html(request, render("missing.html", view, root=root, address=RUNBOOKS), status=404)
        view = Missing(now(), found.title, RUNBOOKS, SERVICE)
        address = f"{RUNBOOKS}/{found.name}"
        text = render("runbooks.html", view, root=root, address=address, runbooks=(), body=found.html())
        return html(request, text)

    return pages
