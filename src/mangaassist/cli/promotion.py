"""`mangaassist promotion`: what the rules of a rollout do, before they do it to a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from mangaassist.core.story import Story
    from mangaassist.lifecycle.platform import Platform
    from mangaassist.promotion.simulated_rates import Simulation

app = typer.Typer(no_args_is_help=True, help="The rules of a gate and a rollout: shown, tried out.")

_HEALTHY_DAYS = 4000
_EFFECT_DAYS = 1000


@app.callback()
def _group() -> None:
    """The rules of a gate and a rollout: shown, tried out."""


@app.command()
def simulate(
    context: typer.Context,
    *,
    healthy: Annotated[
        bool, typer.Option("--healthy", help="How often a canary like the hold-out is aborted.")
    ] = False,
    effect_sigma: Annotated[
        float | None,
        typer.Option(help="Looks until a canary this much worse is aborted, in standard errors of one look."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(help=f"Default {_HEALTHY_DAYS} healthy ones, {_EFFECT_DAYS} others.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Canary stage; default the last.")] = None,
    earlier_stages: Annotated[
        bool, typer.Option("--earlier-stages", help="Begin after the stages before; else with no evidence.")
    ] = False,
    requests: Annotated[
        float | None, typer.Option(help="Mean requests of the whole shop in 5 minutes.", show_default="160")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 7,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the abort rules watch simulated canary days, and count false aborts or looks until the abort."""
    from mangaassist.promotion.simulated_days import REQUESTS
    from mangaassist.promotion.simulated_rates import simulate as run

    here = session(context, home, as_json)
    effect = _effect(healthy, effect_sigma)
    total = days if days is not None else (_EFFECT_DAYS if effect else _HEALTHY_DAYS)
    found = run(
        days=total,
        seed=seed,
        effect_sigma=effect,
        stage=stage,
        earlier=earlier_stages,
        requests=REQUESTS if requests is None else requests,
        on_progress=lambda done: _progress(here, done, total),
    )
    here.answer(found.as_dict(), lambda: _show(found))


def _effect(healthy: bool, effect_sigma: float | None) -> float:
    """The effect asked for, 0 for none; exactly one of the two options has to be there."""
    from mangaassist.core.errors import InputError

    if healthy != (effect_sigma is not None):
        if effect_sigma is None or effect_sigma > 0:
            return effect_sigma or 0.0
        raise InputError(
            "effect-sigma",
            expected="a number above 0",
            got=f"{effect_sigma:g}",
            next_step="For a canary without a regression ask with --healthy.",
        )
    raise InputError(
        "simulate",
        expected="either --healthy or --effect-sigma S",
        got="both" if healthy else "neither",
        next_step="Ask about a healthy canary or about a bad one.",
    )


def _progress(here: Session, done: int, total: int) -> None:
    """A line for about every tenth of the days."""
    tenth = max(200, total // 10)
    if done == total or done // tenth > (done - 200) // tenth:
        here.note(f"{done:,} of {total:,} days")


def _show(found: Simulation) -> None:
    from mangaassist.cli import render
    from mangaassist.promotion.simulated_rates import AIM

    body = found.as_dict()
    canary, holdout = body["requests_a_look"]["canary"], body["requests_a_look"]["holdout"]
    past = "after the earlier stages" if body["earlier_stages"] else "from its first look on"
    where = f"{body['days']:,} days of {body['stage']} {past}, {canary:g} and {holdout:g} requests a look"
    if found.effect_sigma:
        columns = ("rule", "median looks", "90% by look", "never that day", "")
        rows = [(one["rule"], *_delays(one), one["says"]) for one in body["rules"]]
        title = f"Canary {found.effect_sigma:g} sigma worse ({body['effect']:+.1%} resolved): {where}"
    else:
        columns = ("rule", "aborted", "from", "to", "")
        rows = [
            (one["rule"], *(f"{one[key]:.2%}" for key in ("abort_rate", "low", "high")), one["says"])
            for one in body["rules"]
        ]
        title = f"Healthy canary: {where}"
    render.table(title, columns, rows)
    if found.effect_sigma:
        typer.echo("Only resolved requests are worse; aborts over errors, latency or exceptions are false.")
        return
    shipped = found.of("shipped")
    verdict = "within" if shipped.rate.value <= AIM else "MORE THAN"
    share = f"{shipped.rate.value:.2%} of healthy days"
    typer.echo(f"The rules as shipped abort {share}, {verdict} the {AIM:.0%} aimed at.")


def _delays(rule: dict[str, Any]) -> tuple[int | None, int | None, str]:
    return rule["median_looks"], rule["p90_looks"], f"{rule['never_share']:.1%}"


RoleOption = Annotated[str, typer.Option("--role", help="In which role you answer for it, for the ledger.")]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="A gate policy; default the story's own.", exists=False, dir_okay=False),
]


