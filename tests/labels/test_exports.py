"""Vendor lots: exports of Label Studio and plain tables that name annotators, lots and labelling times."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.labels.rows import NOW, STORY

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.core.identity import example_id
from mangaassist.labels.changes import edit
from mangaassist.labels.importing import Columns, ImportedFile, read_file
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.records import Label
from mangaassist.labels.repeats import without_repeats
from mangaassist.labels.rows import Row
from mangaassist.labels.votes import current_votes

COLUMNS = Columns("text", "intent")
TABLE = Columns("text", "label", annotator="who", lot="lot", labeled="at", escalation="senior")
EARLY = NOW - timedelta(days=3)
Read = Callable[..., ImportedFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reader(
        content: Any, *, suffix: str = ".json", columns: Columns = COLUMNS, **options: Any
    ) -> ImportedFile:
        path = tmp_path / f"lot{suffix}"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        form = "table" if columns is TABLE else "label-studio"
        return read_file(path, columns, now=NOW, **{"form": form, **options})

    return reader


def annotation(choice: object, by: object = 1, at: datetime = EARLY, **changes: object) -> dict[str, Any]:
    choices = choice if isinstance(choice, list) else [choice]
    result = [{"from_name": "intent", "to_name": "t", "type": "choices", "value": {"choices": choices}}]
    times = {"created_at": (at - timedelta(minutes=5)).isoformat(), "updated_at": at.isoformat()}
    body = {"id": 9, "completed_by": by, "result": result, "lead_time": 4.2, "was_cancelled": False, **times}
    return {**body, **changes}


def task(text: str, *annotations: object, number: int = 7, **data: object) -> dict[str, Any]:
    made = (EARLY - timedelta(days=1)).isoformat()
    predictions = [{"result": [{"from_name": "intent", "value": {"choices": ["guessed"]}}]}]
    return {
        "id": number,
        "created_at": made,
        "data": {"text": text, **data},
        "annotations": list(annotations),
        "predictions": predictions,
    }


def flat(text: str, choice: object, by: object = 1, at: datetime = EARLY) -> dict[str, Any]:
    times = {"created_at": at.isoformat(), "updated_at": at.isoformat()}
    return {
        "text": text,
        "id": 7,
        "intent": choice,
        "annotator": by,
        "annotation_id": 9,
        "lead_time": 4.2,
        **times,
    }


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert all((caught.value.field, caught.value.expected, caught.value.got, caught.value.next_step))
    return str(caught.value)


def test_an_export_becomes_votes_with_annotator_lot_and_time(read: Read) -> None:
    """Issue 3, labels 1: the JSON shape, completed_by as number and as object, predictions ignored."""
    found = read(
        [
            task(
                "where is it",
                annotation("order", 1),
                annotation("order", {"id": 2, "email": "b@x.org"}),
                lot="A",
            ),
            task(
                "返品したい", annotation("return", {"email": "c@x.org"}, ground_truth=True), number=8, lot="B"
            ),
        ],
        columns=Columns("text", "intent", lot="lot"),
    )
    rows = found.rows
    assert rows.select("text", "label", "annotator_id", "lot", "escalation").rows() == [
        ("where is it", "order", "1", "A", False),
        ("where is it", "order", "2", "A", False),
        ("返品したい", "return", "c@x.org", "B", True),
    ]
    assert rows["labeled_at"].unique().to_list() == [EARLY]
    assert rows["captured_at"].unique().to_list() == [EARLY - timedelta(days=1)]
    assert json.loads(rows["metadata"][0]) == {"annotation": 9, "lead_time": 4.2, "task": 7}
    assert (found.report.annotators, found.report.lots) == (3, (("A", 2), ("B", 1)))


def test_what_is_no_label_is_counted_and_left_out(read: Read) -> None:
    """Cancelled and empty annotations, and tasks nobody has done."""
    found = read(
        [
            task("a", annotation("x"), annotation("y", 2, was_cancelled=True), annotation([], 3)),
            task("b", number=8),
        ]
    )
    assert found.rows["label"].to_list() == ["x"]
    assert found.report.left_out == {
        "cancelled annotations": 1,
        "annotations without a choice": 1,
        "tasks without an annotation": 1,
    }
    assert any("1 cancelled annotations were left out" in note for note in found.report.notes)


def test_the_other_shapes_say_the_same(read: Read) -> None:
    """JSON-MIN, CSV, TSV and a single task as cloud storage keeps it hold the same votes."""
    whole = read([task("a, b", annotation("x", 1), annotation("y", 2))]).rows
    said = ["text", "label", "annotator_id", "labeled_at"]
    line = "{text},{label},{who},7,9,4.2,{at},{at}".replace("{at}", EARLY.isoformat())
    header = "text,intent,annotator,id,annotation_id,lead_time,created_at,updated_at"
    pairs = [("x", 1), ("y", 2)]
    table = "\n".join([header, *(line.format(text='"a, b"', label=label, who=who) for label, who in pairs)])
    tabbed = "\n".join(
        [header.replace(",", "\t")]
        + [line.replace(",", "\t").format(text="a, b", label=label, who=who) for label, who in pairs]
    )
    for content, suffix in (
        ([flat("a, b", "x", 1), flat("a, b", {"choices": ["y"]}, 2)], ".json"),
        (table + "\n", ".csv"),
        (tabbed + "\n", ".tsv"),
        (task("a, b", annotation("x", 1), annotation("y", 2)), ".json"),
    ):
        assert read(content, suffix=suffix).rows.select(said).equals(whole.select(said)), suffix


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ('[{"id": 1, "data": {"text": "a"}, "anno', ["complete JSON", "cut off"]),
        ("[]", ["list of tasks", "empty list"]),
        ('{"tasks": []}', ["list of tasks", "an object"]),
        ("[3]", ["task 1", "a number"]),
        (
            [task("a", annotation("x")), {"id": 12, "data": {"text": "b"}, "annotations": "none"}],
            ["task 12", "text"],
        ),
        ([task("a", "x", number=12)], ["task 12", "annotations"]),
        ([{"id": 5, "data": "a", "annotations": []}], ["task 5, 'data'"]),
        ([task("a", annotation(["x", "y"]), number=12)], ["task 12", "one choice", "2: x, y"]),
        ([task("a", annotation(3), number=12)], ["task 12", "a choice (text)"]),
        ([task("a", annotation("x", result={"a": 1}))], ["'result'", "an object"]),
        (
            [task("a", annotation("x", result=[{"from_name": "intent", "value": {"rating": 3}}]))],
            ["value.choices"],
        ),
        (
            [task("a", annotation("x", result=[{"from_name": "intnt", "value": {}}]))],
            ["Did you mean 'intnt'?"],
        ),
        ([task("a", annotation("x", [1]), number=12)], ["task 12", "completed_by", "a list"]),
        ([task("a", annotation("x", updated_at=None, created_at=None))], ["updated_at", "nothing"]),
        ([task("a", annotation("x", updated_at="yesterday"))], ["task 7", "'yesterday'"]),
        (
            [task("a", annotation("x", at=NOW + timedelta(seconds=1)), number=12)],
            ["task 12", "labelling times up to"],
        ),
        ([{**task("a", annotation("x")), "data": {"txt": "a"}}], ["data 'text'", "Did you mean 'txt'?"]),
        ([task(" ", annotation("x"), number=12)], ["task 12", "a text in column 'text'"]),
        ([task("a")], ["at least one annotation", "1 tasks without"]),
        ([{"text": "a", "id": 4, "intent": "x", "updated_at": EARLY.isoformat()}], ["task 4", "'annotator'"]),
        ([flat("a", {"choices": ["x", "y"]})], ["task 7", "one choice"]),
    ],
)
def test_malformed_exports_name_the_task(read: Read, content: object, fragments: list[str]) -> None:
    """Issue 3, bad input: truncated or of another shape, one clear sentence with the task."""
    sentence = complaint(lambda: read(content))
    for fragment in fragments:
        assert fragment in sentence


def test_a_csv_without_annotators_or_with_several_choices_is_refused(read: Read) -> None:
    """Without annotators a lot has no agreement to measure."""
    assert "column 'annotator'" in complaint(
        lambda: read("text,intent,updated_at\na,x,2026-11-01\n", suffix=".csv")
    )
    several = 'text,intent,annotator,updated_at\na,"{""choices"": [""x"", ""y""]}",1,2026-11-01\n'
    assert "line 2: expected one choice" in complaint(lambda: read(several, suffix=".csv"))
    empty = "text,intent,annotator,updated_at\na,,1,2026-11-01\nb,x,1,2026-11-01\n"
    assert read(empty, suffix=".csv").report.left_out == {"annotations without a choice": 1}


def test_a_table_names_annotators_lots_times_and_seniors(read: Read) -> None:
    """Plain CSV lots: text, label, annotator, lot, labelled at, escalation."""
    content = (
        "text,label,who,lot,at,senior\n"
        "a,x,ann,L1,2026-11-01,\na,y,bo,L1,2026-11-02,no\na,y,cy,,2026-11-03,yes\n"
    )
    found = read(content, suffix=".csv", columns=TABLE)
    assert found.rows.select("annotator_id", "lot", "escalation").rows() == [
        ("ann", "L1", False),
        ("bo", "L1", False),
        ("cy", None, True),
    ]
    assert found.report.conflicts == 1
    assert "line 3" in complaint(lambda: read(content.replace("no", "nope"), suffix=".csv", columns=TABLE))
    whole = Columns("text", "label", annotator="who")
    lots = read(content, suffix=".csv", columns=whole, form="table", lot=" week  7 ").report.lots
    assert lots == (("week 7", 3),)
    assert "--lot" in complaint(lambda: read(content, suffix=".csv", columns=TABLE, lot="L2"))


def test_labels_the_story_does_not_have_are_refused(read: Read) -> None:
    """A typo in a vendor's file is no new class."""
    content = [task("a", annotation("order")), task("b", annotation("oder"), number=8)]
    sentence = complaint(lambda: read(content, classes=("order", "return")))
    assert "task 8" in sentence
    assert "Did you mean 'order'?" in sentence
    assert read(content).report.kept == 2


