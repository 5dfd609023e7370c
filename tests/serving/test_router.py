"""Routing: who goes where, who stays there, and what a failing model costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.promotion.samples import AT, HOLDOUT, STAGES, add, failing, passing, to_canary, to_champion
from tests.serving.samples import Stack, stack

from mangaassist.core.home import Home
from mangaassist.core.identity import digest_bytes
from mangaassist.core.language import Language
from mangaassist.core.story import Prediction
from mangaassist.promotion.versions import Deployment
from mangaassist.serving.router import Arm, Request, Router, assign, bucket

USERS = [f"user-{number}" for number in range(4000)]


def deployed(share: float, *, stage: str = "canary_1", salt: str = "s", holdout: float = 0.75) -> Deployment:
    return Deployment(
        "intent", epoch=4, champion=1, challenger=2, stage=stage, salt=salt, share=share, holdout=holdout
    )


@given(user=st.text(max_size=40), salt=st.text(max_size=10))
@settings(max_examples=200)
def test_a_ramp_never_moves_a_user_out_of_the_canary(user: str, salt: str) -> None:
    """PRO-2: sticky assignment through 1%, 5% and 25%; the hold-out never meets the challenger."""
    arms = [assign(deployed(share, salt=salt), user) for share in (0.01, 0.05, 0.25)]
    seen_canary = False
    for arm in arms:
        assert not (seen_canary and arm is not Arm.CANARY)
        seen_canary = seen_canary or arm is Arm.CANARY
    assert (arms[0] is Arm.HOLDOUT) == (arms[2] is Arm.HOLDOUT)
    assert not (Arm.HOLDOUT in arms and Arm.CANARY in arms)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25])
def test_shares_are_what_they_say(share: float) -> None:
    """PRO-2: within 4 standard errors of the binomial, for a fixed set of users."""
    arms = [assign(deployed(share), user) for user in USERS]
    for arm, expected in ((Arm.CANARY, share), (Arm.HOLDOUT, 0.75)):
        spread = 4 * (expected * (1 - expected) / len(USERS)) ** 0.5
        assert abs(arms.count(arm) / len(USERS) - expected) < spread


def test_salts_are_unrelated() -> None:
    """PRO-2: who meets one challenger says nothing about who meets the next (r within 4/sqrt(n))."""
    import numpy as np

    first = np.array([bucket("a", user) for user in USERS])
    second = np.array([bucket("b", user) for user in USERS])
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / len(USERS) ** 0.5
    assert abs(first.mean() - 0.5) < 4 * (1 / 12 / len(USERS)) ** 0.5


def test_a_holdout_wins_where_shares_overlap() -> None:
    """PRO-2: there is always somebody to compare with, even at a share of 100%."""
    arms = {assign(deployed(1.0, holdout=0.05), user) for user in USERS}
    assert arms == {Arm.CANARY, Arm.HOLDOUT}


def test_without_challenger_traffic_everybody_gets_the_champion() -> None:
    """PRO-8: a kill switch takes the challenger from users at once."""
    arms = {assign(deployed(1.0), user, challenger_traffic=False) for user in USERS}
    assert arms == {Arm.CHAMPION}


def test_before_the_first_model(home: Home) -> None:
    """PRO-1: a story without a model abstains and says why; the request is still in the log."""
    answer = stack(home).ask()
    assert answer.prediction.abstains
    assert answer.version is None
    assert "No version answers" in answer.reason
    assert len(answer.records) == 1
    assert answer.records[0].version is None


def test_the_first_version_goes_through_shadow_and_canary(home: Home) -> None:
    """PRO-1: hold-out users of a first version get no answer yet."""
    served = stack(home)
    add(served.registry, run="r1", files={"manifest.json": b"first"})
    served.registry.start_shadow("intent", 1, actor="p", at=AT)
    served.pointer.refresh()
    answer = served.ask()
    assert answer.version is None
    assert [record.arm for record in answer.records] == ["champion", "shadow"]
    decision = passing("intent/1")
    served.registry.advance("intent", 1, stage=STAGES[2], holdout=HOLDOUT, decision=decision)
    served.pointer.refresh()
    answers = [served.ask(request_id=user, user=user) for user in USERS[:400]]
    by_arm = {arm: [one for one in answers if one.arm is arm] for arm in Arm}
    assert {one.version for one in by_arm[Arm.CANARY]} == {1}
    assert {one.version for one in by_arm[Arm.HOLDOUT]} == {None}
    assert all("No version answers" in one.reason for one in by_arm[Arm.HOLDOUT])


def test_shadow_answers_nobody(home: Home) -> None:
    """PRO-2: users get the champion, the copy goes to the log with the request it belongs to."""
    served = stack(home)
    to_champion(served.registry, run="old")
    add(served.registry, run="new")
    served.registry.start_shadow("intent", 2, actor="p", at=AT)
    served.pointer.refresh()
    answer = served.ask(request_id="q1")
    assert (answer.version, answer.prediction.label) == (1, "old")
    real, copy = answer.records
    assert (real.arm, real.version, real.shadow_of) == ("champion", 1, None)
    assert (copy.arm, copy.version, copy.shadow_of, copy.label) == ("shadow", 2, "q1", "new")
    assert copy.request_id != real.request_id


def canary_of(home: Home, name: bytes) -> tuple[Stack, str]:
    """A stack whose canary at 25% is the toy ``name``, and a user in that canary."""
    served = stack(home)
    to_champion(served.registry, run="old")
    add(served.registry, run="new", files={"manifest.json": name})
    to_canary(served.registry, "intent", 2, STAGES[2])
    served.pointer.refresh()
    deployment = served.registry.deployment("intent")
    return served, next(user for user in USERS if assign(deployment, user) is Arm.CANARY)


@pytest.mark.parametrize("kind", ["KeyError", "MemoryError"])
def test_a_failing_canary_falls_back_to_the_champion(home: Home, kind: str) -> None:
    """PRO-3: the user gets the champion's answer, the log gets the exception type, nothing raises."""
    served, user = canary_of(home, f"raise {kind}".encode())
    answer = served.ask(user=user)
    assert (answer.version, answer.prediction.label, answer.arm) == (1, "old", Arm.CANARY)
    record = answer.records[0]
    assert (record.error, record.version, record.answered_by, record.arm) == (kind, 2, 1, "canary")


