"""`mangaassist features`: values at a moment, leaks, the online store, skew, freshness, schema changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mangaassist.cli.session import HomeOption, JsonOption, NameArgument, session
from mangaassist.core.errors import ExitCode, InputError

app = typer.Typer(no_args_is_help=True, help="Features as serving saw them, and as it serves them.")


@app.command("list")
def list_features(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every feature of every catalog, with its lag, default and promises."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.feature_reports import listing

    here = session(context, home, as_json)
    rows = listing(here.platform())
    columns = ("namespace", "name", "view", "entity", "dtype", "default")
    ages = ("serving_lag", "ttl", "freshness_sla", "recency_window")

    def text() -> None:
        cells = [
            (*(row[column] for column in columns), *(_hours(row[age]) for age in ages), row["owner"])
            for row in rows
        ]
        render.table("Features", (*columns, "lag", "ttl", "fresh", "window", "owner"), cells)

    here.answer({"features": rows}, text)


@app.command("catalog")
def show_catalog(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """The catalog of a story as it is written; HOME/features/NAME.yaml takes the place of the story's own."""
    from mangaassist.lifecycle.feature_reports import catalog_text

    here = session(context, home, as_json)
    body = catalog_text(here.platform(), name)
    here.answer(body, lambda: typer.echo(body["text"], nl=False))


@app.command("append")
def append_features(
    context: typer.Context,
    name: NameArgument,
    view: Annotated[str, typer.Argument(metavar="VIEW", help="A view of the story's catalog.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSONL or Parquet with its rows.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a pipeline's rows to a view; the same rows twice change no read."""
    from mangaassist.lifecycle.feature_reports import append_features as append

    here = session(context, home, as_json)
    body = append(here.platform(), name, view, file)
    here.answer(body, lambda: typer.echo(f"{body['rows']:,} rows of {name}.{view} added ({body['schema']})."))


@app.command("read")
def read_features(
    context: typer.Context,
    name: NameArgument,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="The moment the values were needed, or now; required.")
    ] = None,
    entity: Annotated[
        list[str] | None, typer.Option("--entity", help="Whose features: ID or ENTITY=ID; may be repeated.")
    ] = None,
    entities: Annotated[Path | None, typer.Option("--entities", help="File with one such ID a line.")] = None,
    feature: Annotated[
        list[str] | None, typer.Option("--feature", help="Which; may be repeated. All without.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="From the online store instead of the tables.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Values and reasons, as serving saw them at a moment and never later."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.feature_reports import read_features as read

    here = session(context, home, as_json)
    keys = [*(entity or []), *(_lines(entities) if entities else [])]
    platform = here.platform()
    body = read(platform, name, keys, as_of=as_of, names=feature or (), online=online)
    here.record_read(platform, f"features of {name}", rows=len(body["rows"]))

    def text() -> None:
        names = list(body["rows"][0]["features"])
        cells = [
            (_key(row), *(f"{one['value']} ({one['reason']})" for one in row["features"].values()))
            for row in body["rows"]
        ]
        title = f"{body['schema']} at {body['as_of']}, {body['from']}"
        render.table(title, ("entity", *names), cells)
        if body["problem"]:
            typer.echo(f"The online store falls back. {body['problem']}")

    here.answer(body, text)


@app.command()
def leaks(
    context: typer.Context,
    name: NameArgument,
    seed: Annotated[int, typer.Option(help="Seed of the sample and of the permutations.")] = 7,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Whether a feature learns the label as it happens, over the newest label version; exit code 1 if so."""
    from mangaassist.lifecycle.feature_reports import leak_report

    here = session(context, home, as_json)
    body = leak_report(here.platform(), name, seed=seed)
    title = f"Leaks of {name}, label version {body['label_version']}"
    here.answer(body, lambda: _verdicts(body, title))
    _refuse(body)


@app.command()
def materialise(
    context: typer.Context,
    name: NameArgument,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Also when the tables have nothing new.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the newest feature rows online; readers keep the last good generation until it is whole."""
    from mangaassist.lifecycle.features import materialise_story

    here = session(context, home, as_json)
    done = [one.as_dict() for one in materialise_story(here.platform(), name, rebuild=rebuild)]

    def text() -> None:
        for one in done:
            verb = "Published" if one["built"] else "Nothing new:"
            typer.echo(
                f"{verb} {one['name']} generation {one['generation']}: {one['keys']:,} records from "
                f"{one['rows']:,} rows, as of {one['watermark'][:19]}Z."
            )
            if one["collected"]:
                typer.echo(f"Dropped {len(one['collected'])} superseded generations.")

    here.answer({"story": name, "generations": done}, text)


@app.command()
def parity(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Training-serving skew: served values read again from the tables; exit code 1 for a skew."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.feature_reports import parity_report

    here = session(context, home, as_json)
    body = parity_report(here.platform(), name)

    def text() -> None:
        _verdicts(body, f"Parity of {name} over {body['reads']:,} reads")
        rows = [
            (one["feature"], row["key"], row["at"][:19], row["served"], row["offline"], row["served_reason"])
            for one in body["features"]
            for row in one["examples"]
        ]
        if rows:
            render.table("Differing", ("feature", "entity", "at", "served", "training reads", "why"), rows)

    here.answer(body, text)
    _refuse(body)


@app.command()
def status(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Freshness and recency of every feature, each by itself, and what is online; exit code 1 for a fail."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.feature_reports import status_report

    here = session(context, home, as_json)
    body = status_report(here.platform(), name)

    def text() -> None:
        _verdicts(body, f"Features of {name} at {render.minute(body['at'])}")
        rows = [
            (one["name"], one["generation"], one["watermark"][:19], one["keys"]) for one in body["online"]
        ]
        if rows:
            render.table("Online", ("schema", "generation", "as of", "records"), rows)
        else:
            typer.echo(f"Nothing is online: mangaassist features materialise {name}")

    here.answer(body, text)
    _refuse(body)


@app.command("diff")
def difference(
    context: typer.Context,
    name: NameArgument,
    against: Annotated[
        Path | None, typer.Option(help="A catalog file; without it, the newest published version.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the installed catalog changes, line by line."""
    from mangaassist.lifecycle.feature_reports import difference as compare

    here = session(context, home, as_json)
    body = compare(here.platform(), name, against)

    def text() -> None:
        typer.echo(f"{body['before']['name']} -> {body['after']['name']}")
        for one in body["changes"]:
            typer.echo(f"  {one['sentence']}")
        if not body["changes"]:
            typer.echo("  No difference.")

    here.answer(body, text)


def _verdicts(body: Mapping[str, Any], title: str) -> None:
    from mangaassist.cli import render
    from mangaassist.core.verdict import Verdict

    render.verdicts([Verdict.from_dict(one) for one in body["verdicts"]], title=title)


def _refuse(body: Mapping[str, Any]) -> None:
    if body["status"] == "fail":
        raise typer.Exit(ExitCode.REFUSED)


def _lines(path: Path) -> Sequence[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "--entities", expected=f"a UTF-8 file at {path}", got=str(error), next_step="Check the path."
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _key(row: Mapping[str, Any]) -> str:
    return ", ".join(str(value) for name, value in row.items() if name != "features") or "–"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:g} h"
