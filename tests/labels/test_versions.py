"""A label version is the same rows for ever, or an error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.labels.rows import BEFORE, NOW, POLICY, STORY, example, examples, labels, vote

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.core.story import LabelPolicy, Story, Window
from mangaassist.core.verdict import Status
from mangaassist.labels.changes import edit
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.versions import LabelVersion, finalise, read, select, version, versions
from mangaassist.labels.waivers import SINGLE_SOURCE, cap, sources_verdict, waive, waivers


def fill(store: LabelStore, *texts: str, source: str = "vendor", story: Story = STORY) -> None:
    store.add_examples(story, examples(*(example(text) for text in texts)))
    store.add_labels(story, labels(*(vote(text, f"class_{len(text) % 3}", source) for text in texts)))


def as_bytes(frame: pl.DataFrame) -> bytes:
    return frame.write_ndjson().encode()


def test_a_version_reads_the_same_bytes_after_everything_changed(
    store: LabelStore, clock: SimulatedClock
) -> None:
    """LAB-2: training on version 47 next year gives byte-identical rows."""
    fill(store, "hello", "where is it", "bye")
    first = finalise(store, STORY, actor="retrain")
    before = as_bytes(read(store, STORY, 1))
    clock.advance(timedelta(days=365))
    fill(store, "more", "and more")
    edit(store, STORY, vote("hello", "changed", "vendor"), actor="bo", reason="misread")
    narrower = replace(STORY, window=Window("sliding", 7), labels=LabelPolicy(sources=("llm",)))
    second = finalise(store, STORY, actor="retrain")
    assert (first.number, second.number) == (1, 2)
    assert as_bytes(read(store, STORY, 1)) == before
    assert as_bytes(read(store, narrower, 1)) == before
    assert read(store, STORY, 2).height == 5
    assert second.counts["train"] == 5
    assert [one.as_dict() for one in versions(store, STORY)] == [first.as_dict(), second.as_dict()]
    assert LabelVersion.from_dict(first.as_dict()) == first


def test_unchanged_content_stays_the_same_version(store: LabelStore, clock: SimulatedClock) -> None:
    """A retrain on the same labels is the same label version, whenever it runs."""
    fill(store, "hello", "bye")
    first = finalise(store, STORY, actor="retrain")
    clock.advance(timedelta(days=7))
    head = store.ledger.head()
    assert finalise(store, STORY, actor="retrain") == first
    assert store.ledger.head() == head


def test_a_sliding_window_moves_with_the_clock(store: LabelStore, clock: SimulatedClock) -> None:
    """RET-1: the window is counted from the moment of finalising, and golden rows have no age."""
    story = replace(STORY, window=Window("sliding", 30))
    store.add_examples(
        story,
        examples(
            example("old", captured_at=NOW - timedelta(days=20)), example("new"), example("g", role="golden")
        ),
    )
    old = vote("old", "a", captured_at=NOW - timedelta(days=20))
    store.add_labels(story, labels(old, vote("new", "b"), vote("g", "b")))
    assert finalise(store, story, actor="retrain").counts["outside_window"] == 0
    clock.advance(timedelta(days=15))
    later = finalise(store, story, actor="retrain")
    assert (later.number, later.counts["outside_window"]) == (2, 1)
    assert read(store, story, 2).select("role", "text").rows() == [("golden", "g"), ("train", "new")]
    assert read(store, story, 1).height == 3


def test_labels_count_once_they_are_mature() -> None:
    """LabelPolicy.maturity: a label is final that long after its example was captured."""
    rows = (examples(example("hello")), labels(vote("hello", "x")))
    patient = replace(POLICY, maturity=timedelta(days=2))
    early = select(*rows, patient, Window("cumulative"), at=BEFORE + timedelta(days=2, microseconds=-1))
    assert (early.rows.height, early.counts["immature"]) == (0, 1)
    due = select(*rows, patient, Window("cumulative"), at=BEFORE + timedelta(days=2))
    assert (due.rows.height, due.counts["immature"]) == (1, 0)


def test_training_texts_that_are_tested_on_are_removed_and_counted() -> None:
    """The same canonical text in train and golden would measure memory."""
    texts = examples(
        example("Where is it?", role="golden"),
        example("ｗｈｅｒｅ is  it?"),
        example("hard one", role="adversarial"),
        example("hard one"),
        example("clean"),
    )
    given = labels(vote("Where is it?", "a"), vote("hard one", "b"), vote("clean", "c"))
    found = select(texts, given, POLICY, Window("cumulative"), at=NOW)
    assert found.counts["overlap"] == 2
    assert found.rows.select("role", "text").rows() == [
        ("adversarial", "hard one"),
        ("golden", "Where is it?"),
        ("train", "clean"),
    ]


def test_what_was_left_out_is_counted() -> None:
    """Nothing disappears without a number."""
    texts = examples(example("a"), example("b"), example("c"))
    given = pl.concat(
        [
            labels(vote("a", "x")),
            labels(vote("b", "x"), status="draft"),
            labels(vote("c", "x"), status="qa_failed"),
            labels(vote("a", "x", "llm"), status="withdrawn"),
        ]
    )
    counts = select(texts, given, POLICY, Window("cumulative"), at=NOW).counts
    assert {name: counts[name] for name in ("train", "draft", "qa_failed", "withdrawn")} == {
        "train": 1,
        "draft": 1,
        "qa_failed": 1,
        "withdrawn": 1,
    }


def test_changed_content_is_an_integrity_error(store: LabelStore, tmp_path: Path) -> None:
    """LAB-2: a version whose stored rows are not what was finalised is never trained on."""
    fill(store, "hello", "bye")
    finalise(store, STORY, actor="retrain")
    changed = store.labels(STORY).with_columns(label=pl.lit("other"))
    (data,) = (tmp_path / "home" / "warehouse").glob("**/labels*/**/data/*.parquet") or [None]
    changed.write_parquet(data)
    with pytest.raises(IntegrityError):
        read(store, STORY, 1)


def test_versions_that_do_not_exist(store: LabelStore) -> None:
    """No labels, and no such number."""
    with pytest.raises(InputError, match="labels import"):
        finalise(store, STORY, actor="retrain")
    fill(store, "hello")
    finalise(store, STORY, actor="retrain")
    with pytest.raises(InputError, match="a finalised version, got 2"):
        version(store, STORY, 2)


def test_many_finalise_at_once_and_it_is_one_version(store: LabelStore) -> None:
    """The ledger's compare-and-swap lets one of them write."""
    fill(store, "hello", "bye")
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: finalise(store, STORY, actor="retrain"), range(6)))
    assert {one.number for one in found} == {1}
    assert len(versions(store, STORY)) == 1


