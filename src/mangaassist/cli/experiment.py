"""`mangaassist experiment`: size, register, sign, assign, look, decide, and the tables behind them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, Session, session
from mangaassist.core.errors import ExitCode

if TYPE_CHECKING:
    from mangaassist.core.verdict import Decision
    from mangaassist.experiments.registry import Experiment
    from mangaassist.storage.ledger import Ledger

app = typer.Typer(no_args_is_help=True, help="Experiments: from a hypothesis to a decision.")

PlanFile = Annotated[Path, typer.Argument(metavar="FILE", help="Experiment file (YAML).")]
DataFile = Annotated[
    Path, typer.Argument(metavar="DATA", help="Parquet or CSV, one row per user, or a folder.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the experiment.")]


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
    title = f"{spending}, {convention}, alpha {alpha:g}; levels per side"
    here.answer(body, lambda: render.table(title, columns, rows))


@app.command()
def size(
    context: typer.Context,
    file: PlanFile,
    *,
    history: Annotated[
        Path | None,
        typer.Option(help="Past users (Parquet or CSV): power by simulation where no formula fits."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 7,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Users per arm, runtime and which cohort claims they support, with every input."""
    from mangaassist.cli import render
    from mangaassist.experiments.schema import Purpose, read_plan
    from mangaassist.experiments.simulated_sizing import size_by_simulation
    from mangaassist.experiments.sizing import size_plan

    here = session(context, home, as_json)
    plan = read_plan(_text(file), source=file.name, purpose=Purpose.SIZE)
    if history is not None:
        simulated = size_by_simulation(plan, history, seed=seed)
        here.answer(simulated.as_dict(), lambda: render.fields("Size by simulation", simulated.as_dict()))
        return
    sized = size_plan(plan)

    def text() -> None:
        render.fields("Inputs", sized.inputs)
        steps = [(step.name, step.factor, step.per_arm) for step in sized.steps]
        render.table("Calculation", ("step", "times", "per arm"), steps)
        render.fields("Size", {"per arm": sized.per_arm, "all arms": sized.total, "days": sized.days})
        cohorts = [(one.cohort, one.claim, one.sentence) for one in sized.cohorts]
        render.table("Cohort claims", ("cohort", "claim", ""), cohorts)
        for note in sized.notes:
            typer.echo(note)

    here.answer(sized.as_dict(), text)


