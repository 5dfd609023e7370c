"""Opening SQL databases, and what their failures mean to a person."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from mangaassist.core.errors import InputError, IntegrityError, MangaAssistError, Unavailable
from mangaassist.core.home import unwritable

BUSY_SECONDS = 60.0
STATE = "state.db"
"""The SQLite file of what may be forgotten once it is done: notices to send, jobs to run. It stands beside
the ledger, so that neither waits for the other's lock; on a server both are in one database."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_WAITED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
}


def database_url(text: str, *, field: str, default: Path) -> URL:
    """``text`` as a database URL; the SQLite file ``default`` when it is empty.

    Raises:
        InputError: when it is no URL, or names a database other than SQLite and PostgreSQL.
    """
    if not text:
        return URL.create("sqlite", database=str(default))
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise _bad_url(field, str(error)) from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise _bad_url(field, url.get_backend_name())
    return url


def _bad_url(field: str, got: str) -> InputError:
    return InputError(
        field,
        expected="sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE",
        got=got,
        next_step="Correct the setting, or leave it empty for SQLite in the home.",
    )


def connect(url: URL) -> Engine:
    """An engine whose transactions are explicit and whose commits survive a power cut.

    On SQLite: WAL with ``synchronous=FULL`` (one fsync a commit). A transaction on a connection with the
    execution option ``writes`` takes the write lock when it begins (``BEGIN IMMEDIATE``), so that a
    read-then-write never fails half way for want of the lock.
    """
    if url.get_backend_name() == "postgresql":
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def take_advisory_lock(connection: sa.Connection, key: int) -> None:
    """One transaction at a time per ``key`` on PostgreSQL; on SQLite BEGIN IMMEDIATE already made it so."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


@contextmanager
def alone(url: URL, key: int) -> Iterator[None]:
    """Hold an advisory lock on a PostgreSQL server, whose CREATE TABLE IF NOT EXISTS does fail in a race."""
    if url.get_backend_name() != "postgresql":
        yield
        return
    engine = connect(url)
    try:
        with engine.begin() as connection:
            take_advisory_lock(connection, key)
            yield
    finally:
        engine.dispose()


@contextmanager
def explained(what: str, place: Path) -> Iterator[None]:
    """Turn driver errors inside the block into one sentence.

    Args:
        what: the store, as the user knows it ("ledger").
        place: the directory it lives in.

    Raises:
        IntegrityError: the database is damaged.
        InputError: it may not be written.
        Unavailable: the disk is full or failing, the server is away, or a lock was not given up in time.
    """
    try:
        yield
    except DBAPIError as error:
        raise explain(what, place, error.orig or error) from error
    except sqlite3.Error as error:
        raise explain(what, place, error) from error
    except UnicodeDecodeError as error:
        # The driver lets it through for text that is none, also inside its own error messages.
        raise damaged(what, str(error)) from error
    except OSError as error:
        raise unwritable(place, error) from error


def explain(what: str, place: Path, error: BaseException) -> MangaAssistError:
    """The product's error for a driver's ``error``."""
    text = " ".join(str(error).split())
    if not isinstance(error, sqlite3.Error):
        return Unavailable(
            what,
            expected="a database that answers",
            got=text,
            next_step="Check that the server runs and that the URL in the settings names it.",
        )
    # The low byte is the primary result code; errors raised by the driver itself carry none.
    code: Any = getattr(error, "sqlite_errorcode", None)
    primary = sqlite3.SQLITE_CORRUPT if code is None else code & 0xFF
    if primary in _DAMAGED:
        return damaged(what, text)
    if primary in _WAITED:
        return Unavailable(
            what,
            expected=f"its lock within {BUSY_SECONDS:.0f} s",
            got=text,
            next_step="Another process holds it: let it finish, or end it, and run the command again.",
        )
    if primary == sqlite3.SQLITE_IOERR:
        return Unavailable(
            "disk",
            expected=f"a disk that reads and writes under {place}",
            got=text,
            next_step="Free some space or check the disk, then run it again; nothing acknowledged was lost.",
        )
    number = _ERRNO.get(primary, errno.EIO)
    return unwritable(place, OSError(number, os.strerror(number)))


def damaged(what: str, got: str) -> IntegrityError:
    """The error for stored content that is not what was written."""
    return IntegrityError(
        what,
        expected="the bytes that were written",
        got=got,
        next_step=f"Restore the {what} from a backup; do not write to it before that.",
    )
