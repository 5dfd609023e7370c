"""Looks, decisions and overrides through the ledger, with the incidents of the design chapters replayed."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from tests.experiments.examples import RERANKER, frozen, replaced
from tests.experiments.tables import pairs_at, table

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import GateRefused, InputError
from mangaassist.core.verdict import Action, Decision, Status
from mangaassist.experiments import correlation, overrides, registry
from mangaassist.experiments.looks import settle, take_look
from mangaassist.experiments.territory import held
from mangaassist.storage.ledger import Ledger

NAME = "reranker-l12"
REVIEW = "We ship against the CSAT veto because the survey changed in week two. " * 6


def look(ledger: Ledger, clock: SimulatedClock, frame: pl.DataFrame, day: int | None = None) -> Decision:
    return take_look(ledger, NAME, frame.lazy(), at=clock.now(), actor="dashboard", day=day)[1]


def test_incident_significant_at_a_glance_is_not_crossed_at_look_two(
    ledger: Ledger, clock: SimulatedClock
) -> None:
    """AML-03: p = .04 at day 7; O'Brien-Fleming does not cross, the experiment goes on and wins at day 14."""
    text = RERANKER[: RERANKER.index("covariates:")] + RERANKER[RERANKER.index("guardrails:") :]
    frozen(ledger, text, at=clock.now())
    day_seven = at_p_value(0.04)
    found = [look(ledger, clock, at_p_value(0.3)), look(ledger, clock, day_seven)]
    assert [one.action for one in found] == [Action.HOLD, Action.HOLD]
    primary = registry.get(ledger, NAME).looks[1]["readings"][0]
    assert not primary["significant"]
    assert primary["adjusted_p"] > 0.05
    assert settle(ledger, NAME, actor="pm", at=clock.now()).action is Action.HOLD
    look(ledger, clock, day_seven)
    final = table(40_000, lift=0.06, csat=-0.002)
    assert look(ledger, clock, final).action is Action.PROMOTE
    assert settle(ledger, NAME, actor="pm", at=clock.now()).action is Action.PROMOTE
    assert registry.get(ledger, NAME).status == "shipped"
    assert held(ledger, "reranker") == {}


def at_p_value(p: float) -> pl.DataFrame:
    """A table whose plain Welch p-value on the primary is exactly ``p``, in every locale alike."""
    from scipy import stats

    frame = table(24_000, lift=0.0, seed=3)
    treated = (frame["arm"] == "treatment").to_numpy()
    y = frame["useful_rate"].to_numpy()
    n = len(y)
    error = np.sqrt(y[treated].var(ddof=1) / treated.sum() + y[~treated].var(ddof=1) / (~treated).sum())
    wanted = float(stats.norm.isf(p / 2)) * error
    y = y + treated * (wanted - (y[treated].mean() - y[~treated].mean()))
    assert n == len(frame)
    return frame.with_columns(useful_rate=pl.Series(y))


def test_incident_csat_vetoes_a_significant_win(ledger: Ledger, clock: SimulatedClock) -> None:
    """AML-05, GRD-1, EXP-6: +6% and CSAT -1.43%: the rollout pauses by itself and is rolled back."""
    frozen(ledger, RERANKER, at=clock.now())
    decision = look(ledger, clock, table(40_000, lift=0.06, csat=-0.0143 - 0.006, seed=5), day=14)
    assert decision.action is Action.ROLL_BACK
    vetoed = [one.name for one in decision.verdicts if one.status is Status.FAIL and one.blocking]
    assert vetoed == ["guardrail.csat"]
    known = registry.get(ledger, NAME)
    assert known.paused
    assert known.running().exposure == 0.0
    assert settle(ledger, NAME, actor="pm", at=clock.now()).action is Action.ROLL_BACK
    assert registry.get(ledger, NAME).status == "stopped"


def test_incident_japan_stops_at_the_first_look(ledger: Ledger, clock: SimulatedClock) -> None:
    """AML-06, COH-1: aggregate up, JP -8.2%: vetoed at day 4 already."""
    frozen(ledger, RERANKER, at=clock.now())
    decision = look(ledger, clock, table(60_000, lift=0.08, cohort_lift={"ja": -0.082}))
    assert decision.action is Action.ROLL_BACK
    assert "locale=ja" in decision.reason


def test_looks_outside_the_plan_are_refused(ledger: Ledger, clock: SimulatedClock) -> None:
    """Bad input: a look that is not in the plan, more looks than registered, a look before the signatures."""
    registry.register(ledger, RERANKER, source="a", actor="rin", at=clock.now())
    dull = table(6_000, lift=0.0)
    with pytest.raises(GateRefused, match="every signature before analysis"):
        look(ledger, clock, dull)
    frozen(ledger, RERANKER, at=clock.now())
    with pytest.raises(InputError, match="at least one look"):
        settle(ledger, NAME, actor="pm", at=clock.now())
    with pytest.raises(GateRefused, match="day 5"):
        look(ledger, clock, dull, day=5)
    look(ledger, clock, dull, day=7)
    with pytest.raises(GateRefused, match="a look after day 7"):
        look(ledger, clock, dull, day=4)
    look(ledger, clock, dull, day=14)
    with pytest.raises(GateRefused, match="a running experiment"):
        look(ledger, clock, dull)


def test_broken_data_spends_no_look(ledger: Ledger, clock: SimulatedClock) -> None:
    frozen(ledger, RERANKER, at=clock.now())
    assert look(ledger, clock, table(control_share=0.55)).action is Action.REFUSE
    known = registry.get(ledger, NAME)
    assert known.looks == ()
    assert not known.paused


