"""Commands on the whole home: demo, serve, audit, doctor, maintain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from mangaassist.cli.session import HomeOption, JsonOption, Session, session
from mangaassist.core.errors import ExitCode

audit = typer.Typer(no_args_is_help=True, help="The ledger.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the root application."""
    for command in (demo, serve, doctor, maintain):
        app.command()(command)
    app.add_typer(audit, name="audit")


PortOption = Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]


def demo(
    context: typer.Context,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Stop after the summary.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulated shop.")] = 7,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play the main job on a simulated shop: two retrains, drift, a canary that fails and is rolled back."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.lifecycle.demo import run_demo
    from mangaassist.lifecycle.summary import summary_lines

    here = session(context, home, as_json)
    shown = run_demo(here.home, seed=seed, now=SystemClock().now(), on_event=here.note)
    here.answer(shown, lambda: typer.echo("\n".join(summary_lines(shown))))
    if not no_serve:
        from mangaassist.web.server import run_server

        run_server(here.platform(), host=host, port=port, on_event=here.note)


def serve(
    context: typer.Context,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predictions, health, metrics, OpenAPI and the status page over HTTP."""
    from mangaassist.web.server import run_server

    here = session(context, home, as_json)
    address = {"url": f"http://{host}:{port}/", "home": str(here.home)}
    run_server(here.platform(), host=host, port=port, on_event=_announcing(here, address))


def _announcing(here: Session, address: Mapping[str, str]) -> Callable[[str], None]:
    """Progress lines; with --json the address goes out with the first, which says that the port is ours."""
    unsaid = [address] if here.as_json else []

    def tell(line: str) -> None:
        while unsaid:
            here.answer(unsaid.pop(), lambda: None)
        here.note(line)

    return tell


def doctor(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check the installation and the home, and say what to do about each problem."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.doctor import examine

    here = session(context, home, as_json)
    checks = examine(here.home)
    body = {"ok": all(check.ok for check in checks), "checks": [check.as_dict() for check in checks]}
    rows = [
        (render.mark("pass" if check.ok else "fail"), check.name, check.found, check.next_step)
        for check in checks
    ]
    here.answer(body, lambda: render.table("Doctor", ("", "check", "found", "next step"), rows))
    if not body["ok"]:
        raise typer.Exit(ExitCode.BROKEN)


def maintain(
    context: typer.Context,
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete; without it, only say what would go.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free old table snapshots nobody pinned and artifacts the ledger does not name."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.maintenance import maintain as run

    here = session(context, home, as_json)
    rows = [one.as_dict() for one in run(here.platform(), dry_run=not apply)]
    title = "Freed" if apply else "Would free (pass --apply to do it)"
    here.answer(
        {"applied": apply, "freed": rows},
        lambda: render.table(
            title, ("what", "items", "files", "bytes"), [list(one.values()) for one in rows]
        ),
    )


@audit.command()
def verify(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Walk the whole hash chain, and compare every artifact and label version it names."""
    from mangaassist.lifecycle.auditing import audit_home

    here = session(context, home, as_json)
    result = audit_home(here.platform(), labels=True)
    here.answer(result.as_dict(), lambda: typer.echo(result.sentence))
    if not result.ok:
        raise typer.Exit(ExitCode.BROKEN)


@audit.command()
def tail(
    context: typer.Context,
    n: Annotated[int, typer.Option("-n", min=1, help="How many entries.")] = 20,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest ledger entries."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.auditing import newest

    here = session(context, home, as_json)
    rows = newest(here.platform(), n)

    def text() -> None:
        for row in rows:
            where = f"{row['sequence']:>6}  {render.minute(row['at'])}  {row['kind']}  {row['subject']}"
            typer.echo(f"{where}  by {row['actor']}")
            if row["summary"]:
                typer.echo(f"        {render.short(row['summary'], 110)}")

    here.answer({"entries": rows}, text)
