"""The simulated shop as a whole: repeatable, composable, shaped for the platform, and honestly hard."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC
from tests.simulation.conftest import DAY, SEED, START

from mangaassist.core.errors import InputError
from mangaassist.core.identity import example_id
from mangaassist.core.language import detect_language
from mangaassist.labels.records import EXAMPLES_TABLE, examples_frame, labels_frame
from mangaassist.simulation.conversations import LABELS, Season
from mangaassist.simulation.phrasings import OUT_OF_SCOPE
from mangaassist.simulation.samples import Sample
from mangaassist.simulation.shoppers import COHORTS, DEVICES, feature_rows, orders_90d
from mangaassist.simulation.traffic import Request, outcome, worth
from mangaassist.simulation.world import Size, World, build_world
from mangaassist.stories.intent import cohorts, intents

SMALL = Size(labelled=300, golden=100, requests_per_day=200, shoppers=100)


def test_two_worlds_of_one_seed_are_one_world() -> None:
    first, again = build_world(3, START, SMALL), build_world(3, START, SMALL)
    window = (START, START + DAY)
    assert first.history() == again.history()
    assert first.golden() == again.golden()
    assert first.requests(*window) == again.requests(*window)
    assert first.vendor_labels(first.history()) == again.vendor_labels(again.history())
    assert first.llm_labels(first.history()) == again.llm_labels(again.history())
    assert first.feature_rows(*window).equals(again.feature_rows(*window))
    other = build_world(4, START, SMALL)
    assert first.history() != other.history()
    assert first.requests(*window) != other.requests(*window)


def test_windows_compose(world: World) -> None:
    """The requests of two adjacent windows are those of their union, whatever was asked for before."""
    cuts = [START, START + timedelta(hours=7), START + DAY, START + timedelta(hours=25), START + 3 * DAY]
    pieces = [one for since, until in pairwise(cuts) for one in world.requests(since, until)]
    whole = world.requests(cuts[0], cuts[-1])
    assert pieces == whole
    assert len({one.request_id for one in whole}) == len(whole)
    assert [one.at for one in whole] == sorted(one.at for one in whole)


def test_history_ends_where_traffic_begins(world: World, history: list[Sample]) -> None:
    assert all(world.history_start <= one.captured_at < START for one in history)
    assert 0.95 * world.size.labelled < len(history) < 1.05 * world.size.labelled
    with pytest.raises(InputError, match="traffic window"):
        world.requests(START - DAY, START)
    with pytest.raises(InputError, match="traffic window"):
        world.requests(START, START + timedelta(days=world.size.future_days + 1))


def test_rows_fit_the_label_tables(world: World, history: list[Sample], golden: list[Sample]) -> None:
    """LAB-1."""
    rows = [one.example for one in (*history, *golden)]
    frame = examples_frame(rows, model_target="intent", ingested_at=START)
    assert frame.columns == list(EXAMPLES_TABLE)
    assert frame["example_id"].n_unique() == len(rows)
    assert frame["example_id"].to_list() == [one.example_id for one in (*history, *golden)]
    assert set(frame["role"]) == {"train", "golden"}
    labels = labels_frame(world.vendor_labels(history[:50]), model_target="intent")
    assert set(labels["review_status"]) == {"draft"}
    assert history[0].example_id == example_id(history[0].example.text, "intent")


def test_the_truth_is_not_in_what_gets_stored(history: list[Sample]) -> None:
    """Only the family's name hints at it, under a key the story drops."""
    for one in history[:200]:
        visible = {key: value for key, value in one.example.attributes.items() if key != "simulated_family"}
        assert one.intent not in map(str, visible.values())


def test_conversations_have_one_to_five_turns_of_one_shopper_in_order(world: World) -> None:
    found: dict[str, list[Request]] = {}
    for one in world.requests(START, START + 2 * DAY):
        found.setdefault(one.turn.conversation, []).append(one)
    lengths = Counter(len(turns) for turns in found.values())
    assert set(lengths) == {1, 2, 3, 4, 5}
    for turns in found.values():
        assert [one.turn.turn for one in turns] == list(range(1, len(turns) + 1))
        assert len({one.user_id for one in turns}) == 1
        assert turns[-1].at - turns[0].at < timedelta(minutes=15)


def test_requests_say_only_true_things(world: World) -> None:
    requests = world.requests(START, START + DAY)
    assert 0.85 < len(requests) / world.size.requests_per_day < 1.15
    assert all(one.language == detect_language(one.text) for one in requests)
    assert {one.device for one in requests} == set(DEVICES)
    assert {one.cohort for one in requests} == set(COHORTS)
    assert set(LABELS) == {one.true_intent for one in requests}


