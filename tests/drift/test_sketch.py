"""Frozen-bin sketches against slow, obvious twins."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.drift import sketch as sketches
from mangaassist.drift.sketch import CategoricalSketch, NumericSketch
from mangaassist.stats.divergence import psi

NUMBERS = st.lists(st.one_of(st.none(), st.floats(width=32), st.integers(-3, 3).map(float)), max_size=60)
WORDS = st.lists(st.one_of(st.none(), st.sampled_from(["ios", "web", "android", "テレビ", ""])), max_size=60)


def numbers(values: list[float | None]) -> pl.Series:
    return pl.Series("x", values, dtype=pl.Float64)


def words(values: list[str | None]) -> pl.Series:
    return pl.Series("x", values, dtype=pl.String)


def twin_numeric(edges: tuple[float, ...], values: list[float | None]) -> list[int]:
    """One value at a time, by the definition of a bin."""
    cells = [0] * (len(edges) + 2)
    for value in values:
        if value is None or math.isnan(value):
            cells[-1] += 1
        else:
            cells[sum(value > edge for edge in edges)] += 1
    return cells


@given(NUMBERS, NUMBERS)
def test_numeric_counts_equal_the_definition(
    reference: list[float | None], values: list[float | None]
) -> None:
    """DRF-4: counting in frozen bins is what the definition says, for ties, infinities, NaN and null."""
    frozen = sketches.fit_numeric(numbers(reference))
    assert list(frozen.edges) == sorted(set(frozen.edges))
    assert sketches.count(frozen, numbers(values)).cells.tolist() == twin_numeric(frozen.edges, values)


@given(WORDS, WORDS)
def test_categorical_counts_equal_the_definition(
    reference: list[str | None], values: list[str | None]
) -> None:
    """DRF-4: kept values, other and missing add up to the rows that came."""
    frozen = sketches.fit_categorical(words(reference), top=2)
    counted = sketches.count(frozen, words(values))
    kept = [values.count(value) for value in frozen.values]
    missing = values.count(None)
    assert counted.cells.tolist() == [*kept, len(values) - missing - sum(kept), missing]


@given(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_merging_parts_in_any_order_equals_one_pass(reference, parts, random) -> None:
    """DRF-4: merge is exact, associative and commutative; the whole equals its parts."""
    frozen = sketches.fit_numeric(numbers(reference))
    counted = [sketches.count(frozen, numbers(part)) for part in parts]
    whole = sketches.count(frozen, numbers([value for part in parts for value in part]))
    shuffled = list(counted)
    random.shuffle(shuffled)
    left = shuffled[0]
    for other in shuffled[1:]:
        left = sketches.merge([left, other])
    right = shuffled[-1]
    for other in reversed(shuffled[:-1]):
        right = sketches.merge([other, right])
    assert left == right == sketches.merge(counted) == whole


@given(
    NUMBERS,
    WORDS,
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.one_of(st.none(), st.floats(-5, 5)),
            st.sampled_from(["ios", "web", None, "x"]),
        ),
        max_size=40,
    ),
)
def test_windowed_counting_equals_counting_each_window(reference, reference_words, rows) -> None:
    """DRF-4: the one-pass count of all windows is the count of each window alone."""
    window = np.array([row[0] for row in rows], dtype=np.int64)
    for frozen, values in (
        (sketches.fit_numeric(numbers(reference)), numbers([row[1] for row in rows])),
        (sketches.fit_categorical(words(reference_words)), words([row[2] for row in rows])),
    ):
        together = sketches.count_windows(frozen, values, window, 4)
        alone = [sketches.count(frozen, values.filter(pl.Series(window == slot))) for slot in range(4)]
        assert together == alone


@given(NUMBERS, WORDS)
def test_a_sketch_survives_json(reference: list[float | None], names: list[str | None]) -> None:
    """DRF-4: stored with the version and read back equal."""
    for sketch in (sketches.fit_numeric(numbers(reference)), sketches.fit_categorical(words(names))):
        assert sketches.from_dict(sketches.as_dict(sketch)) == sketch


def test_one_outlier_does_not_hide_a_shift() -> None:
    """DRF-1: N(0,1) deciles, a shift of one sigma: the same PSI with and without an outlier of 1e6.

    Expected: sum((q - p) ln(q / p)) with p = 1/10 and q the mass of N(1,1) between the deciles of N(0,1)
    = 0.926. Tolerance 0.03: sampling of 100,000 rows.
    """
    deciles = stats.norm.ppf(np.arange(11) / 10)
    mass = np.diff(stats.norm.cdf(deciles, loc=1.0))
    expected = float(((mass - 0.1) * np.log(mass / 0.1)).sum())
    assert expected == pytest.approx(0.926, abs=0.001)
    generator = np.random.default_rng(11)
    frozen = sketches.fit_numeric(pl.Series("x", generator.normal(size=100_000)))
    shifted = generator.normal(1.0, 1.0, size=100_000)
    for values in (shifted, np.append(shifted, 1e6)):
        now = sketches.count(frozen, pl.Series("x", values))
        assert psi(frozen.counts, now.counts) == pytest.approx(expected, abs=0.03)


def test_a_constant_column_sees_both_directions() -> None:
    """DRF-1: below and above a constant are different bins from the constant."""
    frozen = sketches.fit_numeric(pl.Series("x", [5] * 100))
    assert sketches.count(frozen, pl.Series("x", [4, 5, 5, 6])).counts == (1, 2, 1)


def test_bins_read_like_values() -> None:
    """DRF-1: the edge just below the smallest value is not shown in digits."""
    names = sketches.fit_numeric(pl.Series([0.0] * 80 + [0.1, 0.2, 0.3, 0.4] * 5)).names
    assert names[:3] == ("below 0", "exactly 0", "0 to 0.2")
    assert sketches.fit_numeric(pl.Series([1.0, 2.0, 3.0]), bins=2).names[0] == "up to 2"


def test_values_are_kept_by_frequency_then_name() -> None:
    """DRF-4: ties are broken by name, so that two workers freeze the same bins."""
    frozen = sketches.fit_categorical(words(["b", "a", "c", "c", None]), top=2)
    assert frozen == CategoricalSketch(("c", "a"), (2, 1, 1), 1)


def test_typed_columns_count_like_text() -> None:
    """DRF-4: categoricals and booleans are counted by their spelling."""
    frozen = sketches.fit_categorical(pl.Series("x", ["a", "b", "b"], dtype=pl.Categorical))
    assert sketches.count(frozen, words(["b", "z"])).cells.tolist() == [1, 0, 1, 0]
    assert sketches.fit_categorical(pl.Series("x", [True, False, True])).values == ("true", "false")


@pytest.mark.parametrize(
    "other",
    [
        NumericSketch((1.0, 2.5), (0, 0, 0)),
        NumericSketch((1.0,), (0, 0)),
        CategoricalSketch(("1.0",), (0, 0)),
    ],
)
def test_sketches_of_different_references_do_not_merge(other) -> None:
    """DRF-4: bins are part of the meaning of a count."""
    with pytest.raises(InputError, match="one reference"):
        sketches.merge([NumericSketch((1.0, 2.0), (1, 1, 1)), other])


def test_bad_sketches_are_refused() -> None:
    """DRF-4: nothing to merge, damaged counts, and text where numbers were."""
    with pytest.raises(InputError, match="at least one"):
        sketches.merge([])
    with pytest.raises(InputError, match="counts of zero or more"):
        sketches.from_dict({"edges": [1.0], "counts": [1], "missing": 0})
    with pytest.raises(InputError, match="counts of zero or more"):
        sketches.from_dict({"values": ["a"], "counts": [1, -1], "missing": 0})
    with pytest.raises(InputError, match="expected numbers, got String"):
        sketches.count(NumericSketch((1.0,), (0, 0)), words(["1"]))


@settings(max_examples=20)
@given(st.integers(2, 50), st.integers(200, 2000))
def test_quantile_bins_hold_equal_shares_without_ties(bins: int, rows: int) -> None:
    """DRF-4: frozen edges are the reference's quantiles: no bin is off by more than one row."""
    frozen = sketches.fit_numeric(pl.Series("x", np.random.default_rng(rows).permutation(rows)), bins=bins)
    assert len(frozen.counts) == bins
    assert max(frozen.counts) - min(frozen.counts) <= 1
