"""Expiry that frees files: what remaining snapshots reach stays, the rest goes after a grace period.

pyiceberg's own expiry edits metadata only. Here the reachable set is computed over everything that remains,
and whatever else lies in the table's folder, also what killed writers left behind, is removed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow.fs as pafs
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from mangaassist.core.clock import utc
from mangaassist.core.errors import Unavailable
from mangaassist.storage.fileio import checksum_path

_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Expired:
    """What an expiry did, or would do.

    Attributes:
        snapshots: ids that went, oldest first.
        files: how many files were freed.
        bytes: their size together.
        dry_run: True when nothing was changed.
    """

    snapshots: tuple[int, ...]
    files: int
    bytes: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What may go: snapshot ids, and paths with their sizes in bytes."""

    snapshots: tuple[int, ...]
    files: tuple[tuple[str, int], ...]

    def summary(self, *, dry_run: bool) -> Expired:
        return Expired(self.snapshots, len(self.files), sum(size for _, size in self.files), dry_run)


def plan(
    table: Table, *, older_than: datetime, keep: Collection[int], now: datetime, grace: timedelta
) -> Plan:
    """Choose snapshots and unreachable files; changes nothing."""
    before_ms = utc(older_than, field="older_than").timestamp() * 1000
    protected = {*keep, *(ref.snapshot_id for ref in table.metadata.refs.values())}
    ordered = sorted(table.snapshots(), key=lambda snapshot: snapshot.timestamp_ms)
    gone = [one for one in ordered if one.timestamp_ms < before_ms and one.snapshot_id not in protected]
    remaining = [one for one in ordered if one not in gone]
    reachable = _reachable(table, remaining)
    newest = utc(now, field="now") - grace
    files = [
        (info.path, int(info.size))
        for info in _listing(table)
        if info.path not in reachable and info.mtime <= newest
    ]
    return Plan(tuple(one.snapshot_id for one in gone), tuple(sorted(files)))


def carry_out(table: Table, chosen: Plan) -> None:
    """Commit the expiry, then delete the files; killed in between, the next run deletes them.

    Nothing a commit made meanwhile can reach a chosen file: commits name new files and those of the newest
    snapshot, which always remains.

    Raises:
        Unavailable: other machines' commits won every attempt.
    """
    _forget(table, chosen.snapshots)
    files, _ = _file_system(table)
    for path, _size in chosen.files:
        files.delete_file(path)


def _forget(table: Table, snapshots: tuple[int, ...]) -> None:
    for _attempt in range(_ATTEMPTS):
        left = [one for one in snapshots if table.snapshot_by_id(one) is not None]
        if not left:
            return
        try:
            table.maintenance.expire_snapshots().by_ids(left).commit()
        except CommitFailedException:
            table.refresh()
            continue
        return
    raise Unavailable(
        f"table '{'.'.join(table.name())}'",
        expected=f"a commit within {_ATTEMPTS} tries",
        got="other writers winning each of them",
        next_step="Run the expiry again when fewer writers are at work.",
    )


def _reachable(table: Table, snapshots: list[Snapshot]) -> set[str]:
    """Paths of every file the table needs if only ``snapshots`` remain."""
    io = table.io
    metadata = table.metadata
    found = {table.metadata_location, *(log.metadata_file for log in metadata.metadata_log)}
    for statistics in (*metadata.statistics, *metadata.partition_statistics):
        found.add(statistics.statistics_path)
    manifests = {}
    for snapshot in snapshots:
        found.add(snapshot.manifest_list)
        manifests.update({manifest.manifest_path: manifest for manifest in snapshot.manifests(io)})
    for path, manifest in manifests.items():
        found.add(path)
        found.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io))
    assert isinstance(io, PyArrowFileIO)
    paths = {io.parse_location(location, io.properties)[2] for location in found}
    return paths | {checksum_path(path) for path in paths}


def _file_system(table: Table) -> tuple[pafs.FileSystem, str]:
    io = table.io
    if not isinstance(io, PyArrowFileIO):
        raise Unavailable(
            "warehouse",
            expected="a file system pyarrow can list",
            got=type(io).__name__,
            next_step="Run the expiry with the catalog's own maintenance instead.",
        )
    scheme, host, path = io.parse_location(table.location(), io.properties)
    return io.fs_by_scheme(scheme, host), path


def _listing(table: Table) -> list[pafs.FileInfo]:
    files, path = _file_system(table)
    infos = files.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return [info for info in infos if info.type == pafs.FileType.File]
