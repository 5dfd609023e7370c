"""Decisions stand in the ledger, are made once, and what became of them comes back as calibration."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.experiments.examples import frozen
from tests.experiments.tables import pairs_at
from tests.portfolio.examples import FRAMING, QUARTER, SMALL, line_of, replaced
from tests.portfolio.launches import plan_of, shipped, vetoed

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import Conflict, GateRefused, InputError
from mangaassist.core.verdict import Action, Status
from mangaassist.experiments import correlation
from mangaassist.portfolio import ledger_facts
from mangaassist.portfolio.decisions import decide_framing, decide_portfolio
from mangaassist.portfolio.outcomes import Result, finish, follow_up
from mangaassist.portfolio.ranking import rank
from mangaassist.portfolio.schema import read_portfolio
from mangaassist.storage.ledger import Ledger


def decided(ledger: Ledger, clock: SimulatedClock, text: str = SMALL) -> Action:
    return decide_portfolio(ledger, text, source="q.yaml", actor="rin", at=clock.now())[1].action


def test_a_quarter_is_decided_once_and_the_same_text_changes_nothing(
    ledger: Ledger, clock: SimulatedClock
) -> None:
    """POR-1: the choice is on record before the quarter starts."""
    first, decision = decide_portfolio(ledger, QUARTER, source="q.yaml", actor="rin", at=clock.now())
    assert decision.action is Action.PROMOTE
    head = ledger.head()
    again, same = decide_portfolio(
        ledger,
        QUARTER.replace("\n", "\r\n"),
        source="q.yaml",
        actor="aki",
        at=clock.advance(timedelta(days=1)),
    )
    assert ledger.head() == head
    assert (same, again["picks"]) == (decision, first["picks"])
    entry = ledger.entries(kind=ledger_facts.DECIDED)[0]
    assert entry.subject == "portfolio/2026-q3"
    assert entry.body["text"] == QUARTER
    assert ledger.verify().ok


def test_another_text_for_a_decided_quarter_is_refused_with_its_lines(
    ledger: Ledger, clock: SimulatedClock
) -> None:
    """POR-1: no quiet change of plan, no HARKing of learning targets."""
    decided(ledger, clock, QUARTER)
    old = "HRNN is dropped"
    with pytest.raises(GateRefused) as refused:
        decided(ledger, clock, replaced(old, "HRNN is tried again", QUARTER))
    assert f"frozen line {line_of(old, QUARTER)}" in str(refused.value)
    assert "new name" in refused.value.next_step


def test_verdicts_of_a_decision_carry_what_is_not_known(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-1: three finished candidates calibrate nobody, and the decision says so."""
    _, decision = decide_portfolio(ledger, SMALL, source="q", actor="rin", at=clock.now())
    found = {one.name: one for one in decision.verdicts}
    assert found["portfolio.calibration.confidence"].status is Status.INSUFFICIENT
    assert found["portfolio.calibration.effort"].n == 0
    assert found["portfolio.choice"].status is Status.PASS
    _, known = decide_portfolio(ledger, QUARTER, source="q", actor="rin", at=clock.now())
    assert {one.name: one.n for one in known.verdicts}["portfolio.calibration.effort"] == 12


def test_nothing_to_pick_is_refused_and_may_be_tried_again(ledger: Ledger, clock: SimulatedClock) -> None:
    poor = replaced("week_worth: 10", "week_worth: 1000")
    assert decided(ledger, clock, poor) is Action.REFUSE
    assert ledger.entries(kind=ledger_facts.REFUSED)
    assert decided(ledger, clock) is Action.PROMOTE


def test_a_collapsed_correlation_refuses_a_quarter_that_ignores_it(
    ledger: Ledger, clock: SimulatedClock
) -> None:
    """POR-1 meets EVA-5: the offline harness is rebuilt before more is launched on it."""
    for pair in pairs_at(0.7):
        correlation.record(ledger, "recommend", pair, actor="t", at=clock.now())
    assert ledger_facts.frozen_surfaces(ledger) == {}
    for pair in pairs_at(0.41):
        correlation.record(ledger, "reranker", pair, actor="t", at=clock.now())
    assert ledger_facts.frozen_surfaces(ledger) == pytest.approx({"reranker": 0.41})
    assert decided(ledger, clock) is Action.REFUSE
    harness = "  - {name: harness, title: H, team: search, kind: tooling, weeks: 3, restores: reranker}\n"
    ranking, decision = decide_portfolio(ledger, SMALL + harness, source="q", actor="r", at=clock.now())
    assert decision.action is Action.PROMOTE
    assert "harness" in ranking["picks"]


def test_a_framing_refuses_holds_or_promotes(ledger: Ledger, clock: SimulatedClock) -> None:
    """FRM-1: the model is refused for now, held for a missing reader, refused by a doubting one."""

    def framed(*change: str) -> tuple[Action, str]:
        text = replaced(change[0], change[1], FRAMING) if change else FRAMING
        found = decide_framing(ledger, text, source="f", actor="rin", at=clock.now())
        return found.action, ledger_facts.framings(ledger)["jp-first-session"].body["recommendation"]

    assert framed() == (Action.REFUSE, "heuristic first")
    head = ledger.head()
    assert framed() == (Action.REFUSE, "heuristic first")
    assert ledger.head() == head
    assert framed("    - {role: pm, name: Hana, believes: true}\n", "")[0] is Action.HOLD
    assert framed("name: Jun, believes: true", "name: Jun, believes: false") == (Action.REFUSE, "not at all")
    assert not ledger_facts.facts(ledger).framings["jp-first-session"]
    director = (
        "override: {role: director, name: Ren, justification: '" + "because it must be " * 6 + "'}\ntenets:"
    )
    assert framed("tenets:", director) == (Action.PROMOTE, "model by override")
    assert ledger_facts.facts(ledger).framings["jp-first-session"]


