"""What offline promised beside what canaries saw, and the extended canary that follows from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import orjson
import pytest
from tests.promotion.rollouts import STORY, run
from tests.promotion.samples import AT, add, registry, to_champion
from tests.promotion.traffic import Traffic

from mangaassist.core.home import Home
from mangaassist.core.story import CanaryStage, RolloutPolicy
from mangaassist.core.verdict import Status
from mangaassist.promotion import stages, trust
from mangaassist.promotion.evidence import StageEvidence
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.trust import Pair
from mangaassist.promotion.versions import PROMOTED
from mangaassist.stats.correlation import true_correlation

QUICK = replace(
    STORY,
    rollout=RolloutPolicy(
        shadow=timedelta(hours=2),
        shadow_minimum_n=50,
        stages=(
            CanaryStage("first", 0.05, timedelta(hours=2), 1),
            CanaryStage("last", 0.25, timedelta(hours=12), 100),
        ),
        extended=CanaryStage("between", 0.10, timedelta(hours=6), 1),
        margin=0.5,
    ),
)


def past(pairs: list[tuple[float, float]], error: float = 0.001) -> list[Pair]:
    return [Pair(n, 1, x, error, y, error, n) for n, (x, y) in enumerate(pairs, start=2)]


ALIKE = [(0.01, 0.012), (0.03, 0.028), (-0.02, -0.021), (0.0, 0.001), (0.05, 0.049), (-0.04, -0.038)]


@pytest.mark.parametrize(
    ("pairs", "status", "extended"),
    [
        (ALIKE[:3], Status.INSUFFICIENT, False),
        (ALIKE, Status.PASS, False),
        ([(x, -y) for x, y in ALIKE], Status.FAIL, True),
        ([(0.01, y) for _, y in ALIKE], Status.INSUFFICIENT, False),
    ],
)
def test_the_verdict_and_its_consequence(
    pairs: list[tuple[float, float]], status: Status, extended: bool
) -> None:
    """EVA-3: below .6 the next canary is extended; fewer than four retrains say nothing."""
    found = trust.verdict(QUICK, past(pairs))
    assert (found.status, found.blocking) == (status, False)
    assert bool(trust.extension(QUICK, found)) == extended


def test_only_the_last_six_count() -> None:
    old = [(x, -y) for x, y in ALIKE]
    assert trust.verdict(QUICK, past([*old, *ALIKE])).status is Status.PASS


def test_noise_is_taken_out() -> None:
    """EVA-3: the value is that of the true changes; recorded noise widens what is known about it."""
    x, y = np.array(ALIKE).T
    variance = np.full(6, 0.02**2)
    noisy, exact = trust.verdict(QUICK, past(ALIKE, error=0.02)), trust.verdict(QUICK, past(ALIKE, error=0.0))
    assert noisy.value == true_correlation(x, y, variance, variance).estimate.value
    assert noisy.low is not None
    assert exact.low is not None
    assert noisy.low < exact.low


def test_the_plan_with_the_extended_stage() -> None:
    """EVA-3: 10% for 14 days, at its place in the ramp and instead of a stage of the same share."""
    policy = RolloutPolicy()
    assert stages.planned(policy, "") == policy
    made = stages.planned(policy, "because")
    assert [one.share for one in made.stages] == [0.01, 0.05, 0.10, 0.25]
    assert made.stages[2].lasts == timedelta(days=14)
    tenth = replace(policy, stages=(CanaryStage("tenth", 0.10, timedelta(days=1), 1),))
    assert stages.planned(tenth, "because").stages == (policy.extended,)


@pytest.fixture
def target(home: Home) -> Registry:
    made = registry(home)
    to_champion(made, run="a")
    return made


def test_an_extended_canary_goes_through_its_stage(target: Registry) -> None:
    """EVA-3: a story that is always extended; the reason is on record, and the next rollout asks again."""
    always = replace(QUICK, rollout=replace(QUICK.rollout, always_extended=True))
    add(target, run="b")
    target.start_shadow("intent", 2, actor="policy", at=AT)
    found = run(target, Traffic(per_tick=30.0), story=always)
    assert [stage for stage, _ in found.moves] == ["first", "between", "last", "full"]
    assert "always extends" in found.moves[0][1].reason
    assert trust.NAME in {one.name for one in found.moves[0][1].verdicts}
    assert target.deployment("intent").extended == ""


def test_pairs_come_from_the_evidence_of_the_deciding_look(target: Registry) -> None:
    """EVA-3: online change and its error from the stored evidence, offline ones from the registration."""
    version = target.register(
        "intent",
        artifact=target.artifacts.put_files({"manifest.json": b"b"}),
        tags=target.get("intent", 1).tags,
        metrics={"against": {"champion": 1, "difference": 0.02, "error": 0.004}},
        gate=target.get("intent", 1).gate,
        run_id="b",
        actor="retrain",
        at=AT,
    )
    target.start_shadow("intent", version.number, actor="policy", at=version.registered_at)
    run(target, Traffic(per_tick=30.0, resolved={"champion": 0.7, "challenger": 0.8}), story=QUICK)
    [pair] = trust.pairs(target, "intent")
    assert (pair.version, pair.champion, pair.offline, pair.offline_error) == (2, 1, 0.02, 0.004)
    entry = target.ledger.entries(subject="registry/intent", kind=PROMOTED)[-1]
    body = orjson.loads(target.artifacts.get(entry.body["evidence"]))
    evidence = StageEvidence.from_dict(body)
    assert evidence.as_dict() == body
    n, s = (getattr(evidence.arm("canary").rate("resolved"), key) for key in ("n", "s"))
    m, t = (getattr(evidence.arm("holdout").rate("resolved"), key) for key in ("n", "s"))
    assert pair.online == pytest.approx(s / n - t / m)
    assert abs(pair.online - 0.1) < 4 * pair.online_error
