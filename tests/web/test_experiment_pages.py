"""The experiment, guardrail and calibration pages: what they say, and that it is what the ledger says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.experiments.examples import frozen
from tests.experiments.tables import table
from tests.web import test_page as every
from tests.web.experiment_samples import EVIL, REVIEW, SEQUENTIAL, filled, look, plan
from tests.web.markup import Node, main_text, parse
from typer.testing import CliRunner

from mangaassist.cli.main import app as cli
from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.core.verdict import Status
from mangaassist.experiments import registry
from mangaassist.experiments.information import boundary_at, users_at
from mangaassist.lifecycle.platform import Platform
from mangaassist.web import experiment_pages, server
from mangaassist.web.calibration import calibration_view
from mangaassist.web.experiments import experiment_view, experiments_view
from mangaassist.web.guardrails import guardrails_view
from mangaassist.web.pages import asset
from mangaassist.web.view import PAGES
from mangaassist.web.wording import change, p_value

RULES: list[Callable[[Node], None]] = [
    every.test_document_basics,
    every.test_ids_are_unique_and_references_resolve,
    every.test_landmarks_and_skip_link,
    every.test_tables_name_themselves_and_their_headers,
    every.test_pictures_are_hidden_or_named,
    every.test_no_state_is_told_by_colour_alone,
    every.test_scrolling_regions_are_reachable_and_named,
    every.test_nothing_is_fetched_from_elsewhere,
]
NAMES = ("running", "signing", "refused", "vetoed", "anytime", "arms", "evil", "won")
ADDRESSES = (
    "/experiments",
    "/guardrails",
    "/calibration",
    "/experiments/nobody",
    *(f"/experiments/{one}" for one in NAMES),
)
START = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.removeprefix("test_"))
def test_every_page_keeps_the_rules_of_the_house(
    http: TestClient, bare: Platform, rule: Callable[[Node], None]
) -> None:
    """Issue 6, 8: one look and one set of rules for all pages, full, empty and missing."""
    for address in ADDRESSES:
        rule(parse(http.get(address).text))
    empty = TestClient(server.create(bare))
    for page in PAGES:
        rule(parse(empty.get(page.href).text))


def test_every_class_has_a_rule(http: TestClient) -> None:
    """Issue 6, 8: one stylesheet, and nothing styled by a class that does not exist."""
    ruled = set(re.findall(r"\.([a-z_-][a-z0-9_-]*)", asset("mangaassist.css").decode()))
    used = {
        name
        for address in ADDRESSES
        for node in parse(http.get(address).text).walk()
        for name in node.attributes.get("class", "").split()
    }
    assert used - ruled <= {"track__stage--ahead"}


def test_the_navigation_leads_everywhere(http: TestClient, bare: Platform) -> None:
    """Issue 6, 8: the same pages in the same order everywhere, each there even before the first entry."""
    empty = TestClient(server.create(bare))
    for address in (*ADDRESSES, "/"):
        page = parse(http.get(address).text)
        (nav,) = [one for one in page.find("nav") if one.attributes["aria-label"] == "Pages"]
        assert [one.text for one in nav.find("a")] == [one.text for one in PAGES]
        current = [one for one in nav.find("a") if "aria-current" in one.attributes]
        assert [one.attributes["href"] for one in current] == ["/" + address.split("/")[1]]
    for one in PAGES:
        assert empty.get(one.href).status_code == 200
        assert empty.head(one.href).status_code == 200


def test_the_list_puts_first_what_waits_for_somebody(platform: Platform) -> None:
    """Issue 6, 8: paused, unsigned and refused before running before decided; each with its next command."""
    rows = experiments_view(platform).rows
    waiting = [row.name for row in rows if row.attention]
    assert set(waiting) == {"arms", "signing", "refused"}
    assert [row.name for row in rows[:3]] == waiting
    states = {row.name: (row.state, row.looks, row.planned, row.action, row.final) for row in rows}
    assert states == {
        "running": ("running", 1, 4, "hold", False),
        "signing": ("signing", 0, 4, "", False),
        "refused": ("running", 0, 4, "refuse", False),
        "vetoed": ("shipped", 1, 4, "promote", True),
        "anytime": ("running", 2, None, "hold", False),
        "arms": ("paused", 1, 1, states["arms"][3], False),
        "evil": ("running", 0, 4, "", False),
        "won": ("shipped", 1, 4, "promote", True),
    }
    exposure = {row.name: row.exposure for row in rows}
    assert (exposure["running"], exposure["arms"], exposure["signing"], exposure["won"]) == (
        0.1,
        0,
        None,
        None,
    )
    assert all(row.steps for row in rows)


def test_the_empty_list_teaches_the_first_command(bare: Platform) -> None:
    """Issue 6, 8: before the first experiment the page is a place to start from."""
    page = parse(TestClient(server.create(bare)).get("/experiments").text)
    assert page.find("pre")[0].text == "mangaassist experiment size PLAN.yaml"
    assert "mangaassist experiment register PLAN.yaml" in page.find("pre")[1].text
    assert not page.find("table")


def test_the_commands_a_page_shows_lead_to_a_decision(tmp_path: Path) -> None:
    """Issue 6, 8: whoever does nothing but run the first command shown gets from a file to a decision."""
    text, data = tmp_path / "plan.yaml", tmp_path / "DATA.parquet"
    text.write_text(plan("guided"))
    table(24_000, lift=0.08).write_parquet(data)
    home = tmp_path / "home"
    runner = CliRunner()
    assert runner.invoke(cli, ["--home", str(home), "experiment", "register", str(text)]).exit_code == 0
    seen = []
    for _ in range(8):
        platform = Platform.open(Home.open(home), SimulatedClock(START))
        view = experiment_view(platform, "guided")
        platform.ledger.close()
        if not view.row.steps:
            break
        command = view.row.steps[0].command
        seen.append(shlex.split(command)[2])
        command = command.replace("DATA.parquet", str(data)).replace(" X ", " 0.06 ").replace(" Y", " 0.08")
        done = runner.invoke(cli, ["--home", str(home), *shlex.split(command)[1:]])
        assert done.exit_code == 0, (command, done.output)
    assert seen == ["sign", "sign", "sign", "look", "decide", "correlation"]
    assert view.row.state == "shipped"
    assert not view.row.steps


def test_the_page_shows_what_the_look_recorded(platform: Platform, http: TestClient) -> None:
    """Issue 6, 8: aggregate and cohorts together, with recorded lifts, intervals and adjusted p-values."""
    body = registry.get(platform.ledger, "running").looks[-1]
    page = parse(http.get("/experiments/running").text)
    rows = page.classed("effects")[0].find("tbody")[0].find("tr")
    recorded = [body["readings"][0], *body["cohorts"]]
    assert len(rows) == len(recorded) == 4
    for row, one in zip(rows, recorded, strict=True):
        relative = one["relative"]
        assert change(relative["value"]) in row.text
        assert f"{change(relative['low'])} to {change(relative['high'])}" in row.text
        assert p_value(one["adjusted_p"]) in row.text
        assert f"{one['n']:,}" in row.text
        assert ("Not shown" in row.text) == (not one["significant"])
    assert [row.find("th")[0].text.split()[0] for row in rows] == [
        "Everybody",
        "English",
        "Japanese",
        "Mixed",
    ]


def test_only_adjusted_significance_is_shown(platform: Platform, http: TestClient) -> None:
    """EXP-5: neither the z-value of a look nor the p-value that belongs to it alone stands on the page."""
    from scipy import stats

    body = registry.get(platform.ledger, "running").looks[-1]
    shown = main_text(http.get("/experiments/running").text)
    z = abs(body["z"]["useful_answer_rate|treatment|all"])
    naive = 2 * stats.norm.sf(z)
    assert f"{z:.3f}" not in shown
    assert f"{naive:.3f}" not in shown
    assert f"{naive:.2f}" not in shown
    assert p_value(body["readings"][0]["adjusted_p"]) in shown


def test_looks_stand_beside_their_boundaries(platform: Platform) -> None:
    """EXP-5: registered looks with boundary and spent error, taken and to come; the picture agrees."""
    looks = experiment_view(platform, "running").looks
    assert [(row.title, row.ending) for row in looks.rows] == [
        ("Day 4", "taken"),
        ("Day 7", "next"),
        ("Day 11", "ahead"),
        ("Day 14", "ahead"),
    ]
    assert [round(row.boundary or 0, 3) for row in looks.rows] == [4.033, 2.965, 2.292, 2.024]
    assert looks.rows[-1].spent == pytest.approx(0.05)
    (boundary,) = looks.boundaries
    (seen,) = boundary.observed
    (reading,) = looks.rows[0].readings
    assert reading.reached == pytest.approx(seen.z / boundary.gates[0][1])
    assert not seen.crossed
    assert abs(reading.reached or 0) < 1
    won = experiment_view(platform, "won").looks
    assert won.boundaries[0].observed[0].crossed
    assert (won.rows[0].readings[0].reached or 0) > 1
    assert [row.ending for row in won.rows[1:]] == ["cancelled"] * 3


def test_any_time_looks_are_held_to_the_boundary_of_their_users(platform: Platform) -> None:
    """EXP-5: an always-valid plan has a curve over users instead of registered looks."""
    looks = experiment_view(platform, "anytime").looks
    assert [row.ending for row in looks.rows] == ["taken", "taken", "next"]
    (boundary,) = looks.boundaries
    assert boundary.by_users
    assert [one.x for one in boundary.observed] == [1_500, 3_000]
    heights = [z for _, z in boundary.curve]
    assert all(z > 1.96 for z in heights)
    for row, one in zip(looks.rows, boundary.observed, strict=False):
        assert (abs(row.readings[0].reached or 0) >= 1) == one.crossed


def test_each_arm_has_its_own_effects_and_guardrails(platform: Platform, http: TestClient) -> None:
    """Issue 6, 8: with several treatments nothing is pooled over them by accident."""
    view = experiment_view(platform, "arms")
    assert view.effects is not None
    assert [group.arm for group in view.effects.groups] == ["large", "animated"]
    assert [len(group.rows) for group in view.effects.groups] == [4, 4]
    assert all(row.guard is not None for group in view.effects.groups for row in group.rows if row.dimension)
    assert {(row.name, row.arm) for row in view.guards} == {
        (name, arm)
        for name in ("csat", "cohort locale=en", "cohort locale=ja", "cohort locale=mixed")
        for arm in ("large", "animated")
    }
    assert all(row.verdict is not None and row.verdict.name.endswith(row.arm) for row in view.guards)
    assert not any(one.drawable for one in view.looks.boundaries)
    assert "large" in main_text(http.get("/experiments/arms").text)


def test_a_veto_and_its_override_are_told(platform: Platform, http: TestClient) -> None:
    """GRD-2: the page shows the failed guardrail, who set it aside, with which words, until when."""
    view = experiment_view(platform, "vetoed")
    (csat,) = [row for row in view.guards if row.name == "csat"]
    assert csat.verdict is not None
    assert csat.verdict.status is Status.FAIL
    assert view.override is not None
    assert view.override.until == view.override.at + timedelta(days=90)
    shown = main_text(http.get("/experiments/vetoed").text)
    assert "Veto set aside by d. tanaka" in shown
    assert " ".join(REVIEW.split()) in shown
    assert "Mechanical veto." in shown


def test_broken_data_is_a_finding_without_an_effect(platform: Platform, http: TestClient) -> None:
    """EXP-2: the sample-ratio alarm is on the page with both shares, and no effect is."""
    view = experiment_view(platform, "refused")
    assert view.effects is None
    assert view.assignment.split is not None
    assert view.assignment.split.status is Status.FAIL
    assert view.decision is not None
    assert view.decision.action == "refuse"
    shown = main_text(http.get("/experiments/refused").text)
    assert "Split broken" in shown
    assert "The split is not the registered one" in shown
    assert "It spent no look." in shown
    assert "ramp refused" not in shown


def test_a_registration_shows_who_has_signed_and_what(platform: Platform, http: TestClient) -> None:
    """EXP-1: digest, signatures, missing roles and the file word for word."""
    known = registry.get(platform.ledger, "signing")
    page = parse(http.get("/experiments/signing").text)
    shown = page.find("main")[0].text
    assert known.digest[:16] in shown
    assert "Signed pm mika" in shown
    assert shown.count("Missing") == 2
    files = [one for one in page.find("pre") if one.attributes["aria-label"] == "The registered file"]
    assert files[0].text == " ".join(known.text.split())
    assert "nobody may before every role has signed" in shown


def test_what_people_typed_stays_text(http: TestClient) -> None:
    """Issue 6, 8: a hypothesis with markup in it is a hypothesis with markup in it."""
    for address in ("/experiments", "/experiments/evil"):
        page = parse(http.get(address).text)
        assert [one.attributes.get("src", "")[:8] for one in page.find("script")] == ["/static/"]
    assert EVIL in main_text(http.get("/experiments/evil").text)


def test_an_unknown_experiment_is_a_sentence(http: TestClient) -> None:
    """Issue 6, 8: the nearest known name and the way back, with the status that programs expect."""
    answer = http.get("/experiments/runing")
    assert answer.status_code == 404
    page = parse(answer.text)
    assert "running" in page.find("main")[0].text
    assert "/experiments" in [one.attributes["href"] for one in page.find("main")[0].find("a")]
    assert not [one for one in page.walk() if one.attributes.get("id") == "refresh"]


def test_pages_move_with_their_mount_point(platform: Platform) -> None:
    """Issue 6, 8: under another path every address moves along, whatever the page."""
    from fastapi import FastAPI

    app = FastAPI()
    views = experiment_pages.Views(
        lambda: experiments_view(platform),
        lambda name: experiment_view(platform, name),
        lambda: guardrails_view(platform),
        lambda quarter: calibration_view(platform, quarter),
        lambda sentence, back: server.Missing(START, sentence, back),
    )
    app.include_router(experiment_pages.router(views), prefix="/ui/experiments")
    http = TestClient(app)
    for address in (*ADDRESSES, "/calibration/2026-Q4"):
        page = parse(http.get(f"/ui/experiments{address}").text)
        (nav,) = [one for one in page.find("nav") if one.attributes["aria-label"] == "Pages"]
        assert "/ui/experiments/experiments" in [one.attributes["href"] for one in nav.find("a")]
        assert page.find("link")[0].attributes["href"].startswith("/ui/experiments/static/")


def test_an_unchanged_page_is_not_sent_twice(http: TestClient) -> None:
    """Issue 6, 8: following an open page costs a tag when nothing happened; nothing inline may run."""
    answer = http.get("/experiments/running")
    again = http.get("/experiments/running", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_page_follows_the_ledger(home: Home, clock: SimulatedClock) -> None:
    """Issue 6, 8: the next look is on the page as soon as it is in the ledger."""
    platform = filled(home, clock)
    http = TestClient(server.create(platform))
    before = http.get("/experiments/running").headers["etag"]
    look(platform, "running", table(5_400, lift=0.03, seed=4))
    after = http.get("/experiments/running")
    assert after.headers["etag"] != before
    assert experiment_view(platform, "running").row.looks == 2


def test_boundaries_by_users_are_the_ones_the_look_was_read_by(home: Home, clock: SimulatedClock) -> None:
    """EXP-5: where a plan goes by the users that came, the page draws those boundaries, not the planned."""
    platform = Platform.open(home, clock)
    arrived = SEQUENTIAL.replace("14]}", "14], information: arrived}")
    frozen(platform.ledger, plan("paced", (SEQUENTIAL, arrived)), at=clock.now())
    for n in (1_500, 6_000):
        look(platform, "paced", table(n, lift=0.01, seed=21))
    known = registry.get(platform.ledger, "paced")
    expected = boundary_at(known.plan, users_at(known.looks), alpha=0.05)
    assert expected is not None
    looks = experiment_view(platform, "paced").looks
    assert [row.boundary for row in looks.rows] == [one.z for one in expected.bounds]
    assert looks.rows[1].boundary != pytest.approx(2.965, abs=1e-3)
    for row, body in zip(looks.rows, known.looks, strict=False):
        crossed = abs(row.readings[0].reached or 0) >= 1
        assert crossed == body["readings"][0]["significant"]
    assert "by the users that came" in looks.plan
    assert looks.arrived is not None
    assert looks.arrived.sentence in main_text(
        TestClient(server.create(platform)).get("/experiments/paced").text
    )
