"""Each cause alone and in pairs, put into simulated days; and what the documents may say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.retraining.scenarios import CAUSES, ORDINARY, expected, played

from mangaassist.core.errors import InputError
from mangaassist.core.story import Budget, Story
from mangaassist.core.verdict import Status
from mangaassist.retraining.causes import Change, Traffic
from mangaassist.retraining.lineage import Lineage, lineage
from mangaassist.retraining.policy import RetrainPolicy
from mangaassist.retraining.seasons import SeasonCalendar
from mangaassist.retraining.triage import CORRUPTED, Conclusion, Confidence, Proposal, triage

DAY = timedelta(days=1)
ORDER = ["drift", "schema", "outage", "upstream", "season", "sustained"]
STORY = Story("intent", "text-classification", "x")


@pytest.mark.parametrize("causes", [(), *((one,) for one in CAUSES)], ids=lambda one: "-".join(one) or "none")
def test_each_cause_alone(causes: tuple[Conclusion, ...]) -> None:
    """DRF-3: the cause that was put in is the one concluded, and nothing else is found."""
    for seed in (3, 4, 5) if causes in (CAUSES[:1], CAUSES[1:2]) else (3,):
        found = triage(played(causes, seed=seed))
        assert found.conclusion is expected(causes), found.reason
        assert found.also == ()
        named = [one.name.removeprefix("triage.") for one in found.findings if ".slice." not in one.name]
        assert named == ORDER


@pytest.mark.parametrize("causes", list(combinations(CAUSES, 2)), ids="-".join)
def test_pairs_of_causes(causes: tuple[Conclusion, Conclusion]) -> None:
    """DRF-3: the more pressing of two decides; with corrupted data there is no retrain."""
    found = triage(played(causes, seed=4))
    assert found.conclusion is expected(causes), found.reason
    if set(causes) & CORRUPTED:
        assert found.proposal is Proposal.PAGE_DATA_PLATFORM


def test_a_safety_critical_slice_is_a_page() -> None:
    """DRF-3: retrain now, SEV-3 for return requests; the same fall elsewhere is no SEV-3."""
    facts = played((Conclusion.SLICE_REGRESSION,), seed=3)
    found = triage(facts)
    assert (found.proposal, found.severity) == (Proposal.RETRAIN_NOW, "SEV-3")
    assert "return_request" in found.reason
    assert triage(replace(facts, safety_critical=("stock",))).severity == ""


def test_a_drift_that_has_not_lasted_is_watched() -> None:
    """DRF-3: the same drift that retrains after seven days proposes nothing after three."""
    facts = played((Conclusion.UPSTREAM,), seed=6)
    found = triage(replace(facts, changes=()))
    assert (found.conclusion, found.proposal) == (Conclusion.UNEXPLAINED, Proposal.NOTHING)
    far = Change("embedding", facts.since - 4 * DAY, "embedding version 2 was promoted")  # type: ignore[operator]
    after = Change("embedding", facts.at, "embedding version 3 was promoted")
    aside = Change("spam", facts.since - timedelta(hours=1), "spam version 9 was promoted")  # type: ignore[operator]
    for one in (far, after, aside):
        assert triage(replace(facts, changes=(one,))).conclusion is Conclusion.UNEXPLAINED


def test_confidence_falls_with_what_could_not_be_ruled_out() -> None:
    """DRF-3: no history of volumes and an unknown place in the graph cost a step each."""
    facts = played((Conclusion.SUSTAINED,), seed=3)
    assert triage(facts).confidence is Confidence.HIGH
    blind = replace(facts, traffic=Traffic(facts.at, 1500, ()))
    assert triage(blind).confidence is Confidence.MEDIUM
    blinder = replace(blind, lineage=lineage({}))
    assert triage(blinder).confidence is Confidence.LOW


def test_the_same_facts_give_the_same_triage_and_occasion() -> None:
    """RET-1: a look later is the same occasion as long as the runs of drift are the same."""
    facts = played((Conclusion.UPSTREAM,), seed=3)
    found, later = triage(facts), triage(replace(facts, at=facts.at + timedelta(minutes=5)))
    assert triage(facts) == found
    assert found.occasion == later.occasion
    assert found.as_dict()["proposal"] == "retrain_downstream"


def test_nothing_to_look_at_is_said() -> None:
    """DRF-3: silence is not health: without a row no column and no volume can be judged."""
    facts = played((), seed=3)
    empty = replace(facts, now=replace(facts.now, inputs={}), traffic=Traffic(None, 0, ()))
    status = {one.name: one.status for one in triage(replace(empty, reference=empty.now)).findings}
    assert status["triage.outage"] is Status.INSUFFICIENT


CALENDAR = SeasonCalendar.load()


@given(st.dates(date(2020, 1, 1), date(2040, 12, 31)))
def test_every_fourth_friday_is_a_season(day: date) -> None:
    """DRF-3: by the rule read aloud: the 22nd to the 28th that is a Friday."""
    season = next(one for one in CALENDAR.seasons if one.name == "volume-release")
    fridays = [day + shift * DAY for shift in range(-3, 2)]
    assert (season.around(day) is not None) == any(
        one.weekday() == 4 and 22 <= one.day <= 28 for one in fridays
    )


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("new-year", date(2027, 1, 3), date(2027, 1, 5)),
        ("new-year", date(2026, 12, 28), date(2026, 12, 27)),
        ("thanksgiving", date(2026, 11, 30), date(2026, 12, 1)),
        ("memorial-day", date(2026, 5, 25), date(2026, 5, 26)),
        ("labor-day", date(2026, 9, 5), date(2026, 9, 4)),
        ("golden-week", date(2026, 5, 6), date(2026, 5, 7)),
    ],
)
def test_shipped_seasons(name: str, inside: date, outside: date) -> None:
    """DRF-3: holidays of both markets, over the turn of the year too."""
    season = next(one for one in CALENDAR.seasons if one.name == name)
    assert season.around(inside) is not None
    assert season.around(outside) is None


def test_a_season_explains_only_what_lies_in_it() -> None:
    """DRF-3: begun before it, or lasting after it, is not explained; a story may do without."""
    friday = datetime(2026, 1, 23, tzinfo=UTC)
    asked = CALENDAR.explaining("intent", since=friday, now=friday + 2 * DAY)
    assert asked is not None
    assert asked[0].name == "volume-release"
    assert CALENDAR.explaining("intent", since=friday - 3 * DAY, now=friday) is None
    assert CALENDAR.explaining("intent", since=friday, now=friday + 5 * DAY) is None
    without = replace(CALENDAR, without={"intent": frozenset({"volume-release"})})
    assert without.explaining("intent", since=friday, now=friday + 2 * DAY) is None
    assert without.explaining("spam", since=friday, now=friday + 2 * DAY) is not None


def test_a_home_may_say_more(tmp_path: Path) -> None:
    """DRF-3: seasons, models and limits are data; a story can override."""
    (tmp_path / "seasons.yaml").write_text(
        "seasons:\n- {name: sale, says: A sale., from: 06-01, to: 06-03}\n"
        "- {name: obon, says: Ours., from: 07-13, to: 07-16}\nstories:\n  intent: {without: [sale]}\n"
    )
    (tmp_path / "models.yaml").write_text("models:\n  answers: [reranker]\n  spam: [intent]\n")
    (tmp_path / "retraining.yaml").write_text(
        "default: {cooldown_hours: 48}\nstories:\n  intent: {per_month: 3.5}\n"
    )
    calendar = SeasonCalendar.load(tmp_path)
    june = datetime(2026, 6, 2, tzinfo=UTC)
    assert calendar.explaining("intent", since=june, now=june) is None
    assert calendar.explaining("spam", since=june, now=june) is not None
    obon = next(one for one in calendar.seasons if one.name == "obon")
    assert obon.around(date(2026, 8, 12)) is None
    graph = Lineage.load(tmp_path)
    assert graph.upstream("answers") == ("reranker", "embedding", "intent")
    assert graph.downstream("intent") == (
        "spam",
        "reranker",
        "sentiment",
        "recommendation",
        "answers",
    ) or set(graph.downstream("intent")) == {"spam", "reranker", "sentiment", "recommendation", "answers"}
    assert RetrainPolicy.load(STORY, tmp_path) == RetrainPolicy(3.5, timedelta(hours=48))


def test_the_budget_is_twice_that_of_the_cadence() -> None:
    """RET-1, GOV-6: drift may make as many runs as the cadence does, at the story's own price."""
    story = replace(STORY, budget=Budget(run=0.05, per_thousand=0.1), cadence=timedelta(days=7))
    assert RetrainPolicy.load(story).per_month == pytest.approx(2 * 0.05 * 30 / 7)
    assert RetrainPolicy.load(STORY).per_month is None


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("seasons.yaml", "seasons: [{name: x, says: y, weekday: fryday, nth: 1}]", "Did you mean 'friday'"),
        ("seasons.yaml", "seasons: [{name: x, says: y, weekday: friday, nth: 6}]", "nth from 1 to 5"),
        ("seasons.yaml", "seasons: [{name: x, says: y, from: 02-30, to: 03-01}]", "MM-DD"),
        ("seasons.yaml", "seasons: [{name: x, says: y, form: 02-03}]", "Did you mean 'from'"),
        ("seasons.yaml", "stories: {intent: {without: [obbon]}}", "Did you mean 'obon'"),
        ("seasons.yaml", "- 1", "a mapping"),
        ("seasons.yaml", "a: [", "YAML"),
        ("models.yaml", "models: {a: [rerankr]}", "Did you mean 'reranker'"),
        ("models.yaml", "models: {intent: [reranker]}", "no circle"),
        ("models.yaml", "models: {intent: spam}", "a list of names"),
        ("retraining.yaml", "default: {per_mont: 1}", "Did you mean 'per_month'"),
        ("retraining.yaml", "default: {per_month: -1}", "zero or more"),
    ],
)
def test_documents_are_checked(tmp_path: Path, file: str, text: str, says: str) -> None:
    """DRF-3: a wrong word is one sentence with the nearest right one; a circle is shown."""
    (tmp_path / file).write_text(text)
    load = {
        "seasons.yaml": lambda: SeasonCalendar.load(tmp_path),
        "models.yaml": lambda: Lineage.load(tmp_path),
        "retraining.yaml": lambda: RetrainPolicy.load(STORY, tmp_path),
    }[file]
    with pytest.raises(InputError, match=says):
        load()


def test_ordinary_days_lie_in_no_season() -> None:
    """The scenarios' own premise."""
    assert CALENDAR.explaining("x", since=ORDINARY, now=ORDINARY + 3 * DAY) is None
