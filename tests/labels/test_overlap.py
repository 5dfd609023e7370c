"""Overlap is planned before a lot goes out and held to when it comes back."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tests.labels.rows import POLICY, STORY, example, examples, identity, labels, vote

from mangaassist.core.errors import Conflict, InputError
from mangaassist.core.verdict import Status
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.lots import lot_votes, review, review_lots
from mangaassist.labels.overlap import draw, overlap_verdict, plan_lot, planned, planned_lots, vendor_file
from mangaassist.labels.records import Label
from mangaassist.labels.withdrawals import withdraw

CLASSES = ("order", "return", "greeting")


def waiting(english: int, japanese: int = 0, mixed: int = 0) -> list[str]:
    return [
        *(f"question {n}" for n in range(english)),
        *(f"質問{n}です" for n in range(japanese)),
        *(f"order {n} はどこ" for n in range(mixed)),
    ]


def delivery(rows: pl.DataFrame, texts: list[str], *, drop: int = 0, lot: str = "l1") -> list[Label]:
    """What a careful vendor sends back for a plan, without the last annotator of the first ``drop`` items."""
    text_of = {identity(text): text for text in texts}
    votes = []
    for place, row in enumerate(rows.sort("example_id").iter_rows(named=True)):
        people = row["annotations"] - (place < drop)
        for who in ("ann", "bo", "cy")[:people]:
            text = text_of[row["example_id"]]
            votes.append(vote(text, CLASSES[len(text) % 3], "vendor", who, lot=lot))
    return votes


@pytest.mark.parametrize(
    ("sizes", "triple"), [((400, 300, 100), {"en": 40, "ja": 40}), ((30, 5), {"en": 10, "ja": 5})]
)
def test_a_tenth_of_each_language_is_seen_three_times(sizes: tuple[int, ...], triple: dict[str, int]) -> None:
    """LAB-4: 10% triple and 90% double, by language; a small pool gets what a kappa needs."""
    rows = draw(examples(*(example(text) for text in waiting(*sizes))), generator=np.random.default_rng(1))
    assert set(rows["annotations"]) <= {2, 3}
    three = rows.filter(pl.col("annotations") == 3)
    assert dict(three.group_by("pool").len().rows()) == triple
    if len(sizes) == 3:
        assert dict(three.group_by("language").len().rows()) == {"en": 40, "ja": 30, "mixed": 10}


def test_a_plan_is_data_with_an_entry_and_cannot_be_changed(store: LabelStore) -> None:
    """The same seed draws the same plan; another plan of the lot is refused; no example is in two lots."""
    texts = waiting(150)
    store.add_examples(STORY, examples(*(example(text) for text in texts)))
    made = plan_lot(store, STORY, "l1", size=100, seed=3, actor="ana")
    assert (made.items, made.triple, made.pools) == (100, 10, {"en": 100})
    assert planned_lots(store, STORY) == [made]
    rows = planned(store, STORY, "l1")
    with pytest.raises(Conflict, match="planned"):
        plan_lot(store, STORY, "l1", size=100, seed=4, actor="ana")
    assert planned(store, STORY, "l1").equals(rows)
    rest = plan_lot(store, STORY, "l2", size=100, seed=3, actor="ana")
    assert rest.items == 50
    assert not set(planned(store, STORY, "l2")["example_id"]) & set(rows["example_id"])
    with pytest.raises(InputError, match="none that no other lot has"):
        plan_lot(store, STORY, "l3", size=1, seed=3, actor="ana")
    with pytest.raises(InputError, match="Known: l1, l2"):
        planned(store, STORY, "l9")


def test_the_vendor_file_carries_the_texts_and_no_erased_one(store: LabelStore) -> None:
    texts = waiting(20, 20)
    store.add_examples(STORY, examples(*(example(text) for text in texts)))
    plan_lot(store, STORY, "l1", size=40, seed=3, actor="ana")
    withdraw(store, STORY, [identity("質問1です")], actor="ana", reason="asked to be forgotten")
    found = pl.read_csv(io.StringIO(vendor_file(store, STORY, ["l1"])))
    assert found.columns == ["lot", "example_id", "language", "annotations", "text"]
    assert set(found["text"]) == set(texts) - {"質問1です"}


@pytest.mark.parametrize(
    ("drop", "status", "outcome"), [(0, Status.PASS, "accepted"), (40, Status.FAIL, "unmeasured")]
)
def test_a_lot_that_did_not_come_back_as_planned_stays_a_draft(
    store: LabelStore, drop: int, status: Status, outcome: str
) -> None:
    """However well the delivered part agrees; the missing votes make it whole."""
    texts = waiting(120)
    store.add_examples(STORY, examples(*(example(text) for text in texts)))
    plan_lot(store, STORY, "l1", size=120, seed=3, actor="ana")
    rows = planned(store, STORY, "l1")
    store.add_labels(STORY, labels(*delivery(rows, texts, drop=drop)))
    ((found,), _) = review_lots(store, STORY, actor="qa")
    assert (found.overlap.status, found.outcome) == (status, outcome)
    if drop:
        assert "40 annotations are missing on 40 items" in found.sentence
        assert set(store.labels(STORY)["review_status"]) == {"draft"}
        missing = delivery(rows, texts)
        store.add_labels(STORY, labels(*missing))
        ((found,), _) = review_lots(store, STORY, actor="qa")
        assert found.outcome == "accepted"


def test_kappa_is_measured_on_the_planned_items_only(store: LabelStore) -> None:
    """A vendor who adds a third vote on easy items does not change the figure."""
    texts = waiting(120)
    store.add_examples(STORY, examples(*(example(text) for text in texts)))
    plan_lot(store, STORY, "l1", size=120, seed=3, actor="ana")
    rows = planned(store, STORY, "l1")
    generous = delivery(rows.with_columns(annotations=pl.lit(3)), texts)
    store.add_labels(STORY, labels(*generous))
    ((found,), _) = review_lots(store, STORY, actor="qa")
    assert found.items == rows.filter(pl.col("annotations") == 3).height == 12


def test_no_overlap_is_insufficient_and_not_a_crash() -> None:
    """Planned or not, with named annotators or without."""
    texts = waiting(30)
    once = [vote(text, "order", "vendor", "ann", lot="l1") for text in texts]
    unnamed = [replace(one, annotator_id=None) for one in once]
    plan = pl.DataFrame({"example_id": [identity(text) for text in texts], "annotations": [2] * 30})
    for votes in (once, unnamed):
        frames = (examples(*(example(text) for text in texts)), labels(*votes))
        own = lot_votes(*frames, POLICY)
        (found,) = review(own, POLICY)
        assert (found.overlap.status, found.outcome, found.kappa) == (Status.INSUFFICIENT, "unmeasured", None)
        assert found.verdict.status is Status.INSUFFICIENT
        promised = overlap_verdict("l1", "en", own, plan)
        assert (promised.status, promised.blocking) == (Status.INSUFFICIENT, True)
