"""Files decoded by polars give what the table format's own reader gives, and only where both know how."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from mangaassist.core.errors import IntegrityError
from mangaassist.core.home import Home
from mangaassist.storage import scanning
from mangaassist.storage.tables import Between, Tables

NAME = "features.shop.basket"
START = datetime(2026, 3, 2, tzinfo=UTC)
KINDS = pl.Schema(
    {
        "at": pl.Datetime("us", "UTC"),
        "text": pl.String(),
        "small": pl.Int32(),
        "float": pl.Float32(),
        "double": pl.Float64(),
        "flag": pl.Boolean(),
        "day": pl.Date(),
        "raw": pl.Binary(),
    }
)


@pytest.fixture
def tables(home: Home) -> Iterator[Tables]:
    """Three files of every stored type with nulls; the last one has a column more."""
    opened = Tables.open(home)
    for number in range(3):
        values: list[Any] = [START + timedelta(hours=number), f"第{number}巻", number, 0.1, float("nan")]
        values += [bool(number), date(2026, 3, 1 + number), bytes([number])]
        frame = pl.DataFrame([values, [None] * len(values), values], schema=KINDS, orient="row")
        if number == 2:
            frame = frame.with_columns(later=pl.int_range(frame.height))
        opened.append(NAME, frame.to_arrow(), evolve=True)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"columns": ["later", "at"]},
        {"columns": ["text"], "between": Between("at", START, START + timedelta(hours=2))},
        {"between": Between("at", START + timedelta(hours=9), START + timedelta(hours=10))},
        {"share": (1, 2)},
        {"share": (4, 5)},
    ],
)
def test_both_readers_give_the_same(
    tables: Tables, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LAB-2: columns, types, rows and their order; a column that came later is empty before."""
    ours = tables.read(NAME, **asked)
    since = tables.since(NAME, 1, columns=asked.get("columns"))
    monkeypatch.setattr(scanning, "_told_by_name", lambda table: False)
    theirs = tables.read(NAME, **asked)
    assert ours.schema == theirs.schema
    assert ours.equals(theirs)
    again = tables.since(NAME, 1, columns=asked.get("columns"))
    assert since[0] is not None
    assert again[0] is not None
    assert (since[0].equals(again[0]), since[1]) == (True, again[1])


def test_a_renamed_column_keeps_its_rows(tables: Tables) -> None:
    """Another engine may rename a column and give its name to a new one: numbers tell them apart."""
    before = tables.read(NAME, columns=["text", "small"])
    table = tables._existing(NAME)
    with table.update_schema() as update:
        update.rename_column("text", "title")
    with table.update_schema() as update:
        update.union_by_name(pa.schema([("text", pa.large_string())]))
    found = tables.read(NAME, columns=["title", "small", "text"])
    assert found["title"].equals(before["text"].rename("title"))
    assert found["small"].equals(before["small"])
    assert found["text"].null_count() == found.height


def test_a_file_that_is_no_table_and_has_no_checksum_is_damage(home: Home, tables: Tables) -> None:
    """No error of the decoder comes through, though nothing noticed the damage before it."""
    data = home.path / "warehouse" / "features.shop" / "basket" / "data"
    path = next(data.glob("*.parquet"))
    (data / f".{path.name}.crc").unlink()
    sound = path.read_bytes()
    for damaged in (b"", sound[:-30], b"PAR1" + bytes(len(sound) - 8) + b"PAR1", sound[:4] + sound[40:]):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="Restore the warehouse"):
            tables.read(NAME)
