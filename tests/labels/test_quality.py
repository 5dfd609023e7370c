"""Lots by agreement, sources by precision, English and Japanese apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from tests.labels.rows import POLICY, STORY, example, examples, identity, labels, vote

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.agreement import multiply_annotated, pairwise_kappa
from mangaassist.labels.consensus import consensus
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.lots import lot_votes, review, review_lots
from mangaassist.labels.quality import (
    agreement_verdicts,
    calibration_sample,
    precision_verdicts,
)
from mangaassist.labels.records import Example, Label
from mangaassist.labels.votes import current_votes
from mangaassist.stats.agreement import cohen_kappa

CLASSES = ("order", "return", "greeting", "other")
TEAM = ("ann", "bo", "cy")


def lot(
    accuracy: float,
    *,
    name: str = "lot-1",
    items: int = 60,
    japanese: bool = False,
    annotators: tuple[str, ...] = TEAM,
    seed: int = 1,
) -> tuple[list[Example], list[Label]]:
    """A lot in which all annotators see every item and are right with one probability."""
    generator = np.random.default_rng(seed)
    texts, votes = [], []
    for n in range(items):
        text = f"質問{n} {name}番" if japanese else f"question {n} of {name}"
        truth = int(generator.integers(len(CLASSES)))
        texts.append(example(text, language=None))
        for who in annotators:
            slip = int(generator.integers(1, len(CLASSES))) if generator.random() > accuracy else 0
            chosen = CLASSES[(truth + slip) % len(CLASSES)]
            votes.append(vote(text, chosen, "vendor", who, lot=name))
    return texts, votes


def wide(answers: dict[str, list[str]]) -> pl.DataFrame:
    """Answers per annotator, one per item, as votes."""
    return pl.DataFrame(
        [(f"item {n:03d}", who, label) for who, given in answers.items() for n, label in enumerate(given)],
        schema=["example_id", "annotator_id", "label"],
        orient="row",
    )


def test_two_annotators_give_cohens_kappa() -> None:
    """LAB-4: the pair case is Cohen's, value for value; the interval is close to the asymptotic one."""
    generator = np.random.default_rng(3)
    first = [CLASSES[i] for i in generator.integers(0, 4, 300)]
    second = [one if generator.random() < 0.8 else CLASSES[int(generator.integers(4))] for one in first]
    mine, theirs = pairwise_kappa(wide({"a": first, "b": second})), cohen_kappa(first, second)
    assert mine is not None
    assert mine.value == pytest.approx(theirs.value, abs=1e-12)
    assert (mine.low, mine.high) == (
        pytest.approx(theirs.low, abs=0.01),
        pytest.approx(theirs.high, abs=0.01),
    )
    assert mine.n == 300


def test_three_annotators_give_the_loop_over_pairs() -> None:
    """Conger's kappa against a plain loop; annotators who saw different items included."""
    generator = np.random.default_rng(4)
    rows = [
        (f"{item}", who, CLASSES[0 if generator.random() < 0.6 else int(generator.integers(4))])
        for item in range(80)
        for who in generator.choice(["a", "b", "c", "d", "e"], 3, replace=False)
    ]
    votes = pl.DataFrame(rows, schema=["example_id", "annotator_id", "label"], orient="row")
    given = {(item, who): label for item, who, label in rows}
    share = {
        who: {label: np.mean([v == label for (_, w), v in given.items() if w == who]) for label in CLASSES}
        for who in "abcde"
    }
    observed, chance = [], []
    for item in {row[0] for row in rows}:
        for one, two in combinations(sorted(who for i, who in given if i == item), 2):
            observed.append(given[item, one] == given[item, two])
            chance.append(sum(share[one][label] * share[two][label] for label in CLASSES))
    expected = (np.mean(observed) - np.mean(chance)) / (1 - np.mean(chance))
    found = pairwise_kappa(votes)
    assert found is not None
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high


def test_the_jackknife_interval_covers() -> None:
    """Intervals at 95%; fewer than 85 hits in 100 would then happen less than once in ten thousand runs."""
    truth = 0.85**2  # of two people who know 85% and guess the rest among evenly spread classes
    generator = np.random.default_rng(6)
    intervals = [pairwise_kappa(_simulated(generator, 100)) for _ in range(100)]
    covered = [one is not None and one.low <= truth <= one.high for one in intervals]
    assert np.mean(covered) >= 0.85


