"""The 3am page: from evidence to a page that needs no script, fits any size and says how old it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, sync_playwright
from tests.web.oncall_samples import BAD_NIGHT, CALM_NIGHT, NOTHING_YET, NOW, Night, incident
from tests.web.test_browser import FLAGS

from mangaassist.core.verdict import Status
from mangaassist.incidents.snapshot import MOST_POINTS, snapshot
from mangaassist.incidents.snapshot_json import as_dict, from_dict
from mangaassist.web.oncall import router
from mangaassist.web.oncall_view import boxes, charts, dial, page, said
from mangaassist.web.runbooks import runbooks

VIEWS = {"bad": BAD_NIGHT, "calm": CALM_NIGHT, "nothing": NOTHING_YET}


def shown(name: str, *, seconds: float = 20) -> str:
    view = VIEWS[name]
    return page(view, now=view.at + timedelta(seconds=seconds), inline=True)


@pytest.mark.parametrize("name", VIEWS)
def test_a_snapshot_survives_its_file(name: str) -> None:
    """INC-2: built in advance; what is served is what was built."""
    body = json.loads(json.dumps(as_dict(VIEWS[name])))
    assert from_dict(body) == VIEWS[name]


def test_everything_of_the_requirement_is_on_it() -> None:
    """INC-2: three windows with markers, data health, ten features, cohorts, stages, shards, dependencies."""
    text = shown("bad")
    drawn = charts(BAD_NIGHT)
    assert [one.title for one in drawn] == ["7 days", "24 hours", "60 minutes"]
    assert sum(int(one.letter) if one.letter.isdigit() else 1 for one in drawn[0].markers) == 8
    assert [one.letter for one in drawn[2].markers] == ["X"]
    assert all(one.trouble for one in drawn)
    assert all(len(points) <= MOST_POINTS for one in BAD_NIGHT.focus for points in one.points.values())
    found = {one.key: one for one in boxes(BAD_NIGHT)}
    assert list(found) == ["data", "features", "cohorts", "stages", "shards"]
    assert len(found["features"].rows) == 10
    assert found["shards"].rows[0][0] == "shard_3"
    assert found["data"].verdict.status is Status.STALE
    assert not found["cohorts"].rows[1][1].verdict.blocking  # moved, and no alarm has decided yet
    for part in (
        "Incident: recsys and reranker",
        "T+18",
        "mangaassist index rebuild catalog --shard 3",
        "Localised after 9 min",
        "/runbooks/index",
        "5 of 8 ruled out",
        "language_model",
        "Upgraded to 2.11.1 overnight",
        "<title>managed service search-api",
    ):
        assert part in text, part


def test_what_is_absent_is_said() -> None:
    """INC-2: no retrieval, no recall: the panel says why instead of showing something."""
    assert "No retrieval index exists in this home." in shown("calm")
    assert "No incident" in shown("calm")
    assert "No story answers requests yet." in shown("nothing")
    assert "No probe has run yet." in shown("nothing")


def test_its_headline() -> None:
    assert said(BAD_NIGHT)[0] == "fail"
    assert said(replace(BAD_NIGHT, incidents=())) == (
        "rising",
        "No incident, but look at language model, quality, feature drift, shard recall, cohorts",
    )
    assert said(CALM_NIGHT) == ("pass", "No incident")
    quality = next(one for one in CALM_NIGHT.panels if one.name == "quality")
    silent = replace(quality, verdict=replace(quality.verdict, status=Status.STALE))
    assert said(replace(CALM_NIGHT, panels=(silent,)))[0] == "stale"
    assert said(replace(CALM_NIGHT, problem="The ledger is away.")) == ("fail", "The ledger is away.")


def test_old_data_are_said_to_be_old() -> None:
    """INC-2: no older than 60 s, and visibly so when it is; a file kept of a drill has no age."""
    fresh, old = shown("bad", seconds=59), shown("bad", seconds=61)
    assert "Fresh" in fresh
    assert "Old data" not in fresh
    assert "Old data" in old
    assert "the schedule has stopped" in old
    assert "later--0" in fresh  # a minute after the data, not after the load, it calls itself old
    kept = page(replace(BAD_NIGHT, source="shard_corruption"), inline=True)
    assert "Drill shard_corruption" in kept
    assert "Old data" not in kept


def test_the_hand_moves_through_three_windows() -> None:
    """INC-4: each of 15, 60 and 240 minutes can be read off the same bar."""
    one = BAD_NIGHT.incidents[0]
    places = [dial(replace(one, elapsed=float(at))).hand for at in (0, 7.5, 15, 37.5, 60, 150, 240, 999)]
    assert places == pytest.approx([0, 66.7, 133.3, 200, 266.7, 333.3, 400, 400], abs=0.1)


def test_the_focus_is_where_it_hurts() -> None:
    """INC-2: the series of the earliest alarm is drawn large; a cohort's beside everybody's."""
    known = incident()
    japan = replace(known.incident.alarms[0], cohort="locale=ja")
    known = replace(known, incident=replace(known.incident, alarms=(japan,)))
    view = snapshot(Night(), [known])
    assert [one.cohort for one in view.focus] == ["locale=ja", "all"]
    assert [one.verdict.status for one in view.focus] == [Status.FAIL, Status.FAIL]
    assert [one.verdict.blocking for one in view.focus] == [True, False]


@pytest.fixture(scope="module")
def http() -> TestClient:
    app = FastAPI()
    app.include_router(router(lambda: BAD_NIGHT, lambda: NOW + timedelta(seconds=5)))
    return TestClient(app)


def test_routes(http: TestClient) -> None:
    """INC-2, INC-6: the page and every runbook are reachable, and nothing on them may run."""
    answer = http.get("/oncall")
    assert answer.status_code == 200
    assert "script" not in answer.text
    assert "style=" not in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert http.get("/runbooks").text.count('href="/runbooks/') == len(runbooks())
    for name in runbooks():
        assert http.get(f"/runbooks/{name}").status_code == 200
    missing = http.get("/runbooks/indeks")
    assert missing.status_code == 404
    assert "index" in missing.text


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("width", [360, 390, 768, 1440])
def test_it_fits_without_a_script(browser: Browser, name: str, width: int) -> None:
    """INC-2: phone and desk, no sideways scrolling, nothing asked of anybody, no text under 12 px."""
    context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=True)
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("request", lambda request: complaints.append(request.url))
    tab.set_content(shown(name))
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    smallest = tab.evaluate(
        "Math.min(...[...document.querySelectorAll('body *:not(svg *)')]"
        ".map(one => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert smallest >= 12
    assert complaints == []
    context.close()


@pytest.mark.browser
def test_the_first_screen_holds_what_decides(browser: Browser) -> None:
    """INC-2, in one screen: at 1440 by 900 the clock, the command and every panel's verdict are seen."""
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.set_content(shown("bad"))
    for what in (".clock", ".command", ".chart", ".box h2", ".changes h2"):
        for place in range(tab.locator(what).count()):
            box = tab.locator(what).nth(place).bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 900, what
    tab.set_viewport_size({"width": 390, "height": 844})
    order = [tab.locator(one).first.bounding_box()["y"] for one in (".clock", ".command", ".chart", ".box")]  # type: ignore[index]
    assert order == sorted(order)
    tab.close()


@pytest.mark.browser
def test_an_open_page_grows_old_by_itself(browser: Browser) -> None:
    """INC-2: left open, it says without a script that it is older than a minute."""
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.set_content(shown("bad", seconds=59.5))
    later = tab.locator(".later")
    assert not later.is_visible()
    later.wait_for(state="visible", timeout=5_000)
    context.close()
