"""One label per example, by a policy that can be read off the result."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.labels.rows import BEFORE, NOW, POLICY, example, examples, identity, labels, vote

from mangaassist.core.errors import InputError
from mangaassist.core.story import LabelPolicy
from mangaassist.labels.consensus import consensus, votes_on
from mangaassist.labels.records import EXAMPLE_COLUMNS, LABELS_TABLE, Label, family, frame_schema

ONE = examples(example("hello"))


def settle(*rows: Label) -> dict[str, object]:
    """The one row that comes of votes on one example."""
    frame = consensus(ONE, labels(*rows), POLICY)
    assert frame.columns == list(EXAMPLE_COLUMNS)
    assert frame.height == 1
    return frame.row(0, named=True)


def test_the_first_source_of_the_policy_decides() -> None:
    """LAB-3: several sources on one example; the vendor outranks any number of rules."""
    row = settle(
        vote("hello", "greeting", "vendor_north", "ann"),
        vote("hello", "chitchat", "programmatic", "rule-1"),
        vote("hello", "chitchat", "programmatic", "rule-2"),
        vote("hello", "chitchat", "llm", "model-1"),
    )
    assert row["label"] == "greeting"
    assert row["source"] == "vendor"
    assert row["sources"] == "llm,programmatic,vendor"
    assert (row["votes"], row["agreement"], row["resolved_by"]) == (1, 1.0, "unanimous")
    assert row["holdout_eligible"] is True


@pytest.mark.parametrize(
    ("rows", "label", "resolved_by", "agreement"),
    [
        ([("a", "x", None), ("b", "x", None), ("c", "y", None)], "x", "majority", 2 / 3),
        ([("a", "x", 0.5), ("b", "y", 0.9)], "y", "confidence", 0.5),
        ([("a", "x", None), ("b", "y", 0.9)], "x", "confidence", 0.5),
        ([("a", "y", None), ("b", "x", None)], "x", "order", 0.5),
    ],
)
def test_majority_then_confidence_then_order(
    rows: list[tuple[str, str, float | None]], label: str, resolved_by: str, agreement: float
) -> None:
    """A tie is broken by rule and is kept out of hold-outs."""
    row = settle(*(vote("hello", chosen, "vendor", who, confidence=sure) for who, chosen, sure in rows))
    assert (row["label"], row["resolved_by"]) == (label, resolved_by)
    assert row["agreement"] == pytest.approx(agreement)
    assert row["holdout_eligible"] is (resolved_by == "majority")


def test_other_sources_break_a_tie_of_the_first() -> None:
    """They have no vote while the first source is decided, and the casting one when it is not."""
    row = settle(
        vote("hello", "x", "vendor", "a"), vote("hello", "y", "vendor", "b"), vote("hello", "y", "llm", "m")
    )
    assert (row["label"], row["resolved_by"], row["votes"]) == ("y", "other_sources", 2)


def test_the_senior_annotator_wins() -> None:
    """LAB-4: disagreements are escalated to a senior annotator."""
    row = settle(
        vote("hello", "x", "vendor", "a"),
        vote("hello", "x", "vendor", "b"),
        vote("hello", "y", "vendor", "senior", escalation=True),
    )
    assert (row["label"], row["resolved_by"], row["votes"]) == ("y", "escalation", 3)
    assert row["agreement"] == pytest.approx(1 / 3)
    assert row["holdout_eligible"] is True


def test_a_later_version_replaces_and_a_withdrawal_removes() -> None:
    """LAB-8: edits are new records; the tables only grow."""
    first = labels(vote("hello", "x", "vendor", "a"), vote("hello", "x", "llm", "m"), version=1)
    edited = labels(vote("hello", "y", "vendor", "a"), version=2)
    withdrawn = labels(vote("hello", "y", "vendor", "a"), version=3, status="withdrawn")
    assert consensus(ONE, pl.concat([edited, first]), POLICY)["label"].to_list() == ["y"]
    left = consensus(ONE, pl.concat([withdrawn, first, edited]), POLICY)
    assert left.select("label", "source", "sources").rows() == [("x", "llm", "llm")]


def test_a_named_annotator_has_one_vote_and_anonymous_votes_all_count() -> None:
    """The same text under two labels in one file is a conflict to resolve, not a correction."""
    named = settle(
        vote("hello", "x", "vendor", "a"),
        vote("hello", "y", "vendor", "a", labeled_at=NOW + timedelta(seconds=1)),
    )
    assert (named["label"], named["votes"]) == ("y", 1)
    anonymous = settle(vote("hello", "x", "vendor"), vote("hello", "y", "vendor"))
    assert (anonymous["votes"], anonymous["resolved_by"]) == (2, "order")


def test_only_accepted_votes_of_accepted_sources_count() -> None:
    """LAB-4: drafts and rejected lots do not; neither does a source the policy dropped."""
    passed = labels(vote("hello", "x", "llm", "m"))
    draft = labels(vote("hello", "y", "vendor", "a"), status="draft")
    failed = labels(vote("hello", "y", "vendor", "b"), status="qa_failed")
    both = pl.concat([passed, draft, failed])
    assert consensus(ONE, both, POLICY)["label"].to_list() == ["x"]
    assert consensus(ONE, both, replace(POLICY, sources=("vendor", "programmatic"))).is_empty()


def test_a_flagged_lot_stays_out_of_hold_outs() -> None:
    """LAB-4: between the two floors a lot is accepted but never judges a model."""
    row = settle(vote("hello", "x", "vendor", "a", metadata={"holdout": False}))
    assert (row["label"], row["holdout_eligible"]) == ("x", False)


def test_votes_for_one_role_leave_the_other_alone() -> None:
    """A training file must not overwrite the golden label of the same text."""
    both = examples(example("hello", role="golden"), example("hello"))
    rows = labels(vote("hello", "right", "vendor", role="golden"), version=1)
    later = labels(vote("hello", "wrong", "vendor", role="train"), version=2)
    found = consensus(both, pl.concat([rows, later]), POLICY)
    assert found.select("role", "label").rows() == [("golden", "right"), ("train", "wrong")]
    shared = consensus(both, labels(vote("hello", "any")), POLICY)
    assert shared["label"].to_list() == ["any", "any"]


def test_an_example_is_as_last_captured() -> None:
    """Its newest capture decides group, time and attributes."""
    old = example("Hello", captured_at=BEFORE - timedelta(days=90), group_id="c1")
    new = example("hello", group_id="c2", attributes={"device": "ios"})
    found = consensus(examples(new, old), labels(vote("hello", "x")), POLICY)
    assert found.select("example_id", "group_id", "captured_at", "attributes").rows() == [
        (identity("hello"), "c2", BEFORE, '{"device":"ios"}')
    ]


Votes = list[tuple[str, str, str, str | None, float | None, bool]]
VOTES = st.lists(
    st.tuples(
        st.sampled_from(["t1", "t2", "t3"]),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from(["vendor_a", "vendor", "programmatic", "llm"]),
        st.sampled_from([None, "p", "q", "r", "s"]),
        st.sampled_from([None, 0.25, 0.5, 1.0]),
        st.booleans(),
    ),
    max_size=25,
    unique_by=lambda row: (row[0], row[2], row[3] or object()),
)


def naive(rows: Votes) -> dict[str, tuple[str, float]]:
    """The policy as a loop over one example after another."""
    found = {}
    for text in {row[0] for row in rows}:
        own = [row for row in rows if row[0] == text]
        ranked = [(-1 if row[5] else POLICY.sources.index(row[2].split("_")[0]), row) for row in own]
        best = min(rank for rank, _ in ranked)
        ballot = [row for rank, row in ranked if rank == best]
        count, anywhere = Counter(row[1] for row in ballot), Counter(row[1] for row in own)
        weight: Counter[str] = Counter()
        for row in ballot:
            weight[row[1]] += 1.0 if row[4] is None else row[4]  # type: ignore[assignment]
        label = min(count, key=lambda one: (-count[one], -weight[one], -anywhere[one], one))
        families = {row[2].split("_")[0] for row in ballot}
        if len(families) > 1:
            continue
        of_source = [row for row in own if row[2].split("_")[0] in families]
        found[text] = (label, sum(row[1] == label for row in of_source) / len(of_source))
    return found


def in_any_order(
    rows: Votes, seed: int, policy: LabelPolicy
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Examples, their votes and the consensus, which no order of rows changes."""
    texts = examples(*(example(text) for text in ("t1", "t2", "t3")))
    given_votes = labels(
        *(
            vote(text, label, source, who, confidence=sure, escalation=senior)
            for text, label, source, who, sure, senior in rows
        )
    )
    frame = consensus(texts, given_votes, policy)
    shuffled = consensus(texts.sample(fraction=1, shuffle=True, seed=seed), given_votes[::-1], policy)
    assert frame.equals(shuffled)
    return texts, given_votes, frame


