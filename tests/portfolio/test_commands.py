"""`mangaassist portfolio` as people and scripts use it: JSON on standard output, exit codes, sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.portfolio.examples import FRAMING, QUARTER, SMALL, replaced
from typer.testing import CliRunner

from mangaassist.cli import portfolio
from mangaassist.core.errors import GateRefused, InputError, MangaAssistError


class Shell:
    """Runs one command on one home and reads its answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def text(self, *arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(portfolio.app, [*arguments, "--home", str(self.folder / "home")])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        return dict(json.loads(self.text(*arguments, "--json", code=code)))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_rank_answers_without_a_home_and_writes_nothing(shell: Shell) -> None:
    """POR-1: `portfolio rank FILE --json`."""
    body = shell("rank", shell.file("q.yaml", QUARTER))
    assert body["picks"] == ["reranker-l12", "intent-v2", "cold-start-hrnn"]
    first = body["candidates"][0]
    assert {"rank", "rice", "rice_stated", "evoi", "outcome", "reason", "margin", "stability"} <= set(first)
    assert body["calibration"]["effort_by_class"]["replacement"]["n"] == 3
    assert not (shell.folder / "home").exists()
    shown = shell.text("rank", shell.file("q.yaml", QUARTER))
    assert "Picks: reranker-l12, intent-v2, cold-start-hrnn" in shown


def test_the_whole_way(shell: Shell) -> None:
    """FRM-1, POR-1, POR-2: letter, break-even, decide, finish, audit, documents."""
    framing, quarter = shell.file("f.yaml", FRAMING), shell.file("q.yaml", QUARTER)
    assert shell("letter", framing)["verdict"]["status"] == "pass"
    compared = shell("break-even", framing)
    assert compared["recommendation"] == "heuristic first"
    assert compared["per_week_ratio"] == pytest.approx(3.39, abs=0.01)
    assert "heuristic first" in shell.text("break-even", framing)
    assert shell("decide", framing, code=1)["decision"]["action"] == "refuse"
    decided = shell("decide", quarter)
    assert decided["decision"]["action"] == "promote"
    outcome = ("--weeks", "9", "--result", "won", "--lift", "0.008")
    finished = shell("finish", "2026-q3", "intent-v2", *outcome)
    assert finished["result"] == "won"
    audit = shell("audit")
    assert len(audit["verdicts"]) == 12
    assert {"audit.hit_rate", "audit.recovery_minutes"} < {one["name"] for one in audit["verdicts"]}
    assert audit["calibration"]["effort"]["n"] == 1
    assert "Audit" in shell.text("audit", "--since", "2020-01-01")
    assert shell.text("document", "2026-q3").startswith("# Portfolio 2026-q3\n")
    assert shell("document", "2026-q3", "--html")["text"].startswith("<!doctype html>")
    assert "## 6. Questions" in shell.text("document", "jp-first-session", "--form", "decision")


def test_history_in_the_ledger_reaches_the_next_ranking(shell: Shell) -> None:
    """POR-2: the audit's factors are what the next `rank` multiplies with."""
    small = shell.file("q.yaml", SMALL)
    shell("decide", small)
    shell("finish", "q1", "a", "--weeks", "24", "--result", "lost")
    body = shell("rank", shell.file("next.yaml", replaced("portfolio: q1", "portfolio: q2")))
    assert body["calibration"]["effort"]["n"] == 1
    assert body["calibration"]["effort"] == shell("audit")["calibration"]["effort"]
    assert body["candidates"][0]["weeks_calibrated"] > 8


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("rank", "FILE:weeks: 8|weeks: -8"), InputError, "engineer-weeks, more than 0, got '-8'"),
        (("rank", "FILE:slots: 2|slots: 0"), InputError, "a whole number, 1 or more"),
        (("rank", "missing.yaml"), InputError, "No such file"),
        (("letter", "FILE:portfolio: q1|portfolio: q1"), InputError, "a known name"),
        (("break-even", "FILE:|"), InputError, "a known name"),
        (("document", "nothing"), InputError, "an existing home"),
        (("audit",), InputError, "an existing home"),
    ],
)
def test_bad_input_is_one_sentence(
    shell: Shell, arguments: tuple[str, ...], kind: type[MangaAssistError], said: str
) -> None:
    given = []
    for one in arguments:
        if one.startswith("FILE:"):
            old, _, new = one.removeprefix("FILE:").partition("|")
            given.append(shell.file("q.yaml", replaced(old, new)))
        else:
            given.append(one)
    with pytest.raises(kind) as refused:
        shell.text(*given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("finish", "q1", "a", "--weeks", "9", "--result", "wno"), "Did you mean 'won'?"),
        (("finish", "q1", "zz", "--weeks", "9", "--result", "won"), "one of its picks"),
        (("follow-up", "exp", "--held"), "a registered experiment"),
        (("document", "q2"), "Did you mean 'q1'?"),
        (("document", "q1", "--form", "narative"), "Did you mean 'narrative'?"),
        (("audit", "--since", "soon"), "an ISO 8601 time"),
        (("audit", "--since", "2026-02-01", "--until", "2026-01-01"), "a time after 2026-02-01"),
    ],
)
def test_wrong_names_name_the_nearest(shell: Shell, arguments: tuple[str, ...], said: str) -> None:
    shell("decide", shell.file("q.yaml", SMALL))
    with pytest.raises(InputError) as refused:
        shell.text(*arguments)
    assert said in str(refused.value)


def test_an_unknown_example_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'quarter'"):
        CliRunner().invoke(portfolio.app, ["example", "quarters"], catch_exceptions=False)


def test_a_changed_quarter_is_refused_from_the_command_line(shell: Shell) -> None:
    shell("decide", shell.file("q.yaml", SMALL))
    with pytest.raises(GateRefused, match="A quarter is decided once"):
        shell("decide", shell.file("q.yaml", replaced("reach: 900", "reach: 901")))


def test_a_disbelieved_letter_leaves_exit_code_one(shell: Shell) -> None:
    file = shell.file("f.yaml", replaced("name: Jun, believes: true", "name: Jun, believes: false", FRAMING))
    assert shell("letter", file, code=1)["verdict"]["status"] == "fail"


@pytest.mark.parametrize(("name", "text"), [("quarter", QUARTER), ("framing", FRAMING)])
def test_examples_are_printed_as_shipped(name: str, text: str) -> None:
    """AML-02's twelve candidates ship as package data."""
    assert CliRunner().invoke(portfolio.app, ["example", name]).stdout == text


def test_the_commands_load_nothing_heavy() -> None:
    """House: --help answers in under 0.3 s."""
    code = "import sys, mangaassist.cli.portfolio; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "scipy", "polars", "sqlalchemy", "yaml"} & set(loaded)
