"""`mangaassist labels`: bring labelled files in and see what came."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mangaassist.cli import label_events, label_reports
from mangaassist.cli.session import ActorOption, HomeOption, JsonOption, NameArgument, session

app = typer.Typer(no_args_is_help=True, help="Labels: where they come from, and whether they can be trusted.")
app.add_typer(label_events.app)
app.add_typer(label_reports.app)


@app.command("import")
def import_labels(
    context: typer.Context,
    name: NameArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, TSV, JSONL, Parquet, or an export of Label Studio.")
    ],
    text_column: Annotated[str, typer.Option(help="Column with the input text.")],
    label_column: Annotated[str, typer.Option(help="Column with the label; in Label Studio its from_name.")],
    source: Annotated[str, typer.Option(help="Where these labels come from, for example 'vendor'.")],
    language_column: Annotated[str | None, typer.Option(help="Column with en, ja or mixed.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Conversation or user; never split apart.")] = None,
    time_column: Annotated[str | None, typer.Option(help="When the text was captured.")] = None,
    annotator_column: Annotated[str | None, typer.Option(help="Who gave the label.")] = None,
    labeled_column: Annotated[str | None, typer.Option(help="When the label was given.")] = None,
    lot_column: Annotated[str | None, typer.Option(help="Agreement lot of the row.")] = None,
    escalation_column: Annotated[
        str | None, typer.Option(help="True where a senior annotator settled it.")
    ] = None,
    user_column: Annotated[
        str | None, typer.Option(help="Who wrote the text: features and deletion requests go by it.")
    ] = None,
    lot: Annotated[str | None, typer.Option(help="Agreement lot of the whole file.")] = None,
    form: Annotated[str, typer.Option("--format", help="table or label-studio.")] = "table",
    role: Annotated[str, typer.Option(help="train, golden or adversarial.")] = "train",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a labelled file or a vendor's lot; importing the same file twice changes nothing."""
    from mangaassist.labels.importing import Columns, form_of
    from mangaassist.lifecycle.intake import import_file

    here = session(context, home, as_json)
    columns = Columns(
        text_column,
        label_column,
        language=language_column,
        group=group_column,
        time=time_column,
        annotator=annotator_column,
        lot=lot_column,
        labeled=labeled_column,
        escalation=escalation_column,
        user=user_column,
    )
    shape = form_of(form)
    imported = import_file(
        here.platform(), name, file, columns, source=source, role=role, form=shape, lot=lot
    )
    here.answer(imported, lambda: typer.echo(summarise_import(imported)))


