"""Rows come in once, stay for ever, and the ledger knows how they came."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.labels.rows import BEFORE, NOW, POLICY, STORY, example, examples, identity, labels, vote

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.labels.consensus import consensus
from mangaassist.labels.importing import Columns, ImportedFile, read_file
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.records import EXAMPLES_TABLE, LABELS_TABLE
from mangaassist.labels.votes import current_examples

CONTENT = "text,label\nhello,greeting\nHello,chitchat\nwhere is it,order\nさようなら,greeting\n"


def file(tmp_path: Path, content: str = CONTENT, name: str = "a.csv") -> ImportedFile:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return read_file(path, Columns("text", "label"), now=NOW)


class Crash(Exception):
    """Stands for the process dying at this point."""


class CrashingTables:
    """Tables whose n-th append never returns, before or after the rows are written."""

    def __init__(self, inner: Any, *, at: int, after: bool) -> None:
        self._inner, self._at, self._after, self._appends = inner, at, after, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, name: str, rows: Any, *, properties: Mapping[str, str]) -> int:
        self._appends += 1
        if self._appends == self._at and not self._after:
            raise Crash
        snapshot: int = self._inner.append(name, rows, properties=properties)
        if self._appends == self._at:
            raise Crash
        return snapshot


def test_a_file_becomes_examples_and_labels(store: LabelStore, tmp_path: Path) -> None:
    """LAB-1: both tables hold exactly their columns; the ledger holds where the rows came from."""
    batch = store.import_file(STORY, file(tmp_path), source="vendor_north", actor="ana")
    assert (batch.repeated, batch.examples, batch.labels) == (False, 3, 4)
    assert batch.label_versions == {"vendor_north": 1}
    assert store.examples(STORY).columns == list(EXAMPLES_TABLE)
    rows = store.labels(STORY)
    assert rows.columns == list(LABELS_TABLE)
    assert rows["review_status"].unique().to_list() == ["qa_passed"]
    assert set(rows["labeled_at"]) == set(rows["captured_at"]) == {NOW}
    reserved, added = store.ledger.entries(subject="labels/intent")
    assert (reserved.kind, added.kind) == ("labels.batch_reserved", "labels.batch_added")
    assert reserved.actor == "ana"
    assert reserved.body["file"] == "a.csv"
    assert added.body["snapshots"] == store.snapshots(STORY)
    settled = consensus(store.examples(STORY), rows, POLICY)
    assert sorted(settled.select("text", "label", "resolved_by").rows()) == [
        ("hello", "chitchat", "order"),
        ("where is it", "order", "unanimous"),
        ("さようなら", "greeting", "unanimous"),
    ]


def test_the_same_file_twice_changes_nothing(
    store: LabelStore, clock: SimulatedClock, tmp_path: Path
) -> None:
    """Issue 2: importing the same file again says so and writes nothing."""
    first = store.import_file(STORY, file(tmp_path), source="vendor")
    before = (store.snapshots(STORY), store.ledger.head())
    clock.advance(timedelta(days=3))
    again = store.import_file(STORY, file(tmp_path), source="vendor")
    assert again.repeated is True
    assert (again.batch, again.labels) == (first.batch, first.labels)
    assert (store.snapshots(STORY), store.ledger.head()) == before
    assert store.import_file(STORY, file(tmp_path, name="copy.csv"), source="vendor").repeated is True
    other = store.import_file(STORY, file(tmp_path), source="llm")
    assert other.repeated is False
    assert other.label_versions == {"llm": 1}


def test_a_file_leaves_what_it_does_not_speak_of(store: LabelStore, tmp_path: Path) -> None:
    """Labels for texts on record: conversation, user and capture time stay where the file is silent."""
    known = example("hello", group_id="talk-1", attributes={"user_id": "u1", "device": "mobile"})
    store.add_examples(STORY, examples(known))
    store.import_file(STORY, file(tmp_path), source="vendor")
    (row,) = store.examples(STORY).filter(example_id=identity("hello")).iter_rows(named=True)
    assert (row["group_id"], row["captured_at"]) == ("talk-1", BEFORE)
    said = store.labels(STORY).filter(example_id=identity("hello"))
    assert set(said.select("captured_at", "labeled_at").rows()) == {(BEFORE, NOW)}
    path = tmp_path / "users.csv"
    path.write_text("text,label,who\nhello,order,u2\n", encoding="utf-8")
    theirs = read_file(path, Columns("text", "label", user="who"), now=NOW)
    store.import_file(STORY, theirs, source="vendor")
    (latest,) = current_examples(store.examples(STORY).filter(example_id=identity("hello"))).rows(named=True)
    assert latest["attributes"] == '{"device":"mobile","user_id":"u2"}'
    assert (latest["group_id"], latest["captured_at"]) == ("talk-1", BEFORE)


def test_versions_grow_per_source(store: LabelStore, tmp_path: Path) -> None:
    """LAB-1: label_version is monotonic per model target and source; later files replace earlier votes."""
    store.import_file(STORY, file(tmp_path), source="vendor")
    store.import_file(STORY, file(tmp_path), source="llm")
    later = store.import_file(STORY, file(tmp_path, "text,label\nhello,order\n"), source="vendor")
    assert later.label_versions == {"vendor": 2}
    assert later.replaced == 2
    settled = consensus(store.examples(STORY), store.labels(STORY), POLICY)
    assert settled.filter(pl.col("example_id") == identity("hello"))["label"].to_list() == ["order"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_a_crash_anywhere_is_completed_by_the_next_call(
    store: LabelStore, clock: SimulatedClock, tmp_path: Path, at: int, after: bool
) -> None:
    """Nothing lost, nothing doubled, whichever append died."""
    broken = LabelStore(CrashingTables(store.tables, at=at, after=after), store.ledger, clock)  # type: ignore[arg-type]
    with pytest.raises(Crash):
        broken.import_file(STORY, file(tmp_path), source="vendor")
    clock.advance(timedelta(minutes=5))
    batch = store.import_file(STORY, file(tmp_path), source="vendor")
    assert batch.repeated is False
    assert batch.label_versions == {"vendor": 1}
    assert store.tables.read("labels.intent").height == 4
    assert store.tables.read("examples.intent").height == 3
    assert set(store.labels(STORY)["labeled_at"]) == {NOW}
    assert store.import_file(STORY, file(tmp_path), source="vendor").repeated is True


def test_many_writers_at_once_lose_and_double_nothing(store: LabelStore, tmp_path: Path) -> None:
    """Two of each of four files, eight threads: four batches, four versions."""
    files = [file(tmp_path, f"text,label\ntext {n},a\nother {n},b\n", f"{n}.csv") for n in range(4)]
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda one: store.import_file(STORY, one, source="llm"), files * 2))
    assert sorted(batch.label_versions["llm"] for batch in batches) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert store.labels(STORY).height == store.examples(STORY).height == 8
    kinds = [entry.kind for entry in store.ledger.entries(subject="labels/intent")]
    assert kinds.count("labels.batch_reserved") == 4


@pytest.mark.parametrize(
    ("frame", "fragment"),
    [
        (labels(vote("a", "x", "crowd")), "one of vendor, programmatic, llm"),
        (labels(vote("a", " ")), "a class"),
        (labels(vote("a", "x", confidence=1.5)), "0 to 1"),
        (labels(vote("a", "x", labeled_at=NOW + timedelta(seconds=1))), "times up to now"),
        (labels(vote("a", "x", labeled_at=BEFORE - timedelta(1))), "after their example was captured"),
        (labels(vote("a", "x"), vote("a", "x")), "rows that differ"),
        (labels(vote("a", "x"), status="fine"), "draft or qa_passed"),
        (labels(vote("a", "x")).drop("label"), "column 'label'"),
        (labels(vote("a", "x")).with_columns(label_version=pl.lit("one")), "the table's types"),
        (labels(vote("a", "x")).with_columns(model_target=pl.lit("spam")), "expected intent, got spam"),
        (labels(vote("a", "x")).with_columns(label=pl.lit(None, pl.String)), "a value in every row"),
        (labels(vote("a", "x")).clear(), "at least one row"),
    ],
)
def test_labels_that_may_not_enter(store: LabelStore, frame: pl.DataFrame, fragment: str) -> None:
    """A refusal writes nothing."""
    with pytest.raises(InputError) as caught:
        store.add_labels(STORY, frame)
    assert fragment in str(caught.value)
    assert store.ledger.head() == 0
    assert store.labels(STORY).is_empty()


def test_examples_that_may_not_enter(store: LabelStore) -> None:
    """Roles, languages and times are checked the same way."""
    good = examples(example("hello"))
    for bad, fragment in (
        (good.with_columns(role=pl.lit("test")), "train or golden or adversarial"),
        (good.with_columns(language=pl.lit("fr")), "en or ja or mixed"),
        (examples(example("x", captured_at=NOW + timedelta(seconds=1))), "times up to now"),
    ):
        with pytest.raises(InputError) as caught:
            store.add_examples(STORY, bad)
        assert fragment in str(caught.value)
    assert store.add_examples(STORY, good).repeated is False
    assert store.add_examples(STORY, good).repeated is True


def test_no_personal_data_is_stored(store: LabelStore, tmp_path: Path) -> None:
    """GOV-2: by either way in, text is stored redacted, and labels find it by what was captured."""
    direct, imported = "call me at 090-1234-5678 about it", "田中様宛の荷物、taro@example.com に連絡を"
    store.add_examples(STORY, examples(example(direct)))
    store.add_labels(STORY, labels(vote(direct, "order")))
    store.import_file(STORY, file(tmp_path, f"text,label\n{imported},order\n"), source="vendor")
    rows = store.examples(STORY)
    stored = dict(rows.select("example_id", "text").iter_rows())
    assert stored == {
        identity(direct): "call me at [PHONE] about it",
        identity(imported): "[NAME]様宛の荷物、[EMAIL] に連絡を",
    }
    assert dict(rows.select("example_id", "language").iter_rows())[identity(imported)] == "mixed"
    settled = consensus(rows, store.labels(STORY), POLICY)
    assert settled.select("text", "label").sort("text").rows() == [
        ("[NAME]様宛の荷物、[EMAIL] に連絡を", "order"),
        ("call me at [PHONE] about it", "order"),
    ]
    everything = repr([entry.body for entry in store.ledger.entries()])
    assert "090-1234" not in everything
    assert "taro" not in everything


def test_a_text_that_comes_back_redacted_names_its_example(store: LabelStore, tmp_path: Path) -> None:
    """A vendor is sent what is stored, and never learns the rest."""
    earlier, later = "call me at 090-1234-5678", "Call me at 080-8765-4321"
    store.add_examples(
        STORY, examples(example(later), example(earlier, captured_at=BEFORE - timedelta(days=1)))
    )
    returned = "text,label\ncall me at [PHONE],order\nwrite to [EMAIL],chat\n"
    store.import_file(STORY, file(tmp_path, returned), source="vendor")
    said = dict(store.labels(STORY).select("example_id", "label").iter_rows())
    assert said == {identity(earlier): "order", identity("write to [EMAIL]"): "chat"}
    assert store.examples(STORY)["example_id"].n_unique() == 3
