"""From values to pages: the template environment and the router."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import digest_bytes
from mangaassist.web import charts, experiment_charts, wording
from mangaassist.web.view import PAGES, StatusView, concerns, headline

REFRESH_SECONDS = 15

_STATIC = {
    "mangaassist.css": "text/css; charset=utf-8",
    "oncall.css": "text/css; charset=utf-8",
    "refresh.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}

# Nothing is fetched from elsewhere, and nothing written into the page can run.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def render_status(view: StatusView, *, root: str = "") -> str:
    """The status page as HTML.

    Args:
        view: everything it shows.
        root: path under which the router is mounted, without a trailing slash.
    """
    calm, sentence = headline(view)
    return render("status.html", view, root=root, address="/", calm=calm, headline=sentence)


def render(template: str, view: Any, *, root: str, address: str, **values: Any) -> str:
    """A page of the common frame.

    Args:
        template: file in ``templates/``.
        view: what it shows; the frame needs its ``at`` and ``links``.
        root: path under which the pages are mounted, without a trailing slash.
        address: the page's own path under ``root``, so that it can find and reload itself.
        values: what else the template names.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            view=view,
            root=root,
            address=address,
            refresh=REFRESH_SECONDS,
            asset=lambda name: f"{root}/static/{name}?v={_version(name)}",
            **values,
        )
    )


def html(request: Request, text: str, *, status: int = 200, keep: str = "no-cache") -> Response:
    """A page as an answer: tagged, so that an open page that follows it costs little, and locked down.

    Args:
        keep: Cache-Control; "no-store" for what no browser may keep.
    """
    return _cached(request, text.encode(), "text/html; charset=utf-8", keep, _HEADERS, status=status)


def router(get_view: Callable[[], StatusView]) -> APIRouter:
    """The status page at ``/`` and its three files under ``/static/``, to be mounted under any prefix."""
    pages = APIRouter(include_in_schema=False)

    @pages.api_route("/", methods=["GET", "HEAD"])
    def status(request: Request) -> Response:
        return html(request, render_status(get_view(), root=request.url.path.rstrip("/")))

    @pages.api_route("/static/{name}", methods=["GET", "HEAD"])
    def static(request: Request, name: str) -> Response:
        if name not in _STATIC:
            return Response(status_code=404, content=f"No such file. {nearest(name, _STATIC)}")
        # The address carries the content's digest, so a browser may keep it for good.
        keep = "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"
        return _cached(request, asset(name), _STATIC[name], keep, {"X-Content-Type-Options": "nosniff"})

    return pages


@cache
def asset(name: str) -> bytes:
    """A static file of the page.

    Raises:
        InputError: for a name that is none.
    """
    if name not in _STATIC:
        raise InputError(
            "static file", expected="a file of the page", got=name, next_step=nearest(name, _STATIC)
        )
    return resources.files("mangaassist.web").joinpath("static", name).read_bytes()


def _cached(
    request: Request, body: bytes, media: str, keep: str, headers: dict[str, str], *, status: int = 200
) -> Response:
    tag = f'"{digest_bytes(body)[:16]}"'
    sent = {**headers, "Cache-Control": keep, "ETag": tag}
    if status == 200 and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=sent)
    return Response(body, status_code=status, media_type=media, headers=sent)


def _version(name: str) -> str:
    return digest_bytes(asset(name))[:12]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mangaassist.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=wording.number,
        percent=wording.percent,
        share=wording.share,
        ago=wording.ago,
        day=wording.day,
        clock_time=wording.clock_time,
        change=wording.change,
        signed=wording.signed,
        p_value=wording.p_value,
        points=wording.points,
        word=wording.word,
    )
    environment.globals.update(
        STATUS=wording.STATUS_WORDS,
        DRIFT=wording.DRIFT_WORDS,
        VERSION=wording.VERSION_WORDS,
        STAGE=wording.STAGE_WORDS,
        LANGUAGES=wording.LANGUAGES,
        KINDS=wording.KINDS,
        STATE=wording.EXPERIMENT_WORDS,
        ACTION=wording.ACTION_WORDS,
        ENDING=wording.ENDING_WORDS,
        AUDIT=wording.AUDIT_WORDS,
        RULE=wording.RULE_WORDS,
        PAGES=PAGES,
        charts=charts,
        drawn=experiment_charts,
        concerns=concerns,
        lasting=wording.lasting,
        counted=wording.counted,
    )
    return environment
