"""`mangaassist bundle`: coupled members registered, flipped and flipped back as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, ReasonOption, Session, session

if TYPE_CHECKING:
    from mangaassist.promotion.bundles import Flip

app = typer.Typer(no_args_is_help=True, help="Models and indexes that go live together.")

BundleArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the bundle, like catalog-search.")
]


@app.command()
def register(
    context: typer.Context,
    name: BundleArgument,
    member: Annotated[list[str], typer.Option(help="ROLE=STORY/VERSION or ROLE=DIGEST; give two or more.")],
    evaluation: Annotated[
        Path | None, typer.Option(help="JSON: the members that were evaluated together, and the verdicts.")
    ] = None,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enter members that belong together; only what was evaluated together can be flipped to."""
    from mangaassist.lifecycle import bundling

    here = session(context, home, as_json)
    bundle = bundling.register(here.platform(), name, member, evaluation, actor=actor)
    body = bundle.as_dict()

    def text() -> None:
        can = "can be flipped to" if body["deployable"] else f"cannot be flipped to. {body['reason']}"
        typer.echo(f"{bundle.title} {can.rstrip('.')}.")

    here.answer(body, text)


@app.command()
def flip(
    context: typer.Context,
    name: BundleArgument,
    number: Annotated[int, typer.Argument(metavar="NUMBER")],
    reason: ReasonOption = "",
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a bundle from now on, all members at once; the one before stays warm for 14 days."""
    here = session(context, home, as_json)
    platform = here.platform()
    at = platform.clock.now()
    _answer(here, platform.bundles.flip(name, number, actor=actor, reason=reason, at=at))


@app.command()
def back(
    context: typer.Context,
    name: BundleArgument,
    reason: ReasonOption = "",
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the bundle before again, and time it to the last reader."""
    here = session(context, home, as_json)
    platform = here.platform()
    _answer(here, platform.bundles.back(name, actor=actor, reason=reason, at=platform.clock.now()))


@app.command("list")
def list_bundles(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every bundle: which is read, which is warm, which can be next."""
    from mangaassist.cli import render

    here = session(context, home, as_json)
    platform = here.platform()
    states = [platform.bundles.state(name).as_dict() for name in platform.bundles.names()]

    def text() -> None:
        rows = [(state["bundle"], one) for state in states for one in state["bundles"]]
        cells = [
            (name, one["number"], one["state"], _members(one), "yes" if one["deployable"] else one["reason"])
            for name, one in rows
        ]
        render.table("Bundles", ("bundle", "number", "state", "members", "evaluated together"), cells)

    here.answer({"bundles": states}, text)


def _answer(here: Session, flip: Flip) -> None:
    body = {
        **flip.state.as_dict(),
        "seconds": flip.seconds,
        "readers": flip.safe.readers,
        "expired": list(flip.safe.expired),
        "verdict": flip.verdict.as_dict(),
    }
    here.answer(body, lambda: typer.echo(flip.verdict.sentence))


def _members(bundle: dict[str, Any]) -> str:
    shown = {role: ref[:12] if len(ref) == 64 else ref for role, ref in bundle["members"].items()}
    return ", ".join(f"{role} {reference}" for role, reference in shown.items())
