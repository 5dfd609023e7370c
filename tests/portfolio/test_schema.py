"""The intake form refuses the first thing wrong, with its line, in one sentence."""

from __future__ import annotations

import pytest
from tests.portfolio.examples import QUARTER, SMALL, line_of, replaced

from mangaassist.core.errors import InputError
from mangaassist.portfolio.schema import read_portfolio

A = "  - {name: a, title: A,"
LEARNING = "learning: {question: q, if_it_wins: %s, if_it_loses: %s, gain: 5, weeks_at_stake: 2}"
RISKS = "data_availability: d, infrastructure: i, training_pipeline: t"


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as found:
        read_portfolio(text, source="q.yaml")
    assert "\n" not in str(found.value)
    return found.value


def test_the_example_reads() -> None:
    """POR-1."""
    found = read_portfolio(QUARTER, source="quarter.yaml")
    assert len(found.candidates) == 12
    assert found.candidate("reranker-l12").confidence == pytest.approx(0.60)
    assert found.candidate("embedding-lora").line == line_of("  - name: embedding-lora", QUARTER)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("weeks: 8", "weeks: -3", "engineer-weeks, more than 0, got '-3'"),
        ("weeks: 8", "weeks: 0", "engineer-weeks, more than 0"),
        ("weeks: 8", "weeks: 1e999", "engineer-weeks, more than 0"),
        ("reach: 1000", "reach: 1e308", "Check the exponent"),
        ("weeks: 8", "weeks: 1e-300", "Check the exponent"),
        ("weeks: 8", "weeks: soon", "expected a number, got 'soon'"),
        ("slots: 2", "slots: 0", "a whole number, 1 or more, got '0'"),
        ("slots: 2", "slots: 2.5", "a whole number, 1 or more"),
        ("slots: 2", "slots: 2\n  swing_slots: 3", "at most the 2 slots there are"),
        ("{search: 20}", "{search: 0}", "engineer-weeks, more than 0, got '0'"),
        ("{search: 20}", "{}", "at least one team"),
        ("prior_evidence: 0.8", "prior_evidence: 1.2", "a probability above 0 and at most 1"),
        ("detectability: 0.5", "detectability: 0", "a probability above 0 and at most 1"),
        ("impact: 1%", "impact: 250%", "an absolute change above 0 and at most 1"),
        ("reach: 1000", "reach: -1", "units reached in a quarter, more than 0"),
        ("metric: useful", "metric: usefull", "Did you mean 'useful'?"),
        ("team: search", "team: serach", "Did you mean 'search'?"),
        ("reach: 1000, ", "", "candidates[0].reach: expected a value"),
        ("reach: 1000", "reech: 1000", "Did you mean 'reach'?"),
        ("name: b", "name: a", "'a' again (first on line 10)"),
        ("name: a", "name: A B", "a lower-case name"),
        ("metrics: {useful: 1,", "metrics: {useful: free,", "expected a number"),
        ("week_worth: 10", "week_worth: -1", "0 or more"),
        ("candidates:\n", "candidates: []\nx:\n", "a known name"),
        (A, f"{A} after: [z],", "another candidate, or one that is done, got 'z'"),
        (A, f"{A} after: [a],", "another candidate, or one that is done, got 'a'"),
        (A, f"{A} traffic: {{homepage: 40%}},", "a class of capacity.traffic"),
        (A, f"{A} {LEARNING % ('stop', 'Stop')},", "something else than after a win"),
        (A, f"{A} premortem: {{owner: o, contingency: c, risks: {{{RISKS}}}}},", "Add 'integration:'"),
        (A, f"{A} kind: experment,", "Did you mean 'experiment'?"),
        ("candidates:", "gut_feel: [d]\ncandidates:", "names of candidates, got 'd'"),
        ("  other_teams", "  team_slots: {serch: 1}\n  other_teams", "Did you mean 'search'?"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_with_its_line(old: str, new: str, said: str) -> None:
    """POR-1: negative effort, no capacity, unknown names and the rest."""
    error = refused(replaced(old, new))
    assert said in str(error)
    assert "q.yaml, line " in error.field


def test_a_circle_of_dependencies_is_named() -> None:
    """POR-1."""
    text = replaced("title: A,", "title: A, after: [b],").replace("title: B,", "title: B, needs: [c],")
    text = text.replace("title: C,", "title: C, after: [a],")
    error = refused(text)
    assert "a circle: a waits for b waits for c waits for a" in str(error)
    assert f"line {line_of('name: a')}" in error.field


def test_what_is_done_may_be_named_but_not_excluded() -> None:
    done = replaced("candidates:", "done: [old]\ncandidates:")
    assert read_portfolio(replaced("title: A,", "title: A, after: [old],", done), source="x").done == ("old",)
    assert "got 'old'" in str(refused(replaced("title: A,", "title: A, excludes: [old],", done)))


@pytest.mark.parametrize("text", ["", "   \n", "\ufeff"])
def test_an_empty_file_says_where_to_start(text: str) -> None:
    assert "portfolio example" in str(refused(text))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text", "portfolio: [", "a: *x", "a: &x {b: *x}"])
def test_what_is_no_portfolio_is_refused(text: str) -> None:
    refused(text)


def test_detectability_may_be_the_power_of_the_test() -> None:
    """POR-1: detectability follows from the sample the quarter allows, not from a feeling."""
    power = "detectability: {effect: 0.005, sigma: 0.142, per_arm: 18400}"
    found = read_portfolio(replaced("detectability: 0.5", power), source="x").candidate("a")
    assert found.detectability == pytest.approx(0.9220, abs=0.0005)
    assert found.confidence == pytest.approx(0.8 * found.detectability)


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    assert read_portfolio("\ufeff" + SMALL.replace("\n", "\r\n"), source="x") == read_portfolio(
        SMALL, source="x"
    )
