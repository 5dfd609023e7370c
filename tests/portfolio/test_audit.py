"""The audit: the source's numbers, its rule on both sides of n, and a ledger with everything in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import START
from tests.experiments.examples import frozen
from tests.portfolio.examples import QUARTER, replaced
from tests.portfolio.launches import plan_of, shipped, vetoed

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments import registry
from mangaassist.portfolio.audit import LEAST, audit, measures, reliability
from mangaassist.portfolio.candidates import Past
from mangaassist.portfolio.decisions import decide_portfolio
from mangaassist.portfolio.evidence import (
    INCIDENT_OPENED,
    INCIDENT_RECOVERED,
    Evidence,
    FinishedPick,
    Period,
    Registration,
)
from mangaassist.portfolio.outcomes import Result, finish, follow_up
from mangaassist.storage.ledger import Ledger

YEAR = Period(START - timedelta(days=364), START)


def pick(won: bool, *, confidence: float = 0.7, ratio: float = 1.0, **more: object) -> FinishedPick:
    past = Past("p", confidence, won, 10.0, 10.0 * ratio)
    found = FinishedPick(
        past, confidence, 100.0, 90.0 if won else 0.0, False, None, won or None, "exp", False
    )
    return replace(found, **more)


def measured(evidence: Evidence) -> dict[str, Verdict]:
    return {one.name.removeprefix("audit."): one for one in measures(evidence)}


def flags(hits: int, n: int) -> tuple[bool, ...]:
    return tuple(index < hits for index in range(n))


def test_four_quarters_as_the_source_tells_them() -> None:
    """POR-2: 38 shipped and 34 lasting, 11 vetoed and 9 rightly, 1 override, 8 incidents."""
    generator = np.random.default_rng(2)
    won = flags(31, 38)
    picks = tuple(pick(w, confidence=0.78, ratio=float(generator.normal(1.15, 0.1))) for w in won)
    found = measured(
        Evidence(
            YEAR,
            picks=picks,
            sustained=flags(34, 38),
            harmful=flags(9, 11),
            vetoes=11,
            overrides=1,
            registrations=tuple(Registration(f"e{i}", "") for i in range(49)),
            recoveries=(30.0, 41.0, 44.0, 45.0, 47.0, 50.0, 55.0, 64.0),
            earlier_recoveries=(90.0, 100.0),
        )
    )
    assert found["hit_rate"].value == pytest.approx(0.89, abs=0.006)
    assert found["veto_effectiveness"].value == pytest.approx(0.82, abs=0.002)
    assert found["confidence"].value == pytest.approx(0.82 - 0.78, abs=0.005)
    assert found["effort"].value == pytest.approx(1.15, abs=0.04)
    assert (found["recovery_minutes"].value, found["recovery_minutes"].threshold) == (47, 95)
    assert found["pre_registration"].value == 1.0
    names = (
        "hit_rate", "veto_effectiveness", "confidence", "effort", "override_rate", "pre_registration",
        "cohort_regressions", "recovery_minutes",
    )  # fmt: skip
    assert {name: found[name].status for name in names} == dict.fromkeys(names, Status.PASS)


def test_every_number_has_n_and_an_interval_or_says_it_has_none() -> None:
    """POR-2."""
    for evidence in (Evidence(YEAR), Evidence(YEAR, picks=(pick(True), pick(False)), vetoes=2)):
        for name, one in measured(evidence).items():
            if evidence.picks == ():
                assert (one.status, one.value) in ((Status.INSUFFICIENT, None), (Status.INSUFFICIENT, 0.0)), (
                    name
                )
            if one.value is not None and one.n:
                assert one.low is not None
                assert one.high is not None
                assert one.low <= one.value <= one.high
            assert not one.blocking


@given(st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_rule_on_a_share(counted: tuple[int, int]) -> None:
    """POR-2: small n says nothing, a pass meets the target, a fail is shown."""
    hits, n = counted
    found = measured(Evidence(YEAR, sustained=flags(hits, n)))["hit_rate"]
    if n < LEAST:
        assert found.status is Status.INSUFFICIENT
    elif hits / n >= 0.8:
        assert found.status is Status.PASS
    else:
        assert found.high is not None
        assert found.status is (Status.FAIL if found.high < 0.8 else Status.INSUFFICIENT)


def test_overconfidence_fails_and_its_haircut_is_offered() -> None:
    """POR-2: eight in ten stated, half realised."""
    picks = tuple(pick(w, confidence=0.8) for w in flags(20, 40))
    assert measured(Evidence(YEAR, picks=picks))["confidence"].status is Status.FAIL
    fixed = tuple(replace(one, calibrated=0.5) for one in picks)
    assert measured(Evidence(YEAR, picks=fixed))["confidence_calibrated"].status is Status.PASS


def test_twelve_picks_near_their_promise_are_no_alarm() -> None:
    """POR-2: 7 of 12 where 8.4 were expected is noise: neither a pass within ten points nor a failure."""
    found = measured(Evidence(YEAR, picks=tuple(pick(w) for w in flags(7, 12))))["confidence"]
    assert found.status is Status.INSUFFICIENT
    assert "8.4 were expected" in found.sentence


@pytest.mark.parametrize(("ratio", "status"), [(1.0, Status.PASS), (1.29, Status.PASS), (2.4, Status.FAIL)])
def test_effort(ratio: float, status: Status) -> None:
    generator = np.random.default_rng(4)
    picks = tuple(pick(True, ratio=ratio * float(generator.uniform(0.95, 1.0))) for _ in range(10))
    found = measured(Evidence(YEAR, picks=picks))["effort"]
    assert found.status is status
    assert ("10 of 10 twice or more" in found.sentence) == (ratio > 2)


def test_overrides_beyond_a_fifth_are_a_breakdown() -> None:
    """POR-2, GRD-2."""
    found = measured(Evidence(YEAR, vetoes=20, overrides=12))["override_rate"]
    assert found.status is Status.FAIL
    assert "no longer what decides" in found.sentence
    assert measured(Evidence(YEAR, vetoes=12, overrides=2))["override_rate"].status is Status.INSUFFICIENT


def test_more_regressed_cohorts_than_accepted_is_a_fact() -> None:
    quarter = Period(START, START + timedelta(days=91))
    found = measured(Evidence(quarter, sustained=(True,), cohort_regressions=2))["cohort_regressions"]
    assert (found.status, found.threshold) == (Status.FAIL, 1.0)
    year = measured(Evidence(YEAR, sustained=flags(9, 9), cohort_regressions=2))["cohort_regressions"]
    assert (year.status, year.threshold) == (Status.PASS, 4.0)


def test_a_lost_lift_counts_against_the_pick_and_an_unread_one_does_not() -> None:
    """POR-2: shipped and lasting over picked; those nobody has read again are not counted."""
    picks = (pick(True), pick(True, sustained=False), pick(True, sustained=None), pick(False))
    found = measured(Evidence(YEAR, picks=picks))["pick_hit_rate"]
    assert (found.n, found.value) == (3, pytest.approx(1 / 3))


def test_a_target_written_after_the_experiment_froze_is_no_learning(
    ledger: Ledger, clock: SimulatedClock
) -> None:
    """POR-1: no learning target from people who could already look."""
    vetoed(ledger, "early", at=clock.now())
    decide_portfolio(ledger, QUARTER, source="q", actor="rin", at=clock.now())
    finish(
        ledger, "2026-q3", "cold-start-hrnn", weeks=20, learned=True, experiment="early", actor="r",
        at=clock.now(),
    )  # fmt: skip
    found = audit(ledger).verdict("learning")
    assert (found.value, found.n) == (0.0, 1)


def test_reliability_bins_rise_with_stated_confidence() -> None:
    picks = [pick(i % 10 < 10 * c, confidence=c) for c in (0.2, 0.5, 0.8) for i in range(10)]
    bins = reliability(picks, bins=3)
    assert [round(one.stated, 1) for one in bins] == [0.2, 0.5, 0.8]
    assert [one.realised.value for one in bins] == pytest.approx([0.2, 0.5, 0.8])
    assert reliability(picks[:3]) == ()


def test_an_audit_of_a_whole_ledger(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-2: everything is computed from entries that other people wrote."""
    text = replaced("name: a,", "name: a, experiment: exp-won,").replace("slots: 2", "slots: 3")
    decide_portfolio(ledger, text, source="q", actor="rin", at=clock.now())
    decide_portfolio(ledger, QUARTER, source="q", actor="rin", at=clock.now())
    shipped(ledger, "exp-won", at=clock.now())
    vetoed(ledger, "exp-vetoed", at=clock.now())
    vetoed(ledger, "exp-forced", at=clock.now(), override=True)
    frozen(ledger, plan_of("exp-idle"), at=clock.now())
    for name, minutes in (("1", 30), ("2", 50)):
        ledger.append(kind=INCIDENT_OPENED, subject=f"incident/{name}", body={}, actor="p", at=clock.now())
        at = clock.now() + timedelta(minutes=minutes)
        ledger.append(kind=INCIDENT_RECOVERED, subject=f"incident/{name}", body={}, actor="p", at=at)
    clock.advance(timedelta(days=30))
    follow_up(ledger, "exp-won", held=True, cohort_regressions=1, actor="r", at=clock.now())
    follow_up(ledger, "exp-forced", held=False, actor="r", at=clock.now())
    follow_up(ledger, "exp-vetoed", held=True, actor="r", at=clock.now())
    finish(ledger, "q1", "a", weeks=10, lift=0.012, actor="r", at=clock.now())
    finish(ledger, "q1", "b", weeks=16, result=Result.LOST, actor="r", at=clock.now())
    finish(
        ledger, "2026-q3", "cold-start-hrnn", weeks=30, result=Result.LOST, learned=True,
        experiment="exp-vetoed", actor="r", at=clock.now(),
    )  # fmt: skip
    found = audit(ledger)
    numbers = {one.name.removeprefix("audit."): (one.value, one.n) for one in found.verdicts}
    assert numbers["hit_rate"] == (0.5, 2)
    assert numbers["pick_hit_rate"] == (pytest.approx(1 / 3), 3)
    assert numbers["veto_effectiveness"] == (1.0, 1)
    assert numbers["override_rate"] == (0.5, 2)
    assert numbers["pre_registration"] == (0.75, 4), "pick b was tested by nothing that was registered"
    assert "b finished without an experiment" in found.verdict("pre_registration").sentence
    assert numbers["learning"] == (1.0, 1)
    assert numbers["effort"] == (pytest.approx((10 / 8 + 16 / 8 + 30 / 18) / 3), 3)
    assert numbers["recovery_minutes"] == (40.0, 2)
    assert numbers["cohort_regressions"] == (1.0, 2)
    worth = (1000 * 1.2) / (1000 * 0.4 + 900 * 0.4 + 2.5e6 * 1.2 * 0.28 * found_factor(ledger))
    assert numbers["realised_worth"] == (pytest.approx(worth), 3)
    assert found.verdict("pre_registration").status is Status.FAIL, "a violation is a fact"
    judged = [one for one in found.verdicts if one.name != "audit.pre_registration"]
    assert {one.status for one in judged} == {Status.INSUFFICIENT}, "three picks prove nothing"
    assert found.calibration.effort.n == 3
    assert found.brier == pytest.approx(np.mean([(0.4 - 1) ** 2, 0.4**2, 0.28**2]))


