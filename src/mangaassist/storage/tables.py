"""Iceberg tables: append-only, read at a snapshot, safe between processes.

One machine's writers of one table queue on a file lock in the home, so they never meet in a commit; writers
on other machines are met by Iceberg's optimistic commits, retried.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from urllib.parse import unquote, urlsplit

import orjson
import polars as pl
import pyarrow as pa
import sqlalchemy as sa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.expressions import BooleanExpression, In
from pyiceberg.table import FileScanTask, Table

from mangaassist.core.errors import InputError, Unavailable, nearest
from mangaassist.core.home import Home
from mangaassist.storage import maintenance
from mangaassist.storage.arrow import conform, storable_schema, widened
from mangaassist.storage.buffer import BufferedWriter
from mangaassist.storage.database import BUSY_SECONDS, alone, database_url, explained
from mangaassist.storage.fileio import MOVED
from mangaassist.storage.fingerprint import fingerprint
from mangaassist.storage.maintenance import Expired
from mangaassist.storage.scanning import Between, damaged_table, reading, rows_of, scan_of
from mangaassist.storage.warehouse import answering, s3_properties

__all__ = ["Between", "BufferedWriter", "Expired", "Tables"]

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9][a-z0-9_-]*)+")
_ADVISORY_KEY = 0x6D616E67615F6361
_PROPERTIES = {
    # Several machines may write one table: keep trying for seconds, not for pyiceberg's half hour.
    "commit.retry.num-retries": "20",
    "commit.retry.min-wait-ms": "10",
    "commit.retry.max-wait-ms": "500",
    # Without these every append adds a manifest and a metadata file that later appends read or keep.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}


def _one_of(column: str, values: Collection[str]) -> BooleanExpression:
    return In(column, set(values))  # type: ignore[arg-type, call-arg, misc, unused-ignore]


def _is_news(record: logging.LogRecord) -> bool:
    """False for what pyiceberg logs about things that are meant to happen here."""
    return not record.msg.startswith(("Loaded FileIO", "Commit failed due to a concurrent update"))


for _logger in ("pyiceberg.io", "pyiceberg.table"):
    logging.getLogger(_logger).addFilter(_is_news)


class Tables:
    """The tables of one home; safe between threads and processes, opened anew in every process."""

    def __init__(self, home: Home, catalog: SqlCatalog) -> None:
        self._home = home
        self._catalog = catalog

    @property
    def home(self) -> Home:
        """Where they are opened from; another process opens the same with it."""
        return self._home

    @classmethod
    def open(cls, home: Home) -> Tables:
        """The tables of ``home``; safe when many processes start on an empty home at once.

        Raises:
            IntegrityError: the catalog is damaged. InputError: the home may not be written.
            Unavailable: the disk is full or the catalog's server is away.
        """
        url = database_url(home.settings.catalog_url, field="catalog_url", default=home.path / "catalog.db")
        warehouse = home.settings.warehouse or str(home.path / "warehouse")
        moved: dict[str, str] = {}
        with explained("table catalog", home.path), home.lock("catalog"), alone(url, _ADVISORY_KEY):
            if url.get_backend_name() == "sqlite":
                _prepare_sqlite(url.database or "")
                if not home.settings.warehouse:
                    moved = _moved(url.database or "", warehouse)
                url = url.update_query_dict({"timeout": str(BUSY_SECONDS)})
            catalog = SqlCatalog(
                "mangaassist",
                uri=url.render_as_string(hide_password=False),
                warehouse=warehouse,
                **{"py-io-impl": "mangaassist.storage.fileio.DurableFileIO"},
                **{MOVED: orjson.dumps(moved).decode()},
                **s3_properties(home.settings),
            )
        return cls(home, catalog)

    def append(
        self,
        name: str,
        rows: pa.Table,
        *,
        properties: Mapping[str, str] | None = None,
        marks: Mapping[str, str] | None = None,
        evolve: bool = False,
    ) -> int:
        """Append ``rows`` in one commit and return its snapshot id; it survives a power cut.

        Args:
            name: dotted, namespace first ("labels.intent"); the table is made by its first append.
            properties: kept in the snapshot's summary.
            marks: kept on the table by the same commit, and therefore beyond the snapshot's life.
            evolve: columns that are new are added by the same commit, empty in older rows, and columns that
                ``rows`` lack are empty in these.

        Raises:
            InputError: the rows do not fit the table. Unavailable: disk full, or commits of other machines
                won every retry.
        """
        with self._writing(name):
            table = self._load(name) or self._create(name, storable_schema(rows.schema))
            schema = storable_schema(table.schema().as_arrow())
            added = pa.schema([one for one in storable_schema(rows.schema) if one.name not in schema.names])
            if evolve:
                rows, schema = widened(rows, schema), pa.schema([*schema, *added])
            data = conform(name, rows, schema)
            with table.transaction() as transaction:
                if evolve and len(added):
                    with transaction.update_schema() as update:
                        update.union_by_name(added)
                transaction.append(data, snapshot_properties=dict(properties or {}))
                if marks:
                    transaction.set_properties(dict(marks))
            return _current(table) or 0

    def read(
        self,
        name: str,
        *,
        snapshot: int | None = None,
        columns: Sequence[str] | None = None,
        between: Between | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> pl.DataFrame:
        """All rows at ``snapshot`` (default: the newest), the same order every time.

        Args:
            between: only rows in this span of time; files that hold none are not opened.
            share: (i, n) reads every n-th file from the i-th on, for n readers who share the work.

        Raises:
            InputError: no such table or column. IntegrityError: the snapshot is gone or its files are
                missing or damaged.
        """
        table = self._existing(name)
        scan = scan_of(name, table, snapshot)
        known = scan.projection().column_names
        for column in (*(columns or ()), *((between.column,) if between else ())):
            if column not in known:
                raise InputError(
                    f"table '{name}'",
                    expected="a column",
                    got=f"'{column}'",
                    next_step=nearest(column, known),
                )
        if columns is not None:
            scan = scan.select(*columns)
        if between is not None:
            scan = scan.filter(between.filter())
        first, step = share
        with reading(name):
            frame = rows_of(table, list(scan.plan_files())[first::step], scan.projection(), between)
        return frame.select(columns) if columns is not None else frame

    def since(
        self, name: str, after: int, *, columns: Sequence[str] | None = None
    ) -> tuple[pl.DataFrame | None, int]:
        """The rows of the commits after ``after``, oldest commit first, and the newest commit's number.

        Commits are numbered from 1 without regard to snapshots, so a reader that keeps the number goes on
        where it stopped, even after the snapshot it stopped at has expired. Older files are not opened.

        Returns:
            None for no rows, with ``after``, when nothing was committed since or the table does not exist.
        """
        table = self._load(name)
        snapshot = table.current_snapshot() if table is not None else None
        if table is None or snapshot is None or (snapshot.sequence_number or 0) <= after:
            return None, after
        with reading(name):
            entries = [
                entry
                for manifest in snapshot.manifests(table.io)
                if manifest.sequence_number > after
                for entry in manifest.fetch_manifest_entry(table.io)
                if (entry.sequence_number or 0) > after
            ]
            entries.sort(key=lambda entry: (entry.sequence_number or 0, entry.data_file.file_path))
            schema = table.schema().select(*columns) if columns is not None else table.schema()
            frame = rows_of(table, [FileScanTask(entry.data_file) for entry in entries], schema)
        return (frame.select(columns) if columns is not None else frame), snapshot.sequence_number or 0

    def schema(self, name: str, *, snapshot: int | None = None) -> pa.Schema | None:
        """Columns and types at ``snapshot`` (default: the newest); None for a table that does not exist.

        Raises:
            IntegrityError: the snapshot is gone.
        """
        table = self._load(name)
        return storable_schema(scan_of(name, table, snapshot).projection().as_arrow()) if table else None

    def exists(self, name: str) -> bool:
        """Whether the table was ever appended to."""
        return self._load(name) is not None

    def names(self) -> list[str]:
        """All tables, sorted."""
        with explained("table catalog", self._home.path):
            return sorted(self._below(()))

    def snapshot(self, name: str) -> int | None:
        """Id of the newest snapshot; None for a table that does not exist."""
        table = self._load(name)
        return _current(table) if table is not None else None

    def number(self, name: str, snapshot: int) -> int | None:
        """The number of the commit that made ``snapshot``, as :meth:`since` counts; None when it is gone."""
        table = self._load(name)
        found = table.snapshot_by_id(snapshot) if table is not None else None
        return found.sequence_number if found is not None else None

    def fingerprint(self, name: str, snapshot: int) -> str:
        """Content hash of the rows at ``snapshot``, independent of order and files."""
        return fingerprint(self.read(name, snapshot=snapshot))

    def properties(self, name: str) -> list[dict[str, str]]:
        """The summary of every retained snapshot, oldest first, with its ``snapshot-id``."""
        summaries = []
        for snapshot in sorted(self._existing(name).snapshots(), key=lambda one: one.sequence_number or 0):
            extra = snapshot.summary.additional_properties if snapshot.summary else {}
            summaries.append({**extra, "snapshot-id": str(snapshot.snapshot_id)})
        return summaries

    def marks(self, name: str) -> dict[str, str]:
        """What :meth:`append` kept on the table; empty for a table that does not exist."""
        table = self._load(name)
        return dict(table.properties) if table is not None else {}

    def erase(self, name: str, column: str, values: Collection[str]) -> int:
        """Rewrite the files that hold rows whose ``column`` is one of ``values`` without them, in one commit.

        Older snapshots keep the rows until :meth:`expire` frees them. :meth:`since` gives what stays in the
        rewritten files again.

        Returns:
            Rows gone.

        Raises:
            InputError: no such table or column.
        """
        held = self.read(name, columns=[column])[column]
        if not held.is_in(list(values)).any():
            return 0
        with self._writing(name):
            table = self._existing(name)
            before = int(table.scan().count())
            table.delete(_one_of(column, values))
            return before - int(table.scan().count())

    def expire(
        self,
        name: str,
        *,
        older_than: datetime,
        keep: Collection[int],
        now: datetime,
        grace: timedelta,
        dry_run: bool = True,
    ) -> Expired:
        """Forget old snapshots and free every file that no remaining snapshot needs.

        Args:
            older_than: snapshots older than this go, except the newest one and those in ``keep``.
            keep: pinned snapshot ids.
            now: on the clock that stamps files and snapshots, that is the system's and never a simulated one.
            grace: unneeded files younger than this stay, because a commit may be about to name them.
            dry_run: only say what would go.

        Raises:
            IntegrityError: a file of a remaining snapshot is damaged or missing; nothing was deleted.
        """
        with self._writing(name):
            table = self._existing(name)
            with reading(name):
                plan = maintenance.plan(table, older_than=older_than, keep=keep, now=now, grace=grace)
            if not dry_run:
                maintenance.carry_out(table, plan)
        return plan.summary(dry_run=dry_run)

    def close(self) -> None:
        """Give the catalog's connections back."""
        self._catalog.close()

    def _below(self, namespace: tuple[str, ...]) -> Iterator[str]:
        for inner in self._catalog.list_namespaces(namespace):
            yield from (".".join(table) for table in self._catalog.list_tables(inner))
            yield from self._below(tuple(inner))

    def _load(self, name: str) -> Table | None:
        _check_name(name)
        try:
            with explained("table catalog", self._home.path), reading(name):
                return self._catalog.load_table(name)
        except NoSuchTableError:
            return None

    def _existing(self, name: str) -> Table:
        table = self._load(name)
        if table is None:
            raise InputError(
                "table", expected="an existing table", got=f"'{name}'", next_step=self._hint(name)
            )
        return table

    def _hint(self, name: str) -> str:
        return nearest(name, self.names())

    def _create(self, name: str, schema: pa.Schema) -> Table:
        namespace = name.rpartition(".")[0]
        # Another machine on the same catalog may be faster, whatever the lock says.
        with self._home.lock("catalog"), suppress(NamespaceAlreadyExistsError, sa.exc.IntegrityError):
            self._catalog.create_namespace_if_not_exists(namespace)
        try:
            return self._catalog.create_table(name, schema=schema, properties=_PROPERTIES)
        except TableAlreadyExistsError:
            return self._catalog.load_table(name)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        _check_name(name)
        with explained("table catalog", self._home.path), self._home.lock(f"table.{name}"):
            try:
                with answering():
                    yield
            except FileNotFoundError as error:
                raise damaged_table(name, error) from error
            except (CommitFailedException, ValidationException) as error:
                raise Unavailable(
                    f"table '{name}'",
                    expected="a commit within 20 tries",
                    got="other writers winning each of them",
                    next_step="Run it again; nothing was written.",
                ) from error


def _current(table: Table) -> int | None:
    snapshot = table.current_snapshot()
    return snapshot.snapshot_id if snapshot is not None else None


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            "table",
            expected="a lower-case dotted name such as 'labels.intent'",
            got=repr(name),
            next_step="Rename it.",
        )


def _moved(catalog: str, warehouse: str) -> dict[str, str]:
    """The folders that tables of a home were made in while the home lay elsewhere, each with today's.

    Iceberg names files by where they were written. Without this a copied home would read, change and free
    the files of the one it was copied from.
    """
    places = "select distinct metadata_location, '/' || table_namespace || '/' || table_name || '/metadata/'"
    with closing(sqlite3.connect(catalog, timeout=BUSY_SECONDS)) as connection:
        known = connection.execute("select 1 from sqlite_master where name = 'iceberg_tables'").fetchone()
        found = connection.execute(f"{places} from iceberg_tables").fetchall() if known else []
    folders = {unquote(urlsplit(location).path).rpartition(below)[0] for location, below in found}
    return dict.fromkeys(sorted(folders - {"", warehouse}), warehouse)


def _prepare_sqlite(path: str) -> None:
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
