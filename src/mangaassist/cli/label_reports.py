"""`mangaassist labels`: are they good, who disagrees, what went where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mangaassist.cli.session import (
    ActorOption,
    HomeOption,
    JsonOption,
    NameArgument,
    ReasonOption,
    session,
)

app = typer.Typer()

LotArgument = Annotated[str, typer.Argument(metavar="LOT", help="Name of the lot.")]
ExampleArgument = Annotated[
    str, typer.Argument(metavar="EXAMPLE_ID", help="Its id, or enough of its first characters.")
]
UserOption = Annotated[str | None, typer.Option("--user", help="All examples of this user instead.")]


@app.command()
def plan(
    context: typer.Context,
    name: NameArgument,
    lot: LotArgument,
    actor: ActorOption,
    size: Annotated[int, typer.Option(min=1, help="Examples in the lot.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose examples people have not labelled, and which three of them see, which two."""
    from mangaassist.lifecycle.label_quality import plan as run

    here = session(context, home, as_json)
    made = run(here.platform(), name, lot, size=size, seed=seed, actor=actor)
    here.answer(
        made,
        lambda: typer.echo(
            f"Planned {lot}: {made['items']:,} items, {made['triple']:,} of them three times. "
            f"Write the vendor's file with: mangaassist labels planned {name} {lot} --out {lot}.csv"
        ),
    )


