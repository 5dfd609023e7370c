"""Commands on one story's model: retrain, evaluate, predict, promote, roll back, freeze, explain."""

from __future__ import annotations

from typing import Annotated

import typer

from mangaassist.cli.session import (
    ActorOption,
    HomeOption,
    JsonOption,
    NameArgument,
    ReasonOption,
    Session,
    VersionArgument,
    session,
    show_decision,
)
from mangaassist.core.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Hang these commands into the root application."""
    for command in (retrain, evaluate, predict, promote, rollback, freeze, explain):
        app.command()(command)


def retrain(
    context: typer.Context,
    name: NameArgument,
    seed: Annotated[int, typer.Option(help="Seed of everything random in this run.")] = 7,
    from_step: Annotated[str | None, typer.Option(help="Run this step and all after it again.")] = None,
    waive: Annotated[str | None, typer.Option(help="Rule to waive: single-source.")] = None,
    reason: ReasonOption = "",
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the ten steps from labels to canary; finished steps are not run again."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.retrain import WaiverRequest
    from mangaassist.lifecycle.retrain import retrain as run

    here = session(context, home, as_json)
    waiver = WaiverRequest.parse(waive, reason, actor)
    result = run(here.platform(), name, seed=seed, from_step=from_step, waiver=waiver, on_event=here.note)

    def text() -> None:
        render.verdicts((verdict for verdict in result.verdicts if not verdict.passed), title="Worth reading")
        typer.echo(result.sentence)

    here.answer(result.as_dict(), text)
    if result.refused:
        raise typer.Exit(ExitCode.REFUSED)


def evaluate(
    context: typer.Context,
    name: NameArgument,
    mode: Annotated[
        str,
        typer.Option(help="rows, slices or bias (of a labelled set), or replay (of logged requests)."),
    ] = "rows",
    on: Annotated[
        str, typer.Option(help="The rows: golden, adversarial or week (labelled lately).")
    ] = "golden",
    version: Annotated[
        int | None,
        typer.Option(help="Default: champion, else the newest candidate; of a replay the challenger."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of a replay: seed of its sample.")] = 7,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure one version: on a labelled set, slice by slice, for bias, or on requests it answered unseen."""
    from mangaassist.core.errors import InputError, nearest

    here = session(context, home, as_json)
    if mode not in _MODES:
        step = nearest(mode, _MODES)
        raise InputError("--mode", expected=" or ".join(_MODES), got=repr(mode), next_step=step)
    if mode == "replay":
        _replay(here, name, version, seed)
    else:
        {"rows": _measure, "slices": _slices, "bias": _bias}[mode](here, name, on, version)


_MODES = ("rows", "slices", "bias", "replay")
_SHOWN_SLICES = 25


def _measure(here: Session, name: str, on: str, version: int | None) -> None:
    from mangaassist.cli import render
    from mangaassist.core.verdict import Verdict
    from mangaassist.lifecycle.evaluating import evaluate as run

    result = run(here.platform(), name, on=on, version=version)

    def text() -> None:
        columns = ("value", "low", "high", "n", "floor", "ceiling")
        rows = [(metric, *(body[key] for key in columns)) for metric, body in result["metrics"].items()]
        render.table(f"{name} version {result['version']} on {on}", ("metric", *columns), rows)
        hostile = result["adversarial"]
        if hostile:
            worst = sorted(hostile["attacks"], key=lambda one: -one["drop"])[:5]
            parts = ("name", "n", "clean", "value", "low", "high")
            shown = [tuple(one[part] for part in parts) for one in worst]
            title = (
                f"Under attack: {hostile['accuracy']['value']:.1%}, untouched {hostile['clean']:.1%}; worst"
            )
            render.table(title, ("attack", *parts[1:]), shown)
        render.verdicts([Verdict.from_dict(one) for one in result["golden_set"]], title="The set itself")
        for one in result["golden_versions"][-1:]:
            typer.echo(
                f"Golden version {one['number']} judged last: {one['n']:,} rows, {one['added']:,} added, "
                f"{one['removed']:,} removed, {one['relabelled']:,} relabelled."
            )
        for note in result["notes"]:
            typer.echo(note)

    here.answer(result, text)


