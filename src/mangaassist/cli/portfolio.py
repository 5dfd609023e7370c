"""`mangaassist portfolio`: letter, break-even, ranking, decision, what became of it, and the audit."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mangaassist.cli.experiment_parts import ledger_if_any, ledger_of, text_of
from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, Session, session
from mangaassist.core.errors import ExitCode

if TYPE_CHECKING:
    from mangaassist.core.verdict import Decision

app = typer.Typer(no_args_is_help=True, help="Portfolio: what is worth trying, and whether it was.")

PortfolioFile = Annotated[Path, typer.Argument(metavar="FILE", help="Portfolio file (YAML).")]
FramingFile = Annotated[Path, typer.Argument(metavar="FILE", help="Framing file (YAML).")]


@app.command()
def rank(
    context: typer.Context, file: PortfolioFile, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Score every candidate and choose; history and framings come from the file and, if any, the ledger."""
    from mangaassist.portfolio import ledger_facts, ranking
    from mangaassist.portfolio.schema import read_portfolio

    here = session(context, home, as_json)
    portfolio = read_portfolio(text_of(file), source=file.name)
    with ledger_if_any(here) as ledger:
        facts = ledger_facts.facts(ledger) if ledger is not None else None
    found = ranking.rank(portfolio, facts).as_dict()
    here.answer(found, lambda: _show_ranking(found))


