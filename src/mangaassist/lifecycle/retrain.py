"""One retrain of one story: pin the inputs, run the ten steps, write down what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mangaassist.core.errors import GateRefused
from mangaassist.core.story import StoryModule
from mangaassist.core.verdict import Verdict
from mangaassist.features.publishing import publish
from mangaassist.labels import versions as label_versions
from mangaassist.labels.waivers import check_waiver, waive, waivers
from mangaassist.lifecycle.features import catalog_of
from mangaassist.lifecycle.files import VERDICTS, VerdictsRefused, read_json, read_verdicts
from mangaassist.lifecycle.job import Job
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.release import REGISTRATION, Traffic, release_steps
from mangaassist.lifecycle.steps import offline_steps
from mangaassist.training.pipeline import Run, Runner, StepEvent, StepResult, StepStatus

ENDED = "run.ended"
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WaiverRequest:
    """A rule somebody asks to set aside for this run, with who and why."""

    rule: str
    reason: str
    actor: str

    @classmethod
    def parse(cls, rule: str | None, reason: str, actor: str) -> WaiverRequest | None:
        """The request behind ``--waive`` and ``--reason``; None without ``--waive``.

        Raises:
            InputError: for an unknown rule, or a waiver without a reason.
        """
        if rule is None:
            return None
        check_waiver(rule, reason)
        return cls(rule, reason, actor)


@dataclass(frozen=True, slots=True)
class RetrainResult:
    """What a retrain did.

    Attributes:
        run: the ten steps.
        version: the registered version; None when it did not get that far.
        status: where that version stands now; empty without one.
        verdicts: everything the steps found, in order.
    """

    story: str
    run: Run
    version: int | None
    status: str
    verdicts: tuple[Verdict, ...]

    @property
    def steps(self) -> tuple[StepResult, ...]:
        return self.run.steps

    @property
    def refused(self) -> bool:
        """Whether a gate said no."""
        return any(step.status is StepStatus.REFUSED for step in self.steps)

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        stopped = self.run.stopped_by
        if stopped is not None:
            return f"Stopped at {stopped.name} ({stopped.status}): {stopped.detail}"
        return f"Version {self.version} of {self.story} is {self.status}."

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "story": self.story,
            "run_id": self.run.id,
            "version": self.version,
            "status": self.status,
            "seconds": self.run.seconds,
            "steps": [step.as_dict() for step in self.steps],
            "verdicts": [verdict.as_dict() for verdict in self.verdicts],
            "sentence": self.sentence,
        }


def retrain(
    platform: Platform,
    name: str,
    *,
    seed: int,
    from_step: str | None = None,
    waiver: WaiverRequest | None = None,
    traffic: Traffic | None = None,
    on_event: Notify | None = None,
) -> RetrainResult:
    """Run the ten steps for ``name``; one run per story at a time, different stories side by side.

    Raises:
        MangaAssistError: a step could not do its work. A gate that says no is a result, not an error.
    """
    module = platform.module(name)
    with platform.home.lock(f"retrain.{name}"):
        job = replace(pin(platform, module, seed=seed, waiver=waiver), again=from_step is not None)
        runner = Runner(platform.home, platform.artifacts, platform.clock)
        steps = [*offline_steps(job), *release_steps(job, traffic)]
        run = runner.run(steps, from_step=from_step, on_event=_progress(on_event))
        result = _result(job, run)
        _write_down(job, result)
    failed = next((step for step in run.steps if step.status is StepStatus.FAILED), None)
    if failed is not None and failed.error is not None:
        raise failed.error
    return result


def pin(platform: Platform, module: StoryModule, *, seed: int, waiver: WaiverRequest | None) -> Job:
    """Fix what a run works on: finalised labels, waivers, catalog, feature snapshots, champion."""
    story = platform.story(module.STORY.name)
    version = label_versions.finalise(platform.labels, story, actor="retrain")
    if waiver is not None:
        waive(platform.labels, story, version, waiver.rule, reason=waiver.reason, actor=waiver.actor)
    catalog = catalog_of(platform, story)
    if catalog is not None:
        publish(platform.ledger, catalog, actor="retrain", at=platform.clock.now())
    snapshots = platform.features.snapshots(catalog) if catalog else {}
    champion = platform.registry.deployment(story.name).champion
    granted = waivers(platform.labels, story, version.number)
    return Job(platform, module, story, version, granted, catalog, snapshots, champion, seed)


def _progress(on_event: Notify | None) -> Callable[[StepEvent], None] | None:
    if on_event is None:
        return None

    def tell(event: StepEvent) -> None:
        if event.result is not None and event.result.status is not StepStatus.SKIPPED:
            place = f"[{event.index + 1:2d}/{event.total}]"
            on_event(f"{place} {event.name:<24} {event.result.status:<8} {event.result.seconds:7.2f} s")

    return tell


def _result(job: Job, run: Run) -> RetrainResult:
    verdicts: list[Verdict] = []
    for step in run.steps:
        if isinstance(step.error, VerdictsRefused):
            verdicts.extend(one for one in step.error.verdicts if one not in verdicts)
        elif step.output and VERDICTS in job.platform.artifacts.names(step.output):
            verdicts.extend(read_verdicts(job.platform.artifacts.read(step.output, VERDICTS)))
    number = _registered(job, run)
    status = ""
    if number is not None:
        version = job.platform.registry.get(job.story.name, number)
        status = str(version.status)
        verdicts = [*(one for one in version.gate.verdicts if one not in verdicts), *verdicts]
    return RetrainResult(job.story.name, run, number, status, tuple(verdicts))


def _registered(job: Job, run: Run) -> int | None:
    step = run.step(REGISTRATION)
    if step.output:
        number: int = read_json(job.platform.artifacts.read(step.output, "version.json"))["version"]
        return number
    if isinstance(step.error, GateRefused):
        return job.platform.registry.versions(job.story.name)[-1].number
    return None


def _write_down(job: Job, result: RetrainResult) -> None:
    """The run in the ledger: its steps by digest, and the verdicts of a run that registered nothing."""
    stopped = result.run.stopped_by
    job.platform.ledger.append(
        kind=ENDED,
        subject=f"run/{job.story.name}",
        body={
            "run_id": result.run.id,
            "version": result.version,
            "label_version": job.label_version.number,
            "tags": job.tags.as_dict(),
            "steps": [step.as_dict() for step in result.steps],
            "verdicts": [] if result.version else [one.as_dict() for one in result.verdicts],
            "reason": "" if stopped is None else f"{stopped.name} {stopped.status}: {stopped.detail}",
        },
        actor="retrain",
        at=job.platform.clock.now(),
    )