@app.command("practice")
def practice(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty one.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same shop.")] = 7,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write SIMULATED lots and features for the intent story, good ones and some that must be refused."""
    from mangaassist.lifecycle.practice import write_practice

    here = session(context, home, as_json)
    written = write_practice(folder, seed=seed, now=here.platform(create=True).clock.now())
    files = ", ".join(written["files"])
    here.answer(written, lambda: typer.echo(f"SIMULATED, in {folder}: {files}."))


def summarise_import(imported: Mapping[str, Any]) -> str:
    """What came in, in a few lines."""
    classes = list(imported["classes"].items())
    shown = ", ".join(f"{name} ({n:,})" for name, n in classes[:5]) + (", ..." if len(classes) > 5 else "")
    languages = ", ".join(f"{name} {n:,}" for name, n in imported["languages"].items())
    verb = "Had already imported" if imported["repeated"] else "Imported"
    lines = [
        f"{verb} {imported['kept']:,} of {imported['rows']:,} rows of {imported['file']} into "
        f"{imported['story']} as {imported['role']} labels by {imported['source']}.",
        f"{len(classes)} classes: {shown}",
        f"Languages: {languages}. Duplicates dropped: {imported['duplicates']:,}. "
        f"Texts with conflicting labels: {imported['conflicts']:,}.",
        *_lots(imported),
        *imported["notes"],
    ]
    return "\n".join(lines)


def _lots(imported: Mapping[str, Any]) -> list[str]:
    lots, annotators = imported["lots"], imported["annotators"]
    if not lots and not annotators:
        return []
    shown = ", ".join(f"{lot} ({n:,})" for lot, n in list(lots.items())[:5]) or "none"
    return [f"Annotators: {annotators:,}. Lots: {shown}" + (", ..." if len(lots) > 5 else "") + "."]


@app.command()
def versions(
    context: typer.Context, name: NameArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Every finalised label version with its pinned snapshots and content hash."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.intake import label_versions

    here = session(context, home, as_json)
    rows = label_versions(here.platform(), name)
    columns = ("version", "finalised (UTC)", "examples", "votes", "training labels by", "content")

    def text() -> None:
        cells = [
            (
                row["number"],
                render.minute(row["finalised_at"]),
                row["examples"],
                row["labels"],
                ", ".join(f"{source} {n:,}" for source, n in row["sources"].items()),
                row["content_hash"][:12],
            )
            for row in rows
        ]
        render.table(f"Label versions of {name}", columns, cells)

    here.answer({"story": name, "versions": rows}, text)


SourceOption = Annotated[str, typer.Option(help="Label source the labels count as.")]


@app.command("apply")
def apply_rules(
    context: typer.Context,
    name: NameArgument,
    report: Annotated[bool, typer.Option("--report", help="Only report; add no labels.")] = False,
    source: SourceOption = "programmatic",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the story's labelling functions over its training examples."""
    from mangaassist.lifecycle.labelling import apply_rules

    here = session(context, home, as_json)
    done = apply_rules(here.platform(), name, source=source, add=not report)
    here.answer(done, lambda: _show_rules(done))


def _show_rules(done: Mapping[str, Any]) -> None:
    from mangaassist.cli import render

    columns = (
        "function",
        "labels",
        "spoken",
        "coverage",
        "overlap",
        "conflicts",
        "precision",
        "95% interval",
    )
    cells = []
    for one in (done["rule_set"], *done["functions"]):
        known = one["precision"]
        said = one["labels"] if len(one["labels"]) < 3 else [f"{len(one['labels'])} labels"]
        shares = [f"{one[key]:.1%}" for key in ("coverage", "overlap", "conflicts")]
        value = f"{known['value']:.3f}" if known else None
        interval = f"{known['low']:.3f} to {known['high']:.3f} of {known['n']:,}" if known else None
        cells.append((one["name"], ", ".join(said), one["spoken"], *shares, value, interval))
    title = f"Labelling functions of {done['story']} over {done['examples']:,} examples ({done['combining']})"
    render.table(title, columns, cells)
    typer.echo(f"{done['labeller']}: {done['added']:,} records added as {done['source']}.")


@app.command()
def distil(
    context: typer.Context,
    name: NameArgument,
    provider: Annotated[str, typer.Option(help="openai (llm_url in settings) or simulated.")],
    prompt: Annotated[str, typer.Option(help="A prompt in the story's folder 'prompts'.")],
    limit: Annotated[int | None, typer.Option(help="Most examples to ask about; all without it.")] = None,
    source: SourceOption = "llm",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a language model label training examples; a run that stops is gone on with by the next."""
    from mangaassist.lifecycle.labelling import distil_labels

    here = session(context, home, as_json)
    done = distil_labels(here.platform(), name, provider=provider, prompt=prompt, limit=limit, source=source)

    def text() -> None:
        silent = ", ".join(f"{reason} {n:,}" for reason, n in done["silent"].items()) or "none"
        typer.echo(
            f"{done['labeller']} labelled {done['labelled']:,} of {done['asked']:,} examples of {name} "
            f"as {source}. Silent: {silent}.\n"
            f"Not asked yet: {done['remaining']:,}. Tokens: {done['tokens_in']:,} in, "
            f"{done['tokens_out']:,} out. Texts with personal data taken out: {done['redacted']:,}."
        )
        if done["recovered"]:
            typer.echo(f"{done['recovered']:,} answers of an interrupted run became labels.")

    here.answer(done, text)


@app.command()
def audit(
    context: typer.Context,
    name: NameArgument,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Roll a failing rule set or prompt back.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write what is still to be labelled for the vendor.")
    ] = None,
    actor: ActorOption = "audit",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The week's sample of rule and prompt labels against the vendor's; exit code 1 when one fails."""
    from mangaassist.cli import render
    from mangaassist.core.errors import ExitCode
    from mangaassist.core.verdict import Status, Verdict
    from mangaassist.lifecycle.label_quality import export_audit
    from mangaassist.lifecycle.labelling import audit_labels

    here = session(context, home, as_json)
    platform = here.platform()
    done = audit_labels(platform, name, source=source, apply=apply)
    if export is not None:
        done["export"] = export_audit(platform, name, export, source=source, actor=actor)
        here.record_read(platform, f"texts of {name} to be labelled", rows=done["export"]["items"])

    def text() -> None:
        if not done["audits"]:
            typer.echo(f"No rule set and no prompt labels examples of {name}.")
        render.verdicts(
            [Verdict.from_dict(one["verdict"]) for one in done["audits"]], title=f"Audit of {name}"
        )
        for one in done["audits"]:
            typer.echo(
                f"{one['source']} by {one['labeller'] or 'nobody named'}: {len(one['to_label']):,} of "
                f"{one['drawn']:,} examples of {one['week']} are still to be labelled by the vendor."
            )
            if one["rolled_back"]:
                typer.echo(f"Rolled back; in force now: {one['now_in_force'] or 'nobody'}. {one['reason']}")
        if export is not None:
            typer.echo(_exported(name, done["export"]))

    here.answer(done, text)
    if any(one["verdict"]["status"] == Status.FAIL and not one["rolled_back"] for one in done["audits"]):
        raise typer.Exit(ExitCode.REFUSED)


def _exported(name: str, made: Mapping[str, Any]) -> str:
    if not made["lots"]:
        return "Nothing waits for the vendor; no file was written."
    return (
        f"Wrote {made['items']:,} examples of {', '.join(made['lots'])} to {made['file']}. When it is back: "
        f"mangaassist labels import {name} FILE ..., labels review {name}, labels audit {name}."
    )
