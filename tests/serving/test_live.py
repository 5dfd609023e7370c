"""The live pointer and the model server: freshness, acknowledgement, loss of the store, damaged artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from tests.promotion.samples import AT, add, failing, registry, to_canary, to_champion
from tests.serving.samples import load_toy, stack

from mangaassist.core.errors import IntegrityError, Unavailable
from mangaassist.core.home import Home
from mangaassist.governance.signing import KeyRing
from mangaassist.promotion.registry import Registry
from mangaassist.serving.live import LivePointer, Readers
from mangaassist.serving.model_server import ModelFailed, ModelServer

SECOND = timedelta(seconds=1)


def test_resolving_reads_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRO-4: a resolve in process touches no store; its staleness is reported."""
    served = stack(home)
    to_champion(served.registry, run="r1")
    first = served.pointer.resolve("intent")
    monkeypatch.setattr(served.registry, "ledger", None)
    later = served.pointer.resolve("intent")
    assert first.deployment.champion == 1
    assert later.deployment is first.deployment
    assert later.stale_seconds > first.stale_seconds >= 0


def test_refresh_shows_what_another_process_did(home: Home) -> None:
    served = stack(home)
    assert served.pointer.resolve("intent").deployment.champion is None
    to_champion(registry(home), run="r1")
    assert served.pointer.resolve("intent").deployment.champion is None
    served.pointer.refresh()
    assert served.pointer.resolve("intent").deployment.champion == 1
    assert served.server.loaded() == [("intent", 1)], "loaded before users met it"


def test_the_background_refresh_sees_a_rollback(home: Home) -> None:
    """PRO-4: the last in-process reader sees a rollback without being told."""
    served = stack(home)
    to_champion(served.registry, run="r1")
    to_champion(served.registry, run="r2")
    served.pointer.resolve("intent")
    served.pointer.start(timedelta(milliseconds=5))
    after = registry(home).rollback("intent", decision=failing("intent/2"))
    seen = threading.Event()

    def watch() -> None:
        served.pointer.acknowledge("intent", after.epoch, within=30 * SECOND, withdrawn=2)
        seen.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    watcher.join(30)
    served.pointer.stop()
    assert seen.is_set()
    assert served.pointer.resolve("intent").deployment.champion == 1
    assert Readers(home).epochs("intent") == {}


