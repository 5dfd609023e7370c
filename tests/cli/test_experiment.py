"""`mangaassist experiment` as people and scripts use it: JSON on standard output, exit codes, sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from tests.experiments.examples import RERANKER, replaced
from tests.experiments.tables import pairs_at, table
from typer.testing import CliRunner

from mangaassist.cli import experiment
from mangaassist.core.errors import GateRefused, InputError, MangaAssistError

# Values of the reference are printed to five decimals.
PRINTED = 5e-6


class Shell:
    """Runs one command on one home and reads its answer."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        options = ["--home", str(self.home), "--json"]
        result = CliRunner().invoke(experiment.app, [*arguments, *options])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return dict(json.loads(result.stdout))

    def text(self, *arguments: str) -> str:
        result = CliRunner().invoke(experiment.app, [*arguments, "--home", str(self.home)])
        return result.output


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


@pytest.fixture
def plan_file(tmp_path: Path) -> str:
    path = tmp_path / "reranker.yaml"
    path.write_text(RERANKER, encoding="utf-8")
    return str(path)


def data(tmp_path: Path, name: str, frame: pl.DataFrame) -> str:
    path = tmp_path / f"{name}.parquet"
    frame.write_parquet(path)
    return str(path)


@pytest.mark.parametrize(
    ("options", "z", "cumulative"),
    [
        (
            ["--spending", "obf"],
            [4.03334, 2.96456, 2.29184, 2.02377],
            [2.74949e-5, 0.00152532, 0.0114504, 0.025],
        ),
        (
            ["--spending", "obf", "--convention", "two-sided"],
            [3.66676, 2.77757, 2.24283, 2.05391],
            [1.2282e-4, 0.0027873, 0.0135132, 0.025],
        ),
        (["--spending", "pocock"], [2.32691, 2.38959, 2.33619, 2.36416], None),
    ],
)
def test_bounds_are_those_of_the_reference(
    shell: Shell, options: list[str], z: list[float], cumulative: list[float] | None
) -> None:
    """EXP-5: spending bounds at 4/14, 7/14, 11/14, 1 in both conventions, which the answer names."""
    body = shell("bounds", "--at", "4/14,7/14,11/14,1", *options)
    assert [one["z"] for one in body["bounds"]] == pytest.approx(z, abs=PRINTED)
    if cumulative:
        assert [one["cumulative_alpha"] for one in body["bounds"]] == pytest.approx(cumulative, rel=5e-5)
    assert body["convention"] == ("two-sided" if "two-sided" in options else "one-sided")
    assert set(body["bounds"][0]) == {"fraction", "z", "nominal_p", "cumulative_alpha"}