def test_a_label_given_before_its_text_was_captured_is_refused(read: Read) -> None:
    """Clock skew: one of the two clocks is wrong, and which one nobody can tell from here."""
    columns = Columns("text", "intent", time="sent")
    late = (EARLY + timedelta(seconds=1)).isoformat()
    sentence = complaint(lambda: read([task("a", annotation("x"), number=12, sent=late)], columns=columns))
    assert "task 12" in sentence
    assert "'sent' and 'updated_at'" in sentence
    # An annotation brought along from another project is older than its task here; that is no skew.
    moved = {**task("a", annotation("x")), "created_at": NOW.isoformat()}
    assert read([moved]).rows["captured_at"].to_list() == [EARLY]


def test_an_annotator_labelling_twice_counts_once_by_the_last_time(read: Read) -> None:
    """Issue 3, bad input: the last by time wins wherever it stands, counted and said."""
    later = EARLY + timedelta(hours=1)
    found = read(
        [task("Hello", annotation("new", at=later), annotation("old")), task("hello", annotation("old"))]
    )
    assert found.rows.select("label", "labeled_at").rows() == [("new", later)]
    assert (found.report.rows, found.report.kept, found.report.relabelled) == (3, 1, 2)
    assert any("the last label by time counts" in note for note in found.report.notes)