def test_cohorts_are_the_story_s_cohorts_given_the_features_of_that_moment(world: World) -> None:
    """The simulation and the story never import each other; this is where they are held together."""
    requests = world.requests(START, START + DAY)
    who = np.array([one.turn.shopper for one in requests])
    at = np.array([one.at.timestamp() for one in requests])
    features = pl.DataFrame(
        {
            "orders_90d": orders_90d(world.shoppers, who, at),
            "account_age_days": (at - world.shoppers.created[who]) / 86_400,
        }
    )
    derived = features.select(cohorts.cohort()).to_series().to_list()
    assert derived == [one.cohort for one in requests]
    assert set(LABELS) == {*intents.INTENTS, intents.OUT_OF_SCOPE}


def test_order_counts_equal_counting_by_hand(world: World) -> None:
    rng = np.random.default_rng(0)
    who = rng.integers(len(world.shoppers), size=60)
    at = START.timestamp() - rng.random(60) * 80 * 86_400
    keys = world.shoppers.order_keys
    by_hand = [
        sum(1 for key in keys if divmod(key, 1e11)[0] == shopper and when - 90 * 86_400 < key % 1e11 <= when)
        for shopper, when in zip(who.tolist(), at.tolist(), strict=True)
    ]
    assert orders_90d(world.shoppers, who, at).tolist() == by_hand
    assert max(by_hand) > 0


def test_feature_rows_become_known_after_they_happen(world: World) -> None:
    """FEA-1 needs both times."""
    rows = feature_rows(world.shoppers, np.random.default_rng(1), since=START - 10 * DAY, until=START)
    delay = (rows["ingested_at"] - rows["event_ts"]).dt.total_seconds() / 3600
    assert rows.schema["event_ts"] == pl.Datetime("us", "UTC")
    assert delay.min() > 0
    assert 1.0 < float(np.median(delay)) < 3.0
    assert 0.01 < float((delay > 24).mean()) < 0.03
    assert rows["account_age_days"].min() >= 0
    assert rows.filter(pl.struct("user_id", "event_ts").is_duplicated()).is_empty()


def test_golden_weighs_labels_alike_and_covers_every_language(golden: list[Sample]) -> None:
    labels = Counter(one.intent for one in golden)
    assert set(labels) == set(LABELS)
    assert min(labels.values()) > 0.02 * len(golden)
    assert min(Counter(one.language for one in golden).values()) > 0.15 * len(golden)


@pytest.mark.parametrize(
    ("truth", "label", "abstains", "expected"),
    [
        ("order_status", "order_status", False, "right"),
        ("order_status", "shipping_info", False, "wrong"),
        ("return_request", "order_status", False, "wrong_and_critical"),
        ("escalation", "escalation", False, "handed_over"),
        ("order_status", "order_status", True, "abstained"),
        (OUT_OF_SCOPE, "search_title", True, "declined"),
        (OUT_OF_SCOPE, OUT_OF_SCOPE, False, "declined"),
        (OUT_OF_SCOPE, "search_title", False, "wrong"),
    ],
)
def test_what_an_answer_is_worth(truth: str, label: str, abstains: bool, expected: str) -> None:
    assert worth(truth, label, abstains) == expected


def test_a_worse_model_resolves_visibly_less_on_the_same_requests(world: World) -> None:
    requests = world.requests(START, START + 2 * DAY)
    rng = np.random.default_rng(0)
    resolved, humans = {}, {}
    for accuracy in (0.95, 0.85):
        answers = [
            one.true_intent if draw < accuracy else "search_title"
            for one, draw in zip(requests, rng.random(len(requests)), strict=True)
        ]
        outcomes = [
            outcome(one, answer, abstains=False) for one, answer in zip(requests, answers, strict=True)
        ]
        resolved[accuracy] = np.mean([one.resolved for one in outcomes])
        humans[accuracy] = np.mean([one.asked_human for one in outcomes])
    assert resolved[0.95] - resolved[0.85] > 0.03
    assert humans[0.85] > humans[0.95]


def test_the_same_answer_has_the_same_outcome_and_a_right_one_never_a_worse(world: World) -> None:
    for one in world.requests(START, START + timedelta(hours=4)):
        right = outcome(one, one.true_intent, abstains=False)
        assert right == world.outcome(one, one.true_intent, abstains=False)
        wrong = outcome(one, "review_opinion", abstains=False)
        if worth(one.true_intent, "review_opinion", False).startswith("wrong"):
            assert right.resolved >= wrong.resolved
        assert one.at < right.known_at <= one.at + timedelta(days=5)


def test_outcomes_become_known_minutes_to_days_later(world: World) -> None:
    requests = world.requests(START, START + DAY)
    delays = np.array(
        [(outcome(one, "search_title", abstains=False).known_at - one.at).total_seconds() for one in requests]
    )
    assert (delays < 3600).mean() > 0.05
    assert (delays > 86_400).mean() > 0.01


def _shares(requests: list[Request], field: str) -> dict[str, float]:
    counts = Counter(getattr(one, field) for one in requests)
    return {name: number / len(requests) for name, number in counts.items()}


