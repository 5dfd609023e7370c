"""The embedded scheduler and the on-call desk of a home (issue 5; INC-2, INC-4, INC-6)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.incidents.examples import T0, alarm, walk
from tests.labels.servers import chosen, serving
from tests.lifecycle.test_meters import answer

from mangaassist.core.clock import SimulatedClock, SystemClock
from mangaassist.core.errors import Conflict, GateRefused, InputError, Unavailable
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents import actions, reading, records
from mangaassist.incidents import clock as clock_of
from mangaassist.incidents.clock import ACKNOWLEDGED
from mangaassist.incidents.records import Incident
from mangaassist.lifecycle import desk, jobs, oncall
from mangaassist.lifecycle.evidence import Meters
from mangaassist.lifecycle.oncall_metrics import expose
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.probing import probe
from mangaassist.lifecycle.running import Running, alone
from mangaassist.lifecycle.schedule import Job, Lane, Schedule
from mangaassist.serving.prediction_log import PredictionLog

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["sqlite", "postgres"])
def schedule(request: pytest.FixtureRequest, home: Home, clock: SimulatedClock) -> Schedule:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return Schedule.open(replace(home, settings=Settings(ledger_url=url)), clock)


def job(name: str, every: timedelta = MINUTE, said: str = "Done.") -> Job:
    return Job(name, every, lambda: said, Lane.DESK)


def test_a_job_is_due_once_per_interval(schedule: Schedule, clock: SimulatedClock) -> None:
    """Issue 5, drift 4: cadence by the clock that is passed in, the longest wait first."""
    both = [job("slow", 5 * MINUTE), job("quick")]
    assert schedule.due(both) == both
    for one in both:
        assert schedule.run(one) is not None
    assert schedule.due(both) == []
    clock.advance(MINUTE)
    assert [one.name for one in schedule.due(both)] == ["quick"]
    clock.advance(4 * MINUTE)
    assert [one.name for one in schedule.due(both)] == ["quick", "slow"]
    last = schedule.last()["quick"]
    assert (last.ok, last.said, last.runs, last.failures) == (True, "Done.", 1, 0)


def test_a_job_that_breaks_is_kept_and_counted(schedule: Schedule) -> None:
    """Issue 5: neither a refusal nor a bug stops the others or goes unseen."""

    def refuse() -> str:
        raise GateRefused("x", expected="a", got="b", next_step="Do c.")

    def bug() -> str:
        raise ZeroDivisionError("by zero")

    for do, part in ((refuse, "expected a, got b"), (bug, "ZeroDivisionError")):
        last = schedule.run(Job("bad", MINUTE, do, Lane.DESK))
        assert last is not None
        assert not last.ok
        assert part in last.said
    assert schedule.last()["bad"].failures == 2
    assert schedule.run(job("bad")).failures == 0  # type: ignore[union-attr]  # nobody else runs it


def test_one_job_runs_in_one_place(schedule: Schedule) -> None:
    """Issue 5: what another process or thread is running is left to it."""
    inside, go = threading.Event(), threading.Event()

    def slow() -> str:
        inside.set()
        go.wait(10)
        return "Done."

    one = Job("slow", MINUTE, slow, Lane.DESK)
    thread = threading.Thread(target=schedule.run, args=(one,))
    thread.start()
    inside.wait(10)
    assert schedule.run(one) is None
    go.set()
    thread.join()
    assert schedule.last()["slow"].runs == 1


def test_one_run_per_home_and_kill_9(tmp_path: Path) -> None:
    """Issue 5: the second `run` refuses with a sentence; a killed one leaves nothing that blocks the next."""
    home = tmp_path / "home"
    Home.open(home)
    command = [sys.executable, "-m", "mangaassist", "--home", str(home), "run"]
    first = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline().strip() == "{"  # it says its home once the lock is its own
        second = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        assert second.returncode == 3
        assert "nobody else to run the schedule" in json.loads(second.stdout)["message"]
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()
    running = Running(Platform.open(Home.open(home), SystemClock()))
    with alone(Platform.open(Home.open(home), SystemClock())):
        assert [one.ok for one in running.once(("snapshot",))] == [True]
    with pytest.raises(InputError, match="'snapshot'"):
        running.once(("snapshop",))


@pytest.fixture
def platform(home: Home, clock: SimulatedClock) -> Iterator[Platform]:
    platform = Platform.open(home, clock)
    yield platform
    platform.outbox.close()
    platform.ledger.close()


def opened(platform: Platform) -> str:
    """An incident that began twelve minutes ago and alarmed now."""
    now = platform.clock.now()
    shift = now - T0
    one = alarm()
    onset = records.Onset(*(at + shift for at in (one.onset.earliest, one.onset.likeliest, one.onset.latest)))
    incident = Incident("20261005-0900-abcd", now, (replace(one, at=now, onset=onset),), ("catalog_index",))
    platform.ledger.append(
        kind=records.OPENED, subject=incident.subject, body=incident.as_dict(), actor="alarms", at=now
    )
    return incident.id


def test_every_job_of_an_empty_home_goes_well(platform: Platform) -> None:
    """Issue 5: nothing to do is no failure; the page is there after the first round."""
    found = Running(platform).once()
    assert [one.name for one in found if not one.ok] == []
    assert {one.name for one in found} == {one.name for one in jobs.jobs(platform)}
    view = oncall.stored(platform)
    assert view is not None
    assert view.problem == ""
    assert view.absent["shard_recall"]
    assert oncall.build(platform, Meters(platform)).dependencies


def test_a_failing_job_pages_once_a_day(platform: Platform, clock: SimulatedClock) -> None:
    """INC-6: not at the first hiccup, then once, and not about the pager through the pager."""
    schedule = Schedule.open(platform.home, clock)

    def fail() -> str:
        raise Unavailable("store", expected="an answer", got="nothing", next_step="Start it.")

    for name in ("drift", "notices"):
        for _ in range(4):
            last = schedule.run(Job(name, MINUTE, fail, Lane.WORK))
            assert last is not None
            jobs.tell(platform, last)
    assert [one["title"] for one in platform.outbox.recent()] == ["The job 'drift' fails"]
    told = expose(platform).decode()
    assert 'mangaassist_job_failures{job="drift"} 4.0' in told
    assert 'mangaassist_notices{state="unrouted"} 1.0' in told
    found = {one.name: one for one in oncall.housekeeping(platform)}
    assert found["jobs.schedule"].status is Status.FAIL
    assert "drift" in found["jobs.schedule"].sentence


def test_an_incident_from_page_to_retrospective(platform: Platform, clock: SimulatedClock) -> None:
    """INC-4: the clock tells people, the desk writes what they do, closing leaves work that watches."""
    meters, key = Meters(platform), opened(platform)
    assert oncall.watch(platform, meters).endswith("1 notices written.")
    assert oncall.watch(platform, meters).endswith("0 notices written.")
    clock.advance(5 * MINUTE)
    desk.move(platform, "20261005", ACKNOWLEDGED, actor="ana.tanaka", reason="On it.")
    with pytest.raises(Conflict, match="acknowledged"):
        desk.move(platform, key, ACKNOWLEDGED, actor="bo", reason="Me, too.")
    with pytest.raises(GateRefused, match="still hurts"):
        close(platform, key)
    clock.advance(11 * MINUTE)
    assert oncall.watch(platform, meters).endswith("1 notices written.")
    assert platform.outbox.recent()[0]["roles"] == ["em"]
    found = walk()
    platform.ledger.append(
        kind=records.LOCALISED,
        subject=f"incident/{key}",
        body=found.as_dict(),
        actor="triage",
        at=clock.now(),
    )
    clock.advance(20 * MINUTE)
    desk.move(platform, key, records.MITIGATED, actor="ana.tanaka", reason="Shard 3 is rebuilt.")
    clock.advance(10 * MINUTE)
    document = close(platform, key)
    assert "tanaka" not in document.markdown()
    assert reading.running(platform.ledger) == []
    assert any(one.monitor for one in actions.items(platform.ledger, key))
    listed = desk.listing(platform)
    assert listed["incidents"][0]["clock"]["moments"]["recovered"]
    assert listed["action_items"]
    with pytest.raises(Conflict):
        desk.move(platform, key, records.MITIGATED, actor="bo", reason="Again.")
    with pytest.raises(InputError, match="one incident"):
        desk.retrospective(platform, "20260101")


@pytest.mark.parametrize(("answers", "told"), [(40, False), (clock_of.LARGE_IMPACT, True)])
def test_the_director_hears_at_sixty_minutes_of_what_hurts_many(
    platform: Platform,
    clock: SimulatedClock,
    monkeypatch: pytest.MonkeyPatch,
    answers: int,
    told: bool,
) -> None:
    """INC-4: the impact is counted from the prediction log of what alarmed; uncounted it would be many."""
    key = opened(platform)
    (component,) = reading.incident(platform.ledger, key).incident.components
    monkeypatch.setattr(platform.registry, "stories", lambda: [component])
    clock.advance(61 * MINUTE)
    log = PredictionLog.open(platform.home, component)
    row = answer(clock.now() - MINUTE, story=component)
    log.write([replace(row, request_id=str(one)) for one in range(answers)])
    log.write([answer(clock.now() - 2 * timedelta(hours=1), story=component)])
    log.drain(platform.tables)
    log.close()
    known = reading.incident(platform.ledger, key)
    assert desk.hurt_in_an_hour(platform, known) == answers
    monkeypatch.setattr(platform.registry, "stories", list)
    assert desk.hurt_in_an_hour(platform, known) is None
    monkeypatch.setattr(platform.registry, "stories", lambda: [component])
    meters = Meters(platform)
    oncall.watch(platform, meters)
    roles = {role for one in platform.outbox.recent() for role in one["roles"]}
    assert ("director" in roles) is told


def test_a_language_model_is_asked_what_nobody_can_miss(home: Home, clock: SimulatedClock) -> None:
    """INC-5: away, or wrong, it fails its probe; without an address it is not asked."""
    said = {"label": "order_delivery"}
    with serving(lambda _text, _before: chosen(said["label"])) as server:
        settings = replace(home.settings, llm_url=server.url, llm_model="small-1")
        platform = Platform.open(replace(home, settings=settings), clock)

        def probed() -> Verdict:
            (found,) = [one for one in probe(platform) if one.name == "probe.language_model"]
            return found

        assert probed().status is Status.PASS
        said["label"] = "greeting"
        assert probed().status is Status.FAIL
        assert "'greeting' of a late order" in probed().sentence
    assert probed().status is Status.FAIL
    assert not [one for one in probe(Platform.open(home, clock)) if "language" in one.name]


def test_a_false_alarm_needs_no_mitigation(platform: Platform) -> None:
    """INC-4: and counts in the false-alarm rate."""
    key = opened(platform)
    desk.close(platform, key, actor="ana", reason="Release day.", category="", cause="", false_alarm=True)
    rates = {one["name"]: one for one in desk.listing(platform)["rates"]}
    assert rates["incidents.false_alarms"]["value"] == 1.0


def close(platform: Platform, key: str) -> desk.Retrospective:
    return desk.close(
        platform,
        key,
        actor="ana.tanaka",
        reason="nDCG is 0.77.",
        category="index",
        cause="catalog_index.shard_3",
        false_alarm=False,
    )
