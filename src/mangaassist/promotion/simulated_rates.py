"""How often the abort rules take back a healthy canary, and how soon a bad one, on simulated days.

Every abort counted here was pronounced by the product's own rules on the evidence of that look. Only where
to ask them is found for all days at once (:mod:`mangaassist.promotion.simulated_screens`), because asking
at each of a million looks would take an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.story import RolloutPolicy, Rules
from mangaassist.core.verdict import Status, worst
from mangaassist.promotion import simulated_screens as screens
from mangaassist.promotion.differences import harm_verdicts
from mangaassist.promotion.evidence import RESOLVED, SAFETY, StageEvidence
from mangaassist.promotion.rules import abort_verdicts
from mangaassist.promotion.simulated_days import LOOKS_A_DAY, REQUESTS, Days, Traffic, draw_days
from mangaassist.promotion.simulated_screens import Looks
from mangaassist.promotion.stages import canary_verdicts
from mangaassist.stats.domain import IntArray, positive
from mangaassist.stats.intervals import Estimate, clopper_pearson

AIM: Final = 0.01
"""Share of healthy days that may be aborted."""

NEVER: Final = 0
"""In place of a look: not within the day."""

NAIVE_Z: Final = 1.645
_BATCH = 200


def literal(rules: Rules) -> Rules:
    """The source's four rules and nothing else: no certainty, no minimum, an hour's window for an hour."""
    return replace(
        rules,
        safety_window=rules.safety_for,
        certainty_z=1e-9,  # 0 would also find "no errors on either side" beyond the limit
        minimum_window=1,
        minimum_latency=1,
        minimum_exceptions=1,
        latency_floor_ms=0.0,
    )


@dataclass(frozen=True, slots=True)
class Judge:
    """One way of aborting a canary.

    Attributes:
        name, says: for reports.
        screen: where it could abort, shape (days, looks).
        aborts: whether it does, on the evidence of one look; None where the screen is the rule.
    """

    name: str
    says: str
    screen: Callable[[Days], Looks]
    aborts: Callable[[StageEvidence], bool] | None


@dataclass(frozen=True, slots=True)
class Aborts:
    """What one judge did.

    Attributes:
        name, says: the judge's.
        looks: the look, from 1, at which each day was aborted, or :data:`NEVER`; shape (days,).
    """

    name: str
    says: str
    looks: IntArray

    @property
    def rate(self) -> Estimate:
        """Share of days aborted, with its exact binomial interval."""
        return clopper_pearson(int(np.count_nonzero(self.looks)), len(self.looks))

    def quantile(self, q: float) -> int | None:
        """The look by which a share ``q`` of the days was aborted; None when the day ended before."""
        ordered = np.sort(np.where(self.looks == NEVER, np.iinfo(np.int64).max, self.looks))
        found = int(ordered[max(0, int(np.ceil(q * len(ordered))) - 1)])
        return found if found < np.iinfo(np.int64).max else None

    def as_dict(self) -> dict[str, Any]:
        """The outcome as a JSON object."""
        rate = self.rate
        return {
            "rule": self.name,
            "says": self.says,
            "days": rate.n,
            "aborted": int(np.count_nonzero(self.looks)),
            "abort_rate": rate.value,
            "low": rate.low,
            "high": rate.high,
            "median_looks": self.quantile(0.5),
            "p90_looks": self.quantile(0.9),
            "never_share": 1.0 - rate.value,
        }


def judges(policy: RolloutPolicy, stage: str, rules: Rules) -> tuple[Judge, ...]:
    """The rules as shipped, the source's four taken literally, the anytime-valid ones, and the naive one."""
    bare = literal(rules)
    chosen = next(one for one in policy.stages if one.name == stage)

    def shipped(evidence: StageEvidence) -> bool:
        return worst(canary_verdicts(evidence, policy, chosen, rules)) is Status.FAIL

    def any_difference(evidence: StageEvidence) -> bool:
        return any(one.status is Status.FAIL for one in harm_verdicts(evidence, policy, rules))

    return (
        Judge("shipped", "all rules of a canary stage", lambda days: _shipped(days, rules, policy), shipped),
        Judge(
            "anytime_valid",
            f"always-valid differences alone, alpha {rules.harm_alpha:g} over the rollout",
            lambda days: screens.harm(days, rules, policy),
            any_difference,
        ),
        Judge(
            "literal_safety",
            "source: 2 sigma below hold-out for over 1 h, trailing hours",
            lambda days: screens.safety(days, bare, RESOLVED) | screens.safety(days, bare, SAFETY),
            _fails(bare, "canary.rule.resolved", "canary.rule.safety"),
        ),
        Judge(
            "literal_errors",
            "source: error rate over 2x for over 5 min",
            lambda days: screens.errors(days, bare),
            _fails(bare, "canary.rule.errors"),
        ),
        Judge(
            "literal_latency",
            "source: p99 over 1.5x for over 15 min",
            lambda days: screens.latency(days, bare),
            _fails(bare, "canary.rule.latency"),
        ),
        Judge(
            "literal_exceptions",
            "source: an exception type only the canary raises, over 0.1%",
            lambda days: screens.new_exceptions(days, bare),
            _fails(bare, "canary.new_exception"),
        ),
        Judge(
            "naive",
            f"cumulative z beyond {NAIVE_Z} at any look",
            lambda days: screens.cumulative_z(days) < -NAIVE_Z,
            None,
        ),
    )


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the judges did on simulated days.

    Attributes:
        traffic: the shop.
        effect_sigma: the regression in standard errors of one look's difference; 0 for a healthy canary.
        seed: of everything random.
        aborts: by judge, in the order of :func:`judges`.
    """

    traffic: Traffic
    effect_sigma: float
    seed: int
    aborts: tuple[Aborts, ...]

    def of(self, name: str) -> Aborts:
        return next(one for one in self.aborts if one.name == name)

    def as_dict(self) -> dict[str, Any]:
        """The simulation as a JSON object; rates of false aborts only where the canary is healthy."""
        traffic, shipped, naive = self.traffic, self.of("shipped"), self.of("naive")
        head: dict[str, Any] = (
            {
                "effect_sigma": self.effect_sigma,
                "effect": -traffic.worse,
                "median_looks": shipped.quantile(0.5),
                "p90_looks": shipped.quantile(0.9),
                "never_share": 1.0 - shipped.rate.value,
                "anytime_valid_median_looks": self.of("anytime_valid").quantile(0.5),
                "naive_median_looks": naive.quantile(0.5),
            }
            if self.effect_sigma
            else {
                "false_abort_rate": shipped.rate.value,
                "naive_false_abort_rate": naive.rate.value,
                "anytime_valid_false_abort_rate": self.of("anytime_valid").rate.value,
                "aim": AIM,
            }
        )
        return {
            **head,
            "days": len(shipped.looks),
            "looks_a_day": LOOKS_A_DAY,
            "seed": self.seed,
            "stage": traffic.stage.name,
            "earlier_stages": traffic.earlier,
            "requests_a_look": {"canary": traffic.canary, "holdout": traffic.holdout},
            "rules": [one.as_dict() for one in self.aborts],
        }


def simulate(
    *,
    days: int,
    seed: int,
    effect_sigma: float = 0.0,
    stage: str | None = None,
    earlier: bool = False,
    requests: float = REQUESTS,
    policy: RolloutPolicy | None = None,
    rules: Rules | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Simulation:
    """Draw ``days`` days and let every judge look at each, five minutes at a time.

    Args:
        effect_sigma: how far the canary's resolved requests lie below the hold-out's from the first look on,
            in standard errors of the difference one look alone would show: after k looks the cumulative z
            stands at ``-effect_sigma * sqrt(k)`` on average. 0 for a healthy canary.
        stage: a stage of ``policy``; default the last one, where every rule has data.
        earlier: whether the stages before it ran healthy before the day begins; without them the day is the
            canary's first, when the least is known.
        requests: mean requests of the whole shop in five minutes.
        on_progress: called with the number of days done.

    Raises:
        InputError: no days, a negative effect or one larger than rates allow, no requests, unknown stage.
    """
    policy, rules = policy or RolloutPolicy(), rules or Rules()
    if days < 1:
        raise InputError("days", expected="1 or more", got=str(days), next_step="Simulate 4000 for a rate.")
    traffic = _traffic(policy, stage, requests=requests, earlier=earlier, effect_sigma=effect_sigma)
    panel = judges(policy, traffic.stage.name, rules)
    found: list[list[IntArray]] = [[] for _ in panel]
    # A stream for each batch: the first days of a longer run are those of a shorter one.
    streams = np.random.SeedSequence(seed).spawn(-(-days // _BATCH))
    for batch, stream in enumerate(streams):
        size = min(_BATCH, days - batch * _BATCH)
        drawn = draw_days(traffic, _BATCH, np.random.default_rng(stream))
        for judge, looks in zip(panel, found, strict=True):
            looks.append(abort_looks(judge, drawn, range(size)))
        if on_progress is not None:
            on_progress(batch * _BATCH + size)
    aborts = (
        Aborts(judge.name, judge.says, np.concatenate(looks))
        for judge, looks in zip(panel, found, strict=True)
    )
    return Simulation(traffic, effect_sigma, seed, tuple(aborts))


def abort_looks(judge: Judge, days: Days, which: Sequence[int]) -> IntArray:
    """The look, from 1, at which ``judge`` aborts each of the days, or :data:`NEVER`; shape (days,)."""
    possible = judge.screen(days)
    found = np.full(len(which), NEVER, dtype=np.int64)
    for place, day in enumerate(which):
        for look in np.flatnonzero(possible[day]):
            if judge.aborts is None or judge.aborts(days.evidence(day, int(look))):
                found[place] = look + 1
                break
    return found


def _traffic(
    policy: RolloutPolicy, stage: str | None, *, requests: float, earlier: bool, effect_sigma: float
) -> Traffic:
    by_name = {one.name: one for one in policy.stages}
    name = stage or policy.stages[-1].name
    if name not in by_name:
        raise InputError("stage", expected="a canary stage", got=name, next_step=nearest(name, by_name))
    if not (np.isfinite(effect_sigma) and effect_sigma >= 0):
        raise InputError(
            "effect-sigma",
            expected="a number above 0",
            got=f"{effect_sigma:g}",
            next_step="A regression is written as a positive number of standard errors.",
        )
    traffic = Traffic(by_name[name], policy, requests=positive("requests", requests), earlier=earlier)
    return traffic.with_effect(effect_sigma)


def _shipped(days: Days, rules: Rules, policy: RolloutPolicy) -> Looks:
    return (
        screens.safety(days, rules, RESOLVED)
        | screens.safety(days, rules, SAFETY)
        | screens.errors(days, rules)
        | screens.latency(days, rules)
        | screens.new_exceptions(days, rules)
        | screens.harm(days, rules, policy)
        | screens.inferior(days, rules, policy)
    )


def _fails(rules: Rules, *names: str) -> Callable[[StageEvidence], bool]:
    def aborts(evidence: StageEvidence) -> bool:
        return any(one.status is Status.FAIL for one in abort_verdicts(evidence, rules) if one.name in names)

    return aborts
