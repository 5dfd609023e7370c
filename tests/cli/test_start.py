"""Starting up: quick, quiet, and with the home taken from wherever a person put it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.journeys import STORY, Shell, new_story, spawn
from typer.main import get_command

from mangaassist.cli.main import app
from mangaassist.cli.on_demand import on_demand

HEAVY = (
    "fastapi",
    "httpx",
    "jinja2",
    "lightgbm",
    "numpy",
    "orjson",
    "polars",
    "prometheus_client",
    "pyarrow",
    "pyiceberg",
    "rich",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "sudachipy",
    "torch",
    "uvicorn",
)
_LISTS = "import sys; {}; print(' '.join(sorted(sys.modules)))"


def modules(statement: str) -> set[str]:
    """Top-level packages in memory after ``statement`` in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", _LISTS.format(statement)], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_command_line_imports_nothing_heavy() -> None:
    """Issue, numbers to reach: `mangaassist --help` < 0.3 s, held by what it does not import."""
    found = modules("import mangaassist.cli.main")
    assert "typer" in found
    # Typer may bring rich to draw its help; nothing of ours may.
    assert sorted(found & set(HEAVY) - {"rich"}) == []


def test_help_itself_loads_nothing_heavy() -> None:
    found = modules("from mangaassist.cli.main import run; code = run(['--help']); assert code == 0")
    assert sorted(found & set(HEAVY) - {"rich"}) == []


@pytest.mark.parametrize("statement", ["freeze", "audit tail"])
def test_a_ledger_command_loads_no_tables_and_no_learning(tmp_path: Path, statement: str) -> None:
    """A kill switch must not wait for libraries it does not need."""
    shell = Shell(tmp_path / "home")
    new_story(shell)
    arguments = ["--home", str(shell.home), *statement.split()]
    found = modules(f"from mangaassist.cli.main import run; assert run({arguments!r}) == 0")
    assert sorted(found & {"pyiceberg", "sklearn", "scipy", "sudachipy", "fastapi", "uvicorn"}) == []


def test_every_command_of_the_architecture_is_there() -> None:
    shown = spawn("--help", cwd=Path.cwd()).out
    named = "demo story labels retrain registry promote rollback freeze explain drift serve audit doctor"
    for name in [*named.split(), "evaluate", "predict"]:
        assert f" {name} " in shown, name


def test_the_home_is_found_before_and_after_the_command_and_in_the_environment(tmp_path: Path) -> None:
    """Architecture, commands: `--home`, default ./.mangaassist; an option wins over the variable."""
    named, other = tmp_path / "named", tmp_path / "other"
    assert spawn("--home", str(named), "story", "new", "first", cwd=tmp_path).code == 0
    assert spawn("story", "new", "second", "--home", str(named), cwd=tmp_path).code == 0
    variable = {"MANGAASSIST_HOME": str(named)}
    assert spawn("story", "new", "third", cwd=tmp_path, environ=variable).code == 0
    assert spawn("--home", str(other), "story", "new", "fourth", cwd=tmp_path, environ=variable).code == 0
    assert spawn("story", "new", "fifth", cwd=tmp_path).code == 0
    assert {path.name for path in (named / "stories").iterdir()} == {"first", "second", "third"}
    assert [path.name for path in (other / "stories").iterdir()] == ["fourth"]
    assert [path.name for path in (tmp_path / ".mangaassist" / "stories").iterdir()] == ["fifth"]


def test_an_option_after_the_command_wins_over_one_before_it(tmp_path: Path) -> None:
    new_story(Shell(tmp_path / "inner"), "inner")
    new_story(Shell(tmp_path / "outer"), "outer")
    found = Shell(tmp_path / "outer").json("story", "list", "--home", str(tmp_path / "inner"))
    assert "inner" in [one["story"] for one in found["stories"]]


def test_json_before_the_command_counts_too(trained: Shell) -> None:
    before = spawn("--json", "--home", str(trained.home), "registry", "list", STORY, cwd=trained.home)
    after = spawn("--home", str(trained.home), "registry", "list", STORY, "--json", cwd=trained.home)
    assert before.code == after.code == 0
    assert before.body == after.body
    assert before.err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["retrian", STORY], "retrain"),
        (["retrain"], "NAME"),
        (["retrain", STORY, "--sed", "7"], "--sed"),
        (["retrain", STORY, "--seed", "seven"], "--seed"),
        (["labels", "import", STORY, "x.csv", "--source", "vendor"], "--text-column"),
        (["audit", "tail", "-n", "0"], "-n"),
        (["serve", "--port", "99999"], "--port"),
    ],
)
def test_a_wrong_command_line_is_bad_input(trained: Shell, arguments: list[str], says: str) -> None:
    """Exit code 2, a sentence with the word at fault, and the same as fields with --json."""
    plain = trained(*arguments, code=2)
    assert says in plain.err
    assert plain.out == ""
    body = trained.json(*arguments, code=2)
    assert says in body["message"]
    assert body["exit_code"] == 2


def test_version_and_no_arguments(trained: Shell) -> None:
    assert spawn("--version", cwd=trained.home).out.startswith("mangaassist ")
    assert "Usage" in spawn(cwd=trained.home).out


def test_commands_read_on_demand_are_the_same_commands() -> None:
    """Every name, help line and option of the whole tree, read late and read at once."""

    def tree(command: Any, path: str = "") -> Iterator[tuple[str, str | None, list[str | None]]]:
        real = command.make_context("x", [], resilient_parsing=True).command
        yield path, command.help, [one.name for one in real.params]
        for name, inner in getattr(real, "commands", {}).items():
            yield from tree(inner, f"{path} {name}")

    late = list(tree(on_demand(app)))
    assert len(late) > 80
    assert late == list(tree(get_command(app)))
