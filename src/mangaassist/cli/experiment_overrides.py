"""`mangaassist experiment override|follow-up|threshold|rates`: setting a guardrail aside, never quietly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mangaassist.cli.experiment_parts import Name, ledger_of, pairs_of, show_experiment, text_of
from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, ReasonOption, session


def register(app: typer.Typer) -> None:
    """Add these commands to ``mangaassist experiment``."""
    app.command()(override)
    app.command()(follow_up)
    # A limit may be negative; without this it would be read as an option.
    app.command(context_settings={"ignore_unknown_options": True})(threshold)
    app.command()(rates)


def override(
    context: typer.Context,
    name: Name,
    *,
    review: Annotated[Path, typer.Option(help="The written review, kept whole in the ledger.")],
    role: Annotated[str, typer.Option(help="Must be director.")],
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a guardrail veto aside, with a review, a director and 90 days of tracking."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import overrides

    here = session(context, home, as_json)
    with ledger_of(here) as ledger:
        now = SystemClock().now()
        known = overrides.override(ledger, name, text_of(review), role=role, actor=actor, at=now)
    show_experiment(here, known)


def threshold(
    context: typer.Context,
    guardrail: Annotated[str, typer.Argument(metavar="GUARDRAIL", help="Name in the catalog.")],
    limit: Annotated[str, typer.Argument(metavar="LIMIT", help="The new limit, for example -0.5%.")],
    *,
    reason: ReasonOption,
    role: Annotated[str, typer.Option(help="Loosening needs director.")] = "team",
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a guardrail of the catalog for later launches; registered ones keep theirs."""
    from dataclasses import asdict

    from mangaassist.cli import render
    from mangaassist.core.clock import SystemClock
    from mangaassist.core.document import read
    from mangaassist.experiments.governance import change_threshold

    here = session(context, home, as_json)
    number = read(f"limit: {limit}", source="LIMIT").mapping()["limit"].number()
    with ledger_of(here, create=True) as ledger:
        now = SystemClock().now()
        change = change_threshold(ledger, guardrail, number, reason=reason, role=role, actor=actor, at=now)
    here.answer(asdict(change), lambda: render.fields(f"Threshold of {guardrail}", asdict(change)))


def follow_up(
    context: typer.Context,
    name: Name,
    *,
    finding: Annotated[
        list[str], typer.Option(help="GUARDRAIL=CHANGE measured since, for example csat=-0.4%; repeatable.")
    ],
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what became of the vetoed guardrails after an override."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.core.document import read
    from mangaassist.experiments import overrides

    here = session(context, home, as_json)
    findings = {
        guardrail: read(f"change: {change}", source=guardrail).mapping()["change"].number()
        for guardrail, change in pairs_of(finding, "--finding", example="csat=-0.4%")
    }
    with ledger_of(here) as ledger:
        known = overrides.follow_up(ledger, name, findings, actor=actor, at=SystemClock().now())
    show_experiment(here, known)


def rates(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Override rate per team, and what is still tracked."""
    from mangaassist.cli import render
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import overrides

    here = session(context, home, as_json)
    with ledger_of(here) as ledger:
        found = overrides.override_rates(ledger)
        watched = overrides.tracked(ledger, now=SystemClock().now())
    body = {
        "rates": [one.as_dict() for one in found],
        "tracked": [
            {
                "experiment": one.experiment,
                "until": one.until,
                "follow_ups": one.follow_ups,
                "overdue": one.overdue,
            }
            for one in watched
        ],
    }
    here.answer(body, lambda: render.verdicts(found, title="Override rates"))
