"""Sustained drift is derived from history; the hub reports which kinds fired and which did not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.drift.frames import START, reference, traffic

from mangaassist.core.home import Home
from mangaassist.core.story import DriftPolicy
from mangaassist.core.verdict import Status, Verdict
from mangaassist.drift.history import SCHEMA, Kind, State, by_kind, rows, standings, sustained_for
from mangaassist.drift.hub import CADENCE, DriftReport, check, due, read_history, record, report_rows
from mangaassist.drift.profile import merge_requests
from mangaassist.drift.windows import Tally, Window, outcome_windows, request_windows
from mangaassist.storage.tables import Tables

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
POLICY = DriftPolicy()
REFERENCE = reference(6000)
EMPTY = pl.DataFrame(schema=SCHEMA)
Looks = Sequence[tuple[int, Status]]


def told(name: str, looks: Looks, *, version: int = 1) -> pl.DataFrame:
    """History rows of one name: (hours since the start, status)."""
    return pl.concat(
        [
            EMPTY,
            *(
                rows(
                    [Verdict(name, status, "", 0.3, threshold=0.2, n=500)],
                    at=START + hour * HOUR,
                    version=version,
                )
                for hour, status in looks
            ),
        ]
    )


def twin(name: str, looks: Looks, now: int) -> tuple[State, int | None] | None:
    """One look after the other, by the words of the rule."""
    required = sustained_for(POLICY, Kind(name.split(".")[1])) / HOUR
    since: int | None = None
    last: int | None = None
    for hour, status in sorted(looks, key=lambda look: look[0]):
        if hour > now or status in (Status.INSUFFICIENT, Status.STALE):
            continue
        if status is Status.PASS:
            since = None
        elif since is None or last is None or hour - last > required / 4:
            since = hour
        last = hour
    if last is None:
        return None
    if now - last > required / 4:
        return State.INSUFFICIENT, None
    if since is None:
        return State.QUIET, None
    return (State.FIRED if now - since >= required else State.RISING), since


@given(
    st.sampled_from(["drift.input.device", "drift.prediction.label", "drift.concept"]),
    st.lists(
        st.tuples(
            st.integers(0, 260), st.sampled_from([Status.FAIL] * 6 + [Status.PASS, Status.INSUFFICIENT])
        ),
        max_size=60,
        unique_by=lambda look: look[0],
    ),
    st.integers(0, 270),
    st.randoms(use_true_random=False),
)
def test_standing_equals_the_rule_read_aloud(name, looks, now, random) -> None:
    """DRF-1: sustained is the same whether derived at once from shuffled rows or followed step by step."""
    random.shuffle(looks)
    found = standings(told(name, looks), POLICY, version=1, now=START + now * HOUR)
    expected = twin(name, looks, now)
    assert (None if not found else (found[0].state, found[0].since)) == (
        None
        if expected is None
        else (expected[0], None if expected[1] is None else START + expected[1] * HOUR)
    )


@pytest.mark.parametrize(
    ("looks", "now", "state"),
    [
        ([(hour, Status.FAIL) for hour in range(24)], 23, State.RISING),
        ([(hour, Status.FAIL) for hour in range(25)], 24, State.FIRED),
        ([(hour, Status.FAIL if hour != 12 else Status.PASS) for hour in range(30)], 29, State.RISING),
        ([(hour, Status.FAIL if hour != 12 else Status.INSUFFICIENT) for hour in range(25)], 24, State.FIRED),
        ([(hour, Status.FAIL) for hour in range(0, 31, 6)], 30, State.FIRED),
        ([(hour, Status.FAIL) for hour in range(0, 36, 7)], 35, State.RISING),
        ([(hour, Status.FAIL) for hour in range(25)], 31, State.INSUFFICIENT),
        ([(0, Status.PASS)], 1, State.QUIET),
    ],
)
def test_a_day_of_input_drift_fires(looks: Looks, now: int, state: State) -> None:
    """DRF-1: 24 unbroken hours, no less; a pass ends a run, a lull of up to six hours does not."""
    found = by_kind(standings(told("drift.input.device", looks), POLICY, version=1, now=START + now * HOUR))
    standing = found[Kind.INPUT]
    assert standing is not None
    assert standing.state is state
    assert found[Kind.CONCEPT] is None


def test_a_new_version_starts_its_own_run() -> None:
    """DRF-4: a run against another version's bins says nothing about this one."""
    before = told("drift.input.device", [(hour, Status.FAIL) for hour in range(30)], version=1)
    after = told("drift.input.device", [(30, Status.FAIL), (31, Status.FAIL)], version=2)
    (found,) = standings(pl.concat([before, after]), POLICY, version=2, now=START + 31 * HOUR)
    assert (found.state, found.since) == (State.RISING, START + 30 * HOUR)


