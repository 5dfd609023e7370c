"""From events to corrected labels: placing, propensities, weights, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.labels.rows import NOW

from mangaassist.core.identity import example_id
from mangaassist.core.story import ImplicitPolicy, LabelPolicy, Story
from mangaassist.core.verdict import Status
from mangaassist.labels.event_checks import judge
from mangaassist.labels.event_intake import LIMITS
from mangaassist.labels.events import EVENT_SCHEMA
from mangaassist.labels.exposures import SKEW, Shown, shown_rows
from mangaassist.labels.implicit import changes, count, mature, pair_text, statements
from mangaassist.labels.propensities import Correction, Propensity, corrections
from mangaassist.labels.records import LABELS_TABLE, frame_schema
from mangaassist.simulation.clicks import EXAMINATION, SURFACE, simulate_clicks
from mangaassist.stats.off_policy import effective_sample_size

POLICY = ImplicitPolicy()
SHOP = Story(
    "shop", "text-classification", "Whether an item fits.", labels=LabelPolicy(("vendor", "implicit"))
)
SHOWN_AT = NOW - timedelta(days=20)


def table(events: Sequence[dict[str, Any]] | pl.DataFrame, *, now: datetime = NOW) -> pl.DataFrame:
    """Events as the table holds them; none may be refused."""
    found = judge(events, now=now, limits=replace(LIMITS, oldest=timedelta(days=400)))
    assert found.refusals == ()
    typed = found.rows.with_columns(pl.col("at", "known_at").str.to_datetime(time_zone="UTC"))
    return pl.DataFrame(pl.from_arrow(typed.select(EVENT_SCHEMA.names).to_arrow().cast(EVENT_SCHEMA)))


def impression(request: str, at: datetime = SHOWN_AT, **changed: Any) -> dict[str, Any]:
    return {
        "event_id": f"{request}-shown",
        "kind": "impression",
        "request_id": request,
        "at": at.isoformat(),
        "surface": "search",
        "device": "mobile",
        "language": "en",
        "query": "one piece",
        "items": ["a", "b", "c"],
        **changed,
    }


def act(
    request: str, kind: str, position: int, *, at: datetime = SHOWN_AT, key: str = "", **changed: Any
) -> dict[str, Any]:
    return {
        "event_id": key or f"{request}-{kind}-{position}",
        "kind": kind,
        "request_id": request,
        "at": at.isoformat(),
        "item": "abc"[position - 1] if position <= 3 else "z",
        "position": position,
        **changed,
    }


def correction(values: dict[int, float], *, status: Status = Status.PASS, floor: float = 0.05) -> Correction:
    """Known propensities on search and mobile."""
    from mangaassist.core.verdict import Verdict

    propensities = tuple(
        Propensity("search", "mobile", place, value, value, value, True, 1 / max(value, floor))
        for place, value in values.items()
    )
    return Correction("search", "mobile", "shuffled", 999, 999.0, propensities, Verdict("x", status, "."))


EXACT = correction({1: 1.0, 2: 0.5, 3: 0.25})


# --- placing acts on what was shown -----------------------------------------------------------------------


def test_acts_find_their_position() -> None:
    events = [
        impression("r"),
        act("r", "click", 2),
        act("r", "dwell", 2, dwell_ms=4_000),
        act("r", "dwell", 2, key="again", dwell_ms=40_000),
        act("r", "purchase", 3),
    ]
    shown = shown_rows(table(events), as_of=NOW)
    assert shown.rows["item"].to_list() == ["a", "b", "c"]
    assert shown.rows["clicked"].to_list() == [False, True, True]
    assert shown.rows["dwell_ms"].to_list() == [None, 40_000.0, None]
    assert shown.rows["purchased"].to_list() == [False, False, True]
    assert not any(shown.left_out.values())


def test_what_fits_no_list_is_counted_and_said() -> None:
    events = [
        impression("r"),
        impression("r", key := SHOWN_AT + timedelta(hours=1), event_id="shown again"),
        act("elsewhere", "click", 1),
        act("r", "click", 9),
        act("r", "click", 1, key="other item", item="b"),
        act("r", "click", 3, key="early", at=SHOWN_AT - SKEW - timedelta(seconds=1)),
    ]
    shown = shown_rows(table(events), as_of=NOW)
    assert shown.left_out == {
        "shown_twice": 1,
        "no_list": 1,
        "no_such_position": 1,
        "another_item": 1,
        "before_the_list": 1,
    }
    assert len(shown.sentences()) == 5
    assert not shown.rows["clicked"].any()
    assert set(shown.rows["at"]) == {SHOWN_AT} != {key}


def test_only_what_was_known_counts() -> None:
    """A click that arrives late is not there before it arrived, and neither is its list."""
    later = (NOW - timedelta(days=1)).isoformat()
    events = table([impression("r"), act("r", "click", 1, known_at=later), impression("s", known_at=later)])
    before = shown_rows(events.with_columns(known_at=_known(events)), as_of=NOW - timedelta(days=2))
    assert before.rows["request_id"].unique().to_list() == ["r"]
    assert not before.rows["clicked"].any()
    assert shown_rows(events, as_of=NOW).rows["clicked"].sum() == 1


def _known(events: pl.DataFrame) -> pl.Expr:
    return pl.when(pl.col("known_at") == NOW).then(pl.col("at")).otherwise("known_at")


def slow_rows(events: pl.DataFrame, *, as_of: datetime, excluded: Sequence[str]) -> list[dict[str, Any]]:
    """The slow obvious twin of shown_rows: one event after the other."""
    known: dict[str, dict[str, Any]] = {}
    for event in sorted(events.rows(named=True), key=lambda one: (one["known_at"], one["event_id"])):
        if event["known_at"] <= as_of:
            known.setdefault(event["event_id"], event)
    lists: dict[str, dict[str, Any]] = {}
    for event in sorted(known.values(), key=lambda one: (one["at"], one["event_id"])):
        if event["kind"] == "impression":
            lists.setdefault(event["request_id"], event)
    rows = []
    for request, shown in sorted(lists.items()):
        if shown["user"] in excluded:
            continue
        for position, item in enumerate(orjson.loads(shown["items"]), start=1):
            acts = [
                one
                for one in known.values()
                if one["kind"] != "impression"
                and (one["request_id"], one["position"], one["item"]) == (request, position, item)
                and one["at"] >= shown["at"] - SKEW
            ]
            looks = [one["dwell_ms"] for one in acts if one["dwell_ms"] is not None]
            kinds = {one["kind"] for one in acts}
            rows.append(
                {
                    "request_id": request,
                    "position": position,
                    "item": item,
                    "clicked": bool(acts),
                    "dwell_ms": max(looks, default=None),
                    "cart": "cart" in kinds,
                    "purchased": "purchase" in kinds,
                    "returned": "return" in kinds,
                }
            )
    return rows


minutes = st.integers(0, 30).map(lambda n: SHOWN_AT + timedelta(minutes=n))


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    request, key = st.sampled_from("rstu"), st.integers(0, 12).map(str)
    events = []
    for _ in range(draw(st.integers(1, 12))):
        at = draw(minutes)
        stamps = {"known_at": (at + timedelta(minutes=draw(st.integers(0, 20)))).isoformat()}
        if draw(st.booleans()):
            items = draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))
            user = draw(st.sampled_from([None, "0" * 32, "1" * 32]))
            events.append(impression(draw(request), at, event_id=draw(key), items=items, user=user, **stamps))
        else:
            kind = draw(st.sampled_from(["click", "dwell", "cart", "purchase", "return"]))
            look = {"dwell_ms": draw(st.integers(0, 60_000))} if kind == "dwell" else {}
            place = draw(st.integers(1, 4))
            events.append(act(draw(request), kind, place, at=at, key=draw(key), **stamps, **look))
    return events


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 50))
def test_placing_agrees_with_the_slow_twin(events: list[dict[str, Any]], minute: int) -> None:
    # Keys may be reused across batches; within this one each event gets its own first.
    apart = [{**event, "event_id": f"{n:02d}"} for n, event in enumerate(events)]
    keys = pl.Series([event["event_id"] for event in events])
    everything = table(apart).sort("event_id").with_columns(event_id=keys)
    as_of = SHOWN_AT + timedelta(minutes=minute)
    fast = shown_rows(everything, as_of=as_of, excluded=["1" * 32])
    slow = slow_rows(everything, as_of=as_of, excluded=["1" * 32])
    assert (
        fast.rows.select(
            "request_id", "position", "item", "clicked", "dwell_ms", "cart", "purchased", "returned"
        ).rows(named=True)
        == slow
    )


# --- propensities ------------------------------------------------------------------------------------------


@cache
def simulated(
    requests: int, *, shuffled: float = 0.1, wobble: float = 0.25, seed: int = 1
) -> tuple[Shown, pl.DataFrame]:
    log = simulate_clicks(
        np.random.default_rng(seed), requests=requests, until=NOW, days=60, shuffled=shuffled, wobble=wobble
    )
    return shown_rows(table(log.events), as_of=NOW), log.relevance


@pytest.mark.parametrize(("shuffled", "method"), [(0.3, "shuffled"), (0.0, "harvested")])
def test_simulated_examination_is_found_per_device(shuffled: float, method: str) -> None:
    shown, _ = simulated(12_000, shuffled=shuffled)
    found = corrections(shown.rows, POLICY, seed=1)
    assert [(one.surface, one.device, one.method) for one in found] == [
        (SURFACE, "desktop", method),
        (SURFACE, "mobile", method),
    ]
    for one in found:
        assert one.verdict.passed, one.verdict.sentence
        assert [each.position for each in one.propensities] == list(range(1, 11))
        misses = 0
        for each, truth in zip(one.propensities, EXAMINATION[one.device], strict=True):
            misses += not each.low <= truth <= each.high
            if each.usable:
                assert each.weight == pytest.approx(1 / max(each.value, POLICY.floor))
        # Nine intervals at 95%: three misses or more happen once in a hundred.
        assert misses <= 2


@pytest.mark.parametrize(
    ("requests", "shuffled", "wobble", "policy", "said"),
    [
        (4_000, 0.0, 0.0, POLICY, "nothing can be compared"),
        (150, 0.3, 0.25, POLICY, "requests inform it and 300 are needed"),
        (4_000, 0.3, 0.25, replace(POLICY, least_effective=1e9), "effective number of clicks"),
        (4_000, 0.3, 0.25, replace(POLICY, widest=0.001), "intervals of its positions are too wide"),
    ],
)
def test_too_little_is_insufficient_and_makes_no_label(
    requests: int, shuffled: float, wobble: float, policy: ImplicitPolicy, said: str
) -> None:
    shown, _ = simulated(requests, shuffled=shuffled, wobble=wobble)
    found = corrections(shown.rows, policy, seed=1)
    assert {one.verdict.status for one in found} == {Status.INSUFFICIENT}
    assert all(said in one.verdict.sentence for one in found), [one.verdict.sentence for one in found]
    story = replace(SHOP, labels=replace(SHOP.labels, implicit=policy))
    counted = count(shown.rows, found, story, as_of=NOW)
    assert counted.pairs.is_empty()
    assert counted.uncorrected == mature(shown.rows, policy, as_of=NOW).height > 0


def test_the_effective_number_of_clicks_is_kishs() -> None:
    shown, _ = simulated(12_000, shuffled=0.3)
    for one in corrections(shown.rows, POLICY, seed=1):
        weight = {each.position: each.weight for each in one.propensities if each.usable}
        clicks = shown.rows.filter("clicked", pl.col("device") == one.device)["position"]
        assert one.effective == pytest.approx(
            effective_sample_size([weight[place] for place in clicks if place in weight])
        )


# --- labels ------------------------------------------------------------------------------------------------


def of_item(item: str, events: Sequence[dict[str, Any]], policy: ImplicitPolicy = POLICY) -> dict[str, Any]:
    story = replace(SHOP, labels=replace(SHOP.labels, implicit=replace(policy, least_shown=1)))
    counted = count(shown_rows(table(events), as_of=NOW).rows, [EXACT], story, as_of=NOW)
    return counted.pairs.row(by_predicate=pl.col("item") == item, named=True)


LONG, SHORT = {"dwell_ms": 30_000}, {"dwell_ms": 4_999}


@pytest.mark.parametrize(
    ("acts", "in_favour", "against"),
    [
        ([], 0.0, 0.2),  # seen and left alone
        ([("click", {})], 0.0, 0.0),  # a look of unknown length says nothing
        ([("click", {}), ("dwell", LONG)], 2.0, 0.0),  # 1 / 0.5
        ([("click", {}), ("dwell", {"dwell_ms": 29_999})], 0.0, 0.0),
        ([("dwell", SHORT)], 0.0, 2.0),
        ([("click", {}), ("cart", {})], 4.0, 0.0),
        ([("click", {}), ("purchase", {})], 6.0, 0.0),
        ([("purchase", {}), ("dwell", SHORT)], 6.0, 0.0),  # the strongest act decides
        ([("purchase", {}), ("return", {})], 0.0, 6.0),  # sent back: against
    ],
)
def test_each_act_weighs_what_the_policy_says_over_examination(
    acts: list[tuple[str, dict[str, Any]]], in_favour: float, against: float
) -> None:
    events = [impression("r"), *(act("r", kind, 2, **extra) for kind, extra in acts)]
    row = of_item("b", events)
    assert (row["in_favour"], row["against"]) == (pytest.approx(in_favour), pytest.approx(against))


def test_being_left_alone_is_what_corrected_clicks_leave_of_the_times_shown() -> None:
    """Position 2 is seen half the time: of 10 lists 3 satisfied clicks stand for 6, so 4 x 0.2 against."""
    events = [impression(f"r{n}") for n in range(10)]
    events += [act(f"r{n}", "dwell", 2, **LONG) for n in range(3)]
    row = of_item("b", events)
    assert row["in_favour"] == pytest.approx(6.0)
    assert row["against"] == pytest.approx(0.8)
    assert row["confidence"] == pytest.approx(6 / 6.8, abs=1e-6)
    assert row["label"] == "relevant"


def test_correction_changes_the_label() -> None:
    """The same clicks at positions 1 and 3: only where few look do they outweigh being left alone."""
    lists = [impression(f"r{n}") for n in range(60)]
    clicks = [act(f"r{n}", "dwell", place, **LONG) for n in range(4) for place in (1, 3)]
    assert of_item("a", lists + clicks)["label"] == "irrelevant"
    assert of_item("c", lists + clicks)["label"] == "relevant"


def test_a_return_revises_the_label_when_it_is_known() -> None:
    bought = [impression("r"), act("r", "purchase", 1)]
    assert of_item("a", bought)["label"] == "relevant"
    assert of_item("a", [*bought, act("r", "return", 1)])["label"] == "irrelevant"


def test_young_lists_wait_and_old_ones_are_over() -> None:
    ages = {"young": 13.9, "ripe": 14.0, "old": 89.9, "over": 90.0}
    events = [impression(name, NOW - timedelta(days=age)) for name, age in ages.items()]
    rows = shown_rows(table(events), as_of=NOW).rows
    assert sorted(mature(rows, POLICY, as_of=NOW)["request_id"].unique()) == ["old", "ripe"]
    assert count(rows, [EXACT], SHOP, as_of=NOW).immature == 3


def test_few_showings_and_close_calls_stay_undecided() -> None:
    nine = [impression(f"r{n}") for n in range(9)]
    story = SHOP
    counted = count(shown_rows(table(nine), as_of=NOW).rows, [EXACT], story, as_of=NOW)
    assert counted.pairs["label"].null_count() == 3
    even = [impression("r"), impression("s"), act("r", "dwell", 1, **LONG), act("s", "dwell", 1, **SHORT)]
    row = of_item("a", even)
    assert row["confidence"] == pytest.approx(0.5)
    assert row["label"] is None


def test_positions_without_a_usable_examination_count_for_nothing() -> None:
    events = [impression("r"), act("r", "purchase", 3)]
    rows = shown_rows(table(events), as_of=NOW).rows
    two = correction({1: 1.0, 2: 0.5})
    counted = count(rows, [two], SHOP, as_of=NOW)
    assert set(counted.pairs["item"]) == {"a", "b"}
    assert counted.uncorrected == 1
    assert count(
        rows, [correction({1: 1.0, 2: 0.5}, status=Status.INSUFFICIENT)], SHOP, as_of=NOW
    ).pairs.is_empty()


def test_spellings_of_one_query_are_one_example() -> None:
    events = [impression("r"), impression("s", query="ONE  Piece")]
    counted = count(shown_rows(table(events), as_of=NOW).rows, [EXACT], SHOP, as_of=NOW)
    assert counted.pairs["shown"].to_list() == [2, 2, 2]
    assert set(counted.pairs["example_id"]) == {
        example_id(pair_text("one piece", one), "shop") for one in "abc"
    }


def test_labels_carry_their_evidence() -> None:
    events = [impression(f"r{n}") for n in range(20)] + [act(f"r{n}", "purchase", 2) for n in range(5)]
    counted = count(shown_rows(table(events), as_of=NOW).rows, [EXACT], SHOP, as_of=NOW)
    examples, labels = statements(counted, SHOP, as_of=NOW, evidence="e" * 64)
    row = labels.row(by_predicate=pl.col("label") == "relevant", named=True)
    metadata = orjson.loads(row["metadata"])
    assert metadata["events"] == {"shown": 20, "clicks": 5, "purchases": 5, "returns": 0}
    assert (metadata["positions"], metadata["mean_weight"], metadata["propensities"]) == ([2], 2.0, "e" * 64)
    assert metadata["in_favour"] == 30.0
    assert metadata["against"] == pytest.approx(0.2 * (20 - 10))
    assert row["confidence"] == pytest.approx(30 / 32, abs=1e-6)
    assert (row["label_source"], row["annotator_id"]) == ("implicit", "shoppers")
    assert row["captured_at"] == SHOWN_AT
    assert examples["group_id"].n_unique() == 1  # one query is never split apart
    assert set(examples["role"]) == {"train"}
    assert examples["example_id"].to_list() == labels["example_id"].to_list()


def test_changes_are_new_revised_repeated_and_withdrawn() -> None:
    def stated(sides: dict[str, str], *, evidence: str, version: int = 0) -> pl.DataFrame:
        rows = [
            (one, "shop", label, 0.9, f'{{"e":"{evidence}","role":"train"}}', "implicit", "shoppers")
            for one, label in sides.items()
        ]
        rest = (version, SHOWN_AT, NOW, "qa_passed", None)
        full = [(*row, *rest) for row in rows]
        return pl.DataFrame(full, schema=frame_schema(LABELS_TABLE), orient="row")

    standing = stated({"a": "x", "b": "x", "c": "x", "d": "x"}, evidence="1", version=1)
    gone = stated({"e": "x"}, evidence="1", version=1).with_columns(
        review_status=pl.lit("withdrawn"), metadata=pl.lit('{"erased":true,"role":"train"}')
    )
    told = pl.concat(
        [stated({"a": "x"}, evidence="1"), stated({"b": "x", "c": "y", "new": "x", "e": "x"}, evidence="2")]
    )
    found = changes(pl.concat([standing, gone]), told)
    assert (found.added, found.revised, found.repeated, found.withdrawn) == (1, 1, 1, 1)
    status = dict(found.labels.select("example_id", "review_status").rows())
    assert status == {"b": "qa_passed", "c": "qa_passed", "new": "qa_passed", "d": "withdrawn"}


def _shares(
    shown: Shown, truth: pl.DataFrame, found: Sequence[Correction], *, corrected: bool
) -> pl.DataFrame:
    """Pairs with their estimated attraction (corrected clicks per time shown) beside the truth."""
    weigh = [(one.device, each.position, each.weight) for one in found for each in one.propensities]
    weights = pl.DataFrame(weigh, schema=["device", "position", "weight"], orient="row")
    rows = shown.rows.join(weights.cast({"position": pl.Int32}), on=["device", "position"])
    assert rows.height == shown.rows.height
    if not corrected:
        rows = rows.with_columns(weight=1.0)
    pairs = rows.group_by("query", "item").agg(
        estimate=(pl.col("weight") * pl.col("clicked")).mean(),
        shown=pl.len(),
        place=pl.col("position").mean(),
    )
    return pairs.join(truth, on=["query", "item"]).with_columns(truth=0.04 + 0.56 * pl.col("relevance"))


def test_corrected_clicks_estimate_attraction_wherever_the_item_stood() -> None:
    """SIMULATED truth: pairs that stood high, in the middle and low; raw clicks miss most of it."""
    shown, relevance = simulated(15_000, seed=3)
    found = corrections(shown.rows, POLICY, seed=1)
    for corrected, allowed in ((True, (0.0, 0.03)), (False, (0.06, 1.0))):
        pairs = _shares(shown, relevance, found, corrected=corrected)
        third = pairs["place"].rank("ordinal") * 3 // (pairs.height + 1)
        for level in range(3):
            part = pairs.filter(third == level)
            miss = abs(np.average(part["estimate"] - part["truth"], weights=part["shown"]))
            assert allowed[0] <= miss <= allowed[1], (corrected, level, miss)


def _full_examination(relevance: pl.Expr) -> pl.Expr:
    """What the policy would say of a pair if every position were looked at, from the simulation's rates."""
    wanted, satisfied, back = 0.04 + 0.56 * relevance, 0.1 + 0.85 * relevance, 0.4 * (1.0 - relevance)
    long_look, quick_back = (
        0.966,
        0.803,
    )  # lognormal looks around 90 s and 3 s, sigma 0.6, against 30 s and 5 s
    in_favour = satisfied * (0.75 * long_look + 0.25 * (0.5 * 2.0 + 0.5 * 3.0 * (1.0 - back)))
    against = (1.0 - satisfied) * quick_back + satisfied * 0.25 * 0.5 * 3.0 * back
    return (
        pl.when(wanted * in_favour > wanted * against + 0.2 * (1.0 - wanted))
        .then(pl.lit("relevant"))
        .otherwise(pl.lit("irrelevant"))
    )


def test_corrected_labels_are_those_full_examination_would_give() -> None:
    """SIMULATED truth, a ranker led by popularity: correction halves the wrong labels.

    It removes a bias and adds variance: where a ranker already orders by relevance, position itself tells,
    and raw clicks order items as well.
    """
    log = simulate_clicks(np.random.default_rng(5), requests=20_000, until=NOW, days=60, popularity=2.0)
    shown = shown_rows(table(log.events), as_of=NOW)
    found = corrections(shown.rows, POLICY, seed=1)
    raw = [
        replace(one, propensities=tuple(replace(each, weight=1.0) for each in one.propensities))
        for one in found
    ]
    right = {}
    for name, weights in (("corrected", found), ("raw", raw)):
        decided = count(shown.rows, weights, SHOP, as_of=NOW).pairs.drop_nulls("label")
        pairs = decided.join(log.relevance, on=["query", "item"])
        right[name] = pairs.select((pl.col("label") == _full_examination(pl.col("relevance"))).mean()).item()
    assert right["corrected"] > 0.95, right
    assert 1 - right["corrected"] < 0.5 * (1 - right["raw"]), right
