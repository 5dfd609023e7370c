"""The step runner: what is run, what is not, and what survives damage, death and company."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import START

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import GateRefused, InputError, Unavailable
from mangaassist.core.home import Home
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.training.code import code_digest
from mangaassist.training.memo import Memo, Remembered
from mangaassist.training.pipeline import (
    Run,
    Runner,
    Step,
    StepEvent,
    StepInputs,
    StepStatus,
    Waiting,
    dependents,
)


def runner(home: Home) -> Runner:
    return Runner(home, ArtifactStore(home.folder("artifacts")), SimulatedClock(START))


def joining(name: str, needs: tuple[str, ...], ran: list[str], salt: str = "") -> Step:
    """A step whose output is its name, its salt and everything it read: any change shows."""

    def run(inputs: StepInputs) -> Mapping[str, bytes]:
        ran.append(name)
        read = b"|".join(inputs.read(need, "out.txt") for need in needs)
        return {"out.txt": b"(" + name.encode() + salt.encode() + b":" + read + b")"}

    return Step(name, run, needs=needs, params={"salt": salt})


def diamond(ran: list[str], **salts: str) -> list[Step]:
    shape = {"load": (), "left": ("load",), "right": ("load",), "join": ("left", "right")}
    return [joining(name, needs, ran, salts.get(name, "")) for name, needs in shape.items()]


def statuses(run: Run) -> dict[str, str]:
    return {step.name: str(step.status) for step in run.steps}


def test_unchanged_steps_are_not_run_again(home: Home) -> None:
    """TRN-1: a second run finds every step and ends with the same artifacts."""
    ran: list[str] = []
    first = runner(home).run(diamond(ran))
    second = runner(home).run(diamond(ran))
    assert ran == ["load", "left", "right", "join"]
    assert set(statuses(second).values()) == {"cached"}
    assert [s.output for s in first.steps] == [s.output for s in second.steps]


def test_a_changed_parameter_reruns_the_step_and_what_it_changed(home: Home) -> None:
    """TRN-1: the other branch stays."""
    runner(home).run(diamond([]))
    ran: list[str] = []
    run = runner(home).run(diamond(ran, left="!"))
    assert ran == ["left", "join"]
    assert statuses(run)["right"] == "cached"


def test_a_changed_step_with_the_same_output_stops_the_change(home: Home) -> None:
    """TRN-1: keys are made of contents, so an edit that changes nothing downstream reruns nothing there."""
    ran: list[str] = []
    first, last = joining("first", (), ran), joining("last", ("first",), ran)
    runner(home).run([first, last])
    runner(home).run([Step("first", first.run, code="new"), last])
    assert ran == ["first", "last", "first"]


def test_code_is_part_of_the_key(home: Home) -> None:
    """TRN-1: same name and parameters, other code digest."""
    ran: list[str] = []
    step = joining("only", (), ran)
    for code in ("a", "b", "a"):
        runner(home).run([Step("only", step.run, code=code)])
    assert ran == ["only", "only"]


def test_replay_from_any_step(home: Home) -> None:
    """TRN-1: from_step forces that step and everything that reads it, nothing else."""
    runner(home).run(diamond([]))
    ran: list[str] = []
    run = runner(home).run(diamond(ran), from_step="left")
    assert ran == ["left", "join"]
    assert statuses(run) == {"load": "cached", "left": "done", "right": "cached", "join": "done"}


def test_unknown_step_names_are_refused_with_the_nearest(home: Home) -> None:
    with pytest.raises(InputError, match="Did you mean 'right'"):
        runner(home).run(diamond([]), from_step="rihgt")
    with pytest.raises(InputError, match="earlier steps"):
        runner(home).run([joining("b", ("a",), []), joining("a", (), [])])
    with pytest.raises(InputError, match="twice"):
        runner(home).run([joining("a", (), []), joining("a", (), [])])


def test_a_step_cannot_read_what_it_did_not_declare(home: Home) -> None:
    """TRN-1: an undeclared input would not be in the key; the step fails instead of caching a lie."""

    def peek(inputs: StepInputs) -> Mapping[str, bytes]:
        return {"out.txt": inputs.read("load", "out.txt")}

    run = runner(home).run([joining("load", (), []), Step("peek", peek)])
    assert run.step("peek").status is StepStatus.FAILED
    assert isinstance(run.step("peek").error, InputError)


def test_refused_waiting_and_failed_stop_their_dependents_only(home: Home) -> None:
    """TRN-1: a gate's no is a status with a sentence, and independent steps still run."""

    def refuse(inputs: StepInputs) -> Mapping[str, bytes]:
        raise GateRefused("gate", expected="0.9", got="0.8", next_step="Add labels.")

    ran: list[str] = []
    steps = [
        Step("gate", refuse),
        Step("traffic", lambda _: Waiting("It needs 500 requests and has 20.")),
        joining("after_gate", ("gate",), ran),
        joining("later", ("after_gate",), ran),
        joining("after_traffic", ("traffic",), ran),
        joining("free", (), ran),
    ]
    run = runner(home).run(steps)
    assert statuses(run) == {
        "gate": "refused",
        "traffic": "waiting",
        "after_gate": "skipped",
        "later": "skipped",
        "after_traffic": "skipped",
        "free": "done",
    }
    assert ran == ["free"]
    assert not run.finished
    assert run.stopped_by is not None
    assert run.stopped_by.name == "gate"
    assert run.step("after_gate").detail == "'gate' is refused."
    assert isinstance(run.stopped_by.error, GateRefused)
    assert run.step("traffic").detail == "It needs 500 requests and has 20."


