"""A ledger that was tampered with, damaged, or cannot be written (issue, bad input and faults)."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from tests.storage.processes import AT

from mangaassist.core.errors import InputError, IntegrityError, MangaAssistError, Unavailable
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.storage.ledger import Entry, Ledger, Verification

ENTRIES = 12


def fill(home: Home, count: int = ENTRIES) -> list[Entry]:
    ledger = Ledger.open(home)
    for number in range(count):
        ledger.append(
            kind="test.done", subject=f"s/{number % 3}", body={"n": number, "t": "x" * 40}, actor="a", at=AT
        )
    entries = ledger.entries()
    ledger.close()
    return entries


def verify(home: Home) -> Verification:
    ledger = Ledger.open(home)
    try:
        return ledger.verify()
    finally:
        ledger.close()


def tamper(home: Home, *statements: str) -> None:
    with closing(sqlite3.connect(home.path / "ledger.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    ("statements", "first_bad", "says"),
    [
        (["update ledger_entries set body = '{\"n\":99}' where sequence = 5"], 5, "altered"),
        (["update ledger_entries set body = body || ' ' where sequence = 5"], 5, "altered"),
        (["update ledger_entries set actor = 'eve' where sequence = 1"], 1, "altered"),
        (["update ledger_entries set at = '2020-01-01T00:00:00.000000Z' where sequence = 12"], 12, "altered"),
        (["update ledger_entries set digest = 'x' where sequence = 7"], 7, "altered"),
        (["update ledger_entries set body = 'no json' where sequence = 3"], 3, "altered"),
        (["delete from ledger_entries where sequence = 6"], 6, "missing"),
        (["delete from ledger_entries where sequence = 1"], 1, "missing"),
        (["delete from ledger_entries where sequence > 9"], 10, "missing"),
        (["delete from ledger_entries"], 1, "missing"),
        (
            [
                "update ledger_entries set sequence = 100 where sequence = 4",
                "update ledger_entries set sequence = 4 where sequence = 8",
                "update ledger_entries set sequence = 8 where sequence = 100",
            ],
            4,
            "moved",
        ),
    ],
)
def test_verify_names_the_first_bad_entry(
    home: Home, statements: list[str], first_bad: int, says: str
) -> None:
    entries = fill(home)
    tamper(home, *statements)
    found = verify(home)
    assert not found.ok
    assert found.first_bad == first_bad
    assert says in found.problem
    assert found.entries == first_bad - 1
    assert found.head == (entries[first_bad - 2].digest if first_bad > 1 else "0" * 64)


def test_an_entry_rewritten_with_a_right_digest_breaks_the_next(home: Home) -> None:
    """A consistent forgery of one entry does not fit the chain."""
    fill(home)
    other = Home.open(home.path.parent / "other")
    ledger = Ledger.open(other)
    for number in range(5):
        ledger.append(kind="forged", subject="s", body={"n": number}, actor="eve", at=AT)
    ledger.close()
    tamper(
        home,
        f"attach '{other.path / 'ledger.db'}' as forged",
        "delete from ledger_entries where sequence = 5",
        "insert into ledger_entries select * from forged.ledger_entries where sequence = 5",
    )
    assert (verify(home).first_bad, verify(home).ok) == (5, False)


def test_an_old_copy_put_back_is_noticed(home: Home) -> None:
    """The end of a chain cannot be cut off unseen: the home remembers how far it has seen it reach."""
    fill(home)
    shutil.copy(home.path / "ledger.db", home.path / "old.db")
    ledger = Ledger.open(home)
    ledger.append(kind="test.done", subject="s", body={}, actor="a", at=AT)
    ledger.close()
    assert verify(home).ok
    (home.path / "old.db").replace(home.path / "ledger.db")
    found = verify(home)
    assert (found.ok, found.first_bad) == (False, ENTRIES + 1)


def test_an_unreadable_witness_proves_nothing_and_breaks_nothing(home: Home) -> None:
    fill(home)
    (home.path / "ledger.witness").write_bytes(b"\xff\xfe")
    assert verify(home).ok


def _read(home: Home) -> tuple[Verification, list[Entry]]:
    ledger = Ledger.open(home)
    try:
        return ledger.verify(), ledger.entries()
    finally:
        ledger.close()


def _flip_bytes(home: Home, points: int, seed: int) -> int:
    """Flip ``points`` bytes, one at a time; how many were noticed."""
    entries = fill(home)
    path = home.path / "ledger.db"
    sound = path.read_bytes()
    generator = np.random.default_rng(seed)
    noticed = 0
    for _ in range(points):
        position, flip = int(generator.integers(len(sound))), int(generator.integers(1, 256))
        damaged = bytearray(sound)
        damaged[position] ^= flip
        path.write_bytes(damaged)
        for leftover in ("ledger.db-wal", "ledger.db-shm"):
            (home.path / leftover).unlink(missing_ok=True)
        try:
            found, read = _read(home)
        except MangaAssistError:
            noticed += 1
            continue
        noticed += not found.ok
        # Unnoticed is allowed only where no entry lies: in free space or unused header bytes.
        assert not found.ok or read == entries, f"byte {position} ^ {flip} changed an entry unnoticed"
    return noticed


def test_a_flipped_byte_changes_no_entry_unnoticed(home: Home) -> None:
    assert _flip_bytes(home, points=60, seed=1) > 0


@pytest.mark.soak
def test_a_flipped_byte_changes_no_entry_unnoticed_for_long(home: Home) -> None:
    assert _flip_bytes(home, points=3000, seed=2) > 0


def test_a_file_that_is_no_database_is_one_sentence(home: Home) -> None:
    (home.path / "ledger.db").write_bytes(b"not a database at all, sorry" * 200)
    with pytest.raises(IntegrityError, match=r"ledger: expected .*Restore the ledger from a backup"):
        Ledger.open(home)


def test_a_malformed_page_is_one_sentence(home: Home) -> None:
    fill(home, 200)
    path = home.path / "ledger.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\x55" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="ledger"):
        _read(home)


def test_a_read_only_ledger_is_one_sentence(home: Home) -> None:
    fill(home)
    url = f"sqlite:///file:{home.path / 'ledger.db'}?mode=ro&uri=true"
    ledger = Ledger.open(Home(home.path, Settings(ledger_url=url)))
    with pytest.raises(InputError, match=r"expected a writable directory .* got Read-only file system"):
        ledger.append(kind="k", subject="s", body={}, actor="a", at=AT)
    assert ledger.head() == ENTRIES
    ledger.close()


_FILL_UNTIL_FULL = """
import resource, sys
from pathlib import Path
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.home import Home
from mangaassist.storage.ledger import Ledger
from tests.storage.processes import AT

