"""Read somebody's labelled file: CSV, TSV, JSONL or Parquet, with exact places in every complaint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from mangaassist.core.clock import isoformat, parse_instant, utc
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import canonical_text, digest_bytes
from mangaassist.core.language import Language, detect_language
from mangaassist.labels.tabular import READERS, Cells, too_long

Row = tuple[int, str, str, str, str | None, datetime | None]
"""Place, text, label, language, group and capture time of one row."""

MAX_FIELD = 100_000
"""Longest accepted text or label, in characters: far above any message, far below what stalls a tokeniser."""

_LANGUAGES = {
    Language.EN: ("en", "eng", "english", "en-us", "en_us", "en-gb", "en_gb"),
    Language.JA: ("ja", "jp", "jpn", "japanese", "ja-jp", "ja_jp", "日本語"),
    Language.MIXED: ("mixed", "en-ja", "en/ja", "ja-en", "ja/en", "en-jp", "jp-en", "bilingual"),
}
_SPELLINGS = {spelling: language for language, known in _LANGUAGES.items() for spelling in known}
_SCHEMA = {
    "line": pl.Int64(),
    "text": pl.String(),
    "label": pl.String(),
    "language": pl.String(),
    "group_id": pl.String(),
    "captured_at": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the file mean what.

    Attributes:
        text, label: required.
        language: en, ja or mixed in any usual spelling; None detects it by script.
        group: conversation or user; None makes every text its own group.
        time: when the text was captured, ISO 8601; None means the moment of the import.
    """

    text: str
    label: str
    language: str | None = None
    group: str | None = None
    time: str | None = None

    def named(self) -> dict[str, str]:
        """The columns in use, by meaning."""
        return {meaning: name for meaning, name in asdict(self).items() if name is not None}


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What a file held.

    Attributes:
        rows: data rows read.
        kept: rows that became labels.
        duplicates: rows dropped because the same canonical text had come with the same label before.
        conflicts: canonical texts that came with more than one label; every label is kept as a vote.
        classes: labels with their number of kept rows, most frequent first.
        languages: languages with their number of kept rows.
        notes: sentences worth reading; empty when there is nothing to say.
    """

    rows: int
    kept: int
    duplicates: int
    conflicts: int
    classes: tuple[tuple[str, int], ...]
    languages: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        counts = {"classes": dict(self.classes), "languages": dict(self.languages)}
        return {**asdict(self), **counts, "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that was read completely and without complaint.

    Attributes:
        name: file name without its folder.
        digest: SHA-256 of its bytes.
        rows: one row per kept label: line, text, label, language, group_id (null: none given) and
            captured_at (null: none given).
        report: what was found on the way.
    """

    name: str
    digest: str
    rows: pl.DataFrame
    report: ImportReport


def read_file(path: Path, columns: Columns, *, now: datetime) -> ImportedFile:
    """Read ``path``; nothing is guessed, and nothing dropped except exact repeats, which are counted.

    Args:
        now: the present; later capture times are refused.

    Raises:
        InputError: naming line, expectation and next step, for anything that cannot be used as it is.
    """
    data = _bytes(path)
    cells = READERS[_format(path)](data, columns.named(), path.name)
    rows = _understand(cells, columns, utc(now, field="now"))
    kept, duplicates, conflicts = _deduplicate(rows)
    report = ImportReport(
        rows=len(rows),
        kept=len(kept),
        duplicates=duplicates,
        conflicts=len(conflicts),
        classes=_tally(row[2] for row in kept),
        languages=_tally(row[3] for row in kept),
        notes=_notes(kept, duplicates, conflicts, grouped=columns.group is not None),
    )
    frame = pl.DataFrame(kept, schema=_SCHEMA, orient="row")
    return ImportedFile(path.name, digest_bytes(data), frame, report)


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


