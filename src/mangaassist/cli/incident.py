"""The `incident` group: what changed, and fire drills; what people on call do is in :mod:`.oncall`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mangaassist.cli.session import HomeOption, JsonOption, Session, session
from mangaassist.core.errors import InputError

if TYPE_CHECKING:
    from mangaassist.lifecycle.drills import Score

app = typer.Typer(no_args_is_help=True, help="Know that it broke, know why, and know that people know.")


@app.command("changes")
def list_changes(
    context: typer.Context,
    *,
    since: Annotated[str, typer.Option(help="ISO time, or hours back as '24h'.")] = "24h",
    until: Annotated[str, typer.Option(help="ISO time.", show_default="now")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything that changed: versions, switches, deploys, prompts, schemas, indices, services."""
    from mangaassist.cli import render
    from mangaassist.core.clock import parse_instant
    from mangaassist.incidents.changes import changes

    here = session(context, home, as_json)
    platform = here.platform()
    now = platform.clock.now()
    end = parse_instant(until, field="--until") if until else now
    found = [one.as_dict() for one in changes(platform.ledger, _since(since, end), end, known_by=now)]
    columns = ("at", "kind", "subject", "summary", "touches", "by", "revert")
    rows = [
        (
            render.minute(one["at"]),
            one["kind"],
            one["subject"],
            one["summary"],
            " ".join([*one["touches"], *one["cohorts"]]),
            one["actor"],
            one["revert"],
        )
        for one in found
    ]
    here.answer({"changes": found}, lambda: render.table("Changes", columns, rows))


def _since(text: str, end: Any) -> Any:
    from datetime import timedelta

    from mangaassist.core.clock import parse_instant

    if text.endswith("h") and text[:-1].isdigit() and len(text) <= 6:
        return end - timedelta(hours=int(text[:-1]))
    return parse_instant(text, field="--since")


@app.command()
def drill(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One drill; leave out for the list.")] = "",
    *,
    everything: Annotated[bool, typer.Option("--all", help="Play all of them.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated shop.")] = 1000,
    repeat: Annotated[int, typer.Option(min=1, max=200, help="Play that many seeds.")] = 1,
    page: Annotated[
        Path | None, typer.Option(help="With NAME: keep the on-call page of that moment as this file.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Break a simulated shop in a known way, and see whether alarms and tree name the cause and its cure."""
    from mangaassist.cli import render
    from mangaassist.lifecycle import drills

    here = session(context, home, as_json)
    if name and everything:
        raise InputError("drill", expected="a NAME or --all", got="both", next_step="Leave one out.")
    if not (name or everything):
        known = drills.names()
        rows = list(known.items())
        here.answer({"drills": known}, lambda: render.table("Drills", ("name", "what breaks"), rows))
        return
    if page is not None:
        _keep_page(name, seed, page)
        here.note(f"The page is kept as {page}.")
    wanted = [name] if name else []
    found = [
        drills.summary(drills.drill(wanted, seed=one, on_score=lambda score: _note(here, score)), seed=one)
        for one in range(seed, seed + repeat)
    ]
    body = found[0] if repeat == 1 else drills.spread(found)
    here.answer(body, lambda: _show(body))


def _keep_page(name: str, seed: int, file: Path) -> None:
    from mangaassist.core.home import unwritable
    from mangaassist.lifecycle import drills
    from mangaassist.web import oncall_view

    if not name:
        raise InputError("--page", expected="the NAME of one drill", got="--all", next_step="Name one.")
    text = oncall_view.page(drills.seen(name, seed=seed), inline=True)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(file, error) from error


def _note(here: Session, score: Score) -> None:
    word = "localised" if score.localised else "missed"
    here.note(f"{score.name}: {word}")


def _show(body: dict[str, Any]) -> None:
    from mangaassist.cli import render

    columns = ("drill", "cause", "found", "suspect", "alarm min", "localised min", "roll back")
    rows = [
        (
            one["name"],
            " + ".join(one["category"]),
            _said(one["found"], right=one["localised"]),
            _said(one["suspect"], right=one["right_suspect"]),
            one["minutes_to_alarm"],
            one["minutes_to_localise"],
            one["roll_back"],
        )
        for one in body.get("drills", [])
    ]
    if rows:
        render.table(f"Drills, seed {body['seed']}", columns, rows)
    numbers = {name: _plain(value) for name, value in body.items() if name not in ("drills", "seeds")}
    render.fields("Score", numbers)


def _said(found: str | None, *, right: bool) -> str:
    return f"{'✓' if right else '✗'} {found or 'nothing'}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one:.4g}" for name, one in value.items() if one is not None)
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else value
