"""The main job played once: two months of a simulated shop, through production's own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mangaassist.core.clock import SimulatedClock, isoformat
from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.core.home import Home
from mangaassist.core.verdict import Action
from mangaassist.drift.hub import DriftReport
from mangaassist.lifecycle.auditing import Audit, audit_home
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.retrain import RetrainResult, retrain
from mangaassist.lifecycle.shop import STORY, Shop
from mangaassist.promotion.controller import rollback_seconds
from mangaassist.simulation.annotators import Misreading
from mangaassist.simulation.conversations import Season
from mangaassist.simulation.world import Size, World, build_world

START = datetime(2026, 7, 1, tzinfo=UTC)
"""The simulated present when the demo begins; it is over within ninety simulated days."""
SIZE = Size(requests_per_day=1_200)
_DAY = timedelta(days=1)

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo showed.

    Attributes:
        runs: the retrains, in order: the first version, the one after the shift, the one that fails.
        rollback: (version, seconds) of the automatic rollback, seen by the last reader.
        drift: the report in which the shift stood out most: every kind, fired or not.
        audit: the ledger and every artifact, verified at the end.
        requests: requests answered; days: simulated days they took.
    """

    story: str
    champion: int
    runs: tuple[RetrainResult, ...]
    languages: dict[str, dict[str, Any]]
    rollback: tuple[int, float]
    rollback_reason: str
    drift: DriftReport
    proposals: tuple[tuple[datetime, str, str], ...]
    audit: Audit
    requests: int
    days: float

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object; ``steps`` and ``verdicts`` are those of the champion's run."""
        chosen = next(run for run in self.runs if run.version == self.champion)
        return {
            "story": self.story,
            "data": "simulated shop; no number here says anything about real traffic",
            "champion_version": self.champion,
            "steps": [
                {"name": step.name, "status": str(step.status), "seconds": step.seconds}
                for step in chosen.steps
            ],
            "verdicts": [verdict.as_dict() for verdict in chosen.verdicts],
            "languages": self.languages,
            "rollback": {
                "version": self.rollback[0],
                "seconds": self.rollback[1],
                "reason": self.rollback_reason,
            },
            "drift": self.drift.as_dict(),
            "proposals": [
                {"at": isoformat(at), "action": action, "reason": reason}
                for at, action, reason in self.proposals
            ],
            "runs": [run.as_dict() for run in self.runs],
            "ledger": self.audit.as_dict(),
            "requests": self.requests,
            "simulated_days": self.days,
        }


def open_demo(home: Path) -> Platform:
    """An empty home on a simulated clock.

    Raises:
        InputError: the home already holds something; a demo never writes over anybody's work.
    """
    opened = Home.open(home)
    platform = Platform.open(opened, SimulatedClock(START))
    if platform.ledger.head() > 0:
        raise InputError(
            "home",
            expected="an empty one for the demo",
            got=f"{platform.ledger.head()} ledger entries at {opened.path}",
            next_step="Pass --home NEW_FOLDER, or 'mangaassist serve' to look at this one.",
        )
    return platform


def demo_world(seed: int) -> World:
    """The demo's shop: a season from the 22nd day, and a recall once the second version is champion."""
    season = Season(begins=START + 22 * _DAY, surge_begins=START + 22 * _DAY, recall_begins=START + 42 * _DAY)
    return build_world(seed, START, SIZE, season=season)


def play(platform: Platform, *, seed: int, on_event: Notify) -> DemoResult:
    """Two good retrains and a bad one.

    The third learns from labels that everybody at the vendor gave under the same misread guideline. No
    agreement statistic and no golden example can see that; its canary does.
    """
    clock = platform.clock
    if not isinstance(clock, SimulatedClock):
        raise InputError("clock", expected="a simulated one", got="another", next_step="Use open_demo.")
    on_event("Opening the shop: twelve weeks of labelled conversations, a golden set, feature history.")
    shop = Shop(platform, demo_world(seed), clock, on_event)
    shop.open_doors()
    first = _retrain(shop, "First version: ten steps, then 18 simulated days of shadow and canary.", seed)
    on_event("A month of traffic; a new season begins on its fourth day.")
    shop.play(11 * _DAY)
    second = _retrain(shop, "Weekly retrain on the new season.", seed)
    drift = shop.strongest
    on_event("A recall begins, and the vendor misreads the guideline on it.")
    shop.misreading = Misreading()
    shop.play(8 * _DAY)
    third = _retrain(shop, "Weekly retrain on the misread labels.", seed)
    shop.play(_DAY)
    shop.close()
    return _result(shop, (first, second, third), drift)


def _result(shop: Shop, runs: tuple[RetrainResult, ...], drift: DriftReport | None) -> DemoResult:
    platform = shop.platform
    champion = platform.registry.deployment(STORY).champion
    rolled_back = [one for one in shop.decisions if one.action is Action.ROLL_BACK]
    if champion is None or drift is None or not rolled_back:
        raise IntegrityError(
            "demo",
            expected="a champion, a drift report and one automatic rollback",
            got=f"champion {champion}, {len(rolled_back)} rollbacks",
            next_step="Read the steps above: a gate refused what this seed was expected to pass.",
        )
    return DemoResult(
        story=STORY,
        champion=champion,
        runs=runs,
        languages=_languages(platform, champion),
        rollback=rollback_seconds(platform.ledger, STORY)[-1],
        rollback_reason=rolled_back[-1].reason,
        drift=drift,
        proposals=tuple((at, str(one.action), one.reason) for at, one in shop.proposals),
        audit=audit_home(platform),
        requests=shop.requests,
        days=(shop.clock.now() - START) / _DAY,
    )


def _languages(platform: Platform, champion: int) -> dict[str, dict[str, Any]]:
    """Golden accuracy by language beside n, floor and ceiling, as the champion was registered with."""
    found = platform.registry.get(STORY, champion).metrics["languages"]
    return {
        language: {
            "accuracy": metric["value"],
            **{key: metric[key] for key in ("low", "high", "n", "floor", "ceiling", "ceiling_method")},
        }
        for language, metric in found.items()
    }


def _retrain(shop: Shop, title: str, seed: int) -> RetrainResult:
    shop.notify(f"{shop.clock.now():%b %d %H:%M}  {title}")
    result = retrain(shop.platform, STORY, seed=seed, traffic=shop, on_event=shop.notify)
    shop.notify(f"{shop.clock.now():%b %d %H:%M}  {result.sentence}")
    return result
