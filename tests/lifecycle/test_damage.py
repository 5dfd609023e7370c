"""A flipped byte anywhere in a home: one sentence and exit 3, and never somebody's answer."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.cli.journeys import STORY, Shell, to_champion, traffic, trained_home

BROKEN = 3


@pytest.fixture
def own(tmp_path: Path) -> Shell:
    return trained_home(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A trained home whose files are put back after every flip."""
    return trained_home(tmp_path_factory.mktemp("shared"))


@contextmanager
def flipped(path: Path, position: int, bits: int = 0x41) -> Iterator[None]:
    """``path`` with one byte changed; as it was afterwards."""
    sound, mode = path.read_bytes(), path.stat().st_mode
    damaged = bytearray(sound)
    damaged[position] ^= bits
    path.chmod(0o644)
    path.write_bytes(damaged)
    try:
        yield
    finally:
        path.write_bytes(sound)
        path.chmod(mode)


def blob(shell: Shell, digest: str) -> Path:
    return shell.home / "artifacts" / digest[:2] / digest


def model_files(shell: Shell) -> dict[str, Path]:
    """The files of version 1's model as they lie in the artifact store, and their manifest."""
    store, artifact = shell.platform().artifacts, shell.platform().registry.get(STORY, 1).artifact
    digests = store._manifest(artifact)
    return {"manifest": blob(shell, artifact), **{name: blob(shell, one) for name, one in digests.items()}}


@pytest.mark.parametrize("name", ["manifest", "manifest.json", "weights.npz", "vocabulary.json"])
def test_a_flipped_byte_in_a_model(shared: Shell, name: str) -> None:
    """Issue, faults: predict refuses with exit 3; audit verify and doctor name the artifact."""
    path = model_files(shared)[name]
    positions = np.random.default_rng(len(name)).integers(0, path.stat().st_size, 3)
    for position in positions:
        with flipped(path, int(position)):
            for line in (f"predict {STORY} hello", f"evaluate {STORY}"):
                error = shared.error(*line.split(), code=BROKEN)
                assert error["error"] == "IntegrityError"
                assert error["field"] == f"artifact {path.name}"
                assert "Restore this file from a backup" in error["next_step"]
            audit = shared.json("audit", "verify", code=BROKEN)
            assert not audit["verified"]
            assert any(path.name in problem for problem in audit["problems"])
            assert path.name in shared("audit", "verify", code=BROKEN).out
            assert not shared.json("doctor", code=BROKEN)["ok"]
    assert shared.json("audit", "verify")["verified"]


@pytest.mark.parametrize("document", ["dataset", "split", "evaluation", "training_config"])
def test_audit_verify_names_a_damaged_document(shared: Shell, document: str) -> None:
    """TRN-6: what explains a version is audited like the version."""
    version = shared.platform().registry.get(STORY, 1)
    path = blob(shared, version.documents[document])
    with flipped(path, 20):
        assert path.name in " ".join(shared.json("audit", "verify", code=BROKEN)["problems"])


def test_audit_verify_names_damaged_evidence(tmp_path: Path) -> None:
    """PRO-1: what a promotion, a hold and a drift finding were drawn from is audited, too."""
    own = trained_home(tmp_path, quick=True)
    own("promote", STORY)  # holds: nobody has asked yet
    to_champion(own)
    traffic(own)
    own("drift", "check", STORY)
    sound = own.json("audit", "verify")
    entries = own.platform().ledger.entries()
    named = [
        *(one.body["evidence"] for one in entries if one.body.get("evidence")),
        *(one.body["digest"] for one in entries if one.kind == "drift.reference"),
    ]
    assert len(named) == 4, "a hold, a canary, a promotion and a drift reference"
    for digest in named:
        with flipped(blob(own, digest), 9):
            assert digest in " ".join(own.json("audit", "verify", code=BROKEN)["problems"])
    assert own.json("audit", "verify") == sound


def test_a_lost_artifact(own: Shell) -> None:
    path = model_files(own)["weights.npz"]
    path.unlink()
    assert "nothing under that name" in own.error("predict", STORY, "hello", code=BROKEN)["got"]
    assert path.name in " ".join(own.json("audit", "verify", code=BROKEN)["problems"])


def test_a_retrain_repairs_what_it_can_make_again(own: Shell) -> None:
    """A damaged step output is computed again, to the same bytes under the same version."""
    path = model_files(own)["weights.npz"]
    path.chmod(0o644)
    path.write_bytes(b"rot")
    body = own.json("retrain", STORY)
    assert body["version"] == 1
    assert next(step for step in body["steps"] if step["name"] == "training")["status"] == "done"
    assert own.json("predict", STORY, "where is my Akira parcel")["label"] == "order"
    assert own.json("audit", "verify")["verified"]


# tables


def table_files(shell: Shell, ending: str) -> list[Path]:
    """The files behind the two label tables."""
    found = [
        path
        for kind in ("examples", "labels")
        for path in sorted((shell.home / "warehouse" / kind / STORY).rglob(f"*{ending}"))
    ]
    assert found
    return found


