"""Commands that read their own options only when they are called.

Typer reads the signature of every command before the first one runs. There are a hundred of them, and that
took longer than all else a short command or `--help` does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_command_name, get_group, solve_typer_info_help


def on_demand(app: typer.Typer) -> TyperGroup:
    """``app`` with its commands known by their name and help line only, until one of them is called."""
    bare = typer.Typer(add_completion=False)
    bare.info, bare.registered_callback = app.info, app.registered_callback
    group = get_group(bare)
    group.commands = {str(one.name): one for one in _listed(app)}
    return group


class _Later(TyperCommand):
    """A name and a help line; ``build`` makes the real command, which takes over where this one is called."""

    def __init__(self, name: str, text: str | None, build: Callable[[], Any]) -> None:
        super().__init__(name, help=text)
        self._build = build

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._build().make_context(info_name, args, parent, **extra)


def _listed(app: typer.Typer) -> Iterator[TyperCommand]:
    """Commands before groups, as Typer lists them; a group without a name gives its commands to ``app``."""
    for command in app.registered_commands:
        alone = typer.Typer(add_completion=False)
        alone.registered_commands = [command]
        assert command.callback is not None
        name = command.name or get_command_name(command.callback.__name__)
        text = command.help or inspect.getdoc(command.callback)
        yield _Later(name, text, partial(get_command, alone))
    for group in app.registered_groups:
        inner = group.typer_instance
        assert inner is not None
        if group.name:
            yield _Later(group.name, solve_typer_info_help(group), partial(on_demand, inner))
        else:
            yield from _listed(inner)
