"""The status page as markup: well formed, local, and readable without eyes, colour or a script."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from tests.web.markup import Node, parse
from tests.web.samples import BUSY, CALM, EMPTY, NOW, STORY

from mangaassist.core.verdict import Status, Verdict
from mangaassist.web.pages import asset, render_status
from mangaassist.web.view import LedgerRow, LedgerView, StatusView, VerdictGroup
from mangaassist.web.wording import DRIFT_WORDS, KINDS, STATUS_WORDS, VERSION_WORDS

TWO = replace(BUSY, stories=(STORY, replace(STORY, name="sentiment", challenger=None, champion=None)))
BROKEN = replace(EMPTY, problem="ledger.db: expected a readable file, got permission denied. Fix its mode.")
VIEWS = {"busy": BUSY, "calm": CALM, "empty": EMPTY, "two": TWO, "broken": BROKEN}


@pytest.fixture(params=VIEWS)
def page(request: pytest.FixtureRequest) -> Node:
    return parse(render_status(VIEWS[request.param]))


def test_document_basics(page: Node) -> None:
    """Issue 2, 9: language, title, viewport, one first heading, headings that skip no level."""
    (html,) = page.find("html")
    assert html.attributes["lang"] == "en"
    assert page.find("title")[0].text.endswith("MangaAssist")
    assert any(one.attributes.get("name") == "viewport" for one in page.find("meta"))
    levels = [int(one.tag[1]) for one in page.find("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert all(one.text for one in page.find("h1", "h2", "h3", "h4", "a", "summary", "title", "caption"))


def test_ids_are_unique_and_references_resolve(page: Node) -> None:
    """Issue 2, 9: labels, skip link and icons point at something that is there, once."""
    ids = Counter(node.attributes["id"] for node in page.walk() if "id" in node.attributes)
    assert [name for name, times in ids.items() if times > 1] == []
    for node in page.walk():
        target = node.attributes.get("href", "")
        references = [target[1:]] if target.startswith("#") else []
        references += node.attributes.get("aria-labelledby", "").split()
        assert all(name in ids for name in references), references


def test_landmarks_and_skip_link(page: Node) -> None:
    """Issue 2, 9: banner, named navigation, one main that the first link of the page jumps to, footer."""
    first = page.find("a")[0]
    (main,) = page.find("main")
    assert first.attributes["href"] == f"#{main.attributes['id']}"
    assert len(page.find("footer")) == 1
    assert [
        one for one in page.find("header") if not any(up.tag in ("main", "article") for up in one.ancestors())
    ]
    assert all(one.attributes.get("aria-label") for one in page.find("nav"))
    named = {"aria-label", "aria-labelledby"}
    assert all(named & set(one.attributes) for one in page.find("section", "article"))


def test_tables_name_themselves_and_their_headers(page: Node) -> None:
    """Issue 2, 9: a caption for every table, a scope for every header, no row without its name or number."""
    for table in page.find("table"):
        assert next(one.tag for one in table.children if isinstance(one, Node)) == "caption"
        assert table.find("caption")[0].text
        assert all(one.attributes.get("scope") in ("col", "row") for one in table.find("th"))
        columns = len(table.find("thead")[0].find("th"))
        for row in table.find("tbody")[0].find("tr"):
            assert len(row.find("th", "td")) == columns


def test_pictures_are_hidden_or_named(page: Node) -> None:
    """Issue 2, 9: a picture either repeats text beside it or speaks for itself."""
    for picture in page.find("svg"):
        hidden = picture.attributes.get("aria-hidden") == "true" or any(
            up.attributes.get("aria-hidden") == "true" for up in picture.ancestors()
        )
        named = picture.attributes.get("role") == "img" and picture.attributes.get("aria-label")
        assert hidden or named
    assert not page.find("img")


def test_no_state_is_told_by_colour_alone(page: Node) -> None:
    """Issue 2, 9: every state has an icon of its own shape and a word."""
    for state in page.classed("state"):
        assert state.text
        assert state.find("use")[0].attributes["href"].startswith("#icon-")


def test_scrolling_regions_are_reachable_and_named(page: Node) -> None:
    """Issue 2, 9: what scrolls sideways can be scrolled with the keyboard."""
    for region in page.classed("scroll"):
        assert region.attributes["tabindex"] == "0"
        assert region.attributes["role"] == "region"
        assert region.attributes["aria-label"]


def test_nothing_is_fetched_from_elsewhere(page: Node) -> None:
    """Issue 2, 9: no address of another server in the page or its files, nothing inline that runs."""
    for node in page.walk():
        for name, value in node.attributes.items():
            assert not name.startswith("on"), name
            if name in ("href", "src", "action", "srcset"):
                assert value.startswith(("#", "/")), value
                assert not value.startswith("//")
        assert "style" not in node.attributes
    assert not page.find("style", "iframe", "object", "base", "form")
    assert all(not script.text for script in page.find("script"))
    for name in ("mangaassist.css", "refresh.js"):
        assert not re.search(rb"https?:|//[a-z]|@import|url\(|eval\(", re.sub(rb"// .*", b"", asset(name)))


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_word_and_a_shape(status: Status) -> None:
    """Issue 2, 9: whatever a verdict says, the page says it in a word."""
    group = VerdictGroup("evaluation", "intent/5", NOW, (Verdict("golden.accuracy", status, "Found."),))
    page = parse(render_status(replace(BUSY, stories=(replace(STORY, verdicts=(group,)),))))
    (row,) = page.classed("verdicts")[0].find("tbody")[0].find("tr")
    assert STATUS_WORDS[status][0] in row.text
    shapes = [icon for words in (STATUS_WORDS, DRIFT_WORDS) for _, icon in words.values()]
    symbols = {one.attributes["id"] for one in page.find("symbol")}
    assert {f"icon-{icon}" for icon in [*shapes, *(icon for _, icon in VERSION_WORDS.values())]} <= symbols
    assert len({icon for _, icon in STATUS_WORDS.values()}) == len(Status)


def test_the_page_tells_everything_it_was_given() -> None:
    """Issue 2, 9: versions, verdicts with numbers, drift, languages, switches, ledger."""
    text = parse(render_status(BUSY)).find("main")[0].text
    for group in STORY.verdicts:
        for verdict in group.verdicts:
            assert verdict.name in text
            assert verdict.sentence in text
    for words in (
        [
            "Champion",
            "v4",
            "Challenger",
            "v5",
            "in progress 71%",
            "2 d of 3 d, 8,120 of at least 100 requests",
        ],
        ["Input", "Fired", "Rising", "Quiet", "Too little data", "0.312", "limit 0.200"],
        ["English", "Japanese", "日本語", "95.1%", "93.5% to 96.4%", "31.0%", "98.2%"],
        ["Failed promotion", "Rolled back from 1% after 41 s"],
        ["Global freeze off", "Shadow traffic off", "by mika"],
        ["Chain verified", "131 entries", "12 min ago", "intent/3 rolled back in 41 s."],
    ):
        for word in words:
            assert word in text, word


def test_the_empty_page_says_what_to_do() -> None:
    """Issue 2, 9: before the first story the page is a place to start from."""
    page = parse(render_status(EMPTY))
    assert "mangaassist demo" in page.find("pre")[0].text
    assert "--text-column text --label-column label --source vendor" in page.find("pre")[1].text
    assert not page.find("table", "article")
    assert "Nothing has been decided yet" in page.text


def test_what_people_typed_stays_text() -> None:
    """Issue 2, 9: names, sentences and reasons are escaped wherever they appear."""
    evil = "<script>alert('1')</script>\" onload=\"x"
    story = replace(
        STORY,
        predicts=evil,
        proposal=evil,
        verdicts=(VerdictGroup("labels", evil, NOW, (Verdict(evil, Status.FAIL, evil, 1.0),)),),
        versions=(replace(STORY.versions[0], note=evil, status=evil, labels=evil, artifact=evil),),
        drift=(replace(STORY.drift[0], finding=evil),),
        languages=(replace(STORY.languages[0], language=evil),),
    )
    view = StatusView(
        NOW, (story,), BUSY.switches, LedgerView((LedgerRow(1, NOW, evil, evil, evil, evil),), 1, False, evil)
    )
    page = parse(render_status(view))
    assert [one.attributes.get("src", "")[:8] for one in page.find("script")] == ["/static/"]
    assert not any(name.startswith("on") for node in page.walk() for name in node.attributes)
    assert page.text.count("alert('1')") >= 10


def test_links_follow_the_mount_point() -> None:
    """Issue 2, 9: under another path every address moves along."""
    page = parse(render_status(BUSY, root="/ui"))
    moved = [
        one.attributes[name]
        for one in page.find("link", "script")
        for name in ("href", "src")
        if name in one.attributes
    ]
    assert len(moved) == 3
    assert all(address.startswith("/ui/static/") for address in moved)


def test_each_kind_of_drift_has_words() -> None:
    """DRF-1: the page knows all four kinds."""
    assert set(KINDS) == {"input", "prediction", "label", "concept"}
