"""What the experiment commands share: the ledger, files, and how an experiment and an analysis are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mangaassist.cli.session import Session
from mangaassist.core.errors import ExitCode

if TYPE_CHECKING:
    from mangaassist.core.verdict import Decision
    from mangaassist.experiments.registry import Experiment
    from mangaassist.storage.ledger import Ledger

PlanFile = Annotated[Path, typer.Argument(metavar="FILE", help="Experiment file (YAML).")]
DataFile = Annotated[
    Path, typer.Argument(metavar="DATA", help="Parquet or CSV, one row per user, or a folder.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the experiment.")]


@contextmanager
def ledger_of(here: Session, *, create: bool = False) -> Iterator[Ledger]:
    from mangaassist.core.home import Home
    from mangaassist.storage.ledger import Ledger

    opened = Ledger.open(Home.open(here.home, create=create))
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def ledger_if_any(here: Session) -> Iterator[Ledger | None]:
    if not (here.home / "home.json").exists():
        yield None
        return
    with ledger_of(here) as ledger:
        yield ledger


def pairs_of(pairs: list[str], option: str, *, example: str) -> Iterator[tuple[str, str]]:
    """The two halves of every NAME=VALUE.

    Raises:
        InputError: for one without a name or without '='.
    """
    from mangaassist.core.errors import InputError

    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise InputError(
                option, expected="NAME=VALUE", got=repr(pair), next_step=f"For example {example}."
            )
        yield name, value


def attributes_of(pairs: list[str]) -> dict[str, str | float]:
    """NAME=VALUE pairs; what reads as a number is one."""
    found: dict[str, str | float] = {}
    for name, value in pairs_of(pairs, "--attribute", example="locale=ja"):
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
    return found


def text_of(file: Path) -> str:
    from mangaassist.core.errors import InputError

    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"file {file.name}",
            expected="a readable UTF-8 file",
            got=str(getattr(error, "strerror", None) or "bytes that are not UTF-8"),
            next_step="Check the path and the encoding.",
        ) from error


def summary(known: Experiment) -> dict[str, Any]:
    return {
        "name": known.name,
        "status": known.status,
        "owner": known.plan.owner,
        "surface": known.plan.surface,
        "registration": known.digest,
        "signatures": dict(known.signatures),
        "missing": list(known.missing),
        "frozen_at": known.frozen_at,
        "exposure": known.running().exposure if known.frozen_at else 0.0,
        "looks": len(known.looks),
        "paused": known.paused or None,
        "decision": known.decision,
    }


def show_experiment(here: Session, known: Experiment) -> None:
    from mangaassist.cli import render

    body = summary(known)
    shown = {
        name: ", ".join(value) if isinstance(value, list | dict) else value
        for name, value in body.items()
        if name != "decision"
    }
    here.answer(body, lambda: render.fields(f"Experiment {known.name}", shown))


def show_analysis(here: Session, body: dict[str, Any], decision: Decision, *, binding: bool = True) -> None:
    from mangaassist.cli import render

    def text() -> None:
        columns = ("metric", "cohort", "lift", "low", "high", "adjusted p", "significant")
        rows = [_row(one) for one in (*body["readings"], *body["cohorts"])]
        render.table(f"{body['experiment']}, look {body['look']}", columns, rows)
        render.verdicts(decision.verdicts)
        typer.echo(f"{decision.action}: {decision.reason}")

    said = {"action": str(decision.action), "reason": decision.reason, "binding": binding}
    here.answer({**body, "decision": said}, text)
    if binding or decision.action == "refuse":
        leave(decision)


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    shown = one["relative"] or one["absolute"]
    return (
        one["metric"],
        one["cohort"],
        shown["value"],
        shown["low"],
        shown["high"],
        one["adjusted_p"],
        one["significant"],
    )


def leave(decision: Decision) -> None:
    """Exit 1 where the answer is no: shown harm, a refusal, or nothing shown at the end."""
    if decision.action in ("roll_back", "refuse"):
        raise typer.Exit(ExitCode.REFUSED)
