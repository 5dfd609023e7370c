"""CSV, TSV, JSONL and Parquet to text cells, each remembering the line or row it stood on."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from io import BytesIO
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mangaassist.core.errors import InputError, nearest
from mangaassist.labels.encoding import decode

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


@dataclass(frozen=True, slots=True)
class Cells:
    """The columns that were asked for.

    Attributes:
        name: the file's name.
        unit: what the places count: "line" of a text file, "row" of a Parquet file, "task" of an export.
        places: where each row stands, shape (rows,); lines and rows count from 1.
        values: meaning of the column ("text", "label", ...) -> its cells, shape (rows,); "" where missing.
        titles: meaning -> the column's name in the file.
        left_out: why something that is no label was left out -> how often.
    """

    name: str
    unit: str
    places: Sequence[int]
    values: Mapping[str, Sequence[str]]
    titles: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def title(self, meaning: str) -> str:
        """What the file calls the column of that meaning."""
        return self.titles.get(meaning, meaning)

    def place(self, bad: Sequence[int]) -> str:
        """The first of the ``bad`` row indices as words, and how many more there are."""
        more = f" (and {len(bad) - 1} more, the next on {self.places[bad[1]]})" if len(bad) > 1 else ""
        return f"{self.unit} {self.places[bad[0]]}{more}"


Reader = Callable[[bytes, Mapping[str, str], str], Cells]


def read_csv(data: bytes, columns: Mapping[str, str], name: str) -> Cells:
    """Comma separated, fields with commas or line breaks in double quotes (RFC 4180).

    Args:
        columns: meaning -> column name in the file.

    Raises:
        InputError: for bad encoding, a missing or repeated column, ragged rows, broken quoting, no rows.
    """
    return _collect(_csv_records(decode(data, name=name), name), columns, name, separator=",")


def read_tsv(data: bytes, columns: Mapping[str, str], name: str) -> Cells:
    """Tab separated, one row a line; a field wholly in double quotes, inner ones doubled, loses them.

    Raises:
        InputError: as :func:`read_csv`.
    """
    records = (
        (number, [_unquoted(field) for field in line.split("\t")])
        for number, line in _lines(decode(data, name=name))
        if line
    )
    return _collect(records, columns, name, separator="\t")


def read_jsonl(data: bytes, columns: Mapping[str, str], name: str) -> Cells:
    """One JSON object a line.

    Raises:
        InputError: for bad encoding, a line that is no JSON object, a missing key, a value with no text form.
    """
    places: list[int] = []
    values: dict[str, list[str]] = {meaning: [] for meaning in columns}
    for number, line in _lines(decode(data, name=name)):
        if not line.strip():
            continue
        row = _json_object(line, number, name)
        places.append(number)
        for meaning, column in columns.items():
            if column not in row:
                raise _no_column(f"{name}: line {number}", column, list(row))
            values[meaning].append(as_text(row[column], f"{name}: line {number}, '{column}'"))
    if not places:
        raise _no_rows(name)
    return Cells(name, "line", places, values, columns)


def read_parquet(data: bytes, columns: Mapping[str, str], name: str) -> Cells:
    """One Parquet file; only the named columns are read.

    Raises:
        InputError: for a file that is not Parquet, a missing or repeated column, an unsuitable type, no rows.
    """
    if not data:
        decode(data, name=name)
    try:
        file = pq.ParquetFile(BytesIO(data))
        known = list(file.schema_arrow.names)
        _check_columns(columns, known, name)
        table = file.read(columns=list(dict.fromkeys(columns.values())))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(
            name,
            expected="a complete Parquet file",
            got=str(error).partition("\n")[0],
            next_step="Export it again; it may have been cut off in transfer.",
        ) from error
    if table.num_rows == 0:
        raise _no_rows(name)
    values = {
        meaning: [
            as_text(value, f"{name}: row {row}, '{column}'")
            for row, value in enumerate(table.column(column).to_pylist(), start=1)
        ]
        for meaning, column in columns.items()
    }
    return Cells(name, "row", range(1, table.num_rows + 1), values, columns)


READERS: Mapping[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered physical lines without their ends; U+2028 and friends are text, not ends."""
    for number, match in enumerate(_LINE.finditer(text), start=1):
        yield number, match.group().rstrip("\r\n")


