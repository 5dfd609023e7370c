"""Agreement and consensus (LAB-4, LAB-5, LAB-7).

Tolerances: EXACT 1e-10, both sides are closed forms; LOOP 1e-6, EM stopped at 1e-8 on both sides; COVERAGE
.03, 600 simulated lots have a standard error of .009 and kappa's interval is asymptotic; CROWD .005, the
reference accuracy of Dawid-Skene was quoted from memory.
"""

from __future__ import annotations

import csv
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from mangaassist.core.errors import InputError
from mangaassist.stats.agreement import (
    alpha_of_votes,
    cohen_kappa,
    dawid_skene,
    krippendorff_alpha,
    majority,
)
from mangaassist.stats.pairwise import pairwise_kappa

EXACT = 1e-10
LOOP = 1e-6
COVERAGE = 0.03
CROWD = 0.005


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(2, 60), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_kappa_agrees_with_scikit_learn(n: int, k: int, seed: int) -> None:
    rng = generator(seed)
    a = rng.integers(0, k, n)
    b = np.where(rng.random(n) < 0.6, a, rng.integers(0, k, n))
    assume(len(np.unique(np.concatenate([a, b]))) > 1)
    found = cohen_kappa(a, b)
    assert found.value == pytest.approx(cohen_kappa_score(a, b), abs=EXACT)
    assert -1 <= found.low <= found.value + EXACT
    assert found.value - EXACT <= found.high <= 1
    assert found.n == n


def test_kappa_reads_text_and_matches_a_worked_table() -> None:
    """Fleiss, Cohen and Everitt (1969), table 1: kappa .429 with large-sample standard error .054 (n = 200).

    Their cell shares: rows .53 .05 .02 / .11 .14 .05 / .01 .06 .03.
    """
    shares = np.array([[0.53, 0.05, 0.02], [0.11, 0.14, 0.05], [0.01, 0.06, 0.03]])
    cells = np.repeat(np.arange(9), np.round(shares * 200).astype(int).ravel())
    names = np.array(["faq", "order", "return"])
    found = cohen_kappa(names[cells // 3], names[cells % 3])
    assert found.value == pytest.approx(0.429, abs=5e-4)
    assert (found.high - found.low) / (2 * 1.959964) == pytest.approx(0.054, abs=1e-3)


def test_kappa_interval_covers() -> None:
    rng, hits = generator(1), 0
    for _ in range(600):
        a = rng.choice(4, 150, p=[0.4, 0.3, 0.2, 0.1])
        b = np.where(rng.random(150) < 0.7, a, rng.choice(4, 150, p=[0.4, 0.3, 0.2, 0.1]))
        found = cohen_kappa(a, b)
        hits += found.low <= 0.7 <= found.high
    assert hits / 600 == pytest.approx(0.95, abs=COVERAGE)


def test_perfect_agreement_of_few_items_is_not_certainty() -> None:
    few, many = cohen_kappa([0, 1] * 4, [0, 1] * 4), cohen_kappa([0, 1] * 400, [0, 1] * 400)
    assert few.value == many.value == 1.0
    assert few.low < 0.4
    assert 0.9 < many.low < 1.0


def test_one_class_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="two classes"):
        cohen_kappa(["a", "a"], ["a", "a"])
    with pytest.raises(InputError, match="2 and 1 rows"):
        cohen_kappa([0, 1], [0])
    with pytest.raises(InputError, match="two classes"):
        krippendorff_alpha([[1.0, 1.0], [1.0, 1.0]], generator=generator())
    with pytest.raises(InputError):
        krippendorff_alpha([[1.0, np.nan], [1.0, 2.0]], generator=generator())


def test_kappa_misleads_on_skewed_classes_and_alpha_does_not_flatter() -> None:
    """98% raw agreement on one dominant class is near chance, and both measures say so."""
    a = np.array([0] * 98 + [1, 0])
    b = np.array([0] * 98 + [0, 1])
    assert cohen_kappa(a, b).value < 0
    assert krippendorff_alpha(np.stack([a, b], 1), generator=generator()).value < 0.01


@settings(max_examples=60)
@given(
    st.sampled_from(["nominal", "ordinal", "interval"]),
    st.integers(3, 25),
    st.integers(2, 5),
    st.integers(0, 2**32 - 1),
)
def test_alpha_agrees_with_the_krippendorff_package(scale: str, n: int, raters: int, seed: int) -> None:
    rng = generator(seed)
    truth = rng.integers(1, 6, (n, 1))
    table = np.where(rng.random((n, raters)) < 0.6, truth, rng.integers(1, 6, (n, raters))).astype(float)
    table[rng.random((n, raters)) < 0.25] = np.nan
    pairable = table[(~np.isnan(table)).sum(axis=1) >= 2]
    assume(len(pairable) >= 2 and len(np.unique(pairable[~np.isnan(pairable)])) > 1)
    found = krippendorff_alpha(table, generator=rng, scale=scale, replicates=10)
    oracle = krippendorff.alpha(table.T, level_of_measurement=scale)
    assert found.value == pytest.approx(oracle, abs=EXACT)
    assert found.n == len(pairable)


def test_alpha_matches_krippendorffs_worked_example() -> None:
    """Krippendorff (2011), section C: 4 observers, 12 units, nominal .743, ordinal .815, interval .849."""
    dot = np.nan
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, dot, dot, dot],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, dot, 3],
        [dot, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, dot],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, dot],
    ]
    for scale, printed in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        found = krippendorff_alpha(np.array(observers).T, generator=generator(), scale=scale)
        assert found.value == pytest.approx(printed, abs=5e-4)
        assert found.low < found.value < found.high


