"""The experiment, guardrail and calibration pages: rendering and routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from mangaassist.core.errors import InputError, MangaAssistError
from mangaassist.web.calibration_view import CalibrationView, calibration_headline
from mangaassist.web.experiment_view import ExperimentsView, ExperimentView, experiments_headline
from mangaassist.web.guardrail_view import GuardrailsView, guardrails_headline
from mangaassist.web.pages import html, render
from mangaassist.web.view import Missing

EXPERIMENTS, GUARDRAILS, CALIBRATION = "/experiments", "/guardrails", "/calibration"


@dataclass(frozen=True, slots=True)
class Views:
    """Where the pages take their views from, anew for each request.

    Attributes:
        experiments, guardrails: the two lists.
        experiment: one experiment by name; raises InputError for a name nobody registered.
        calibration: one quarter by name, the running one for an empty name; raises InputError likewise.
        missing: what to say, and the list to go back to, when there is none.
    """

    experiments: Callable[[], ExperimentsView]
    experiment: Callable[[str], ExperimentView]
    guardrails: Callable[[], GuardrailsView]
    calibration: Callable[[str], CalibrationView]
    missing: Callable[[str, str], Missing]


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


def render_calibration(view: CalibrationView, *, root: str = "") -> str:
    """The calibration audit as HTML."""
    tone, sentence = calibration_headline(view)
    return render("calibration.html", view, root=root, address=view.address, tone=tone, headline=sentence)


def render_missing(view: Missing, *, root: str = "") -> str:
    """A page that cannot be shown, with its sentence and the way back."""
    return render("missing.html", view, root=root, address=view.back)


def router(views: Views) -> APIRouter:
    """The pages at ``/experiments[/NAME]``, ``/guardrails`` and ``/calibration[/QUARTER]``."""
    pages = APIRouter(include_in_schema=False)

    @pages.api_route(EXPERIMENTS, methods=["GET", "HEAD"])
    def experiments(request: Request) -> Response:
        return html(request, render_experiments(views.experiments(), root=_root(request, EXPERIMENTS)))

    @pages.api_route(EXPERIMENTS + "/{name}", methods=["GET", "HEAD"])
    def experiment(request: Request, name: str) -> Response:
        root = _root(request, EXPERIMENTS)
        try:
            return html(request, render_experiment(views.experiment(name), root=root))
        except MangaAssistError as error:
            return _not_here(request, error, views.missing(str(error), EXPERIMENTS), root)

    @pages.api_route(GUARDRAILS, methods=["GET", "HEAD"])
    def guardrails(request: Request) -> Response:
        return html(request, render_guardrails(views.guardrails(), root=_root(request, GUARDRAILS)))

    @pages.api_route(CALIBRATION, methods=["GET", "HEAD"])
    @pages.api_route(CALIBRATION + "/{quarter}", methods=["GET", "HEAD"])
    def calibration(request: Request, quarter: str = "") -> Response:
        root = _root(request, CALIBRATION)
        try:
            return html(request, render_calibration(views.calibration(quarter), root=root))
        except MangaAssistError as error:
            return _not_here(request, error, views.missing(str(error), CALIBRATION), root)

    return pages


def _not_here(request: Request, error: MangaAssistError, view: Missing, root: str) -> Response:
    status = 404 if isinstance(error, InputError) else 503
    return html(request, render_missing(view, root=root), status=status)


def _root(request: Request, address: str) -> str:
    """Where the pages are mounted: what stands before their own address."""
    path = request.url.path
    return path.removesuffix(address) if path.endswith(address) else path.rpartition(address + "/")[0]
