"""The page of one version at ``/models/STORY/VERSION``."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from mangaassist.core.errors import InputError
from mangaassist.web.pages import html, render
from mangaassist.web.version_view import VersionPage
from mangaassist.web.view import Missing

MODELS = "/models"


def render_version(view: VersionPage, *, root: str = "") -> str:
    """One version as HTML."""
    return render("version.html", view, root=root, address=f"{MODELS}/{view.story}/{view.number}")


def router(get_view: Callable[[str, int], VersionPage], missing: Callable[[str, str], Missing]) -> APIRouter:
    """The pages of all versions; an unknown one is a 404 with its sentence and the way back."""
    pages = APIRouter(include_in_schema=False)

    @pages.api_route(MODELS + "/{story}/{number}", methods=["GET", "HEAD"])
    def version(request: Request, story: str, number: int) -> Response:
        root = request.url.path.rpartition(MODELS + "/")[0]
        try:
            return html(request, render_version(get_view(story, number), root=root))
        except InputError as error:
            view = missing(str(error), "/")
            return html(request, render("missing.html", view, root=root, address="/"), status=404)

    return pages
