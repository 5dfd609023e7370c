"""Taken out for good: new records, an entry, and nothing brings it back (LAB-8)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.labels.rows import BEFORE, POLICY, STORY, example, examples, identity, labels, vote

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.core.identity import digest
from mangaassist.labels.consensus import consensus
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.lots import review_lots
from mangaassist.labels.versions import finalise, read
from mangaassist.labels.withdrawals import examples_of, withdraw

TEXTS = ("mine", "mine too", "theirs")


@pytest.fixture
def shared(store: LabelStore) -> LabelStore:
    rows = [example(text, attributes={"user_id": "u1" if "mine" in text else "u2"}) for text in TEXTS]
    store.add_examples(STORY, examples(*rows, example("unseen", attributes={"user_id": "u1"})))
    given = [
        vote(text, "x", source, who)
        for text in TEXTS
        for source, who in (("vendor", "ann"), ("vendor", "bo"), ("llm", "m"))
    ]
    store.add_labels(STORY, labels(*given, vote("mine", "y", "programmatic")))
    return store


def test_a_users_request_takes_out_all_of_theirs(shared: LabelStore, clock: SimulatedClock) -> None:
    """Votes of every source, anonymous ones and unlabelled texts included; old versions stay."""
    finalise(shared, STORY, actor="retrain")
    before, clock_before = shared.labels(STORY), clock.now()
    own = examples_of(shared, STORY, "u1")
    assert set(own) == {identity(text) for text in ("mine", "mine too", "unseen")}
    batch = withdraw(shared, STORY, own, actor="ana", reason="deletion request 12", user="u1")
    assert batch.labels == 8  # seven votes, and one record for the text nobody had labelled
    after = shared.labels(STORY)
    assert after.height == before.height + 8
    assert finalise(shared, STORY, actor="retrain").number == 2
    assert read(shared, STORY, 2)["text"].to_list() == ["theirs"]
    assert read(shared, STORY, 1).height == 3
    assert shared.unlabelled(STORY).is_empty()
    entry = shared.ledger.entries(kind="labels.batch_reserved")[-1]
    assert (entry.actor, entry.body["change"], entry.body["votes"]) == ("ana", "withdrawn", 7)
    assert entry.body["user"] == digest("u1")
    assert "u1" not in str(entry.body)
    assert clock_before == clock.now()


def test_no_later_vote_brings_it_back(shared: LabelStore, clock: SimulatedClock) -> None:
    """A vendor's late post, a labelling run over the whole table, a review of lots, a new capture."""
    withdraw(shared, STORY, [identity("mine")], actor="ana", reason="asked for it")
    clock.advance(timedelta(days=3))
    late = [vote("mine", "x", "vendor", who, lot="l") for who in ("ann", "cy", "di")]
    shared.add_labels(STORY, labels(*late, vote("mine", "x", "llm", "m2")))
    shared.add_examples(STORY, examples(example("mine", captured_at=BEFORE + timedelta(hours=1))))
    review_lots(shared, STORY, actor="qa", minimum=0)
    settled = consensus(shared.examples(STORY), shared.labels(STORY), POLICY)
    assert sorted(settled["text"]) == ["mine too", "theirs"]


@pytest.mark.parametrize(
    ("text", "reason", "message"), [("mine", " ", "why"), ("never seen", "r", "not withdrawn yet")]
)
def test_what_cannot_be_withdrawn(shared: LabelStore, text: str, reason: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        withdraw(shared, STORY, [identity(text)], actor="ana", reason=reason)


def test_twice_is_said_so_and_an_unknown_user_too(shared: LabelStore) -> None:
    withdraw(shared, STORY, [identity("mine")], actor="ana", reason="r")
    with pytest.raises(InputError, match="1 of 1 withdrawn"):
        withdraw(shared, STORY, [identity("mine")], actor="ana", reason="r")
    with pytest.raises(InputError, match="nobody by that id"):
        examples_of(shared, STORY, "u9")