def test_outcomes_calibrate_the_next_quarter(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-2: predicted against realised feeds back into scoring."""
    before = rank(read_portfolio(SMALL, source="x"), ledger_facts.facts(ledger))
    decided(ledger, clock, QUARTER)
    finish(ledger, "2026-q3", "reranker-l12", weeks=24, result=Result.LOST, actor="r", at=clock.now())
    finish(ledger, "2026-q3", "intent-v2", weeks=20, result=Result.ABANDONED, actor="r", at=clock.now())
    facts = ledger_facts.facts(ledger)
    assert [(one.name, one.won, one.weeks, one.actual_weeks) for one in facts.history] == [
        ("reranker-l12", False, 12.0, 24.0),
        ("intent-v2", False, 8.0, 20.0),
    ]
    after = rank(read_portfolio(SMALL, source="x"), facts)
    assert after.calibration.effort.value > 1.2 > before.calibration.effort.value
    assert after.calibration.confidence.value < 0.95


def test_an_outcome_is_recorded_once_and_by_the_experiment(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-2: nobody declares a win that the experiment did not find."""
    decided(ledger, clock, replaced("name: a,", "name: a, experiment: exp-a,"))
    with pytest.raises(InputError, match="Register one"):
        finish(ledger, "q1", "a", weeks=9, actor="r", at=clock.now())
    frozen(ledger, plan_of("exp-a"), at=clock.now())
    with pytest.raises(GateRefused, match="to be decided, got it is running"):
        finish(ledger, "q1", "a", weeks=9, result=Result.WON, actor="r", at=clock.now())
    vetoed_name = "exp-b"
    vetoed(ledger, vetoed_name, at=clock.now())
    with pytest.raises(GateRefused, match=r"\(lost\), got won"):
        finish(ledger, "q1", "a", weeks=9, result=Result.WON, experiment="exp-b", actor="r", at=clock.now())
    assert finish(ledger, "q1", "a", weeks=9, experiment="exp-b", actor="r", at=clock.now()) is Result.LOST
    with pytest.raises(GateRefused, match="an open pick, got one that is lost"):
        finish(ledger, "q1", "a", weeks=9, experiment="exp-b", actor="r", at=clock.now())


@pytest.mark.parametrize(
    ("portfolio", "candidate", "weeks", "said"),
    [
        ("q2", "a", 5.0, "Did you mean 'q1'?"),
        ("q1", "z", 5.0, "one of its picks, got 'z'"),
        ("q1", "a", -1.0, "engineer-weeks above 0, got -1"),
        ("q1", "a", float("nan"), "engineer-weeks above 0"),
        ("q1", "a", 5.0, "Pass --result"),
    ],
)
def test_bad_outcomes_are_one_sentence(
    ledger: Ledger, clock: SimulatedClock, portfolio: str, candidate: str, weeks: float, said: str
) -> None:
    decided(ledger, clock)
    head = ledger.head()
    with pytest.raises(InputError) as refused:
        finish(ledger, portfolio, candidate, weeks=weeks, actor="r", at=clock.now())
    assert said in str(refused.value)
    assert ledger.head() == head


def test_a_swing_bet_is_finished_by_what_it_taught(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-1: a bet that lost and answered its question was right."""
    decided(ledger, clock, QUARTER)
    with pytest.raises(InputError, match="learning target was met"):
        finish(ledger, "2026-q3", "cold-start-hrnn", weeks=20, result=Result.LOST, actor="r", at=clock.now())
    finish(
        ledger,
        "2026-q3",
        "cold-start-hrnn",
        weeks=20,
        result=Result.LOST,
        learned=True,
        actor="r",
        at=clock.now(),
    )
    assert ledger_facts.get(ledger, "2026-q3").finished["cold-start-hrnn"]["learned"] is True


def test_two_people_finishing_at_once_leave_one_entry(
    ledger: Ledger, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(ledger, clock)
    stale = ledger_facts.get(ledger, "q1")
    finish(ledger, "q1", "a", weeks=9, result=Result.WON, actor="r", at=clock.now())
    monkeypatch.setattr(ledger_facts, "get", lambda *_: stale)
    with pytest.raises(Conflict):
        finish(ledger, "q1", "a", weeks=9, result=Result.LOST, actor="s", at=clock.now())


def test_follow_ups_wait_for_something_to_be_known(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-2: lifts are read after 28 days, vetoes when they were looked at again, each once."""
    shipped(ledger, "won", at=clock.now())
    vetoed(ledger, "stopped", at=clock.now())
    frozen(ledger, plan_of("open"), at=clock.now())

    def follow(name: str) -> None:
        follow_up(ledger, name, held=True, actor="r", at=clock.now())

    with pytest.raises(GateRefused, match="day 0 of 28"):
        follow("won")
    with pytest.raises(GateRefused, match="it is running"):
        follow("open")
    follow("stopped")
    clock.advance(timedelta(days=28))
    follow("won")
    for name in ("won", "stopped"):
        with pytest.raises(GateRefused, match="an earlier follow-up"):
            follow(name)
