"""The label page of a story: from a home to its view, and the routes.

Texts of customers are shown only to somebody with a token whose role may read them, and the ledger says who
read how many (GOV-4). Everybody else sees the same page without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fastapi import APIRouter, Request, Response

from mangaassist.core.errors import Forbidden, InputError, MangaAssistError, TooMany, Unauthenticated
from mangaassist.core.verdict import Status
from mangaassist.governance.access import Token
from mangaassist.labels.intake import subject
from mangaassist.labels.lots import LotReview
from mangaassist.labels.overlap import POOLS
from mangaassist.lifecycle.label_report import LabelReport, label_report
from mangaassist.lifecycle.platform import Platform
from mangaassist.web import label_charts
from mangaassist.web.pages import html, render
from mangaassist.web.view import SERVICE, Link, Missing

LABELS, TEXTS = "/labels", "/texts"
SHOWN_DISPUTES, SHOWN_ERRORS = 10, 15
"""Most disagreements and probable errors on the page."""
SHOWN_LOTS = 6
"""Lots of each language that are shown at once."""
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class LabelsView:
    """The page of one story's labels.

    Attributes:
        at: when the view was taken.
        report: everything it shows; probable errors are those last computed.
        links: other pages of this server.
        texts: whether what customers wrote is shown.
    """

    at: datetime
    report: LabelReport
    links: tuple[Link, ...] = SERVICE
    texts: bool = False


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


@dataclass(frozen=True, slots=True)
class Lots:
    """Lots as the page shows them: the newest and those in trouble at once, the ``earlier`` on request."""

    shown: tuple[LotReview, ...]
    earlier: tuple[LotReview, ...]


def lots_shown(lots: Sequence[LotReview]) -> Lots:
    """The newest names first of each language; rejected and flagged lots are shown however old they are."""
    shown: list[LotReview] = []
    earlier: list[LotReview] = []
    for pool in POOLS:
        own = sorted((one for one in lots if one.pool == pool), key=lambda one: one.lot, reverse=True)
        for place, one in enumerate(own):
            known = place < SHOWN_LOTS or one.outcome in {"rejected", "flagged"}
            (shown if known else earlier).append(one)
    return Lots(tuple(shown), tuple(earlier))


def render_labels(view: LabelsView, *, root: str = "") -> str:
    """The page as HTML."""
    tone, sentence = labels_headline(view.report)
    return render(
        "labels.html",
        view,
        root=root,
        address=f"{LABELS}/{view.report.story}{TEXTS if view.texts else ''}",
        tone=tone,
        headline=sentence,
        disagreements=view.report.disagreements[:SHOWN_DISPUTES],
        errors=view.report.suspects.found[:SHOWN_ERRORS],
        pictures=label_charts,
        lots=lots_shown(view.report.lots),
    )


def texts_shown(report: LabelReport) -> int:
    """How many texts the page shows to somebody who may read them."""
    return len(report.disagreements[:SHOWN_DISPUTES]) + len(report.suspects.found[:SHOWN_ERRORS])


@dataclass(slots=True)
class TextReaders:
    """Who may read customers' texts on a page, and the entry that says that they did.

    A page that reloads itself is one read an hour for each reader, story and number of texts.

    Attributes:
        check: gives the token behind an Authorization header, or refuses.
        record: writes down (what, rows, by whom).
    """

    check: Callable[[str | None], Token]
    record: Callable[[str, int, str], None]
    _known: set[tuple[str, str, int, int]] = field(default_factory=set)

    def admit(self, authorization: str | None, report: LabelReport, at: datetime) -> None:
        """Raises:
        Unauthenticated, Forbidden, TooMany: nobody known, another role, too often.
        """
        token, rows = self.check(authorization), texts_shown(report)
        read = (token.id, report.story, rows, int(at.timestamp()) // _HOUR)
        if read not in self._known:
            self.record(f"texts on the label page of {report.story}", rows, token.name)
            self._known.add(read)


def router(
    view: Callable[[str], LabelsView], missing: Callable[[str, str], Missing], readers: TextReaders
) -> APIRouter:
    """The page at ``/labels/NAME``, and with texts at ``/labels/NAME/texts``.

    Args:
        view: of a story by name; raises InputError for an unknown one.
        missing: what to say, and where to go back to, when there is none.
        readers: who may read texts.
    """
    pages = APIRouter(include_in_schema=False)

    def page(request: Request, root: str, made: Callable[[], LabelsView]) -> Response:
        try:
            shown = made()
            keep = "no-store" if shown.texts else "no-cache"
            return html(request, render_labels(shown, root=root), keep=keep)
        except MangaAssistError as error:
            gone = missing(str(error), "/")
            text = render("missing.html", gone, root=root, address=gone.back)
            answer = html(request, text, status=_status(error))
            if answer.status_code == 401:
                # A browser then asks for a name, which is not looked at, and a password, which is the token.
                answer.headers["WWW-Authenticate"] = 'Basic realm="A token as password", charset="UTF-8"'
            return answer

    @pages.api_route(LABELS + "/{name}", methods=["GET", "HEAD"])
    def labels(request: Request, name: str) -> Response:
        return page(request, request.url.path.rpartition(LABELS + "/")[0], lambda: view(name))

    @pages.api_route(LABELS + "/{name}" + TEXTS, methods=["GET", "HEAD"])
    def texts(request: Request, name: str) -> Response:
        def made() -> LabelsView:
            found = view(name)
            readers.admit(request.headers.get("authorization"), found.report, found.at)
            return replace(found, texts=True)

        return page(request, request.url.path.rpartition(LABELS + "/")[0], made)

    return pages


def _status(error: MangaAssistError) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 503)


_STATUSES: tuple[tuple[type[MangaAssistError], int], ...] = (
    (Unauthenticated, 401),
    (Forbidden, 403),
    (TooMany, 429),
    (InputError, 404),
)