@settings(max_examples=60, deadline=None)
@given(rows=VOTES, seed=st.integers(0, 2**16))
def test_it_does_what_the_loop_does_in_any_order(rows: Votes, seed: int) -> None:
    """The vectorised policy against its slow twin, on shuffled rows."""
    _, _, frame = in_any_order(rows, seed, POLICY)
    names = {identity(text): text for text in ("t1", "t2", "t3")}
    got = {names[row["example_id"]]: (row["label"], row["agreement"]) for row in frame.iter_rows(named=True)}
    expected = naive(rows)
    assert {text: got[text] for text in expected} == {
        text: (label, pytest.approx(share)) for text, (label, share) in expected.items()
    }
    assert set(got) == {row[0] for row in rows}


def test_no_votes_no_rows() -> None:
    """An unlabelled example is not an example yet."""
    nothing = pl.DataFrame(schema=frame_schema(LABELS_TABLE))
    assert consensus(ONE, nothing, POLICY).columns == list(EXAMPLE_COLUMNS)
    assert votes_on(ONE, nothing, POLICY).is_empty()


def test_any_source_is_accepted_where_the_policy_says_so_and_trusted_least() -> None:
    """LAB-3: a team's own source names count, each as a source of its own."""
    policy = LabelPolicy(sources=("vendor", "*"))
    assert family("vendor_north", policy) == "vendor"
    assert family("support-tickets", policy) == "support-tickets"
    with pytest.raises(InputError, match="label source"):
        family("support tickets", policy)
    with pytest.raises(InputError, match="label source"):
        family("support-tickets", LabelPolicy(sources=("vendor",)))