def test_losing_the_store_pins_the_champion(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRO-8: an unreachable store leaves the last known good version serving and the challenger unseen."""
    served = stack(home)
    to_champion(served.registry, run="r1")
    add(served.registry, run="r2")
    to_canary(served.registry, "intent", 2)
    served.pointer.resolve("intent")
    served.pointer.refresh()
    assert served.pointer.resolve("intent").permissions.challenger_traffic

    def down() -> int:
        raise Unavailable("ledger", expected="an answer", got="silence", next_step="Look at it.")

    with monkeypatch.context() as patch:
        patch.setattr(served.registry.ledger, "version", down)
        served.pointer.refresh()
        live = served.pointer.resolve("intent")
        assert (live.deployment.champion, live.deployment.challenger) == (1, 2)
        assert not live.permissions.challenger_traffic
        assert live.permissions.source == "defaults"
        assert "silence" in served.pointer.problem
    served.pointer.refresh()
    assert served.pointer.resolve("intent").permissions.challenger_traffic
    assert served.pointer.problem == ""


def test_a_late_reader_is_named(home: Home) -> None:
    """PRO-4: a rollback that a reader has not seen in time is not reported as done."""
    served = stack(home)
    served.pointer.resolve("intent")
    with pytest.raises(Unavailable, match=str(os.getpid())):
        Readers(home).acknowledge("intent", 99, within=timedelta(0), withdrawn=2)
    with pytest.raises(Unavailable, match="this process"):
        served.pointer.acknowledge("intent", 99, within=timedelta(0), withdrawn=2)


_READER = """
import sys
from pathlib import Path
from mangaassist.core.home import Home
from mangaassist.governance.signing import KeyRing
from mangaassist.promotion.registry import Registry
from mangaassist.serving.live import LivePointer
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Ledger
home = Home.open(Path(sys.argv[1]))
ledger = Ledger.open(home)
keys = KeyRing(ledger, home.folder("keys"), "us")
pointer = LivePointer(Registry(ledger, ArtifactStore(home.folder("artifacts")), keys), home=home)
pointer.resolve("intent")
pointer.start()
print("ready", flush=True)
sys.stdin.readline()
"""


def test_another_process_acknowledges_and_a_killed_one_is_not_waited_for(home: Home) -> None:
    """PRO-4: rollback-to-last-reader time is measurable across processes."""
    target = registry(home)
    to_champion(target, run="r1")
    to_champion(target, run="r2")
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", _READER, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"ready\n"
        assert len(Readers(home).epochs("intent")) == 2
        readers[0].kill()
        readers[0].wait(30)
        after = target.rollback("intent", decision=failing("intent/2"))
        assert Readers(home).acknowledge("intent", after.epoch, within=30 * SECOND, withdrawn=2).readers == 1
        assert list(Readers(home).epochs("intent").values()) == [after.epoch]
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


def flip_a_byte(home: Home, artifact: str, name: str = "manifest.json") -> Path:
    target = registry(home)
    blob = target.artifacts.put(target.artifacts.read(artifact, name))
    path = home.folder("artifacts") / blob[:2] / blob
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))
    return path


def test_a_flipped_byte_is_caught_at_load(home: Home) -> None:
    """TRN-6, GOV-4: serving verifies before it loads, and reads a damaged artifact only once."""
    served = stack(home)
    version = to_champion(served.registry, run="r1")
    flip_a_byte(home, version.artifact)
    with pytest.raises(IntegrityError):
        served.server.model("intent", 1)
    with pytest.raises(ModelFailed, match="IntegrityError"):
        served.server.predict("intent", 1, ["hello"])
    assert served.server.warm("intent", 1) == "IntegrityError"
    served.pointer.refresh()
    answer = served.ask()
    assert (answer.version, answer.records[0].error) == (None, "IntegrityError")


def test_a_version_nobody_trusted_vouches_for_is_not_loaded(home: Home) -> None:
    """GOV-3: a revoked key ends loading, a new signature brings it back; other regions need their own."""
    served = stack(home)
    version = to_champion(served.registry, run="r1")
    served.registry.keys.revoke("us", version.signatures["us"].key, reason="lost", actor="emi", at=AT)
    with pytest.raises(IntegrityError, match="revoked: lost"):
        served.server.model("intent", 1)
    served.registry.sign("intent", 1, actor="emi", at=AT)
    assert served.server.warm("intent", 1) == ""
    abroad = Registry(
        served.registry.ledger,
        served.registry.artifacts,
        KeyRing(served.registry.ledger, home.folder("keys"), "jp"),
    )
    with pytest.raises(IntegrityError, match="a copy signed for us"):
        ModelServer(abroad, load=load_toy).model("intent", 1)
    epoch = abroad.deployment("intent").epoch
    abroad.sign("intent", 1, actor="emi", at=AT)
    assert abroad.deployment("intent").epoch == epoch
    assert ModelServer(abroad, load=load_toy).warm("intent", 1) == ""


def test_a_repaired_artifact_loads_after_warm(home: Home) -> None:
    served = stack(home)
    version = to_champion(served.registry, run="r1")
    path = flip_a_byte(home, version.artifact)
    assert served.server.warm("intent", 1) == "IntegrityError"
    path.write_bytes(b"r1")
    with pytest.raises(IntegrityError):
        served.server.model("intent", 1)
    assert served.server.warm("intent", 1) == ""
    assert served.server.predict("intent", 1, ["hello"])[0].label == "r1"


def test_skewed_preprocessing_never_answers(home: Home) -> None:
    """TRN-6: a model trained with other preprocessing is refused at load."""
    served = stack(home)
    add(served.registry, run="r1", files={"manifest.json": b"skewed"})
    with pytest.raises(ModelFailed, match="IntegrityError"):
        served.server.predict("intent", 1, ["hello"])


def test_the_least_recently_used_model_makes_room(home: Home) -> None:
    served = stack(home, capacity=2)
    for run in ("r1", "r2", "r3"):
        add(served.registry, run=run)
    for number in (1, 2, 1, 3):
        served.server.predict("intent", number, ["hello"])
    assert served.server.loaded() == [("intent", 1), ("intent", 3)]


def test_a_pointer_that_never_saw_a_story_needs_the_store(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a last known good there is nothing to pin."""
    pointer = LivePointer(registry(home))

    def down() -> int:
        raise Unavailable("ledger", expected="an answer", got="silence", next_step="Look at it.")

    monkeypatch.setattr(pointer._registry.ledger, "version", down)
    with pytest.raises(Unavailable):
        pointer.resolve("intent")
