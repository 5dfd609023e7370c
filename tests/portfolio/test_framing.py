"""The letter, the break-even with the source's numbers, and when a model may come."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.portfolio.examples import FRAMING, line_of, replaced

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status
from mangaassist.portfolio.break_even import (
    BreakEven,
    Recommendation,
    break_even,
    letter_verdict,
    second_stage,
)
from mangaassist.portfolio.framing import Framing, Option
from mangaassist.portfolio.framing_schema import COMPARING, read_framing

LABELS = "labels: {count: 4200, per_month: 900, dimensions: 14}"
ENOUGH = "labels: {count: 20000, per_month: 1500, dimensions: 14}"
WORDS = (
    "A rule would have to know the taste of every reader, and no rule that anybody has written so far "
    "has come close to that in any test."
)


def framing(*changes: tuple[str, str]) -> Framing:
    text = FRAMING
    for old, new in changes:
        text = replaced(old, new, text)
    return read_framing(text, source="f.yaml", needs=("letter", *COMPARING))


def compared(*changes: tuple[str, str]) -> BreakEven:
    return break_even(framing(*changes))


def test_the_sources_table_is_reproduced() -> None:
    """FRM-1: 3.5 and 4.1 points, 1.75 and .51 points a week, 7 and 13 weeks, 3.4 times."""
    found = compared()
    assert found.heuristic is not None
    assert found.heuristic.delivered == pytest.approx(0.035)
    assert found.model.delivered == pytest.approx(0.04125)
    assert found.heuristic.per_week == pytest.approx(0.0175)
    assert found.model.per_week == pytest.approx(0.0051, abs=1e-4)
    assert (found.heuristic.calendar_weeks, found.model.calendar_weeks) == (7, 13)
    assert found.per_week_ratio == pytest.approx(3.4, abs=0.01)
    assert found.incremental == pytest.approx(0.179, abs=1e-3)
    assert found.recommendation is Recommendation.HEURISTIC_FIRST


def test_every_condition_is_a_verdict_with_its_threshold() -> None:
    """FRM-1: >= 50% incremental lift, >= 10 K labels growing by >= 1 K a month, > 10 dimensions."""
    found = {one.name: (one.status, one.threshold) for one in compared().verdicts}
    assert found == {
        "framing.incremental_lift": (Status.FAIL, 0.5),
        "framing.labels": (Status.FAIL, 10_000),
        "framing.label_growth": (Status.FAIL, 1_000),
        "framing.fuzziness": (Status.PASS, 11),
    }


def test_break_even_points_solve_their_equations() -> None:
    """FRM-1: at the lift, probability, weeks and date it names, both sides are equal."""
    found = compared()
    heuristic, model = found.heuristic, found.model
    assert heuristic is not None
    assert found.probability_needed is not None
    assert found.overtakes is not None
    assert model.probability * found.lift_needed == pytest.approx(1.5 * heuristic.delivered)
    assert found.probability_needed * model.middle == pytest.approx(1.5 * heuristic.delivered)
    assert model.delivered / (found.weeks_needed or 0) == pytest.approx(heuristic.per_week)
    at = found.overtakes
    assert heuristic.delivered * (at - 7) == pytest.approx(model.delivered * (at - 13))
    assert at == pytest.approx(46.6)


def test_the_share_of_the_ranges_that_clears_is_an_area() -> None:
    """FRM-1: against the area worked out by hand: .55 m >= 1.05 h over 4..6 x 6..9."""
    area = sum(max(0.0, 9 - 1.05 * (4 + (i + 0.5) / 1000) / 0.55) / 3 for i in range(2000)) / 2000
    assert compared().clears == pytest.approx(area, abs=2e-3)


def test_staged_is_worth_more_over_a_year_than_either() -> None:
    """FRM-1: staged decisions; the second stage is counted only where the first worked."""
    worth = compared().worth
    assert worth["heuristic"] == pytest.approx(0.035 * 45)
    assert worth["model"] == pytest.approx(0.04125 * 39)
    assert worth["staged"] == pytest.approx(0.035 * 45 + 0.7 * 0.55 * 0.03 * (52 - 7 - 6 - 13))
    assert worth["staged"] > worth["model"] > worth["heuristic"]


GOOD = (("lift: [6%, 9%]", "lift: [14%, 16%]"), (LABELS, ENOUGH))


def test_a_model_that_clears_everything_still_comes_second_unless_somebody_says_otherwise() -> None:
    """FRM-1: stage 1 is the heuristic; going straight to a model takes a director."""
    assert compared(*GOOD).recommendation is Recommendation.MODEL_STAGED
    staging = re.search(r"staging:\n(  .*\n)+", FRAMING)
    assert staging is not None
    unstaged = (*GOOD, (staging.group(), ""))
    assert compared(*unstaged).recommendation is Recommendation.HEURISTIC_FIRST
    director = f"override: {{role: director, name: Ren, justification: '{WORDS}'}}\ntenets:"
    found = compared(*unstaged, ("tenets:", director))
    assert found.recommendation is Recommendation.MODEL_BY_OVERRIDE
    assert "Ren" in found.reason


def test_no_heuristic_lets_a_ready_model_through_and_an_unready_one_not() -> None:
    heuristic = re.search(r"heuristic:\n(  .*\n)+", FRAMING)
    assert heuristic is not None
    none = (heuristic.group(), "heuristic: {none_because: Nobody agrees on a rule for irony.}\n")
    assert compared(none).recommendation is Recommendation.NOT_AT_ALL
    assert compared(none, (LABELS, ENOUGH)).recommendation is Recommendation.MODEL
    assert compared(none).as_dict()["incremental_lift"] is None


def test_the_bar_bends_for_adversaries_but_never_for_labels() -> None:
    """FRM-1: adversarial and personal problems are excused from lift and fuzziness, not from data."""
    bend = ("labels:", f"bend: {{reason: adversarial, because: '{WORDS}'}}\nlabels:")
    assert compared(bend).recommendation is Recommendation.HEURISTIC_FIRST
    assert compared((LABELS, ENOUGH), bend).recommendation is Recommendation.MODEL


def test_wide_ranges_are_insufficient_and_not_a_pass() -> None:
    """FRM-1: a mean above the bar is not enough when half the ranges are below it."""
    found = compared(("lift: [6%, 9%]", "lift: [2%, 20%]"), (LABELS, ENOUGH)).verdicts[0]
    assert found.status is Status.INSUFFICIENT
    assert "narrow them" in found.sentence


def staged(observed: str, *changes: tuple[str, str]) -> Framing:
    return framing(("  achievable: 8%\n", f"  achievable: 8%\n  observed: {observed}\n"), *changes)


@pytest.mark.parametrize(
    ("observed", "status", "said"),
    [
        ("{weeks: 4, lift: 2%}", Status.INSUFFICIENT, "4 of 6 weeks"),
        ("{weeks: 8, lift: 2%}", Status.INSUFFICIENT, "by cohort"),
        ("{weeks: 8, lift: 2%, low: 1%, high: 3%, by_cohort: {tokyo: 3%}}", Status.PASS, "next portfolio"),
        ("{weeks: 8, lift: 7%, low: 6%, high: 8%, by_cohort: {tokyo: 7%}}", Status.FAIL, "heuristic stays"),
        (
            "{weeks: 8, lift: 5%, low: 1%, high: 8%, by_cohort: {tokyo: 5%}}",
            Status.INSUFFICIENT,
            "more closely",
        ),
    ],
)
def test_the_second_stage_waits_for_the_first(observed: str, status: Status, said: str) -> None:
    """FRM-1: four weeks in, two points up, 'ship the model now?': not before it settled, by cohort."""
    found = second_stage(staged(observed))
    assert found is not None
    assert (found.status, said in found.sentence) == (status, True), found.sentence


def test_a_plateau_earns_the_model_its_place_when_the_labels_are_there() -> None:
    """FRM-1: the remaining lift is another calculation than the first one."""
    observed = "{weeks: 8, lift: 2%, low: 1%, high: 3%, by_cohort: {tokyo: 3%}}"
    assert break_even(staged(observed)).recommendation is Recommendation.HEURISTIC_FIRST
    assert break_even(staged(observed, (LABELS, ENOUGH))).recommendation is Recommendation.MODEL


def test_one_disbelieving_reader_ends_it_and_a_missing_one_holds_it() -> None:
    """FRM-1: PM, engineering manager and customer insights must each believe the letter."""
    letter = framing().letter
    assert letter is not None
    assert letter_verdict(letter).status is Status.PASS
    doubt = framing(
        ("name: Jun, believes: true", "name: Jun, believes: false, remark: Nobody says that")
    ).letter
    assert doubt is not None
    found = letter_verdict(doubt)
    assert (found.status, "engineering_manager (Jun): Nobody says that" in found.sentence) == (
        Status.FAIL,
        True,
    )
    missing = framing(("    - {role: pm, name: Hana, believes: true}\n", "")).letter
    assert missing is not None
    assert letter_verdict(missing).status is Status.INSUFFICIENT


@pytest.mark.parametrize(
    ("old", "new", "said", "at"),
    [
        ("today 31%; success is 4 points more", "success is when it clearly goes up", "a number", "measure"),
        ("  lift: [4%, 6%]  ", "  lift: [6%, 4%]  ", "as [low, high]", None),
        ("  lift: [6%, 9%]", "  lift: 600%", "a lift of at most 1", None),
        ("  lift: [6%, 9%]", "  lift: [-1%, 9%]", "0 or more", None),
        ("  probability: 0.7\n", "  probability: 1.7\n", "a probability above 0", None),
        ("  weeks: 8\n", "  weeks: 0\n", "engineer-weeks, more than 0", None),
        ("per_month: 900", "per_month: some", "a number", None),
        ("heuristic:\n", "heuristik:\n", "Did you mean 'heuristic'?", "heuristik"),
        ("since: 2026-06-22", "since: last June", "a date", "since"),
        ("believes: true, remark", "believes: yes, remark", "one of false, true", None),
        (
            "tenets:",
            "override: {role: pm, name: x, justification: y}\ntenets:",
            "only somebody outside",
            None,
        ),
        ("labels:", "bend: {reason: adversarial, because: it is}\nlabels:", "at least 20 words", None),
    ],
)
def test_bad_framings_are_one_sentence_with_their_line(old: str, new: str, said: str, at: str | None) -> None:
    """FRM-1: line-numbered errors."""
    text = replaced(old, new, FRAMING)
    with pytest.raises(InputError) as refused:
        read_framing(text, source="f.yaml", needs=("letter", *COMPARING))
    message = str(refused.value)
    assert said.lower() in message.lower(), message
    assert "\n" not in message
    assert "f.yaml, line " in refused.value.field
    if at is not None:
        assert f"line {line_of(at + ':', text)}:" in refused.value.field


def with_pain(pain: str) -> str:
    return f"{FRAMING[: FRAMING.index('  pain: >-')]}  pain: {pain}\n{FRAMING[FRAMING.index('  wish: >-') :]}"


def test_a_letter_may_be_written_in_japanese() -> None:
    """FRM-1: the customer's words are in the customer's language."""
    text = with_pain("三作品を試しましたが、どれも私の好みではなく、七日目には開きませんでした。")
    letter = read_framing(text, source="f", needs=("letter",)).letter
    assert letter is not None
    assert "私" in letter.pain


@pytest.mark.parametrize(
    ("pain", "said"),
    [
        ("Retention dropped.", "at least 8 words"),
        ("Retention of new readers in Japan dropped from 38% to 31% in four weeks.", "own words"),
        ("I " + "read a lot and " * 130 + "left", "one page, 500 words"),
    ],
)
def test_a_metric_is_not_a_pain(pain: str, said: str) -> None:
    """FRM-1: one page, in the customer's voice."""
    with pytest.raises(InputError, match=said):
        read_framing(with_pain(pain), source="f", needs=("letter",))


