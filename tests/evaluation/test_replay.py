"""Replays against worlds whose truth is known: covered with support, refused without."""

from __future__ import annotations

import numpy as np

from mangaassist.core.verdict import Status
from mangaassist.evaluation.replay import Replay, replay_canary, replay_shadow

KINDS = np.array([0.97, 0.9, 0.6])
"""Chance of agreement by kind; how requests end depends on the kind, too."""
GOOD = np.array([0.9, 0.8, 0.3])


def shadow(seed: int, n: int = 3000, gain: float = 0.0) -> Replay:
    generator = np.random.default_rng(seed)
    kind = generator.choice(3, n, p=[0.5, 0.3, 0.2])
    agreed = generator.random(n) < KINDS[kind]
    # Where the two differ, the served answer is worse by ``gain``: the candidate then ends as the kind does.
    resolved = generator.random(n) < GOOD[kind] - np.where(agreed, 0.0, gain)
    return replay_shadow(kind, agreed, resolved, margin=0.05, generator=generator)


def canary(seed: int, effect: float, n: int = 3000) -> Replay:
    generator = np.random.default_rng(seed)
    kind, share = generator.choice(3, n), np.where(np.arange(n) < n // 2, 0.05, 0.25)
    drawn = generator.random(n) < share
    # Later requests are resolved less, and drawn more: arms compared as they are would be biased.
    later = np.where(share > 0.1, -0.2, 0.0)
    resolved = generator.random(n) < np.clip(GOOD[kind] + later + np.where(drawn, effect, 0.0), 0, 1)
    return replay_canary(share, drawn, kind, resolved, margin=0.05, generator=generator)


def test_shadow_intervals_cover_the_truth() -> None:
    """EVA-1: 95% intervals hold what the candidate would have resolved in at least 92% of 200 worlds, and
    agreeing rows alone do not."""
    truth = float(np.array([0.5, 0.3, 0.2]) @ GOOD)
    made = [shadow(seed, gain=0.3) for seed in range(200)]
    for name in ("dr", "snips", "clipped"):
        held = np.mean([one.values[name].low <= truth <= one.values[name].high for one in made])
        assert held >= 0.92, name
    assert all(one.bounds is not None and one.bounds[0] <= truth <= one.bounds[1] for one in made)
    gains = np.array([one.differences["dr"].value for one in made])
    expected = truth - float(np.array([0.5, 0.3, 0.2]) @ (GOOD - (1 - KINDS) * 0.3))
    assert abs(gains.mean() - expected) < 0.003


def test_canary_intervals_cover_the_truth() -> None:
    """EVA-1: known chances of the draw take out that a canary grows while traffic changes."""
    made = [canary(seed, effect=-0.1) for seed in range(200)]
    held = np.mean([one.differences["dr"].low <= -0.1 <= one.differences["dr"].high for one in made])
    assert held >= 0.92
    assert abs(np.mean([one.differences["dr"].value for one in made]) + 0.1) < 0.01


def test_a_worse_candidate_fails_and_an_equal_one_passes() -> None:
    assert canary(1, effect=-0.25, n=20_000).verdict.status is Status.FAIL
    assert shadow(2, n=20_000).verdict.status is Status.PASS
    assert not canary(1, effect=-0.25).verdict.blocking


def test_without_support_there_is_no_number() -> None:
    """EVA-1: a kind of answer the served version never gives, or hardly anybody drawn: refused, and why."""
    generator = np.random.default_rng(3)
    kind = generator.choice(3, 2000)
    agreed = kind != 2
    resolved = generator.random(2000) < 0.8
    refused = replay_shadow(kind, agreed, resolved, margin=0.05, generator=generator)
    assert refused.values == {} == refused.differences
    assert refused.verdict.status is Status.INSUFFICIENT
    assert "never agree" in refused.verdict.sentence
    assert refused.as_dict()["refused"]
    assert refused.bounds is not None
    few = replay_canary(
        np.full(500, 0.01),
        np.arange(500) < 5,
        np.zeros(500, dtype=np.int64),
        resolved[:500],
        margin=0.05,
        generator=generator,
    )
    assert few.values == {}
    assert "effective sample size" in few.verdict.sentence