def test_the_leading_finding_is_the_worst_and_longest() -> None:
    """DRF-1: one kind, several columns: the page and the trigger see the one that matters."""
    history = pl.concat(
        [
            told("drift.input.a", [(hour, Status.PASS) for hour in range(30)]),
            told("drift.input.b", [(hour, Status.FAIL) for hour in range(5, 30)]),
            told("drift.input.c", [(hour, Status.FAIL) for hour in range(2, 30)]),
        ]
    )
    leading = by_kind(standings(history, POLICY, version=1, now=START + 29 * HOUR))[Kind.INPUT]
    assert leading is not None
    assert (leading.name, leading.state) == ("drift.input.c", State.FIRED)


def month(changes: dict[int, dict[str, float]], days: int) -> list[Window]:
    """Requests and labels a day later, one call per day, with the change that holds from a day on."""
    windows: list[Window] = []
    change: dict[str, float] = {}
    for day in range(days):
        change = changes.get(day, change)
        frame = traffic(2400, seed=100 + day, start=START + day * DAY, lasts=DAY, **change)  # type: ignore[arg-type]
        windows += request_windows(REFERENCE, frame, every=HOUR)
        windows += outcome_windows(REFERENCE, frame, every=HOUR)
    return sorted(windows, key=lambda window: window.start)


def replay(
    windows: list[Window], until: datetime, *, step: timedelta = 2 * HOUR
) -> tuple[list[DriftReport], pl.DataFrame]:
    history, reports, now = EMPTY, [], START + DAY
    while now <= until:
        report = check(
            REFERENCE, windows, history, version=3, now=now, kinds=due(history, version=3, now=now)
        )
        history = pl.concat([history, report_rows(report)])
        reports.append(report)
        now += step
    return reports, history


def test_a_shift_in_inputs_fires_after_a_day_and_nothing_else_does() -> None:
    """DRF-1: input drift from day 3 fires on day 4; prediction, label and concept stay quiet.

    A look covers a whole day, so the shift shows some hours after it began and fires a day after that.
    """
    reports, _ = replay(month({3: {"japanese": 0.65}}, 6), START + 6 * DAY)
    first = next(report for report in reports if Kind.INPUT in report.fired)
    assert START + 4 * DAY <= first.at < START + 5 * DAY
    assert all(report.fired in ((), (Kind.INPUT,)) for report in reports)
    last = reports[-1]
    assert last.fired == (Kind.INPUT,)
    assert last.not_fired == (Kind.PREDICTION, Kind.LABEL, Kind.CONCEPT)
    leading = last.kinds[Kind.INPUT]
    assert leading is not None
    assert leading.name == "drift.input.language"
    for kind in last.not_fired:
        standing = last.kinds[kind]
        assert standing is not None
        assert standing.state is State.QUIET