def test_what_is_open_after_the_last_look_rolls_back(ledger: Ledger, clock: SimulatedClock) -> None:
    """EXP-6: nothing ships by a timeout."""
    frozen(ledger, RERANKER, at=clock.now())
    assert look(ledger, clock, table(2_000, lift=0.02), day=14).action in (Action.HOLD, Action.ROLL_BACK)
    assert settle(ledger, NAME, actor="pm", at=clock.now()).action is Action.ROLL_BACK


def test_an_override_needs_a_review_a_director_and_ninety_days(ledger: Ledger, clock: SimulatedClock) -> None:
    """GRD-2: a written review, a director's sign-off and tracking; rates per team are flagged."""
    frozen(ledger, RERANKER, at=clock.now())
    with pytest.raises(GateRefused, match="one open guardrail veto"):
        overrides.override(ledger, NAME, REVIEW, role="director", actor="dai", at=clock.now())
    look(ledger, clock, table(40_000, lift=0.06, csat=-0.02), day=14)
    with pytest.raises(GateRefused, match="director"):
        overrides.override(ledger, NAME, REVIEW, role="pm", actor="pia", at=clock.now())
    with pytest.raises(InputError, match="at least 50 words"):
        overrides.override(ledger, NAME, "Ship it.", role="director", actor="dai", at=clock.now())
    overrides.override(ledger, NAME, REVIEW, role="director", actor="dai", at=clock.now())
    decision = settle(ledger, NAME, actor="pm", at=clock.now())
    assert (decision.action, decision.actor) == (Action.PROMOTE, "dai")
    rate = overrides.override_rates(ledger)[0]
    assert (rate.status, rate.value) == (Status.FAIL, 1.0)
    clock.advance(timedelta(days=91))
    assert overrides.tracked(ledger, now=clock.now())[0].overdue
    with pytest.raises(InputError, match="Did you mean 'csat'"):
        overrides.follow_up(ledger, NAME, {"csatt": -0.004}, actor="aki", at=clock.now())
    overrides.follow_up(ledger, NAME, {"csat": -0.004}, actor="aki", at=clock.now())
    assert not overrides.tracked(ledger, now=clock.now())[0].overdue


def test_a_collapsed_correlation_freezes_launches_on_its_surface(
    ledger: Ledger, clock: SimulatedClock
) -> None:
    """EVA-5, AML-04: at .41 even a clean win waits until the harness is rebuilt."""
    frozen(ledger, RERANKER, at=clock.now())
    for pair in pairs_at(0.41):
        correlation.record(ledger, "reranker", pair, actor="policy", at=clock.now())
    assert look(ledger, clock, table(40_000), day=14).action is Action.PROMOTE
    decision = settle(ledger, NAME, actor="pm", at=clock.now())
    assert decision.action is Action.HOLD
    assert "frozen" in decision.reason


@pytest.mark.parametrize(
    ("offline", "lift", "says"),
    [
        ("", 0.06, "no offline change was registered"),
        ("offline: {metric: ndcg@3, change: 1%, mde: 2%}\n", 0.06, "its offline change stays below it"),
        ("offline: {metric: ndcg@3, change: 4%, mde: 2%}\n", 0.02, "its online change stays below it"),
        ("offline: {metric: ndcg@3, change: 4%, mde: 2%}\n", 0.06, ""),
    ],
)
def test_in_the_yellow_zone_both_changes_must_clear_the_mde(
    offline: str, lift: float, says: str, ledger: Ledger, clock: SimulatedClock
) -> None:
    """EVA-5, AML-04: at .55 significance is not enough, and the harness has to have promised it."""
    frozen(ledger, RERANKER + offline, at=clock.now())
    for pair in pairs_at(0.55):
        correlation.record(ledger, "reranker", pair, actor="policy", at=clock.now())
    assert look(ledger, clock, table(60_000, lift=lift), day=14).action is Action.PROMOTE
    decision = settle(ledger, NAME, actor="pm", at=clock.now())
    assert decision.action is (Action.HOLD if says else Action.PROMOTE)
    assert says in decision.reason
    assert len(correlation.pairs(ledger, "reranker")) == (6 if says else 7)


def test_a_decided_experiment_leaves_its_pair(ledger: Ledger, clock: SimulatedClock) -> None:
    """EVA-5: what the harness promised beside what users did, without anybody typing it in."""
    frozen(ledger, RERANKER + "offline: {metric: ndcg@3, change: 4%, error: 1%, mde: 2%}\n", at=clock.now())
    look(ledger, clock, table(40_000, lift=0.06), day=14)
    settle(ledger, NAME, actor="pm", at=clock.now())
    (pair,) = correlation.pairs(ledger, "reranker")
    relative = registry.get(ledger, NAME).looks[-1]["readings"][0]["relative"]
    assert (pair.experiment, pair.offline, pair.offline_error) == (NAME, 0.04, 0.01)
    assert pair.online == relative["value"]
    assert 0 < pair.online_error < relative["high"] - relative["low"]


def test_an_always_valid_plan_may_be_looked_at_any_time(ledger: Ledger, clock: SimulatedClock) -> None:
    """EXP-5: always-valid looks are unlimited; a strong effect stops it at one of them."""
    text = replaced(
        "{method: group-sequential, spending: obf, days: [4, 7, 11, 14]}", "{method: always-valid}"
    )
    frozen(ledger, text, at=clock.now())
    for _ in range(3):
        assert look(ledger, clock, table(3_000, lift=0.0)).action is Action.HOLD
    assert look(ledger, clock, table(40_000, lift=0.09)).action is Action.PROMOTE
