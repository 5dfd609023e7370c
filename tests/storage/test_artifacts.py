"""The artifact store: what goes in comes out or an error names it (TRN-1, issue item 2 and faults)."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.processes import put_many, run

from mangaassist.core.errors import InputError, IntegrityError, Unavailable
from mangaassist.storage import artifacts
from mangaassist.storage.artifacts import ArtifactStore

HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def blobs(tmp_path: Path) -> list[Path]:
    return sorted(
        path for path in (tmp_path / "artifacts").rglob("*") if path.is_file() and len(path.name) == 64
    )


def written_at(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)


def damage(path: Path, position: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("durable", [False, True])
def test_bytes_come_back_under_their_sha256(store: ArtifactStore, durable: bool) -> None:
    for data in (b"", b"\x00", "進撃の巨人".encode() * 1000):
        digest = store.put(data, durable=durable)
        assert digest == hashlib.sha256(data).hexdigest()
        assert store.has(digest)
        assert store.get(digest) == data
    assert not store.has("0" * 64)


def test_the_same_bytes_are_stored_once(store: ArtifactStore, tmp_path: Path) -> None:
    assert store.put(b"x") == store.put(b"x", durable=True)
    assert len(blobs(tmp_path)) == 1


@settings(max_examples=30, deadline=None)
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}\.json", fullmatch=True), st.binary(max_size=64)
    )
)
def test_a_set_of_files_has_one_id_whatever_the_order(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    artifact = store.put_files(files)
    assert artifact == store.put_files(dict(reversed(files.items())))
    assert store.files(artifact) == files
    assert store.names(artifact) == tuple(sorted(files))
    assert all(store.read(artifact, name) == data for name, data in files.items())


def test_a_flipped_byte_is_named(store: ArtifactStore, tmp_path: Path) -> None:
    """Issue, faults: a flipped byte in an artifact gets one sentence with the digest and the next step."""
    digest = store.put(b"weights" * 100)
    damage(blobs(tmp_path)[0], 77)
    with pytest.raises(
        IntegrityError, match=rf"{digest}.*Restore this file from a backup, or replay the run"
    ):
        store.get(digest)
    assert store.put(b"weights" * 100) == digest
    assert store.get(digest) == b"weights" * 100, "storing the same bytes again heals the blob"


def test_a_flipped_byte_in_any_file_or_the_manifest_is_found(store: ArtifactStore, tmp_path: Path) -> None:
    artifact = store.put_files({"a.npz": b"a" * 50, "b.json": b"{}", "manifest.json": b"{}{}"})
    generator = np.random.default_rng(3)
    for path in blobs(tmp_path):
        sound = path.read_bytes()
        damage(path, int(generator.integers(len(sound))))
        with pytest.raises(IntegrityError, match=path.name):
            store.files(artifact)
        path.write_bytes(sound)
    assert len(store.files(artifact)) == 3


def test_a_missing_blob_is_an_integrity_error(store: ArtifactStore) -> None:
    with pytest.raises(IntegrityError, match="nothing under that name"):
        store.get("ab" * 32)


@pytest.mark.parametrize("digest", ["", "xyz", "../../etc/passwd", "AB" * 32, "ab" * 32 + "\n"])
def test_a_wrong_digest_is_bad_input(store: ArtifactStore, digest: str) -> None:
    with pytest.raises(InputError, match="64 hexadecimal"):
        store.get(digest)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "a\\b", "a//b", "./a"])
def test_a_name_that_leaves_the_artifact_is_refused(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InputError, match="relative name"):
        store.put_files({name: b"x"})


def test_unknown_file_and_plain_blob(store: ArtifactStore) -> None:
    artifact = store.put_files({"weights.npz": b"w"})
    with pytest.raises(InputError, match=r"Did you mean 'weights.npz'"):
        store.read(artifact, "weight.npz")
    with pytest.raises(InputError, match="single blob"):
        store.files(store.put(b"[1]"))


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, Unavailable), (errno.EROFS, InputError), (errno.EACCES, InputError)],
)
def test_a_failed_write_is_one_sentence_and_leaves_nothing(
    store: ArtifactStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[Exception],
) -> None:
    before = store.put(b"before")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(artifacts, "_write_fully", fail)
    with pytest.raises(expected, match=os.strerror(number)):
        store.put(b"after")
    monkeypatch.undo()
    assert [path.name for path in blobs(tmp_path)] == [before]
    assert list((tmp_path / "artifacts" / "drafts").iterdir()) == []


def test_threads_and_processes_put_the_same_bytes(store: ArtifactStore, tmp_path: Path) -> None:
    """Concurrent puts: nobody fails and every blob is whole."""
    digests: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: digests.append(put_many(tmp_path / "artifacts", 50)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    digests += run(2, put_many, [(tmp_path / "artifacts", 50)] * 2)
    for thread in threads:
        thread.join()
    assert all(one == digests[0] for one in digests)
    assert len(blobs(tmp_path)) == 50
    assert all(store.get(digest) for digest in digests[0])


def test_collection_frees_only_old_blobs_nothing_refers_to(store: ArtifactStore, tmp_path: Path) -> None:
    kept = store.put_files({"a": b"kept a", "b": b"shared"})
    dropped = store.put_files({"a": b"dropped", "b": b"shared"})
    later = max(written_at(path) for path in blobs(tmp_path)) + 2 * HOUR
    everything = {path.name: path.stat().st_size for path in blobs(tmp_path)}

    planned = store.collect({kept}, grace=HOUR, now=later)
    assert planned.dry_run
    assert len(planned.digests) == 2
    assert {path.name for path in blobs(tmp_path)} == set(everything), "a dry run deletes nothing"

    done = store.collect({kept}, grace=HOUR, now=later, dry_run=False)
    assert (done.digests, done.bytes, done.kept) == (planned.digests, planned.bytes, 3)
    assert done.bytes == sum(everything[digest] for digest in done.digests)
    assert store.files(kept) == {"a": b"kept a", "b": b"shared"}
    assert not store.has(dropped)


def test_young_blobs_and_blobs_put_again_outlive_a_collection(store: ArtifactStore, tmp_path: Path) -> None:
    """A reference may be written only after its blob: the grace period bridges that."""
    old, again = store.put(b"old"), store.put(b"again")
    for path in blobs(tmp_path):
        os.utime(path, (1_000_000, 1_000_000))
    young = store.put(b"young")
    store.put(b"again")
    now = written_at(next(path for path in blobs(tmp_path) if path.name == young))
    assert store.collect(set(), grace=HOUR, now=now, dry_run=False).digests == (old,)
    assert store.has(young)
    assert store.has(again)


def test_collection_refuses_when_something_reachable_is_damaged(store: ArtifactStore, tmp_path: Path) -> None:
    """Not knowing what a damaged manifest refers to, it deletes nothing."""
    artifact = store.put_files({"a": b"content"})
    damage(next(path for path in blobs(tmp_path) if path.name == artifact), 30)
    later = written_at(blobs(tmp_path)[0]) + 2 * HOUR
    with pytest.raises(IntegrityError, match=artifact):
        store.collect({artifact}, grace=HOUR, now=later, dry_run=False)
    with pytest.raises(IntegrityError, match="nothing under that name"):
        store.collect({"ab" * 32}, grace=HOUR, now=later, dry_run=False)
    assert len(blobs(tmp_path)) == 2


def test_drafts_of_killed_writers_are_swept(store: ArtifactStore, tmp_path: Path) -> None:
    store.put(b"x")
    draft = tmp_path / "artifacts" / "drafts" / "1.2.3"
    draft.write_bytes(b"half")
    os.utime(draft, (1_000_000, 1_000_000))
    store.collect(set(), grace=HOUR, now=written_at(blobs(tmp_path)[0]), dry_run=False)
    assert not draft.exists()
