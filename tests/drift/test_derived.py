"""Texts, embeddings and their exact merge; false discoveries; the estimate and where it fails."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.drift.frames import START, reference, traffic

from mangaassist.core.errors import InputError
from mangaassist.core.language import detect_language
from mangaassist.core.story import DriftPolicy, Story
from mangaassist.core.verdict import Status
from mangaassist.drift import sketch as sketches
from mangaassist.drift.centroid import CentroidSketch, fit_centroid
from mangaassist.drift.derived import scripts
from mangaassist.drift.detect import detect_concept, detect_input
from mangaassist.drift.estimate import estimate_accuracy
from mangaassist.drift.measures import FALSE_DISCOVERIES, measures
from mangaassist.drift.profile import from_request_cells, merge_profiles, request_cells
from mangaassist.drift.reference import Reference, fit_reference
from mangaassist.drift.windows import Window, outcome_windows, request_windows

DIMENSIONS = 16
STORY = Story("intent", "text-classification", "x")


def cloud(rows: int, *, seed: int, shift: float = 0.0, scale: float = 1.0) -> pl.Series:
    """Embeddings with correlated coordinates; ``shift`` in units of the spread, along one direction."""
    generator = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(DIMENSIONS, DIMENSIONS)) / 4
    values = generator.normal(size=(rows, DIMENSIONS)) @ mix * scale + 0.5
    values[:, 0] += shift * np.sqrt(np.trace(mix.T @ mix))
    return pl.Series("e", values.astype(np.float32))


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(0, 999),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_centroids_merge_exactly_in_any_order(sizes: list[int], seed: int, random) -> None:
    """DRF-4: workers' sums are integers, so any grouping and order gives the bytes of one pass over all."""
    frozen = sketches.empty(fit_centroid(cloud(50, seed=1)))
    parts = [cloud(size, seed=seed + index, scale=10.0 ** (index - 2)) for index, size in enumerate(sizes)]
    counted = [sketches.count(frozen, part) for part in parts]
    random.shuffle(counted)
    half = len(counted) // 2
    grouped = [sketches.merge(group) for group in (counted[:half], counted[half:]) if group]
    assert sketches.merge(grouped) == sketches.count(frozen, pl.concat(parts))


def test_a_centroid_is_the_mean() -> None:
    """DRF-4: to the rounding of its step, with lists as with arrays; rows that are not whole are missing."""
    values = cloud(5000, seed=2)
    found = fit_centroid(values)
    matrix = values.to_numpy().astype(np.float64)
    assert np.abs(found.mean - matrix.mean(axis=0)).max() <= found.step
    assert found.spread == pytest.approx(np.sqrt(matrix.var(axis=0, ddof=1).sum()), rel=1e-9)
    covariance = np.cov(matrix.T)
    assert found.dimensions == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum(), rel=1e-9)
    lists = values.arr.to_list()
    assert sketches.count(found, lists) == found
    holes = pl.Series("e", [[1.0] * DIMENSIONS, None, [float("nan")] * DIMENSIONS, [2.0] * DIMENSIONS])
    counted = sketches.count(found, holes)
    assert (counted.counted, counted.missing) == (2, 2)
    assert sketches.from_dict(sketches.as_dict(found)) == found


@pytest.mark.parametrize(
    "values",
    [pl.Series("e", ["a"]), pl.Series("e", [[1.0], [1.0, 2.0]]), pl.Series("e", [[1.0, 2.0], [3.0, 4.0]])],
)
def test_embeddings_of_another_kind_are_refused(values: pl.Series) -> None:
    """DRF-4: a new embedding model needs a new reference, not a silent zero."""
    with pytest.raises(InputError):
        sketches.count(fit_centroid(cloud(50, seed=1)), values)


