"""The label page of a story: from a home to its view, and the route. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request, Response

from mangaassist.core.errors import InputError, MangaAssistError
from mangaassist.core.verdict import Status
from mangaassist.labels.intake import subject
from mangaassist.lifecycle.label_report import LabelReport, label_report
from mangaassist.lifecycle.platform import Platform
from mangaassist.web import label_charts
from mangaassist.web.pages import html, render
from mangaassist.web.view import SERVICE, Link, Missing

LABELS = "/labels"
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class LabelsView:
    """The page of one story's labels.

    Attributes:
        at: when the view was taken.
        report: everything it shows; probable errors are those last computed.
        links: other pages of this server.
    """

    at: datetime
    report: LabelReport
    links: tuple[Link, ...] = SERVICE


def labels_view(platform: Platform) -> Callable[[str], LabelsView]:
    """What gives the view of a story by name.

    A report reads both tables, so the last one of each story is kept while neither tables nor ledger have
    anything new to say about it, for an hour at most: weeks and windows move on by themselves.
    """
    kept: dict[str, tuple[object, LabelReport]] = {}

    def view(name: str) -> LabelsView:
        story, now = platform.story(name), platform.clock.now()
        snapshots = tuple(platform.labels.snapshots(story).items())
        key = (snapshots, platform.ledger.head(subject(story)), int(now.timestamp()) // _HOUR)
        known = kept.get(name)
        if known is None or known[0] != key:
            known = kept[name] = (key, label_report(platform, name, compute=False))
        return LabelsView(now, known[1])

    return view


def labels_headline(report: LabelReport) -> tuple[str, str]:
    """(tone, one sentence) for the whole page: "calm", "open" or "alert"."""
    if not report.examples:
        return "open", "Nothing has been labelled yet."
    rejected = [f"{one.lot} ({one.pool})" for one in report.lots if one.outcome == "rejected"]
    troubles = [
        *(one.verdict.sentence for one in report.pools if one.verdict.status is Status.FAIL),
        *(f"{one.annotator} is paused." for one in report.annotators if one.paused),
        *([f"Rejected: {', '.join(rejected)}."] if rejected else []),
        *(one.sentence for one in report.precision if one.status is Status.FAIL),
    ]
    if troubles:
        return "alert", " ".join(troubles)
    if report.waiting:
        wait = "disagreement waits" if report.waiting == 1 else "disagreements wait"
        return "open", f"{report.waiting:,} {wait} for a senior annotator."
    if any(one.verdict.status is Status.INSUFFICIENT for one in report.pools):
        return "open", "Agreement is not known in every language pool."
    return "calm", "Annotators agree in every language pool, and nothing waits."


def render_labels(view: LabelsView, *, root: str = "") -> str:
    """The page as HTML."""
    tone, sentence = labels_headline(view.report)
    return render(
        "labels.html",
        view,
        root=root,
        address=f"{LABELS}/{view.report.story}",
        tone=tone,
        headline=sentence,
        pictures=label_charts,
    )


def router(view: Callable[[str], LabelsView], missing: Callable[[str, str], Missing]) -> APIRouter:
    """The page at ``/labels/NAME``.

    Args:
        view: of a story by name; raises InputError for an unknown one.
        missing: what to say, and where to go back to, when there is none.
    """
    pages = APIRouter(include_in_schema=False)

    @pages.api_route(LABELS + "/{name}", methods=["GET", "HEAD"])
    def labels(request: Request, name: str) -> Response:
        root = request.url.path.rpartition(LABELS + "/")[0]
        try:
            return html(request, render_labels(view(name), root=root))
        except MangaAssistError as error:
            status = 404 if isinstance(error, InputError) else 503
            gone = missing(str(error), "/")
            return html(request, render("missing.html", gone, root=root, address=gone.back), status=status)

    return pages