def test_alpha_of_text_with_gaps_equals_alpha_of_codes() -> None:
    rng = generator(2)
    codes = rng.integers(0, 3, (40, 3)).astype(float)
    codes[:, 1] = np.where(rng.random(40) < 0.8, codes[:, 0], codes[:, 1])
    codes[::5, 2] = np.nan
    text = np.array(
        [[None if np.isnan(c) else f"class {int(c)}" for c in row] for row in codes], dtype=object
    )
    of_codes = krippendorff_alpha(codes, generator=generator(3))
    assert krippendorff_alpha(text, generator=generator(3)) == of_codes


def test_alpha_bootstrap_agrees_with_resampling_items_one_by_one() -> None:
    rng = generator(4)
    truth = rng.integers(0, 4, (120, 1))
    table = np.where(rng.random((120, 3)) < 0.75, truth, rng.integers(0, 4, (120, 3))).astype(float)
    found = krippendorff_alpha(table, generator=generator(5), replicates=3000)
    draws = [
        krippendorff.alpha(table[rng.integers(0, 120, 120)].T, level_of_measurement="nominal")
        for _ in range(400)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    # 400 naive draws place a 2.5% quantile to within about a tenth of the width.
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.12 * (high - low))


def test_majority_counts_ties_and_silence() -> None:
    found = majority([0, 0, 0, 1, 1, 3], [2, 2, 1, 0, 1, 1], n_items=4, n_classes=3)
    assert found.winner.tolist() == [2, 0, -1, 1]
    assert found.tied.tolist() == [False, True, False, False]
    assert found.share == pytest.approx([2 / 3, 0.5, 0.0, 1.0])
    weighted = majority([0, 0], [1, 2], n_items=1, n_classes=3, weights=[0.4, 0.6])
    assert weighted.winner.tolist() == [2]
    with pytest.raises(InputError, match="codes"):
        majority([0, 4], [0, 0], n_items=4, n_classes=3)


