"""The same work under Dagster (the extra ``dagster``): every story's ten steps as a graph, with its triggers.

``mangaassist run --dagster`` starts it on a home, or by hand ``dagster dev -m
mangaassist.lifecycle.dagster_definitions`` with ``MANGAASSIST_HOME`` set. Serving processes keep the on-call
page and the pager going beside it.
"""

# No postponed annotations here: Dagster reads the types of its contexts when a function is decorated.
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg

from mangaassist.core.clock import SystemClock
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.home import Home
from mangaassist.lifecycle.jobs import SEED, jobs, wanted
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.release import CANARY, REGISTRATION, SHADOW, release_steps
from mangaassist.lifecycle.retrain import pin, retrain
from mangaassist.lifecycle.schedule import Job as HomeJob
from mangaassist.lifecycle.schedule import Lane, Schedule
from mangaassist.lifecycle.steps import (
    BIAS,
    EVALUATION,
    FEATURES,
    SLICES,
    SPLIT,
    TRAINING,
    VALIDATION,
    offline_steps,
)
from mangaassist.training.pipeline import FINISHED, Run, Runner, StepStatus

OFFLINE: Final = {
    VALIDATION: (),
    FEATURES: (VALIDATION,),
    SPLIT: (FEATURES,),
    TRAINING: (SPLIT,),
    EVALUATION: (VALIDATION, SPLIT, TRAINING),
    SLICES: (EVALUATION,),
    BIAS: (EVALUATION,),
}
"""Each offline step and the steps it reads; a test holds it against the steps themselves."""

RELEASE: Final = (REGISTRATION, SHADOW, CANARY)
_HOUR = timedelta(hours=1)


def definitions(platform: Platform) -> dg.Definitions:
    """Everything Dagster shows of a home: a job per story with its schedule and sensor, a job per round."""
    found, schedules, sensors = [], [], []
    for name in platform.registry.stories():
        job = story_job(platform, name)
        found.append(job)
        schedules.append(cadence(platform, name, job))
        sensors.append(drift_sensor(platform, name, job))
    for one in jobs(platform):
        if one.lane is Lane.WORK:
            round_job = _round(platform, one)
            found.append(round_job)
            schedules.append(_cron(one, round_job))
    return dg.Definitions(jobs=found, schedules=schedules, sensors=sensors)


def story_job(platform: Platform, name: str) -> dg.JobDefinition:
    """The ten steps of a story. A step that was done before is found again and costs nothing."""
    ops = {step: _offline_op(platform, name, step, needs) for step, needs in OFFLINE.items()}

    @dg.op(
        name=REGISTRATION,
        ins={step: dg.In(dg.Nothing) for step in OFFLINE},
        out=dg.Out(dict, is_required=False),
        description="The offline gate, and the version in the registry.",
    )
    def registration(context: dg.OpExecutionContext) -> Iterator[dg.Output[dict[str, Any]]]:
        with _told():
            done = retrain(platform, name, seed=SEED, on_event=context.log.info)
        yield from _passed_on(context, REGISTRATION, done.run)

    def release(step: str, description: str) -> dg.OpDefinition:
        @dg.op(
            name=step, ins={"run": dg.In(dict)}, out=dg.Out(dict, is_required=False), description=description
        )
        def follow(
            context: dg.OpExecutionContext, run: dict[str, Any]
        ) -> Iterator[dg.Output[dict[str, Any]]]:
            yield from _from_dict(context, step, run)

        return follow

    shadow = release(SHADOW, "The version answers beside the champion, unseen.")
    canary = release(CANARY, "1, 5 and 25 per cent of users against a hold-out, then everybody.")

    @dg.graph(name=name, description=platform.story(name).predicts)
    def steps() -> None:
        made: dict[str, Any] = {}
        for step, needs in OFFLINE.items():
            made[step] = ops[step](**{need: made[need] for need in needs})
        canary(shadow(registration(**made)))

    return steps.to_job(name=f"retrain_{name}", executor_def=dg.in_process_executor)


