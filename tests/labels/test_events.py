"""Events: what is accepted, what is refused and with which words, and that nothing is dropped silently."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.core.identity import user_digest
from mangaassist.labels.event_checks import Judged, judge
from mangaassist.labels.events import EVENT_SCHEMA, KINDS, EventLimits

NOW = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)
AT = "2026-10-05T08:59:00Z"


def impression(key: str = "e1", **changed: Any) -> dict[str, Any]:
    return {
        "event_id": key,
        "kind": "impression",
        "request_id": "r1",
        "at": AT,
        "surface": "search",
        "device": "mobile",
        "language": "ja",
        "user": user_digest("u1"),
        "query": "異世界 漫画",
        "items": ["a", "b", "c"],
        **changed,
    }


def act(key: str = "e2", kind: str = "click", **changed: Any) -> dict[str, Any]:
    return {
        "event_id": key,
        "kind": kind,
        "request_id": "r1",
        "at": AT,
        "item": "b",
        "position": 2,
        **changed,
    }


def judged(events: Any, **limits: Any) -> Judged:
    return judge(events, now=NOW, limits=EventLimits(**limits))


def test_good_events_are_kept_whole() -> None:
    found = judged([impression(randomised=[1, 3]), act(), act("e3", "dwell", dwell_ms=12_500)])
    assert found.refusals == ()
    assert found.rows.columns == EVENT_SCHEMA.names
    shown, click, dwell = found.rows.rows(named=True)
    assert orjson.loads(shown["items"]) == ["a", "b", "c"]
    assert orjson.loads(shown["randomised"]) == [1, 3]
    assert shown["known_at"] == "2026-10-05T09:00:00.000000Z"
    assert click["at"] == "2026-10-05T08:59:00.000000Z"
    assert (click["item"], click["position"], click["dwell_ms"]) == ("b", 2, None)
    assert dwell["dwell_ms"] == 12_500.0


REFUSED = [
    (impression(event_id=""), "no_event_id", "event_id: expected a key"),
    (act(event_id=None), "no_event_id", "got nothing"),
    (act(kind="clik"), "unknown_kind", "impression or click"),
    (act(request_id=None), "no_request_id", "request_id"),
    (act(at="yesterday"), "no_time", 'got "yesterday"'),
    (act(at="2026-10-05T08:59:00"), "no_time", "with an offset"),
    (act(at=None), "no_time", "at: expected a time"),
    (act(known_at="soon"), "no_time", "known_at"),
    (act(at="2026-10-05T09:05:01Z"), "from_the_future", "had come when it arrived"),
    (act(known_at="2026-10-05T09:06:00Z"), "from_the_future", "2026-10-05T09:00:00Z"),
    (act(at="2026-09-05T08:59:00Z"), "too_old", "at most 30 days"),
    (impression(user="alice@example.org"), "raw_user", "32 hexadecimal"),
    (impression(surface=None), "no_surface", "surface"),
    (impression(device=""), "no_device", "device"),
    (impression(language="fr"), "no_language", 'en or ja or mixed, got "fr"'),
    (impression(query="  "), "no_query", "query"),
    (impression(query="x" * 2_001), "no_query", "up to 2,000 characters"),
    (impression(items=[]), "bad_items", "different item ids"),
    (impression(items=["a", "a"]), "bad_items", "different"),
    (impression(items=["a", ""]), "bad_items", "different"),
    (impression(items=[f"i{n}" for n in range(201)]), "bad_items", "1 to 200"),
    (impression(items=None), "bad_items", "got nothing"),
    (impression(randomised=[1]), "bad_randomised", "two or more"),
    (impression(randomised=[1, 4]), "bad_randomised", "positions of the list"),
    (impression(randomised=[0, 1]), "bad_randomised", "randomised"),
    (impression(randomised=[2, 2]), "bad_randomised", "randomised"),
    (act(item=None), "no_item", "item"),
    (act(position=0), "position_out_of_range", "1 to 200, got 0"),
    (act(position=201), "position_out_of_range", "got 201"),
    (act(position=None), "position_out_of_range", "got nothing"),
    (act(kind="dwell"), "bad_dwell", "got nothing"),
    (act(kind="dwell", dwell_ms=-1.0), "bad_dwell", "got -1.0"),
    (act(kind="dwell", dwell_ms=float("nan")), "bad_dwell", "milliseconds"),
    (act(kind="dwell", dwell_ms=float("inf")), "bad_dwell", "one day"),
    (act(kind="dwell", dwell_ms=8.64e7 + 1), "bad_dwell", "one day"),
    ([1, 2], "not_an_object", "a JSON object, got a list"),
    (act(positon=2), "unknown_field", "Did you mean 'position'?"),
    (act(position="2"), "wrong_type", 'position: expected a whole number, got "2"'),
    (act(position=True), "wrong_type", "position"),
    (act(position=2**70), "wrong_type", "a whole number"),
    (act(item=7), "wrong_type", "item: expected text, got 7"),
    (impression(items="abc"), "wrong_type", "a list of texts"),
    (impression(items=["a", None]), "wrong_type", "items"),
    (act(request_id="\ud800"), "wrong_type", "request_id"),
]


@pytest.mark.parametrize(("event", "reason", "said"), REFUSED)
def test_a_bad_event_is_refused_with_a_sentence_and_its_neighbours_are_not(
    event: Any, reason: str, said: str
) -> None:
    found = judged([impression("good1"), event, act("good2")])
    assert [(one.reason, said in one.sentence) for one in found.refusals] == [(reason, True)], found.refusals
    assert found.rows["event_id"].to_list() == ["good1", "good2"]
    assert orjson.dumps(found.refusals[0].as_row(NOW))  # the quarantine can be written


@pytest.mark.parametrize(
    "event",
    [
        impression(user="alice@example.org"),
        impression(user=7),
        act(user_id="alice@example.org"),
        act(user="alice@example.org", position=0),
    ],
)
def test_a_refusal_never_repeats_what_may_name_a_user(event: dict[str, Any]) -> None:
    row = judged([event]).refusals[0].as_row(NOW)
    assert "alice" not in str(row)


def test_the_same_event_twice_is_one_and_a_reused_key_is_refused() -> None:
    found = judged([act(), act(), act(position=3), act("e9")])
    assert found.rows["event_id"].to_list() == ["e2", "e9"]
    assert found.rows["position"].to_list() == [2, 2]
    assert found.duplicates == 1
    assert [one.reason for one in found.refusals] == ["reused_key"]


def test_a_frame_is_judged_like_its_objects() -> None:
    objects = [impression(), act(), act("e3", "dwell", dwell_ms=-3.0), act("e4", at="2027-01-01T00:00:00Z")]
    frame = pl.DataFrame(objects, infer_schema_length=None)
    timed = frame.with_columns(pl.col("at").str.to_datetime("%+", time_zone="UTC"))
    expected = judged(objects)
    for events in (frame, timed, frame.to_arrow(), timed.to_arrow()):
        found = judged(events)
        assert found.rows.equals(expected.rows)
        assert [one.reason for one in found.refusals] == [one.reason for one in expected.refusals]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pl.Series("positon", [1]), "Did you mean 'position'?"),
        (pl.Series("position", ["1"]), "column 'position'"),
        (pl.Series("at", [datetime(2026, 10, 5, 9)]), "time zone"),  # noqa: DTZ001 - the naive one is the point
    ],
)
def test_a_frame_of_other_columns_is_refused_whole(column: pl.Series, said: str) -> None:
    with pytest.raises(InputError, match=said):
        judged(pl.DataFrame([column]))


def test_an_empty_batch() -> None:
    assert judged([]).rows.height == 0


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.text(max_size=2))
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            VALUES,
            st.dictionaries(st.sampled_from([*EVENT_SCHEMA.names, "other"]), VALUES, max_size=5),
            st.builds(
                lambda kind, changed: {
                    **(impression() if kind == "impression" else act(kind=kind)),
                    **changed,
                },
                st.sampled_from(KINDS),
                st.dictionaries(st.sampled_from(EVENT_SCHEMA.names), VALUES, max_size=1),
            ),
        ),
        max_size=6,
    )
)
def test_whatever_comes_is_accepted_refused_or_a_copy(events: list[Any]) -> None:
    found = judged(events)
    assert found.rows.height + len(found.refusals) + found.duplicates == len(events)


def test_limits_are_inclusive_and_count_from_arrival() -> None:
    edge = {"oldest": timedelta(days=1), "skew": timedelta(minutes=1)}
    kept = judged(
        [
            act("a", at="2026-10-04T09:00:00Z"),
            act("b", at="2026-10-05T09:01:00Z"),
            act("c", at="2026-08-01T00:00:00Z", known_at="2026-08-02T00:00:00Z"),
        ],
        **edge,
    )
    assert kept.rows["event_id"].to_list() == ["a", "b", "c"]
    late = judged([act("d", at="2026-10-04T08:59:59Z"), act("e", at="2026-10-05T09:01:01Z")], **edge)
    assert [one.reason for one in late.refusals] == ["too_old", "from_the_future"]


def test_numbers_of_other_widths_are_welcome_in_frames() -> None:
    frame = pl.DataFrame([act("x", "dwell")]).with_columns(
        position=pl.lit(2, pl.Int16()), dwell_ms=pl.lit(np.float32(7.5)), at=pl.lit(AT)
    )
    assert judged(frame).rows["dwell_ms"].to_list() == [7.5]


def test_personal_data_is_taken_out_of_queries() -> None:
    query = "volume 3, my mail is taro@example.com"
    found = judged([impression(query=query), impression("e5", query=query, items=[])])
    assert found.rows["query"].to_list() == ["volume 3, my mail is [EMAIL]"]
    assert "taro" not in found.refusals[0].payload
    for changed in ({"query": query, "items": "abc"}, {"query": [query]}, {"query": query * 100}):
        assert "taro" not in str(judged([impression(**changed)]).refusals[0])
