"""The twelve candidates, pinned; and what each rule does to a small portfolio."""

from __future__ import annotations

import pytest
from tests.portfolio.examples import QUARTER, SMALL, replaced

from mangaassist.core.errors import GateRefused
from mangaassist.portfolio.candidates import Past
from mangaassist.portfolio.ranking import Ranking, rank
from mangaassist.portfolio.rules import Facts, Outcome
from mangaassist.portfolio.schema import read_portfolio

# The chapter prints RICE to two or three digits.
PRINTED = 0.015


def ranked(text: str, facts: Facts | None = None) -> Ranking:
    return rank(read_portfolio(text, source="test.yaml"), facts)


@pytest.fixture(scope="module")
def quarter() -> Ranking:
    return ranked(QUARTER)


def test_the_twelve_candidates_choose_the_sources_three(quarter: Ranking) -> None:
    """POR-1: the shipped example and its picks."""
    assert {one.name for one in quarter.picks} == {"reranker-l12", "intent-v2", "cold-start-hrnn"}
    slots = {one.name: one.as_dict()["slot"] for one in quarter.picks}
    assert slots["cold-start-hrnn"] == "swing bet"
    assert slots["reranker-l12"] == slots["intent-v2"] == "bias for action"


def test_the_ranking_is_pinned(quarter: Ranking) -> None:
    """POR-1: calibrated RICE decides the order, outcome and rule decide the rest."""
    found = [(one.name, one.rank, str(one.outcome), one.rule) for one in quarter.rows]
    assert found == [
        ("reranker-l12", 1, "pick", "optimum"),
        ("demand-promo", 2, "defer", "team"),
        ("reranker-distilled", 3, "defer", "after"),
        ("intent-v2", 4, "pick", "optimum"),
        ("embedding-lora", 5, "defer", "displaced"),
        ("two-tower-custom", 6, "reject", "premortem"),
        ("cold-start-hrnn", 7, "pick", "optimum"),
        ("diversity-retune", 8, "reject", "worth"),
        ("cover-art-generated", None, "defer", "price"),
        ("sentiment-retrain", None, "assigned", "kind"),
        ("spam-retrain", None, "assigned", "kind"),
        ("quality-judge", None, "reject", "kind"),
    ]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("reranker-l12", 200_000),
        ("intent-v2", 51_000),
        ("cold-start-hrnn", 47_000),
        ("demand-promo", 90_000),
        ("cover-art-generated", 1_700_000),
        ("reranker-distilled", 67_000),
        ("diversity-retune", 14_286),
    ],
)
def test_rice_as_printed_where_it_follows_from_its_inputs(
    quarter: Ranking, name: str, printed: float
) -> None:
    """POR-1: reach x points x confidence / weeks."""
    assert quarter.row(name).score.stated == pytest.approx(printed, rel=PRINTED + 0.003)


@pytest.mark.parametrize(
    ("name", "printed", "right"), [("embedding-lora", 41_000, 39_429), ("two-tower-custom", 78_000, 83_333)]
)
def test_rice_that_does_not_follow_from_its_inputs(
    quarter: Ranking, name: str, printed: float, right: float
) -> None:
    """POR-1: two printed scores are not reach x points x confidence / weeks; ours are."""
    found = quarter.row(name).score.stated
    assert found == pytest.approx(right, rel=1e-4)
    assert abs(found / printed - 1) > 0.03


def test_the_swing_bet_gives_up_no_rice(quarter: Ranking) -> None:
    """POR-1: #3 is said to be chosen over #4 in spite of a lower RICE; as stated it has the higher one."""
    bet, other = quarter.row("cold-start-hrnn").score, quarter.row("embedding-lora").score
    assert bet.stated > other.stated
    assert bet.rice < other.rice, "only after the effort of an unknown class is corrected"
    assert bet.total > other.total


def test_only_the_shared_baseline_keeps_the_adapter_out() -> None:
    """docs/portfolio.md: without that edge {1, 3, 4} is worth more, and needs 51 weeks."""
    free = replaced(
        "    excludes: [reranker-l12]    # a reranker measured on moving embeddings measures both\n",
        "",
        QUARTER,
    )
    assert "embedding-lora" not in {one.name for one in ranked(free).picks}, "it does not fit 48 weeks"
    wide = ranked(replaced("product-ml: 48", "product-ml: 52", free))
    assert {one.name for one in wide.picks} == {"reranker-l12", "cold-start-hrnn", "embedding-lora"}