def test_a_centroid_moves_no_more_often_than_by_chance() -> None:
    """DRF-1: at the 1% level 300 healthy samples of correlated embeddings fire 10 times at most.

    3 expected; more than 10 has probability 0.0003. A shift of 0.3 spreads is found every time.
    """
    frozen = fit_centroid(cloud(20_000, seed=3))
    fired = small = 0
    for seed in range(300):
        now = sketches.count(frozen, cloud(300, seed=1000 + seed))
        found = measures({"e": frozen}, {"e": now}, threshold=0.2)["e"]
        small += found.p_value <= 0.01
        fired += found.fires
    assert small <= 10
    assert fired == 0, "a healthy sample is never 0.2 spreads away at this size"
    moved = sketches.count(frozen, cloud(300, seed=9, shift=0.3))
    found = measures({"e": frozen}, {"e": moved}, threshold=0.2)["e"]
    assert found.fires
    assert found.value == pytest.approx(0.3, abs=0.08)


def test_texts_and_embeddings_are_watched_through_the_hub() -> None:
    """DRF-1: length, script, norm and centroid each find their own change, and windows merge exactly."""

    def rows(seed: int, **changes: float) -> pl.DataFrame:
        generator = np.random.default_rng(seed)
        japanese = generator.random(4000) < changes.get("japanese", 0.3)
        words = generator.poisson(changes.get("words", 6), 4000) + 1
        texts = [("漫画の新刊" if ja else "manga ") * int(n) for ja, n in zip(japanese, words, strict=True)]
        noise = cloud(4000, seed=seed, shift=changes.get("shift", 0.0), scale=changes.get("scale", 1.0))
        return traffic(4000, seed=seed).with_columns(pl.Series("query", texts), noise.alias("vector"))

    fitted = fit_reference(STORY, rows(1), at=START, texts=["query"], embeddings=["vector"])
    assert Reference.from_bytes(fitted.to_bytes()) == fitted
    for change, expected, beside in (
        ({}, set(), set()),
        ({"japanese": 0.7}, {"query.script"}, {"query.length"}),
        ({"words": 12}, {"query.length"}, set()),
        ({"shift": 0.5}, {"vector.centroid"}, {"vector.norm"}),
        ({"scale": 1.6}, {"vector.norm"}, set()),
    ):
        frame = rows(2, **change)
        windows = request_windows(fitted, frame, apart=True)
        assert {window.cohort for window in windows} == {"en", "ja"}
        now = merge_profiles([window.profile for window in windows])
        assert now == merge_profiles([one.profile for one in request_windows(fitted, frame)])
        assert from_request_cells(fitted.profile, request_cells(now)) == now
        found = detect_input(fitted.profile, now, DriftPolicy())
        failing = {one.name.removeprefix("drift.input.") for one in found if one.status is Status.FAIL}
        assert expected <= failing <= expected | beside, change


@pytest.mark.parametrize(
    ("text", "script"),
    [("ワンピース", "katakana"), ("進撃", "han"), ("ありがとう", "hiragana"), ("Naruto 3巻", "latin")],
)
def test_scripts(text: str, script: str) -> None:
    """GOV-1: the script most of a text is written in, in agreement with the language told of it."""
    assert scripts(pl.Series([text]))[0] == script
    assert (detect_language(text) == "en") == (script == "latin" and text.isascii())


