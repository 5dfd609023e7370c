"""The weekly audit: a random sample, judged once the vendor has labelled it, and the way back (LAB-6)."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from tests.labels.rows import STORY, example, examples, identity, labels, vote

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import GateRefused, InputError
from mangaassist.core.verdict import Status
from mangaassist.labels.audits import MINIMUM, SAMPLE, Audit, audit
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.labellers import ROLLED_BACK, Labeller, register, state
from mangaassist.labels.quality import precision_verdicts
from mangaassist.labels.votes import current_votes
from mangaassist.stats.intervals import clopper_lower

TEXTS = [f"text {number}" for number in range(700)]
SAID = "rules-2 was rolled back on 2026-11-22:"
NAMES = {identity(text): text for text in TEXTS}


def label_all(store: LabelStore, version: str, texts: list[str], *, wrong: set[str]) -> None:
    """Let a rule set say "x", or "y" about the texts in ``wrong``."""
    labeller = Labeller("programmatic", version, {"v": version})
    register(store, STORY, labeller, actor="t")
    now = store.clock.now()
    given = [
        vote(text, "y" if text in wrong else "x", "programmatic", version, role="train", labeled_at=now)
        for text in texts
    ]
    state(store, STORY, labeller, given, [identity(text) for text in texts], actor="t")


def vendor_says_x(store: LabelStore, ids: list[str], by: str = "ann") -> None:
    now = store.clock.now()
    rows = [vote(NAMES[one], "x", "vendor", by, labeled_at=now) for one in ids]
    store.add_labels(STORY, labels(*rows))


@pytest.fixture
def ready(store: LabelStore) -> LabelStore:
    store.add_examples(STORY, examples(*(example(text) for text in TEXTS)))
    return store


def only(store: LabelStore, **options: object) -> Audit:
    (found,) = audit(store, STORY, **options)  # type: ignore[arg-type]
    return found


def test_the_week_is_drawn_once_and_says_what_is_missing(ready: LabelStore, clock: SimulatedClock) -> None:
    """500 at random; the same ones all week, others the week after."""
    label_all(ready, "rules-1", TEXTS, wrong=set())
    first = only(ready)
    assert (first.source, first.labeller, first.week, first.drawn) == (
        "programmatic",
        "rules-1",
        "2026-W47",
        SAMPLE,
    )
    assert len(set(first.to_label)) == SAMPLE
    assert first.verdict.status is Status.INSUFFICIENT
    assert "0 of 500 sampled programmatic labels were checked; 500 are still" in first.verdict.sentence
    vendor_says_x(ready, list(first.to_label[:30]))
    clock.advance(timedelta(days=1))
    second = only(ready, apply=True)
    assert set(second.to_label) == set(first.to_label[30:])
    assert (second.verdict.n, second.rolled_back) == (30, False)
    clock.advance(timedelta(days=7))
    third = only(ready)
    assert third.week == "2026-W48"
    assert set(third.to_label) != set(second.to_label)
    assert len(ready.ledger.entries(kind="labels.audit_drawn")) == 2


def test_every_example_has_the_same_chance_vendor_labelled_or_not(ready: LabelStore) -> None:
    """A sample of what the vendor has not seen would judge the labeller by the leftovers."""
    label_all(ready, "rules-1", TEXTS, wrong=set())
    vendor_says_x(ready, [identity(text) for text in TEXTS[:350]])
    found = only(ready)
    seen = SAMPLE - len(found.to_label)
    # Hypergeometric: 500 of 700, half of them seen; six standard deviations are 36.
    assert abs(seen - SAMPLE / 2) < 36


def test_precision_on_the_sample_is_held_against_the_floor(ready: LabelStore) -> None:
    """The exact lower bound passes; only the sampled labels count."""
    label_all(ready, "rules-1", TEXTS, wrong=set())
    drawn = only(ready).to_label
    vendor_says_x(ready, list(drawn))
    found = only(ready)
    assert found.verdict.status is Status.PASS
    assert (found.verdict.value, found.verdict.n, found.to_label) == (1.0, SAMPLE, ())
    assert found.verdict.low == pytest.approx(clopper_lower(SAMPLE, SAMPLE))
    assert found.judged_week == "2026-W47"


def test_a_failing_rule_set_goes_back_to_the_one_before(ready: LabelStore, clock: SimulatedClock) -> None:
    """LAB-6, in the ledger, and the bad version cannot come back."""
    label_all(ready, "rules-1", TEXTS, wrong=set())
    clock.advance(timedelta(days=2))
    bad = set(TEXTS[::5])
    label_all(ready, "rules-2", TEXTS[:650], wrong=bad)
    drawn = only(ready).to_label
    vendor_says_x(ready, list(drawn))
    seen = only(ready)
    assert (seen.verdict.status, seen.rolled_back, seen.now_in_force) == (Status.FAIL, False, "rules-2")
    # The audit reads the sample's rows alone; recounted over both whole tables it says the same.
    sampled = ready.examples(STORY).filter(pl.col("example_id").is_in(drawn))
    (full,) = precision_verdicts(sampled, ready.labels(STORY), STORY.labels)
    assert (full.value, full.low, full.high, full.n, full.status) == (
        seen.verdict.value,
        seen.verdict.low,
        seen.verdict.high,
        seen.verdict.n,
        seen.verdict.status,
    )
    gone = only(ready, apply=True, actor="ops")
    assert (gone.labeller, gone.rolled_back, gone.now_in_force) == ("rules-2", True, "rules-1")
    rows = current_votes(ready.labels(STORY))
    rules = {
        row["example_id"]: row for row in rows.iter_rows(named=True) if row["label_source"] == "programmatic"
    }
    assert len(rules) == 700
    assert {(row["annotator_id"], row["label"]) for row in rules.values()} == {("rules-1", "x")}
    entry = ready.ledger.entries(kind=ROLLED_BACK)[0]
    assert (entry.actor, entry.body["labeller"], entry.body["verdict"]["status"]) == (
        "ops",
        "rules-2",
        "fail",
    )
    after = only(ready, apply=True)
    assert (after.labeller, after.rolled_back) == ("rules-1", False)
    with pytest.raises(GateRefused, match="rolled back"):
        label_all(ready, "rules-2", TEXTS, wrong=bad)
    assert ready.ledger.verify().ok


def test_a_roll_back_cut_off_is_completed(ready: LabelStore, clock: SimulatedClock) -> None:
    """The ledger says it before it is done; the next audit does the rest, whatever its evidence."""
    label_all(ready, "rules-1", TEXTS, wrong=set())
    clock.advance(timedelta(days=2))
    label_all(ready, "rules-2", TEXTS, wrong=set())
    body = {"source": "programmatic", "labeller": "rules-2", "reason": "precision 0.7"}
    ready.ledger.append(kind=ROLLED_BACK, subject="labels/intent", body=body, actor="ops", at=clock.now())
    done = only(ready, apply=True)
    assert (done.now_in_force, done.reason) == ("rules-1", f"{SAID} precision 0.7")
    assert len(ready.ledger.entries(kind=ROLLED_BACK)) == 1


def test_a_few_wrong_labels_fail_nobody(ready: LabelStore) -> None:
    """Under a hundred checked, a precision below the floor counts only when the floor is out of reach."""
    generator = np.random.default_rng(2)
    label_all(ready, "rules-1", TEXTS, wrong=set(TEXTS[::6]))
    drawn = list(only(ready).to_label)
    wrong = [one for one in drawn if NAMES[one] in set(TEXTS[::6])]
    right = [one for one in drawn if one not in wrong]
    vendor_says_x(ready, [*wrong[:3], *right[:17]])
    few = only(ready, apply=True)
    assert few.verdict.value == pytest.approx(0.85)
    assert (few.verdict.status, few.rolled_back) == (Status.INSUFFICIENT, False)
    more = generator.permutation(wrong[3:])[:17].tolist()
    vendor_says_x(ready, more)
    hopeless = only(ready)
    assert hopeless.verdict.n == 37 < MINIMUM
    assert hopeless.verdict.status is Status.FAIL


def test_an_unnamed_source_goes_back_to_its_label_version_before(
    ready: LabelStore, clock: SimulatedClock
) -> None:
    """A file of labels without annotators is a labeller nobody can name; its newest delivery goes."""
    first, second = TEXTS[:600], TEXTS[:600]
    ready.add_labels(STORY, labels(*(vote(text, "x", "llm_file") for text in first)))
    clock.advance(timedelta(days=1))
    ready.add_labels(STORY, labels(*(vote(text, "y", "llm_file", labeled_at=clock.now()) for text in second)))
    vendor_says_x(ready, list(only(ready).to_label))
    gone = only(ready, apply=True)
    assert (gone.source, gone.labeller, gone.rolled_back) == ("llm_file", None, True)
    rows = current_votes(ready.labels(STORY))
    assert {row["label"] for row in rows.iter_rows(named=True) if row["label_source"] == "llm_file"} == {"x"}


def test_people_are_not_audited_and_unknown_sources_refused(ready: LabelStore) -> None:
    vendor_says_x(ready, [identity(text) for text in TEXTS[:20]])
    assert audit(ready, STORY) == []
    label_all(ready, "rules-1", TEXTS, wrong=set())
    assert [one.source for one in audit(ready, STORY)] == ["programmatic"]
    with pytest.raises(InputError, match="Did you mean 'programmatic'"):
        audit(ready, STORY, source="programatic")
