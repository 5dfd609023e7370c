"""Simulated label sources behave as their parameters say."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from datetime import timedelta

import numpy as np
import pytest
from tests.simulation.conftest import DAY, SEED, START

from mangaassist.core.language import Language
from mangaassist.labels.records import Label
from mangaassist.simulation.annotators import (
    HARD_ERROR,
    HARD_SHARE,
    RELATED,
    Annotator,
    Misreading,
    Vendor,
    annotate,
    hire,
    pool_of,
)
from mangaassist.simulation.conversations import LABELS, Season
from mangaassist.simulation.labeller import PROMPTS
from mangaassist.simulation.samples import Sample
from mangaassist.simulation.world import World, build_world
from mangaassist.stats.agreement import cohen_kappa

# Five standard errors: a right implementation fails this about once in a million runs.
SIGMAS = 5.0


def _keyed(identity: str) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(identity.encode()).hexdigest()[:12], 16))


def _truth(samples: list[Sample]) -> dict[str, str]:
    return {one.example_id: one.intent for one in samples}


def _near(observed: float, expected: float, n: int) -> bool:
    return abs(observed - expected) < SIGMAS * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("error", [0.02, 0.05, 0.20])
def test_an_annotator_errs_as_often_as_their_parameter_says(history: list[Sample], error: float) -> None:
    people = tuple(Annotator(f"{pool}-{n}", pool, error) for pool in ("en", "ja") for n in range(3))
    vendor = Vendor(people, tuple(Annotator(f"{pool}-s", pool, 0.0) for pool in ("en", "ja")), START)
    truth = _truth(history)
    first_hand = [one for one in annotate(history, vendor, keyed=_keyed) if not one.escalation]
    wrong = np.mean([one.label != truth[one.example_id] for one in first_hand])
    # Wrongness is shared within a hard example, so examples, not votes, are counted as independent.
    expected = (1 - HARD_SHARE) * error + HARD_SHARE * max(error, HARD_ERROR)
    assert _near(float(wrong), expected, len(history))


def test_mistakes_are_mostly_related_labels(world: World, history: list[Sample]) -> None:
    truth = _truth(history)
    wrong = [one for one in world.vendor_labels(history) if one.label != truth[one.example_id]]
    related = np.mean([one.label in RELATED[truth[one.example_id]] for one in wrong])
    assert related > 0.8
    assert set(RELATED) == set(LABELS)
    assert all(label not in others for label, others in RELATED.items())


def test_the_overlap_plan_is_kept(world: World, history: list[Sample]) -> None:
    """LAB-4: 10% triple, 90% double, every disagreement at a senior."""
    votes: dict[str, list[Label]] = defaultdict(list)
    for one in world.vendor_labels(history):
        votes[one.example_id].append(one)
    first_hand = {name: [one for one in them if not one.escalation] for name, them in votes.items()}
    counts = Counter(len(them) for them in first_hand.values())
    assert set(counts) == {2, 3}
    assert len(votes) == len(history)
    assert _near(counts[3] / len(votes), 0.10, len(votes))
    for name, them in votes.items():
        seniors = [one for one in them if one.escalation]
        labels = {one.label for one in first_hand[name]}
        assert len(seniors) == (1 if len(labels) > 1 else 0)
        assert len({one.annotator_id for one in them}) == len(them)
        assert len({one.lot for one in them}) == 1


def test_pools_are_separate(world: World, history: list[Sample]) -> None:
    """LAB-7: English and Japanese annotators never meet in a lot; mixed text goes to the Japanese pool."""
    languages = {one.example_id: one.language for one in history}
    for one in world.vendor_labels(history):
        pool = pool_of(languages[one.example_id])
        assert one.lot is not None
        assert one.lot.startswith(f"{pool}-2026-W")
        assert one.annotator_id is not None
        assert one.annotator_id.startswith(f"vendor-{pool}-")
    assert pool_of(Language.MIXED) == "ja"


def _kappas(labels: list[Label]) -> dict[str, float]:
    """Smallest pairwise kappa of each lot with fifty shared examples or more."""
    by_lot: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for one in labels:
        if not one.escalation:
            by_lot[str(one.lot)][one.example_id][str(one.annotator_id)] = one.label
    found = {}
    for lot, examples in by_lot.items():
        pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for said in examples.values():
            people = sorted(said)
            for i, first in enumerate(people):
                for second in people[i + 1 :]:
                    pairs[(first, second)].append((said[first], said[second]))
        values = [
            cohen_kappa([a for a, _ in both], [b for _, b in both]).value
            for both in pairs.values()
            if len(both) >= 50
        ]
        if values:
            found[lot] = min(values)
    return found


def test_a_lapsed_japanese_annotator_spoils_japanese_lots_only() -> None:
    """LAB-4, LAB-7: agreement tells the pools apart."""
    lapse = START - 28 * DAY
    world = build_world(SEED, START, japanese_lapse=lapse)
    kappas = _kappas(world.vendor_labels(world.history()))
    english = [value for lot, value in kappas.items() if lot.startswith("en")]
    japanese = [value for lot, value in kappas.items() if lot.startswith("ja")]
    assert len(english) >= 8
    assert min(english) > 0.75
    assert min(japanese) < 0.5
    healthy = _kappas(build_world(SEED, START).vendor_labels(world.history()))
    assert min(healthy.values()) > 0.75


def test_vendor_labels_come_late_and_can_be_asked_for_as_of_a_day(
    world: World, history: list[Sample]
) -> None:
    labels = world.vendor_labels(history)
    delays = np.array([(one.labeled_at - one.captured_at) / timedelta(days=1) for one in labels])
    assert delays.min() > 0
    assert 0.8 < np.median(delays) < 2.5
    assert (delays > 7).mean() > 0.01
    known = world.vendor_labels(history, known_by=START)
    assert {one.example_id for one in known} < {one.example_id for one in labels}
    assert all(one.labeled_at <= START for one in known)


def test_the_same_people_label_a_part_as_they_would_the_whole(world: World, history: list[Sample]) -> None:
    part = history[100:140]
    chosen = {one.example_id for one in part}
    whole = [one for one in world.vendor_labels(history) if one.example_id in chosen]
    assert world.vendor_labels(part) == whole


def test_a_misreading_changes_its_families_only_and_leaves_no_disagreement(seasonal: World) -> None:
    """The planted fault: wrong labels that agreement cannot see."""
    requests = seasonal.requests(START, START + 6 * DAY)
    samples = seasonal.live(requests, limit=1_000)
    recalled = {one.example_id for one in samples if "ja-recall" in one.family}
    right = seasonal.vendor_labels(samples)
    wrong = seasonal.vendor_labels(samples, misreading=Misreading())
    assert len(recalled) > 20
    untouched = [one for one in right if one.example_id not in recalled]
    assert untouched == [one for one in wrong if one.example_id not in recalled]
    misread = [one for one in wrong if one.example_id in recalled]
    assert {one.label for one in misread} == {"order_status"}
    assert not any(one.escalation for one in misread)
    # A later delivery replaces an earlier one only when it comes from the same people.
    voters = {(one.example_id, one.annotator_id) for one in misread}
    assert voters <= {(one.example_id, one.annotator_id) for one in right}


def test_golden_labels_are_the_seniors_and_nearly_right(world: World, golden: list[Sample]) -> None:
    labels = world.golden_labels(golden)
    truth = _truth(golden)
    assert {one.annotator_id for one in labels} == {"vendor-en-senior", "vendor-ja-senior"}
    assert all(one.lot is None and one.role == "golden" for one in labels)
    assert np.mean([one.label == truth[one.example_id] for one in labels]) > 0.97


@pytest.mark.parametrize("prompt", sorted(PROMPTS))
def test_the_simulated_model_says_what_it_is_and_errs_as_declared(
    world: World, history: list[Sample], prompt: str
) -> None:
    """LAB-6 has a worse prompt to catch."""
    model = PROMPTS[prompt]
    labels = world.llm_labels(history, model=model)
    english = {one.example_id: one.intent for one in history if one.language is Language.EN}
    wrong = [one.label != english[one.example_id] for one in labels if one.example_id in english]
    assert _near(float(np.mean(wrong)), model.error, len(wrong))
    assert {one.annotator_id for one in labels} == {f"simulated-llm/{prompt}"}
    assert all(one.metadata["simulated"] is True and one.source == "llm" for one in labels)
    assert all(one.confidence is not None and 0 < one.confidence < 1 for one in labels)


def test_rules_that_abstain_give_no_label(world: World, history: list[Sample]) -> None:
    labels = world.programmatic_labels(
        history,
        lambda one: ("return_request", "says_refund") if "refund" in one.text else None,
        version="rules-1",
    )
    expected = [one.example_id for one in history if "refund" in one.example.text]
    assert [one.example_id for one in labels] == expected
    assert {(one.source, one.annotator_id) for one in labels} == {("programmatic", "rules-1")}


def test_hiring_repeats_with_its_generator() -> None:
    first, again, other = (hire(np.random.default_rng(seed), since=START) for seed in (1, 1, 2))
    assert first == again != other
    assert len({one.error for one in first.annotators}) == len(first.annotators)


def test_a_season_without_recall_has_nothing_to_misread() -> None:
    world = build_world(SEED, START, season=Season(begins=START))
    samples = world.live(world.requests(START, START + 2 * DAY), limit=300)
    assert world.vendor_labels(samples) == world.vendor_labels(samples, misreading=Misreading())