@pytest.mark.parametrize(("weeks", "picks"), [(45, 3), (60, 3), (44, 2)])
def test_capacity_for_which_the_picks_hold(weeks: int, picks: int) -> None:
    """docs/portfolio.md: from 45 engineer-weeks on the same three."""
    found = ranked(replaced("product-ml: 48", f"product-ml: {weeks}", QUARTER))
    assert {one.name for one in found.picks} <= {"reranker-l12", "intent-v2", "cold-start-hrnn"}
    assert len(found.picks) == picks


def test_margins_are_what_choosing_again_loses(quarter: Ranking) -> None:
    """POR-1: reasons are numbers."""
    pick = quarter.row("reranker-l12")
    assert pick.margin is not None
    without = ranked(
        replaced(
            "    reach: 8.0e6\n    impact: 0.5%",
            "    hold: test\n    reach: 8.0e6\n    impact: 0.5%",
            QUARTER,
        )
    )
    assert quarter.value - without.value == pytest.approx(pick.margin)
    assert "embedding-lora instead" in pick.reason


def test_a_displaced_candidate_enters_at_the_confidence_it_names() -> None:
    """POR-1: the switching point is exact."""
    text = replaced("slots: 2", "slots: 1")
    found = ranked(text).row("b")
    assert (found.outcome, found.rule) == (Outcome.DEFER, "displaced")
    assert found.enters_at == pytest.approx(0.4 * 1000 / 900)
    for nudge, outcome in ((0.999, Outcome.DEFER), (1.001, Outcome.PICK)):
        evidence = found.enters_at * nudge / 0.5
        bent = replaced(
            "prior_evidence: 0.8", f"prior_evidence: {evidence:.6f}", text[text.index("  - {name: b") :]
        )
        bent = text[: text.index("  - {name: b")] + bent
        assert ranked(bent).row("b").outcome is outcome


def test_what_a_candidate_teaches_does_not_grow_with_the_confidence_it_needs() -> None:
    """POR-1: the switching point moves the worth of shipping only."""
    learning = "learning: {question: q, if_it_wins: w, if_it_loses: l, gain: 250, weeks_at_stake: 200}"
    text = replaced("slots: 2", "slots: 1").replace("title: B,", f"title: B, {learning},")
    text = text.replace("reach: 900", "reach: 400").replace("week_worth: 10", "week_worth: 5")
    found = ranked(text).row("b")
    assert found.score.learning == pytest.approx(0.8 * 0.5 * 250 - 0.2 * 0.05 * 1000)
    assert found.margin == pytest.approx(400 - 160 - 90)
    assert found.enters_at == pytest.approx(0.4 * (400 - 90) / 160)


def test_worth_is_maximised_and_not_rice() -> None:
    """POR-1: b and c are denser together, a and b are worth more."""
    assert {one.name for one in ranked(replaced("search: 20", "search: 16")).picks} == {"a", "b"}
    assert {one.name for one in ranked(replaced("search: 20", "search: 12")).picks} == {"a", "c"}


def test_history_changes_what_fits() -> None:
    """POR-1: a team that takes twice as long gets half as much."""
    late = Facts(tuple(Past(f"p{i}", 0.5, None, 5.0, 10.0) for i in range(12)))
    assert len(ranked(replaced("search: 20", "search: 16")).picks) == 2
    found = ranked(replaced("search: 20", "search: 16"), late)
    assert len(found.picks) == 1
    assert found.row("b").score.weeks > 14


def test_twelve_weeks_need_a_pre_mortem_whoever_estimates() -> None:
    """POR-1: the rule cannot be dodged by estimating eleven weeks in a class that doubles."""
    assert (
        ranked(replaced("detectability: 0.5, weeks: 8", "detectability: 0.5, weeks: 12")).row("a").rule
        == "premortem"
    )
    assert (
        ranked(replaced("detectability: 0.5, weeks: 8", "detectability: 0.5, weeks: 11")).row("a").rule
        == "optimum"
    )
    late = Facts(tuple(Past(f"p{i}", 0.5, None, 5.0, 10.0) for i in range(12)))
    found = ranked(replaced("detectability: 0.5, weeks: 8", "detectability: 0.5, weeks: 7"), late).row("a")
    assert (found.outcome, found.rule) == (Outcome.REJECT, "premortem")


def test_needs_pull_each_other_in_and_out() -> None:
    """POR-1: dependencies."""
    base = "  - {name: base, title: Base, team: search, kind: tooling, weeks: 2}\n"
    text = replaced("weeks: 8}\n", "weeks: 8, needs: [base]}\n").replace("slots: 2", "slots: 3") + base
    found = ranked(text)
    assert {"a", "base"} <= {one.name for one in found.picks}
    assert "a cannot go without it" in found.row("base").reason
    barred = ranked(text.replace("kind: tooling", "kind: tooling, hold: no time"))
    assert (barred.row("a").rule, barred.row("a").outcome) == ("needs", Outcome.DEFER)


