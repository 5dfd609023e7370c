"""`mangaassist story`: the models this home knows, and a folder for a new one."""

from __future__ import annotations

from typing import Annotated

import typer

from mangaassist.cli.session import HomeOption, JsonOption, NameArgument, session

app = typer.Typer(no_args_is_help=True, help="The models of this home.")


@app.command()
def new(
    context: typer.Context,
    name: NameArgument,
    kind: Annotated[str, typer.Option(help="Family of model.")] = "text-classification",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a folder with a ready-made story; nothing outside it changes."""
    from mangaassist.lifecycle.catalogue import create_story

    here = session(context, home, as_json)
    path = create_story(here.platform(create=True), name, kind)
    here.answer(
        {"story": name, "kind": kind, "path": str(path)},
        lambda: typer.echo(
            f"Wrote {path}. Next: mangaassist labels import {name} FILE "
            "--text-column text --label-column label --source SOURCE"
        ),
    )


@app.command("list")
def list_stories(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every story with its champion and challenger."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.catalogue import overview

    here = session(context, home, as_json)
    rows = overview(here.platform())
    columns = ("story", "kind", "champion", "challenger", "stage")
    here.answer(
        {"stories": rows},
        lambda: render.table("Stories", columns, [[row[name] for name in columns] for row in rows]),
    )
