"""Lots are measured as they were given, and measured again only when something about them has changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.labels.rows import STORY, example, examples, identity, labels, vote
from tests.labels.test_quality import TEAM, lot

from mangaassist.core.clock import SimulatedClock
from mangaassist.labels import lots
from mangaassist.labels.changes import edit
from mangaassist.labels.escalations import settle
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.lots import lot_reviews, review_lots
from mangaassist.labels.overlap import plan_lot, planned
from mangaassist.labels.votes import current_votes
from mangaassist.labels.withdrawals import withdraw


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the lots measured, as they are."""
    names: list[str] = []
    honest = lots._measure

    def counting(one: lots._Lot) -> lots.LotReview:
        names.append(one.name)
        return honest(one)

    monkeypatch.setattr(lots, "_measure", counting)
    return names


def deliver(store: LabelStore, name: str, *, accuracy: float = 0.97, items: int = 16, **more: object) -> None:
    texts, votes = lot(accuracy, name=name, items=items, **more)  # type: ignore[arg-type]
    store.add_examples(STORY, examples(*texts))
    now = store.clock.now()
    store.add_labels(STORY, labels(*(replace(one, labeled_at=now) for one in votes)))


def test_reviews_are_those_of_a_full_recount_and_only_changed_lots_are_measured(
    store: LabelStore, clock: SimulatedClock, measured: list[str]
) -> None:
    """Whatever happens to labels between two reviews: late votes, disputes, edits, deletions, a plan."""

    def changed() -> list[str]:
        del measured[:]
        found = lot_reviews(store, STORY)
        mine = list(measured)
        assert found == lot_reviews(replace(store, reviews={}), STORY)
        return mine

    for name in ("a", "b", "c"):
        deliver(store, name)
    deliver(store, "j", japanese=True)
    assert sorted(changed()) == ["a", "b", "c", "j"]
    assert changed() == []
    review_lots(store, STORY, actor="qa")  # that labels count now is no news about agreement
    assert changed() == []
    deliver(store, "b", annotators=("dee",))
    assert changed() == ["b"]
    clock.advance(timedelta(days=1))
    disputed = vote("question 1 of c", "nonsense", "vendor", "eve", lot="c", labeled_at=clock.now())
    store.add_labels(STORY, labels(disputed, vote("question 1 of c", "x", "vendor", "fay", lot="c")))
    assert changed() == ["c"]
    for who in TEAM:
        slip = vote("question 2 of c", who, "vendor", who, lot="c", labeled_at=clock.now())
        store.add_labels(STORY, labels(slip))
    assert changed() == ["c"]
    settle(store, STORY, identity("question 2 of c"), "order", actor="senior", reason="guideline 2")
    assert changed() == ["c"]
    mine = vote("question 3 of a", "return", "vendor", "ann", labeled_at=clock.now())
    edit(store, STORY, mine, actor="ops", reason="typo")
    assert changed() == []  # the lot is judged by what was delivered
    withdraw(store, STORY, [identity("question 4 of a")], actor="ops", reason="asked")
    assert changed() == ["a"]
    store.add_examples(STORY, examples(*(example(f"waiting {n}") for n in range(40))))
    plan_lot(store, STORY, "p", size=40, seed=1, actor="ops")
    assert changed() == []
    rows = planned(store, STORY, "p")
    texts = {identity(f"waiting {n}"): f"waiting {n}" for n in range(40)}
    back = [vote(texts[one], "x", "vendor", who, lot="p") for one in rows["example_id"] for who in TEAM]
    store.add_labels(STORY, labels(*back))
    assert changed() == ["p"]
    floors = replace(STORY, labels=replace(STORY.labels, agreement_floor=0.99))
    del measured[:]
    assert {one.outcome for one in lot_reviews(store, floors)} == {"rejected", "unmeasured"}
    assert len(measured) == 5


def test_a_text_that_returns_in_a_later_lot_is_measured_in_both(
    store: LabelStore, clock: SimulatedClock
) -> None:
    """A common greeting comes every week; the next lot does not wear this one out."""
    deliver(store, "w1", items=30)
    (before,) = lot_reviews(store, STORY)
    clock.advance(timedelta(days=7))
    again = [
        vote(f"question {n} of w1", "other", "vendor", who, lot="w2", labeled_at=clock.now())
        for n in range(25)
        for who in TEAM
    ]
    store.add_labels(STORY, labels(*again))
    first, second = lot_reviews(store, STORY)
    assert (first, second.examples) == (before, 25)
    review_lots(store, STORY, actor="qa")
    standing = current_votes(store.labels(STORY))
    # Only the last word counts as a label, and only its own lot's outcome says whether.
    counts = standing.group_by("iaa_lot_id", "review_status").len()
    assert set(counts.rows()) == {("w1", "qa_passed", 15), ("w2", "draft", 75)}


def test_a_rejected_lot_that_was_given_again_is_history(store: LabelStore, clock: SimulatedClock) -> None:
    """Under its own name it is measured by the new votes; under another the old one has none that stands."""
    deliver(store, "bad", accuracy=0.4, items=60)
    assert [one.outcome for one in lot_reviews(store, STORY)] == ["rejected"]
    clock.advance(timedelta(days=7))
    texts = [f"question {n} of bad" for n in range(60)]
    redone = [
        vote(text, ("order", "return")[n % 2], "vendor", who, lot="good", labeled_at=clock.now())
        for n, text in enumerate(texts)
        for who in TEAM
    ]
    store.add_labels(STORY, labels(*redone))
    assert [(one.lot, one.outcome) for one in lot_reviews(store, STORY)] == [("good", "accepted")]