def cadence(platform: Platform, name: str, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Looks once an hour whether the story's cadence is due (RET-1), so that a frozen one catches up."""

    @dg.schedule(
        name=f"cadence_{name}",
        cron_schedule="0 * * * *",
        job=job,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"A retrain every {platform.story(name).cadence.days} days.",
    )
    def due(_: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        return _request(platform, name, "cadence")

    return due


def drift_sensor(platform: Platform, name: str, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Asks every five minutes whether the triage of drift has proposed a retrain (DRF-3)."""

    @dg.sensor(
        name=f"drift_{name}",
        job=job,
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def drifted(_: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        return _request(platform, name, "drift")

    return drifted


def run_step(platform: Platform, name: str, step: str) -> Run:
    """One offline step of a story with those it reads, which are found where they were done before."""
    with platform.home.lock(f"retrain.{name}"):
        job = pin(platform, platform.module(name), seed=SEED, waiver=None)
        needed = _ancestors(step)
        chosen = [one for one in [*offline_steps(job), *release_steps(job, None)] if one.name in needed]
        return Runner(platform.home, platform.artifacts, platform.clock).run(chosen)


def _ancestors(step: str) -> frozenset[str]:
    needs = OFFLINE[step]
    return frozenset({step}.union(*(_ancestors(one) for one in needs)))


def _offline_op(platform: Platform, name: str, step: str, needs: tuple[str, ...]) -> dg.OpDefinition:
    @dg.op(name=step, ins={need: dg.In(dg.Nothing) for need in needs}, out=dg.Out(dg.Nothing))
    def run(context: dg.OpExecutionContext) -> None:
        with _told():
            result = run_step(platform, name, step).step(step)
        context.log.info(f"{step} {result.status} in {result.seconds:.2f} s")
        if result.status not in FINISHED:
            # Run as a whole it stops at the same place, and is then on record like every other run.
            with _told():
                retrain(platform, name, seed=SEED)
            raise dg.Failure(result.detail)

    return run


def _passed_on(context: dg.OpExecutionContext, step: str, run: Run) -> Iterator[dg.Output[dict[str, Any]]]:
    yield from _from_dict(context, step, run.as_dict())


def _from_dict(
    context: dg.OpExecutionContext, step: str, run: dict[str, Any]
) -> Iterator[dg.Output[dict[str, Any]]]:
    """Hand the run on when ``step`` finished in it; one that waits for traffic ends it without fault."""
    result = next(one for one in run["steps"] if one["name"] == step)
    context.log.info(f"{step} {result['status']}. {result['detail']}")
    if result["status"] in (str(StepStatus.DONE), str(StepStatus.CACHED)):
        yield dg.Output(run)
    elif result["status"] != str(StepStatus.WAITING):
        raise dg.Failure(result["detail"])


def _request(platform: Platform, name: str, cause: str) -> dg.RunRequest | dg.SkipReason:
    """A run for a proposal of this cause nobody has acted on; its key keeps it to one run."""
    proposal = wanted(platform, name)
    if proposal is None:
        return dg.SkipReason("No retrain is proposed.")
    if (proposal["cause"] == "drift") != (cause == "drift"):
        return dg.SkipReason(f"Proposed by {proposal['cause']}, which has a trigger of its own.")
    return dg.RunRequest(run_key=proposal["key"], tags={"reason": proposal["reason"]})


def _round(platform: Platform, one: HomeJob) -> dg.JobDefinition:
    """A round of the home as a job of one op, with its result in the shared schedule."""

    @dg.op(name=one.name)
    def go(context: dg.OpExecutionContext) -> None:
        last = Schedule.open(platform.home, platform.clock).run(one)
        if last is None:
            context.log.info("Another process is at it.")
        elif not last.ok:
            raise dg.Failure(last.said)
        else:
            context.log.info(last.said)

    @dg.graph(name=f"{one.name}_round")
    def graph() -> None:
        go()

    return graph.to_job(name=f"{one.name}_round", executor_def=dg.in_process_executor)


def _cron(one: HomeJob, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=f"{one.name}_every",
        job=job,
        cron_schedule=cron(one.every),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def cron(every: timedelta) -> str:
    """Minutes as they are, hours at a quarter past, days and weeks before people come to work."""
    if every < _HOUR:
        return f"*/{every // timedelta(minutes=1)} * * * *"
    if every < 24 * _HOUR:
        return f"15 */{every // _HOUR} * * *"
    return "30 4 * * *" if every < 7 * 24 * _HOUR else "30 4 * * 0"


@contextmanager
def _told() -> Iterator[None]:
    """The product's errors as Dagster failures: one sentence."""
    try:
        yield
    except MangaAssistError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


@dg.definitions
def defs() -> dg.Definitions:
    """The home of ``MANGAASSIST_HOME``; opened when Dagster asks, not when this module is imported."""
    path = Path(os.environ.get("MANGAASSIST_HOME", ".mangaassist"))
    return definitions(Platform.open(Home.open(path, create=False), SystemClock()))