ledger = Ledger.open(Home.open(Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    while True:
        entry = ledger.append(kind="k", subject="s", body={"t": "x" * 5000}, actor="a", at=AT)
        print(entry.sequence, flush=True)
except MangaAssistError as error:
    print(type(error).__name__, error, flush=True)
"""


def test_a_full_disk_loses_nothing_acknowledged(home: Home) -> None:
    """A file-size limit stands in for the disk: the write fails in the middle of an append."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", _FILL_UNTIL_FULL, str(home.path)], capture_output=True, text=True, check=True
    )
    *acknowledged, error = done.stdout.splitlines()
    assert len(acknowledged) > 10
    assert error.startswith("Unavailable disk: expected")
    assert done.stderr == ""
    found, entries = _read(home)
    assert found.ok
    assert [str(entry.sequence) for entry in entries] == acknowledged


def test_a_database_at_its_size_limit_is_a_full_disk(home: Home) -> None:
    ledger = Ledger.open(home)
    with ledger._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=12")
    append = {"kind": "k", "subject": "s", "body": {"t": "x" * 100_000}, "actor": "a", "at": AT}
    with pytest.raises(Unavailable, match="free space"):
        ledger.append(**append)
    assert (ledger.head(), ledger.verify().ok) == (0, True)
    ledger.append(**{**append, "body": {}})
    assert ledger.head() == 1
    ledger.close()