def _slices(here: Session, name: str, on: str, version: int | None) -> None:
    from mangaassist.cli import render
    from mangaassist.lifecycle.evaluating import slices as run

    result = run(here.platform(), name, on=on, version=version)

    def text() -> None:
        found = result["slices"]
        enough = [one for one in found if not one["insufficient"]]
        shown = sorted(enough, key=lambda one: (not one["flagged"], one["value"]))[:_SHOWN_SLICES]
        parts = ("name", "n", "value", "low", "high", "gap", "p")
        rows = [
            (render.mark("fail" if one["flagged"] else "pass"), *(one[part] for part in parts))
            for one in shown
        ]
        title = f"{name} version {result['version']} on {on}: flagged slices, then the lowest"
        render.table(title, ("", *parts), rows)
        flagged, thin = sum(one["flagged"] for one in found), len(found) - len(enough)
        typer.echo(
            f"{len(found):,} slices: {flagged:,} flagged (p below 0.05 after Holm), {thin:,} insufficient "
            f"(fewer than {result['minimum']} rows). --json has all of them."
        )
        if result["absent_dimensions"]:
            typer.echo(f"Not in these rows: {', '.join(result['absent_dimensions'])}.")

    here.answer(result, text)


def _bias(here: Session, name: str, on: str, version: int | None) -> None:
    from mangaassist.cli import render
    from mangaassist.core.verdict import Verdict
    from mangaassist.lifecycle.evaluating import bias as run

    result = run(here.platform(), name, on=on, version=version)

    def text() -> None:
        found = [Verdict.from_dict(one) for one in result["verdicts"]]
        render.verdicts(found, title=f"{name} version {result['version']} on {on}: gaps in accuracy")
        if not found:
            typer.echo("There is one language and one cohort only: nothing to compare.")

    here.answer(result, text)


def _replay(here: Session, name: str, version: int | None, seed: int) -> None:
    from mangaassist.cli import render
    from mangaassist.core.verdict import Verdict
    from mangaassist.lifecycle.replaying import replay

    body = replay(here.platform(), name, version, seed=seed)

    def text() -> None:
        columns = ("value", "low", "high")
        for one in body["quality"]:
            rows = [(key, *(made[column] for column in columns)) for key, made in one["differences"].items()]
            if rows:
                title = f"{name} version {body['version']} less what was served, {one['log']}"
                render.table(title, ("estimator", *columns), rows)
        render.verdicts([Verdict.from_dict(one) for one in body["verdicts"]], title="Replay (informs only)")

    here.answer(body, text)


def predict(
    context: typer.Context,
    name: NameArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The utterance.")],
    version: Annotated[int | None, typer.Option(help="Default: champion, else the newest candidate.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer one text with the champion, else with the newest candidate; nothing is logged."""
    from mangaassist.lifecycle.evaluating import predict as run

    here = session(context, home, as_json)
    answer = run(here.platform(), name, text, version=version)

    def show() -> None:
        verb = "abstains (out of scope?), nearest" if answer["abstains"] else "→"
        typer.echo(f"{verb} {answer['label']} ({answer['confidence']:.1%}), {answer['served_by']}")

    here.answer(answer, show)


def promote(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Judge the running stage on the evidence so far and advance, hold (exit 0) or roll back (exit 1)."""
    from mangaassist.lifecycle.rollout import judge_now

    show_decision(session(context, home, as_json), lambda platform: judge_now(platform, name))


def rollback(
    context: typer.Context,
    name: NameArgument,
    reason: ReasonOption = "asked for by hand",
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw the challenger if one is running, else return to the previous champion."""
    from mangaassist.lifecycle.rollout import roll_back

    here = session(context, home, as_json)
    result = roll_back(here.platform(), name, actor=actor, reason=reason)
    here.answer(result, lambda: typer.echo(result["sentence"]))


def freeze(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Argument(metavar="[on|off]", help="Leave out to see the switches.")
    ] = None,
    story: Annotated[str | None, typer.Option(help="Freeze only this story's promotions.")] = None,
    technique: Annotated[str | None, typer.Option(help="With --story: only this technique.")] = None,
    reason: ReasonOption = "",
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pin every model to its last known good version (on), or lift that (off)."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.switches import set_switch, show_switches

    here = session(context, home, as_json)
    platform = here.platform()
    if state is None:
        body = show_switches(platform)
    else:
        body = set_switch(platform, state, story=story, technique=technique, reason=reason, actor=actor)
    here.answer(body, lambda: render.fields("Switches", body))


def explain(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a version is where it is, from the ledger: labels, features, code, gates, people."""
    from mangaassist.promotion.explain import explain as run

    here = session(context, home, as_json)
    platform = here.platform()
    platform.module(name)
    found = run(platform.registry, name, version)
    here.answer(found.body, lambda: typer.echo("\n".join(found.lines)))
