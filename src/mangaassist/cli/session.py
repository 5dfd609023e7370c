"""What every command shares: the home it works on, and the two ways of answering."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mangaassist.core.verdict import Decision
    from mangaassist.lifecycle.platform import Platform

DEFAULT_HOME = Path(".mangaassist")

RootHomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="MANGAASSIST_HOME", help="State directory.", show_default="./.mangaassist"),
]
# The variable is read by the root alone: read here too, it would win over a --home before the command.
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="State directory.", show_default="./.mangaassist")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the story.")]
VersionArgument = Annotated[int, typer.Argument(metavar="VERSION")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the ledger.")]
ActorOption = Annotated[
    str, typer.Option("--actor", envvar="MANGAASSIST_ACTOR", help="Who is acting, for the ledger.")
]


@dataclass(frozen=True, slots=True)
class Session:
    """One command's surroundings.

    Attributes:
        home: the state directory.
        as_json: whether the answer is JSON on standard output.
    """

    home: Path
    as_json: bool

    def platform(self, *, create: bool = False) -> Platform:
        """The wired platform on this home; an absent home is an error unless ``create``."""
        from mangaassist.core.clock import SystemClock
        from mangaassist.core.home import Home
        from mangaassist.lifecycle.platform import Platform

        return Platform.open(Home.open(self.home, create=create), SystemClock())

    def answer(self, body: Mapping[str, Any], text: Callable[[], None]) -> None:
        """Print ``body`` as JSON, or run ``text`` for people."""
        if self.as_json:
            import json

            sys.stdout.write(json.dumps(body, ensure_ascii=False, indent=2, default=str) + "\n")
            sys.stdout.flush()  # a reader on a pipe has it even when the command goes on to serve
        else:
            text()

    def record_read(self, platform: Platform, what: str, *, rows: int) -> None:
        """Write down, before it is shown, that customer data is read here: what, how much, who, when."""
        from getpass import getuser

        from mangaassist.governance.access import Access

        actor = os.environ.get("MANGAASSIST_ACTOR") or getuser()
        Access(platform.ledger).record_read(what, rows=rows, actor=actor, at=platform.clock.now())

    def note(self, line: str) -> None:
        """A progress line for people, on standard error so that JSON stays clean."""
        sys.stderr.write(line + "\n")


def session(context: typer.Context, home: Path | None, as_json: bool) -> Session:
    """The options given after the command win over those given before it."""
    outer: Session | None = context.find_root().obj
    chosen = home or (outer.home if outer else None) or DEFAULT_HOME
    return Session(chosen, as_json or (outer.as_json if outer else False))


def show_decision(here: Session, decide: Callable[[Platform], Decision]) -> None:
    """Answer with a decision; one that stops or takes back is a refusal."""
    from mangaassist.cli import render
    from mangaassist.core.errors import ExitCode
    from mangaassist.core.verdict import Action

    decision = decide(here.platform())

    def text() -> None:
        render.verdicts(decision.verdicts)
        typer.echo(f"{decision.action}: {decision.reason}")

    here.answer(decision.as_dict(), text)
    if decision.action in (Action.ROLL_BACK, Action.REFUSE):
        raise typer.Exit(ExitCode.REFUSED)
