"""Gate policies as documents: they read back, and what is wrong is said with its line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mangaassist.core.errors import InputError
from mangaassist.core.gate_policy import plain, policy_document, under_policy
from mangaassist.core.story import CanaryStage, Enforced, Story, Threshold
from mangaassist.core.verdict import Status, Verdict, decide, enforce

STORY = Story(
    "intent",
    "text-classification",
    "What a shopper wants.",
    thresholds=(Threshold("golden.accuracy", 0.9, 0.002), Threshold("golden.coverage", 0.85, blocking=False)),
    enforced=(Enforced("bias.*", "block"),),
)


def test_a_storys_own_document_changes_nothing() -> None:
    """PRO-6: the policy of a story, written out and read again, is the same policy."""
    assert under_policy(STORY, plain(policy_document(STORY)), source="own") == STORY


def test_a_document_replaces_what_it_names() -> None:
    text = """
gate: intent
thresholds:
  golden.accuracy: {minimum: 95%}
  slice.language=ja: {minimum: 0.8, blocking: false}
verdicts: {canary.rule.latency: flag}
rollout:
  hold: 36h
  always_extended: true
  stages:
    - {name: first, share: 2%, lasts: 1d, minimum_n: 10}
    - {name: last, share: 20%, lasts: 90m, minimum_n: 20}
  rules: {error_ratio: 3, silence: 10m}
"""
    made = under_policy(STORY, text, source="policy.yaml")
    assert made.thresholds == (
        Threshold("golden.accuracy", 0.95),
        Threshold("slice.language=ja", 0.8, blocking=False),
    )
    assert made.enforced == (Enforced("canary.rule.latency", "flag"),)
    assert made.rollout.hold == timedelta(hours=36)
    assert made.rollout.stages[1] == CanaryStage("last", 0.2, timedelta(minutes=90), 20)
    assert made.rollout.always_extended
    assert (made.rollout.rules.error_ratio, made.rollout.rules.silence) == (3, timedelta(minutes=10))
    assert made.rollout.shadow == STORY.rollout.shadow
    assert made.digest != STORY.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gate: intend\n", "policy.yaml, line 1: gate"),
        ("thresholds: {}\n", "line 1: gate"),
        ("gate: intent\nverdict: {}\n", "Did you mean 'verdicts'"),
        ("gate: intent\nthresholds:\n  accuracy: {minimum: 1}\n", "line 3: thresholds.accuracy"),
        ("gate: intent\nthresholds:\n  golden.accuracy: {blocking: true}\n", "a minimum or a regression"),
        ("gate: intent\nverdicts:\n  a.b: maybe\n", "line 3: verdicts.a.b"),
        ("gate: intent\nrollout:\n  hold: 3 days\n", "line 3: rollout.hold"),
        ("gate: intent\nrollout:\n  rules:\n    error_ration: 2\n", "error_ratio"),
        (
            "gate: intent\nrollout:\n  stages:\n"
            "    - {name: a, share: 5%, lasts: 1d, minimum_n: 1}\n"
            "    - {name: b, share: 1%, lasts: 1d, minimum_n: 1}\n",
            "line 5: rollout.stages[1]",
        ),
        ("gate: intent\nrollout:\n  stages:\n    - {name: a, share: 5%, lasts: 1d}\n", "minimum_n"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        under_policy(STORY, text, source="policy.yaml")
    assert said in str(caught.value)


def test_a_policy_blocks_flags_and_leaves_out() -> None:
    """The last rule that fits counts; a verdict that is off is not there, and nothing left holds."""
    from tests.promotion.samples import AT

    verdicts = [Verdict("a.x", Status.FAIL, "Bad."), Verdict("b", Status.PASS, "Good.", blocking=False)]
    flagged = enforce(verdicts, (Enforced("a.*", "off"), Enforced("a.x", "flag"), Enforced("b", "block")))
    assert [(one.name, one.blocking) for one in flagged] == [("a.x", False), ("b", True)]
    assert decide("s", flagged, actor="t", at=AT).action == "promote"
    assert enforce(verdicts, (Enforced("*", "off"),)) == []
    assert decide("s", [], actor="t", at=AT).action == "hold"
