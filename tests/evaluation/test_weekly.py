"""EVA-4: the week's set is newer than what was learnt, in the traffic's mix, and drawn anew every week."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from mangaassist.evaluation.weekly import LARGEST, LEAST, stratified, unseen

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def frame(*rows: tuple[str, timedelta]) -> pl.DataFrame:
    return pl.DataFrame(
        {"group_id": [group for group, _ in rows], "captured_at": [NOW - age for _, age in rows]}
    )


def test_only_rows_newer_than_all_that_was_learnt() -> None:
    day = timedelta(days=1)
    train = frame(("old", 30 * day), ("known", 5 * day))
    rows = frame(("a", 8 * day), ("b", 6 * day), ("c", 4 * day), ("known", 3 * day), ("d", -day), ("e", day))
    assert unseen(rows, train, now=NOW)["group_id"].to_list() == ["c", "e"]
    assert unseen(rows, train.clear(), now=NOW).height == 4


def test_each_stratum_has_its_share_of_the_traffic() -> None:
    strata = ["new"] * 500 + ["power"] * 300 + ["returning"] * 100
    keys = [str(n) for n in range(len(strata))]
    traffic = {"new": 100, "power": 300, "returning": 600}
    rows, found = stratified(strata, keys, traffic, week="2026-W47")
    drawn = Counter(strata[row] for row in rows)
    assert drawn["returning"] == 100
    assert drawn["power"] == pytest.approx(50, abs=1)
    assert drawn["new"] == pytest.approx(17, abs=1)
    assert [(one.name, one.drawn, one.short) for one in found] == [
        (name, drawn[name], False) for name in sorted(traffic)
    ]


def test_a_stratum_with_few_rows_is_short_and_shrinks_nothing() -> None:
    strata = ["new"] * (LEAST - 1) + ["returning"] * 500
    rows, found = stratified(
        strata, [str(n) for n in range(len(strata))], {"new": 1, "returning": 1}, week="w"
    )
    assert Counter(strata[row] for row in rows) == {"new": LEAST - 1, "returning": 500}
    assert {one.name: one.short for one in found} == {"new": True, "returning": False}


def test_the_draw_holds_for_a_week_and_a_new_row_moves_no_other() -> None:
    keys = [str(n) for n in range(3 * LARGEST)]
    strata, traffic = ["one"] * len(keys), {"one": 1}
    first, _ = stratified(strata, keys, traffic, week="w1")
    assert len(first) == LARGEST
    assert stratified(strata, keys, traffic, week="w1")[0] == first
    later, _ = stratified([*strata, "one"], [*keys, "late"], traffic, week="w1")
    assert len(set(first) - set(later)) <= 1
    other, _ = stratified(strata, keys, traffic, week="w2")
    assert 0.2 < len(set(first) & set(other)) / LARGEST < 0.5


def test_without_traffic_the_rows_own_mix() -> None:
    rows, found = stratified(["a"] * 60 + ["b"] * 40, [str(n) for n in range(100)], {}, week="w")
    assert len(rows) == 100
    assert [(one.name, one.traffic) for one in found] == [("a", 0.6), ("b", 0.4)]
