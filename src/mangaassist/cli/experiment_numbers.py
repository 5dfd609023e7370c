"""The experiment commands that decide nothing: bounds, sizes, analyses, off-policy, correlation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mangaassist.cli.experiment_parts import (
    DataFile,
    PlanFile,
    ledger_if_any,
    ledger_of,
    show_analysis,
    text_of,
)
from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, session
from mangaassist.core.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Hang these commands beside those that record."""
    for command in (bounds, size, analyze, offpolicy, correlation):
        app.command()(command)


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
    plan = read_plan(text_of(file), source=file.name, purpose=Purpose.SIZE)
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
    with ledger_if_any(here) as ledger:
        registered, analysis = explore(ledger, text_of(spec), scan(data), source=spec.name)
    decision = analysis.decision(actor="nobody", at=SystemClock().now())
    body = {"registered": registered, **analysis.as_dict()}
    if bootstrap and analysis.readings:
        body["bootstrap"] = bootstrapped(analysis.plan, scan(data), replicates=bootstrap, seed=seed)
    show_analysis(here, body, decision, binding=False)


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


def correlation(
    context: typer.Context,
    surface: Annotated[str, typer.Argument(metavar="SURFACE", help="Surface of the experiments.")],
    *,
    record: Annotated[str, typer.Option(help="Name of a finished experiment to add.")] = "",
    offline: Annotated[float, typer.Option(help="Its relative offline change.")] = 0.0,
    online: Annotated[float, typer.Option(help="Its relative online change.")] = 0.0,
    offline_error: Annotated[float, typer.Option(help="Standard error of the offline change.")] = 0.0,
    online_error: Annotated[float, typer.Option(help="Standard error of the online change.")] = 0.0,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Whether offline changes still foretell online ones on a surface: trust, yellow or freeze."""
    from dataclasses import asdict

    from mangaassist.cli import render
    from mangaassist.core.clock import SystemClock
    from mangaassist.experiments import correlation as tracker

    here = session(context, home, as_json)
    with ledger_of(here, create=bool(record)) as ledger:
        if record:
            pair = tracker.Pair(record, offline, online, offline_error, online_error)
            tracker.record(ledger, surface, pair, actor=actor, at=SystemClock().now())
        past = tracker.pairs(ledger, surface)
    found = tracker.correlate(surface, past)
    body = {
        **asdict(found),
        "verdict": found.verdict().as_dict(),
        "experiments": [asdict(one) for one in past],
    }
    here.answer(body, lambda: render.verdicts([found.verdict()]))
