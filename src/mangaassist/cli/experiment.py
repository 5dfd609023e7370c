"""`mangaassist experiment`: size, register, sign, assign, look, decide, and the tables behind them."""

from __future__ import annotations

from typing import Annotated

import typer

from mangaassist.cli.session import HomeOption, JsonOption, session

app = typer.Typer(no_args_is_help=True, help="Experiments: from a hypothesis to a decision.")


@app.command()
def bounds(
    context: typer.Context,
    *,
    at: Annotated[str, typer.Option(help="Looks as fractions, for example 4/14,7/14,11/14,1.")],
    spending: Annotated[str, typer.Option(help="obf, pocock or power:R.")] = "obf",
    convention: Annotated[
        str, typer.Option(help="one-sided (alpha/2 in each side) or two-sided.")
    ] = "one-sided",
    alpha: Annotated[float, typer.Option(help="Two-sided error over all looks.")] = 0.05,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Critical values of a group-sequential plan at any look times."""
    from mangaassist.cli import render
    from mangaassist.experiments.spending import bounds_report

    here = session(context, home, as_json)
    body = bounds_report(at, spending=spending, convention=convention, alpha=alpha)
    columns = ("fraction", "z", "nominal_p", "cumulative_alpha")
    rows = [[row[name] for name in columns] for row in body["bounds"]]
    title = f"{spending}, {convention}, alpha {alpha:g}"
    here.answer(body, lambda: render.table(title, columns, rows))
