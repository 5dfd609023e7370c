"""Read somebody's labelled file, a table or a Label Studio export, with exact places in every complaint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import canonical_text, digest_bytes
from mangaassist.labels.exports import EXPORT_READERS
from mangaassist.labels.repeats import Repeats, without_repeats
from mangaassist.labels.rows import MAX_FIELD, Row, understand
from mangaassist.labels.tabular import READERS, Reader

__all__ = ["FORMS", "MAX_FIELD", "Columns", "Form", "ImportReport", "ImportedFile", "form_of", "read_file"]

Form = Literal["table", "label-studio"]
FORMS: tuple[Form, ...] = get_args(Form)
"""What a file may be: rows with columns, or an export of Label Studio."""

_FORMATS: Mapping[Form, Mapping[str, Reader]] = {"table": READERS, "label-studio": EXPORT_READERS}
_SCHEMA = {
    "line": pl.Int64(),
    "text": pl.String(),
    "label": pl.String(),
    "language": pl.String(),
    "group_id": pl.String(),
    "captured_at": pl.Datetime("us", "UTC"),
    "annotator_id": pl.String(),
    "lot": pl.String(),
    "labeled_at": pl.Datetime("us", "UTC"),
    "escalation": pl.Boolean(),
    "metadata": pl.String(),
    "user_id": pl.String(),
}
_CELLS = attrgetter(*(field.name for field in fields(Row)))


def form_of(name: str) -> Form:
    """The form called ``name``.

    Raises:
        InputError: for an unknown one, with the nearest.
    """
    for form in FORMS:
        if form == name:
            return form
    raise InputError("--format", expected=" or ".join(FORMS), got=repr(name), next_step=nearest(name, FORMS))


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the file mean what.

    In an export of Label Studio ``label`` is the ``from_name`` of the choices and the others are keys of a
    task's data; annotator and labelling time come from the annotations themselves.

    Attributes:
        text, label: required.
        language: en, ja or mixed in any usual spelling; None detects it by script.
        group: conversation or user; None makes every text its own group.
        time: when the text was captured, ISO 8601; None means when it was first labelled, or, where the file
            does not say that either, the moment of the import.
        annotator: who gave the label; an annotator has one vote on a text, the last one given.
        lot: the agreement lot it was given in.
        labeled: when it was given, ISO 8601; None means the moment of the import.
        escalation: true where a senior annotator settled a disagreement.
        user: who wrote the text: whose features are read for it, and whose deletion takes it out.
    """

    text: str
    label: str
    language: str | None = None
    group: str | None = None
    time: str | None = None
    annotator: str | None = None
    lot: str | None = None
    labeled: str | None = None
    escalation: str | None = None
    user: str | None = None

    def named(self) -> dict[str, str]:
        """The columns in use, by meaning."""
        return {meaning: name for meaning, name in asdict(self).items() if name is not None}


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What a file held.

    Attributes:
        rows: statements read.
        kept: those that became labels.
        duplicates: dropped, because the same canonical text came with the same label more than once, from the
            same annotator where one is named.
        relabelled: dropped, because the same annotator said something else about the text later.
        conflicts: canonical texts that came with more than one label; every label is kept as a vote.
        classes: labels with their number of kept rows, most frequent first.
        languages: languages with their number of kept rows.
        annotators: named annotators among them.
        lots: agreement lots with their number of kept rows.
        left_out: why something in the file that is no label was left out -> how often.
        notes: sentences worth reading; empty when there is nothing to say.
    """

    rows: int
    kept: int
    duplicates: int
    relabelled: int
    conflicts: int
    classes: tuple[tuple[str, int], ...]
    languages: tuple[tuple[str, int], ...]
    annotators: int
    lots: tuple[tuple[str, int], ...]
    left_out: Mapping[str, int]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        counts = {
            "classes": dict(self.classes),
            "languages": dict(self.languages),
            "lots": dict(self.lots),
            "left_out": dict(self.left_out),
        }
        return {**asdict(self), **counts, "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that was read completely and without complaint.

    Attributes:
        name: file name without its folder.
        digest: SHA-256 of its bytes.
        rows: one row per kept label, the fields of :class:`mangaassist.labels.rows.Row`.
        report: what was found on the way.
    """

    name: str
    digest: str
    rows: pl.DataFrame
    report: ImportReport


