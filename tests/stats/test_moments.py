"""Sufficient statistics. Tolerance CLOSE 1e-9 relative: both sides sum the same doubles in another order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.stats.moments import merge, of_counts, of_rows, of_sums

CLOSE = 1e-9

tables = st.tuples(st.integers(2, 40), st.integers(1, 4), st.integers(0, 2**32 - 1)).map(
    lambda case: np.random.default_rng(case[2]).normal(3, 2, case[:2])
)


@given(tables)
def test_rows_sums_and_shards_agree_with_numpy(table: np.ndarray) -> None:
    whole = of_rows(table)
    assert whole.mean == pytest.approx(table.mean(axis=0), rel=CLOSE)
    assert whole.covariance == pytest.approx(np.atleast_2d(np.cov(table, rowvar=False)), rel=1e-7, abs=CLOSE)
    sums = of_sums(len(table), table.sum(axis=0), table.T @ table)
    assert sums.scatter == pytest.approx(whole.scatter, rel=1e-6, abs=1e-8)
    if len(table) > 2:
        cut = len(table) // 2
        joined = merge(of_rows(table[:cut]), of_rows(table[cut:]))
        assert joined.n == whole.n
        assert joined.mean == pytest.approx(whole.mean, rel=CLOSE)
        assert joined.scatter == pytest.approx(whole.scatter, rel=CLOSE, abs=CLOSE)


def test_large_values_keep_their_digits_where_raw_sums_lose_them() -> None:
    """Microsecond timestamps: the variance of 1e15 + {0, 1} is 1/4 with centred moments."""
    rows = 1e15 + np.tile([0.0, 1.0], 500)
    shards = [of_rows(part) for part in np.split(rows, 10)]
    joined = shards[0]
    for shard in shards[1:]:
        joined = merge(joined, shard)
    assert joined.scatter[0, 0] == pytest.approx(250, rel=CLOSE)
    assert (rows**2).sum() - rows.sum() ** 2 / 1000 != pytest.approx(250, rel=0.1)


def test_counts_are_zeros_and_ones() -> None:
    assert of_counts(3, 10).scatter == pytest.approx(of_rows([1.0] * 3 + [0.0] * 7).scatter)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="2 or more"):
        _ = of_rows([1.0]).covariance
    with pytest.raises(InputError):
        of_sums(10, 100.0, 10.0)
    with pytest.raises(InputError, match="missing or infinite"):
        of_rows([1.0, np.inf])
    with pytest.raises(InputError):
        merge(of_rows([1.0, 2.0]), of_rows([[1.0, 2.0]]))
