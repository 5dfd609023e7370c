"""The experiment pages in a real browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright
from tests.experiments.tables import table
from tests.web.experiment_samples import look
from tests.web.test_browser import FLAGS

from mangaassist.lifecycle.platform import Platform
from mangaassist.web import server
from mangaassist.web.pages import REFRESH_SECONDS

pytestmark = pytest.mark.browser

ADDRESSES = (
    "/experiments",
    "/experiments/running",
    "/experiments/signing",
    "/experiments/vetoed",
    "/experiments/arms",
    "/experiments/anytime",
    "/experiments/nobody",
    "/guardrails",
    "/calibration",
)


@pytest.fixture(scope="module")
def address(platform: Platform) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(server.create(platform), log_level="error"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    running.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_every_page_fits_and_complains_about_nothing(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    """Issue 6, 8: no sideways scrolling, no console message, no request to anywhere else, both themes."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for one in ADDRESSES:
        page.goto(address + one)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, one
        for details in page.locator("details").all():
            details.evaluate("one => { one.open = true }")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (one, "opened")
    context.close()
    # The page that is not there answers 404, which the browser writes down; it says nothing else.
    assert [one for one in complaints if "404" not in one] == []
    assert {url.startswith(address) for url in asked} == {True}


def test_the_keyboard_reaches_commands_and_details(page: Page, address: str) -> None:
    """Issue 6, 8: every stop has a visible ring; the file opens without a mouse."""
    page.goto(f"{address}/experiments/running")
    focused = "document.activeElement"
    stops: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(f"{focused} === document.body"):
            break
        assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
        stops.append(page.evaluate(f"{focused}.tagName"))
        if page.evaluate(f"{focused}.parentElement.id") == "text":
            page.keyboard.press("Enter")
            assert page.evaluate("document.getElementById('text').open")
    assert stops.count("SUMMARY") == 2
    assert "PRE" in stops


def test_a_screen_reader_hears_numbers_and_states(page: Page, address: str) -> None:
    """Issue 6, 8: named tables, row headers, states in words; the picture points at its table."""
    page.goto(f"{address}/experiments/running")
    heard = page.locator("main").aria_snapshot()
    assert "useful answer rate against control in everybody and in every cohort" in heard
    assert 'rowheader "Everybody' in heard
    assert 'rowheader "Japanese locale"' in heard
    assert "Not shown" in heard
    assert "the table beside it holds the same" in heard
    page.goto(f"{address}/guardrails")
    assert 'table "Guardrails of the catalog with the limit in force"' in page.locator("main").aria_snapshot()


def test_an_open_experiment_follows_the_next_look(page: Page, address: str, platform: Platform) -> None:
    """Issue 6, 8: the page of a running experiment shows a look that was taken while it was open."""
    page.clock.install()
    page.goto(f"{address}/experiments/anytime")
    before = page.get_by_text("Take the next look (look 3).")
    before.wait_for()
    look(platform, "anytime", table(4_000, lift=0.015, seed=21))
    page.clock.fast_forward(REFRESH_SECONDS * 1000)
    page.get_by_text("Take the next look (look 4).").wait_for()


def test_on_paper_nothing_is_hidden(page: Page, address: str) -> None:
    """Issue 6, 8: printed, the navigation is gone and the verdicts are there, opened."""
    page.goto(f"{address}/experiments/vetoed")
    page.emulate_media(media="print")
    assert not page.locator("header .nav").is_visible()
    assert page.locator("table.verdicts").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
