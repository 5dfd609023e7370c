"""`mangaassist labels events | implicit | exclude | simulate-clicks`: implicit feedback."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, NameArgument, ReasonOption, session

app = typer.Typer()


@app.command("events")
def receive_events(
    context: typer.Context,
    name: NameArgument,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="JSONL or Parquet; without it what servers received is moved."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in lists shown, clicks, looks, carts, purchases and returns; each event key counts once."""
    from mangaassist.lifecycle.implicit import receive_file

    here = session(context, home, as_json)
    received = receive_file(here.platform(), name, file)
    here.answer(received, lambda: typer.echo(_summarise(received)))


def _summarise(received: Mapping[str, Any]) -> str:
    refused = sum(received["refused"].values())
    lines = [
        f"{received['events']:,} events in {received['file'] or 'no file'}: {received['stored']:,} stored, "
        f"{received['duplicates']:,} copies dropped, {refused:,} refused.",
        *(f"  {reason}: {n:,}" for reason, n in received["refused"].items()),
        *(f"  {one['event_id'] or 'without a key'}: {one['sentence']}" for one in received["refusals"][:5]),
    ]
    return "\n".join(lines)


@app.command("implicit")
def label_events(
    context: typer.Context,
    name: NameArgument,
    as_of: Annotated[str | None, typer.Option(help="What was known then; default now.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, and add nothing.")] = False,
    actor: ActorOption = "labels",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make labels of mature events, corrected for how often each position is looked at."""
    from mangaassist.core.clock import parse_instant
    from mangaassist.lifecycle import implicit

    here = session(context, home, as_json)
    moment = parse_instant(as_of, field="--as-of") if as_of else None
    report = implicit.label_events(here.platform(), name, as_of=moment, dry_run=dry_run, actor=actor)
    here.answer(report, lambda: _show(report))


def _show(report: Mapping[str, Any]) -> None:
    from mangaassist.cli import render

    render.fields(f"Implicit feedback of {report['story']} as of {report['as_of'][:16]}", report["volumes"])
    cells = [
        (one["surface"], one["device"], at["position"], at["value"], at["low"], at["high"], at["weight"])
        for one in report["surfaces"]
        for at in one["positions"]
    ]
    render.table(
        "How often a position is looked at, against the first",
        ("surface", "device", "position", "value", "low", "high", "weight of a click"),
        cells,
    )
    for sentence in report["sentences"]:
        typer.echo(sentence)
    changed = ", ".join(f"{n:,} {what}" for what, n in report["labels"].items())
    verb = "Would be" if report["dry_run"] else "Labels"
    typer.echo(f"{verb}: {changed}. {report['undecided']:,} of {report['pairs']:,} pairs stay undecided.")


@app.command("exclude")
def exclude_user(
    context: typer.Context,
    name: NameArgument,
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user's id; only its digest is kept.")],
    reason: ReasonOption = "",
    actor: ActorOption = "labels",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a user's events, and leave later ones out of all labels."""
    from mangaassist.lifecycle import implicit

    here = session(context, home, as_json)
    done = implicit.exclude_user(here.platform(), name, user_id, actor=actor, reason=reason)

    def text() -> None:
        verb = "Was excluded already" if done["already"] else "Excluded"
        typer.echo(f"{verb}: {done['user']}. Run 'mangaassist labels implicit {name}' to revise its labels.")
        typer.echo(
            f"{done['erased']:,} events erased; the files that held them go with 'mangaassist maintain'."
        )

    here.answer(done, text)


@app.command("simulate-clicks")
def simulate_clicks(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write; .jsonl or .parquet.")],
    requests: Annotated[int, typer.Option(min=1, help="Lists to show.")] = 20_000,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days before now they spread over.")] = 28,
    seed: Annotated[int, typer.Option(help="The same seed gives the same log.")] = 0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a SIMULATED click log with known truth, to try the commands above on."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.lifecycle.implicit import write_simulated_clicks

    here = session(context, home, as_json)
    written = write_simulated_clicks(file, requests=requests, days=days, seed=seed, now=SystemClock().now())
    line = f"{written['events']:,} SIMULATED events of {requests:,} lists in {file}."
    here.answer(written, lambda: typer.echo(line))