def test_a_flipped_byte_in_a_label_table(shared: Shell) -> None:
    """LAB-2: retrain refuses, names the table, finalises nothing and registers nothing."""
    before = shared.written()
    generator = np.random.default_rng(3)
    for path in table_files(shared, ".parquet"):
        for position in generator.integers(0, path.stat().st_size, 3):
            with flipped(path, int(position)):
                error = shared.json("retrain", STORY, code=BROKEN)
                assert error["error"] == "IntegrityError"
                assert error["field"].startswith("table '")
                assert error["next_step"] == "Restore the warehouse from a backup."
    assert shared.written() == before
    assert shared.json("retrain", STORY)["version"] == 1


def test_a_flipped_byte_in_table_metadata(shared: Shell) -> None:
    """Whatever byte of the newest metadata it is: exit 3 or no difference at all."""
    known = shared.json("evaluate", STORY)["metrics"]["accuracy"]
    generator, told = np.random.default_rng(4), 0
    for path in [*table_files(shared, ".avro")[-2:], *table_files(shared, ".metadata.json")[-2:]]:
        with flipped(path, int(generator.integers(path.stat().st_size))):
            done = shared.json("evaluate", STORY, code=BROKEN if is_read(shared, path) else 0)
            told += done.get("error") == "IntegrityError"
            if "metrics" in done:
                assert done["metrics"]["accuracy"] == known
    assert told > 0


def is_read(shell: Shell, path: Path) -> bool:
    """Whether reading the newest snapshot needs ``path``."""
    from mangaassist.core.errors import IntegrityError

    story = shell.platform().story(STORY)
    try:
        shell.platform().labels.examples(story)
        shell.platform().labels.labels(story)
    except IntegrityError:
        return True
    return False


def test_tables_that_are_gone(own: Shell) -> None:
    shutil.rmtree(own.home / "warehouse")
    error = own.error("retrain", STORY, "--seed", "8", code=BROKEN)
    assert error["next_step"] == "Restore the warehouse from a backup."
    assert own.json("predict", STORY, "hello")["version"] == 1, "serving needs no table"


# the ledger


def still(shell: Shell) -> Path:
    """The ledger as one file, its write-ahead log folded in."""
    path = shell.home / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


def test_an_altered_entry_is_found_by_its_number(shared: Shell) -> None:
    """GOV-4: one changed letter in one reason."""
    path = still(shared)
    entry = shared.platform().ledger.entries(kind="registry.registered")[0]
    position = path.read_bytes().index(b"All 10 verdicts pass")
    with flipped(path, position, 0x20):
        audit = shared.json("audit", "verify", code=BROKEN)
        assert f"Entry {entry.sequence} was altered" in audit["problems"][0]
        assert "Restore" in " ".join(
            one["next_step"] for one in shared.json("doctor", code=BROKEN)["checks"] if not one["ok"]
        )
    assert shared.json("audit", "verify")["verified"]


def test_a_ledger_that_is_no_database(own: Shell) -> None:
    path = still(own)
    path.write_bytes(b"nothing of the kind" * 500)
    for line in ("audit verify", f"registry list {STORY}", f"retrain {STORY}", f"rollback {STORY}", "freeze"):
        said = own(*line.split(), code=BROKEN)
        assert "Restore the ledger from a backup" in said.out + said.err, line
    assert not own.json("doctor", code=BROKEN)["ok"]


def test_a_ledger_cut_short(own: Shell) -> None:
    """Rows deleted from the end leave a valid chain; what this home has seen does not fit any more."""
    path = still(own)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM ledger_entries WHERE sequence > 6")
    connection.close()
    assert "this home has seen the chain reach" in own.json("audit", "verify", code=BROKEN)["problems"][0]


def flips_in_the_ledger(shell: Shell, points: int, seed: int) -> int:
    """Seeded single flips; every command says something sensible, and verify misses no changed entry."""
    path, found = still(shell), 0
    known = shell.platform().ledger.entries()
    generator = np.random.default_rng(seed)
    for _ in range(points):
        position = int(generator.integers(path.stat().st_size))
        with flipped(path, position, int(generator.integers(1, 256))):
            audit = shell("audit", "verify", code=None)
            assert audit.code in (0, BROKEN)
            listed = shell("registry", "list", STORY, code=None)
            assert listed.code in (0, BROKEN)
            for said in (audit, listed):
                assert "Something broke" not in said.err, (position, said.err)
            if audit.code == 0:
                assert shell.platform().ledger.entries() == known, position
            found += audit.code == BROKEN
    return found


def test_any_flipped_byte_in_the_ledger(shared: Shell) -> None:
    """Issue, faults: a flipped byte in the ledger is found wherever it changes an entry."""
    assert flips_in_the_ledger(shared, 40, seed=11) > 5


@pytest.mark.soak
def test_any_flipped_byte_in_the_ledger_long_form(shared: Shell) -> None:
    assert flips_in_the_ledger(shared, 3000, seed=12) > 300
