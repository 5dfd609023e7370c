"""The one application `mangaassist serve` runs: HTTP, the status page and the upkeep behind them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import APIRouter, FastAPI

from mangaassist.core.errors import Unavailable
from mangaassist.governance.access import Access, Action
from mangaassist.lifecycle.feature_reports import feature_reads
from mangaassist.lifecycle.jobs import NO_MOVE
from mangaassist.lifecycle.oncall import stored
from mangaassist.lifecycle.oncall_metrics import expose
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.running import SERVING, Running
from mangaassist.lifecycle.schedule import Last
from mangaassist.serving.app import create_app
from mangaassist.serving.service import Service
from mangaassist.web import experiment_pages, labels, oncall, version_pages
from mangaassist.web.calibration import calibration_view
from mangaassist.web.changes import change_routes
from mangaassist.web.control import Authorize, authorizer, control_routes
from mangaassist.web.experiments import experiment_view, experiments_view
from mangaassist.web.guardrails import guardrails_view
from mangaassist.web.pages import router
from mangaassist.web.status import status_view
from mangaassist.web.versions import version_view
from mangaassist.web.view import SERVICE, Missing


def create(platform: Platform) -> FastAPI:
    """The application of one home; :func:`run_server` adds the upkeep thread."""
    service = Service(
        platform.home,
        platform.registry,
        platform.clock,
        server=platform.models,
        features=feature_reads(platform),
        admit=lambda story: platform.residency.require(story, "serving"),
    )
    allowed = authorizer(platform)
    return create_app(
        service,
        exposed=[lambda: expose(platform)],
        routers=[
            control_routes(platform, allowed),
            change_routes(platform, allowed),
            router(lambda: status_view(platform)),
            _experiments(platform),
            version_pages.router(
                lambda story, number: version_view(platform, story, number),
                lambda sentence, back: Missing(platform.clock.now(), sentence, back, SERVICE),
            ),
            _labels(platform, allowed),
            oncall.router(lambda: stored(platform), platform.clock.now),
        ],
    )


def _experiments(platform: Platform) -> APIRouter:
    return experiment_pages.router(
        experiment_pages.Views(
            lambda: experiments_view(platform),
            lambda name: experiment_view(platform, name),
            lambda: guardrails_view(platform),
            lambda quarter: calibration_view(platform, quarter),
            lambda sentence, back: Missing(platform.clock.now(), sentence, back, SERVICE),
        )
    )


def _labels(platform: Platform, allowed: Callable[[Action], Authorize]) -> APIRouter:
    def record(what: str, rows: int, actor: str) -> None:
        Access(platform.ledger).record_read(what, rows=rows, actor=actor, at=platform.clock.now())

    return labels.router(
        labels.labels_view(platform),
        lambda sentence, back: Missing(platform.clock.now(), sentence, back, SERVICE),
        labels.TextReaders(allowed(Action.READ_CUSTOMER_DATA), record),
    )


def run_server(platform: Platform, *, host: str, port: int, on_event: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Raises:
        Unavailable: the address is in use.
    """
    listener = _listen(host, port)
    upkeep = Running(platform, lanes=SERVING, notify=_failures(on_event))
    upkeep.start()
    on_event(f"Status page  http://{host}:{port}/")
    on_event(f"Predictions  POST http://{host}:{port}/v1/stories/NAME/predict   (also /health, /metrics)")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(create(platform), log_level="warning", access_log=False, backlog=2048)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        upkeep.stop()


def _failures(on_event: Callable[[str], None]) -> Callable[[Last], None]:
    """Tell what a job could not do, and what became of a rollout, once until it says something else."""
    said: dict[str, str] = {}

    def tell(last: Last) -> None:
        news = not last.ok or last.name == "rollouts"
        if news and said.get(last.name, NO_MOVE) != last.said:
            on_event(f"{last.name}: {last.said}")
        said[last.name] = last.said

    return tell


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything is said, so that a port in use is one sentence and not a stack."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"port {port}",
            expected=f"a free port on {host}",
            got=error.strerror or str(error),
            next_step="Stop what uses it, or pass another --port.",
        ) from error
    return listener
