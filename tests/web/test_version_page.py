"""The page of one version: every ledger entry and every slice is there, and says its state in words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from tests.promotion.samples import AT, TAGS, failing, passing, registry
from tests.web.markup import Node, parse

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json
from mangaassist.evaluation.report import Slice, SliceMatrix
from mangaassist.lifecycle.platform import Platform
from mangaassist.web.server import create
from mangaassist.web.version_view import Event, VersionPage
from mangaassist.web.versions import _in_a_row, version_view

ACCURACY = {"value": 0.9, "low": 0.88, "high": 0.92, "n": 200}


def part(name: str, n: int, correct: int, *, flagged: bool = False) -> Slice:
    value, few = correct / n, n < 30
    p = None if few else 0.001 if flagged else 1.0
    return Slice(name, n, correct, value, value - 0.05, min(value + 0.05, 1.0), 1.0, -0.2, p, few, flagged)


MATRIX = SliceMatrix(
    (
        part("language=en", 120, 116),
        part("language=ja", 80, 64, flagged=True),
        part("label=returns", 90, 81),
        part("label=order_status", 110, 99),
        part("language=en & label=returns", 80, 76),
        part("language=ja & label=returns", 10, 5),
        part("language=en & label=order_status", 40, 40),
    ),
    minimum=30,
)


@pytest.fixture
def platform(home: Home, clock: SimulatedClock) -> Platform:
    target = registry(home)
    stored = target.artifacts.put_files({"slices.json": canonical_json(MATRIX.as_dict())})
    target.register(
        "intent",
        artifact=target.artifacts.put_files({"manifest.json": b"{}"}),
        tags=TAGS,
        metrics={"accuracy": ACCURACY},
        gate=passing("intent"),
        run_id="r1",
        actor="retrain",
        at=AT,
        documents={"slices": stored},
        waivers=[{"name": "label_iaa_jp", "actor": "emi", "reason": "pool of three"}],
        policy="p" * 64,
    )
    target.start_shadow("intent", 1, actor="retrain", at=AT)
    target.fail("intent", 1, decision=failing("intent/1", actor="emi"))
    return Platform.open(home, clock)


@pytest.fixture
def client(platform: Platform) -> Iterator[TestClient]:
    with TestClient(create(platform)) as found:
        yield found


@pytest.fixture
def page(client: TestClient) -> Node:
    answer = client.get("/models/intent/1")
    assert answer.status_code == 200
    return parse(answer.text)


def view(platform: Platform) -> VersionPage:
    return version_view(platform, "intent", 1)


def test_every_entry_about_the_version_is_on_the_page(page: Node, platform: Platform) -> None:
    """PRO-9: registered, in shadow, failed, with actors, reasons and verdicts."""
    shown = [node.attributes["id"] for node in page.find("details")]
    entries = platform.ledger.entries(subject="registry/intent")
    assert shown == [f"event-{entry.sequence}" for entry in entries]
    for words in ("registered", "started its shadow", "failed", "by emi", "Errors doubled.", "label_iaa_jp"):
        assert words in page.text


def test_the_heat_map_has_a_cell_per_cross_and_says_what_is_missing(platform: Platform) -> None:
    """EVA-2: small slices are shown as such, absent ones as absent, flags carry words."""
    (found,) = view(platform).maps
    assert (found.rows, found.columns, found.heads) == ("label", "language", ("", "en", "ja"))
    rows = dict(found.body)
    returns, orders = rows["returns"], rows["order_status"]
    assert orders[2] is None
    assert returns[2] is not None
    assert returns[2].insufficient
    assert [cell.shade if cell else None for cell in returns] == [0, 0, 4]
    assert [cell.shade if cell else None for cell in orders] == [0, 0, None]


def test_a_flag_is_a_row_a_word_and_an_edge(page: Node, platform: Platform) -> None:
    assert [one.name for one in view(platform).flagged] == ["language=ja"]
    assert "language=ja" in page.text
    assert "no rows" in page.text
    few = [node for node in page.classed("heat--few") if node.tag == "td"]
    assert [node.attributes["title"].endswith("too few rows to test") for node in few] == [True]


def test_an_unknown_version_or_story_is_a_page_with_the_way_back(client: TestClient) -> None:
    for address in ("/models/intent/9", "/models/intnet/1"):
        answer = client.get(address)
        assert answer.status_code == 404
        assert parse(answer.text).find("h1")


def test_a_lost_document_leaves_the_rest_standing(platform: Platform, home: Home) -> None:
    stored = platform.registry.get("intent", 1).documents["slices"]
    (home.folder("artifacts") / stored[:2] / stored).unlink()
    found = view(platform)
    assert found.problem
    assert found.maps == ()
    assert found.events


def test_a_stage_that_held_again_and_again_is_one_line() -> None:
    held = [Event(n, AT, "controller", "held in shadow", f"look {n}", (), override=False) for n in (3, 4, 6)]
    moved = Event(7, AT, "controller", "moved to canary_1", "", (), override=False)
    found = list(_in_a_row([*held, moved, held[0]]))
    assert [(one.sequence, one.entries, one.reason) for one in found] == [
        (6, 3, "look 6"),
        (7, 1, ""),
        (3, 1, "look 3"),
    ]