@pytest.mark.parametrize("drifted", [0, 10])
def test_false_discoveries_are_held(drifted: int) -> None:
    """DRF-1: of the columns named over 60 looks at 50 columns, few have not moved.

    With nothing moved at most 1% of the looks may name any: more than 4 of 60 has probability 0.0003. With
    ten moved the mean share of false names stays below the level, to three of its Monte Carlo errors.
    """
    generator = np.random.default_rng(4)
    p = np.full(10, 0.1)
    moved = np.array([0.16, 0.04, 0.13, 0.07, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    shares, named = [], 0
    for _ in range(60):
        then, now = {}, {}
        for column in range(50):
            counts = generator.multinomial(5000, p)
            current = generator.multinomial(1500, moved if column < drifted else p)
            edges = tuple(float(edge) for edge in range(9))
            then[str(column)] = sketches.NumericSketch(edges, tuple(counts.tolist()))
            now[str(column)] = sketches.NumericSketch(edges, tuple(current.tolist()))
        found = measures(then, now, threshold=1e-9)
        fires = {int(name) for name, one in found.items() if one.fires}
        named += bool(fires)
        shares.append(len([one for one in fires if one >= drifted]) / max(1, len(fires)))
        assert fires >= set(range(drifted))
    assert np.mean(shares) <= FALSE_DISCOVERIES + 0.015
    if not drifted:
        assert named <= 4


def sharpened(rows: int, *, seed: int, hard: float) -> pl.DataFrame:
    """Requests whose confidence tells how likely the answer is right; ``hard`` is the share of hard ones."""
    generator = np.random.default_rng(seed)
    confidence = np.where(
        generator.random(rows) < hard, generator.beta(6, 5, rows), generator.beta(30, 2, rows)
    )
    right = generator.random(rows) < confidence
    frame = traffic(rows, seed=seed)
    other = frame["truth"].replace({"stock": "recommend", "recommend": "stock", "order_status": "stock"})
    return frame.with_columns(
        confidence=pl.Series(confidence),
        label=pl.when(pl.Series(right))
        .then(pl.col("truth"))
        .otherwise(other.replace("return_request", "stock")),
    )


def test_the_estimate_follows_accuracy_while_confidence_does() -> None:
    """DRF-1: within 0.03 of the truth when traffic gets harder and the model knows it."""
    fitted = fit_reference(STORY, sharpened(20_000, seed=1, hard=0.2), at=START)
    for hard in (0.0, 0.2, 0.5, 0.8):
        frame = sharpened(8000, seed=2, hard=hard)
        now = merge_profiles([one.profile for one in request_windows(fitted, frame)])
        found = estimate_accuracy(fitted.profile, now, fitted.confidences, threshold=0.03)
        then = 1 - np.trace(fitted.profile.confusion.matrix()) / fitted.profile.labelled
        truth = (frame["truth"] == frame["label"]).mean()
        assert found.value == pytest.approx((1 - then) - truth, abs=0.03)
        assert not found.blocking
        assert found.status is (Status.FAIL if hard > 0.2 else Status.PASS)


def test_the_estimate_is_blind_to_confident_mistakes() -> None:
    """DRF-1: the failure that is named: concept drift with unchanged confidence; labels see it."""
    fitted = reference(12_000)
    wrong = traffic(4000, seed=5, accuracy=0.5)
    windows: list[Window] = [*request_windows(fitted, wrong), *outcome_windows(fitted, wrong)]
    now = merge_profiles([one.profile for one in windows])
    estimate = estimate_accuracy(fitted.profile, now, fitted.confidences, threshold=0.03)
    (labels,) = detect_concept(fitted.profile, now, DriftPolicy())
    assert estimate.status is Status.PASS
    assert "blind to a model that is confidently wrong" in estimate.sentence
    assert labels.status is Status.FAIL


def test_an_estimate_needs_labels_once() -> None:
    """DRF-1: without a labelled reference nothing is estimated."""
    frame = traffic(500, seed=1).with_columns(truth=pl.lit(None, dtype=pl.String))
    fitted = fit_reference(STORY, frame, at=START)
    now = merge_profiles([one.profile for one in request_windows(fitted, traffic(500, seed=2))])
    found = estimate_accuracy(fitted.profile, now, fitted.confidences, threshold=0.03)
    assert found.status is Status.INSUFFICIENT


def test_cohorts_keep_their_own_confusions() -> None:
    """DRF-4: by language in the reference and in the windows; together they are the whole."""
    fitted = reference(5000)
    assert sum(one.rows for one in fitted.cohorts.values()) == fitted.profile.labelled
    assert set(fitted.cohorts) == {"en", "ja"}
    frame = traffic(900, seed=3, lasts=timedelta(hours=7))
    apart = outcome_windows(fitted, frame, apart=True)
    assert {one.cohort for one in apart} == {"en", "ja"}
    whole = merge_profiles([one.profile for one in outcome_windows(fitted, frame)])
    assert merge_profiles([one.profile for one in apart]) == whole
    assert isinstance(fit_centroid(cloud(10, seed=1)), CentroidSketch)