def _simulated(generator: np.random.Generator, items: int) -> pl.DataFrame:
    truth = generator.integers(0, 4, items)
    answers = np.where(generator.random((3, items)) < 0.85, truth, generator.integers(0, 4, (3, items)))
    return pl.DataFrame(
        {
            "example_id": np.tile(np.arange(items), 3),
            "annotator_id": np.repeat(["a", "b", "c"], items),
            "label": answers.ravel(),
        }
    )


def test_where_agreement_says_nothing() -> None:
    """One class makes agreement certain by chance; complete agreement is not complete knowledge."""
    assert pairwise_kappa(wide({"a": ["x"] * 20, "b": ["x"] * 20})) is None
    assert pairwise_kappa(wide({"a": ["x"]})) is None
    perfect = pairwise_kappa(wide({"a": ["x", "y"] * 10, "b": ["x", "y"] * 10}))
    assert perfect is not None
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.5 < perfect.low < 0.8


def test_only_items_three_people_saw_count() -> None:
    """LAB-4: kappa is computed on the triple-annotated subset."""
    votes = pl.concat(
        [wide({"a": ["x"], "b": ["x"], "c": ["y"]}), wide({"d": ["x"] * 3, "e": ["y"] * 3})[1:]]
    )
    assert multiply_annotated(votes)["example_id"].unique().to_list() == ["item 000"]


@pytest.mark.parametrize(
    ("accuracy", "outcome", "status", "eligible"),
    [
        (0.98, "accepted", "qa_passed", True),
        (0.92, "flagged", "qa_passed", False),
        (0.75, "rejected", "qa_failed", None),
    ],
)
def test_a_lot_is_accepted_flagged_or_rejected(
    store: LabelStore, accuracy: float, outcome: str, status: str, eligible: bool | None
) -> None:
    """LAB-4: below 0.65 rejected, below 0.75 accepted but out of hold-outs; written as new records."""
    texts, votes = lot(accuracy, items=200, seed=11)
    policy = replace(POLICY, holdout_floor=0.85)
    story = replace(STORY, labels=policy)
    store.add_examples(story, examples(*texts))
    store.add_labels(story, labels(*votes))
    assert consensus(store.examples(story), store.labels(story), policy).is_empty()
    reviews, batch = review_lots(store, story, actor="qa")
    assert [(one.lot, one.pool, one.outcome, one.items) for one in reviews] == [("lot-1", "en", outcome, 200)]
    assert batch is not None
    assert batch.labels == 600
    assert store.labels(story).height == 1200
    settled = consensus(store.examples(story), store.labels(story), policy)
    majority = settled.filter(pl.col("resolved_by") != "order")
    assert majority["holdout_eligible"].unique().to_list() == ([] if eligible is None else [eligible])
    assert set(store.labels(story).filter(label_version=2)["review_status"]) == {status}
    assert review_lots(store, story, actor="qa")[1] is None
    # Other floors and back again: what was written once before is written anew.
    for floor, expected in ((0.0, {"qa_passed"}), (policy.agreement_floor, {status})):
        other = replace(story, labels=replace(policy, agreement_floor=floor, holdout_floor=floor or 0.85))
        review_lots(store, other, actor="qa")
        assert set(current_votes(store.labels(story))["review_status"]) == expected


def test_languages_are_judged_apart(store: LabelStore) -> None:
    """LAB-7: a bad Japanese half of a lot goes back, the English half stays."""
    english, japanese = lot(0.97), lot(0.6, japanese=True, seed=2)
    store.add_examples(STORY, examples(*english[0], *japanese[0]))
    store.add_labels(STORY, labels(*english[1], *japanese[1]))
    reviews, _ = review_lots(store, STORY, actor="qa")
    assert [(one.pool, one.outcome) for one in reviews] == [("en", "accepted"), ("ja", "rejected")]
    en, ja = agreement_verdicts(store.examples(STORY), store.labels(STORY), POLICY)
    assert (en.name, en.status) == ("labels.agreement.en", Status.PASS)
    assert (ja.name, ja.status, ja.blocking) == ("labels.agreement.ja", Status.FAIL, True)
    assert "must be given again" in ja.sentence


def test_a_pool_below_the_floor_fails() -> None:
    """LAB-7: training refuses if either pool is below the floor, however its labels came to be accepted."""
    texts, votes = lot(0.7)
    en, ja = agreement_verdicts(examples(*texts), labels(*votes, status="qa_passed"), POLICY)
    assert en.status is Status.FAIL
    assert en.value is not None
    assert en.low is not None
    assert en.low < en.value < 0.65
    assert (ja.status, ja.blocking) == (Status.INSUFFICIENT, False)