def _psi(before: dict[str, float], after: dict[str, float]) -> float:
    """Population stability index, written out (the slow twin of the platform's)."""
    return sum(
        (after.get(name, 1e-4) - before.get(name, 1e-4))
        * np.log(after.get(name, 1e-4) / before.get(name, 1e-4))
        for name in {*before, *after}
    )


def test_the_season_moves_the_inputs_and_not_the_intents(world: World, seasonal: World) -> None:
    """DRF-1: which kind of drift fires is planted, so that a detector can be held against it."""
    window = (START, START + 3 * DAY)
    before, after = world.requests(*window), seasonal.requests(*window)
    assert _psi(_shares(before, "language"), _shares(after, "language")) > 0.25
    assert _psi(_shares(before, "true_intent"), _shares(after, "true_intent")) < 0.02
    assert _psi(_shares(before, "cohort"), _shares(after, "cohort")) < 0.05
    assert np.mean(["-season-" in one.family for one in after]) > 0.05
    assert not any("-season-" in one.family or "-recall-" in one.family for one in before)


def test_a_surge_moves_the_intents() -> None:
    season = Season(begins=START, audience=1.0, vocabulary=0.0, surge_begins=START + DAY, surge=2.0)
    world = build_world(SEED, START, season=season)
    before = _shares(world.requests(START, START + DAY), "true_intent")["stock_availability"]
    after = _shares(world.requests(START + DAY, START + 4 * DAY), "true_intent")["stock_availability"]
    assert 1.5 < after / before < 2.3


def test_the_recall_begins_when_planned_and_is_japanese(seasonal: World) -> None:
    requests = seasonal.requests(START, START + 6 * DAY)
    recalls = [one for one in requests if "-recall-" in one.family]
    assert min(one.at for one in recalls) >= START + 3 * DAY
    assert {one.true_intent for one in recalls} == {"return_request"}
    late = [one for one in requests if one.at >= START + 3 * DAY]
    assert len(recalls) / len(late) > 0.08


def test_live_samples_are_whole_conversations_without_repeats(world: World, golden: list[Sample]) -> None:
    requests = world.requests(START, START + DAY)
    samples = world.live(requests, limit=200)
    assert 150 < len(samples) < 250
    chosen = {one.example.group_id for one in samples}
    missing = {one.text for one in requests if one.turn.conversation in chosen}
    missing -= {one.example.text for one in samples}
    held_out = {one.example.text.casefold() for one in golden}
    assert len(missing) < 0.2 * len(samples)
    for text in missing:
        assert text.casefold() in held_out or Counter(_folded(requests))[text.casefold()] > 1


def _folded(requests: list[Request]) -> list[str]:
    return [" ".join(one.text.casefold().split()) for one in requests]


@pytest.mark.parametrize(
    ("start", "size"),
    [
        (datetime(2026, 11, 2), SMALL),  # noqa: DTZ001 - the naive time is what is being refused
        (START, Size(shoppers=0)),
        (START, Size(labelled=-5)),
    ],
)
def test_an_impossible_world_is_refused(start: datetime, size: Size) -> None:
    with pytest.raises(InputError):
        build_world(1, start, size)


def test_the_start_is_midnight_utc() -> None:
    assert build_world(1, START.astimezone(UTC) + timedelta(hours=9), SMALL).start == START


def test_difficulty_is_in_the_intended_band(history: list[Sample], golden: list[Sample]) -> None:
    """Hard enough to be honest: far above both floors, below certainty. TF-IDF stands in for the default."""
    some = history[::2]
    features = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=2)
    train = features.fit_transform([one.example.text for one in some])
    held_out = features.transform([one.example.text for one in golden])
    labels = [one.intent for one in some]
    truth = np.array([one.intent for one in golden])
    inside = truth != OUT_OF_SCOPE
    linear = LinearSVC(C=0.5, tol=1e-2, random_state=0).fit(train, labels)
    accuracy = (linear.predict(held_out) == truth)[inside].mean()
    centroid = (NearestCentroid().fit(train, labels).predict(held_out) == truth)[inside].mean()
    majority = Counter(labels).most_common(1)[0][0]
    assert 0.88 <= accuracy <= 0.97
    assert accuracy > centroid + 0.05
    assert (truth == majority).mean() < 0.15


def test_a_world_moved_by_whole_weeks_says_the_same_things() -> None:
    """The demo ends today, whatever today is, and shows what it showed on any other day."""
    later = START + timedelta(weeks=31)
    here, there = (build_world(5, start, SMALL) for start in (START, later))
    one, two = (world.requests(world.start, world.start + timedelta(days=2)) for world in (here, there))
    assert [(a.text, a.user_id, a.request_id) for a in one] == [
        (b.text, b.user_id, b.request_id) for b in two
    ]
    votes = [world.vendor_labels(world.history()) for world in (here, there)]
    assert [(a.label, a.annotator_id) for a in votes[0]] == [(b.label, b.annotator_id) for b in votes[1]]
