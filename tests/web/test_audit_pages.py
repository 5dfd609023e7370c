"""The guardrail and calibration pages: what they say, and that it is what the ledger says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from tests.web.experiment_samples import filled, plan
from tests.web.markup import main_text, parse

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.core.verdict import Status
from mangaassist.experiments import registry
from mangaassist.lifecycle.platform import Platform
from mangaassist.portfolio.audit import audit
from mangaassist.stats.intervals import wilson
from mangaassist.web import server
from mangaassist.web.calibration import calibration_view, named, span_of
from mangaassist.web.calibration_view import calibration_headline
from mangaassist.web.guardrails import guardrails_view

START = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


def test_guardrails_in_force_with_their_changes(platform: Platform, http: TestClient) -> None:
    """GRD-1, GRD-2: the limit in force, the shipped one, who changed it and why."""
    view = guardrails_view(platform)
    limits = {row.name: (row.limit, row.shipped) for row in view.rows}
    assert limits["csat"] == (-0.008, -0.01)
    assert limits["latency_p95_ms"] == (800, 800)
    assert {row.name: row.used for row in view.rows}["csat"] == 6
    (changed,) = view.changes
    assert (changed.before, changed.after, changed.loosened) == (-0.01, -0.008, False)
    shown = main_text(http.get("/guardrails").text)
    for words in ("−0.80% shipped −1.00%", "Tightened", "never recovered", "recommendation", "rin (team)"):
        assert words in shown


def test_override_rates_carry_their_interval(platform: Platform, http: TestClient) -> None:
    """GRD-2: rate, n and Wilson's interval per team; what is tracked, and until when."""
    view = guardrails_view(platform)
    rates = {one.team: one for one in view.rates}
    assert (rates["discovery"].overrides, rates["discovery"].launches) == (1, 1)
    assert rates["discovery"].rate.low == pytest.approx(wilson(1, 1).low)
    assert rates["search"].rate.high == pytest.approx(wilson(0, 1).high)
    assert [one.state for one in view.tracked] == ["tracked"]
    assert "discovery Too often" in main_text(http.get("/guardrails").text)


def test_an_override_nobody_followed_up_is_overdue(home: Home) -> None:
    """GRD-2: after ninety days without a follow-up the page says so first."""
    clock = SimulatedClock(START)
    platform = filled(home, clock)
    clock.advance(timedelta(days=91))
    view = guardrails_view(platform)
    assert [one.state for one in view.tracked] == ["overdue"]
    shown = parse(TestClient(server.create(platform)).get("/guardrails").text).classed("headline")[0].text
    assert shown == "discovery overrides too often; vetoed was not followed up."


@pytest.mark.parametrize(
    ("name", "first", "after"),
    [
        ("2026-Q1", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)),
        ("2026-Q4", datetime(2026, 10, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_quarters_have_names_and_ends(name: str, first: datetime, after: datetime) -> None:
    """POR-2: quarters follow each other without a gap."""
    assert span_of(name) == (first, after)
    assert named(first) == named(after - timedelta(seconds=1)) == name
    assert named(after) != name


@pytest.mark.parametrize("name", ["2026-Q5", "2026-Q0", "Q4", "2026", "1999-Q1", "2026-Q1x"])
def test_what_is_no_quarter_is_refused(http: TestClient, name: str) -> None:
    """POR-2: a wrong address is a sentence, not an empty audit."""
    with pytest.raises(InputError, match="a quarter"):
        span_of(name)
    answer = http.get(f"/calibration/{name}")
    assert answer.status_code == 404
    assert "Write it like 2026-Q4." in answer.text


def test_the_audit_is_shown_as_it_is(platform: Platform, http: TestClient) -> None:
    """POR-2: every measure with n and interval; too few cases are a state of their own, not a zero."""
    view = calibration_view(platform)
    since, until = span_of(view.quarter)
    found = audit(platform.ledger, since=since, until=until)
    assert [f"audit.{row.name}" for row in view.rows] == [one.name for one in found.verdicts]
    assert [row.quarter for row in view.rows] == list(found.verdicts)
    rows = parse(http.get("/calibration").text).classed("audit")[0].find("tbody")[0].find("tr")
    for row, one in zip(rows, found.verdicts, strict=True):
        assert one.sentence in row.text
        assert ("Cannot tell yet" in row.text) == (one.status is Status.INSUFFICIENT)
        assert f" {one.n} " in row.text
    vetoes = next(row for row in rows if row.text.startswith("Vetoes set aside"))
    assert "100.0% , 20.7% to 100.0%" in vetoes.text
    passed = [row.title for row in view.rows if row.quarter.status is Status.PASS]
    assert passed == ["Experiments signed before they ran"]
    assert calibration_headline(view)[0] == "calm"


def test_an_empty_record_is_neither_good_nor_bad(bare: Platform) -> None:
    """POR-2: nothing on record is said as such, without a tick and without an alarm."""
    view = calibration_view(bare)
    assert {row.quarter.status for row in view.rows} == {Status.INSUFFICIENT}
    assert calibration_headline(view)[0] == "open"
    page = parse(TestClient(server.create(bare)).get("/calibration").text)
    assert "mangaassist portfolio decide QUARTER.yaml" in page.find("pre")[0].text


def test_quarters_lead_to_each_other(home: Home, clock: SimulatedClock) -> None:
    """POR-2: back to where the record starts, forward to now, not beyond."""
    platform = Platform.open(home, clock)
    registry.register(platform.ledger, plan("first"), source="s", actor="rin", at=clock.now())
    clock.advance(timedelta(days=100))
    now = calibration_view(platform)
    assert (now.quarter, now.earlier, now.later) == ("2027-Q1", "2026-Q4", "")
    before = calibration_view(platform, now.earlier)
    assert (before.earlier, before.later) == ("", "2027-Q1")
    page = parse(TestClient(server.create(platform)).get("/calibration").text)
    assert page.classed("turn")[0].find("a")[0].attributes["href"] == "/calibration/2026-Q4"
