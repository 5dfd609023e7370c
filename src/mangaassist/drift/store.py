"""Windows as rows of their own, counted once from the prediction log and added up from then on.

The table ``drift.windows.<story>`` holds, per version, five minutes and language, every count of the window
as one vector. Every commit says which commits of the log it counted: those after ``after`` up to ``upto``.
Read in commit order, a commit counts only if it goes on where the last one ended. So two hubs that count the
same stretch at the same moment cannot count it twice: the second commit is passed over, wherever it is from.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mangaassist.drift.profile import Profile, from_request_cells, request_cells
from mangaassist.drift.windows import Window
from mangaassist.storage.tables import Between

if TYPE_CHECKING:
    from mangaassist.storage.tables import Tables

SCHEMA: Mapping[str, pl.DataType] = {
    "version": pl.Int32(),
    "cohort": pl.String(),
    "start": pl.Datetime("us", "UTC"),
    "end": pl.Datetime("us", "UTC"),
    "rows": pl.Int64(),
    "commit": pl.String(),
    "after": pl.Int64(),
    "upto": pl.Int64(),
    "cells": pl.Binary(),
}
_COUNTS = np.dtype("<i8")


def table(story: str) -> str:
    """Name of the table that holds a story's windows."""
    return f"drift.windows.{story}"


def rows_of(
    windows: Sequence[Window], *, version: int, commit: str, after: int, upto: int, now: datetime
) -> pl.DataFrame:
    """The rows of one commit; a stretch of the log without a row of this version is one empty row."""
    link = {"version": version, "commit": commit, "after": after, "upto": upto}
    nothing = {**link, "cohort": "", "start": now, "end": now, "rows": 0, "cells": b""}
    found = [
        {
            **link,
            "cohort": one.cohort,
            "start": one.start,
            "end": one.end,
            "rows": one.profile.rows,
            "cells": request_cells(one.profile).astype(_COUNTS).tobytes(),
        }
        for one in windows
    ]
    return pl.DataFrame(found or [nothing], schema=SCHEMA)


def windows_of(rows: pl.DataFrame, bins: Profile) -> list[Window]:
    """The windows in ``rows``, oldest first.

    Raises:
        InputError: they were counted in other bins.
    """
    kept = rows.filter(pl.col("rows") > 0).sort("start", "cohort", maintain_order=True)
    return [
        Window(
            row["start"],
            row["end"],
            from_request_cells(bins, np.frombuffer(row["cells"], dtype=_COUNTS).astype(np.int64)),
            row["cohort"],
        )
        for row in kept.iter_rows(named=True)
    ]


def merge_rows(rows: pl.DataFrame, bins: Profile) -> Profile:
    """The profile of all windows in ``rows``: one sum over their vectors, whatever their number.

    Raises:
        InputError: they were counted in other bins.
    """
    whole = rows.filter(pl.col("rows") > 0)["cells"].to_list()
    width = len(request_cells(bins))
    total = np.zeros(width, dtype=np.int64)
    for start in range(0, len(whole), 1024):
        part = whole[start : start + 1024]
        for one in part:
            if len(one) != width * _COUNTS.itemsize:
                return from_request_cells(bins, np.frombuffer(one, dtype=_COUNTS))
        total += np.frombuffer(b"".join(part), dtype=_COUNTS).reshape(-1, width).sum(axis=0)
    return from_request_cells(bins, total)


def in_turn(rows: pl.DataFrame, *, cursor: int) -> tuple[pl.DataFrame, int]:
    """The rows, in commit order, of commits that go on where the last one ended, and where they end."""
    links = rows.select("commit", "after", "upto").unique(maintain_order=True)
    counted = []
    for commit, after, upto in links.iter_rows():
        if after == cursor:
            counted.append(commit)
            cursor = upto
    return rows.filter(pl.col("commit").is_in(counted)), cursor


class WindowStore:
    """One version's windows in their table, followed from commit to commit.

    Attributes:
        cursor: the last commit of the log that has been counted.
    """

    def __init__(self, tables: Tables, story: str, version: int, *, cursor: int) -> None:
        """
        Args:
            cursor: the commit of the log after which counting begins, the same for every hub.
        """
        self._tables = tables
        self._story = story
        self._version = version
        self._seen = 0
        self._taken: set[str] = set()
        self.cursor = cursor

    def open(self, bins: Profile, *, since: datetime) -> list[Window]:
        """The windows that start at ``since`` or later; counts of older ones are not read.

        Raises:
            InputError: they were counted in other bins than ``bins``.
        """
        name = table(self._story)
        links, self._seen = self._tables.since(name, 0, columns=["version", "commit", "after", "upto"])
        if links is None:
            return []
        taken, self.cursor = in_turn(self._own(links), cursor=self.cursor)
        self._taken = set(taken["commit"].to_list())
        recent = Between("start", since, since + timedelta(days=36500))
        rows = self._own(self._tables.read(name, between=recent))
        # Commits that came between the two reads are not in turn yet; the next follow finds them.
        return windows_of(rows.filter(pl.col("commit").is_in(list(self._taken))), bins)

    def volume(self, *, since: datetime) -> dict[datetime, int]:
        """Rows by the end of their five minutes, of the windows that :meth:`open` found or could have."""
        name = table(self._story)
        if not self._tables.exists(name):
            return {}
        columns = ["version", "commit", "after", "upto", "start", "end", "rows"]
        recent = Between("start", since, since + timedelta(days=36500))
        rows = self._own(self._tables.read(name, columns=columns, between=recent))
        kept = rows.filter(pl.col("commit").is_in(list(self._taken)))
        return dict(kept.group_by("end").agg(pl.col("rows").sum()).iter_rows())

    def follow(self, bins: Profile) -> list[Window]:
        """The windows that any hub has stored since the last look."""
        rows, self._seen = self._tables.since(table(self._story), self._seen)
        if rows is None:
            return []
        taken, self.cursor = in_turn(self._own(rows), cursor=self.cursor)
        return windows_of(taken, bins)

    def append(self, windows: Sequence[Window], *, upto: int, now: datetime) -> None:
        """Store what was counted after :attr:`cursor` up to ``upto``; :meth:`follow` tells if it counts."""
        rows = rows_of(
            windows,
            version=self._version,
            commit=uuid.uuid4().hex,
            after=self.cursor,
            upto=upto,
            now=now,
        )
        self._tables.append(table(self._story), rows.to_arrow())

    def _own(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.col("version") == self._version)