@app.command()
def letter(
    context: typer.Context, file: FramingFile, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Check a customer's letter and what its readers said."""
    from dataclasses import asdict

    from mangaassist.cli import render
    from mangaassist.core.verdict import Status
    from mangaassist.portfolio.break_even import letter_verdict
    from mangaassist.portfolio.framing_schema import read_framing

    here = session(context, home, as_json)
    framing = read_framing(text_of(file), source=file.name, needs=("letter",))
    written = framing.letter
    if written is None:
        return
    found = letter_verdict(written)
    body = {"framing": framing.name, "title": framing.title, **asdict(written), "verdict": found.as_dict()}

    def text() -> None:
        shown = {name: body[name] for name in ("persona", "pain", "wish", "why_now", "measure")}
        render.fields(framing.title, shown)
        render.verdicts([found])

    here.answer(body, text)
    if found.status is Status.FAIL:
        raise typer.Exit(ExitCode.REFUSED)


@app.command("break-even")
def break_even(
    context: typer.Context, file: FramingFile, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Heuristic or model: lift, cost, probability, time, labels."""
    from mangaassist.cli import render
    from mangaassist.portfolio import break_even as comparing
    from mangaassist.portfolio.framing_schema import COMPARING, read_framing

    here = session(context, home, as_json)
    framing = read_framing(text_of(file), source=file.name, needs=COMPARING)
    found = comparing.break_even(framing)
    later = comparing.second_stage(framing)
    body = {
        "framing": framing.name,
        "metric": framing.metric,
        **found.as_dict(),
        "second_stage": later.as_dict() if later else None,
    }

    def text() -> None:
        columns = ("option", "engineer-weeks", "expected lift", "per engineer-week", "weeks to ship")
        named = (("heuristic", body["heuristic"]), ("model", body["model"]))
        fields = ("engineer_weeks", "expected_lift", "expected_lift_per_week", "weeks_to_ship")
        rows = [(name, *(one[field] for field in fields)) for name, one in named if one]
        render.table(framing.title, columns, rows)
        render.verdicts([*found.verdicts, *([later] if later else [])])
        typer.echo(f"{found.recommendation}: {found.reason}")

    here.answer(body, text)


@app.command()
def decide(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Portfolio or framing file (YAML).")],
    *,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide on a quarter or a framing and keep it in the ledger; a quarter is decided once."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.portfolio import decisions
    from mangaassist.portfolio.reading import document

    here = session(context, home, as_json)
    text, now = text_of(file), SystemClock().now()
    framed = "framing" in document(text, source=file.name).mapping()
    with ledger_of(here, create=True) as ledger:
        if framed:
            decision = decisions.decide_framing(ledger, text, source=file.name, actor=actor, at=now)
            _answer_decision(here, {}, decision)
        else:
            ranking, decision = decisions.decide_portfolio(
                ledger, text, source=file.name, actor=actor, at=now
            )
            _answer_decision(here, ranking, decision)


@app.command()
def finish(
    context: typer.Context,
    portfolio: Annotated[str, typer.Argument(metavar="PORTFOLIO", help="Name of a decided portfolio.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="One of its picks.")],
    *,
    weeks: Annotated[float, typer.Option(help="Engineer-weeks it took.")],
    result: Annotated[str, typer.Option(help="won, lost or abandoned; an experiment tells it itself.")] = "",
    experiment: Annotated[str, typer.Option(help="Experiment that tested it.")] = "",
    learned: Annotated[
        bool | None, typer.Option("--learned/--not-learned", help="Was its learning target met?")
    ] = None,
    lift: Annotated[float | None, typer.Option(help="Measured change, as a share: 0.004.")] = None,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what became of a pick; the next ranking is calibrated with it."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.core.errors import InputError, nearest
    from mangaassist.portfolio import outcomes

    here = session(context, home, as_json)
    if result and result not in list(outcomes.Result):
        raise InputError(
            "--result",
            expected="won, lost or abandoned",
            got=repr(result),
            next_step=nearest(result, list(outcomes.Result)),
        )
    with ledger_of(here) as ledger:
        found = outcomes.finish(
            ledger, portfolio, candidate, weeks=weeks, actor=actor, at=SystemClock().now(),
            result=outcomes.Result(result) if result else None,
            learned=learned, lift=lift, experiment=experiment,
        )  # fmt: skip
    body = {"portfolio": portfolio, "candidate": candidate, "result": str(found), "weeks": weeks}
    here.answer(body, lambda: typer.echo(f"{candidate}: {found} after {weeks:g} engineer-weeks."))


@app.command("follow-up")
def follow_up(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="A decided experiment.")],
    *,
    held: Annotated[
        bool,
        typer.Option(
            "--held/--not-held", help="Shipped: the lift is still there. Vetoed: it would have done harm."
        ),
    ],
    cohort_regressions: Annotated[
        int, typer.Option(min=0, help="Cohorts that turned out worse after the launch.")
    ] = 0,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record whether a shipped lift lasted 28 days, or whether a veto was right."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.portfolio import outcomes

    here = session(context, home, as_json)
    now = SystemClock().now()
    with ledger_of(here) as ledger:
        outcomes.follow_up(
            ledger, experiment, held=held, actor=actor, at=now, cohort_regressions=cohort_regressions
        )
    body = {"experiment": experiment, "held": held, "cohort_regressions": cohort_regressions}
    here.answer(body, lambda: typer.echo(f"{experiment}: recorded."))


@app.command()
def audit(
    context: typer.Context,
    *,
    since: Annotated[str, typer.Option(help="From this time on (ISO 8601).")] = "",
    until: Annotated[str, typer.Option(help="Before this time (ISO 8601).")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hit rate, vetoes, calibration, overrides, recovery and registration, from the ledger."""
    from mangaassist.cli import render
    from mangaassist.portfolio.audit import audit as measure

    here = session(context, home, as_json)
    start, end = (_instant(text, field) for text, field in ((since, "--since"), (until, "--until")))
    _check_period(start, end)
    with ledger_of(here) as ledger:
        found = measure(ledger, since=start, until=end)
    here.answer(found.as_dict(), lambda: render.verdicts(found.verdicts, title="Audit"))


@app.command()
def document(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A portfolio, a framing or an experiment.")],
    *,
    form: Annotated[str, typer.Option(help="narrative, decision or launch-readiness.")] = "",
    as_html: Annotated[bool, typer.Option("--html", help="One page of HTML instead of Markdown.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render a decision from the ledger: narrative, six sections, or launch readiness."""
    from mangaassist.core.errors import InputError, nearest
    from mangaassist.portfolio import documents, rendering

    here = session(context, home, as_json)
    if form and form not in list(documents.Form):
        raise InputError(
            "--form",
            expected="a kind of document",
            got=repr(form),
            next_step=nearest(form, list(documents.Form)),
        )
    with ledger_of(here) as ledger:
        found = documents.document(ledger, name, documents.Form(form) if form else None)
    text = (rendering.html if as_html else rendering.markdown)(found)
    body = {"name": name, "title": found.title, "form": "html" if as_html else "markdown", "text": text}
    here.answer(body, lambda: typer.echo(text, nl=False))


@app.command()
def example(
    name: Annotated[str, typer.Argument(metavar="NAME", help="quarter or framing.")] = "quarter",
) -> None:
    """Print an example file to start from."""
    from importlib import resources

    from mangaassist.core.errors import InputError, nearest

    known = ("quarter", "framing")
    if name not in known:
        raise InputError("example", expected="an example", got=repr(name), next_step=nearest(name, known))
    folder = resources.files("mangaassist.portfolio").joinpath("examples")
    typer.echo(folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8"), nl=False)


def _instant(text: str, field: str) -> datetime | None:
    from mangaassist.core.clock import parse_instant

    return parse_instant(text, field=field) if text else None


def _check_period(start: datetime | None, end: datetime | None) -> None:
    from mangaassist.core.errors import InputError

    if start is not None and end is not None and start >= end:
        raise InputError(
            "--until",
            expected=f"a time after {start:%Y-%m-%d}",
            got=f"{end:%Y-%m-%d}",
            next_step="Swap them.",
        )


def _answer_decision(here: Session, ranking: Any, decision: Decision) -> None:
    from mangaassist.cli import render

    def text() -> None:
        if ranking:
            _show_ranking(ranking)
        render.verdicts(decision.verdicts)
        typer.echo(f"{decision.action}: {decision.reason}")

    here.answer({**ranking, "decision": decision.as_dict()}, text)
    if decision.action == "refuse":
        raise typer.Exit(ExitCode.REFUSED)


def _show_ranking(found: Any) -> None:
    from mangaassist.cli import render

    columns = ("#", "candidate", "RICE", "calibrated", "teaches", "confidence", "weeks", "outcome", "why")
    rows = [
        (
            one["rank"],
            one["name"],
            one["rice_stated"] if one["metric"] else None,
            one["rice"] if one["rank"] else None,
            one["evoi"] or None,
            one["confidence_calibrated"] if one["metric"] else None,
            f"{one['weeks_calibrated']:.0f}",
            one["slot"] or one["outcome"],
            one["reason"],
        )
        for one in found["candidates"]
    ]
    render.table(f"Portfolio {found['portfolio']}", columns, rows)
    for note in found["notes"]:
        typer.echo(note)
    weeks = ", ".join(
        f"{team} {used:.0f} of {found['capacity'][team]:g}" for team, used in found["weeks"].items()
    )
    picks = ", ".join(found["picks"]) or "nothing"
    typer.echo(
        f"Picks: {picks}; worth {found['value']:,.0f}; engineer-weeks: {weeks}; fits in {found['fits']:.0%}."
    )