def test_what_is_done_is_needed_by_nobody_any_more() -> None:
    done = replaced("candidates:", "done: [base]\ncandidates:")
    found = ranked(done.replace("title: A,", "title: A, needs: [base], after: [base],"))
    assert found.row("a").outcome is Outcome.PICK


def test_the_ledger_knows_better_than_the_file_what_came_of_a_candidate() -> None:
    """POR-2: nobody improves history by writing it again."""
    text = SMALL + "history:\n  - {name: old, confidence: 0.5, won: true, weeks: 5, actual_weeks: 5}\n"
    facts = Facts((Past("old", 0.5, False, 5.0, 15.0),), ledger=True)
    found = ranked(text, facts).calibration
    assert (found.effort.n, found.effort.raw, found.confidence.raw) == (1, pytest.approx(3.0), 0.0)


def test_tests_that_share_users_share_them_out() -> None:
    """POR-1: two tests cannot have all users of one class."""
    text = replaced("  teams:", "  traffic: {search: 100%}\n  teams:")
    for name in ("A", "B"):
        text = text.replace(f"title: {name},", f"title: {name}, traffic: {{search: 60%}},")
    assert {one.name for one in ranked(text).picks} == {"a", "c"}


def test_a_frozen_surface_forces_its_harness_in_or_says_that_nobody_rebuilds_it() -> None:
    """POR-1: a collapsed correlation puts the rebuild on the list, whatever it is worth."""
    facts = Facts(frozen={"reranker": 0.41})
    assert "no candidate rebuilds" in ranked(replaced("slots: 2", "slots: 2"), facts).notes[0]
    text = replaced("slots: 2", "slots: 2") + (
        "  - {name: harness, title: Harness, team: search, kind: tooling, weeks: 6, restores: reranker}\n"
    )
    assert ranked(text).row("harness").outcome is Outcome.REJECT
    found = ranked(text, facts)
    assert found.row("harness").rule == "required"
    assert "0.41" in found.row("harness").reason


def test_required_candidates_that_cannot_run_are_refused() -> None:
    both = "title: A, required: the regulator says so,"
    with pytest.raises(GateRefused, match="pre-mortem"):
        ranked(
            replaced("title: A,", both).replace(
                "detectability: 0.5, weeks: 8", "detectability: 0.5, weeks: 12", 1
            )
        )
    text = replaced("title: A,", both).replace("title: B,", "title: B, required: so does the other,")
    with pytest.raises(GateRefused, match="Add capacity"):
        ranked(text.replace("search: 20", "search: 12"))


def test_without_a_real_swing_bet_the_slot_goes_back() -> None:
    """POR-1: a learning target that no loss would act on does not hold a slot."""
    learning = (
        ", learning: {question: q, if_it_wins: go on, if_it_loses: stop, gain: 1.0e6, weeks_at_stake: 1}"
    )
    text = replaced("slots: 2", "slots: 2\n  swing_slots: 1").replace("weeks: 4}", f"weeks: 4{learning}}}")
    found = ranked(text)
    assert found.row("c").score.learning == 0.0
    assert "swing slots went" in found.notes[0]
    assert {one.name for one in found.picks} == {"a", "b"}


def test_a_framing_that_chose_the_heuristic_keeps_its_candidate_out() -> None:
    """FRM-1 meets POR-1."""
    text = replaced("title: A,", "title: A, framing: quiz,")
    assert ranked(text).row("a").outcome is Outcome.PICK, "without a ledger nobody knows"
    assert "has not been decided" in ranked(text, Facts(ledger=True)).row("a").reason
    assert "heuristic first" in ranked(text, Facts(framings={"quiz": False}, ledger=True)).row("a").reason
    assert ranked(text, Facts(framings={"quiz": True}, ledger=True)).row("a").outcome is Outcome.PICK


def test_the_recorded_gut_feel_is_valued_by_the_same_numbers() -> None:
    """POR-1: the counterfactual is on record before the quarter."""
    found = ranked(replaced("candidates:", "gut_feel: [b, c]\ncandidates:"))
    assert found.gut_value == pytest.approx(900 * 0.4 + 500 * 0.4)
    assert found.value > found.gut_value


def test_stability_tells_a_safe_pick_from_a_close_one(quarter: Ranking) -> None:
    """POR-1: a choice on a knife's edge says so."""
    close = ranked(replaced("reach: 900", "reach: 999").replace("slots: 2", "slots: 1"))
    assert 0.3 < (close.row("a").stability or 0) < 0.7
    assert (quarter.row("reranker-l12").stability or 0) > 0.9
    assert 0.5 < quarter.fits < 0.95
    assert ranked(QUARTER).fits == quarter.fits