def _csv_records(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    lines = _LINE.findall(text)
    reader = csv.reader(lines, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _csv_error(error, lines, start, reader.line_num, name) from error
        if fields:
            yield start, fields


def _csv_error(error: csv.Error, lines: Sequence[str], start: int, line: int, name: str) -> InputError:
    length = max(len(field) for field in lines[start - 1].split(","))
    if "field limit" in str(error) and length > csv.field_size_limit():
        return too_long(name, f"line {start}", length, csv.field_size_limit())
    if "field limit" in str(error) or "unexpected end" in str(error):
        got = "a quoted field that begins there and never ends"
        return InputError(
            f"{name}: line {start}",
            expected="every opening double quote to be closed",
            got=got,
            next_step='Close the quote, and write a quote inside a quoted field as "".',
        )
    return InputError(
        f"{name}: line {line}",
        expected="CSV quoting as in RFC 4180",
        got=str(error),
        next_step='Put the whole field in quotes and write a quote inside it as "".',
    )


def too_long(name: str, place: str, length: int, limit: int) -> InputError:
    """The error for one field beyond the limit."""
    return InputError(
        f"{name}: {place}",
        expected=f"fields of at most {limit:,} characters",
        got=f"one of {length:,} characters",
        next_step="Shorten or remove it; a field that long is usually several rows run together.",
    )


def _collect(
    records: Iterator[tuple[int, list[str]]], columns: Mapping[str, str], name: str, *, separator: str
) -> Cells:
    _, header = next(records, (0, []))
    header = [column.strip() for column in header]
    if not header:
        raise _no_rows(name)
    _check_columns(columns, header, name, separator)
    chosen = {meaning: header.index(column) for meaning, column in columns.items()}
    rows: list[list[str]] = []
    places: list[int] = []
    for place, fields in records:
        if len(fields) != len(header):
            raise _ragged(name, place, fields, header, separator)
        places.append(place)
        rows.append(fields)
    if not rows:
        raise _no_rows(name)
    values = {meaning: [row[index] for row in rows] for meaning, index in chosen.items()}
    return Cells(name, "line", places, values, columns)


def _check_columns(columns: Mapping[str, str], known: Sequence[str], name: str, separator: str = "") -> None:
    for column in columns.values():
        if column not in known:
            raise _no_column(name, column, known, separator)
        if known.count(column) > 1:
            raise InputError(
                f"{name}: column '{column}'",
                expected="one column of that name",
                got=f"{known.count(column)} of them",
                next_step="Rename the others.",
            )


def _no_column(where: str, column: str, known: Sequence[str], separator: str = "") -> InputError:
    hint = nearest(column, known)
    if separator and len(known) == 1:
        other = next((one for one in _SEPARATORS if one != separator and one in known[0]), None)
        if other:
            hint = (
                f"The header looks separated by {_SEPARATORS[other]}: save it with {_SEPARATORS[separator]}."
            )
    shown = ", ".join(known[:30]) + (", ..." if len(known) > 30 else "")
    return InputError(
        f"{where}: column '{column}'", expected=f"one of {shown}", got="no such column", next_step=hint
    )


def _ragged(
    name: str, place: int, fields: Sequence[str], header: Sequence[str], separator: str
) -> InputError:
    quoting = (
        "Put fields that contain commas in double quotes."
        if separator == ","
        else "Remove tabs from inside the fields."
    )
    return InputError(
        f"{name}: line {place}",
        expected=f"{len(header)} fields as in the header",
        got=f"{len(fields)}",
        next_step=quoting if len(fields) > len(header) else "Add the missing fields, empty if need be.",
    )


def _no_rows(name: str) -> InputError:
    return InputError(
        name,
        expected="at least one row of data",
        got="none",
        next_step="Check the export.",
    )


def _json_object(line: str, number: int, name: str) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{name}: line {number}",
            expected="one JSON object",
            got=str(error),
            next_step="Write one complete object on each line.",
        ) from error
    if not isinstance(row, dict):
        raise InputError(
            f"{name}: line {number}",
            expected="a JSON object",
            got=f"a JSON {type(row).__name__}",
            next_step='Write {"text": ..., "label": ...} on each line.',
        )
    return row


def as_text(value: Any, field: str) -> str:
    """A cell's text, or InputError for a value with no text form."""
    if isinstance(value, str):
        if "\0" in value:
            raise InputError(
                field, expected="text without NUL characters", got="a NUL character", next_step="Remove it."
            )
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise InputError(
        field,
        expected="text or a whole number",
        got=f"{type(value).__name__} {str(value)[:40]}",
        next_step="Convert the column to text.",
    )


def _unquoted(field: str) -> str:
    if len(field) >= 2 and field[0] == field[-1] == '"':
        inner = field[1:-1]
        if '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return field