@app.command()
def register(
    context: typer.Context,
    file: PlanFile,
    *,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an experiment file and record it; the roles it names sign next."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    with _ledger(here, create=True) as ledger:
        text = _text(file)
        known = registry.register(ledger, text, source=file.name, actor=actor, at=SystemClock().now())
    _show(here, known)


@app.command()
def sign(
    context: typer.Context,
    name: Name,
    *,
    role: Annotated[str, typer.Option(help="A role the registration names.")],
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign the registered text; the last signature freezes it and claims its users."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    with _ledger(here) as ledger:
        known = registry.sign(ledger, name, role, actor=actor, at=SystemClock().now())
    _show(here, known)


@app.command("list")
def list_experiments(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every registered experiment."""
    from mangaassist.cli import render
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    with _ledger(here) as ledger:
        found = [_summary(one) for one in registry.everything(ledger)]
    columns = ("name", "status", "owner", "surface", "looks", "exposure")
    rows = [[one[name] for name in columns] for one in found]
    here.answer({"experiments": found}, lambda: render.table("Experiments", columns, rows))


@app.command()
def show(context: typer.Context, name: Name, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One experiment: signatures, looks, decision."""
    from mangaassist.experiments import registry

    here = session(context, home, as_json)
    with _ledger(here) as ledger:
        known = registry.get(ledger, name)
    _show(here, known)


@app.command()
def ramp(
    context: typer.Context,
    name: Name,
    share: Annotated[str, typer.Argument(metavar="SHARE", help="A registered step, for example 10%.")],
    *,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move the exposure to a registered step; nobody changes arms."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import registry
    from mangaassist.experiments.document import read

    here = session(context, home, as_json)
    step = read(f"share: {share}", source="SHARE").mapping()["share"].number(above=0)
    with _ledger(here) as ledger:
        known = registry.set_exposure(ledger, name, step, actor=actor, at=SystemClock().now())
    _show(here, known)


@app.command()
def assign(
    context: typer.Context,
    name: Name,
    users: Annotated[list[str], typer.Argument(metavar="USER_ID...", help="Users to look up.")],
    *,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which arm each user is in, or why none."""
    from mangaassist.cli import render
    from mangaassist.experiments import registry
    from mangaassist.experiments.assignment import assign as place

    here = session(context, home, as_json)
    with _ledger(here) as ledger:
        known = registry.require_frozen(registry.get(ledger, name), what="randomisation")
    running = known.running()
    placed = [(user, place(running, user)) for user in users]
    body = {
        "experiment": name,
        "registration": known.digest,
        "exposure": running.exposure,
        "assignments": [
            {"user_id": user, "arm": one.arm or None, "outcome": str(one.outcome)} for user, one in placed
        ],
    }
    rows = [(user, one.arm or "–", str(one.outcome)) for user, one in placed]
    here.answer(body, lambda: render.table(f"Assignments of {name}", ("user", "arm", ""), rows))


@app.command()
def look(
    context: typer.Context,
    name: Name,
    data: DataFile,
    *,
    day: Annotated[int | None, typer.Option(help="Which registered day this is; default the next.")] = None,
    final: Annotated[bool, typer.Option("--final", help="End an always-valid experiment here.")] = False,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the next registered look and record it; it pauses the rollout by itself when it must."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments.looks import take_look
    from mangaassist.experiments.unit_table import scan

    here = session(context, home, as_json)
    frame = scan(data)
    with _ledger(here) as ledger:
        now = SystemClock().now()
        analysis, decision = take_look(ledger, name, frame, at=now, actor=actor, day=day, final=final)
    _show_analysis(here, analysis.as_dict(), decision)


@app.command()
def decide(
    context: typer.Context,
    name: Name,
    *,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the looks so far amount to."""
    from mangaassist.cli import render
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments.looks import settle

    here = session(context, home, as_json)
    with _ledger(here) as ledger:
        decision = settle(ledger, name, actor=actor, at=SystemClock().now())

    def text() -> None:
        render.verdicts(decision.verdicts)
        typer.echo(f"{decision.action}: {decision.reason}")

    here.answer(decision.as_dict(), text)
    _leave(decision)


@app.command()
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
    with _ledger(here) as ledger:
        now = SystemClock().now()
        known = overrides.override(ledger, name, _text(review), role=role, actor=actor, at=now)
    _show(here, known)


@app.command()
def rates(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Override rate per team, and what is still tracked."""
    from mangaassist.cli import render
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import overrides

    here = session(context, home, as_json)
    with _ledger(here) as ledger:
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


@app.command()
def analyze(
    context: typer.Context,
    data: DataFile,
    *,
    spec: Annotated[Path, typer.Option(help="Experiment file; only 'primary' is needed to explore.")],
    bootstrap: Annotated[int, typer.Option(help="Also resample users this many times on the primary.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 7,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Analyse a table without recording anything; only a registered experiment can be decided."""
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments.exploring import explore
    from mangaassist.experiments.resampling import bootstrapped
    from mangaassist.experiments.unit_table import scan

    here = session(context, home, as_json)
    with _ledger_if_any(here) as ledger:
        registered, analysis = explore(ledger, _text(spec), scan(data), source=spec.name)
    decision = analysis.decision(actor="nobody", at=SystemClock().now())
    body = {"registered": registered, **analysis.as_dict()}
    if bootstrap and analysis.readings:
        body["bootstrap"] = bootstrapped(analysis.plan, scan(data), replicates=bootstrap, seed=seed)
    _show_analysis(here, body, decision, binding=False)


@app.command()
def offpolicy(
    context: typer.Context,
    data: DataFile,
    *,
    policy: Annotated[str, typer.Option(help="uniform, or column:NAME.")] = "uniform",
    action: Annotated[str, typer.Option(help="Column of the action taken.")] = "",
    reward: Annotated[str, typer.Option(help="Column of the reward.")] = "",
    propensity: Annotated[str, typer.Option(help="Column of the logged probability.")] = "",
    feature: Annotated[
        list[str] | None, typer.Option("--context", help="Column for the reward model.")
    ] = None,
    actions: Annotated[
        int | None, typer.Option(help="Number of actions; default the distinct logged ones.")
    ] = None,
    clip: Annotated[float, typer.Option(help="Cut weights above this.")] = float("inf"),
    minimum: Annotated[float, typer.Option(help="Smallest effective sample size.")] = 50.0,
    seed: Annotated[int, typer.Option(help="Seed of the reward model's folds.")] = 7,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What another policy would have earned from this log, or a refusal."""
    import numpy as np

    from mangaassist.cli import render
    from mangaassist.experiments.off_policy import LogColumns, evaluate_file

    here = session(context, home, as_json)
    columns = LogColumns(action, reward, propensity, tuple(feature or ()))
    found = evaluate_file(
        data,
        policy=policy,
        columns=columns,
        actions=actions,
        clip=clip,
        minimum=minimum,
        generator=np.random.default_rng(seed),
    )

    def text() -> None:
        rows = [(name, one.value, one.low, one.high) for name, one in found.estimates.items()]
        render.table(f"Policy {policy}", ("estimator", "value", "low", "high"), rows)
        typer.echo(found.verdict.sentence)

    here.answer(found.as_dict(), text)
    if not found.verdict.passed:
        raise typer.Exit(ExitCode.REFUSED)


@contextmanager
def _ledger(here: Session, *, create: bool = False) -> Iterator[Ledger]:
    from mangaassist.core.home import Home
    from mangaassist.storage.ledger import Ledger

    opened = Ledger.open(Home.open(here.home, create=create))
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def _ledger_if_any(here: Session) -> Iterator[Ledger | None]:
    if not (here.home / "home.json").exists():
        yield None
        return
    with _ledger(here) as ledger:
        yield ledger


def _text(file: Path) -> str:
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


def _summary(known: Experiment) -> dict[str, Any]:
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


def _show(here: Session, known: Experiment) -> None:
    from mangaassist.cli import render

    body = _summary(known)
    shown = {
        name: ", ".join(value) if isinstance(value, list | dict) else value
        for name, value in body.items()
        if name != "decision"
    }
    here.answer(body, lambda: render.fields(f"Experiment {known.name}", shown))


def _show_analysis(here: Session, body: dict[str, Any], decision: Decision, *, binding: bool = True) -> None:
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
        _leave(decision)


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


def _leave(decision: Decision) -> None:
    """Exit 1 where the answer is no: shown harm, a refusal, or nothing shown at the end."""
    if decision.action in ("roll_back", "refuse"):
        raise typer.Exit(ExitCode.REFUSED)
