"""Commands on drift: one look at a story's traffic and labels, or at every story's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mangaassist.cli.session import HomeOption, JsonOption, NameArgument, session
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


@app.command("triage")
def triage_drift(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """What is behind the drift of a story, and what to do about it: a look, findings, one proposal."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.watch import Watch

    here = session(context, home, as_json)
    watch = Watch(here.platform())
    found = watch.triage(name)
    watch.save()

    def text() -> None:
        render.verdicts(found.findings, title=f"What may be behind drift of {name} version {found.version}")
        typer.echo(f"{found.conclusion} (confidence {found.confidence}): {found.reason}")
        also = f"; also found: {', '.join(found.also)}" if found.also else ""
        severity = f" {found.severity}" if found.severity else ""
        typer.echo(f"Proposal: {found.proposal}{severity}{also}")

    here.answer(found.as_dict(), text)


def _show(report: DriftReport) -> None:
    from mangaassist.cli import render

    render.verdicts(report.verdicts, title=f"Drift of {report.story} version {report.version}")
    if not report.verdicts:
        typer.echo("No kind is due for another look yet.")
    for estimate in report.estimates:
        typer.echo(f"{estimate.name}: {estimate.sentence}")
    for kind, found in report.kinds.items():
        typer.echo(f"{kind}: {f'{found.state} ({found.name})' if found else 'nothing decided yet'}")
