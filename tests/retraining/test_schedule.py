"""When a retrain is proposed, and when it is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.retraining.policy import RetrainPolicy
from mangaassist.retraining.schedule import Cause, Proposed, propose
from mangaassist.retraining.triage import CORRUPTED, PROPOSALS, Conclusion, Confidence, Triage

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
STORY = Story("intent", "text-classification", "x")


def judged(
    conclusion: Conclusion, *, fired: bool = True, severity: str = "", occasion: str = "a", version: int = 4
) -> Triage:
    """What a triage says, as far as a proposal reads it."""
    drift = Verdict("triage.drift", Status.FAIL if fired else Status.PASS, "Fired: drift.concept for 192 h.")
    return Triage(
        "intent",
        version,
        NOW,
        (drift,),
        conclusion,
        PROPOSALS[conclusion],
        Confidence.HIGH,
        (),
        severity,
        drift.sentence,
        f"{conclusion} {occasion}",
    )


def test_weekly_cadence() -> None:
    """RET-1: due a week after the last retrain, to the second."""
    before = propose(
        STORY, last_retrain_at=NOW - 7 * DAY + timedelta(seconds=1), now=NOW, triage=None, frozen=False
    )
    after = propose(STORY, last_retrain_at=NOW - 7 * DAY, now=NOW, triage=None, frozen=False)
    assert (before.action, before.cause) == (Proposed.NOTHING, None)
    assert (after.action, after.cause, after.due) == (Proposed.RETRAIN, Cause.CADENCE, NOW)


def test_the_first_retrain_is_due_at_once() -> None:
    """RET-1: a story without a version wants one, and asking later is the same occasion."""
    first = propose(STORY, last_retrain_at=None, now=NOW, triage=None, frozen=False)
    later = propose(STORY, last_retrain_at=None, now=NOW + DAY, triage=None, frozen=False)
    assert (first.action, first.cause) == (Proposed.RETRAIN, Cause.FIRST)
    assert first.key == later.key


@pytest.mark.parametrize(
    ("conclusion", "action"),
    [
        (Conclusion.UPSTREAM, Proposed.RETRAIN),
        (Conclusion.SLICE_REGRESSION, Proposed.RETRAIN),
        (Conclusion.SUSTAINED, Proposed.RETRAIN),
        (Conclusion.SCHEMA_BREAK, Proposed.PAGE),
        (Conclusion.OUTAGE, Proposed.PAGE),
        (Conclusion.UNEXPLAINED, Proposed.REVIEW),
        (Conclusion.SEASON, Proposed.NOTHING),
        (Conclusion.NO_DRIFT, Proposed.NOTHING),
    ],
)
def test_the_triage_decides(conclusion: Conclusion, action: Proposed) -> None:
    """DRF-3: triage, not reflex."""
    found = propose(STORY, last_retrain_at=NOW - 2 * DAY, now=NOW, triage=judged(conclusion), frozen=False)
    assert found.action is action
    assert found.cause is (None if action is Proposed.NOTHING else Cause.DRIFT)
    if action is not Proposed.NOTHING:
        assert "drift.concept for 192 h" in found.reason
        assert [one.name for one in found.verdicts] == ["triage.drift"]


def test_drift_that_only_rises_asks_nobody() -> None:
    """DRF-1: sustained means sustained."""
    triage = judged(Conclusion.UNEXPLAINED, fired=False)
    found = propose(STORY, last_retrain_at=NOW - 2 * DAY, now=NOW, triage=triage, frozen=False)
    assert found.action is Proposed.NOTHING


@pytest.mark.parametrize("conclusion", sorted(CORRUPTED))
@pytest.mark.parametrize("last", [None, NOW - 30 * DAY, NOW - timedelta(hours=1)])
def test_nothing_is_retrained_on_corrupted_data(conclusion: Conclusion, last: datetime | None) -> None:
    """DRF-3: not by the cadence, not by the first run, not once the page was proposed, not unseen."""
    asked = {"last_retrain_at": last, "now": NOW, "triage": judged(conclusion), "frozen": False}
    page = propose(STORY, **asked)  # type: ignore[arg-type]
    assert page.action is Proposed.PAGE
    again = propose(STORY, recorded={page.key}, **asked)  # type: ignore[arg-type]
    assert again.action is Proposed.NOTHING
    unseen = propose(STORY, last_retrain_at=last, now=NOW, triage=None, frozen=False, barred="An outage.")
    assert (unseen.action, unseen.reason) == (
        Proposed.NOTHING,
        "Nothing is retrained on corrupted data. An outage.",
    )


def test_the_triage_goes_before_the_cadence() -> None:
    """RET-1: one proposal at a time, the most pressing first; what was proposed makes room for the next."""
    asked = {
        "last_retrain_at": NOW - 9 * DAY,
        "now": NOW,
        "triage": judged(Conclusion.SUSTAINED),
        "frozen": False,
    }
    seen: list[tuple[Proposed, Cause | None]] = []
    recorded: set[str] = set()
    for _ in range(3):
        found = propose(STORY, recorded=recorded, **asked)  # type: ignore[arg-type]
        seen.append((found.action, found.cause))
        recorded.add(found.key)
    assert seen == [
        (Proposed.RETRAIN, Cause.DRIFT),
        (Proposed.RETRAIN, Cause.CADENCE),
        (Proposed.NOTHING, None),
    ]


def test_the_same_occasion_is_proposed_once() -> None:
    """RET-1: an hour later it is the same; a new run of drift or a new version is not."""
    asked = {"last_retrain_at": NOW - 2 * DAY, "frozen": False}
    first = propose(STORY, now=NOW, triage=judged(Conclusion.UPSTREAM), **asked)  # type: ignore[arg-type]
    later = {"now": NOW + timedelta(hours=1), "recorded": {first.key}, **asked}
    again = propose(STORY, triage=judged(Conclusion.UPSTREAM), **later)  # type: ignore[arg-type]
    assert again.action is Proposed.NOTHING
    assert again.reason.startswith("Already proposed")
    run = propose(STORY, triage=judged(Conclusion.UPSTREAM, occasion="b"), **later)  # type: ignore[arg-type]
    other = propose(STORY, triage=judged(Conclusion.UPSTREAM, version=5), **later)  # type: ignore[arg-type]
    assert run.action is other.action is Proposed.RETRAIN


def test_cooldown_keeps_a_failing_candidate_from_retraining_in_circles() -> None:
    """RET-1: after a retrain the same drift may not start the next one at once."""
    triage = judged(Conclusion.SUSTAINED)
    hot = propose(STORY, last_retrain_at=NOW - timedelta(hours=23), now=NOW, triage=triage, frozen=False)
    cool = propose(STORY, last_retrain_at=NOW - timedelta(hours=24), now=NOW, triage=triage, frozen=False)
    assert (hot.action, cool.action) == (Proposed.NOTHING, Proposed.RETRAIN)


def test_a_spent_budget_asks_a_person_but_safety_does_not_wait() -> None:
    """RET-1, GOV-6: over the month's budget drift retrains nothing by itself, unless it is a SEV-3."""
    asked = {
        "last_retrain_at": NOW - 2 * DAY,
        "now": NOW,
        "frozen": False,
        "policy": RetrainPolicy(per_month=1.0),
    }
    triage = judged(Conclusion.SLICE_REGRESSION)
    within = propose(STORY, triage=triage, spent=0.99, **asked)  # type: ignore[arg-type]
    over = propose(STORY, triage=triage, spent=1.0, **asked)  # type: ignore[arg-type]
    severe = propose(STORY, triage=replace(triage, severity="SEV-3"), spent=9.0, **asked)  # type: ignore[arg-type]
    assert (within.action, over.action, severe.action) == (
        Proposed.RETRAIN,
        Proposed.REVIEW,
        Proposed.RETRAIN,
    )
    assert "budget of 1 is spent" in over.reason
    assert severe.severity == "SEV-3"


CONCLUSIONS = st.sampled_from(list(Conclusion))
LAST = st.one_of(st.none(), st.integers(0, 40 * 24).map(lambda hours: NOW - timedelta(hours=hours)))


@given(CONCLUSIONS, LAST)
def test_a_freeze_ignores_everything(conclusion: Conclusion, last: datetime | None) -> None:
    """PRO-8: under the global freeze neither drift nor cadence proposes anything."""
    found = propose(STORY, last_retrain_at=last, now=NOW, triage=judged(conclusion), frozen=True)
    assert found.action is Proposed.NOTHING
    assert "freeze" in found.reason


@given(CONCLUSIONS, LAST)
def test_recording_every_proposal_ends_in_nothing(conclusion: Conclusion, last: datetime | None) -> None:
    """RET-1: proposals of one moment are few and all different, and each can be stored."""
    recorded: set[str] = set()
    for _ in range(4):
        found = propose(
            STORY, last_retrain_at=last, now=NOW, triage=judged(conclusion), frozen=False, recorded=recorded
        )
        assert found.as_dict()["key"] == found.key
        if found.action is Proposed.NOTHING:
            return
        assert found.key not in recorded
        recorded.add(found.key)
    raise AssertionError("a fourth proposal at one moment")
