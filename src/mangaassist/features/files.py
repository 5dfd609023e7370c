"""Feature rows out of a pipeline's file, in the catalog's types; nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.features.catalog import Catalog
from mangaassist.features.point_in_time import DTYPES, EVENT, INGESTED, INSTANT

_READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": partial(pl.read_csv, infer_schema=False),
    ".jsonl": partial(pl.read_ndjson, infer_schema_length=None),
    ".parquet": pl.read_parquet,
}
_SHOWN = 80


def read_feature_rows(path: Path, catalog: Catalog, view: str) -> pl.DataFrame:
    """The rows of ``path``, with text turned into what the catalog says its column holds.

    Returns:
        The file's columns, to be checked by :meth:`mangaassist.features.store.FeatureStore.append`.

    Raises:
        InputError: for an unknown view, another format, a file that cannot be read, or text that is not
            what its column holds (times need a zone).
    """
    types: dict[str, pl.DataType] = {one.name: DTYPES[one.dtype] for one in catalog.view(view)}
    frame = _read(path)
    for name, kind in {**types, EVENT: INSTANT, INGESTED: INSTANT}.items():
        if name in frame.columns and frame.schema[name] == pl.String() and kind != pl.String():
            frame = frame.with_columns(_converted(frame[name], kind, path))
    return frame


def _read(path: Path) -> pl.DataFrame:
    reader = _READERS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise InputError(
            "FILE",
            expected=f"an existing file that ends in {', '.join(_READERS)}",
            got=path.name if path.is_file() else f"{path} (nothing there)",
            next_step="Check the path, or convert the file.",
        )
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            path.name,
            expected=f"rows in the format its ending '{path.suffix}' says",
            got=str(error).partition("\n")[0],
            next_step="Write the file again.",
        ) from error


def _converted(column: pl.Series, kind: pl.DataType, path: Path) -> pl.Series:
    """Text as ``kind``; an empty cell stays empty."""
    text = column.str.strip_chars().replace("", None)
    if isinstance(kind, pl.Datetime):
        found = text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    elif kind == pl.Boolean():
        found = text.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean())
    else:
        found = text.cast(kind, strict=False)
    wrong = text.filter(found.is_null() & text.is_not_null())
    if len(wrong):
        what = "times like 2026-11-20T09:00:00Z" if isinstance(kind, pl.Datetime) else str(kind)
        raise InputError(
            f"{path.name}: column '{column.name}'",
            expected=what,
            got=f"{wrong[0][:_SHOWN]!r} in {len(wrong)} rows",
            next_step="Correct those rows; an empty cell means no value.",
        )
    return found.alias(column.name)
