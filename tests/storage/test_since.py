"""Reading on from where a reader stopped, and reading a span of time."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest

from mangaassist.core.clock import SystemClock
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.storage.tables import Between, Tables

START = datetime(2026, 3, 2, tzinfo=UTC)
NAME = "predictions.intent"


def rows(*numbers: int) -> pa.Table:
    at = [START + timedelta(minutes=number) for number in numbers]
    return pl.DataFrame(
        {"n": numbers, "at": at}, schema={"n": pl.Int64, "at": pl.Datetime("us", "UTC")}
    ).to_arrow()


def test_nothing_committed_is_nothing_to_read(home: Home) -> None:
    """DRF-2: a missing table, and one read to its end, give no rows and the number they were asked with."""
    with closing(Tables.open(home)) as tables:
        assert tables.since(NAME, 0) == (None, 0)
        tables.append(NAME, rows(1))
        assert tables.since(NAME, 1) == (None, 1)


@pytest.mark.parametrize("stops", [(), (0,), (0, 1, 2, 3), (2,), (1, 3)])
def test_stops_anywhere_give_every_row_once_in_commit_order(home: Home, stops: tuple[int, ...]) -> None:
    """DRF-2: wherever a reader stops and goes on, it sees each commit once, oldest first."""
    seen: list[int] = []
    after = 0
    with closing(Tables.open(home)) as tables:
        for number in range(5):
            tables.append(NAME, rows(90 - number, number))
            if number in (*stops, 4):
                found, after = tables.since(NAME, after, columns=["n"])
                assert found is not None
                seen += found["n"].to_list()
        assert tables.since(NAME, after) == (None, after)
    assert seen == [value for number in range(5) for value in (90 - number, number)]


def test_merged_manifests_and_expired_snapshots_do_not_matter(home: Home) -> None:
    """DRF-2: numbers outlive the merging of manifests and the expiry of the snapshot they name."""
    now = SystemClock().now() + timedelta(hours=1)  # files and snapshots are stamped by the system's clock
    with closing(Tables.open(home)) as tables:
        for number in range(22):
            tables.append(NAME, rows(number))
        tables.expire(
            NAME,
            older_than=now + timedelta(hours=1),
            keep=(),
            now=now + timedelta(hours=1),
            grace=timedelta(0),
            dry_run=False,
        )
        for after in (0, 7, 21):
            found, newest = tables.since(NAME, after)
            assert found is not None
            assert found["n"].to_list() == list(range(after, 22))
            assert newest == 22


def test_a_span_of_time(home: Home) -> None:
    """DRF-2: from low up to but without high, whichever columns are asked for."""
    with closing(Tables.open(home)) as tables:
        for number in (3, 1, 2, 5):
            tables.append(NAME, rows(number, number + 10))
        span = Between("at", START + timedelta(minutes=2), START + timedelta(minutes=11))
        assert sorted(tables.read(NAME, columns=["n"], between=span)["n"]) == [2, 3, 5]
        with pytest.raises(InputError, match="'when'"):
            tables.read(NAME, between=Between("when", START, START))