ROWS = st.lists(
    st.builds(
        Row,
        line=st.just(0),
        text=st.sampled_from(["a", "A ", "b"]),
        label=st.sampled_from(["x", "y"]),
        language=st.just("en"),
        annotator_id=st.sampled_from([None, "p", "q"]),
        labeled_at=st.sampled_from([None, EARLY, NOW]),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS)
def test_repeats_are_what_a_loop_finds(rows: list[Row]) -> None:
    """Against the slow twin: every annotator's last, every unnamed label's first, and the counts add up."""
    expected: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.text.strip().lower(), row.annotator_id or f"nobody says {row.label}")
        earlier = expected.get(key)
        oldest = datetime.min.replace(tzinfo=UTC)
        if earlier is None or (
            row.annotator_id and (row.labeled_at or oldest) >= (earlier.labeled_at or oldest)
        ):
            expected[key] = row
    kept, repeats = without_repeats(rows)
    chosen = {id(row) for row in expected.values()}
    assert kept == [row for row in rows if id(row) in chosen]
    assert len(kept) + repeats.duplicates + repeats.relabelled == len(rows)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "data", "text", "annotations", "result", "from_name", "value", "choices"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_makes_it_fall_over(read: Read, content: object) -> None:
    """Whatever shape an export has, it is read or refused with a sentence."""
    with suppress(InputError):
        read([content] if isinstance(content, dict) else content)


