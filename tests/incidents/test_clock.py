"""The clock, the rates and the retrospective of an incident (INC-4)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from tests.incidents.examples import T0, alarm, known, minute, resolved, walk

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.core.verdict import Status
from mangaassist.incidents import actions, clock, records
from mangaassist.incidents.actions import ActionItem, Monitor
from mangaassist.incidents.rates import past, rates
from mangaassist.incidents.records import Series
from mangaassist.incidents.retro import TITLES, write
from mangaassist.storage.ledger import Ledger

PASS, FAIL, OPEN = Status.PASS, Status.FAIL, Status.INSUFFICIENT


@pytest.mark.parametrize(
    ("now", "stage", "statuses"),
    [
        (5, "localise", (OPEN, OPEN, OPEN)),
        (15, "mitigate", (OPEN, OPEN, OPEN)),
        (16, "mitigate", (FAIL, OPEN, OPEN)),
        (61, "command", (FAIL, FAIL, OPEN)),
        (241, "review", (FAIL, FAIL, FAIL)),
    ],
)
def test_the_clock_of_an_incident_nobody_works_on(
    now: float, stage: str, statuses: tuple[Status, ...]
) -> None:
    """INC-4: 15, 60 and 240 minutes, each inclusive; before a deadline there is no failure yet."""
    view = clock.standing(known(), now=minute(now))
    assert view.stage is not None
    assert view.stage.name == stage
    assert tuple(one.status for one in view.verdicts) == statuses


def test_the_clock_stops_when_it_has_recovered() -> None:
    """INC-4: what happened in time stays in time, however late one looks."""
    view = clock.standing(resolved(at=45), now=minute(9_999))
    assert view.over
    assert view.elapsed == timedelta(minutes=45)
    assert [one.status for one in view.verdicts] == [PASS, PASS, PASS]
    assert [one.value for one in view.verdicts] == [9.0, 35.0, 45.0]
    late = clock.standing(resolved(at=300), now=minute(9_999))
    assert [one.status for one in late.verdicts] == [PASS, PASS, FAIL]


def test_unknown_is_not_localised_and_recovery_implies_the_rest() -> None:
    """AML-08, 7: an escalation names nothing; a metric that came back by itself needs no mitigation."""
    unknown = walk("unknown")
    found = known({9.0: (records.LOCALISED, unknown.as_dict())}, localisation=unknown)
    assert "localised" not in clock.moments(found)
    alone = clock.standing(known({12.0: (records.RECOVERED, {})}), now=minute(500))
    assert [one.status for one in alone.verdicts] == [PASS, PASS, PASS]


def test_who_is_told_when() -> None:
    """INC-4, the playbook's table: on call, then the manager, then the director if many are hurt."""

    def told(now: float, affected: int | None = None) -> list[tuple[str, ...]]:
        return [one.roles for one in clock.announcements(known(), now=minute(now), affected=affected)]

    assert told(1) == [("on_call",)]
    assert told(20) == [("on_call",), ("em",)]
    assert told(70)[2] == told(70, 50_000)[2] == ("ml_platform_owner", "director")
    assert told(70, 100)[2] == ("ml_platform_owner",)
    assert told(250)[3] == ("director", "vp")
    assert clock.announcements(resolved(), now=minute(250)) == []


def test_help_is_called_by_category() -> None:
    """AML-08: the data platform for category 4, staff when nothing fits, each once."""
    for category, role in (("upstream_data", "data_platform"), ("unknown", "staff")):
        found = known(localisation=walk(category))
        assert clock.announcements(found, now=minute(10))[-1].roles == (role,)
    keys = [one.key for one in clock.announcements(known(localisation=walk()), now=minute(70))]
    assert keys == [f"20261120-0300-abcd/{name}" for name in ("localise", "mitigate", "command")]


def test_the_retrospective_has_seven_sections_and_no_names() -> None:
    """INC-4: generated from the timeline; roles instead of people."""
    document = write(resolved(), now=minute(120), affected=51_200)
    text = document.markdown()
    assert [title for title, _ in document.sections] == list(TITLES)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        f"## {number}. {title}" for number, title in enumerate(TITLES, 1)
    ]
    assert "tanaka" not in text
    for part in (
        "T-12m: the shift begins",
        "T+5m: acknowledged by the on-call engineer",
        "ruled out: code_deploy",
        "Confirmed: index, catalog_index.shard_3.",
        "51,200 answers",
        "Mitigated after 35 min (limit 60 min).",
        "No evidence for 'label_drift'",
        "The tree said index with 81%: right.",
    ):
        assert part in text, part


def test_a_cause_that_people_confirmed_is_known_whatever_the_tree_said() -> None:
    """INC-4: what was named at closing is no open question; that the tree missed it is one."""
    found = write(replace(resolved(), localisation=walk("unknown")), now=minute(300))
    assert not any("Find the root cause" in item.title for item in found.items)
    assert "Confirmed: index, catalog_index.shard_3." in found.markdown()
    assert "the tree did not find it" in found.markdown()