@app.command()
def policy(
    context: typer.Context,
    name: NameArgument,
    file: PolicyOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a story's gate policy as a document, or check one; HOME/gates/NAME.yaml is the one that rules."""
    from mangaassist.core.gate_policy import plain, policy_document

    here = session(context, home, as_json)
    story = _under(here.platform(), name, file)
    body = policy_document(story)
    here.answer({"policy": story.digest, "document": body}, lambda: typer.echo(plain(body)))


@app.command()
def backtest(
    context: typer.Context,
    name: NameArgument,
    file: PolicyOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide every past gate and stage again by another policy, on the evidence stored then."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.backtesting import backtest as run

    here = session(context, home, as_json)
    platform = here.platform()
    body = run(platform, _under(platform, name, file))

    def text() -> None:
        columns = ("version", "stage", "at", "was", "would", "next_was", "next_would")
        rows = [tuple(one[key] for key in columns) for one in (*body["different"], *body["undecidable"])]
        if rows:
            render.table(f"{name}: decided differently, or not decidable", columns, rows)
        for one in body["different"]:
            typer.echo(f"{name}/{one['version']} {one['stage']}: {one['reason']}")
        typer.echo(f"{body['same']} of {body['decisions']} decisions are the same.")

    here.answer(body, text)


@app.command()
def trust(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Whether offline changes foretell online ones, and so whether the next canary is extended."""
    from mangaassist.cli import render
    from mangaassist.promotion import trust as judging

    here = session(context, home, as_json)
    platform = here.platform()
    story = platform.story(name)
    past = judging.pairs(platform.registry, name)
    verdict = judging.verdict(story, past)
    why = judging.extension(story, verdict)
    body = {"pairs": [one.as_dict() for one in past], "verdict": verdict.as_dict(), "extended": why}

    def text() -> None:
        columns = ("version", "champion", "offline", "offline_error", "online", "online_error")
        if past:
            rows = [tuple(getattr(one, key) for key in columns) for one in past]
            render.table(f"{name}: retrains that users have met", columns, rows)
        typer.echo(verdict.sentence)
        typer.echo(f"The next canary is extended: {why}" if why else "The next canary goes as planned.")

    here.answer(body, text)


@app.command()
def review(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument,
    *,
    reason: ReasonOption,
    role: RoleOption,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept the disagreements of a version in shadow, after having looked at them."""
    from mangaassist.lifecycle.second_looks import review as run

    here = session(context, home, as_json)
    body = run(here.platform(), name, version, actor=actor, role=role, reason=reason)
    here.answer(body, lambda: typer.echo(body["sentence"]))


@app.command()
def reenable(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument,
    *,
    reason: ReasonOption,
    role: RoleOption,
    actor: ActorOption = "operator",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start an aborted canary again, when it did no worse than the hour before it: a false alarm."""
    from mangaassist.lifecycle.second_looks import reenable as run

    here = session(context, home, as_json)
    body = run(here.platform(), name, version, actor=actor, role=role, reason=reason)
    here.answer(body, lambda: typer.echo(body["sentence"]))


@app.command()
def revise(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Judge the champion's canary again with outcomes that came late; harm takes it back (exit 1)."""
    from mangaassist.lifecycle.second_looks import revise_now

    show_decision(session(context, home, as_json), lambda platform: revise_now(platform, name))


def _under(platform: Platform, name: str, file: Path | None) -> Story:
    """The story as it is judged, or as it would be by the policy in ``file``."""
    from mangaassist.core.errors import InputError
    from mangaassist.core.gate_policy import under_policy

    story = platform.story(name)
    if file is None:
        return story
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "--policy", expected="a readable text file", got=str(file), next_step="Check the path."
        ) from error
    return under_policy(story, text, source=file.name)
