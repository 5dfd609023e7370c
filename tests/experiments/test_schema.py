"""The experiment file: what it must say, and that every refusal names the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiments.examples import RERANKER, line_of, replaced

from mangaassist.core.document import read
from mangaassist.core.errors import InputError
from mangaassist.experiments.catalog import load
from mangaassist.experiments.plan import Correction, Kind, Rule
from mangaassist.experiments.schema import BINDING, Purpose, read_plan


def test_the_registration_of_the_design_chapter_is_read() -> None:
    """EXP-1: hypothesis, population, primary, MDE, looks, guardrails, cohorts, correction, stop rule."""
    plan = read_plan(RERANKER, source="reranker.yaml")
    assert (plan.name, plan.control, plan.treatments) == ("reranker-l12", "control", ("treatment",))
    assert plan.primary.mde == pytest.approx(0.00549)
    assert plan.looks.fractions == pytest.approx((4 / 14, 0.5, 11 / 14, 1.0))
    assert plan.explained == 0.5
    assert plan.correction is Correction.INTERSECTION_UNION
    assert [one.rule for one in plan.guardrails] == [Rule.HARM, Rule.COHORT]
    assert plan.guardrails[0].threshold == -0.01


@pytest.mark.parametrize("section", BINDING)
def test_a_registration_without_any_binding_section_is_refused(section: str) -> None:
    """EXP-1: the platform refuses to randomise without them, so they cannot be left out."""
    lines, kept, skipping = RERANKER.splitlines(), [], False
    for line in lines:
        if not line.startswith((" ", "-")):
            skipping = line.startswith(f"{section}:")
        if not skipping:
            kept.append(line)
    with pytest.raises(InputError, match=section):
        read_plan("\n".join(kept), source="short.yaml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("mde: 3%", "mde: three", "a number"),
        ("guardrails:", "guardrail:", "Did you mean 'guardrails'?"),
        ("use: csat", "use: cast", "Did you mean 'csat'?"),
        ("spending: obf", "spending: obv", "Did you mean 'obf'?"),
        ("measured: before", "measured: after", "from before"),
        ("days: [4, 7, 11, 14]", "days: [4, 11, 7, 14]", "rise"),
        ("control: 50%, treatment: 50%", "control: 50%, treatment: 60%", "add up to 1"),
        ("intervention: do(reranker = minilm-l12)", "intervention: use MiniLM", "do(what = value)"),
        ("use: csat", "{use: csat, threshold: -2%}", "or tighter"),
        ("use: csat", "{name: csat, column: csat, threshold: 1%}", "a harmful change"),
        ("ja: 30%", "jp: 30%", "Did you mean"),
        ("unit: user\n", "unit: session\n", "never sessions"),
        ("ramp: [1%, 10%, 100%]", "ramp: [10%, 1%]", "rising"),
        ("alpha: 0.05", "alpha: 5", "below 1"),
        ("sigma: 0.142", "sigma: -1", "above 0"),
        ("stop: {early_win: true}", "stop: {early_win: true, harm: never}", "always"),
        ("- {attribute: searches_14d, at_least: 1}", "- {attribute: x, at_least: 1, at_most: 2}", "one of"),
    ],
)
def test_every_refusal_names_the_line_and_the_way_out(old: str, new: str, says: str) -> None:
    """EXP-1: errors carry the line, what was expected and the nearest known name."""
    text = replaced(old, new)
    with pytest.raises(InputError) as refused:
        read_plan(text, source="reranker.yaml")
    assert says in str(refused.value)
    named = int(str(refused.value).split("line ")[1].split(":")[0])
    assert abs(named - line_of(new, text)) <= 1


def test_names_that_are_given_twice_and_aliases_are_refused_at_their_line() -> None:
    with pytest.raises(InputError, match=r"line 2.*first on line 1"):
        read("a: 1\na: 2\n", source="x.yaml")
    with pytest.raises(InputError, match=r"line 2.*alias \*b"):
        read("a: &b 1\nc: *b\n", source="x.yaml")
    with pytest.raises(InputError, match=r"line 2.*YAML"):
        read("a: 1\n b: 2\n", source="x.yaml")
    with pytest.raises(InputError, match="an empty file"):
        read("# nothing\n", source="x.yaml")


def test_a_surface_with_known_failures_must_hold_its_guardrail() -> None:
    """GRD-1: surface-specific guardrails cannot be scoped around."""
    with pytest.raises(InputError, match="factuality"):
        read_plan(replaced("surface: reranker", "surface: rag"), source="x.yaml")
    assert load().mandatory("recommendation") == ("diversity",)


def test_sizing_and_exploring_need_only_the_primary() -> None:
    text = "primary: {baseline: 18.3%, kind: proportion, mde: 3%}\n"
    plan = read_plan(text, source="x.yaml", purpose=Purpose.SIZE)
    assert plan.primary.metric.kind is Kind.PROPORTION
    assert plan.primary.sigma == pytest.approx((0.183 * 0.817) ** 0.5)
    with pytest.raises(InputError, match="column"):
        read_plan("primary: {kind: mean}\n", source="x.yaml", purpose=Purpose.EXPLORE)


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Anything but a registration is a sentence with a line, never a trace."""
    with pytest.raises(InputError, match="line"):
        read_plan(text, source="x.yaml")


@given(st.integers(0, len(RERANKER) - 1), st.sampled_from("\x00\t:{}[]-&*'\"%#\n 9"))
def test_one_wrong_character_is_accepted_or_refused_with_a_line(at: int, character: str) -> None:
    text = RERANKER[:at] + character + RERANKER[at + 1 :]
    said = "line"
    try:
        read_plan(text, source="x.yaml")
    except InputError as error:
        said = str(error)
    assert "line" in said
