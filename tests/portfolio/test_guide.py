"""The numbers of docs/portfolio.md are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.portfolio.examples import FRAMING, QUARTER, replaced

from mangaassist.cli import portfolio
from mangaassist.portfolio.audit import measures
from mangaassist.portfolio.break_even import break_even
from mangaassist.portfolio.calibration import calibrate
from mangaassist.portfolio.candidates import Past
from mangaassist.portfolio.evidence import Evidence, Period
from mangaassist.portfolio.framing_schema import read_framing
from mangaassist.portfolio.ranking import Ranking, rank
from mangaassist.portfolio.schema import read_portfolio

GUIDE = (Path(__file__).parents[2] / "docs" / "portfolio.md").read_text(encoding="utf-8")
PLAIN = " ".join(GUIDE.split())
EDGE = "    excludes: [reranker-l12]    # a reranker measured on moving embeddings measures both\n"


def ranked(*changes: tuple[str, str]) -> Ranking:
    text = QUARTER
    for old, new in changes:
        text = replaced(old, new, text)
    return rank(read_portfolio(text, source="quarter.yaml"))


def picked(*changes: tuple[str, str]) -> set[str]:
    return {one.name for one in ranked(*changes).picks}


PICKS = {"reranker-l12", "intent-v2", "cold-start-hrnn"}


def test_the_table_of_twelve_is_the_ranking() -> None:
    """POR-1: RICE from its inputs, calibrated RICE and outcome, row by row."""
    found = ranked()
    rows = re.findall(
        r"^\| \d+ \| ([a-z0-9-]+) \| [^|]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", GUIDE, re.MULTILINE
    )
    assert {name for name, *_ in rows} == {one.name for one in found.rows}
    for name, stated, calibrated, outcome in rows:
        row = found.row(name)
        assert stated.strip().strip("*") == (f"{row.score.stated:,.0f}" if row.score.stated else "–")
        assert calibrated.strip() == (f"{row.score.rice:,.0f}" if row.rank else "–")
        assert outcome.strip().strip("*").split(",")[0] == str(row.outcome)


def test_what_the_choice_hangs_on() -> None:
    """POR-1: every sensitivity the guide claims."""
    assert picked(("swing_slots: 1", "swing_slots: 0")) == PICKS
    assert picked((EDGE, ""), ("product-ml: 48", "product-ml: 52")) == {
        "reranker-l12",
        "cold-start-hrnn",
        "embedding-lora",
    }
    assert picked((EDGE, "")) == PICKS
    assert picked(("product-ml: 48", "product-ml: 45")) == PICKS
    assert picked(("product-ml: 48", "product-ml: 44")) != PICKS
    assert picked(("week_worth: 30000", "week_worth: 45000")) == PICKS - {"intent-v2"}
    for change in (("week_worth: 30000", "week_worth: 0"), ("gain: 4.5e6", "gain: 3.0e6")):
        found = ranked(change)
        assert {one.name for one in found.picks} == PICKS
        assert not found.row("cold-start-hrnn").score.swing
    mortem = (
        "    premortem: {owner: o, contingency: c, risks: {data_availability: a, infrastructure: b, "
        "training_pipeline: c, integration: d}}\n    excludes: [cold-start-hrnn]"
    )
    assert picked(("    excludes: [cold-start-hrnn]", mortem)) == PICKS
    assert ranked().row("intent-v2").stability == pytest.approx(0.75, abs=0.02)


def test_the_calibration_it_prints() -> None:
    """POR-1: .92 and .77 for seven of twelve; 1.30, 2.27, 1.07 and 1.05 on effort."""
    found = ranked().calibration
    assert f"shrunk to {found.confidence.value:.2f}".replace("0.", ".") in PLAIN
    strict = calibrate([Past(f"p{i}", 10 / 12, i < 7, 1, None) for i in range(12)]).confidence.value
    assert f"and {strict:.2f}, with".replace("0.", ".") in PLAIN
    effort = {name: one.value for name, one in found.classes.items()}
    for name, kind in (("replacements", "replacement"), ("upgrades", "upgrade"), ("tuning", "tuning")):
        assert f"{name} {effort[kind]:.2f}" in PLAIN
    assert f"(mean ratio {found.effort.raw:.2f}, shrunk {found.effort.value:.2f})" in PLAIN


def test_the_break_even_it_prints() -> None:
    """FRM-1."""
    found = break_even(read_framing(FRAMING, source="framing.yaml"))
    worth = {name: f"{100 * value:.0f}" for name, value in found.worth.items()}
    assert f"{found.per_week_ratio:.1f} times" in PLAIN
    assert f"{found.incremental:.0%} more lift" in PLAIN
    assert f"after {found.overtakes:.0f} weeks" in PLAIN
    assert f"({worth['staged']} point-weeks)" in PLAIN
    assert f"({worth['heuristic']} and {worth['model']})" in PLAIN


def test_every_measure_and_command_is_listed() -> None:
    names = {one.name.removeprefix("audit.") for one in measures(Evidence(Period()))}
    assert all(f"`{name}`" in GUIDE for name in names)
    commands = {
        one.name or one.callback.__name__ for one in portfolio.app.registered_commands if one.callback
    }
    assert all(f"`portfolio {name}" in GUIDE for name in commands)


@pytest.mark.parametrize("weeks", [18, 24, 43.2])
def test_no_printed_effort_gives_the_printed_scores_of_eleven(weeks: float) -> None:
    rice = 2.5e6 * 1.5 * 0.40 / weeks
    assert all(abs(rice / printed - 1) > 0.05 for printed in (78_000, 52_000))
