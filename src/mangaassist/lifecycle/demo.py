"""The main job played once: two months of a simulated shop, through production's own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from mangaassist.core.clock import SimulatedClock, isoformat, utc
from mangaassist.core.errors import GateRefused, InputError
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json
from mangaassist.core.verdict import Action
from mangaassist.drift.hub import DriftReport
from mangaassist.lifecycle.auditing import Audit, audit_home
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.retrain import RetrainResult, retrain
from mangaassist.lifecycle.shop import STORY, Shop
from mangaassist.promotion.rollbacks import rollback_seconds
from mangaassist.simulation.annotators import Misreading
from mangaassist.simulation.conversations import Season
from mangaassist.simulation.world import Size, World, build_world

SPAN = timedelta(days=70)
"""Simulated time the demo's events take; what is left until the present is ordinary traffic."""
SIZE = Size(labelled=3_500, requests_per_day=1_200)
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_WEDNESDAY = 2

FINISHED = "demo.finished"

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo showed.

    Attributes:
        runs: the retrains, in order: the first version, the one after the shift, the one that fails.
        rollback: (version, seconds) of the automatic rollback, seen by the last reader; None where under
            this seed no candidate failed its canary.
        drift: the report in which the shift stood out most: every kind, fired or not.
        audit: the ledger and every artifact, verified at the end.
        requests: requests answered; days: simulated days they took.
    """

    story: str
    champion: int
    runs: tuple[RetrainResult, ...]
    languages: dict[str, dict[str, Any]]
    rollback: tuple[int, float] | None
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
            "rollback": self.rollback
            and {
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


def demo_start(now: datetime) -> datetime:
    """Midnight of the last Wednesday that leaves SPAN until ``now``.

    Always the same weekday, because lots and reviews go by weeks: a seed then shows the same on any date.
    """
    midnight = utc(now, field="now").replace(hour=0, minute=0, second=0, microsecond=0) - SPAN
    return midnight - timedelta(days=(midnight.weekday() - _WEDNESDAY) % 7)


def run_demo(home: Path, *, seed: int, now: datetime, on_event: Notify) -> dict[str, Any]:
    """Play the demo into ``home`` once; a home where it was played answers with what it showed then.

    Returns:
        :meth:`DemoResult.as_dict`.

    Raises:
        InputError: the home holds other work on the story, half a demo, or one of another seed; a demo never
            writes over anybody's work.
    """
    platform = Platform.open(Home.open(home), SimulatedClock(demo_start(now)))
    known = _finished(platform, seed)
    if known is not None:
        on_event(f"The demo was already played at {platform.home.path}; this is what it showed.")
        return known
    if any(platform.ledger.head(f"{room}/{STORY}") for room in ("labels", "registry", "run")):
        raise _occupied(platform, f"a demo that was interrupted, or other work on '{STORY}',")
    body = play(platform, seed=seed, until=now, on_event=on_event).as_dict()
    digest = platform.artifacts.put(canonical_json(body), durable=True)
    platform.ledger.append(
        kind=FINISHED, subject="demo", body={"digest": digest, "seed": seed}, actor="demo", at=now
    )
    return body


def _finished(platform: Platform, seed: int) -> dict[str, Any] | None:
    entries = platform.ledger.entries(subject="demo", kind=FINISHED)
    if not entries:
        return None
    if entries[-1].body["seed"] != seed:
        raise _occupied(platform, f"the demo of seed {entries[-1].body['seed']}")
    body: dict[str, Any] = orjson.loads(platform.artifacts.get(entries[-1].body["digest"]))
    return body


def _occupied(platform: Platform, got: str) -> InputError:
    return InputError(
        "home",
        expected="one without a demo or other work on its story",
        got=f"{got} at {platform.home.path}",
        next_step="Play it in a new folder (mangaassist --home FOLDER demo, or make demo HOME_DIR=FOLDER), "
        "or 'mangaassist serve' to look at this one.",
    )


def demo_world(seed: int, start: datetime) -> World:
    """The demo's shop: a season from the 22nd day, and a recall once the second version is champion."""
    season = Season(begins=start + 22 * _DAY, surge_begins=start + 22 * _DAY, recall_begins=start + 50 * _DAY)
    return build_world(seed, start, SIZE, season=season)


def play(platform: Platform, *, seed: int, until: datetime, on_event: Notify) -> DemoResult:
    """Two good retrains and a bad one, then ordinary traffic ``until`` the present.

    The third learns from labels that everybody at the vendor gave under the same misread guideline. No
    agreement statistic and no golden example can see that; its canary does.
    """
    clock = platform.clock
    if not isinstance(clock, SimulatedClock):
        raise InputError("clock", expected="a simulated one", got="another", next_step="Use run_demo.")
    on_event("Opening the shop: twelve weeks of labelled conversations, a golden set, feature history.")
    start = clock.now()
    shop = Shop(platform, demo_world(seed, start), clock, on_event)
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
    on_event("Ordinary traffic until now.")
    shop.play(max(_HOUR, until - clock.now() - _HOUR))
    shop.close()
    return _result(shop, (first, second, third), drift, start)


def _result(
    shop: Shop, runs: tuple[RetrainResult, ...], drift: DriftReport | None, start: datetime
) -> DemoResult:
    platform = shop.platform
    champion = platform.registry.deployment(STORY).champion
    rolled_back = [one for one in shop.decisions if one.action is Action.ROLL_BACK]
    if champion is None or drift is None:
        raise GateRefused(
            "demo",
            expected="the first version to become champion",
            got=runs[0].sentence,
            next_step="The gates said no to this seed's shop: read the steps above, or try another --seed.",
        )
    return DemoResult(
        story=STORY,
        champion=champion,
        runs=runs,
        languages=_languages(platform, champion),
        rollback=rollback_seconds(platform.ledger, STORY)[-1] if rolled_back else None,
        rollback_reason=rolled_back[-1].reason if rolled_back else "",
        drift=drift,
        proposals=tuple((at, str(one.action), one.reason) for at, one in shop.proposals),
        audit=audit_home(platform),
        requests=shop.requests,
        days=(shop.clock.now() - start) / _DAY,
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
    shop.review_labels()
    result = retrain(shop.platform, STORY, seed=seed, traffic=shop, on_event=shop.notify)
    shop.notify(f"{shop.clock.now():%b %d %H:%M}  {result.sentence}")
    return result
