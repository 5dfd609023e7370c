"""The hash-chained ledger: every decision and transition, appended by compare-and-swap, never changed.

There is one chain for everything. An entry's digest covers its own content and the digest before it, so an
entry that is altered, removed or moved breaks the chain at a sequence number :meth:`Ledger.verify` names.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import Conflict, InputError
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json, digest
from mangaassist.storage.database import connect, damaged, database_url, explained, take_advisory_lock
from mangaassist.storage.witness import Witness

GENESIS = "0" * 64
"""What the first entry names as the digest before it."""

_ADVISORY_KEY = 0x6D616E67615F6C67
_VERIFY_BATCH = 5_000

_metadata = sa.MetaData()
_entries = sa.Table(
    "ledger_entries",
    _metadata,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    sa.Index("ledger_entries_subject", "subject", "sequence"),
    sa.Index("ledger_entries_kind", "kind", "sequence"),
)
_LAST = sa.select(_entries.c.sequence, _entries.c.digest).order_by(_entries.c.sequence.desc()).limit(1)
_HEAD = sa.select(sa.func.coalesce(sa.func.max(_entries.c.sequence), 0))
_SUBJECT_HEAD = _HEAD.where(_entries.c.subject == sa.bindparam("subject"))
_INSERT = _entries.insert()
_PROBE = "SELECT coalesce(max(sequence), 0) FROM ledger_entries"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger.

    Attributes:
        sequence: its place in the one global chain, from 1, without gaps.
        at: when it happened, on the clock of whoever appended it.
        actor: who did it: a person, or the policy or step that decided.
        kind: what happened, dotted ("registry.promoted").
        subject: what it happened to ("registry/intent").
        body: the rest, as JSON values.
        previous: digest of the entry before it; 64 zeros for the first.
        digest: SHA-256 over the canonical JSON of everything above.
    """

    sequence: int
    at: datetime
    actor: str
    kind: str
    subject: str
    body: Mapping[str, Any]
    previous: str
    digest: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What reading the whole chain found.

    Attributes:
        ok: whether every entry is what was appended.
        entries: how many entries were good, counted from the first.
        problem: one sentence; empty when ``ok``.
        first_bad: sequence of the first entry that is altered, missing or moved; None when ``ok`` or when
            the damage lies outside the entries.
        head: digest of the last good entry, to compare with one kept elsewhere.
    """

    ok: bool
    entries: int
    problem: str
    first_bad: int | None
    head: str


class Ledger:
    """An open ledger; safe to share between threads, opened anew in every process.

    Every method raises IntegrityError for a damaged database or an altered entry among those it returns,
    Unavailable for a full disk or an absent server, InputError for a home that may not be written.
    """

    def __init__(self, engine: Engine, place: Path, witness: Witness) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        self._place = place
        self._witness = witness
        self._append_lock = threading.Lock()
        self._probe_lock = threading.Lock()
        self._probe: Any = None

    @classmethod
    def open(cls, home: Home) -> Ledger:
        """The ledger of ``home``: at ``settings.ledger_url``, or ``ledger.db`` in it.

        Safe when many processes start on an empty home at once.
        """
        given = home.settings.ledger_url
        url = database_url(given, field="ledger_url", default=home.path / "ledger.db")
        # Named after the URL when one is set, because another database is another chain.
        name = f"ledger.{digest(url.render_as_string())[:8]}" if given else "ledger"
        ledger = cls(connect(url), home.path, Witness(home.path / f"{name}.witness"))
        # Switching a new file to WAL and creating tables both fail under a race: one process at a time.
        with (
            explained("ledger", home.path),
            home.lock("ledger"),
            ledger._writer.begin() as connection,
        ):
            take_advisory_lock(connection, _ADVISORY_KEY)
            _metadata.create_all(connection)
        return ledger

    def append(
        self,
        *,
        kind: str,
        subject: str,
        body: Mapping[str, Any],
        actor: str,
        at: datetime,
        expected: int | None = None,
    ) -> Entry:
        """Add one entry and return it once it is on disk.

        Args:
            expected: sequence of the subject's last entry as the caller knows it, 0 for none; None skips
                the check.

        Raises:
            Conflict: the subject has moved on; nothing was written.
        """
        for field, text in (("kind", kind), ("subject", subject), ("actor", actor)):
            _check_name(field, text)
        content = {"at": isoformat(at), "actor": actor, "kind": kind, "subject": subject}
        encoded = canonical_json(body).decode()
        # A lock of our own lets threads queue in order instead of polling SQLite's.
        with self._append_lock, explained("ledger", self._place), self._writer.begin() as connection:
            take_advisory_lock(connection, _ADVISORY_KEY)
            last = connection.execute(_LAST).first()
            if expected is not None:
                _check_expected(connection, subject, expected)
            row = _chain(content, encoded, last.sequence if last else 0, last.digest if last else GENESIS)
            connection.execute(_INSERT, row)
        self._witness.saw(row["sequence"], row["digest"])
        return _entry(row)

    def entries(
        self, *, subject: str | None = None, kind: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[Entry]:
        """Entries in order, those after sequence ``after``, at most ``limit``."""
        query = sa.select(_entries).where(_entries.c.sequence > after).order_by(_entries.c.sequence)
        if subject is not None:
            query = query.where(_entries.c.subject == subject)
        if kind is not None:
            query = query.where(_entries.c.kind == kind)
        return [_checked(row) for row in self._rows(query.limit(limit) if limit is not None else query)]

    def tail(self, n: int) -> list[Entry]:
        """The last ``n`` entries, oldest first."""
        rows = self._rows(sa.select(_entries).order_by(_entries.c.sequence.desc()).limit(n))
        return [_checked(row) for row in reversed(rows)]

    def head(self, subject: str | None = None) -> int:
        """Sequence of the last entry, of ``subject`` or of all; 0 for none."""
        query = _HEAD if subject is None else _SUBJECT_HEAD
        with explained("ledger", self._place), self._engine.connect() as connection:
            return int(connection.execute(query, {"subject": subject} if subject else {}).scalar_one())

    def version(self) -> int:
        """A number that grows with every append by anybody: the global head, read in microseconds.

        It goes past SQLAlchemy on one connection kept for it, because readers ask every few milliseconds.
        """
        with self._probe_lock, explained("ledger", self._place):
            if self._probe is None:
                self._probe = self._open_probe()
            try:
                return int(self._probe.execute(_PROBE).fetchone()[0])
            except self._engine.dialect.dbapi.Error:  # type: ignore[union-attr]  # set once connected
                self._probe = None  # a server that came back wants a new connection
                raise

    def verify(self) -> Verification:
        """Read everything and recompute every digest.

        Finds entries that were altered, moved or removed, also from the end as far as this home has seen
        them, and indices that disagree with the entries.

        Raises:
            IntegrityError: the database cannot be read at all.
        """
        with explained("ledger", self._place), self._engine.connect() as connection:
            found = _verify_chain(connection)
            if found.ok and (problem := _sqlite_problem(connection)):
                return Verification(False, found.entries, problem, None, found.head)
            seen = self._witness.last()
            if found.ok and seen and not _knows(connection, *seen):
                return _missing_at_end(found, seen[0])
            return found

    def close(self) -> None:
        """Give the connections back; the ledger cannot be used afterwards."""
        with self._probe_lock:
            if self._probe is not None:
                self._probe.close()
                self._probe = None
        self._engine.dispose()
        self._witness.close()

    def _open_probe(self) -> Any:
        pooled = self._engine.raw_connection()
        connection = pooled.driver_connection
        pooled.detach()
        if self._engine.dialect.name == "postgresql":
            connection.autocommit = True  # type: ignore[union-attr]  # detached, so it is there
        return connection

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
        with explained("ledger", self._place), self._engine.connect() as connection:
            return list(connection.execute(query).mappings())


def _check_name(field: str, text: str) -> None:
    if not text or not text.isprintable():
        raise InputError(
            f"ledger {field}", expected="printable text", got=repr(text), next_step="Pass a plain name."
        )


def _check_expected(connection: sa.Connection, subject: str, expected: int) -> None:
    found = int(connection.execute(_SUBJECT_HEAD, {"subject": subject}).scalar_one())
    if found != expected:
        raise Conflict(
            f"ledger subject '{subject}'",
            expected=f"its last entry to be {expected}",
            got=str(found),
            next_step="Somebody else moved it first: read it again and decide on what it says now.",
        )


def _chain(content: Mapping[str, str], body: str, sequence: int, previous: str) -> dict[str, Any]:
    """The row after ``sequence``."""
    row: dict[str, Any] = {**content, "sequence": sequence + 1, "previous": previous, "body": body}
    return {**row, "digest": _digest(row)}


def _digest(row: sa.RowMapping | Mapping[str, Any]) -> str:
    covered = {name: row[name] for name in ("sequence", "at", "actor", "kind", "subject", "previous")}
    return digest({**covered, "body": orjson.loads(row["body"])})


def _checked(row: sa.RowMapping) -> Entry:
    """The entry in a stored row, its digest recomputed: nobody acts on one that was altered."""
    entry = _entry(row)
    if _digest(row) != entry.digest:
        raise damaged("ledger", f"entry {entry.sequence}, whose content does not match its digest")
    return entry


def _entry(row: sa.RowMapping | Mapping[str, Any]) -> Entry:
    try:
        body = orjson.loads(row["body"])
        at = parse_instant(row["at"], field="ledger at")
    except (orjson.JSONDecodeError, InputError, AttributeError, TypeError) as error:
        raise damaged("ledger", f"an unreadable entry {row['sequence']}") from error
    return Entry(
        row["sequence"],
        at,
        row["actor"],
        row["kind"],
        row["subject"],
        body,
        row["previous"],
        row["digest"],
    )


def _verify_chain(connection: sa.Connection) -> Verification:
    good, head = 0, GENESIS
    query = sa.select(_entries).order_by(_entries.c.sequence)
    rows = connection.execution_options(yield_per=_VERIFY_BATCH).execute(query)
    for row in rows:
        problem, bad = _row_problem(row._mapping, good + 1, head)
        if problem:
            rows.close()
            return Verification(False, good, problem, bad, head)
        good, head = row.sequence, row.digest
    return Verification(True, good, "", None, head)


def _row_problem(row: sa.RowMapping, sequence: int, previous: str) -> tuple[str, int]:
    """What is wrong with ``row`` standing after ``previous``, and the sequence at fault."""
    found = row["sequence"]
    if found != sequence:
        return f"Entry {sequence} is missing; the next one there is {found}.", sequence
    try:
        # The text must be canonical too: no byte of a stored body may change unnoticed.
        intact = canonical_json(orjson.loads(row["body"])) == row["body"].encode() and row[
            "digest"
        ] == _digest(row)
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        intact = False
    if not intact:
        return f"Entry {sequence} was altered or moved: its content does not match its digest.", sequence
    if row["previous"] != previous:
        return f"Entry {sequence} does not follow the entry before it: one of the two was replaced.", sequence
    return "", 0


def _sqlite_problem(connection: sa.Connection) -> str:
    """What SQLite's own check says about pages and indices; empty when nothing."""
    if connection.dialect.name != "sqlite":
        return ""
    found = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one())
    return "" if found == "ok" else f"The database file is damaged: {found}."


def _knows(connection: sa.Connection, sequence: int, known: str) -> bool:
    query = sa.select(_entries.c.digest).where(_entries.c.sequence == sequence)
    return connection.execute(query).scalar_one_or_none() == known


def _missing_at_end(found: Verification, seen: int) -> Verification:
    first = min(found.entries + 1, seen)
    problem = f"Entry {first} is missing: this home has seen the chain reach {seen}."
    return Verification(False, found.entries, problem, first, found.head)