def test_a_failing_champion_abstains(home: Home) -> None:
    """PRO-3: with nobody left to ask, abstaining is the answer."""
    served = stack(home)
    version = add(served.registry, run="bad", files={"manifest.json": b"raise ValueError"})
    to_canary(served.registry, "intent", 1)
    served.registry.promote("intent", 1, decision=passing(version.name))
    served.pointer.refresh()
    answer = served.ask()
    assert answer.prediction.abstains
    assert (answer.version, answer.records[0].error, answer.records[0].label) == (None, "ValueError", None)


def test_one_bad_text_in_a_batch_costs_only_itself(home: Home) -> None:
    served, _ = canary_of(home, b"raise ValueError on poison")
    deployment = served.registry.deployment("intent")
    users = [user for user in USERS if assign(deployment, user) is Arm.CANARY][:5]
    texts = ["fine", "poison", "fine", "fine", "fine"]
    requests = [
        Request(text, f"r{n}", AT, user) for n, (text, user) in enumerate(zip(texts, users, strict=True))
    ]
    answers = served.router.answer_many("intent", requests)
    assert [one.version for one in answers] == [2, 1, 2, 2, 2]
    assert [one.records[0].error for one in answers] == [None, "ValueError", None, None, None]


def test_a_batch_is_its_single_answers(home: Home) -> None:
    """STO-1: batch and single prediction are one path (latency apart)."""
    served, _ = canary_of(home, b"new")
    requests = [Request(f"text {n}", f"r{n}", AT, user) for n, user in enumerate(USERS[:200])]
    many = served.router.answer_many("intent", requests)
    single = [served.router.answer("intent", request) for request in requests]
    assert [(a.request_id, a.arm, a.version, a.prediction) for a in many] == [
        (a.request_id, a.arm, a.version, a.prediction) for a in single
    ]


