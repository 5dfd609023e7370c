"""A whole rollout on simulated time: traffic, accumulator and controller together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from tests.promotion.samples import AT
from tests.promotion.traffic import TICK, Row, Traffic

from mangaassist.core.story import RolloutPolicy, Story
from mangaassist.core.verdict import Decision
from mangaassist.promotion.accumulator import EvidenceAccumulator
from mangaassist.promotion.controller import Controller
from mangaassist.promotion.registry import Registry

SAFETY = ("escalation",)
STORY = Story(
    "intent", "text-classification", "What a shopper wants.", rollout=RolloutPolicy(), safety_critical=SAFETY
)


@dataclass
class Rollout:
    """What happened: every decision that moved something, and when."""

    moves: list[tuple[str, Decision]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    outcomes: list[Row] = field(default_factory=list)
    last: Decision | None = None
    now: datetime = AT
    ticks: int = 0


def run(
    registry: Registry,
    traffic: Traffic,
    *,
    controller: Controller | None = None,
    story: Story = STORY,
    start: datetime = AT,
    ticks: int = 20_000,
    meanwhile: Callable[[datetime], None] = lambda _: None,
) -> Rollout:
    """Play until no challenger is left, or ``ticks`` are over."""
    judge = controller or Controller(registry)
    accumulator = EvidenceAccumulator(registry.deployment(story.name), safety_labels=SAFETY)
    found = Rollout(now=start)
    for _ in range(ticks):
        deployment = registry.deployment(story.name)
        if deployment.challenger is None:
            break
        found.now += TICK
        found.ticks += 1
        meanwhile(found.now)
        rows, outcomes = traffic.tick(deployment, found.now)
        accumulator.observe(rows)
        accumulator.observe_outcomes(outcomes)
        found.rows += rows
        found.outcomes += outcomes
        found.last = judge.step(story, accumulator.evidence(found.now), found.now)
        after = registry.deployment(story.name)
        if after.epoch != deployment.epoch:
            found.moves.append((after.stage, found.last))
            if after.challenger is not None:
                accumulator.enter(after)
    return found