def test_what_did_not_finish_is_not_remembered(home: Home) -> None:
    """TRN-1: a waiting step runs again and may finish next time."""
    answers: list[Mapping[str, bytes] | Waiting] = [Waiting("later"), {"out.txt": b"now"}]
    step = Step("slow", lambda _: answers.pop(0))
    assert statuses(runner(home).run([step])) == {"slow": "waiting"}
    assert statuses(runner(home).run([step])) == {"slow": "done"}
    assert statuses(runner(home).run([step])) == {"slow": "cached"}


def test_a_step_with_effects_runs_every_time(home: Home) -> None:
    ran: list[str] = []
    step = joining("register", (), ran)
    for _ in range(2):
        runner(home).run([Step("register", step.run, remembered=False)])
    assert ran == ["register", "register"]


@pytest.mark.parametrize("victim", ["blob", "manifest", "missing"])
def test_a_damaged_output_is_noticed_and_made_again(home: Home, victim: str) -> None:
    """TRN-1: the artifact's hash decides, not the memory of having made it."""
    first = runner(home).run(diamond([]))
    store = home.path / "artifacts"
    manifest = first.step("left").output
    blob = next(
        path for path in store.rglob("*") if path.is_file() and path.read_bytes().startswith(b"(left")
    )
    target = blob if victim == "blob" else store / manifest[:2] / manifest
    if victim == "missing":
        target.unlink()
    else:
        target.chmod(0o644)
        body = bytearray(target.read_bytes())
        body[len(body) // 2] ^= 1
        target.write_bytes(bytes(body))
    ran: list[str] = []
    again = runner(home).run(diamond(ran))
    assert ran == ["left"]
    assert [s.output for s in again.steps] == [s.output for s in first.steps]
    assert set(statuses(runner(home).run(diamond(ran))).values()) == {"cached"}


def test_a_torn_memory_is_a_miss(home: Home) -> None:
    """TRN-1: an empty or broken entry costs a rerun and is repaired by it."""
    first = runner(home).run([joining("only", (), [])])
    entry = home.path / "steps" / first.steps[0].key[:2] / first.steps[0].key
    for torn in (b"", b'{"output": "12', b'{"output": 7}', b"[]"):
        entry.write_bytes(torn)
        ran: list[str] = []
        runner(home).run([joining("only", (), ran)])
        assert ran == ["only"]
    assert statuses(runner(home).run([joining("only", (), [])])) == {"only": "cached"}


def test_a_run_that_broke_resumes(home: Home) -> None:
    """TRN-1: an unexpected exception propagates; the steps before it are found next time."""
    ran: list[str] = []

    def bug(inputs: StepInputs) -> Mapping[str, bytes]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runner(home).run([joining("load", (), ran), Step("train", bug, needs=("load",))])
    run = runner(home).run([joining("load", (), ran), joining("train", ("load",), ran)])
    assert ran == ["load", "train"]
    assert statuses(run) == {"load": "cached", "train": "done"}


def _die_in_join(path: Path) -> None:
    home = Home.open(path)
    steps = diamond([])

    def die(inputs: StepInputs) -> Mapping[str, bytes]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    runner(home).run([*steps[:3], Step("join", die, needs=("left", "right"), params={"salt": ""})])


def test_a_killed_run_resumes_to_the_same_digest(home: Home, tmp_path: Path) -> None:
    """TRN-1: kill -9 in the last step; the next run does only that step."""
    process = multiprocessing.get_context("spawn").Process(target=_die_in_join, args=(home.path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    ran: list[str] = []
    resumed = runner(home).run(diamond(ran))
    unbroken = runner(Home.open(tmp_path / "other")).run(diamond([]))
    assert ran == ["join"]
    assert resumed.step("join").output == unbroken.step("join").output


def _many_runs(path: Path, out: str, story: str) -> None:
    home = Home.open(path)
    outputs = [
        step.output
        for salt in range(20)
        for step in runner(home).run(diamond([], load=f"{story}{salt}")).steps
    ]
    Path(out).write_text("\n".join(outputs), encoding="utf-8")


def test_parallel_runs_on_one_home_agree(tmp_path: Path) -> None:
    """TRN-1: four processes start the home and the same steps at once; two stories, no corruption."""
    context = multiprocessing.get_context("spawn")
    paths = [str(tmp_path / f"out{i}") for i in range(4)]
    processes = [
        context.Process(target=_many_runs, args=(tmp_path / "home", path, "ab"[i % 2]))
        for i, path in enumerate(paths)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    outputs = [Path(path).read_text(encoding="utf-8") for path in paths]
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert outputs[0] == outputs[2]
    assert outputs[1] == outputs[3]
    assert outputs[0] != outputs[1]
    assert not list((tmp_path / "home" / "steps").rglob("*.*"))


def test_the_first_writer_wins_and_force_replaces(tmp_path: Path) -> None:
    """TRN-1: two processes with different outputs for one key go on with one of them."""
    memo = Memo(tmp_path / "steps")
    key, first, second = "a" * 64, Remembered("1" * 64, 0.5), Remembered("2" * 64, 1.5)
    assert memo.put(key, first, step="s", replace=False) == first
    assert memo.put(key, second, step="s", replace=False) == first
    assert memo.put(key, second, step="s", replace=True) == second
    assert memo.get(key) == second
    assert memo.get("b" * 64) is None


def test_a_cached_step_keeps_what_its_work_cost(home: Home) -> None:
    """GOV-6: the cost of a run is that of the work behind it, whoever did it and when."""

    def work(inputs: StepInputs) -> dict[str, bytes]:
        return {"sum": str(sum(range(2_000_000))).encode(), "seen": repr(sorted(inputs.compute)).encode()}

    steps = [Step("load", work), Step("train", work, ("load",))]
    first, second = runner(home).run(steps), runner(home).run(steps)
    assert [step.status for step in second.steps] == [StepStatus.CACHED] * 2
    assert [step.compute for step in first.steps] == [step.compute for step in second.steps]
    assert min(step.compute for step in first.steps) > 0
    assert ArtifactStore(home.folder("artifacts")).read(first.step("train").output, "seen") == b"['load']"


def test_a_read_only_home_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRN-1: the failed write names the home and what to do."""

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="a writable directory"):
        Memo(tmp_path / "steps").put("a" * 64, Remembered("1" * 64, 0.0), step="s", replace=False)


def test_a_full_disk_fails_the_step_and_loses_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRN-1: the step fails with the reason, those before it stay, and the next run finishes."""
    ran: list[str] = []
    steps = [joining("load", (), ran), joining("train", ("load",), ran)]
    runner(home).run(steps[:1])

    def full(*_: object, **__: object) -> str:
        raise Unavailable("disk", expected="free space", got="none", next_step="Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "put_files", full)
        broken = runner(home).run(steps)
    assert statuses(broken) == {"load": "cached", "train": "failed"}
    assert isinstance(broken.step("train").error, Unavailable)
    assert statuses(runner(home).run(steps)) == {"load": "cached", "train": "done"}


def test_progress_is_told(home: Home) -> None:
    events: list[StepEvent] = []
    runner(home).run(diamond([]), on_event=events.append)
    told = [(event.name, event.result is not None) for event in events]
    assert told[:4] == [("load", False), ("load", True), ("left", False), ("left", True)]
    assert {(event.total) for event in events} == {4}


def test_the_record_is_a_value(home: Home) -> None:
    """TRN-1: run id, steps, keys and seconds, as JSON."""
    body = runner(home).run(diamond([])).as_dict()
    assert set(body) == {"id", "started_at", "seconds", "steps"}
    assert len(body["id"]) == 16
    fields = {"name", "status", "seconds", "compute_seconds", "key", "output", "detail"}
    assert set(body["steps"][0]) == fields


def test_code_digest_reads_sources() -> None:
    """TRN-1: packages and modules differ, names are checked."""
    assert code_digest("mangaassist.core") == code_digest("mangaassist.core")
    assert code_digest("mangaassist.core") != code_digest("mangaassist.core.clock")
    with pytest.raises(InputError, match="importable"):
        code_digest("mangaassist.no_such_room")
    with pytest.raises(InputError, match="importable"):
        code_digest("no_such_package.room")


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[str, tuple[str, ...]]]:
    count = draw(st.integers(1, 8))
    return [
        (f"s{i}", tuple(f"s{j}" for j in sorted(draw(st.sets(st.integers(0, i - 1))))) if i else ())
        for i in range(count)
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=graphs(), data=st.data())
def test_incremental_equals_from_scratch(
    tmp_path_factory: pytest.TempPathFactory, shape: list[tuple[str, tuple[str, ...]]], data: st.DataObject
) -> None:
    """TRN-1, against the obvious twin: change one step; the outputs equal those of an empty home and the
    steps that ran are exactly the changed one and its dependents."""
    changed = data.draw(st.sampled_from([name for name, _ in shape]))
    old = [joining(name, needs, []) for name, needs in shape]
    ran: list[str] = []
    new = [joining(name, needs, ran, "!" if name == changed else "") for name, needs in shape]
    folder = tmp_path_factory.mktemp("graph")
    home = Home.open(folder / "a")
    runner(home).run(old)
    incremental = runner(home).run(new)
    assert set(ran) == dependents(old, changed)
    scratch = runner(Home.open(folder / "b")).run(new)
    assert [s.output for s in incremental.steps] == [s.output for s in scratch.steps]
