"""Bundles: nothing unevaluated goes live, a flip moves all members or none, the way back stays open."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from tests.promotion.samples import AT, add, failing, registry, to_champion

from mangaassist.core.errors import Conflict, GateRefused, InputError
from mangaassist.core.home import Home
from mangaassist.promotion.bundles import Bundles
from mangaassist.promotion.pairs import FLIPPED, KEPT_WARM, Bundle, subject
from mangaassist.promotion.registry import Registry
from mangaassist.serving.live import LivePointer, Readers

NAME = "catalog-search"


def evaluation(members: dict[str, str], status: str = "pass") -> dict[str, Any]:
    verdict = {
        "name": "search.top3",
        "status": status,
        "sentence": "Top-3 hit rate is .91.",
        "value": 0.91,
        "threshold": 0.9,
        "n": 2000,
    }
    return {"members": members, "verdicts": [verdict]}


def coupled(target: Registry, number: int) -> dict[str, str]:
    """An embedding, a reranker trained on it and its index, the ``number``-th of each."""
    for story in ("embedding", "reranker"):
        while len(target.versions(story)) < number:
            add(target, story, run=f"{story}-{len(target.versions(story)) + 1}")
    index = target.artifacts.put_files({"vectors": f"index {number}".encode()})
    return {"embedding": f"embedding/{number}", "reranker": f"reranker/{number}", "index": index}


def register(bundles: Bundles, target: Registry, number: int) -> Bundle:
    members = coupled(target, number)
    return bundles.register(NAME, members, evaluation=evaluation(members), actor="mei", at=AT)


def flip(bundles: Bundles, number: int, **more: Any) -> Any:
    return bundles.flip(NAME, number, actor="mei", reason="Better.", at=AT, **more)


def live(bundles: Bundles) -> int | None:
    found = bundles.state(NAME).live
    return found.number if found else None


def test_flip_and_back(home: Home) -> None:
    """PRO-5: blue stays, is written too, and is where a flip back goes; withdrawn ones do not come again."""
    target = registry(home)
    bundles = Bundles(target)
    first, second = register(bundles, target, 1), register(bundles, target, 2)
    assert register(bundles, target, 2) == second, "the same again is the same bundle"
    flip(bundles, 1)
    done = flip(bundles, 2)
    assert (done.state.live, done.state.blue, done.state.written) == (second, first, (second, first))
    assert done.verdict.passed
    third = register(bundles, target, 3)
    assert bundles.state(NAME).written == (second, first, third)
    returned = bundles.back(NAME, actor="mei", reason="Worse in Japanese.", at=AT)
    assert (returned.state.live, returned.state.blue) == (first, None)
    with pytest.raises(GateRefused, match="withdrawn"):
        flip(bundles, 2)
    with pytest.raises(GateRefused, match="still warm"):
        bundles.back(NAME, actor="mei", reason="Again.", at=AT)
    assert Bundles(registry(home)).state(NAME) == bundles.state(NAME)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (None, "embedding embedding/1 and index .* and reranker reranker/1 were not evaluated together"),
        ({"reranker": "reranker/2"}, "the evaluation is of .*reranker reranker/2"),
        ({}, "Top-3 hit rate"),
    ],
)
def test_what_was_not_evaluated_together_cannot_be_flipped_to(
    home: Home, changed: dict[str, str] | None, says: str
) -> None:
    """PRO-7: no evaluation, one of other members, or one that failed."""
    target = registry(home)
    bundles, members = Bundles(target), coupled(target, 1)
    add(target, "reranker", run="other")
    document = None if changed is None else evaluation({**members, **changed}, "pass" if changed else "fail")
    bundle = bundles.register(NAME, members, evaluation=document, actor="mei", at=AT)
    with pytest.raises(GateRefused, match=says) as refused:
        flip(bundles, bundle.number)
    assert "catalog-search/1 (embedding embedding/1 + index" in str(refused.value)
    assert live(bundles) is None


def test_an_evaluation_without_verdicts_proves_nothing(home: Home) -> None:
    target = registry(home)
    bundles, members = Bundles(target), coupled(target, 1)
    nothing = {"members": members, "verdicts": []}
    bundles.register(NAME, members, evaluation=nothing, actor="mei", at=AT)
    with pytest.raises(GateRefused, match="without a verdict"):
        flip(bundles, 1)
    with pytest.raises(InputError, match="KeyError"):
        bundles.register(NAME, members, evaluation={"verdicts": []}, actor="mei", at=AT)


def test_a_member_that_failed_its_own_gate_keeps_the_bundle_back(home: Home) -> None:
    target = registry(home)
    bundles = Bundles(target)
    register(bundles, target, 1)
    target.fail("reranker", 1, decision=failing("reranker/1"))
    with pytest.raises(GateRefused, match="reranker/1 to have passed"):
        flip(bundles, 1)


def test_a_member_is_not_deployed_alone(home: Home) -> None:
    """PRO-7: a story that is read as part of a bundle changes with it, not by its own rollout."""
    target = registry(home)
    bundles = Bundles(target)
    register(bundles, target, 1)
    flip(bundles, 1)
    coupled(target, 2)
    alone = Registry(target.ledger, target.artifacts, target.keys, deployable=bundles.require_uncoupled)
    with pytest.raises(GateRefused, match="read as part of catalog-search/1"):
        alone.start_shadow("embedding", 2, actor="p", at=AT)
    to_champion(alone, "intent", run="r1")


def test_switches_deny_a_flip_and_never_the_way_back(home: Home) -> None:
    """PRO-8: freeze, a member's promotion switch and its blue_green technique; deny wins."""
    target = registry(home)
    bundles, switches = Bundles(target), target.switches
    for number in (1, 2, 3):
        register(bundles, target, number)
    flip(bundles, 1)
    flip(bundles, 2)
    for name in ("global_ml_freeze", "reranker.promotion_enabled", "embedding.technique.blue_green"):
        denies = name == "global_ml_freeze"
        switches.set(name, denies, actor="ic", reason="SEV-2", at=AT)
        with pytest.raises(GateRefused):
            flip(bundles, 3)
        switches.set(name, not denies, actor="ic", reason="Over.", at=AT)
    switches.freeze(True, actor="ic", reason="SEV-1", at=AT)
    assert bundles.back(NAME, actor="ic", reason="SEV-1", at=AT).state.live.number == 1


