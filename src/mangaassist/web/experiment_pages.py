"""The experiment and guardrail pages: rendering and routes."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from mangaassist.core.errors import InputError, MangaAssistError
from mangaassist.web.experiment_view import ExperimentsView, ExperimentView, experiments_headline
from mangaassist.web.guardrail_view import GuardrailsView, guardrails_headline
from mangaassist.web.pages import html, render
from mangaassist.web.view import Missing

EXPERIMENTS, GUARDRAILS = "/experiments", "/guardrails"


def render_experiments(view: ExperimentsView, *, root: str = "") -> str:
    """The list as HTML."""
    calm, sentence = experiments_headline(view)
    return render("experiments.html", view, root=root, address=EXPERIMENTS, calm=calm, headline=sentence)


def render_experiment(view: ExperimentView, *, root: str = "") -> str:
    """One experiment as HTML."""
    return render("experiment.html", view, root=root, address=f"{EXPERIMENTS}/{view.row.name}")


def render_guardrails(view: GuardrailsView, *, root: str = "") -> str:
    """The guardrails as HTML."""
    calm, sentence = guardrails_headline(view)
    return render("guardrails.html", view, root=root, address=GUARDRAILS, calm=calm, headline=sentence)


def render_missing(view: Missing, *, root: str = "") -> str:
    """A page that cannot be shown, with its sentence and the way back."""
    return render("missing.html", view, root=root, address=view.back)


def router(
    get_list: Callable[[], ExperimentsView],
    get_one: Callable[[str], ExperimentView],
    get_guardrails: Callable[[], GuardrailsView],
    missing: Callable[[str], Missing],
) -> APIRouter:
    """The pages at ``/experiments``, ``/experiments/NAME`` and ``/guardrails``.

    Args:
        get_list, get_guardrails: the views, taken anew for each request.
        get_one: the view of one experiment; raises InputError for a name nobody registered.
        missing: what to say when there is none.
    """
    pages = APIRouter(include_in_schema=False)

    @pages.api_route(EXPERIMENTS, methods=["GET", "HEAD"])
    def experiments(request: Request) -> Response:
        return html(request, render_experiments(get_list(), root=_root(request, EXPERIMENTS)))

    @pages.api_route(EXPERIMENTS + "/{name}", methods=["GET", "HEAD"])
    def experiment(request: Request, name: str) -> Response:
        root = request.url.path.rpartition(EXPERIMENTS + "/")[0]
        try:
            return html(request, render_experiment(get_one(name), root=root))
        except MangaAssistError as error:
            status = 404 if isinstance(error, InputError) else 503
            return html(request, render_missing(missing(str(error)), root=root), status=status)

    @pages.api_route(GUARDRAILS, methods=["GET", "HEAD"])
    def guardrails(request: Request) -> Response:
        return html(request, render_guardrails(get_guardrails(), root=_root(request, GUARDRAILS)))

    return pages


def _root(request: Request, address: str) -> str:
    return request.url.path.removesuffix(address)
