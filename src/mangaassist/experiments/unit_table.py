"""Where unit tables come from: Parquet files, folders of them with or without hive partitions, CSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from mangaassist.core.errors import InputError, nearest


def scan(path: Path) -> pl.LazyFrame:
    """A lazy frame over a Parquet or CSV file, or a folder of Parquet files.

    Raises:
        InputError: for a path that is not there or holds nothing readable.
    """
    if path.is_dir():
        if not any(path.rglob("*.parquet")):
            raise _unreadable(path, "a folder without .parquet files")
        return _checked(pl.scan_parquet(path / "**" / "*.parquet", hive_partitioning=True), path)
    if not path.is_file():
        raise _unreadable(path, "nothing there")
    if path.suffix == ".csv":
        # The whole file decides the types: a column of whole numbers may end in a fraction.
        return _checked(pl.scan_csv(path, infer_schema_length=None), path)
    if path.suffix == ".parquet":
        return _checked(pl.scan_parquet(path), path)
    raise _unreadable(path, f"a '{path.suffix}' file")


def _checked(frame: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    try:
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(
            path, f"something polars cannot read ({str(error).splitlines()[0][:80]})"
        ) from error
    return frame


def _unreadable(path: Path, got: str) -> InputError:
    return InputError(
        f"data file {path.name}",
        expected="a .parquet or .csv file, or a folder of .parquet files",
        got=got,
        next_step="Write one row per user with its arm and metric columns.",
    )


def require_columns(frame: pl.LazyFrame, names: Iterable[str], *, named_under: str = "") -> pl.Schema:
    """The frame's schema when it has all of ``names``, with the nearest name when it has not.

    Args:
        named_under: where the experiment file says what these columns are called.
    """
    schema = frame.collect_schema()
    for name in names:
        if name not in schema:
            raise InputError(
                f"column '{name}'",
                expected="a column of the data file",
                got="no such column",
                next_step=nearest(name, schema.names())
                + (f" Say what it is called under '{named_under}'." if named_under else ""),
            )
    return schema
