"""`mangaassist registry`: versions, what differs between them, who vouches for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mangaassist.cli.session import (
    ActorOption,
    HomeOption,
    JsonOption,
    NameArgument,
    ReasonOption,
    VersionArgument,
    session,
)

app = typer.Typer(no_args_is_help=True, help="Registered versions: list, compare, sign, copy.")

RegionOption = Annotated[
    str | None, typer.Option(help="us, jp, eu, ...", show_default="the region of the settings")
]


@app.command("list")
def list_versions(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Every version of a story with its status and golden accuracy."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.catalogue import versions

    here = session(context, home, as_json)
    rows = versions(here.platform(), name)
    columns = ("version", "status", "accuracy", "labels", "code", "registered (UTC)", "capped")

    def text() -> None:
        cells = [
            (
                row["version"],
                row["status"],
                row["accuracy"],
                row["label_version"],
                row["code_revision"][:7],
                render.minute(row["registered_at"]),
                row["capped"],
            )
            for row in rows
        ]
        render.table(f"Versions of {name}", columns, cells)

    here.answer({"story": name, "versions": rows}, text)


@app.command()
def diff(
    context: typer.Context,
    name: NameArgument,
    before: Annotated[int, typer.Argument(metavar="A")],
    after: Annotated[int, typer.Argument(metavar="B")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What differs between two versions: data, labels, features, code, configuration, numbers."""
    from mangaassist.cli import render
    from mangaassist.promotion.comparing import compare

    here = session(context, home, as_json)
    platform = here.platform()
    platform.module(name)
    found = compare(platform.registry.get(name, before), platform.registry.get(name, after))
    body = {"story": name, "before": before, "after": after, "differences": [one.as_dict() for one in found]}
    columns = ("field", f"version {before}", f"version {after}", "change")

    def text() -> None:
        if not found:
            typer.echo(f"Versions {before} and {after} of {name} differ in nothing the registry knows.")
            return
        cells = [(one.field, _short(one.before), _short(one.after), one.change) for one in found]
        render.table(f"{name}: {before} and {after}", columns, cells)

    here.answer(body, text)


def _short(value: object) -> object:
    """Digests by their first digits; everything else as it is."""
    return value[:12] if isinstance(value, str) and len(value) == 64 else value


@app.command()
def sign(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument,
    region: RegionOption = None,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vouch for a version with the region's present key, for example after the old one was revoked."""
    here = session(context, home, as_json)
    platform = here.platform()
    platform.module(name)
    at = platform.clock.now()
    signed = platform.registry.sign(name, version, region=region, actor=actor, at=at)
    here.answer(
        signed.as_dict(), lambda: typer.echo(f"{signed.name} is signed for {_regions(signed.signatures)}.")
    )


@app.command()
def copy(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument,
    *,
    region: Annotated[str, typer.Option(help="The other region: jp, eu, ...")],
    to: Annotated[Path, typer.Option(help="The 'artifacts' folder of that region's home.")],
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a version's files to another region and sign the copy with that region's key."""
    from mangaassist.lifecycle import regions

    here = session(context, home, as_json)
    platform = here.platform()
    platform.module(name)
    signed = regions.copy(platform, name, version, region=region, to=to, actor=actor)
    here.answer(
        signed.as_dict(), lambda: typer.echo(f"{signed.name} is signed for {_regions(signed.signatures)}.")
    )


def _regions(signatures: object) -> str:
    return ", ".join(sorted(signatures)) if isinstance(signatures, dict) else ""


@app.command()
def keys(
    context: typer.Context,
    region: RegionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The signing keys of a region; the newest that is not revoked signs."""
    from mangaassist.cli import render
    from mangaassist.core.clock import isoformat

    here = session(context, home, as_json)
    ring = here.platform().keys
    region = region or ring.region
    rows = [
        {"key": one.key, "public": one.public, "added_at": isoformat(one.added_at), "revoked": one.revoked}
        for one in ring.keys(region).values()
    ]

    def text() -> None:
        cells = [
            (row["key"], render.minute(row["added_at"] or ""), row["revoked"] or "trusted") for row in rows
        ]
        render.table(f"Signing keys of {region}", ("key", "added (UTC)", "trust"), cells)

    here.answer({"region": region, "keys": rows}, text)


@app.command()
def rotate(
    context: typer.Context,
    region: RegionOption = None,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a signing key; what older keys signed stays trusted until they are revoked."""
    here = session(context, home, as_json)
    platform = here.platform()
    region = region or platform.keys.region
    key = platform.keys.rotate(region, actor=actor, at=platform.clock.now())
    here.answer(
        {"region": region, "key": key}, lambda: typer.echo(f"Key {key} signs for {region} from now on.")
    )


@app.command()
def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="As 'registry keys' shows it.")],
    *,
    reason: ReasonOption,
    region: RegionOption = None,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End trust in a key: versions only it signed are not loaded again until another key signs them."""
    here = session(context, home, as_json)
    platform = here.platform()
    region = region or platform.keys.region
    platform.keys.revoke(region, key, reason=reason, actor=actor, at=platform.clock.now())
    here.answer({"region": region, "revoked": key}, lambda: typer.echo(f"Key {key} of {region} is revoked."))


@app.command()
def project(
    context: typer.Context,
    name: NameArgument,
    check: Annotated[bool, typer.Option("--check", help="Only say what differs.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a story in MLflow as the ledger has it; what somebody changed there is printed and put right."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.mlflow_projection import project as run

    here = session(context, home, as_json)
    found = run(here.platform(), name, check=check)

    def text() -> None:
        if not found:
            typer.echo(f"MLflow shows {name} as the ledger has it.")
            return
        cells = [
            (one.what, one.ledger or "nothing", one.mlflow or "nothing", "yes" if one.repaired else "no")
            for one in found
        ]
        render.table(f"{name} in MLflow", ("what", "ledger", "MLflow", "repaired"), cells)

    here.answer({"story": name, "differences": [one.as_dict() for one in found]}, text)
