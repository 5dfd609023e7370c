"""The content-addressed step runner (TRN-1).

A step is identified by what determines its output: its name, the digest of its code, its parameters and
the digests of the artifacts it reads. A step whose key was seen before is not run again; changing one
step therefore reruns exactly the steps whose input it changed. A run that was killed resumes by being
started again: finished steps are found by their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from time import perf_counter, process_time
from typing import Any

from mangaassist.core.clock import Clock, isoformat
from mangaassist.core.errors import GateRefused, InputError, IntegrityError, MangaAssistError, nearest
from mangaassist.core.home import Home
from mangaassist.core.identity import digest
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.training.memo import Memo, Remembered


class StepStatus(StrEnum):
    """How a step ended.

    ``done`` ran and stored its output; ``cached`` was found under its key; ``refused`` said no (a gate);
    ``waiting`` needs something that has not happened yet; ``failed`` could not do its work; ``skipped``
    did not run because a step it needs did not finish.
    """

    DONE = "done"
    CACHED = "cached"
    REFUSED = "refused"
    WAITING = "waiting"
    FAILED = "failed"
    SKIPPED = "skipped"


FINISHED = frozenset({StepStatus.DONE, StepStatus.CACHED})


@dataclass(frozen=True, slots=True)
class Waiting:
    """Returned by a step that cannot finish yet; it is not remembered and runs again next time."""

    reason: str


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What a step reads: the outputs of the steps it needs, by step name.

    Attributes:
        params: the step's own parameters.
        outputs: needed step -> digest of its stored output.
        compute: needed step -> processor seconds it took when it ran, in this run or the one remembered.
    """

    params: Mapping[str, Any]
    outputs: Mapping[str, str]
    artifacts: ArtifactStore
    compute: Mapping[str, float] = field(default_factory=dict)

    def read(self, step: str, name: str) -> bytes:
        """One file of the output of ``step``.

        Raises:
            InputError: when ``step`` is not among the declared needs.
            IntegrityError: when the stored bytes are damaged or the file is absent.
        """
        return self.artifacts.read(self._output(step), name)

    def files(self, step: str) -> dict[str, bytes]:
        """All files of the output of ``step``; raises like :meth:`read`."""
        return self.artifacts.files(self._output(step))

    def _output(self, step: str) -> str:
        if step not in self.outputs:
            raise InputError(
                f"input '{step}'",
                expected="a step declared in needs",
                got=step,
                next_step=nearest(step, self.outputs),
            )
        return self.outputs[step]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pipeline.

    Attributes:
        name: unique in its pipeline.
        run: computes the output files (name -> bytes); may raise GateRefused or return :class:`Waiting`.
            It must be a function of its inputs and parameters alone.
        needs: names of earlier steps whose outputs it reads.
        params: everything else that determines the output, as JSON values (snapshot ids, seed, spec).
        code: digest of the code behind ``run`` (:func:`mangaassist.training.code.code_digest`).
        remembered: False for a step with an effect outside its output (a registration, a rollout stage),
            which must run every time it is reached.
        marks: kept with the stored output (:meth:`ArtifactStore.marks`).
    """

    name: str
    run: Callable[[StepInputs], Mapping[str, bytes] | Waiting]
    needs: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    remembered: bool = True
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step of one run ended.

    Attributes:
        seconds: wall time of the step in this run, looking it up included.
        key: content address of the step; empty when skipped.
        output: digest of the output artifact; empty unless done or cached.
        detail: one sentence for a step that did not finish.
        error: what was raised, for the caller's exit code; None otherwise.
        compute: processor seconds of the work behind the output, remembered with it (GOV-6). All threads of
            the process count, so runs sharing one process count each other's work.
    """

    name: str
    status: StepStatus
    seconds: float
    key: str = ""
    output: str = ""
    detail: str = ""
    error: MangaAssistError | None = None
    compute: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "name": self.name,
            "status": str(self.status),
            "seconds": self.seconds,
            "compute_seconds": self.compute,
            "key": self.key,
            "output": self.output,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """The record of one run, for others to store.

    Attributes:
        id: digest of the start instant and the step keys, 16 hexadecimal characters.
        seconds: wall time of the whole run.
    """

    id: str
    started_at: datetime
    seconds: float
    steps: tuple[StepResult, ...]

    @property
    def finished(self) -> bool:
        """True when every step is done or cached."""
        return all(step.status in FINISHED for step in self.steps)

    @property
    def stopped_by(self) -> StepResult | None:
        """The first step that did not finish; None when all did."""
        return next((step for step in self.steps if step.status not in FINISHED), None)

    def step(self, name: str) -> StepResult:
        """The result of the step ``name``.

        Raises:
            InputError: when the run has no such step.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise _unknown_step(name, [step.name for step in self.steps])

    def as_dict(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {
            "id": self.id,
            "started_at": isoformat(self.started_at),
            "seconds": self.seconds,
            "steps": [step.as_dict() for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class StepEvent:
    """Progress: ``result`` is None when the step begins and its result when it ends."""

    name: str
    index: int
    total: int
    result: StepResult | None = None


class Runner:
    """Runs pipelines on one home; any number of them at once, in any number of processes."""

    def __init__(self, home: Home, artifacts: ArtifactStore, clock: Clock) -> None:
        self._memo = Memo(home.folder("steps"))
        self._artifacts = artifacts
        self._clock = clock

    def run(
        self,
        steps: Sequence[Step],
        *,
        from_step: str | None = None,
        on_event: Callable[[StepEvent], None] | None = None,
    ) -> Run:
        """Run ``steps`` in the given order, skipping what is already known.

        A step that is refused, waits or fails stops the steps that depend on it, and only those.

        Args:
            from_step: run this step and everything that depends on it even if remembered.
            on_event: called when a step begins and when it ends.

        Raises:
            InputError: for a duplicate name, a need that is not an earlier step, an unknown ``from_step``.
        """
        forced = _forced(steps, from_step)
        began, started_at = perf_counter(), self._clock.now()
        results: dict[str, StepResult] = {}
        for index, step in enumerate(steps):
            if on_event:
                on_event(StepEvent(step.name, index, len(steps)))
            result = self._result(step, results, forced=step.name in forced)
            results[step.name] = result
            if on_event:
                on_event(StepEvent(step.name, index, len(steps), result))
        ended = tuple(results.values())
        run_id = digest([isoformat(started_at), [(step.name, step.key) for step in ended]])[:16]
        return Run(run_id, started_at, perf_counter() - began, ended)

    def _result(self, step: Step, results: Mapping[str, StepResult], *, forced: bool) -> StepResult:
        began = perf_counter()
        blocked = [need for need in step.needs if results[need].status not in FINISHED]
        if blocked:
            detail = f"'{blocked[0]}' is {_root(blocked[0], results)}."
            return StepResult(step.name, StepStatus.SKIPPED, perf_counter() - began, detail=detail)
        outputs = {need: results[need].output for need in step.needs}
        key = step_key(step, outputs)
        known = None if forced or not step.remembered else self._memo.get(key)
        damaged = known is not None and not self._intact(known)
        if known is not None and not damaged:
            seconds = perf_counter() - began
            return StepResult(step.name, StepStatus.CACHED, seconds, key, known.output, compute=known.compute)
        compute = {need: results[need].compute for need in step.needs}
        worked = process_time()
        try:
            made = step.run(StepInputs(step.params, outputs, self._artifacts, compute))
            if isinstance(made, Waiting):
                return _stopped(step, StepStatus.WAITING, began, key, made.reason)
            worked = process_time() - worked
            output = self._keep(step, key, made, worked, replace=forced or damaged)
        except GateRefused as error:
            return _stopped(step, StepStatus.REFUSED, began, key, error)
        except MangaAssistError as error:
            return _stopped(step, StepStatus.FAILED, began, key, error)
        return StepResult(step.name, StepStatus.DONE, perf_counter() - began, key, output, compute=worked)

    def _keep(self, step: Step, key: str, made: Mapping[str, bytes], compute: float, *, replace: bool) -> str:
        output = self._artifacts.put_files(made, marks=step.marks)
        if not step.remembered:
            return output
        ours = Remembered(output, compute)
        kept = self._memo.put(key, ours, step=step.name, replace=replace)
        if kept.output != output and not self._intact(kept):
            kept = self._memo.put(key, ours, step=step.name, replace=True)
        return kept.output

    def _intact(self, known: Remembered) -> bool:
        """Whether every stored byte of the output still has its hash."""
        try:
            self._artifacts.files(known.output)
        except (IntegrityError, InputError):
            return False
        return True


def step_key(step: Step, outputs: Mapping[str, str]) -> str:
    """The content address of ``step`` reading ``outputs`` (needed step -> artifact digest)."""
    return digest({"step": step.name, "code": step.code, "params": step.params, "inputs": outputs})


def dependents(steps: Sequence[Step], name: str) -> frozenset[str]:
    """``name`` and every step that reads it, directly or through others."""
    reached = {name}
    for step in steps:
        if reached.intersection(step.needs):
            reached.add(step.name)
    return frozenset(reached)


def _forced(steps: Sequence[Step], from_step: str | None) -> Collection[str]:
    names: list[str] = []
    for step in steps:
        if step.name in names:
            raise InputError(
                "steps", expected="unique names", got=f"'{step.name}' twice", next_step="Rename one of them."
            )
        for need in step.needs:
            if need not in names:
                raise InputError(
                    f"step '{step.name}'",
                    expected="needs that are earlier steps",
                    got=need,
                    next_step=nearest(need, names),
                )
        names.append(step.name)
    if from_step is None:
        return ()
    if from_step not in names:
        raise _unknown_step(from_step, names)
    return dependents(steps, from_step)


def _unknown_step(name: str, names: Sequence[str]) -> InputError:
    return InputError("step", expected="a step of this pipeline", got=name, next_step=nearest(name, names))


def _root(name: str, results: Mapping[str, StepResult]) -> str:
    status = results[name].status
    return "skipped too" if status is StepStatus.SKIPPED else str(status)


def _stopped(
    step: Step, status: StepStatus, began: float, key: str, reason: str | MangaAssistError
) -> StepResult:
    error = reason if isinstance(reason, MangaAssistError) else None
    return StepResult(step.name, status, perf_counter() - began, key, detail=str(reason), error=error)