@app.command()
def planned(
    context: typer.Context,
    name: NameArgument,
    lot: LotArgument,
    out: Annotated[Path, typer.Option("--out", help="CSV to write.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a planned lot as CSV for the vendor."""
    from mangaassist.lifecycle.label_quality import export_plan

    here = session(context, home, as_json)
    platform = here.platform()
    made = export_plan(platform, name, lot, out)
    here.record_read(platform, f"texts of {name} to be labelled", rows=made["items"])
    here.answer(made, lambda: typer.echo(f"Wrote {made['items']:,} items of {lot} to {out}."))


@app.command()
def lots(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Every lot: kappa with interval, Krippendorff's alpha, overlap and verdict, by language pool."""
    from mangaassist.lifecycle.label_quality import lots as run

    here = session(context, home, as_json)
    found = run(here.platform(), name)
    here.answer(found, lambda: _print_lots(name, found))


@app.command()
def review(
    context: typer.Context,
    name: NameArgument,
    actor: ActorOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept, flag or reject every lot, and pause annotators who fell below their own month."""
    from mangaassist.lifecycle.label_quality import review_labels

    here = session(context, home, as_json)
    found = review_labels(here.platform(), name, actor=actor)

    def text() -> None:
        _print_lots(name, found)
        paused = ", ".join(found["paused"]) or "nobody"
        typer.echo(f"{found['restated']:,} labels restated; paused: {paused}.")

    here.answer(found, text)


def _print_lots(name: str, found: Mapping[str, Any]) -> None:
    from mangaassist.cli import render

    columns = ("", "lot", "pool", "kappa", "95% interval", "alpha", "n", "items", "unsettled", "")
    rows = [
        (
            render.mark(one["verdict"]["status"]),
            one["lot"],
            one["pool"],
            one["kappa"] and one["kappa"]["value"],
            _interval(one["kappa"]),
            one["alpha"] and one["alpha"]["value"],
            one["n"],
            one["examples"],
            one["unsettled"],
            one["outcome"],
        )
        for one in found["lots"]
    ]
    render.table(f"Lots of {name}", columns, rows)
    for pool, one in found["pools"].items():
        typer.echo(f"{pool}: {one['verdict']['sentence']}")
    missing = [one["lot"] for one in found["planned"] if not one["delivered"]]
    if missing:
        typer.echo(f"Planned and not delivered: {', '.join(missing)}.")


def _interval(one: Mapping[str, Any] | None) -> str:
    return f"{one['low']:.3f} to {one['high']:.3f}" if one else "–"


@app.command()
def queue(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Disagreements that wait for a senior annotator, with the votes."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.label_quality import waiting

    here = session(context, home, as_json)
    platform = here.platform()
    found = waiting(platform, name)
    here.record_read(platform, f"texts of {name} in dispute", rows=len(found["waiting"]))
    columns = ("example", "lot", "since (UTC)", "votes", "text")
    rows = [
        (
            one["example_id"][:12],
            one["lot"],
            render.minute(one["since"]),
            _votes(one),
            render.short(one["text"], 60),
        )
        for one in found["waiting"]
    ]
    here.answer(found, lambda: render.table(f"{len(rows):,} disagreements of {name}", columns, rows))


def _votes(one: Mapping[str, Any]) -> str:
    return ", ".join(f"{vote['annotator']}: {vote['label']}" for vote in one["votes"])


@app.command()
def settle(
    context: typer.Context,
    name: NameArgument,
    example: ExampleArgument,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="What it is.")],
    actor: ActorOption,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Settle a disagreement as a senior annotator who did not vote on it."""
    from mangaassist.lifecycle.label_quality import settle as run

    here = session(context, home, as_json)
    done = run(here.platform(), name, example, label, actor=actor, reason=reason)
    here.answer(done, lambda: typer.echo(f"{done['example_id'][:12]} is {label}, says {actor}."))


@app.command()
def annotators(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Each annotator's agreement with the others this week, against their own 30 days before."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.label_quality import annotators as run

    here = session(context, home, as_json)
    found = run(here.platform(), name)
    columns = (
        "",
        "annotator",
        "pool",
        "kappa this week",
        "95% interval",
        "own month",
        "limit",
        "votes",
        "state",
    )
    rows = [
        (
            render.mark(one["verdict"]["status"]),
            one["annotator"],
            one["pool"],
            one["recent"] and one["recent"]["value"],
            _interval(one["recent"]),
            one["baseline"] and one["baseline"]["value"],
            one["verdict"]["threshold"],
            one["votes"],
            f"paused since {render.minute(one['paused']['at'])}" if one["paused"] else "counts",
        )
        for one in found["annotators"]
    ]
    here.answer(found, lambda: render.table(f"Annotators of {name}", columns, rows))


@app.command()
def resume(
    context: typer.Context,
    name: NameArgument,
    annotator: Annotated[str, typer.Argument(metavar="ANNOTATOR", help="Who is to count again.")],
    actor: ActorOption,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an annotator's pause: what they label from now on counts again."""
    from mangaassist.lifecycle.label_quality import bring_back

    here = session(context, home, as_json)
    ended = bring_back(here.platform(), name, annotator, actor=actor, reason=reason)
    here.answer(ended, lambda: typer.echo(f"{annotator} counts again from {ended['until']}."))


@app.command()
def edit(
    context: typer.Context,
    name: NameArgument,
    example: ExampleArgument,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The right label.")],
    actor: ActorOption,
    reason: ReasonOption,
    source: Annotated[str | None, typer.Option(help="Label source of the vote.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Whose vote it is.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Correct one vote: a new record, with the old one kept."""
    from mangaassist.lifecycle.label_quality import edit as run

    here = session(context, home, as_json)
    done = run(
        here.platform(), name, example, label, source=source, annotator=annotator, actor=actor, reason=reason
    )
    here.answer(
        done, lambda: typer.echo(f"{done['example_id'][:12]}: {done['before']} is now {done['after']}.")
    )


@app.command()
def withdraw(
    context: typer.Context,
    name: NameArgument,
    actor: ActorOption,
    reason: ReasonOption,
    example: Annotated[
        str | None, typer.Argument(metavar="[EXAMPLE_ID]", help="Its id, or enough of its first characters.")
    ] = None,
    user: UserOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an example, or everything of a user, out of all future label versions for good."""
    from mangaassist.lifecycle.label_quality import withdraw as run

    here = session(context, home, as_json)
    done = run(here.platform(), name, example, user=user, actor=actor, reason=reason)
    here.answer(
        done,
        lambda: typer.echo(
            f"Withdrew {len(done['examples']):,} examples of {name}. {done['impact']['sentence']}"
        ),
    )


@app.command()
def impact(
    context: typer.Context,
    example: Annotated[
        str, typer.Argument(metavar="[EXAMPLE_ID]", help="Its id, or enough of its first characters.")
    ] = "",
    user: UserOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which label versions and which model versions an example went into, archived ones included."""
    from mangaassist.lifecycle.label_impact import impact as run

    here = session(context, home, as_json)
    found = run(here.platform(), example, user=user)
    here.answer(found, lambda: typer.echo(found["sentence"]))


@app.command()
def archive(
    context: typer.Context,
    name: NameArgument,
    apply: Annotated[
        bool, typer.Option("--apply", help="Move what is due; without it, only say what would.")
    ] = False,
    actor: ActorOption = "labels archive",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where each label version is kept; those past 18 months go to the cold folder and stay readable."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.label_quality import archive as run

    here = session(context, home, as_json)
    found = run(here.platform(), name, apply=apply, actor=actor)
    columns = ("version", "finalised (UTC)", "examples", "kept in")
    rows = [
        (one["version"], render.minute(one["finalised_at"]), one["examples"], one["kept"])
        for one in found["versions"]
    ]
    here.answer(found, lambda: render.table(f"Label versions of {name}", columns, rows))


@app.command()
def report(
    context: typer.Context,
    name: NameArgument,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Volume, agreement, annotators, disagreements, source against source, and probable label errors."""
    from mangaassist.lifecycle.label_report import label_report

    here = session(context, home, as_json)
    platform = here.platform()
    body = label_report(platform, name).as_dict()
    here.record_read(platform, f"texts in the label report of {name}", rows=_texts(body))
    here.answer(body, lambda: typer.echo("\n".join(_report(body))))


def _texts(body: Any) -> int:
    """How many texts of shoppers a report shows, wherever they stand in it."""
    if isinstance(body, Mapping):
        return ("text" in body) + sum(_texts(one) for one in body.values())
    return sum(_texts(one) for one in body) if isinstance(body, list | tuple) else 0


def _report(body: Mapping[str, Any]) -> Iterator[str]:
    by_source: dict[str, int] = {}
    for one in body["volume"]:
        by_source[one["source"]] = by_source.get(one["source"], 0) + one["votes"]
    votes = ", ".join(f"{source} {n:,}" for source, n in sorted(by_source.items())) or "none"
    sizes = f"{body['examples']:,} examples, {body['label_versions']} label versions"
    yield f"{body['story']}: {sizes}. Votes: {votes}."
    for pool, one in body["pools"].items():
        yield f"{pool}: {one['verdict']['sentence']}"
    outcomes = [one["outcome"] for one in body["lots"]]
    counted = ", ".join(f"{outcomes.count(one)} {one}" for one in sorted(set(outcomes))) or "none"
    yield f"Lots: {counted}. Disagreements waiting for a senior: {body['disagreements']['waiting']:,}."
    paused = [one["annotator"] for one in body["annotators"] if one["paused"]]
    yield f"Annotators: {len(body['annotators'])}; paused: {', '.join(paused) or 'nobody'}."
    for one in body["source_confusion"]:
        first, second = one["sources"]
        same = one["same"]
        yield (
            f"{first} and {second} agree on {same['value']:.1%} ({same['low']:.1%} to {same['high']:.1%}) "
            f"of {one['examples']:,} examples."
        )
    errors = body["probable_errors"]
    if errors["noise"] is None:
        yield f"Probable label errors: {errors['reason']}"
        return
    noise = errors["noise"]
    yield (
        f"Probable label errors: {noise['value']:.1%} ({noise['low']:.1%} to {noise['high']:.1%}) "
        f"of {errors['examples']:,} training labels. The surest:"
    )
    for one in errors["found"][:10]:
        yield f"  {one['example_id'][:12]}  {one['given']} -> {one['suggested']}  {one['text'][:60]}"