def test_concept_drift_fires_after_a_week_of_late_labels() -> None:
    """DRF-1: a model gone wrong on day 2 is only known a day later and fires a week after that."""
    reports, _ = replay(month({2: {"accuracy": 0.75}}, 13), START + 13 * DAY, step=6 * HOUR)
    first = next(report for report in reports if report.fired)
    assert first.fired == (Kind.CONCEPT,)
    assert START + 10 * DAY <= first.at <= START + 12 * DAY


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    """DRF-1: the report derived from the stored rows alone equals the one of an unbroken process."""
    windows = month({1: {"length": 42.0}}, 4)
    reports, history = replay(windows, START + 4 * DAY)
    history.write_parquet(tmp_path / "history.parquet")
    reread = pl.read_parquet(tmp_path / "history.parquet")
    seen = reread.filter(pl.col("at") < reports[-1].at).sample(fraction=1.0, shuffle=True, seed=1)
    kinds = due(seen, version=3, now=reports[-1].at)
    assert check(REFERENCE, windows, seen, version=3, now=reports[-1].at, kinds=kinds) == reports[-1]


def test_a_look_never_sees_the_future() -> None:
    """DRF-1: windows that end after now change nothing."""
    windows = month({2: {"japanese": 0.9, "accuracy": 0.3}}, 3)
    now = START + 2 * DAY
    past = [window for window in windows if window.end <= now]
    assert check(REFERENCE, windows, EMPTY, version=1, now=now) == check(
        REFERENCE, past, EMPTY, version=1, now=now
    )


def test_no_traffic_is_insufficient_not_quiet() -> None:
    """DRF-1: silence is never reported as health."""
    report = check(REFERENCE, [], EMPTY, version=1, now=START)
    assert {verdict.status for verdict in report.verdicts} == {Status.INSUFFICIENT}
    assert set(report.kinds.values()) == {None}
    assert report.fired == ()
    assert report.as_dict()["not_fired"] == ["input", "prediction", "label", "concept"]


PARTS = request_windows(REFERENCE, traffic(300, seed=9, lasts=2 * DAY), every=6 * HOUR, apart=True)


@given(
    st.lists(st.tuples(st.integers(0, len(PARTS) - 1), st.booleans()), max_size=40),
    st.integers(-3, 50),
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
)
def test_a_tally_is_the_sum_of_its_windows(moves, forgotten, span) -> None:
    """DRF-4: added, taken back and forgotten in any order, it is the merge of the windows that are left."""
    tally, left = Tally(REFERENCE.profile), []
    for index, comes in moves:
        if comes:
            tally.add([PARTS[index]])
            left.append(PARTS[index])
        elif PARTS[index] in left:
            tally.take_back([PARTS[index]])
            left.remove(PARTS[index])
    tally.forget(START + forgotten * HOUR)
    since, until = START + min(span) * HOUR, START + max(span) * HOUR
    seen = [
        one.profile
        for one in left
        if START + forgotten * HOUR <= one.start and since <= one.start and one.end <= until
    ]
    assert tally.within(since, until) == merge_requests(REFERENCE.profile, seen)
    tally.take_back(left)
    assert tally.within(START - DAY, START + 9 * DAY).rows == 0


def test_each_kind_is_due_at_its_own_cadence() -> None:
    """DRF-2: inputs and predictions every five minutes, labels and concept daily."""
    assert due(EMPTY, version=1, now=START) == tuple(Kind)
    looked = report_rows(check(REFERENCE, [], EMPTY, version=1, now=START))
    assert due(looked, version=1, now=START + timedelta(minutes=4)) == ()
    assert due(looked, version=1, now=START + CADENCE[Kind.INPUT]) == (Kind.INPUT, Kind.PREDICTION)
    assert due(looked, version=1, now=START + DAY) == tuple(Kind)
    assert due(looked, version=2, now=START) == tuple(Kind)


def test_history_lives_in_its_table(home: Home) -> None:
    """DRF-1: recorded in one commit, read back equal by another process's catalog; empty before."""
    with closing(Tables.open(home)) as tables:
        assert read_history(tables, "intent").equals(EMPTY)
        record(tables, [])
        reports = [check(REFERENCE, [], EMPTY, version=v, now=START + v * DAY) for v in (1, 2)]
        record(tables, reports)
    with closing(Tables.open(home)) as again:
        found = read_history(again, "intent")
        assert found.sort("at", "name").equals(
            pl.concat([report_rows(report) for report in reports]).sort("at", "name")
        )
        assert again.names() == ["drift.intent"]