MAJORITY, MODEL = replace(POLICY, combination="majority"), replace(POLICY, combination="model")


def combined(policy: LabelPolicy, *votes: Label) -> dict[str, object]:
    return consensus(ONE, labels(*votes), policy).row(0, named=True)


def test_a_majority_of_sources_outvotes_the_first() -> None:
    """Issue 3, labels 4: one vote for each source, however many annotators it has."""
    given = (
        vote("hello", "x", "vendor", "a"),
        vote("hello", "x", "vendor", "b"),
        vote("hello", "y", "programmatic", "rules"),
        vote("hello", "y", "llm", "m"),
    )
    row = combined(MAJORITY, *given)
    assert (row["label"], row["resolved_by"], row["source"]) == ("y", "majority", "programmatic")
    assert (row["votes"], row["agreement"], row["holdout_eligible"]) == (4, 0.5, True)
    assert settle(*given)["label"] == "x"


def test_a_tie_of_sources_goes_to_the_first_and_judges_nobody() -> None:
    row = combined(MAJORITY, vote("hello", "y", "llm", "m"), vote("hello", "x", "vendor", "a"))
    assert (row["label"], row["resolved_by"], row["holdout_eligible"]) == ("x", "priority", False)


def test_a_source_of_two_minds_has_no_voice() -> None:
    """The vendor's annotators disagree, so the other two sources decide; alone it is as under priority."""
    split = (vote("hello", "x", "vendor", "a"), vote("hello", "z", "vendor", "b"))
    row = combined(MAJORITY, *split, vote("hello", "y", "llm", "m"))
    assert (row["label"], row["resolved_by"]) == ("y", "unanimous")
    alone = combined(MAJORITY, *split)
    assert (alone["label"], alone["resolved_by"]) == ("x", "order")