def test_latency_is_told_by_the_timer_that_was_given(home: Home) -> None:
    """PRO-3: a shop that shares its machine may measure processor time; a batch shares what it took."""
    served, _ = canary_of(home, b"new")
    ticks = count(step=0.006)
    router = Router(served.pointer, served.server, timer=lambda: next(ticks))
    requests = [Request("text", f"r{n}", AT) for n in range(3)]
    assert [one.latency_ms for one in router.answer_many("intent", requests[:1])] == [pytest.approx(6.0)]
    arms = {one.arm: one.latency_ms for one in router.answer_many("intent", requests)}
    assert sum(arms[one.arm] for one in router.answer_many("intent", requests)) == pytest.approx(
        6.0 * len(arms)
    )


def test_the_row_says_everything_but_the_text(home: Home) -> None:
    """GOV-1: request id, versions, language, cohort, arm, latency; no raw text and no user id."""
    served, user = canary_of(home, b"new")
    text = "返品したい order 42"
    answer = served.router.answer("intent", Request(text, "r1", AT, user, cohort="new", device="ios"))
    record = answer.records[0]
    assert (record.language, record.cohort, record.device) == (str(Language.MIXED), "new", "ios")
    assert record.text_length == len(text)
    assert record.japanese_share == pytest.approx(5 / 12)
    assert record.unknown_share == 0.25
    assert record.latency_ms > 0
    row = repr(record.as_row())
    assert text not in row
    assert user not in row


def test_models_read_no_personal_data(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """GOV-2: answer, shadow copy and the logged digest are of the text intake would store."""
    served = stack(home)
    to_champion(served.registry, run="old")
    add(served.registry, run="new")
    served.registry.start_shadow("intent", 2, actor="p", at=AT)
    served.pointer.refresh()
    read: list[str] = []
    predict = served.server.predict

    def listen(story: str, number: int, texts: Sequence[str]) -> list[Prediction]:
        read.extend(texts)
        return predict(story, number, texts)

    monkeypatch.setattr(served.server, "predict", listen)
    text = "商品の件で mail taro@example.com"
    records = served.router.serve("intent", Request(text, "r1", AT, "u1")).records
    assert read == ["商品の件で mail [EMAIL]"] * 2
    assert [one.version for one in records] == [1, 2]
    assert {one.input_digest for one in records} == {digest_bytes(read[0].encode())}
    assert {one.text_length for one in records} == {len(text)}


def test_a_user_is_let_out_of_a_failed_canary(home: Home) -> None:
    """PRO-4: after the rollback the same user gets the champion."""
    served, user = canary_of(home, b"new")
    assert served.ask(user=user).version == 2
    served.registry.fail("intent", 2, decision=failing("intent/2"))
    served.pointer.refresh()
    assert served.ask(user=user).version == 1


def test_a_freeze_takes_users_and_shadow_copies_from_the_challenger(home: Home) -> None:
    """PRO-8: champion stays, challenger gets no traffic, and lifting it gives the same users back."""
    served, user = canary_of(home, b"new")
    served.registry.switches.freeze(True, actor="mei", reason="SEV-1", at=AT)
    served.pointer.refresh()
    answer = served.ask(user=user)
    assert (answer.version, answer.arm) == (1, Arm.CHAMPION)
    served.registry.switches.freeze(False, actor="mei", reason="over", at=AT)
    served.pointer.refresh()
    assert served.ask(user=user).version == 2


def test_a_lone_surrogate_is_just_another_text(home: Home) -> None:
    served = stack(home)
    to_champion(served.registry, run="old")
    served.pointer.refresh()
    assert served.ask("\ud800 broken").version == 1