def test_one_source_alone_fails_until_somebody_waives_it(store: LabelStore) -> None:
    """LAB-3: refused by default; a waiver is recorded, does not hide the finding and caps at shadow."""
    fill(store, "hello", "bye")
    pinned = finalise(store, STORY, actor="retrain")
    refused = sources_verdict(pinned, waivers(store, STORY, 1))
    assert (refused.status, refused.blocking, refused.value) == (Status.FAIL, True, 1.0)
    assert "--waive single-source" in refused.sentence
    granted = waive(store, STORY, pinned, SINGLE_SOURCE, reason="first trial", actor="ana")
    assert waive(store, STORY, pinned, SINGLE_SOURCE, reason="first trial", actor="ana") == granted
    assert waivers(store, STORY, 1) == (granted,)
    (entry,) = store.ledger.entries(kind="waiver.granted")
    assert (entry.actor, entry.body["reason"], entry.body["rule"]) == ("ana", "first trial", "single-source")
    waived = sources_verdict(pinned, waivers(store, STORY, 1))
    assert (waived.status, waived.blocking) == (Status.FAIL, False)
    assert "ana: first trial." in waived.sentence
    assert cap(waivers(store, STORY, 1)) == "shadow"
    fill(store, "hello", "bye", source="llm")
    both = finalise(store, STORY, actor="retrain")
    assert both.sources == {"llm": 2, "vendor": 2}
    assert sources_verdict(both, waivers(store, STORY, both.number)).status is Status.PASS
    assert cap(waivers(store, STORY, both.number)) is None


def test_two_vendors_are_one_source(store: LabelStore) -> None:
    """LAB-3 means kinds of evidence: a second vendor shares the guideline and its mistakes."""
    fill(store, "hello", source="vendor_north")
    fill(store, "bye", source="vendor_south")
    assert finalise(store, STORY, actor="retrain").sources == {"vendor": 2}


@pytest.mark.parametrize(("rule", "reason"), [("single-sorce", "x"), (SINGLE_SOURCE, "  ")])
def test_a_waiver_needs_a_known_rule_and_a_reason(store: LabelStore, rule: str, reason: str) -> None:
    """Nothing is recorded otherwise."""
    fill(store, "hello")
    pinned = finalise(store, STORY, actor="retrain")
    with pytest.raises(InputError):
        waive(store, STORY, pinned, rule, reason=reason, actor="ana")
    assert store.ledger.entries(kind="waiver.granted") == []