@pytest.mark.parametrize(("annotators", "items"), [(TEAM, 9), (TEAM[:2], 60)])
def test_too_little_overlap_stays_a_draft_and_blocks(annotators: tuple[str, ...], items: int) -> None:
    """Agreement nobody measured is not agreement."""
    texts, votes = lot(0.97, annotators=annotators, items=items)
    frames = (examples(*texts), labels(*votes))
    (found,) = review(lot_votes(*frames, POLICY), POLICY)
    assert (found.outcome, found.kappa) == ("unmeasured", None)
    assert "stays a draft" in found.sentence
    verdict = agreement_verdicts(*frames, POLICY)[0]
    assert (verdict.status, verdict.blocking) == (Status.INSUFFICIENT, True)


def test_unsettled_disagreements_are_counted_until_a_senior_settles_them() -> None:
    """LAB-4: disagreements are escalated to a senior annotator, who is no annotator of the lot's kappa."""
    texts = examples(example("a"), example("b"))
    two = [
        vote(text, label, "vendor", who, lot="l") for text in "ab" for who, label in (("p", "x"), ("q", "y"))
    ]
    senior = vote("a", "x", "vendor", "boss", lot="l", escalation=True)
    (before,) = review(lot_votes(texts, labels(*two), POLICY), POLICY)
    (after,) = review(lot_votes(texts, labels(*two, senior), POLICY), POLICY)
    assert (before.unsettled, after.unsettled) == (2, 1)
    assert after.items == 0


def precision(right: int, wrong: int, floor: float = 0.9) -> Verdict:
    texts = [f"t{n}" for n in range(right + wrong)]
    votes = [vote(text, "a", "vendor", "ann") for text in texts]
    votes += [vote(text, "a" if n < right else "b", "llm_small", "m") for n, text in enumerate(texts)]
    (verdict,) = precision_verdicts(
        examples(*(example(text) for text in texts)), labels(*votes), replace(POLICY, precision_floor=floor)
    )
    assert verdict.name == "labels.precision.llm_small"
    return verdict


@pytest.mark.parametrize(
    ("right", "wrong", "status"),
    [
        (29, 0, Status.PASS),  # the exact bound of 29 of 29 is 0.9019
        (28, 0, Status.INSUFFICIENT),
        (92, 8, Status.INSUFFICIENT),
        (480, 20, Status.PASS),
        (89, 11, Status.FAIL),
    ],
)
def test_precision_is_held_against_its_lower_bound(right: int, wrong: int, status: Status) -> None:
    """LAB-6: the floor must be shown, not met by luck; only a measured shortfall blocks."""
    verdict = precision(right, wrong)
    assert verdict.status is status
    assert verdict.blocking is (status is not Status.INSUFFICIENT)
    assert verdict.value == pytest.approx(right / (right + wrong))
    assert (verdict.threshold, verdict.n) == (0.9, right + wrong)


def test_sources_nobody_checked_are_named_and_vendor_ties_prove_nothing() -> None:
    """LAB-6: without overlap there is no precision to speak of."""
    texts = examples(example("a"), example("b"))
    given = labels(
        vote("a", "x", "vendor", "p"),
        vote("a", "y", "vendor", "q"),
        vote("a", "x", "llm", "m"),
        vote("b", "x", "programmatic", "r"),
    )
    verdicts = precision_verdicts(texts, given, POLICY)
    assert [(one.name, one.status, one.n) for one in verdicts] == [
        ("labels.precision.llm", Status.INSUFFICIENT, 0),
        ("labels.precision.programmatic", Status.INSUFFICIENT, 0),
    ]


def test_the_weekly_sample_is_of_labels_the_vendor_has_not_seen() -> None:
    """LAB-6: 500 examples a week, drawn evenly."""
    texts = [f"t{n}" for n in range(40)]
    frames = (
        examples(*(example(text) for text in texts)),
        labels(*(vote(text, "a", "llm", "m") for text in texts), vote("t0", "a", "vendor", "ann")),
    )
    drawn = calibration_sample(*frames, POLICY, "llm", generator=np.random.default_rng(1), n=10)
    assert len(set(drawn)) == 10
    everything = calibration_sample(*frames, POLICY, "llm", generator=np.random.default_rng(1))
    assert set(everything) == {identity(text) for text in texts[1:]}
    with pytest.raises(InputError, match="one that has labels"):
        calibration_sample(*frames, POLICY, "programmatic", generator=np.random.default_rng(1))
