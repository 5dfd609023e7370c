"""What the functions of this room accept: each check refuses with the field, what came and what to do."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mangaassist.core.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def open_unit(field: str, value: float) -> float:
    """``value`` when it lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise InputError(
            field,
            expected="a number strictly between 0 and 1",
            got=repr(value),
            next_step="Write 5% as 0.05.",
        )
    return float(value)


def positive(field: str, value: float) -> float:
    """``value`` when it is finite and above zero."""
    if not (np.isfinite(value) and value > 0):
        raise InputError(
            field, expected="a finite number above 0", got=repr(value), next_step="Correct the value."
        )
    return float(value)


def at_least(field: str, value: int, minimum: int) -> int:
    """``value`` when it is ``minimum`` or more."""
    if value < minimum:
        raise InputError(
            field,
            expected=f"{minimum} or more",
            got=str(value),
            next_step="Collect more observations or widen the selection.",
        )
    return int(value)


def successes_of(field: str, successes: int, n: int) -> tuple[int, int]:
    """``(successes, n)`` when they can be a count out of a positive total."""
    at_least(f"{field}.n", n, 1)
    if not 0 <= successes <= n:
        raise InputError(
            field,
            expected=f"successes between 0 and n = {n}",
            got=str(successes),
            next_step="Count successes and trials on the same rows.",
        )
    return int(successes), int(n)


def finite(field: str, values: ArrayLike, *, ndim: int | None = None) -> FloatArray:
    """``values`` as floats when all are finite and there is at least one."""
    array = np.asarray(values, dtype=np.float64)
    if ndim is not None and array.ndim != ndim:
        raise InputError(
            field,
            expected=f"an array of {ndim} dimension(s)",
            got=f"shape {array.shape}",
            next_step="Reshape it.",
        )
    if array.size == 0:
        raise InputError(field, expected="at least one value", got="none", next_step="Widen the selection.")
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(
            field,
            expected="finite numbers only",
            got=f"{bad} missing or infinite",
            next_step="Decide what a missing value means before the analysis: drop or impute it.",
        )
    return array


def counts(field: str, values: ArrayLike, *, ndim: int = 1) -> FloatArray:
    """``values`` as floats when they are non-negative counts with a positive total."""
    array = finite(field, values, ndim=ndim)
    if (array < 0).any() or array.sum() <= 0:
        raise InputError(
            field,
            expected="non-negative counts with a positive total",
            got=f"minimum {array.min():g}, total {array.sum():g}",
            next_step="Pass the number of rows in each bin.",
        )
    return array


def same_length(field: str, a: NDArray[np.generic], b: NDArray[np.generic]) -> None:
    """Refuse when two arrays that describe the same rows differ in length."""
    if len(a) != len(b):
        raise InputError(
            field,
            expected="one value per row on both sides",
            got=f"{len(a)} and {len(b)} rows",
            next_step="Align the two before comparing them.",
        )


def codes(field: str, values: ArrayLike, size: int) -> IntArray:
    """``values`` as integer codes when all lie in ``0 .. size - 1``."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            field,
            expected="one integer code per row",
            got=f"{array.dtype} of shape {array.shape}",
            next_step="Encode the values with np.unique(values, return_inverse=True).",
        )
    if array.size and (array.min() < 0 or array.max() >= size):
        raise InputError(
            field,
            expected=f"codes from 0 to {size - 1}",
            got=f"{array.min()} to {array.max()}",
            next_step="Encode the values against the full list of classes.",
        )
    return array.astype(np.int64)