def read_file(
    path: Path,
    columns: Columns,
    *,
    now: datetime,
    form: Form = "table",
    lot: str | None = None,
    classes: Sequence[str] = (),
) -> ImportedFile:
    """Read ``path``; nothing is guessed, and nothing dropped without being counted.

    Args:
        now: the present; later times are refused.
        form: what the file is.
        lot: the agreement lot of every row.
        classes: the labels there are; empty accepts any.

    Raises:
        InputError: naming line, expectation and next step, for anything that cannot be used as it is.
    """
    lot = _lot(lot, columns)
    data = _bytes(path)
    cells = _reader(path, form)(data, columns.named(), path.name)
    rows = understand(cells, now=utc(now, field="now"), classes=classes)
    if lot is not None:
        rows = [replace(row, lot=lot) for row in rows]
    kept, repeats = without_repeats(rows)
    report = ImportReport(
        rows=len(rows),
        kept=len(kept),
        duplicates=repeats.duplicates,
        relabelled=repeats.relabelled,
        conflicts=len(repeats.conflicts),
        classes=_tally(row.label for row in kept),
        languages=_tally(row.language for row in kept),
        annotators=len({row.annotator_id for row in kept} - {None}),
        lots=_tally(row.lot for row in kept if row.lot is not None),
        left_out={reason: n for reason, n in cells.left_out.items() if n},
        notes=tuple(_notes(kept, repeats, columns, cells.left_out, cells.unit)),
    )
    frame = pl.DataFrame(list(map(_CELLS, kept)), schema=_SCHEMA, orient="row")
    return ImportedFile(path.name, digest_bytes(data), frame, report)


def _lot(lot: str | None, columns: Columns) -> str | None:
    if lot is None:
        return None
    if columns.lot is not None:
        raise InputError(
            "--lot",
            expected="one lot for the whole file, or a column that names it",
            got=f"both '{lot}' and column '{columns.lot}'",
            next_step="Leave one of them out.",
        )
    if not lot.strip():
        raise InputError(
            "--lot", expected="the name of a lot", got=repr(lot), next_step="Name it or leave it out."
        )
    return " ".join(lot.split())


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(
            "file",
            expected="an existing file",
            got=f"{path} ({'a folder' if path.is_dir() else 'nothing there'})",
            next_step="Check the path.",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            "file",
            expected="a readable file",
            got=f"{path} ({error.strerror})",
            next_step="Allow reading it.",
        ) from error


def _reader(path: Path, form: Form) -> Reader:
    readers, suffix = _FORMATS[form], path.suffix.lower()
    if suffix in readers:
        return readers[suffix]
    other = next((one for one in FORMS if suffix in _FORMATS[one]), None)
    raise InputError(
        "file",
        expected="a name ending in " + ", ".join(readers),
        got=path.name,
        next_step=f"Pass --format {other} if that is what it is."
        if other
        else "Convert the file, or rename it if only its ending is wrong.",
    )


def _tally(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0])))


def _notes(
    kept: Sequence[Row], repeats: Repeats, columns: Columns, left_out: Mapping[str, int], unit: str
) -> Iterable[str]:
    if repeats.duplicates:
        yield f"{repeats.duplicates} rows repeat a text with the same label and were counted once."
    if repeats.relabelled:
        rows = "1 row was" if repeats.relabelled == 1 else f"{repeats.relabelled:,} rows were"
        yield (
            f"{rows} replaced: their annotator labelled the same text again, "
            "and the last label by time counts."
        )
    if repeats.conflicts:
        votes = {row.label: row for row in next(iter(repeats.conflicts.values()))[::-1]}
        shown = sorted(votes.values(), key=lambda row: row.line)[:2]
        places = " and ".join(f"'{row.label}' ({unit} {row.line})" for row in shown)
        yield (
            f"{len(repeats.conflicts)} texts carry more than one label, for example {places}; "
            "all are kept as votes and the label policy decides."
        )
    for same in _spellings(kept):
        yield "Labels that differ only in case, width or spaces stay apart: " + ", ".join(sorted(same)) + "."
    ungrouped = sum(row.group_id is None for row in kept)
    if columns.group is not None and ungrouped:
        yield f"{ungrouped} rows name no group; each is its own."
    anonymous = sum(row.lot is not None and row.annotator_id is None for row in kept)
    if anonymous:
        yield f"{anonymous} rows of lots name no annotator: they count for no agreement."
    for reason, n in left_out.items():
        if n:
            yield f"{n} {reason} were left out."


def _spellings(kept: Sequence[Row]) -> list[set[str]]:
    found: dict[str, set[str]] = {}
    for row in kept:
        found.setdefault(canonical_text(row.label), set()).add(row.label)
    return [same for same in found.values() if len(same) > 1]