def naive_dawid_skene(
    answers: list[tuple[int, int, int]], items: int, workers: int, classes: int, steps: int
) -> np.ndarray:
    """The definition with loops over answers."""
    posterior = np.zeros((items, classes))
    for i, _, label in answers:
        posterior[i, label] += 1
    posterior /= posterior.sum(axis=1, keepdims=True)
    for _ in range(steps):
        confusion = np.full((workers, classes, classes), 0.01)
        for i, w, label in answers:
            for true in range(classes):
                confusion[w, true, label] += posterior[i, true]
        confusion /= confusion.sum(axis=2, keepdims=True)
        prior = posterior.mean(axis=0)
        updated = np.tile(prior, (items, 1))
        for i, w, label in answers:
            updated[i] *= confusion[w, :, label]
        posterior = updated / updated.sum(axis=1, keepdims=True)
    return posterior


def test_dawid_skene_agrees_with_its_slow_twin() -> None:
    rng = generator(6)
    truth = rng.integers(0, 3, 30)
    answers = [
        (i, w, int(truth[i]) if rng.random() < 0.5 + 0.08 * w else int(rng.integers(0, 3)))
        for i in range(30)
        for w in rng.choice(6, 4, replace=False).tolist()
    ]
    item, worker, label = (np.array(column) for column in zip(*answers, strict=True))
    fast = dawid_skene(item, worker, label, n_items=30, n_workers=6, n_classes=3, tolerance=1e-8)
    assert fast.converged
    slow = naive_dawid_skene(answers, 30, 6, 3, fast.iterations)
    assert np.abs(fast.posterior - slow).max() < LOOP
    assert fast.posterior.sum(axis=1) == pytest.approx(1)
    assert fast.confusion.sum(axis=2) == pytest.approx(1)


def test_dawid_skene_finds_an_annotator_who_inverts_the_answer() -> None:
    """A vote that is always wrong is as informative as one that is always right; majority cannot know."""
    rng = generator(7)
    truth = rng.integers(0, 2, 400)
    right = [0.9, 0.85, 0.05, 0.1, 0.9]
    item = np.repeat(np.arange(400), 5)
    worker = np.tile(np.arange(5), 400)
    label = np.where(rng.random(2000) < np.array(right)[worker], truth[item], 1 - truth[item])
    model = dawid_skene(item, worker, label, n_items=400, n_workers=5, n_classes=2)
    vote = majority(item, label, n_items=400, n_classes=2)
    assert (model.posterior.argmax(axis=1) == truth).mean() > 0.95 > (vote.winner == truth).mean()
    assert model.confusion[:, 0, 0] == pytest.approx(right, abs=0.07)


def test_alpha_of_votes_is_alpha_of_the_table() -> None:
    """Long and wide form of the same answers, also where distinct rows do not fit one integer."""
    for classes in (4, 60):
        rng = generator(12)
        table = rng.integers(0, classes, (50, 3)).astype(float)
        table[:, 1] = np.where(rng.random(50) < 0.7, table[:, 0], table[:, 1])
        table[rng.random((50, 3)) < 0.2] = np.nan
        item, _ = np.nonzero(~np.isnan(table))
        label = table[~np.isnan(table)].astype(int)
        long = alpha_of_votes(item, label, n_items=50, n_classes=classes, generator=generator())
        wide = krippendorff_alpha(table, generator=generator())
        assert (long.value, long.n) == (pytest.approx(wide.value, abs=EXACT), wide.n)
        # Rows sort differently when a class is missing, so the two bootstraps are two draws of one interval.
        assert (long.low, long.high) == pytest.approx((wide.low, wide.high), abs=0.03)