def _format(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(
            "file",
            expected="a name ending in " + ", ".join(READERS),
            got=path.name,
            next_step="Convert the file, or rename it if only its ending is wrong.",
        )
    return suffix


def _understand(cells: Cells, columns: Columns, now: datetime) -> list[Row]:
    """Every cell checked and converted; the first column at fault is the one complained about."""
    texts = cells.values["text"]
    for meaning, name in (("text", columns.text), ("label", columns.label)):
        lengths = [len(cell) for cell in cells.values[meaning]]
        if max(lengths) > MAX_FIELD:
            longest = lengths.index(max(lengths))
            raise too_long(cells.name, cells.place([longest]), lengths[longest], MAX_FIELD)
        _refuse_empty(cells, meaning, name)
    labels = [" ".join(label.split()) for label in cells.values["label"]]
    languages = _languages(cells, columns.language)
    groups: Sequence[str | None] = [None] * len(texts)
    if columns.group is not None:
        groups = [group.strip() or None for group in cells.values["group"]]
    times: Sequence[datetime | None] = [None] * len(texts)
    if columns.time is not None:
        times = _times(cells, columns.time, now)
    return list(zip(cells.places, texts, labels, languages, groups, times, strict=True))


def _refuse_empty(cells: Cells, meaning: str, column: str) -> None:
    empty = [index for index, cell in enumerate(cells.values[meaning]) if not cell or cell.isspace()]
    if empty:
        raise InputError(
            f"{cells.name}: {cells.place(empty)}",
            expected=f"a {meaning} in column '{column}' on every {cells.unit}",
            got="an empty one",
            next_step="Fill it in or remove the row.",
        )


def _languages(cells: Cells, column: str | None) -> list[str]:
    """The stated language of each row, detected by script where none is stated."""
    texts = cells.values["text"]
    if column is None:
        return [str(detect_language(text)) for text in texts]
    stated = [cell.strip().lower() for cell in cells.values["language"]]
    unknown = [index for index, cell in enumerate(stated) if cell and cell not in _SPELLINGS]
    if unknown:
        raise InputError(
            f"{cells.name}: {cells.place(unknown)}",
            expected=f"en, ja or mixed in column '{column}'",
            got=repr(cells.values["language"][unknown[0]]),
            next_step=f"{nearest(stated[unknown[0]], _SPELLINGS)} An empty cell is detected from the text.",
        )
    return [
        str(_SPELLINGS[cell] if cell else detect_language(text))
        for cell, text in zip(stated, texts, strict=True)
    ]


def _times(cells: Cells, column: str, now: datetime) -> list[datetime]:
    times = []
    for index, cell in enumerate(cells.values["time"]):
        field = f"{cells.name}: {cells.place([index])}, column '{column}'"
        try:
            instant = parse_instant(cell, field=field)
        except OverflowError as error:
            raise InputError(
                field, expected="a time within the calendar", got=repr(cell), next_step="Correct it."
            ) from error
        times.append(instant)
    future = [index for index, instant in enumerate(times) if instant > now]
    if future:
        raise InputError(
            f"{cells.name}: {cells.place(future)}",
            expected=f"capture times up to now ({isoformat(now)})",
            got=isoformat(times[future[0]]),
            next_step=f"Correct column '{column}', or this machine's clock; a time without offset means UTC.",
        )
    return times


def _deduplicate(rows: Sequence[Row]) -> tuple[list[Row], int, dict[str, list[Row]]]:
    """Rows without exact repeats, how many those were, and the texts that came with several labels."""
    by_text: dict[str, list[Row]] = {}
    kept = []
    for row in rows:
        earlier = by_text.setdefault(canonical_text(row[1]), [])
        if all(other[2] != row[2] for other in earlier):
            earlier.append(row)
            kept.append(row)
    conflicts = {text: votes for text, votes in by_text.items() if len(votes) > 1}
    return kept, len(rows) - len(kept), conflicts


def _tally(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0])))


def _notes(
    kept: Sequence[Row], duplicates: int, conflicts: dict[str, list[Row]], *, grouped: bool
) -> tuple[str, ...]:
    notes = []
    if duplicates:
        notes.append(f"{duplicates} rows repeat a text with the same label and were counted once.")
    if conflicts:
        votes = next(iter(conflicts.values()))
        places = " and ".join(f"'{row[2]}' (line {row[0]})" for row in votes[:2])
        notes.append(
            f"{len(conflicts)} texts carry more than one label, for example {places}; "
            "all are kept as votes and the label policy decides."
        )
    spellings: dict[str, set[str]] = {}
    for row in kept:
        spellings.setdefault(canonical_text(row[2]), set()).add(row[2])
    notes.extend(
        "Labels that differ only in case, width or spaces stay apart: " + ", ".join(sorted(same)) + "."
        for same in spellings.values()
        if len(same) > 1
    )
    ungrouped = sum(row[4] is None for row in kept)
    if grouped and ungrouped:
        notes.append(f"{ungrouped} rows name no group; each is its own.")
    return tuple(notes)
