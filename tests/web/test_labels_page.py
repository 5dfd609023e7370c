"""The label page: what it shows of a real store, and that it reads no more often than it must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from html import escape

import numpy as np
import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, sync_playwright
from tests.web.test_browser import FLAGS

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.core.verdict import Status, Verdict
from mangaassist.governance.access import READ, Access
from mangaassist.labels.lots import LotReview
from mangaassist.labels.records import Example, Label, examples_frame, labels_frame
from mangaassist.lifecycle.label_quality import review_labels
from mangaassist.lifecycle.label_report import label_report
from mangaassist.lifecycle.platform import Platform
from mangaassist.web import server
from mangaassist.web.labels import LabelsView, labels_headline, labels_view, lots_shown, render_labels

CLASSES = ("order_status", "return_request", "greeting_chitchat")
WORDS = {
    "order_status": "where is parcel",
    "return_request": "money back for",
    "greeting_chitchat": "hello dear",
}


def fill(platform: Platform) -> None:
    """Six weeks of two people and a model on 20 texts a day; bo goes wrong in the last week."""
    store, story, now = platform.labels, platform.story("intent"), platform.clock.now()
    generator = np.random.default_rng(5)
    texts, votes = [], []
    for day in range(42):
        at = now - timedelta(days=42 - day) + timedelta(hours=1)
        for n in range(20):
            truth = CLASSES[int(generator.integers(3))]
            row = Example(f"{WORDS[truth]} <b>{day} {n}", at)
            frame = examples_frame([row], model_target=story.name, ingested_at=now)
            say = partial(Label, str(frame["example_id"][0]), captured_at=at, labeled_at=at)
            texts.append(row)
            lot = f"en-{day // 7}"
            for who in ("ann", "bo", "cy"):
                error = 0.5 if who == "bo" and day >= 35 else 0.03
                said = CLASSES[(CLASSES.index(truth) + (generator.random() < error)) % 3]
                votes.append(say(label=said, source="vendor", annotator_id=who, lot=lot))
            said = CLASSES[(CLASSES.index(truth) + (generator.random() < 0.02)) % 3]
            votes.append(say(label=said, source="llm", annotator_id="model"))
    store.add_examples(story, examples_frame(texts, model_target=story.name, ingested_at=now))
    store.add_labels(story, labels_frame(votes, model_target=story.name))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    from tests.conftest import START

    made = Platform.open(Home.open(tmp_path_factory.mktemp("labels") / "home"), SimulatedClock(START))
    fill(made)
    review_labels(made, "intent", actor="qa")
    label_report(made, "intent")
    return made


@pytest.fixture(scope="module")
def page(platform: Platform) -> str:
    return TestClient(server.create(platform)).get("/labels/intent").text


def test_it_says_what_the_report_says(platform: Platform, page: str) -> None:
    """Every part of the issue's list is there, with the report's own numbers."""
    report = label_report(platform, "intent", compute=False)
    assert "bo is paused." in page
    for heading in ("volume", "pools", "annotators", "lots", "disagreements", "sources", "errors"):
        assert f'<h2 id="{heading}">' in page
    (paused,) = report.pauses
    assert paused.reason in page
    assert report.suspects.noise is not None
    assert f"{report.suspects.noise.value * 100:.1f}%" in page
    (confusion,) = report.confusions
    assert f"{confusion.same.value * 100:.1f}%" in page
    assert f"{report.waiting} disagreements in all" in page
    assert "<b>0 " not in page
    assert "Text not shown" in page


def token(platform: Platform, role: str, name: str = "emi") -> str:
    _, text = Access(platform.ledger).issue(
        name, role, lasts=timedelta(days=1), actor="dai", at=platform.clock.now()
    )
    return text


def test_old_lots_are_folded_away_but_not_those_in_trouble() -> None:
    """Six of each language at once, newest first; a rejected one is seen at any age."""
    overlap = Verdict("labels.overlap", Status.PASS, "As planned.")
    fine = LotReview("", "en", None, None, 0, 0, 0, 0, overlap, "accepted", 0.75, "")
    names = [f"2026-W{week:02d}" for week in range(1, 11)]
    lots = [replace(fine, lot=name, pool=pool) for name in names for pool in ("ja", "en")]
    lots[0] = replace(lots[0], outcome="rejected")
    found = lots_shown(lots)
    newest = names[:3:-1]
    assert [(one.pool, one.lot) for one in found.shown] == [
        *(("en", name) for name in newest),
        *(("ja", name) for name in newest),
        ("ja", "2026-W01"),
    ]
    assert sorted(found.shown + found.earlier, key=lots.index) == lots


def test_texts_are_for_those_who_may_read_them_and_that_is_written_down(platform: Platform) -> None:
    """GOV-4: a browser asks for the token as a password; reloading is the same read."""
    client, address = TestClient(server.create(platform)), "/labels/intent/texts"
    report = label_report(platform, "intent", compute=False)
    texts = [escape(one.text) for one in (*report.disagreements[:10], *report.suspects.found[:15])]
    assert texts
    page = client.get("/labels/intent").text
    assert not any(f">{text}<" in page for text in texts)
    nobody = client.get(address)
    assert (nobody.status_code, nobody.headers["www-authenticate"][:5]) == (401, "Basic")
    assert client.get(address, auth=("x", token(platform, "viewer"))).status_code == 403
    assert not platform.ledger.entries(kind=READ)
    emi = token(platform, "engineer")
    for _ in range(2):
        shown = client.get(address, auth=("whoever", emi))
        assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-store")
    assert all(f">{text}<" in shown.text for text in texts)
    assert "&lt;b&gt;" in shown.text  # what shoppers wrote is text, never markup
    [read] = platform.ledger.entries(kind=READ)
    assert (read.actor, read.body["rows"]) == ("emi", len(texts))
    assert "label page of intent" in read.body["what"]
    assert isinstance(platform.clock, SimulatedClock)
    platform.clock.advance(timedelta(hours=1))
    client.get(address, headers={"Authorization": f"Bearer {emi}"})
    assert len(platform.ledger.entries(kind=READ)) == 2


def test_a_story_without_labels_says_how_to_begin(bare: Platform) -> None:
    found = TestClient(server.create(bare)).get("/labels/intent")
    assert found.status_code == 200
    assert "Nothing has been labelled yet." in found.text
    assert "mangaassist labels import intent" in found.text


def test_an_unknown_story_is_not_found_with_the_nearest_name(bare: Platform) -> None:
    found = TestClient(server.create(bare)).get("/labels/intnt")
    assert found.status_code == 404
    assert "intent" in found.text


def test_the_report_is_made_again_only_when_something_changed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that reloads itself every quarter of a minute reads the tables once."""
    made = []
    real = label_report

    def counting(*given: object, **options: object) -> object:
        made.append(1)
        return real(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("mangaassist.web.labels.label_report", counting)
    view = labels_view(platform)
    first = view("intent")
    assert view("intent").report is first.report
    platform.ledger.append(
        kind="note", subject="labels/intent", body={}, actor="test", at=platform.clock.now()
    )
    assert view("intent").report is not first.report
    assert len(made) == 2
    assert labels_headline(first.report)[0] == "alert"
    assert isinstance(first, LabelsView)
    assert "Labels of intent" in render_labels(first)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (1280, "light")])
def test_it_fits_in_a_browser(browser: Browser, platform: Platform, width: int, scheme: str) -> None:
    """No sideways scrolling and no complaint, narrow and wide, light and dark."""
    client = TestClient(server.create(platform))
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
    )
    shown = context.new_page()
    complaints: list[str] = []
    shown.on("console", lambda message: complaints.append(message.text))

    def answer(route: object) -> None:
        path = route.request.url.removeprefix("http://labels.test")  # type: ignore[attr-defined]
        got = client.get(path)
        route.fulfill(status=got.status_code, headers=dict(got.headers), body=got.content)  # type: ignore[attr-defined]

    shown.route("**/*", answer)
    shown.goto("http://labels.test/labels/intent", wait_until="networkidle")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert complaints == []
