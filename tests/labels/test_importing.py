"""Reading other people's label files, and saying exactly what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_text
from mangaassist.labels.importing import MAX_FIELD, Columns, ImportedFile, read_file

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
COLUMNS = Columns("text", "label")
READABLE = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=30
).filter(lambda text: not text.isspace())


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ImportedFile]:
    def reader(
        data: bytes | str, *, suffix: str = ".csv", columns: Columns = COLUMNS, now: datetime = NOW
    ) -> ImportedFile:
        path = tmp_path / f"file{suffix}"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return read_file(path, columns, now=now)

    return reader


def complaint(call: Callable[[], object]) -> str:
    """The sentence of the refusal; every part of it must be filled in."""
    with pytest.raises(InputError) as caught:
        call()
    error = caught.value
    assert error.exit_code == 2
    assert all((error.field, error.expected, error.got, error.next_step))
    return str(error)


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def test_the_four_formats_give_the_same_rows(read: Callable[..., ImportedFile]) -> None:
    """Issue 2, item 8: CSV, TSV, JSONL and Parquet."""
    pairs = [
        ("where is my order", "order_tracking"),
        ("注文はどこ", "order_tracking"),
        ('say "hi", now', "chitchat"),
    ]
    frame = pl.DataFrame(pairs, schema=["text", "label"], orient="row")
    files = {
        ".csv": frame.write_csv(),
        ".tsv": "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in pairs),
        ".jsonl": frame.write_ndjson(),
        ".parquet": parquet(frame),
    }
    for suffix, data in files.items():
        rows = read(data, suffix=suffix).rows
        assert rows.select("text", "label").rows() == pairs, suffix
        assert rows["language"].to_list() == ["en", "ja", "en"]
        assert rows["group_id"].null_count() == rows["captured_at"].null_count() == 3


def test_all_columns_are_understood(read: Callable[..., ImportedFile]) -> None:
    """Languages in several spellings, groups that may be empty, times with and without an offset."""
    found = read(
        "\ufefftext,label,lang,conversation,at,unused\r\n"
        "one,a,English,c1,2026-11-01T09:00:00+09:00,x\r\n"
        "two,b,JP,c1,2026-11-01,x\r\n"
        "thréé,b,,,2026-11-20T12:00:00Z,x\r\n",
        columns=Columns("text", "label", "lang", "conversation", "at"),
    )
    assert found.rows["language"].to_list() == ["en", "ja", "en"]
    assert found.rows["group_id"].to_list() == ["c1", "c1", None]
    assert found.rows["captured_at"].to_list() == [
        datetime(2026, 11, 1, 0, 0, tzinfo=UTC),
        datetime(2026, 11, 1, 0, 0, tzinfo=UTC),
        NOW,
    ]
    assert "1 rows name no group; each is its own." in found.report.notes


def test_repeats_are_counted_and_conflicts_become_votes(read: Callable[..., ImportedFile]) -> None:
    """Issue 2, bad input: duplicate ids are deduplicated, counted and reported, never silently resolved."""
    found = read("text,label\nHello,a\nＨＥＬＬＯ ,a\nhello,b\nhello,b\nbye,b\n")
    assert found.rows.select("line", "text", "label").rows() == [
        (2, "Hello", "a"),
        (4, "hello", "b"),
        (6, "bye", "b"),
    ]
    report = found.report
    assert (report.rows, report.kept, report.duplicates, report.conflicts) == (5, 3, 2, 1)
    assert report.classes == (("b", 2), ("a", 1))
    assert "'a' (line 2) and 'b' (line 4)" in " ".join(report.notes)
    who = replace(COLUMNS, annotator="who")
    three = read("text,label,who\nhello,a,ann\nhello,a,bo\nhello,b,cy\n", columns=who)
    assert "'a' (line 2) and 'b' (line 4)" in " ".join(three.report.notes)


def test_labels_that_differ_in_case_are_pointed_out(read: Callable[..., ImportedFile]) -> None:
    """They may be two classes or one misspelt; the reader of the report knows."""
    assert "Refund, refund" in " ".join(read("text,label\na,Refund\nb,refund\n").report.notes)


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ("txt,label\na,b\n", ["column 'text'", "one of txt, label", "Did you mean 'txt'?"]),
        ("text;label\na;b\n", ["column 'text'", "separated by semicolons"]),
        ("text,text,label\na,b,c\n", ["2 of them"]),
        ("", ["empty file (0 bytes)"]),
        ("text,label\n", ["at least one row of data, got none"]),
        ("text,label\n\n\n", ["at least one row of data, got none"]),
        ("text,label\na,b\nc\n", ["line 3", "2 fields as in the header, got 1"]),
        ("text,label\na,b\n\nhi, you,b\n", ["line 4", "got 3", "double quotes"]),
        ("text,label\na,b\n ,c\n\t,c\n", ["line 3 (and 1 more, the next on 4)", "a text in column 'text'"]),
        ("text,label\na,\n", ["line 2", "a label in column 'label'"]),
        ("text,label\na,b\nc\0d,e\n", ["line 3", "NUL"]),
        ('text,label\n"a,b\nc,d\n', ["line 2", "never ends"]),
        ('text,label\n"a"b,c\n', ["line 2", "quoting"]),
        ('text,label\n"two\nlines",ok\nx\n', ["line 4", "got 1"]),
    ],
)
def test_bad_csv_names_the_line(
    read: Callable[..., ImportedFile], content: str, fragments: list[str]
) -> None:
    """Issue 2, bad input: one clear sentence with field, expectation, what came and the next step."""
    sentence = complaint(lambda: read(content))
    for fragment in fragments:
        assert fragment in sentence


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_huge_field_is_named_with_its_length(read: Callable[..., ImportedFile], separator: str) -> None:
    """Issue 2, bad input: a 10 MB single field."""
    content = f"text{separator}label\nok{separator}a\n{'x' * 10_000_000}{separator}b\n"
    sentence = complaint(lambda: read(content, suffix=".csv" if separator == "," else ".tsv"))
    assert "line 3" in sentence
    assert "10,000,000 characters" in sentence


def test_the_longest_accepted_field_is_accepted(read: Callable[..., ImportedFile]) -> None:
    """The limit itself is inside."""
    assert read(f"text,label\n{'x' * MAX_FIELD},b\n").report.kept == 1
    assert f"{MAX_FIELD + 1:,}" in complaint(lambda: read(f"text,label\n{'x' * (MAX_FIELD + 1)},b\n"))


@pytest.mark.parametrize(
    ("data", "fragments"),
    [
        ("text,label\n注文はどこ,a\n".encode("cp932"), ["line 2", "byte 11", "Shift_JIS", "iconv -f CP932"]),
        ("text,label\n注文はどこですか,a\n".encode("euc_jp"), ["line 2", "EUC-JP"]),
        ("text,label\ncafé au lait,a\n".encode("cp1252"), ["line 2", "Windows-1252"]),
        ("text,label\n注文,a\n".encode("utf-16"), ["UTF-16"]),
        ("text,label\norder,a\n".encode("utf-16-le"), ["UTF-16"]),
        (b"text,label\nok,a\n\xff\xfe\x81,b\n", ["line 3", "byte 16"]),
        (
            "text,label\n注文,a\n".encode() + "返品したい,b\n".encode("cp932"),
            ["mixed encodings", "line 2 is UTF-8", "line 3", "Shift_JIS"],
        ),
    ],
)
def test_other_encodings_are_refused_with_a_hint(
    read: Callable[..., ImportedFile], data: bytes, fragments: list[str]
) -> None:
    """Issue 2, bad input: broken UTF-8 and mixed encodings."""
    sentence = complaint(lambda: read(data))
    for fragment in fragments:
        assert fragment in sentence


def test_future_times_are_refused_against_the_given_clock(read: Callable[..., ImportedFile]) -> None:
    """Issue 2, bad input: future timestamps."""
    content = "text,label,at\na,b,2026-11-20T12:00:00Z\nc,d,2026-11-20T12:00:01Z\n"
    columns = Columns("text", "label", time="at")
    sentence = complaint(lambda: read(content, columns=columns))
    assert "line 3" in sentence
    assert "2026-11-20T12:00:01" in sentence
    assert read(content, columns=columns, now=NOW + timedelta(seconds=1)).report.kept == 2


@pytest.mark.parametrize("cell", ["yesterday", "", "2026-13-01", "1700000000", "0001-01-01T00:00:00+14:00"])
def test_times_that_cannot_be_read_are_refused(read: Callable[..., ImportedFile], cell: str) -> None:
    """A missing or unreadable time would put the row on a guessed side of a time split."""
    sentence = complaint(
        lambda: read(f"text,label,at\na,b,{cell}\n", columns=Columns("text", "label", time="at"))
    )
    assert "line 2" in sentence
    assert "column 'at'" in sentence


def test_an_unknown_language_is_refused(read: Callable[..., ImportedFile]) -> None:
    """GOV-1 knows en, ja and mixed."""
    columns = Columns("text", "label", language="lang")
    sentence = complaint(lambda: read("text,label,lang\na,b,japanesse\n", columns=columns))
    assert "en, ja or mixed" in sentence
    assert "'japanese'" in sentence


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ('{"text": "a"', "one JSON object"),
        ('["a", "b"]', "a JSON list"),
        ('{"text": "a", "lable": "b"}', "Did you mean 'lable'?"),
        ('{"text": {"deep": 1}, "label": "b"}', "text or a whole number"),
        ('{"text": "a", "label": null}', "a label in column 'label'"),
        ('{"text": "a\\u0000", "label": "b"}', "NUL"),
        ('{"text": "\\ud800", "label": "b"}', "one JSON object"),
    ],
)
def test_bad_json_lines(read: Callable[..., ImportedFile], line: str, fragment: str) -> None:
    """Each names its line."""
    sentence = complaint(lambda: read('{"text": "ok", "label": 1}\n' + line + "\n", suffix=".jsonl"))
    assert "line 2" in sentence
    assert fragment in sentence


def test_parquet_keeps_types_and_names_rows(read: Callable[..., ImportedFile]) -> None:
    """Integer labels and native timestamps are usual there."""
    frame = pl.DataFrame({"text": ["a", "b"], "label": [1, 2], "at": [NOW, NOW - timedelta(days=1)]})
    found = read(parquet(frame), suffix=".parquet", columns=Columns("text", "label", time="at"))
    assert found.rows["label"].to_list() == ["1", "2"]
    assert found.rows["captured_at"].to_list() == [NOW, NOW - timedelta(days=1)]
    gap = pl.DataFrame({"text": ["a", None], "label": ["x", "y"]})
    assert "row 2" in complaint(lambda: read(parquet(gap), suffix=".parquet"))
    odd = pl.DataFrame({"text": ["a"], "label": [0.5]})
    assert "float" in complaint(lambda: read(parquet(odd), suffix=".parquet"))
    assert "a complete Parquet file" in complaint(lambda: read(parquet(frame)[:-20], suffix=".parquet"))
    assert "none" in complaint(lambda: read(parquet(frame.clear()), suffix=".parquet"))


def test_paths_and_endings(tmp_path: Path) -> None:
    """What is no file, or no known format, says so."""
    assert "nothing there" in complaint(lambda: read_file(tmp_path / "none.csv", COLUMNS, now=NOW))
    assert "a folder" in complaint(lambda: read_file(tmp_path, COLUMNS, now=NOW))
    other = tmp_path / "labels.xlsx"
    other.write_bytes(b"x")
    assert ".parquet" in complaint(lambda: read_file(other, COLUMNS, now=NOW))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(READABLE, READABLE), min_size=1, max_size=20), crlf=st.booleans())
def test_what_was_written_is_read(
    read: Callable[..., ImportedFile], rows: list[tuple[str, str]], crlf: bool
) -> None:
    """Any text survives CSV and JSONL unchanged, line breaks and separators included."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n" if crlf else "\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *rows])
    distinct = {(canonical_text(text), " ".join(label.split())): text for text, label in reversed(rows)}
    for suffix, data in (
        (".csv", buffer.getvalue()),
        (".jsonl", "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows)),
    ):
        found = read(data, suffix=suffix)
        assert sorted(found.rows["text"]) == sorted(distinct.values())
        assert found.report.kept + found.report.duplicates == found.report.rows == len(rows)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
def test_no_bytes_make_it_fall_over(read: Callable[..., ImportedFile], data: bytes, suffix: str) -> None:
    """Whatever a file holds, it is read or refused with a sentence."""
    prefix = b"text,label\n" if suffix == ".csv" else b"text\tlabel\n" if suffix == ".tsv" else b""
    try:
        kept = read(prefix + data, suffix=suffix).report.kept
    except InputError:
        return
    assert kept >= 1