def found_factor(ledger: Ledger) -> float:
    """The confidence factor that the example's quarter was decided with."""
    bodies = [entry.body for entry in ledger.entries(subject="portfolio/2026-q3")]
    return float(bodies[0]["ranking"]["calibration"]["confidence"]["value"])


def test_a_period_keeps_what_falls_into_it(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-2: one quarter's audit, and the time before it to compare with."""
    for day, minutes in ((0, 90), (1, 100), (40, 30), (41, 50), (100, 500)):
        at = START + timedelta(days=day)
        ledger.append(kind=INCIDENT_OPENED, subject=f"incident/{day}", body={}, actor="p", at=at)
        done = at + timedelta(minutes=minutes)
        ledger.append(kind=INCIDENT_RECOVERED, subject=f"incident/{day}", body={}, actor="p", at=done)
    found = audit(ledger, since=START + timedelta(days=30), until=START + timedelta(days=90))
    one = found.verdict("recovery_minutes")
    assert (one.value, one.threshold, one.n) == (40.0, 95.0, 2)


def test_an_experiment_that_ran_before_its_freeze_is_found(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-2: compliance is read from sequences and signatures, not believed."""
    known = registry.register(ledger, plan_of("early"), source="x", actor="r", at=clock.now())
    body = {"exposure": 0.5}
    ledger.append(kind=registry.RAMPED, subject=known.subject, body=body, actor="r", at=clock.now())
    found = audit(ledger).verdict("pre_registration")
    assert (found.value, found.n) == (0.0, 1)
    assert "early ran before it was frozen" in found.sentence


def test_a_freeze_without_signatures_is_found(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-2: signatures count only for the frozen text and before the freeze."""
    known = registry.register(ledger, plan_of("forged"), source="x", actor="r", at=clock.now())
    frozen_body = {"digest": known.digest, "segments": [], "excluded": {}, "exposure": 0.01}
    signed = {"role": "pm", "digest": known.digest}
    for kind, body in (
        (registry.FROZEN, frozen_body),
        (registry.SIGNED, signed),
        (registry.RAMPED, {"exposure": 0.1}),
    ):
        ledger.append(kind=kind, subject=known.subject, body=body, actor="r", at=clock.now())
    said = audit(ledger).verdict("pre_registration").sentence
    assert "forged frozen without pm, applied_ml_engineer, engineering_manager" in said


def test_an_empty_ledger_has_an_audit(ledger: Ledger) -> None:
    found = audit(ledger)
    assert {one.status for one in found.verdicts} == {Status.INSUFFICIENT}
    assert (found.reliability, found.brier) == ((), None)
