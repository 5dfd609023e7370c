"""Arrays as bytes, the same bytes every time: an npz without the time of day in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.errors import IntegrityError

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An uncompressed npz of ``arrays`` in name order, byte-identical for equal arrays."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            body = io.BytesIO()
            np.lib.format.write_array(body, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), body.getvalue())
    return packed.getvalue()


def unpack_arrays(data: bytes, *, field: str) -> dict[str, NDArray[Any]]:
    """The arrays of an npz; never unpickles.

    Raises:
        IntegrityError: when ``data`` is no npz or holds objects.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise IntegrityError(
            field,
            expected="an npz of plain arrays",
            got=f"{len(data)} bytes that are none ({error})",
            next_step="Restore the artifact from a backup, or replay the training step.",
        ) from error
