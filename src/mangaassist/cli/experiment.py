"""`mangaassist experiment`: register, sign, assign, look, decide, and the numbers beside them."""

from __future__ import annotations

from typing import Annotated

import typer

from mangaassist.cli import experiment_numbers, experiment_overrides
from mangaassist.cli.experiment_parts import (
    DataFile,
    Name,
    PlanFile,
    attributes_of,
    leave,
    ledger_of,
    show_analysis,
    show_experiment,
    summary,
    text_of,
)
from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, session

app = typer.Typer(no_args_is_help=True, help="Experiments: from a hypothesis to a decision.")
experiment_numbers.register(app)
experiment_overrides.register(app)


@app.command()
def register(
    context: typer.Context,
    file: PlanFile,
    *,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an experiment file and record it; the roles it names sign next."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    with ledger_of(here, create=True) as ledger:
        text = text_of(file)
        known = registry.register(ledger, text, source=file.name, actor=actor, at=SystemClock().now())
    show_experiment(here, known)


@app.command()
def sign(
    context: typer.Context,
    name: Name,
    *,
    role: Annotated[str, typer.Option(help="A role the registration names.")],
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign the registered text; the last signature freezes it and claims its users."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    with ledger_of(here) as ledger:
        known = registry.sign(ledger, name, role, actor=actor, at=SystemClock().now())
    show_experiment(here, known)


@app.command("list")
def list_experiments(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every registered experiment."""
    from mangaassist.cli import render
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    with ledger_of(here) as ledger:
        found = [summary(one) for one in registry.everything(ledger)]
    columns = ("name", "status", "owner", "surface", "looks", "exposure")
    rows = [[one[name] for name in columns] for one in found]
    here.answer({"experiments": found}, lambda: render.table("Experiments", columns, rows))


@app.command()
def show(context: typer.Context, name: Name, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One experiment: signatures, looks, decision."""
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    with ledger_of(here) as ledger:
        known = registry.get(ledger, name)
    show_experiment(here, known)


@app.command()
def ramp(
    context: typer.Context,
    name: Name,
    share: Annotated[str, typer.Argument(metavar="SHARE", help="A registered step, for example 10%.")],
    *,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move the exposure to a registered step; nobody changes arms."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.core.document import read
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    step = read(f"share: {share}", source="SHARE").mapping()["share"].number(above=0)
    with ledger_of(here) as ledger:
        known = registry.set_exposure(ledger, name, step, actor=actor, at=SystemClock().now())
    show_experiment(here, known)


@app.command()
def assign(
    context: typer.Context,
    name: Name,
    users: Annotated[list[str], typer.Argument(metavar="USER_ID...", help="Users to look up.")],
    *,
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the users; without any, eligibility is not checked."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which arm each user is in, or why none."""
    from mangaassist.cli import render
    from mangaassist.experiments import registry
    from mangaassist.experiments.assignment import assign as place
    from mangaassist.experiments.territory import hold_outs

    here = session(context, home, as_json)
    with ledger_of(here) as ledger:
        known = registry.require_frozen(registry.get(ledger, name), what="randomisation")
        held = hold_outs(ledger)
    running = known.running()
    known_of_user = attributes_of(attribute) if attribute else None
    placed = [(user, place(running, user, attributes=known_of_user, hold_outs=held)) for user in users]
    body = {
        "experiment": name,
        "registration": known.digest,
        "exposure": running.exposure,
        "assignments": [
            {"user_id": user, "arm": one.arm or None, "outcome": str(one.outcome)} for user, one in placed
        ],
    }
    rows = [(user, one.arm or "–", str(one.outcome)) for user, one in placed]
    here.answer(body, lambda: render.table(f"Assignments of {name}", ("user", "arm", ""), rows))


@app.command("hold-out")
def hold_out(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the hold-out.")],
    share: Annotated[float, typer.Argument(metavar="SHARE", help="Share of users, for example 0.02.")],
    *,
    surface: Annotated[str, typer.Option(help="Only for experiments on this surface.")] = "",
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a share of users out of every experiment from now on."""
    from mangaassist.cli import render
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import territory
    from mangaassist.experiments.assignment import HoldOut

    here = session(context, home, as_json)
    with ledger_of(here, create=True) as ledger:
        territory.reserve(ledger, HoldOut(name, share, surface), actor=actor, at=SystemClock().now())
        found = territory.hold_outs(ledger)
    rows = [(one.name, one.share, one.surface or "all") for one in found]
    body = {"hold_outs": [{"name": one.name, "share": one.share, "surface": one.surface} for one in found]}
    here.answer(body, lambda: render.table("Hold-outs", ("name", "share", "surface"), rows))


@app.command()
def look(
    context: typer.Context,
    name: Name,
    data: DataFile,
    *,
    day: Annotated[int | None, typer.Option(help="Which registered day this is; default the next.")] = None,
    final: Annotated[bool, typer.Option("--final", help="End an always-valid experiment here.")] = False,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the next registered look and record it; it pauses the rollout by itself when it must."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments.looks import take_look
    from mangaassist.experiments.unit_table import scan

    here = session(context, home, as_json)
    frame = scan(data)
    with ledger_of(here) as ledger:
        now = SystemClock().now()
        analysis, decision = take_look(ledger, name, frame, at=now, actor=actor, day=day, final=final)
    show_analysis(here, analysis.as_dict(), decision)


@app.command()
def decide(
    context: typer.Context,
    name: Name,
    *,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the looks so far amount to."""
    from mangaassist.cli import render
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments.looks import settle

    here = session(context, home, as_json)
    with ledger_of(here) as ledger:
        decision = settle(ledger, name, actor=actor, at=SystemClock().now())

    def text() -> None:
        render.verdicts(decision.verdicts)
        typer.echo(f"{decision.action}: {decision.reason}")

    here.answer(decision.as_dict(), text)
    leave(decision)
