"""The ceiling that wrong labels put over every model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.labels.rows import POLICY, example, examples, labels, vote

from mangaassist.labels.consensus import consensus
from mangaassist.labels.noise import METHOD, noise_ceiling
from mangaassist.labels.records import EXAMPLES_TABLE, LABELS_TABLE, frame_schema

DATA = Path(os.environ.get("MANGAASSIST_DATA", "../shared/data")) / "annotators_crowd_truth"


def tables(rows: list[tuple[int, str | None, str]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Golden examples 0, 1, ... and votes (example, annotator, label) as the two tables."""
    one_example = examples(example("x", role="golden"))
    one_vote = labels(vote("x", "a", "vendor", "p"))
    items = sorted({row[0] for row in rows})
    texts = pl.concat([one_example] * len(items)).with_columns(
        example_id=pl.Series([f"{n:064d}" for n in items]), group_id=pl.Series([f"{n}" for n in items])
    )
    given = pl.concat([one_vote] * len(rows)).with_columns(
        example_id=pl.Series([f"{row[0]:064d}" for row in rows]),
        annotator_id=pl.Series([row[1] for row in rows], dtype=pl.String()),
        label=pl.Series([row[2] for row in rows]),
    )
    return texts.select(list(EXAMPLES_TABLE)), given.select(list(LABELS_TABLE))


def simulate(
    seed: int, *, items: int = 1500, classes: int = 14, named: bool = True
) -> tuple[list[tuple[int, str | None, str]], np.ndarray]:
    """LAB-4's plan: a tenth of the items seen by three of nine annotators, the rest by two."""
    generator = np.random.default_rng(seed)
    skill = generator.uniform(0.85, 0.97, 9)
    truth = generator.integers(0, classes, items)
    rows = []
    for item in range(items):
        for who in generator.choice(9, 3 if item % 10 == 0 else 2, replace=False):
            slip = 0 if generator.random() < skill[who] else int(generator.integers(1, classes))
            rows.append((item, f"p{who}" if named else None, f"c{(truth[item] + slip) % classes:02d}"))
    return rows, truth


@pytest.mark.parametrize(("classes", "named"), [(14, True), (2, True), (14, False)])
def test_it_estimates_how_right_the_consensus_is(classes: int, named: bool) -> None:
    """Within its interval, widened by the sampling error of the simulated truth itself (1500 items)."""
    for seed in range(3):
        rows, truth = simulate(seed, classes=classes, named=named)
        frames = tables(rows)
        settled = consensus(*frames, POLICY).sort("example_id")
        correct = np.mean([int(label[1:]) for label in settled["label"]] == truth)
        found = noise_ceiling(*frames, POLICY)
        assert found.estimate is not None
        assert (found.method, found.items, found.reason) == (METHOD, 1500, "")
        assert found.estimate.low - 0.012 <= correct <= found.estimate.high + 0.012
        assert found.estimate.high - found.estimate.low < 0.1


def test_more_votes_raise_the_ceiling() -> None:
    """Five votes settle what two leave open."""
    generator = np.random.default_rng(5)
    rows = [
        (item, f"p{who}", f"c{item % 3 if generator.random() < 0.8 else int(generator.integers(3))}")
        for item in range(300)
        for who in range(5)
    ]
    few = noise_ceiling(*tables([row for row in rows if row[1] in ("p0", "p1")]), POLICY).estimate
    many = noise_ceiling(*tables(rows), POLICY).estimate
    assert few is not None
    assert many is not None
    assert few.high < many.low


def test_without_redundant_votes_there_is_no_ceiling() -> None:
    """None with a reason: other methods may then estimate it from the model."""
    single = tables([(n, "p", "ab"[n % 2]) for n in range(100)])
    found = noise_ceiling(*single, POLICY)
    assert found.estimate is None
    assert found.reason == "0 golden examples have two votes or more and 30 are needed."
    unanimous = noise_ceiling(*tables([(n, who, "a") for n in range(40) for who in "pq"]), POLICY)
    assert (unanimous.estimate, unanimous.reason) == (None, "All golden votes name one class.")
    nothing = (
        pl.DataFrame(schema=frame_schema(EXAMPLES_TABLE)),
        pl.DataFrame(schema=frame_schema(LABELS_TABLE)),
    )
    assert noise_ceiling(*nothing, POLICY).estimate is None
    assert noise_ceiling(*single, POLICY, role="train").items == 0


def test_perfect_agreement_is_a_ceiling_of_nearly_one() -> None:
    """Everybody agreeing on many classes leaves little room for error."""
    found = noise_ceiling(*tables([(n, who, f"c{n % 10}") for n in range(200) for who in "pq"]), POLICY)
    assert found.estimate is not None
    assert found.estimate.value > 0.999


@pytest.mark.data
@pytest.mark.parametrize(("task", "gap"), [("product", 0.05), ("dog", 0.14), ("duck", 0.20)])
def test_on_real_crowds_it_is_an_upper_bound(task: str, gap: float) -> None:
    """Real annotators share mistakes, which agreement cannot see: the figure lies above the truth."""
    if not DATA.is_dir():
        pytest.skip("no crowd data")
    answers = pl.read_csv(DATA / f"{task}.answers.csv", infer_schema=False).unique(["question", "worker"])
    truth = dict(pl.read_csv(DATA / f"{task}.truth.csv", infer_schema=False).rows())
    order = {question: n for n, question in enumerate(sorted(truth))}
    rows = [(order[q], who, label) for q, who, label in answers.rows() if q in order]
    frames = tables(rows)
    settled = consensus(*frames, POLICY).sort("example_id")
    correct = np.mean([label == truth[q] for q, label in zip(sorted(truth), settled["label"], strict=True)])
    found = noise_ceiling(*frames, POLICY).estimate
    assert found is not None
    assert correct < found.value < correct + gap
