"""Runbooks ship with the package and name only commands that exist (INC-6)."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from mangaassist.cli.main import app
from mangaassist.core.errors import InputError
from mangaassist.web.runbooks import runbook, runbooks

_COMMAND = re.compile(r"mangaassist [^`\n]+")


def parse(line: str) -> str:
    """Parse one command line as the CLI would, without running it; returns the command's path."""
    command: click.Command = typer.main.get_command(app)
    context, arguments, path = None, shlex.split(line)[1:], []
    while True:
        if not hasattr(command, "commands"):
            command.make_context(command.name, arguments, parent=context)
            return " ".join(path)
        context = command.make_context(command.name, list(arguments), parent=context, resilient_parsing=True)
        name = next(one for one in arguments if not one.startswith("-"))
        arguments = arguments[arguments.index(name) + 1 :]
        assert name in command.commands, f"'{name}' is no command: {line}"
        command = command.commands[name]
        path.append(name)


@pytest.mark.parametrize("name", sorted(runbooks()))
def test_every_command_in_a_runbook_exists(name: str) -> None:
    """INC-6: what one copies at 3am parses, with its options."""
    text = runbooks()[name].text
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 50
    for line in _COMMAND.findall(text):
        assert parse(line)


def test_the_parser_of_this_test_can_fail() -> None:
    for line in (
        "mangaassist nothing",
        "mangaassist rollback intent --rezon x",
        "mangaassist incident close",
    ):
        with pytest.raises((AssertionError, click.ClickException, typer.TyperException)):
            parse(line)


def test_they_lie_in_docs_too() -> None:
    """Issue 5, incidents 6: docs/runbooks is the same folder."""
    docs = Path(__file__).parents[2] / "docs" / "runbooks"
    assert {path.stem for path in docs.glob("*.md")} == set(runbooks())


def test_an_unknown_runbook_names_the_nearest() -> None:
    with pytest.raises(InputError, match="feature_drift"):
        runbook("feature_drifts.md")
    assert runbook("index.md").title.startswith("A retrieval index")
