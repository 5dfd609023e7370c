"""The page in a real browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, sync_playwright
from tests.web.samples import BUSY, EMPTY, STORY

from mangaassist.web.pages import REFRESH_SECONDS, router
from mangaassist.web.view import StatusView

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Site:
    """The page served for real; ``view`` may be changed while it runs."""

    def __init__(self) -> None:
        self.view: StatusView = BUSY
        app = FastAPI()
        app.include_router(router(lambda: self.view))
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        # The socket listens already, so the first request waits in its queue instead of failing.
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def site() -> Iterator[Site]:
    running = Site()
    yield running
    running.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("view", [BUSY, EMPTY], ids=["busy", "empty"])
def test_it_fits_and_complains_about_nothing(
    browser: Browser, site: Site, view: StatusView, width: int, scheme: str
) -> None:
    """Issue 2, 9: no sideways scrolling, no console message, no request to anywhere else, both themes."""
    site.view = view
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.address, wait_until="networkidle")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert complaints == []
    assert {url.startswith(site.address) for url in asked} == {True}
    assert ground == ("rgb(19, 20, 24)" if scheme == "dark" else "rgb(247, 245, 240)")


def test_the_keyboard_reaches_everything(page: Page, site: Site) -> None:
    """Issue 2, 9: the first stop is the skip link and it is seen; every stop has a visible ring."""
    page.goto(site.address)
    page.keyboard.press("Tab")
    focused = "document.activeElement"
    assert page.evaluate(f"{focused}.className") == "skip"
    assert page.evaluate(f"{focused}.getBoundingClientRect().top") >= 0
    stops = []
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate(f"{focused} === document.body"):
            break
        assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
        stops.append(page.evaluate(f"{focused}.tagName"))
    assert stops.count("SUMMARY") == len(STORY.verdicts)
    assert "BUTTON" in stops
    page.goto(site.address)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.id") == "main"


def test_the_accessibility_tree_reads_well(page: Page, site: Site) -> None:
    """Issue 2, 9: what a screen reader hears: named tables and rows with words for states."""
    page.goto(site.address)
    heard = page.locator("main").aria_snapshot()
    assert 'table "Drift of intent by kind"' in heard
    assert 'rowheader "Input what comes in"' in heard
    assert "Input drift from 22 Feb 2026 to 24 Mar 2026, now 0.312, limit 0.200" in heard
    assert 'list "Rollout of v5"' in heard


def test_an_open_page_follows_without_losing_its_place(page: Page, site: Site) -> None:
    """Issue 2, 9: new content arrives by itself; what was opened or closed stays so; pausing stops it."""
    page.clock.install()
    page.goto(site.address)
    page.locator("#group-intent-labels > summary").click()
    page.evaluate("document.activeElement.blur()")
    site.view = replace(BUSY, stories=(replace(STORY, predicts="Changed while open."),))
    page.clock.fast_forward(REFRESH_SECONDS * 1000)
    page.get_by_text("Changed while open.").wait_for()
    assert page.evaluate("document.getElementById('group-intent-labels').open")
    page.get_by_role("button", name="Pause updates").click()
    site.view = EMPTY
    with page.expect_response(site.address) as answer:
        page.clock.fast_forward(10 * REFRESH_SECONDS * 1000)
        assert page.get_by_text("Changed while open.").is_visible()
        page.get_by_role("button", name="Resume updates").click()
    assert answer.value.status == 200
    page.get_by_text("No story yet").wait_for()


def test_a_lost_server_is_said(page: Page, site: Site) -> None:
    """Issue 2, 9: an old page says that it may be old."""
    page.clock.install()
    page.goto(site.address)
    page.route(site.address, lambda route: route.abort())
    page.clock.fast_forward(REFRESH_SECONDS * 1000)
    page.get_by_text("Connection lost; what you see may be old.").wait_for()
    page.unroute(site.address)
    page.clock.fast_forward(REFRESH_SECONDS * 1000)
    page.get_by_text("Connected again.").wait_for()


def test_without_a_script_the_page_is_whole_and_reloads(browser: Browser, site: Site) -> None:
    """Issue 2, 9: the refresh degrades to a link."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.address)
    site.view = EMPTY
    page.get_by_role("link", name="Reload").click()
    page.get_by_text("No story yet").wait_for()
    context.close()