@settings(max_examples=40, deadline=None)  # the twin is slow by design
@given(st.integers(4, 16), st.integers(2, 5), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_pairwise_kappa_agrees_with_a_loop_over_pairs(n: int, people: int, k: int, seed: int) -> None:
    """Conger (1980) by definition, and its jackknife by leaving out each item in turn."""
    rng = generator(seed)
    votes = [
        (i, w, int(rng.integers(0, k)))
        for i in range(n)
        for w in rng.choice(people, rng.integers(1, people + 1), replace=False).tolist()
    ]
    rng.shuffle(votes)
    expected = looped_kappa(votes)
    item, worker, label = (np.array(column) for column in zip(*votes, strict=True))
    found = pairwise_kappa(item, worker, label, n_items=n, n_workers=people, n_classes=k)
    if expected is None or found is None:
        assert expected is found is None
        return
    assert found.value == pytest.approx(expected, abs=EXACT)
    shared = {i for i, _, _ in votes if sum(j == i for j, _, _ in votes) > 1}
    assert found.n == len(shared)
    if expected == 1.0:
        return
    left_out = [looped_kappa([one for one in votes if one[0] != i], fewest=1) for i in shared]
    values = np.array([one for one in left_out if one is not None])
    if not len(values) or np.ptp(values) < 1e-12:
        assert (found.low, found.high) == (-1.0, 1.0)
        return
    half = 1.959964 * np.sqrt((len(shared) - 1) / len(shared) * np.sum((values - values.mean()) ** 2))
    assert found.low == pytest.approx(max(-1.0, expected - half), abs=1e-6)


def looped_kappa(votes: list[tuple[int, int, int]], *, fewest: int = 2) -> float | None:
    """Mean agreement over all pairs of votes on one item, corrected by the same pairs' mean chance."""
    pairs = [(one, two) for one in votes for two in votes if one[0] == two[0] and one[1] < two[1]]
    shared = {one[0] for one, _ in pairs}
    if not pairs:
        return None
    said = {w: [label for i, v, label in votes if v == w and i in shared] for _, w, _ in votes}

    def chance(a: int, b: int) -> float:
        return sum(said[a].count(c) / len(said[a]) * said[b].count(c) / len(said[b]) for c in set(said[a]))

    observed = np.mean([one[2] == two[2] for one, two in pairs])
    expected = np.mean([chance(one[1], two[1]) for one, two in pairs])
    if len(shared) < fewest or expected >= 1.0:
        return None
    return float((observed - expected) / (1 - expected))


@settings(max_examples=25)
@given(st.integers(5, 60), st.integers(2, 8), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_dawid_skene_only_climbs(n: int, people: int, k: int, seed: int) -> None:
    """EM never lowers what it maximises (Dempster, Laird and Rubin 1977), whatever the answers are."""
    rng = generator(seed)
    item = np.repeat(np.arange(n), 3)
    worker, label = rng.integers(0, people, 3 * n), rng.integers(0, k, 3 * n)
    model = dawid_skene(item, worker, label, n_items=n, n_workers=people, n_classes=k)
    assert len(model.objective) == model.iterations
    assert np.diff(model.objective).min(initial=0.0) >= -1e-8 * abs(model.objective[0])


def test_dawid_skene_refuses_an_item_nobody_labelled() -> None:
    with pytest.raises(InputError):
        dawid_skene([0, 2], [0, 0], [1, 1], n_items=3, n_workers=1, n_classes=2)


@pytest.mark.data
def test_product_pairs_reproduce_the_published_accuracies(data_dir: Path) -> None:
    """Zheng et al. (2017): majority vote .8966; Dawid-Skene about .9366, this one reaches .9400."""
    with (data_dir / "annotators_crowd_truth" / "product.answers.csv").open(encoding="utf-8") as lines:
        answers = list(csv.reader(lines))[1:]
    with (data_dir / "annotators_crowd_truth" / "product.truth.csv").open(encoding="utf-8") as lines:
        gold = dict(list(csv.reader(lines))[1:])
    questions, item = np.unique([row[0] for row in answers], return_inverse=True)
    people, worker = np.unique([row[1] for row in answers], return_inverse=True)
    label = np.array([int(row[2]) for row in answers])
    truth = np.array([int(gold[question]) for question in questions])
    vote = majority(item, label, n_items=len(questions), n_classes=2)
    assert (vote.winner == truth).mean() == pytest.approx(0.8966, abs=5e-5)
    model = dawid_skene(item, worker, label, n_items=len(questions), n_workers=len(people), n_classes=2)
    assert (model.posterior.argmax(axis=1) == truth).mean() == pytest.approx(0.9366, abs=CROWD)
