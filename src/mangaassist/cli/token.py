"""`mangaassist token`: who may use the control endpoints, and until when."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, ReasonOption, session

app = typer.Typer(no_args_is_help=True, help="Tokens for the control endpoints of 'serve'.")


@app.command()
def issue(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person or system it is for.")],
    *,
    role: Annotated[str, typer.Option(help="viewer, engineer, director or incident_commander.")],
    days: Annotated[int, typer.Option(help="How long it lasts, a year at most.")] = 90,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a token; it is shown this once."""
    from mangaassist.governance.access import Access

    here = session(context, home, as_json)
    platform = here.platform()
    token, text = Access(platform.ledger).issue(
        name, role, lasts=timedelta(days=days), actor=actor, at=platform.clock.now()
    )
    body = {**token.as_dict(), "token": text}
    here.answer(body, lambda: typer.echo(f"{text}\nFor {token.name} as {token.role}; it is not shown again."))


@app.command("list")
def list_tokens(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every token with its role and when it ends."""
    from mangaassist.cli import render
    from mangaassist.governance.access import Access

    here = session(context, home, as_json)
    rows = [one.as_dict() for one in Access(here.platform().ledger).tokens().values()]

    def text() -> None:
        cells = [
            (row["id"], row["name"], row["role"], render.minute(row["expires_at"]), row["revoked"])
            for row in rows
        ]
        render.table("Tokens", ("id", "name", "role", "until (UTC)", "revoked"), cells)

    here.answer({"tokens": rows}, text)


@app.command()
def revoke(
    context: typer.Context,
    identity: Annotated[str, typer.Argument(metavar="ID", help="As 'token list' shows it.")],
    *,
    reason: ReasonOption,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a token now."""
    from mangaassist.governance.access import Access

    here = session(context, home, as_json)
    platform = here.platform()
    Access(platform.ledger).revoke(identity, reason=reason, actor=actor, at=platform.clock.now())
    here.answer({"revoked": identity}, lambda: typer.echo(f"Token {identity} is revoked."))
