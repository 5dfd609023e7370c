"""Changes are new records with a reason; a source can go back to what it said before."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from tests.labels.rows import POLICY, STORY, example, examples, identity, labels, vote

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.labels.changes import edit, roll_back_source
from mangaassist.labels.consensus import consensus
from mangaassist.labels.intake import LabelStore


def settled(store: LabelStore) -> dict[str, str]:
    """Text to label, as the policy settles it now."""
    rows = consensus(store.examples(STORY), store.labels(STORY), POLICY)
    return dict(rows.select("text", "label").rows())


def test_edits_and_withdrawals_are_new_records_with_a_reason(store: LabelStore) -> None:
    """LAB-8: every label edit is in the audit trail, and the old record stays."""
    store.add_examples(STORY, examples(example("hello")))
    store.add_labels(STORY, labels(vote("hello", "order", "vendor", "ann")))
    changed = vote("hello", "greeting", "vendor", "ann")
    edit(store, STORY, changed, actor="bo", reason="misread")
    assert settled(store) == {"hello": "greeting"}
    entry = store.ledger.entries(kind="labels.batch_reserved")[-1]
    assert (entry.actor, entry.body["reason"]) == ("bo", "misread")
    assert (entry.body["before"], entry.body["after"]) == (["order"], "greeting")
    edit(store, STORY, changed, actor="bo", reason="asked to forget", withdraw=True)
    assert settled(store) == {}
    assert store.labels(STORY).height == 3
    assert store.unlabelled(STORY)["text"].to_list() == ["hello"]
    with pytest.raises(InputError, match="a standing vote of vendor/ann"):
        edit(store, STORY, changed, actor="bo", reason="again")
    with pytest.raises(InputError, match="why"):
        edit(store, STORY, changed, actor="bo", reason=" ")


def test_changing_ones_mind_back_is_a_change(store: LabelStore) -> None:
    """The same words a third time are not the batch they were the first time."""
    store.add_examples(STORY, examples(example("hello")))
    first, second = (vote("hello", label, "vendor", "ann") for label in ("order", "greeting"))
    store.add_labels(STORY, labels(first))
    for given, label in ((second, "greeting"), (first, "order"), (second, "greeting")):
        assert edit(store, STORY, given, actor="bo", reason="look again").repeated is False
        assert settled(store) == {"hello": label}


def test_a_source_goes_back_to_its_version_before(store: LabelStore, clock: SimulatedClock) -> None:
    """LAB-6: below the precision floor the rule set or prompt is rolled back."""
    store.add_examples(STORY, examples(*(example(text) for text in "abc")))
    store.add_labels(STORY, labels(vote("a", "x", "llm_v", "m"), vote("b", "x", "llm_v", "m")))
    store.add_labels(STORY, labels(vote("c", "z", "programmatic", "rule")))
    clock.advance(timedelta(days=7))
    store.add_labels(
        STORY,
        labels(vote("b", "y", "llm_v", "m"), vote("c", "y", "llm_v", "m"), vote("a", "y", "llm_v", "m")),
    )
    store.add_labels(STORY, labels(vote("c", "q", "vendor", "ann")))
    edit(store, STORY, vote("c", "q", "vendor", "ann"), actor="bo", reason="unsure", withdraw=True)
    assert settled(store) == {"a": "y", "b": "y", "c": "z"}
    batch = roll_back_source(store, STORY, "llm_v", actor="ops", reason="precision 0.81")
    assert batch.label_versions == {"llm_v": 3}
    assert settled(store) == {"a": "x", "b": "x", "c": "z"}
    body = store.ledger.entries(kind="labels.batch_reserved")[-1].body
    assert (body["restored"], body["withdrawn"], body["reason"]) == (2, 1, "precision 0.81")
    votes = store.labels(STORY).filter(
        pl.col("example_id") == identity("c"), pl.col("label_source") == "llm_v"
    )
    assert sorted(votes["review_status"]) == ["qa_passed", "withdrawn"]
    with pytest.raises(InputError, match="Did you mean 'llm_v'"):
        roll_back_source(store, STORY, "llm_w", actor="ops", reason="x")
