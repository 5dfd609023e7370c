"""Evidence: the incremental accumulator against slow twins, and against its own rebuild from tables.

Tolerances: latency quantiles 1% (half a bin, by construction); everything else is counted and exact.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.promotion.samples import AT
from tests.promotion.traffic import TICK, Row, Traffic

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_json
from mangaassist.promotion.accumulator import EvidenceAccumulator, _RateSum, rebuild
from mangaassist.promotion.evidence import ALL, BUCKET_SECONDS, Rate
from mangaassist.promotion.latency import Latency, latency_bin
from mangaassist.promotion.versions import SHADOW, Deployment

CANARY = Deployment(
    "intent",
    epoch=5,
    champion=1,
    challenger=2,
    stage="canary_25",
    since=AT,
    salt="s",
    share=0.25,
    holdout=0.75,
    canary_since=AT,
)
SHADOWED = Deployment(
    "intent", epoch=4, champion=1, challenger=2, stage=SHADOW, since=AT, salt="s", shadow_since=AT
)
PREDICTIONS = pl.Schema(
    {
        "request_id": pl.String,
        "at": pl.Datetime("us", "UTC"),
        "user": pl.String,
        "language": pl.String,
        "arm": pl.String,
        "version": pl.Int32,
        "shadow_of": pl.String,
        "label": pl.String,
        "abstains": pl.Boolean,
        "error": pl.String,
        "latency_ms": pl.Float64,
    }
)
OUTCOMES = pl.Schema({"request_id": pl.String, "resolved": pl.Boolean, "known_at": pl.Datetime("us", "UTC")})


Played = tuple[EvidenceAccumulator, list[Row], list[Row], datetime]


def play(deployment: Deployment, traffic: Traffic, ticks: int) -> Played:
    accumulator = EvidenceAccumulator(deployment, safety_labels=["escalation"])
    now, rows, outcomes = AT, [], []
    for _ in range(ticks):
        now += TICK
        new, known = traffic.tick(deployment, now)
        accumulator.observe(new)
        accumulator.observe_outcomes(known)
        accumulator.evidence(now)
        rows += new
        outcomes += known
    return accumulator, rows, outcomes, now


@pytest.mark.parametrize("deployment", [CANARY, SHADOWED], ids=["canary", "shadow"])
@given(seed=st.integers(0, 10_000), ticks=st.integers(1, 60), shuffle=st.integers(0, 1000))
@example(seed=1, ticks=48, shuffle=0)  # an hour ends in a tick without requests
@settings(max_examples=15, deadline=None)
def test_the_rebuild_from_tables_is_the_same_value(
    deployment: Deployment, seed: int, ticks: int, shuffle: int
) -> None:
    """PRO-2: a restarted process sees exactly the evidence the running one had."""
    traffic = Traffic(seed=seed, errors={"champion": 0.02, "challenger": 0.05}, delay=timedelta(minutes=40))
    grown, rows, outcomes, now = play(deployment, traffic, ticks)
    later, known_later = traffic.tick(deployment, now + TICK)
    predictions = pl.DataFrame([*rows, *later], schema=PREDICTIONS, orient="row").sample(
        fraction=1.0, shuffle=True, seed=shuffle
    )
    known = pl.DataFrame([*outcomes, *known_later, *traffic.waiting], schema=OUTCOMES, orient="row")
    again = rebuild(deployment, predictions, known, now=now, safety_labels=["escalation"])
    assert again.evidence(now) == grown.evidence(now)
    assert canonical_json(again.evidence(now).as_dict()) == canonical_json(grown.evidence(now).as_dict())


def test_against_a_naive_count() -> None:
    """PRO-2: every number of an arm equals a plain loop over the same rows."""
    traffic = Traffic(errors={"champion": 0.02, "challenger": 0.1}, delay=timedelta(minutes=12))
    grown, rows, outcomes, now = play(CANARY, traffic, 200)
    evidence = grown.evidence(now)
    resolved = {row["request_id"]: row["resolved"] for row in outcomes}
    for arm in ("canary", "holdout"):
        mine = [row for row in rows if row["arm"] == arm]
        found = evidence.arm(arm)
        assert found.n == found.stage_n == len(mine) > 100
        assert found.last_at == max(row["at"] for row in mine)
        assert sum(found.exceptions.values()) == sum(row["error"] is not None for row in mine)
        for cohort in (ALL, "en", "ja", "mixed"):
            part = [row for row in mine if cohort in (ALL, row["language"])]
            known = [row for row in part if row["request_id"] in resolved]
            assert found.rate("error", cohort).s == sum(row["error"] is not None for row in part)
            assert found.rate("safety", cohort).s == sum(
                row["label"] == "escalation" and row["error"] is None for row in part
            )
            assert found.rate("resolved", cohort).n == len(known)
            assert found.rate("resolved", cohort).s == sum(resolved[row["request_id"]] for row in known)
        last_hour = [row for row in mine if now - timedelta(hours=1) <= row["at"] < now]
        assert sum(one.n for one in found.window(12)) == len(last_hour)
        latencies = [row["latency_ms"] for row in mine]
        assert found.latency.quantile(0.99) == pytest.approx(
            np.quantile(latencies, 0.99, method="inverted_cdf"), rel=0.011
        )


def test_agreement_against_a_naive_count() -> None:
    """PRO-2: per-request and per-language agreement of shadow with the champion."""
    traffic = Traffic(disagreement=0.2, per_tick=8, errors={"champion": 0.0, "challenger": 0.1})
    grown, rows, _, now = play(SHADOWED, traffic, 100)
    evidence = grown.evidence(now)
    champion = {row["request_id"]: row for row in rows if row["arm"] == "champion"}
    for cohort in (ALL, "en", "ja", "mixed"):
        pairs = [
            (champion[row["shadow_of"]], row)
            for row in rows
            if row["arm"] == "shadow" and row["error"] is None and cohort in (ALL, row["language"])
        ]
        assert evidence.agreement[cohort].n == len(pairs) > 20
        assert evidence.agreement[cohort].agreed == sum(a["label"] == b["label"] for a, b in pairs)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_cluster_sums_against_a_naive_regrouping(requests: list[tuple[str | None, bool]]) -> None:
    """Cochran 1977, 6.3: the linearised variance of a ratio, from scratch over users."""
    grown = _RateSum()
    users: dict[str, list[bool]] = defaultdict(list)
    for index, (user, counts) in enumerate(requests):
        grown.add(user, counts)
        users[user if user is not None else f"anonymous-{index}"].append(counts)
    rate = grown.frozen()
    n, s = len(requests), sum(counts for _, counts in requests)
    assert (rate.n, rate.s, rate.units) == (n, s, len(users))
    smoothed = (s + 1) / (n + 2)
    expected = smoothed * (1 - smoothed) / n
    if len(users) > 1:
        residuals = [sum(one) - s / n * len(one) for one in users.values()]
        expected = max(expected, sum(r * r for r in residuals) / n**2 * len(users) / (len(users) - 1))
    assert rate.variance == pytest.approx(expected)


def test_clustered_requests_are_worth_less() -> None:
    """Ten users with a hundred requests each are not a thousand independent observations."""
    clustered = Rate(n=1000, s=500, units=10, nn=100_000, ss=50_000, ns=50_000)
    independent = Rate(n=1000, s=500, units=1000, nn=1000, ss=500, ns=500)
    assert clustered.variance > 50 * independent.variance


def test_stage_counts_start_anew_and_the_accumulated_do_not() -> None:
    """PRO-2: a stage needs its own minimum, the final verdict uses the whole canary."""
    traffic = Traffic(per_tick=20)
    accumulator, *_, now = play(CANARY, traffic, 10)
    before = accumulator.evidence(now).arm("canary")
    accumulator.enter(replace(CANARY, stage="canary_50", since=now))
    assert accumulator.evidence(now).arm("canary").stage_n == 0
    assert accumulator.evidence(now).arm("canary").n == before.n
    rows, _ = traffic.tick(CANARY, now + TICK)
    accumulator.observe(rows)
    after = accumulator.evidence(now + TICK).arm("canary")
    assert after.stage_n == after.n - before.n > 0


def test_leaving_shadow_starts_everything_anew() -> None:
    """PRO-3: shadow copies are not canary evidence."""
    accumulator, *_, now = play(SHADOWED, Traffic(), 10)
    accumulator.enter(replace(CANARY, since=now, canary_since=now))
    assert accumulator.evidence(now).rows == 0


def test_rows_of_other_versions_and_stages_do_not_count() -> None:
    """PRO-1: evidence belongs to one challenger."""
    accumulator = EvidenceAccumulator(CANARY)
    rows, _ = Traffic(per_tick=50).tick(CANARY, AT + TICK)
    accumulator.observe({**row, "version": 9} for row in rows)
    accumulator.observe({**row, "arm": "shadow"} for row in rows)
    accumulator.observe({**row, "at": AT} for row in rows)
    assert accumulator.evidence(AT + TICK).rows == 0


def test_an_accumulator_serves_one_challenger() -> None:
    accumulator = EvidenceAccumulator(CANARY)
    with pytest.raises(InputError, match="challenger 3"):
        accumulator.enter(replace(CANARY, challenger=3))


def test_late_outcomes_are_forgotten_like_in_the_rebuild() -> None:
    """An outcome after the horizon counts neither in the running nor in the rebuilt evidence."""
    traffic = Traffic(per_tick=10, delay=timedelta(days=8))
    grown, rows, *_ = play(CANARY, traffic, 5)
    late = AT + timedelta(days=9)
    known = [row for row in traffic.waiting if row["known_at"] <= late]
    grown.evidence(late)
    grown.observe_outcomes(known)
    assert len(known) > 10
    assert grown.evidence(late).arm("holdout").rate("resolved").n == 0
    again = rebuild(
        CANARY,
        pl.DataFrame(rows, schema=PREDICTIONS, orient="row"),
        pl.DataFrame(known, schema=OUTCOMES, orient="row"),
        now=late,
    )
    assert again.evidence(late).arm("holdout").rate("resolved").n == 0


@given(st.lists(st.floats(0.0005, 5_000), min_size=1, max_size=300), st.floats(0.01, 0.999))
@settings(max_examples=100)
def test_quantiles_are_within_a_bin(latencies: list[float], q: float) -> None:
    counts: dict[int, int] = {}
    for one in latencies:
        counts[latency_bin(one)] = counts.get(latency_bin(one), 0) + 1
    found = Latency.of(counts)
    exact = np.quantile(latencies, q, method="inverted_cdf")
    if exact > 0.002:
        assert found.quantile(q) == pytest.approx(exact, rel=0.011)
    low, high = found.quantile_interval(q)
    assert low <= found.quantile(q) <= high


@given(st.lists(st.lists(st.floats(0.01, 100), max_size=30), min_size=1, max_size=5))
def test_merged_histograms_are_the_histogram_of_all(parts: list[list[float]]) -> None:
    def histogram(values: list[float]) -> Latency:
        counts: dict[int, int] = {}
        for one in values:
            counts[latency_bin(one)] = counts.get(latency_bin(one), 0) + 1
        return Latency.of(counts)

    assert Latency.merged(histogram(part) for part in parts) == histogram(
        [one for part in parts for one in part]
    )


def test_no_latency_has_no_quantile() -> None:
    with pytest.raises(InputError, match="latency"):
        Latency().quantile(0.5)


def test_buckets_stand_on_the_five_minute_marks() -> None:
    """PRO-3: evaluated every five minutes; a bucket still open is not judged."""
    accumulator = EvidenceAccumulator(CANARY)
    row = Traffic(per_tick=100).tick(CANARY, AT + TICK)[0][0]
    mark = datetime(2026, 10, 5, 10, 0, tzinfo=UTC)
    accumulator.observe([{**row, "arm": "holdout", "version": 1, "at": mark}])
    assert (
        sum(one.n for one in accumulator.evidence(mark + timedelta(seconds=299)).arm("holdout").buckets) == 0
    )
    assert accumulator.evidence(mark + TICK).arm("holdout").buckets[-1].n == 1
    assert TICK.total_seconds() == BUCKET_SECONDS