def test_a_flip_that_lost_to_a_freeze_is_void(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRO-8: between the question and the entry somebody froze; the entry changes nothing."""
    target = registry(home)
    bundles = Bundles(target)
    register(bundles, target, 1)
    append = target.ledger.append

    def late(**given: Any) -> Any:
        if given["kind"] == FLIPPED:
            registry(home).switches.freeze(True, actor="ic", reason="SEV-1", at=AT)
        return append(**given)

    monkeypatch.setattr(target.ledger, "append", late)
    with pytest.raises(GateRefused, match="SEV-1"):
        flip(bundles, 1)
    assert live(bundles) is None
    assert live(Bundles(registry(home))) is None


def test_of_two_flips_decided_at_once_one_wins(home: Home) -> None:
    target = registry(home)
    mine, theirs = Bundles(target), Bundles(registry(home))
    for number in (1, 2):
        register(mine, target, number)
    seen = theirs.state(NAME).epoch
    flip(mine, 1)
    with pytest.raises(Conflict, match="Somebody else flipped"):
        flip(theirs, 2, epoch=seen)
    assert live(theirs) == 1


def test_blue_is_released_after_fourteen_days(home: Home) -> None:
    """PRO-5: not a day before; then there is no way back to it."""
    target = registry(home)
    bundles = Bundles(target)
    for number in (1, 2):
        register(bundles, target, number)
        flip(bundles, number)
    assert bundles.release(NAME, actor="m", at=AT + KEPT_WARM - timedelta(seconds=1)) == ()
    assert [one.number for one in bundles.release(NAME, actor="m", at=AT + KEPT_WARM)] == [1]
    assert bundles.state(NAME).blue is None
    with pytest.raises(GateRefused, match="still warm"):
        bundles.back(NAME, actor="mei", reason="Late.", at=AT + KEPT_WARM)


def test_bad_members_are_refused(home: Home) -> None:
    target = registry(home)
    bundles, members = Bundles(target), coupled(target, 1)
    for wrong in (
        {"embedding": "embedding/1"},
        {**members, "index": "0" * 64},
        {**members, "index": "nonsense"},
        {**members, "reranker": "reranker/9"},
    ):
        with pytest.raises(InputError):
            bundles.register(NAME, wrong, evaluation=None, actor="mei", at=AT)
    with pytest.raises(InputError, match="lower-case"):
        bundles.register("No Name", members, evaluation=None, actor="mei", at=AT)


# Reads the live bundle in a loop; every member says which generation it is of.
_READER = """
import sys, time
from datetime import timedelta
from pathlib import Path
from mangaassist.core.home import Home
from tests.promotion.samples import registry
from mangaassist.serving.live import LivePointer
home = Home.open(Path(sys.argv[1]))
target = registry(home)
pointer = LivePointer(target, home=home, lease=timedelta(seconds=5))
pointer.coupled("catalog-search")
pointer.start(timedelta(milliseconds=1))
print("ready", flush=True)
end, mixed, seen, epochs = time.monotonic() + float(sys.argv[2]), 0, set(), [0]
while time.monotonic() < end:
    live = pointer.coupled("catalog-search")
    names = {one.role: target.artifacts.read(one.artifact, "manifest.json") if one.version else
             target.artifacts.read(one.artifact, "vectors") for one in live.bundle.members}
    generations = {bytes(name).split(b"-")[-1].split(b" ")[-1] for name in names.values()}
    mixed += len(generations) > 1
    seen.add(live.bundle.number)
    epochs.append(live.epoch)
print(mixed, len(seen), epochs == sorted(epochs), flush=True)
"""


def test_readers_that_race_flips_never_see_members_mixed(home: Home) -> None:
    """PRO-5: two processes read while bundles flip to and fro; every read is of one generation."""
    target = registry(home)
    bundles = Bundles(target, readers=(Readers(home),))
    register(bundles, target, 1)
    flip(bundles, 1)
    command = [sys.executable, "-c", _READER, str(home.path), "3"]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        assert [reader.stdout.readline() for reader in readers if reader.stdout] == [b"ready\n"] * 2
        flips = 0
        while all(reader.poll() is None for reader in readers) and flips < 12:
            register(bundles, target, flips + 2)
            done = flip(bundles, flips + 2)
            assert done.seconds < 60
            if flips % 3 == 2:
                done = bundles.back(NAME, actor="mei", reason="Drill.", at=AT)
                assert done.verdict.passed
            flips += 1
        for reader in readers:
            mixed, seen, ordered = reader.communicate(timeout=30)[0].split()
            assert (mixed, ordered) == (b"0", b"True")
            assert int(seen) > 2
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


def test_a_pointer_that_is_cut_off_reads_the_bundle_before(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRO-4: what is flipped back meanwhile cannot be what it reads."""
    target = registry(home)
    bundles = Bundles(target)
    for number in (1, 2):
        register(bundles, target, number)
        flip(bundles, number)
    now = [0.0]
    monkeypatch.setattr("mangaassist.serving.live._elapsed", lambda: now[0])
    warmed: list[tuple[str, int]] = []
    pointer = LivePointer(
        target, prepare=lambda *one: warmed.append(one), home=home, lease=timedelta(seconds=30)
    )
    assert pointer.coupled(NAME).bundle.number == 2
    assert set(warmed) == {("embedding", 1), ("embedding", 2), ("reranker", 1), ("reranker", 2)}
    assert Readers(home).epochs(subject(NAME)).popitem()[1] == bundles.state(NAME).epoch
    now[0] = 31
    assert (pointer.coupled(NAME).bundle.number, pointer.coupled(NAME).pinned) == (1, True)
    pointer.stop()
