"""Labelling functions: asked, combined, reported, and what happens when one of them is wrong."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.labels.rows import NOW, STORY, example, examples, identity, labels, vote

from mangaassist.core.errors import Conflict, GateRefused, InputError
from mangaassist.labels.function_report import report
from mangaassist.labels.functions import (
    Ballot,
    PatternFunction,
    RuleSet,
    agreed,
    combine,
    labelling_function,
    poll,
)
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.labellers import ROLLED_BACK, Labeller, in_force, register, state
from mangaassist.labels.records import Example, Label
from mangaassist.labels.votes import current_votes
from mangaassist.stats.intervals import wilson
from mangaassist.stats.label_model import ABSTAIN


@labelling_function(version="3")
def long_texts(one: Example) -> str | None:
    return "chat" if len(one.text) > 20 else None


REFUND = PatternFunction("refund", "return", r"\brefund\b", unless="no refund")
THANKS = PatternFunction("thanks", "chat", r"^thanks", weight=2.0)
RULES = RuleSet((REFUND, THANKS, long_texts))
TEXTS = ("I want a refund", "Thanks!", "thanks for the refund", "no refund", "a text of many many words")


def ask(rules: RuleSet, *texts: str, classes: tuple[str, ...] = ()) -> Ballot:
    asked = [example(text) for text in texts]
    return poll(rules, asked, [identity(text) for text in texts], classes=classes)


def said(rules: RuleSet, ballot: Ballot) -> list[str | None]:
    codes, _ = combine(rules, ballot)
    return [None if code == ABSTAIN else ballot.classes[code] for code in codes]


def test_functions_speak_or_abstain() -> None:
    ballot = ask(RULES, *TEXTS)
    assert ballot.classes == ("chat", "return")
    assert ballot.votes.tolist() == [[1, -1, -1], [-1, 0, -1], [1, 0, 0], [-1, -1, -1], [-1, -1, 0]]


def test_unanimous_rules_are_silent_where_they_differ() -> None:
    assert said(RULES, ask(RULES, *TEXTS)) == ["return", "chat", None, None, "chat"]
    assert agreed(RULES, example("THANKS")) == ("chat", "thanks")
    assert agreed(RULES, example("thanks for the refund")) is None


def test_weights_decide_and_a_tie_is_silence() -> None:
    """Two against one; where the weights are equal, nobody is right."""
    weighted = RuleSet((REFUND, THANKS, long_texts), "weighted")
    ballot = ask(weighted, *TEXTS)
    assert said(weighted, ballot) == ["return", "chat", "chat", None, "chat"]
    assert combine(weighted, ballot)[1].tolist() == [1.0, 1.0, 0.75, 0.0, 1.0]
    even = RuleSet((REFUND, PatternFunction("thanks", "chat", "thanks")), "weighted")
    assert said(even, ask(even, "thanks for the refund")) == [None]


def test_the_model_trusts_the_function_that_the_others_bear_out() -> None:
    """Three functions; the third contradicts the two that agree with each other, so it loses one to one."""
    votes = np.array([[0, 0, 1], [1, 1, 0]] * 40 + [[0, -1, 1]], dtype=np.int32)
    rules = RuleSet(tuple(PatternFunction(name, "x", name) for name in "abc"), "model")
    codes, confidence = combine(rules, Ballot(("a", "b", "c"), ("x", "y"), votes))
    assert codes[-1] == 0
    assert confidence[-1] > 0.9
    even = RuleSet(rules.functions[:2], "model")
    assert combine(even, Ballot(("a", "b"), ("x", "y"), np.array([[0, 1]], np.int32)))[0].tolist() == [
        ABSTAIN
    ]


@settings(max_examples=100, deadline=None)
@given(
    votes=st.lists(st.lists(st.integers(-1, 2), min_size=3, max_size=3), min_size=1, max_size=8),
    weights=st.tuples(*[st.sampled_from([0.5, 1.0, 2.0])] * 3),
)
def test_combining_is_what_a_loop_does(votes: list[list[int]], weights: tuple[float, ...]) -> None:
    """Unanimous and weighted against their slow twins."""
    functions = tuple(PatternFunction(f"f{j}", "x", "x", weight=one) for j, one in enumerate(weights))
    ballot = Ballot(("f0", "f1", "f2"), ("x", "y", "z"), np.array(votes, dtype=np.int32))
    unanimous, weighted = [], []
    for row in votes:
        totals: Counter[int] = Counter()
        for answer, weight in zip(row, weights, strict=True):
            if answer >= 0:
                totals[answer] += weight  # type: ignore[assignment]
        unanimous.append(next(iter(totals)) if len(totals) == 1 else ABSTAIN)
        best = [label for label, total in totals.items() if total == max(totals.values())]
        weighted.append(best[0] if len(best) == 1 else ABSTAIN)
    assert combine(RuleSet(functions), ballot)[0].tolist() == unanimous
    assert combine(RuleSet(functions, "weighted"), ballot)[0].tolist() == weighted


def test_the_report_counts_coverage_overlap_conflicts_and_precision() -> None:
    """Issue 3, labels 1: conflicts and coverage reported; precision against the vendor with its interval."""
    ballot = ask(RULES, *TEXTS)
    truth = ["return", "chat", "return", None, "other"]
    whole, refund, thanks, long = report(RULES, ballot, truth)
    assert (whole.name, whole.spoken, whole.coverage) == (RULES.version, 3, 0.6)
    assert (refund.coverage, refund.overlap, refund.conflicts) == (0.4, 0.2, 0.2)
    assert (thanks.coverage, thanks.overlap, thanks.conflicts) == (0.4, 0.2, 0.2)
    assert (long.name, long.version, long.labels) == ("long_texts", "3", ("chat",))
    assert refund.precision == wilson(2, 2)
    assert thanks.precision == wilson(1, 2)
    assert long.precision == wilson(0, 2)
    assert whole.precision == wilson(2, 3)
    assert report(RULES, ballot, [None] * 5)[1].precision is None


@pytest.mark.parametrize(
    ("answer", "fragments"),
    [
        (lambda one: {}["x"], ["KeyError: 'x'"]),
        (lambda one: 3, ["a label or None", "3"]),
        (lambda one: "retrun", ["a label of the story", "Did you mean 'return'?"]),
    ],
)
def test_a_function_that_fails_is_named_with_its_example(answer: object, fragments: list[str]) -> None:
    """One clear sentence with the function and the example id."""
    broken = labelling_function(name="broken")(answer)  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        ask(RuleSet((REFUND, broken)), "hello", classes=("return", "chat"))
    for fragment in ["'broken'", identity("hello")[:12], *fragments]:
        assert fragment in str(caught.value)


def test_a_rule_set_knows_its_functions_apart() -> None:
    for functions in ((), (REFUND, REFUND)):
        with pytest.raises(InputError, match="rule set"):
            RuleSet(functions)
    with pytest.raises(InputError, match="weight"):
        RuleSet((PatternFunction("a", "x", "x", weight=0.0),))
    with pytest.raises(InputError, match="combining"):
        RuleSet((REFUND,), "vote")  # type: ignore[arg-type]


def test_the_version_follows_the_code(tmp_path: Path) -> None:
    """A helper in the same file counts, because it changes what the function does."""

    def load(limit: int) -> RuleSet:
        path = tmp_path / f"rules_{limit}.py"
        path.write_text(
            "from mangaassist.labels.functions import labelling_function\n"
            f"LIMIT = {limit}\n"
            "@labelling_function()\n"
            "def long(one):\n"
            "    return 'chat' if len(one.text) > LIMIT else None\n"
        )
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return RuleSet((module.long,))

    first, second = load(5), load(6)
    assert first.version != second.version
    assert first.functions[0].code != second.functions[0].code
    assert load(5).version == first.version
    assert RuleSet((REFUND,)).version != RuleSet((REFUND,), "weighted").version
    source = {"rule": "lambda one: None"}
    with pytest.raises(InputError, match="a function in a file"):
        labelling_function(name="typed")(eval(source["rule"]))


def given_by(version: str, **said_of: str) -> list[Label]:
    return [vote(text, label, "programmatic", version, role="train") for text, label in said_of.items()]


def standing(store: LabelStore) -> set[tuple[str, str]]:
    rows = current_votes(store.labels(STORY)).select("annotator_id", "label").rows()
    return set(rows)


def test_a_new_rule_set_replaces_what_the_old_one_said(store: LabelStore) -> None:
    """Two rule sets are not two witnesses: where the new one is silent, the old label goes too."""
    store.add_examples(STORY, examples(*(example(text) for text in "abc")))
    asked = [identity(text) for text in "abc"]
    old, new = (Labeller("programmatic", version, {"v": version}) for version in ("rules-1", "rules-2"))
    for one, labelled in ((old, given_by("rules-1", a="x", b="x")), (new, given_by("rules-2", a="y", c="y"))):
        register(store, STORY, one, actor="t")
        first = state(store, STORY, one, labelled, asked, actor="t")
        assert first is not None
        assert state(store, STORY, one, labelled, asked, actor="t") is None
    assert standing(store) == {("rules-2", "y")}
    assert current_votes(store.labels(STORY)).height == 2
    assert in_force(store.labels(STORY)) == {"programmatic": "rules-2"}
    kinds = [entry.body["labeller"] for entry in store.ledger.entries(kind="labels.labeller_registered")]
    assert kinds == ["rules-1", "rules-2"]


def test_a_labeller_stands_for_one_thing_and_does_not_come_back(store: LabelStore) -> None:
    labeller = Labeller("programmatic", "rules-1", {"v": 1})
    register(store, STORY, labeller, actor="t")
    register(store, STORY, labeller, actor="t")
    assert len(store.ledger.entries(kind="labels.labeller_registered")) == 1
    with pytest.raises(Conflict, match="a name of its own"):
        register(store, STORY, Labeller("programmatic", "rules-1", {"v": 2}), actor="t")
    with pytest.raises(InputError, match="label source"):
        register(store, STORY, Labeller("crowd", "rules-1", {}), actor="t")
    body = {"source": "programmatic", "labeller": "rules-1", "reason": "precision 0.7"}
    store.ledger.append(kind=ROLLED_BACK, subject="labels/intent", body=body, actor="t", at=NOW)
    with pytest.raises(GateRefused, match=r"precision 0\.7"):
        register(store, STORY, labeller, actor="t")
    assert labels(*given_by("rules-1", a="x")).height == 1
