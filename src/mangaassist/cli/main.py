"""The `mangaassist` command: the sub-commands, and every error as one sentence and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from mangaassist import __version__
from mangaassist.cli import (
    bundle,
    drift,
    experiment,
    features,
    incident,
    labels,
    models,
    oncall,
    portfolio,
    promotion,
    registry,
    story,
    system,
    token,
)
from mangaassist.cli.on_demand import on_demand
from mangaassist.cli.session import DEFAULT_HOME, JsonOption, RootHomeOption, Session
from mangaassist.core.errors import ExitCode, MangaAssistError
from mangaassist.core.home import unwritable

_INTERRUPTED = 130
"""What shells expect after Ctrl-C: 128 and the number of the signal."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Take a model from labels to a promoted, monitored, revocable version.",
)
app.add_typer(story.app, name="story")
app.add_typer(labels.app, name="labels")
app.add_typer(experiment.app, name="experiment")
app.add_typer(portfolio.app, name="portfolio")
app.add_typer(promotion.app, name="promotion")
app.add_typer(registry.app, name="registry")
app.add_typer(bundle.app, name="bundle")
app.add_typer(token.app, name="token")
app.add_typer(features.app, name="features")
app.add_typer(drift.app, name="drift")
app.add_typer(incident.app, name="incident")
oncall.register(incident.app)
app.command()(oncall.run)
models.register(app)
system.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mangaassist {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
]


@app.callback()
def root(
    context: typer.Context,
    home: RootHomeOption = None,
    as_json: JsonOption = False,
    version: VersionOption = False,  # noqa: ARG001 - its callback answers before this body runs
) -> None:
    """Options given here apply to every command."""
    context.obj = Session(home or DEFAULT_HOME, as_json)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code (0 done, 1 a gate said no, 2 bad input, 3 broken)."""
    try:
        outcome = on_demand(app)(arguments, standalone_mode=False, prog_name="mangaassist")
    except BaseException as error:
        return _exit_code(error, as_json="--json" in arguments)
    if outcome == _INTERRUPTED:  # Typer's own answer to Ctrl-C while a command runs
        return _stopped()
    return outcome if isinstance(outcome, int) else int(ExitCode.DONE)


def _exit_code(error: BaseException, *, as_json: bool) -> int:
    """Say what went wrong; the one place where an exception becomes an exit code."""
    match error:
        case MangaAssistError():
            return _explain(error, as_json)
        case typer.TyperException():
            return _misused(error, as_json)
        case typer.Abort() | KeyboardInterrupt():
            return _stopped()
        case SystemExit() | BrokenPipeError():  # whoever read our output has stopped reading
            _silence_output()
            return int(ExitCode.DONE)
        case OSError(errno=int(), filename=str() | bytes()):
            return _explain(unwritable(Path(os.fsdecode(error.filename)), error), as_json)
        case _:
            return _broken(error)


def _silence_output() -> None:
    """Python flushes standard output on its way out; with nobody there, into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stopped() -> int:
    sys.stderr.write("Stopped; finished steps are kept and the next run goes on from them.\n")
    return _INTERRUPTED


def _misused(error: typer.TyperException, as_json: bool) -> int:
    """A wrong option or a missing argument, in the same two forms as every other error."""
    message = error.format_message()
    if as_json:
        body = {"error": "UsageError", "message": message, "exit_code": int(ExitCode.BAD_INPUT)}
        sys.stdout.write(json.dumps(body, ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stderr.write(f"{message}\nRun 'mangaassist --help' for the commands.\n" if message else "")
    return int(ExitCode.BAD_INPUT)


def _explain(error: MangaAssistError, as_json: bool) -> int:
    if error.__cause__ is not None and os.environ.get("MANGAASSIST_DEBUG"):
        traceback.print_exception(error)
    if as_json:
        sys.stdout.write(json.dumps(error.as_dict(), ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stderr.write(f"{error}\n")
    return int(error.exit_code)


def _broken(error: BaseException) -> int:
    if os.environ.get("MANGAASSIST_DEBUG"):
        traceback.print_exception(error)
    sys.stderr.write(
        f"Something broke: {type(error).__name__}: {error}. "
        "Set MANGAASSIST_DEBUG=1 and run it again for the full trace.\n"
    )
    return int(ExitCode.BROKEN)
