"""Disagreements wait in a queue until a senior annotator settles them."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from tests.labels.rows import NOW, POLICY, STORY, example, examples, identity, labels, vote

from mangaassist.core.errors import InputError
from mangaassist.labels.consensus import consensus
from mangaassist.labels.escalations import queue, settle
from mangaassist.labels.intake import LabelStore

TEXTS = ("tied", "two to one", "agreed", "rejected")


@pytest.fixture
def disputed(store: LabelStore) -> LabelStore:
    store.add_examples(STORY, examples(*(example(text) for text in TEXTS)))
    given = {"tied": "xy", "two to one": "xxy", "agreed": "xx"}
    votes = [
        vote(text, label, "vendor", who, lot="l", labeled_at=NOW - timedelta(minutes=len(text)))
        for text, said in given.items()
        for who, label in zip(("ann", "bo", "cy"), said, strict=False)
    ]
    store.add_labels(STORY, labels(*votes))
    failed = [vote("rejected", label, "vendor", label, lot="old") for label in "xy"]
    store.add_labels(STORY, labels(*failed, status="qa_failed"))
    return store


def test_the_queue_lists_votes_and_puts_ties_first(disputed: LabelStore) -> None:
    found = queue(disputed.examples(STORY), disputed.labels(STORY), POLICY)
    assert [(one.text, one.tied, one.votes) for one in found] == [
        ("tied", True, (("ann", "x"), ("bo", "y"))),
        ("two to one", False, (("ann", "x"), ("bo", "x"), ("cy", "y"))),
    ]
    assert found[0].since == NOW - timedelta(minutes=4)
    assert found[0].lot == "l"


def test_a_senior_settles_it_and_it_leaves_the_queue(disputed: LabelStore) -> None:
    """The word is a new record in the ledger, and it wins once the lot counts."""
    found, batch = settle(disputed, STORY, identity("tied")[:12], "y", actor="sen", reason="see rule 4")
    assert (found.text, batch.labels) == ("tied", 1)
    rest = queue(disputed.examples(STORY), disputed.labels(STORY), POLICY)
    assert [one.text for one in rest] == ["two to one"]
    entry = disputed.ledger.entries(kind="labels.batch_reserved")[-1]
    assert (entry.actor, entry.body["change"], entry.body["after"]) == ("sen", "settled", "y")
    assert entry.body["votes"] == {"ann": "x", "bo": "y"}
    accepted = disputed.labels(STORY).with_columns(review_status=pl.lit("qa_passed"))
    settled = consensus(disputed.examples(STORY), accepted.filter(accepted["iaa_lot_id"] == "l"), POLICY)
    (tied,) = settled.filter(settled["text"] == "tied").select("label", "resolved_by").rows()
    assert tied == ("y", "escalation")


@pytest.mark.parametrize(
    ("example_id", "actor", "reason", "message"),
    [
        (identity("tied"), "ann", "r", "did not vote"),
        (identity("tied"), "sen", " ", "why"),
        (identity("agreed"), "sen", "r", "which fits none"),
        ("", "sen", "r", "which fits none"),
    ],
)
def test_who_may_not_settle_what(
    disputed: LabelStore, example_id: str, actor: str, reason: str, message: str
) -> None:
    """Nobody settles their own disagreement, nothing without a reason, nothing that is not disputed."""
    with pytest.raises(InputError, match=message):
        settle(disputed, STORY, example_id, "y", actor=actor, reason=reason)