@pytest.mark.parametrize(
    ("at", "spending", "says"),
    [("1/0", "obf", "4/14"), ("0.5,0.4", "obf", "rising"), ("0.5,1", "obv", "Did you mean 'obf'")],
)
def test_bad_look_times_are_a_sentence(shell: Shell, at: str, spending: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        shell("bounds", "--at", at, "--spending", spending)


def test_size_prints_inputs_steps_and_claims(shell: Shell, tmp_path: Path) -> None:
    """EXP-3: the command explains 18,420."""
    path = tmp_path / "size.yaml"
    path.write_text(replaced("mde: 3%", "mde: 3%\n  claimed_per_arm: 18420"), encoding="utf-8")
    body = shell("size", str(path))
    assert body["fixed_per_arm"] == 10_503
    assert body["per_arm"] == 5_368
    assert "does not follow" in body["notes"][0]
    assert {one["claim"] for one in body["cohorts"]} == {"powered"}
    assert "Cohort claims" in shell.text("size", str(path))


def test_from_registration_to_decision(shell: Shell, plan_file: str, tmp_path: Path) -> None:
    """EXP-1, EXP-2, EXP-6: register, sign, assign, look, decide; refused before it is signed."""
    day = data(tmp_path, "day", table(40_000))
    with pytest.raises(InputError, match="an existing home"):
        shell("assign", "reranker-l12", "u1")
    shell("register", plan_file)
    for refused in (("assign", "reranker-l12", "u1"), ("look", "reranker-l12", day)):
        with pytest.raises(GateRefused, match="every signature"):
            shell(*refused)
    for role in ("pm", "applied_ml_engineer"):
        shell("sign", "reranker-l12", "--role", role, "--actor", role)
    signed = shell("sign", "reranker-l12", "--role", "engineering_manager", "--actor", "emi")
    assert (signed["status"], signed["missing"]) == ("running", [])
    assert shell("ramp", "reranker-l12", "100%")["exposure"] == 1.0
    users = [f"u{index}" for index in range(40)]
    arms = {one["user_id"]: one["arm"] for one in shell("assign", "reranker-l12", *users)["assignments"]}
    assert set(arms.values()) == {"control", "treatment"}
    assert arms == {
        one["user_id"]: one["arm"] for one in shell("assign", "reranker-l12", *users)["assignments"]
    }
    first = shell("look", "reranker-l12", day, "--day", "14")
    assert first["decision"]["action"] == "promote"
    assert shell("decide", "reranker-l12")["action"] == "promote"
    assert shell("list")["experiments"][0]["status"] == "shipped"
    assert shell("show", "reranker-l12")["looks"] == 1


def test_an_edited_file_is_refused_by_every_command_that_reads_it(
    shell: Shell, plan_file: str, tmp_path: Path
) -> None:
    """EXP-1: after the freeze the differing lines are named."""
    shell("register", plan_file)
    for role in ("pm", "applied_ml_engineer", "engineering_manager"):
        shell("sign", "reranker-l12", "--role", role)
    Path(plan_file).write_text(replaced("power: 0.8", "power: 0.5"), encoding="utf-8")
    for command in (
        ["register", plan_file],
        ["analyze", data(tmp_path, "d", table(2_000)), "--spec", plan_file],
    ):
        with pytest.raises(GateRefused, match=r"now line \d+ 'power: 0\.5'"):
            shell(*command)


def test_a_veto_leaves_exit_code_one_and_an_override_a_trace(
    shell: Shell, plan_file: str, tmp_path: Path
) -> None:
    """GRD-1, GRD-2: a shown harm is a refusal for the shell, and an override is counted."""
    shell("register", plan_file)
    for role in ("pm", "applied_ml_engineer", "engineering_manager"):
        shell("sign", "reranker-l12", "--role", role)
    harmed = data(tmp_path, "harm", table(40_000, csat=-0.02))
    assert shell("look", "reranker-l12", harmed, "--day", "14", code=1)["decision"]["action"] == "roll_back"
    review = tmp_path / "review.md"
    review.write_text("The survey itself changed in the second week, and so on. " * 8, encoding="utf-8")
    shell("override", "reranker-l12", "--review", str(review), "--role", "director", "--actor", "dai")
    assert shell("decide", "reranker-l12")["actor"] == "dai"
    assert shell("rates")["rates"][0]["value"] == 1.0


def test_exploring_needs_no_registration_and_decides_nothing(shell: Shell, tmp_path: Path) -> None:
    """EXP-1: numbers without a registration carry a blocking verdict; no home is made for them."""
    spec = tmp_path / "spec.yaml"
    spec.write_text("primary: {column: useful_rate, covariates: [useful_rate_before]}\n", encoding="utf-8")
    body = shell("analyze", data(tmp_path, "d", table()), "--spec", str(spec), "--bootstrap", "200")
    assert body["registered"] is False
    assert body["readings"][0]["significant"] is True
    assert body["readings"][0]["variance_reduction"] > 0.1
    assert (body["decision"]["action"], body["decision"]["binding"]) == ("hold", False)
    assert not shell.home.exists()
    resampled = body["bootstrap"]["treatment"]
    raw = shell("analyze", data(tmp_path, "d", table()), "--spec", str(plain(tmp_path)))["readings"][0]
    assert resampled["value"] == pytest.approx(raw["absolute"]["value"])
    width = raw["absolute"]["high"] - raw["absolute"]["low"]
    assert resampled["high"] - resampled["low"] == pytest.approx(width, rel=0.25)


def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.yaml"
    path.write_text("primary: {column: useful_rate}\n", encoding="utf-8")
    return path


def test_a_broken_split_is_an_answer_with_exit_code_one(shell: Shell, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("primary: {column: useful_rate}\n", encoding="utf-8")
    body = shell("analyze", data(tmp_path, "d", table(control_share=0.6)), "--spec", str(spec), code=1)
    assert body["readings"] == []
    assert body["decision"]["action"] == "refuse"


def test_hold_outs_and_eligibility_reach_the_command(shell: Shell, plan_file: str) -> None:
    """EXP-2: held-out users and users the rules leave out are told why."""
    shell("hold-out", "quarter", "0.3")
    with pytest.raises(GateRefused, match="a new name"):
        shell("hold-out", "quarter", "0.1")
    shell("register", plan_file)
    for role in ("pm", "applied_ml_engineer", "engineering_manager"):
        shell("sign", "reranker-l12", "--role", role)
    shell("ramp", "reranker-l12", "100%")
    users = [f"u{index}" for index in range(60)]
    placed = shell("assign", "reranker-l12", *users)["assignments"]
    assert {one["outcome"] for one in placed} == {"assigned", "held out"}
    abroad = shell(
        "assign", "reranker-l12", "u1", "--attribute", "searches_14d=3", "--attribute", "locale=fr"
    )
    assert abroad["assignments"][0]["outcome"] == "not eligible"


def test_the_correlation_of_a_surface_is_recorded_and_judged(shell: Shell) -> None:
    """EVA-5: six finished experiments, judged from the ledger."""
    body: dict[str, Any] = {}
    for pair in pairs_at(0.41):
        changes = ("--offline", str(pair.offline), "--online", str(pair.online))
        body = shell("correlation", "reranker", "--record", pair.experiment, *changes)
    assert body["zone"] == "freeze"
    assert body["pearson"] == pytest.approx(0.41)
    assert shell("correlation", "unheard-of")["zone"] == "unknown"


def test_off_policy_refuses_a_log_without_support(shell: Shell, tmp_path: Path) -> None:
    """EVA-4: one heavy row and nothing is printed."""
    rows = {"action": list("ab") * 500, "reward": [0, 1] * 500, "propensity": [0.5] * 999 + [1e-6]}
    path = data(tmp_path, "log", pl.DataFrame(rows))
    body = shell("offpolicy", path, "--policy", "uniform", code=1)
    assert (body["refused"], body["estimates"]) == (True, {})
    even = data(tmp_path, "even", pl.DataFrame({**rows, "propensity": [0.5] * 1000}))
    assert shell("offpolicy", even)["estimates"]["snips"]["value"] == pytest.approx(0.5)


def test_every_error_carries_the_next_step(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(MangaAssistError) as missing:
        shell("size", str(tmp_path / "absent.yaml"))
    assert missing.value.next_step
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(MangaAssistError) as broken:
        shell("register", str(tmp_path / "b.yaml"))
    assert "UTF-8" in str(broken.value)


def test_the_commands_of_the_issue_are_there() -> None:
    names = {one.name or one.callback.__name__ for one in experiment.app.registered_commands if one.callback}
    assert {"size", "register", "sign", "assign", "look", "decide", "analyze", "bounds", "offpolicy"} <= names
    assert isinstance(experiment.app, typer.Typer)


def test_a_veto_is_overridden_followed_up_and_counted(shell: Shell, plan_file: str, tmp_path: Path) -> None:
    """GRD-2: from the veto to the follow-up, by commands alone."""
    shell("register", plan_file)
    for role in ("pm", "applied_ml_engineer", "engineering_manager"):
        shell("sign", "reranker-l12", "--role", role, "--actor", role)
    shell("ramp", "reranker-l12", "100%")
    vetoed = data(tmp_path, "vetoed", table(40_000, lift=0.06, csat=-0.02))
    assert shell("look", "reranker-l12", vetoed, "--day", "14", code=1)["decision"]["action"] == "roll_back"
    review = tmp_path / "review.md"
    review.write_text(" ".join(["word"] * 60), encoding="utf-8")
    shell("override", "reranker-l12", "--review", str(review), "--role", "director", "--actor", "dai")
    with pytest.raises(InputError, match="For example csat="):
        shell("follow-up", "reranker-l12", "--finding", "csat")
    shell("follow-up", "reranker-l12", "--finding", "csat=-0.4%")
    assert shell("rates")["tracked"][0]["follow_ups"] == 1


def test_a_negative_limit_needs_no_dashes(shell: Shell) -> None:
    """GRD-1: a threshold below zero is the usual one."""
    changed = shell(
        "threshold", "csat", "-0.8%", "--reason", "A year of A/A tests shows less noise.", "--role", "team"
    )
    assert changed["after"] == -0.008
