"""The schedule under Dagster: definitions, one story end to end in process, and what its sensor asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.journeys import STORY, Shell, trained_home

from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.lifecycle.foreign_schedule import dagster_home, start
from mangaassist.lifecycle.job import Job
from mangaassist.lifecycle.monitoring import PROPOSED, subject
from mangaassist.lifecycle.retrain import ENDED, pin
from mangaassist.lifecycle.steps import offline_steps

dg = pytest.importorskip("dagster")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return trained_home(tmp_path_factory.mktemp("dagster"))


def test_a_story_runs_step_by_step(shell: Shell) -> None:
    """Issue 5, drift 4: the graph has the ten steps with their real dependencies, and runs them."""
    from mangaassist.lifecycle.dagster_definitions import OFFLINE, SEED, definitions

    platform = shell.platform()
    job: Job = pin(platform, platform.module(STORY), seed=SEED, waiver=None)
    assert {step.name: step.needs for step in offline_steps(job)} == OFFLINE
    found = definitions(platform)
    graph = found.get_job_def(f"retrain_{STORY}")
    assert len(graph.nodes) == 10
    before = len(platform.ledger.entries(subject=f"run/{STORY}", kind=ENDED))
    done = graph.execute_in_process()
    assert done.success
    ran = {event.step_key for event in done.all_node_events if event.is_step_success}
    assert ran >= {*OFFLINE, "registration", "shadow"}
    assert "canary" not in ran  # the version waits in shadow for traffic, which is no failure
    entries = platform.ledger.entries(subject=f"run/{STORY}", kind=ENDED)
    assert len(entries) == before + 1
    assert {one["status"] for one in entries[-1].body["steps"][:7]} == {"cached"}


def test_triggers_ask_for_a_proposal_once(shell: Shell) -> None:
    """DRF-3, RET-1: a sensor asks for what the triage proposed and nothing else; a run settles it."""
    from mangaassist.lifecycle.dagster_definitions import definitions

    platform = shell.platform()
    found = definitions(platform)
    sensor, schedule = found.get_sensor_def(f"drift_{STORY}"), found.get_schedule_def(f"cadence_{STORY}")

    def asked() -> tuple[list[str], list[str]]:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance)
            first = sensor.evaluate_tick(context).run_requests or []
            second = schedule.evaluate_tick(dg.build_schedule_context(instance=instance)).run_requests or []
        return [one.run_key for one in first], [one.run_key for one in second]

    assert asked() == ([], [])
    for cause in ("drift", "cadence"):
        body = {"action": "retrain", "cause": cause, "reason": "The world moved.", "key": cause}
        now = platform.clock.now()
        platform.ledger.append(kind=PROPOSED, subject=subject(STORY), body=body, actor="t", at=now)
        assert asked() == ((["drift"], []) if cause == "drift" else ([], ["cadence"]))
    review = {"action": "review", "cause": "drift", "reason": "Look.", "key": "review"}
    platform.ledger.append(
        kind=PROPOSED, subject=subject(STORY), body=review, actor="t", at=platform.clock.now()
    )
    assert asked() == ([], ["cadence"])
    platform.ledger.append(
        kind=ENDED, subject=f"run/{STORY}", body={"steps": []}, actor="t", at=platform.clock.now()
    )
    assert asked() == ([], [])
    shell("freeze", "on", "--reason", "A test.")
    assert asked() == ([], [])
    shell("freeze", "off", "--reason", "A test.")


def test_every_round_of_work_has_a_schedule(shell: Shell) -> None:
    """Issue 5, drift 4: the same list as the embedded scheduler, and it runs."""
    from mangaassist.lifecycle.dagster_definitions import definitions
    from mangaassist.lifecycle.jobs import jobs
    from mangaassist.lifecycle.schedule import Lane, Schedule

    platform = shell.platform()
    found = definitions(platform)
    work = {one.name for one in jobs(platform) if one.lane is Lane.WORK}
    assert {one.name for one in found.schedules or ()} == {  # type: ignore[union-attr]  # schedules have names
        f"cadence_{STORY}",
        *(f"{name}_every" for name in work),
    }
    crons = {one.name: one.cron_schedule for one in found.schedules or ()}  # type: ignore[union-attr]  # as above
    wanted = {"drift": "*/5 * * * *", "skew": "15 */1 * * *", "labels": "30 4 * * *", "review": "30 4 * * 0"}
    assert {name: crons[f"{name}_every"] for name in wanted} == wanted
    assert found.get_job_def("rollouts_round").execute_in_process().success
    assert Schedule.open(platform.home, platform.clock).last()["rollouts"].ok


def test_it_starts_without_telemetry(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Issue 5: nothing is told to anybody; without the extra there is one sentence."""
    assert "enabled: false" in (dagster_home(home) / "dagster.yaml").read_text()
    called = []
    start(home, host="127.0.0.1", port=3000, execute=lambda *given: called.append(given))
    ((_, arguments, environ),) = called
    assert arguments[1:3] == ["dev", "-m"]
    assert environ["DAGSTER_HOME"] == str(dagster_home(home))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"mangaassist\[dagster\]"):
        start(home, host="127.0.0.1", port=3000)
