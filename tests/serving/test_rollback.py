"""From a damaged challenger to every user on the champion again, through the real router and controller."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from tests.promotion.samples import AT, STAGES, add, to_canary, to_champion
from tests.promotion.test_controller import QUICK
from tests.serving.samples import stack
from tests.serving.test_live import flip_a_byte

from mangaassist.core.home import Home
from mangaassist.core.verdict import Action
from mangaassist.promotion.accumulator import EvidenceAccumulator, rebuild
from mangaassist.promotion.controller import Controller
from mangaassist.promotion.rollbacks import rollback_seconds
from mangaassist.promotion.versions import VersionStatus
from mangaassist.serving.prediction_log import OUTCOME_SCHEMA
from mangaassist.serving.router import Arm, Request, assign
from mangaassist.storage.tables import Tables

TICK = timedelta(minutes=5)


def test_a_damaged_canary_is_rolled_back_by_itself(home: Home) -> None:
    """PRO-3, PRO-4, TRN-6: a flipped byte costs nobody an answer, and the canary is gone within two looks."""
    served = stack(home)
    to_champion(served.registry, run="good")
    version = add(served.registry, run="bad")
    flip_a_byte(home, version.artifact)
    to_canary(served.registry, "intent", 2, STAGES[2], at=AT)
    served.pointer.resolve("intent")
    controller = Controller(served.registry, readers=[served.pointer])
    accumulator = EvidenceAccumulator(served.registry.deployment("intent"))
    canary_users, now, looks = set(), AT, 0
    while served.registry.deployment("intent").challenger is not None:
        for n in range(100):
            request = Request("hello", f"r{looks}-{n}", now + timedelta(seconds=1 + n), f"u{n}")
            answer = served.router.serve("intent", request)
            assert answer.prediction.label == "good", "every user got the champion's answer"
            if answer.arm is Arm.CANARY:
                canary_users.add(request.user_id)
                assert answer.records[0].error == "IntegrityError"
            served.log.write(answer.records)
            accumulator.observe([record.as_row() for record in answer.records])
        now, looks = now + TICK, looks + 1
        decision = controller.step(QUICK, accumulator.evidence(now), now)
        assert looks <= 2
    assert canary_users
    assert decision.action is Action.ROLL_BACK
    assert served.registry.get("intent", 2).status is VersionStatus.FAILED_PROMOTION
    ((number, seconds),) = rollback_seconds(served.registry.ledger, "intent")
    assert number == 2
    assert seconds < 60
    live = served.pointer.resolve("intent")
    assert all(assign(live.deployment, str(user)) is Arm.CHAMPION for user in canary_users)
    page = served.registry.ledger.entries(kind="registry.failed")[-1]
    assert page.body["severity"] == "SEV-3"


def test_evidence_from_the_drained_log_is_the_evidence_grown_beside_it(home: Home) -> None:
    """PRO-2, GOV-1: the table a restart reads holds everything the running controller saw."""
    served = stack(home)
    to_champion(served.registry, run="old")
    add(served.registry, run="raise KeyError on odd", files={"manifest.json": b"raise KeyError on odd"})
    to_canary(served.registry, "intent", 2, STAGES[2], at=AT)
    served.pointer.refresh()
    deployment = served.registry.deployment("intent")
    grown = EvidenceAccumulator(deployment)
    for n in range(300):
        at = AT + timedelta(seconds=1 + n)
        answer = served.router.serve("intent", Request("odd" if n % 7 else "返品", f"r{n}", at, f"u{n % 90}"))
        served.log.write(answer.records)
        grown.observe([record.as_row() for record in answer.records])
    tables = Tables.open(home)
    served.log.drain(tables)
    now = AT + 2 * TICK
    outcomes = pl.DataFrame(pl.from_arrow(OUTCOME_SCHEMA.empty_table()))
    again = rebuild(deployment, tables.read("predictions.intent"), outcomes, now=now)
    assert again.evidence(now) == grown.evidence(now)
    assert again.evidence(now).arm("canary").exceptions["KeyError"] > 10
