"""Commands on drift: one look at a story's traffic and labels, or at every story's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mangaassist.cli.session import HomeOption, JsonOption, session
from mangaassist.core.errors import InputError

if TYPE_CHECKING:
    from mangaassist.drift.hub import DriftReport

app = typer.Typer(no_args_is_help=True, help="Whether traffic, labels or behaviour moved.")


@app.command("check")
def check_drift(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of the story.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every registered story.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the newest traffic and labels with the champion's stored reference."""
    from mangaassist.lifecycle.monitoring import check, check_all

    if (name is None) != every:
        raise InputError(
            "drift check",
            expected="one story, or --all",
            got="both" if name else "neither",
            next_step="Run 'mangaassist drift check NAME' or 'mangaassist drift check --all'.",
        )
    here = session(context, home, as_json)
    if name is not None:
        report = check(here.platform(), name)
        here.answer(report.as_dict(), lambda: _show(report))
        return
    fleet = check_all(here.platform())

    def text() -> None:
        for found in fleet.reports.values():
            _show(found)
        for story, why in fleet.unwatched.items():
            typer.echo(f"{story}: {why}")

    here.answer(fleet.as_dict(), text)


def _show(report: DriftReport) -> None:
    from mangaassist.cli import render

    render.verdicts(report.verdicts, title=f"Drift of {report.story} version {report.version}")
    if not report.verdicts:
        typer.echo("No kind is due for another look yet.")
    for kind, found in report.kinds.items():
        typer.echo(f"{kind}: {f'{found.state} ({found.name})' if found else 'nothing decided yet'}")
