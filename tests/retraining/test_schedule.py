"""When a retrain is proposed, and when it is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.drift.history import Kind, Standing, State
from mangaassist.drift.hub import DriftReport
from mangaassist.retraining.schedule import Cause, Proposed, propose

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
STORY = Story("intent", "text-classification", "x")
NAMES = {
    Kind.INPUT: "drift.input.language",
    Kind.PREDICTION: "drift.prediction",
    Kind.LABEL: "drift.label",
    Kind.CONCEPT: "drift.concept",
}


def report(*fired: Kind, rising: tuple[Kind, ...] = (), since: datetime = NOW - 8 * DAY) -> DriftReport:
    kinds: dict[Kind, Standing | None] = dict.fromkeys(Kind)
    for kind in (*fired, *rising):
        state = State.FIRED if kind in fired else State.RISING
        kinds[kind] = Standing(NAMES[kind], kind, state, since, NOW, 0.31, 0.2)
    verdicts = tuple(Verdict(NAMES[kind], Status.FAIL, "moved", 0.31) for kind in (*fired, *rising))
    return DriftReport("intent", 4, NOW, verdicts, kinds)


def test_weekly_cadence() -> None:
    """RET-1: due a week after the last retrain, to the second."""
    before = propose(
        STORY, last_retrain_at=NOW - 7 * DAY + timedelta(seconds=1), now=NOW, drift=None, frozen=False
    )
    after = propose(STORY, last_retrain_at=NOW - 7 * DAY, now=NOW, drift=None, frozen=False)
    assert (before.action, before.cause) == (Proposed.NOTHING, None)
    assert (after.action, after.cause, after.due) == (Proposed.RETRAIN, Cause.CADENCE, NOW)


def test_the_first_retrain_is_due_at_once() -> None:
    """RET-1: a story without a version wants one, and asking later is the same occasion."""
    first = propose(STORY, last_retrain_at=None, now=NOW, drift=None, frozen=False)
    later = propose(STORY, last_retrain_at=None, now=NOW + DAY, drift=None, frozen=False)
    assert (first.action, first.cause) == (Proposed.RETRAIN, Cause.FIRST)
    assert first.key == later.key


def test_concept_drift_is_the_trigger() -> None:
    """RET-1: sustained concept drift retrains before the cadence, with its verdicts."""
    found = propose(STORY, last_retrain_at=NOW - 2 * DAY, now=NOW, drift=report(Kind.CONCEPT), frozen=False)
    assert (found.action, found.cause) == (Proposed.RETRAIN, Cause.DRIFT)
    assert [one.name for one in found.verdicts] == ["drift.concept"]
    assert "drift.concept at 0.310 (limit 0.2) for 192 h" in found.reason


@pytest.mark.parametrize("kind", [Kind.INPUT, Kind.PREDICTION, Kind.LABEL])
def test_other_drift_asks_for_a_review(kind: Kind) -> None:
    """DRF-3: triage, not reflex: without a loss of quality a person looks first."""
    found = propose(STORY, last_retrain_at=NOW - 2 * DAY, now=NOW, drift=report(kind), frozen=False)
    assert (found.action, found.cause) == (Proposed.REVIEW, Cause.DRIFT)
    assert NAMES[kind] in found.reason
    assert [one.name for one in found.verdicts] == [NAMES[kind]]


def test_drift_that_only_rises_proposes_nothing() -> None:
    """DRF-1: sustained means sustained."""
    found = propose(
        STORY, last_retrain_at=NOW - 2 * DAY, now=NOW, drift=report(rising=tuple(Kind)), frozen=False
    )
    assert found.action is Proposed.NOTHING


def test_concept_goes_before_cadence_before_review() -> None:
    """RET-1: one proposal at a time, the most pressing first; what was proposed makes room for the next."""
    asked = {
        "last_retrain_at": NOW - 9 * DAY,
        "now": NOW,
        "drift": report(Kind.CONCEPT, Kind.INPUT),
        "frozen": False,
    }
    seen: list[tuple[Proposed, Cause | None]] = []
    recorded: set[str] = set()
    for _ in range(4):
        found = propose(STORY, recorded=recorded, **asked)  # type: ignore[arg-type]
        seen.append((found.action, found.cause))
        recorded.add(found.key)
    assert seen == [
        (Proposed.RETRAIN, Cause.DRIFT),
        (Proposed.RETRAIN, Cause.CADENCE),
        (Proposed.REVIEW, Cause.DRIFT),
        (Proposed.NOTHING, None),
    ]


def test_the_same_run_of_drift_is_proposed_once() -> None:
    """RET-1: deduplicated by occasion: an hour later it is the same; a new run or version is not."""
    asked = {"last_retrain_at": NOW - 2 * DAY, "frozen": False}
    first = propose(STORY, now=NOW, drift=report(Kind.INPUT), **asked)  # type: ignore[arg-type]
    later = {"now": NOW + timedelta(hours=1), "recorded": {first.key}, **asked}
    again = propose(STORY, drift=report(Kind.INPUT), **later)  # type: ignore[arg-type]
    assert again.action is Proposed.NOTHING
    assert again.reason.startswith("Already proposed")
    run = propose(STORY, drift=report(Kind.INPUT, since=NOW - DAY), **later)  # type: ignore[arg-type]
    version = propose(STORY, drift=replace(report(Kind.INPUT), version=5), **later)  # type: ignore[arg-type]
    assert run.action is version.action is Proposed.REVIEW


def test_cooldown_keeps_a_failing_candidate_from_retraining_in_circles() -> None:
    """RET-1: after a retrain the same drift may not start the next one at once."""
    drift = report(Kind.CONCEPT)
    hot = propose(STORY, last_retrain_at=NOW - timedelta(hours=23), now=NOW, drift=drift, frozen=False)
    cool = propose(STORY, last_retrain_at=NOW - timedelta(hours=24), now=NOW, drift=drift, frozen=False)
    assert (hot.action, cool.action) == (Proposed.NOTHING, Proposed.RETRAIN)


KINDS = st.frozensets(st.sampled_from(list(Kind)))
LAST = st.one_of(st.none(), st.integers(0, 40 * 24).map(lambda hours: NOW - timedelta(hours=hours)))


@given(KINDS, LAST)
def test_a_freeze_ignores_everything(kinds: frozenset[Kind], last: datetime | None) -> None:
    """PRO-8: under the global freeze neither drift nor cadence proposes anything."""
    found = propose(STORY, last_retrain_at=last, now=NOW, drift=report(*kinds), frozen=True)
    assert found.action is Proposed.NOTHING
    assert "freeze" in found.reason


@given(KINDS, LAST)
def test_recording_every_proposal_ends_in_nothing(kinds: frozenset[Kind], last: datetime | None) -> None:
    """RET-1: proposals of one moment are few and all different, and each can be stored."""
    recorded: set[str] = set()
    for _ in range(4):
        found = propose(
            STORY, last_retrain_at=last, now=NOW, drift=report(*kinds), frozen=False, recorded=recorded
        )
        assert found.as_dict()["key"] == found.key
        if found.action is Proposed.NOTHING:
            return
        assert found.key not in recorded
        recorded.add(found.key)
    raise AssertionError("a fourth proposal at one moment")