def test_what_missed_its_target_is_said_and_becomes_work() -> None:
    """INC-4: late detection, an unknown cause and a repeat each leave an action item."""
    found = known({9.0: (records.LOCALISED, {"category": "unknown", **walk("unknown").as_dict()})})
    found = replace(found, localisation=walk("unknown"))
    found = replace(found, incident=replace(found.incident, alarms=(alarm(began=-40),)))
    titles = [item.title for item in write(found, now=minute(300)).items]
    assert any("40 min after the onset" in one for one in titles)
    assert any("Find the root cause" in one for one in titles)
    text = write(found, now=minute(300)).markdown()
    assert "Not mitigated after 300 min" in text
    assert "add a category to it" in text
    before = replace(past(resolved()), opened=T0 - timedelta(days=30))
    assert "is a repeat" in write(resolved(), now=minute(120), earlier=[before]).markdown()
    old = replace(before, opened=T0 - timedelta(days=100))
    assert "is a repeat" not in write(resolved(), now=minute(120), earlier=[old]).markdown()


def test_an_action_item_becomes_a_monitor_that_would_have_seen_it(home: Home, clock: SimulatedClock) -> None:
    """INC-4: the proposed monitor fails on the incident's own values and passes on the usual ones."""
    item = next(one for one in write(resolved(), now=minute(120)).items if one.monitor)
    assert item.monitor is not None

    def status(values: list[float]) -> Status:
        series = Series(
            "quality", "reranker.ndcg", "all", T0, timedelta(minutes=5), np.array(values), worse="low"
        )
        return item.monitor.look([series]).status

    assert status([0.78, 0.61]) is FAIL
    assert status([0.61, 0.78, np.nan]) is PASS
    assert status([np.nan]) is OPEN
    assert item.monitor.look([]).status is OPEN
    ledger = Ledger.open(home)
    for _ in range(2):
        actions.record(ledger, item, actor="ana", at=clock.now())
    assert [one.id for one in actions.items(ledger)] == [item.id]
    ended = actions.close(ledger, item.id, outcome="It pages now.", actor="ana", at=clock.now())
    assert not ended.open
    assert actions.items(ledger, item.incident) == [ended]
    assert actions.monitors(actions.items(ledger)) == [(ended, item.monitor)]
    with pytest.raises(InputError, match="open action item"):
        actions.close(ledger, item.id, outcome="Again.", actor="ana", at=clock.now())


def test_a_monitor_in_words() -> None:
    assert Monitor.parse("shard_recall:catalog_index.shard_3<0.8") == Monitor(
        "shard_recall", "catalog_index.shard_3", "all", 0.8, "low"
    )
    assert Monitor.parse("quality:intent.errors@locale=ja>0.02").cohort == "locale=ja"
    for bad in ("", "x<1", "quality:<1", "quality:a", "quality:a<nan", "quality:a<b"):
        with pytest.raises(InputError):
            Monitor.parse(bad)


def test_an_item_survives_the_ledger() -> None:
    item = ActionItem("i", "t", "sre", T0, Monitor("quality", "a.b", "all", 0.5, "low"))
    assert ActionItem.from_dict(item.as_dict()) == item


def test_rates_of_a_quarter() -> None:
    """INC-4: by hand: ten incidents, one false alarm, two repeats, one named too late."""
    one = past(resolved())
    assert (one.detect, one.recover, one.localised, one.false_alarm) == (12.0, 45.0, 9.0, False)
    found = [
        replace(
            one, opened=T0 - timedelta(days=80 - 7 * k), cause=f"cause {k % 7}", localised=9.0 if k else 30.0
        )
        for k in range(9)
    ]
    found.append(replace(one, opened=T0 - timedelta(days=1), false_alarm=True, detect=500.0, recover=None))
    found.append(replace(one, opened=T0 - timedelta(days=400), detect=500.0, recover=9_000.0))
    by_name = {verdict.name: verdict for verdict in rates(found, now=T0)}
    value = {name: verdict.value for name, verdict in by_name.items()}
    assert value["incidents.mttd_minutes"] == 12.0
    assert value["incidents.mttr_minutes"] == 45.0
    assert value["incidents.localised_in_15"] == pytest.approx(8 / 9)
    assert value["incidents.false_alarms"] == pytest.approx(1 / 10)
    assert value["incidents.repeats"] == pytest.approx(2 / 9)
    assert by_name["incidents.repeats"].status is FAIL
    assert by_name["incidents.mttr_roll_back_minutes"].status is OPEN
    assert {
        verdict.status for verdict in rates(found[:3], now=T0) if verdict.name != "incidents.pages_a_week"
    } == {OPEN}
