"""`mangaassist labels`: bring labelled files in and see what came."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mangaassist.cli import label_events, label_reports
from mangaassist.cli.session import HomeOption, JsonOption, NameArgument, session

app = typer.Typer(no_args_is_help=True, help="Labels: import and label versions.")
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
    )
    shape = form_of(form)
    imported = import_file(
        here.platform(), name, file, columns, source=source, role=role, form=shape, lot=lot
    )
    here.answer(imported, lambda: typer.echo(summarise_import(imported)))


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
