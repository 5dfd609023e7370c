"""Documents are rendered from the ledger, say what it says, and let no text become markup."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiments.examples import frozen
from tests.portfolio.examples import FRAMING, QUARTER, SMALL, replaced
from tests.portfolio.launches import plan_of, shipped, vetoed

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.experiments import registry
from mangaassist.portfolio.decisions import decide_framing, decide_portfolio
from mangaassist.portfolio.documents import Form, document
from mangaassist.portfolio.outcomes import Result, finish, follow_up
from mangaassist.portfolio.rendering import (
    Bullets,
    Document,
    Paragraph,
    Quote,
    Section,
    Table,
    html,
    markdown,
)
from mangaassist.storage.ledger import Ledger


def rendered(ledger: Ledger, name: str, form: Form | None = None) -> str:
    return markdown(document(ledger, name, form))


def headings(text: str) -> list[str]:
    return re.findall(r"^## \d+\. (.*)$", text, re.MULTILINE)


def test_the_narrative_tells_picks_rejects_risks_and_targets(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-1: the decision narrative."""
    text = replaced(
        "capacity:", "gut_feel: [reranker-l12, two-tower-custom, demand-promo]\ncapacity:", QUARTER
    )
    ranking, _ = decide_portfolio(ledger, text, source="q", actor="rin", at=clock.now())
    finish(ledger, "2026-q3", "intent-v2", weeks=9, result=Result.WON, actor="r", at=clock.now())
    told = rendered(ledger, "2026-q3")
    assert headings(told) == [
        "Outcome",
        "Method",
        "What we run",
        "What we learn",
        "What could go wrong",
        "What we do not run",
        "Every candidate",
    ]
    assert "*Decided 2026-10-05 by rin" in told
    for row in ranking["candidates"]:
        assert row["title"] in told
        assert row["reason"].split(":")[0].split("_")[0] in told
    assert "If it loses: HRNN is dropped" in told
    assert "contingency: Ship L12 for the top 20" in told
    assert "people would have picked reranker-l12, two-tower-custom, demand-promo" in told
    assert "intent-v2: won after 9 weeks" in told
    assert "reranker-l12, then reranker-distilled" in told


def test_the_six_sections_of_a_framing(ledger: Ledger, clock: SimulatedClock) -> None:
    """FRM-1: recommendation, tenets and risks, letter, comparison, plan, questions."""
    text = replaced("horizon_weeks", "experiment: quiz\nhorizon_weeks", FRAMING)
    decide_framing(ledger, text, source="f", actor="rin", at=clock.now())
    told = rendered(ledger, "jp-first-session")
    assert headings(told) == [
        "Recommendation",
        "Tenets and risks",
        "The customer's letter",
        "Heuristic or model",
        "Plan",
        "Questions",
    ]
    assert "> I tried Solo Leveling" in told
    assert "| Expected lift | 3.5 points | 4.12 points |" in told
    assert "'quiz' is not registered yet" in told
    frozen(ledger, plan_of("quiz"), at=clock.now())
    told = rendered(ledger, "jp-first-session")
    assert "| Intervention | do(reranker = minilm-l12) |" in told
    assert "pm: a pm" in told


def test_launch_readiness_follows_an_experiment(ledger: Ledger, clock: SimulatedClock) -> None:
    """POR-2, GRD-1: the review before the data, after a veto with its plan, after a launch with its date."""
    decide_portfolio(
        ledger, replaced("name: a,", "name: a, experiment: won,"), source="q", actor="r", at=clock.now()
    )
    registry.register(ledger, plan_of("new"), source="x", actor="r", at=clock.now())
    told = rendered(ledger, "new")
    assert "Not ready: a binding step says no." in told
    assert "Not signed by pm, applied_ml_engineer, engineering_manager" in told
    vetoed(ledger, "stopped", at=clock.now())
    told = rendered(ledger, "stopped")
    assert "Veto by csat" in told
    assert "2026-10-13 to 2026-10-19" in told, "the second week of the investigation"
    assert "| turn_p95_ms" not in told
    assert "readiness.budget.turn_p95_ms" in told
    shipped(ledger, "won", at=clock.now())
    told = rendered(ledger, "won")
    assert "Ready: every binding step is done and passes." in told
    assert "Picked as 'a' in q1" in told
    assert "read again on 2026-11-02" in told
    assert "| useful_answer_rate | all | +" in told
    clock.advance(timedelta(days=28))
    follow_up(ledger, "won", held=True, actor="r", at=clock.now())
    assert "the lift is still there" in rendered(ledger, "won")
    assert headings(told) == [
        "Readiness",
        "What was promised",
        "What was found",
        "Guardrails",
        "Cohorts",
        "What follows",
    ]


def test_an_override_stands_in_the_review(ledger: Ledger, clock: SimulatedClock) -> None:
    """GRD-2."""
    vetoed(ledger, "forced", at=clock.now(), override=True)
    told = rendered(ledger, "forced")
    assert "Shipped against a veto under the name of director" in told
    assert "Tracked until 2027-01-03" in told


def test_rendering_again_gives_the_same_bytes(ledger: Ledger, clock: SimulatedClock) -> None:
    decide_portfolio(ledger, QUARTER, source="q", actor="rin", at=clock.now())
    first = document(ledger, "2026-q3")
    assert markdown(first) == rendered(ledger, "2026-q3")
    assert html(first) == html(document(ledger, "2026-q3"))


def test_names_are_resolved_or_refused(ledger: Ledger, clock: SimulatedClock) -> None:
    decide_portfolio(ledger, SMALL, source="q", actor="r", at=clock.now())
    decide_framing(
        ledger,
        replaced("framing: jp-first-session", "framing: q1", FRAMING),
        source="f",
        actor="r",
        at=clock.now(),
    )
    with pytest.raises(InputError, match="--form narrative or --form decision"):
        rendered(ledger, "q1")
    assert "Outcome" in headings(rendered(ledger, "q1", Form.NARRATIVE))
    assert "Questions" in headings(rendered(ledger, "q1", Form.DECISION))
    with pytest.raises(InputError, match="Did you mean 'q1'"):
        rendered(ledger, "q11")
    with pytest.raises(InputError, match="None exists yet"):
        rendered(ledger, "q1", Form.READINESS)


class Tags(HTMLParser):
    """Collects tags and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


KNOWN_TAGS = {
    "html", "meta", "title", "style", "h1", "h2", "p", "section", "ul", "li", "blockquote", "div", "table",
    "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


NASTY = st.sampled_from(
    ["<b>", "</td>", "&amp;", "|", "\\|", "**", "_a_", "[x](y)", "# ", "- ", "1. ", "`", "~~", "日本"]
)
PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10)


@given(st.lists(NASTY | PLAIN, max_size=6).map("".join))
def test_no_text_becomes_markup(text: str) -> None:
    """Names and remarks come from files; a page shows them and nothing else."""
    made = Document(
        text,
        text,
        (Section(text, (Paragraph(text), Quote(text), Bullets((text,)), Table((text,), ((text,),)))),),
    )
    page = Tags()
    page.feed(html(made))
    assert set(page.tags) <= KNOWN_TAGS
    assert " ".join(text.split()) in " ".join(page.text.split())
    lines = markdown(made).splitlines()
    assert sum(line.startswith("#") for line in lines) == 2
    assert not re.search(r"(?<!\\)<", "".join(lines))
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 2 for row in rows)