def votes(store: LabelStore) -> list[tuple[str, str]]:
    standing = current_votes(store.labels(STORY)).sort("annotator_id", "label")
    return standing.select("annotator_id", "label").rows()


def test_an_export_again_and_again_adds_only_its_news(
    read: Read, store: LabelStore, clock: SimulatedClock
) -> None:
    """A project is exported every week as a whole; what a person changed here since is not undone by it."""
    first = [task("hello", annotation("x", 1), annotation("x", 2), lot="L")]
    columns = Columns("text", "intent", lot="lot")
    week_one = read(first, columns=columns)
    batch = store.import_file(STORY, week_one, source="vendor")
    assert store.labels(STORY)["review_status"].unique().to_list() == ["draft"]
    assert store.labels(STORY)["iaa_lot_id"].unique().to_list() == ["L"]
    again = store.import_file(STORY, week_one, source="vendor")
    assert (batch.labels, batch.repeated, again.repeated) == (2, False, True)
    vote = Label(example_id("hello", "intent"), "z", "vendor", EARLY, NOW, annotator_id="2", role="train")
    clock.advance(timedelta(days=1))
    edit(store, STORY, vote, actor="bo", reason="misread")
    grown = [
        task("hello", *first[0]["annotations"], annotation("y", 3), lot="L"),
        task("bye", annotation("x", 1), lot="L"),
    ]
    more = store.import_file(STORY, read(grown, columns=columns), source="vendor")
    assert (more.labels, more.repeated) == (2, False)
    assert votes(store) == [("1", "x"), ("1", "x"), ("2", "z"), ("3", "y")]
    changed = [task("hello", annotation("y", 1, EARLY + timedelta(hours=1)), annotation("x", 2), lot="L")]
    assert store.import_file(STORY, read(changed, columns=columns), source="vendor").labels == 1
    assert votes(store) == [("1", "x"), ("1", "y"), ("2", "z"), ("3", "y")]
    nothing = store.import_file(STORY, read([*changed, *grown[1:]], columns=columns), source="vendor")
    assert (nothing.labels, nothing.label_versions) == (0, {})


def test_a_text_without_capture_time_was_captured_by_its_first_label(read: Read, store: LabelStore) -> None:
    """Otherwise a label would be older than what it is about."""
    content = "text,label,who,lot,at,senior\na,x,ann,L1,2026-11-02,\na,y,bo,L1,2026-11-01,\n"
    store.import_file(STORY, read(content, suffix=".csv", columns=TABLE), source="vendor")
    captured = store.examples(STORY)["captured_at"].unique().to_list()
    assert captured == [datetime(2026, 11, 1, tzinfo=UTC)]
    assert store.labels(STORY).filter(pl.col("labeled_at") < pl.col("captured_at")).is_empty()