@pytest.mark.parametrize("section", ["heuristic", "model", "letter"])
def test_a_missing_section_is_named(section: str) -> None:
    text = re.sub(rf"^{section}:\n(  .*\n)+", "", FRAMING, flags=re.MULTILINE)
    with pytest.raises(InputError, match=f"Add '{section}:'"):
        read_framing(text, source="f", needs=("letter", *COMPARING))


options = st.builds(
    Option,
    st.just("x"),
    st.tuples(st.floats(0.001, 0.05), st.floats(0.05, 0.2)),
    st.floats(0.05, 1.0),
    st.floats(0.5, 30.0),
    st.integers(1, 4),
    st.floats(0, 10),
)


@given(options, options)
def test_the_comparison_is_consistent(heuristic: Option, model: Option) -> None:
    """FRM-1: the ends bracket the value, and clearing agrees with both."""
    found = break_even(Framing("f", "F", "m", heuristic=heuristic, model=model))
    assert found.low <= found.incremental <= found.high
    assert 0.0 <= found.clears <= 1.0
    assert found.clears == 1.0 or found.low < 0.5 + 1e-6
    assert found.clears == 0.0 or found.high > 0.5 - 1e-6
    if found.overtakes is not None:
        at = found.overtakes + 1e-6
        ours = model.delivered * (at - model.calendar_weeks)
        theirs = heuristic.delivered * max(0.0, at - heuristic.calendar_weeks)
        assert ours >= theirs - 1e-9
