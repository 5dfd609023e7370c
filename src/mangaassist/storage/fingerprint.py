"""What a set of rows is, independent of the files, order and batches it was written in."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pyarrow as pa

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_json

_FORMAT = "mangaassist rows 1"


def fingerprint(rows: pl.DataFrame) -> str:
    """SHA-256 of the rows as a multiset: equal exactly when names, types and values are.

    Columns are taken in name order and rows sorted by all of them; then each column contributes its empty
    places and its values as little-endian bytes. Minus zero counts as zero and every NaN as one NaN.

    Raises:
        InputError: for a column of a nested type.
    """
    floats = pl.selectors.float()
    one_zero = pl.when(floats == 0.0).then(0.0).otherwise(floats.fill_nan(float("nan")))
    frame = rows.select(sorted(rows.columns)).with_columns(one_zero.name.keep())
    if frame.width:
        frame = frame.sort(frame.columns, nulls_last=True)
    header = {
        "format": _FORMAT,
        "rows": frame.height,
        "columns": [[name, str(kind)] for name, kind in frame.schema.items()],
    }
    state = hashlib.sha256(canonical_json(header))
    for column in frame.iter_columns():
        state.update(np.packbits(column.is_null().to_numpy()).tobytes())
        _add_values(state, column)
    return state.hexdigest()


def _add_values(state: hashlib._Hash, column: pl.Series) -> None:
    kind = column.dtype
    if kind in (pl.String, pl.Binary):
        filled = column.fill_null("" if kind == pl.String else b"")
        array = filled.to_arrow(compat_level=pl.CompatLevel.oldest())
        _, offsets, data = array.cast(pa.large_string() if kind == pl.String else pa.large_binary()).buffers()
        ends = np.frombuffer(offsets, dtype="<i8")[array.offset : array.offset + len(array) + 1]
        state.update(np.diff(ends).tobytes())
        if data is not None and len(ends):
            state.update(memoryview(data)[int(ends[0]) : int(ends[-1])])
        return
    if kind.is_nested():
        raise InputError(
            f"column '{column.name}'",
            expected="a flat type",
            got=str(kind),
            next_step="Store nested values as JSON text.",
        )
    physical = column.to_physical()
    filled = physical.fill_null(False if physical.dtype == pl.Boolean else 0)
    values = filled.to_numpy()
    state.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes())