@pytest.mark.parametrize("policy", [MAJORITY, MODEL])
def test_the_senior_annotator_wins_under_every_policy(policy: LabelPolicy) -> None:
    row = combined(
        policy,
        vote("hello", "x", "vendor", "a"),
        vote("hello", "x", "llm", "m"),
        vote("hello", "y", "vendor", "s", escalation=True),
    )
    assert (row["label"], row["resolved_by"]) == ("y", "escalation")


def test_the_model_learns_whom_to_trust() -> None:
    """Two annotators who agree elsewhere outweigh three who answer at random."""
    generator = np.random.default_rng(5)
    texts = [f"t{number}" for number in range(120)]
    truth = dict(zip(texts, generator.choice(["x", "y", "z"], size=len(texts)), strict=True))
    given = [
        vote(text, truth[text], source, who)
        for text in texts
        for source, who in (("vendor", "a"), ("llm", "m"))
    ]
    given += [
        vote(text, str(generator.choice(["x", "y", "z"])), "programmatic", who)
        for text in texts
        for who in ("p", "q", "r")
    ]
    table = examples(*(example(text) for text in texts))
    found = consensus(table, labels(*given), MODEL)
    expected = {identity(text): label for text, label in truth.items()}
    right = [row["label"] == expected[row["example_id"]] for row in found.iter_rows(named=True)]
    assert np.mean(right) > 0.97
    assert set(found["resolved_by"]) <= {"unanimous", "model", "improbable"}
    doubtful = found.filter(pl.col("resolved_by") == "improbable")
    assert not doubtful["holdout_eligible"].any()


@settings(max_examples=40, deadline=None)
@given(rows=VOTES, seed=st.integers(0, 2**16), policy=st.sampled_from([MAJORITY, MODEL]))
def test_every_policy_labels_the_same_examples_in_any_order(
    rows: Votes, seed: int, policy: LabelPolicy
) -> None:
    """Policies differ in the label; not in that there is exactly one, nor in that order is no part of it."""
    texts, given_votes, frame = in_any_order(rows, seed, policy)
    by_priority = consensus(texts, given_votes, POLICY)
    assert frame.select("example_id", "role", "sources").equals(
        by_priority.select("example_id", "role", "sources")
    )


@settings(max_examples=60, deadline=None)
@given(rows=VOTES)
def test_the_majority_is_what_a_loop_finds(
    rows: Votes,
) -> None:
    """Sources that made up their mind, one voice each, ties to the first: against the slow twin."""
    plain = [(*row[:5], False) for row in rows]
    votes = [vote(text, label, source, who, confidence=sure) for text, label, source, who, sure, _ in plain]
    frame = consensus(examples(*(example(text) for text in ("t1", "t2", "t3"))), labels(*votes), MAJORITY)
    got = dict(frame.select("example_id", "label").rows())
    for text in {row[0] for row in plain}:
        voices = []
        for source in POLICY.sources:
            own = Counter(row[1] for row in plain if row[0] == text and row[2].split("_")[0] == source)
            top = [label for label, count in own.items() if count == max(own.values())]
            if len(top) == 1:
                voices.append(top[0])
        if voices:
            count = Counter(voices)
            best = max(voices, key=lambda label: (count[label], -voices.index(label)))
            assert got[identity(text)] == best
