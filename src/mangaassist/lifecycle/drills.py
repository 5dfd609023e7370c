"""Fire drills (INC-5): known faults on a simulated shop, with alarms and triage tree put to the test.

Whoever localises sees a recording and nothing else; the truth is compared with the answer afterwards.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import yaml

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents.alarms import MINUTE, TICK, Label
from mangaassist.incidents.calibration import EACH, five_minutes
from mangaassist.incidents.grouping import joined
from mangaassist.incidents.records import (
    EVERYBODY,
    LOCALISED,
    OPENED,
    Alarm,
    Change,
    Incident,
    Known,
    Localisation,
    Occasion,
)
from mangaassist.incidents.snapshot import OncallSnapshot, snapshot
from mangaassist.incidents.tree import Tree, decided, walk
from mangaassist.incidents.watches import Stretch, Watches, advance
from mangaassist.incidents.watches import begun as watched_from
from mangaassist.simulation.change_log import change
from mangaassist.simulation.faults import Effect, Fault, record
from mangaassist.simulation.instruments import EVERY_MINUTE, METRICS
from mangaassist.simulation.recordings import HISTORY, HISTORY_START, Fleet, Observed, Recording
from mangaassist.stats.domain import FloatArray

Timeline = tuple[tuple[datetime, str, str, Mapping[str, Any]], ...]

_MINUTE = timedelta(minutes=1)
_BEFORE = timedelta(days=2)
_WATCHED_BEFORE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Truth:
    """What was done in one drill; whoever localises never sees it.

    Attributes:
        onset: of the first fault.
        categories: right answers, one per fault.
        changes: ids of guilty changes.
        subjects: other right suspects.
    """

    onset: datetime
    categories: tuple[str, ...]
    changes: frozenset[str]
    subjects: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What alarms and tree made of a recording.

    Attributes:
        incident: the first that was opened or grew after ``since``; None when nothing alarmed.
        alarmed: when it first did after ``since``.
        localisation: the walk that was acted on.
        false_incidents: opened before, in six hours of health.
    """

    incident: Incident | None
    alarmed: datetime | None
    localisation: Localisation | None
    false_incidents: int


@dataclass(frozen=True, slots=True)
class Score:
    """One drill, scored."""

    name: str
    says: str
    truth: Truth
    answer: Answer

    @property
    def localised(self) -> bool:
        found = self.answer.localisation
        return found is not None and found.category in self.truth.categories

    @property
    def suspect(self) -> bool:
        """Whether the first suspect is the one that did it."""
        found = self.answer.localisation
        if found is None or not found.suspects:
            return False
        first = found.suspects[0]
        return first.change in self.truth.changes or (
            first.change is None and first.subject in self.truth.subjects
        )

    @property
    def roll_back(self) -> bool:
        found = self.answer.localisation
        return found is not None and found.mitigation.roll_back

    def minutes(self, at: datetime | None) -> float | None:
        """From the onset of the fault."""
        return None if at is None else (at - self.truth.onset) / _MINUTE

    def as_dict(self) -> dict[str, Any]:
        found = self.answer.localisation
        return {
            "name": self.name,
            "says": self.says,
            "onset": isoformat(self.truth.onset),
            "category": list(self.truth.categories),
            "found": found.category if found else None,
            "probability": found.probability if found else None,
            "localised": self.localised,
            "suspect": found.suspects[0].subject if found and found.suspects else None,
            "right_suspect": self.suspect,
            "minutes_to_alarm": self.minutes(self.answer.alarmed),
            "minutes_to_localise": self.minutes(found.at if found else None),
            "roll_back": self.roll_back,
            "command": found.mitigation.command if found else None,
            "alarms": len(self.answer.incident.alarms) if self.answer.incident else 0,
            "false_incidents": self.answer.false_incidents,
        }


def names() -> dict[str, str]:
    """Every drill and what it plays."""
    return {name: str(body["says"]) for name, body in _bodies().items()}


def drill(
    wanted: Sequence[str] = (),
    *,
    seed: int,
    tree: Tree | None = None,
    on_score: Callable[[Score], None] = lambda _: None,
) -> list[Score]:
    """Play the drills named, or all of them, on the shop of ``seed``.

    Raises:
        InputError: for a drill that does not exist.
    """
    bodies, known = _bodies(), tree or Tree.load()
    for name in wanted:
        _check_name(name, bodies)
    fleet, begun = _shop(seed)
    found = []
    for name in wanted or bodies:
        recording, truth = _staged(bodies[name], fleet, _generator(name, seed))
        answer = respond(recording, begun, known, since=truth.onset)
        found.append(Score(name, str(bodies[name]["says"]), truth, answer))
        on_score(found[-1])
    return found


def seen(name: str, *, seed: int, tree: Tree | None = None) -> OncallSnapshot:
    """What the on-call page shows when a drill's incident has been walked; the truth is no part of it.

    Raises:
        InputError: for a drill that does not exist.
    """
    bodies, known = _bodies(), tree or Tree.load()
    _check_name(name, bodies)
    fleet, begun = _shop(seed)
    recording, truth = _staged(bodies[name], fleet, _generator(name, seed))
    answer = respond(recording, begun, known, since=truth.onset)
    if answer.incident is None or answer.localisation is None:
        return snapshot(Observed(recording, recording.at(len(recording.metrics) - 1)), source=name)
    found, evidence = answer.localisation, Observed(recording, answer.localisation.at)
    timeline: Timeline = (
        (answer.incident.opened, OPENED, "alarms", {}),
        (found.at, LOCALISED, "triage", found.as_dict()),
    )
    incident = Known(answer.incident, 0, found, timeline=timeline)
    return snapshot(evidence, [incident], source=name, dependencies=_probed(evidence))


def _probed(evidence: Observed) -> list[Verdict]:
    """What the probes of the simulated shop say, as those of a home do."""
    found = []
    for one in evidence.series("probe"):
        value, limit = float(one.values[-1]), one.limit or math.inf
        status = Status.FAIL if value > limit else Status.PASS
        said = f"{one.name.partition('.')[2].replace('_', ' ')} {value:.3g} (limit {limit:g})."
        found.append(Verdict(f"probe.{one.component}", status, said, value, threshold=limit, n=1))
    return found


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _check_name(name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise InputError("drill", expected="a drill", got=repr(name), next_step=nearest(name, known))


def summary(scores: Sequence[Score], *, seed: int) -> dict[str, Any]:
    """The numbers of one seed, and every drill."""
    found = [one.minutes(one.answer.localisation.at) for one in scores if one.answer.localisation]
    alarmed = [one.minutes(one.answer.alarmed) for one in scores if one.answer.alarmed]
    harmless = {name for name, one in Tree.load().categories.items() if one.harmless}
    rolled = [one.name for one in scores if one.roll_back and set(one.truth.categories) <= harmless]
    return {
        "seed": seed,
        "n": len(scores),
        "localised": sum(one.localised for one in scores),
        "right_suspect": sum(one.suspect for one in scores),
        "median_minutes": _median(found),
        "median_minutes_to_alarm": _median(alarmed),
        "needless_roll_backs": rolled,
        "false_incidents": sum(one.answer.false_incidents for one in scores),
        "drills": [one.as_dict() for one in scores],
    }


def spread(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several seeds: worst, middle and best of each number, and how often each drill was localised."""
    numbers = ("localised", "right_suspect", "median_minutes", "median_minutes_to_alarm", "false_incidents")
    body: dict[str, Any] = {"seeds": [one["seed"] for one in found], "n": found[0]["n"]}
    for name in numbers:
        known = [one[name] for one in found if one[name] is not None]
        body[name] = (
            {"least": min(known), "median": statistics.median(known), "most": max(known)} if known else {}
        )
    body["needless_roll_backs"] = [name for one in found for name in one["needless_roll_backs"]]
    body["missed"] = {
        name: times
        for place, name in enumerate(one["name"] for one in found[0]["drills"])
        if (times := sum(not one["drills"][place]["localised"] for one in found))
    }
    return body


def _median(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return statistics.median(known) if known else None


def respond(recording: Recording, begun: Watches, tree: Tree, *, since: datetime) -> Answer:
    """Watch a recording minute by minute and localise the first incident after ``since``.

    ``since`` only says from when on an incident counts; neither alarms nor tree know it.
    """
    now, incidents, early = begun, list[Incident](), 0
    alarmed: datetime | None = None
    for at, rows in _minutes(recording, since - _WATCHED_BEFORE):
        now, alarms = advance(now, at, rows)
        if alarms:
            changed, others = joined(incidents, alarms, tree.lineage)
            early += sum(
                one.opened <= since for one in changed if one.id not in {old.id for old in incidents}
            )
            incidents = [*others, *changed]
            if at > since and alarmed is None:
                alarmed = at
        current = _current(incidents, since)
        if current is None or alarmed is None:
            continue
        found = walk(tree, current, Observed(recording, at))
        if decided(found, current, alarmed=alarmed):
            return Answer(current, alarmed, found, early)
    return Answer(None, alarmed, None, early)


def _minutes(
    recording: Recording, since: datetime
) -> Iterator[tuple[datetime, Mapping[timedelta, FloatArray]]]:
    """Every minute from ``since`` on, with what was measured in it and, each fifth, in the last five."""
    quick = _quick(recording.fleet)
    first = max(0, int((since - recording.first_minute) / MINUTE))
    for place in range(first, len(recording.minutes)):
        rows = {MINUTE: recording.minutes[place, quick]}
        if place % EACH == EACH - 1:
            rows[TICK] = recording.metrics[place // EACH]
        yield recording.first_minute + place * MINUTE, rows


def _quick(fleet: Fleet) -> list[int]:
    """The columns that are watched every minute."""
    return [column for column, one in enumerate(fleet.labels) if one.panel in EVERY_MINUTE]


def _current(incidents: Sequence[Incident], since: datetime) -> Incident | None:
    """The incident in which something alarmed after ``since``, the oldest first."""
    new: list[tuple[Alarm, Incident]] = [
        (alarm, one) for one in incidents for alarm in one.alarms if alarm.at > since
    ]
    return min(new, key=lambda pair: (pair[0].at, pair[1].id))[1] if new else None


@lru_cache(maxsize=2)
def _shop(seed: int) -> tuple[Fleet, Watches]:
    """A healthy shop, and its alarms after four weeks of it."""
    generator = np.random.default_rng([seed, 0])
    fleet = Fleet.drawn(generator)
    minutes = fleet.quiet(HISTORY_START, HISTORY, generator)
    quick, week = _quick(fleet), len(minutes) // 4
    end = HISTORY_START + (HISTORY - 1) * TICK
    labels: tuple[Label, ...] = tuple(fleet.labels[column] for column in quick)
    newest = Stretch(labels, end - (week - 1) * MINUTE, MINUTE, minutes[-week:, quick])
    return fleet, watched_from(Stretch(fleet.labels, HISTORY_START, TICK, five_minutes(minutes)), newest)


def _staged(body: Mapping[str, Any], fleet: Fleet, generator: np.random.Generator) -> tuple[Recording, Truth]:
    """One drill played: what there is to see, and apart from it the truth."""
    start = HISTORY_START + HISTORY * TICK + int(generator.integers(0, 168)) * timedelta(hours=1)
    onset = start + _BEFORE + float(generator.uniform(0.0, 60.0)) * _MINUTE
    played = list(_faults(body, onset, generator))
    hours = float(body.get("hours", 6))
    ticks = int((_BEFORE + timedelta(hours=hours + 1)) / TICK)
    recording = record(fleet, played, start=start, ticks=ticks, generator=generator)
    guilty = frozenset(one.id for _, fault in played for one in fault.changes)
    also = {name for part in (body, body.get("second") or {}) if (name := part.get("also"))}
    return recording, Truth(
        onset,
        tuple(fault.category for _, fault in played),
        guilty,
        frozenset({fault.subject for _, fault in played} | also),
    )


def _faults(
    body: Mapping[str, Any], onset: datetime, generator: np.random.Generator
) -> Iterator[tuple[datetime, Fault]]:
    yield onset, _fault(body, onset, generator)
    if "second" in body:
        later = onset + float(generator.uniform(0.0, 8.0)) * _MINUTE
        yield later, _fault(body["second"], later, generator)


def _fault(body: Mapping[str, Any], onset: datetime, generator: np.random.Generator) -> Fault:
    changes: tuple[Change, ...] = ()
    occasions: tuple[Occasion, ...] = ()
    subject = str(body.get("subject", ""))
    if "change" in body:
        given = body["change"]
        at = onset - float(generator.uniform(*given["lead"])) * _MINUTE
        touches, cohorts = tuple(given["touches"]), tuple(given.get("cohorts", ()))
        subject = f"{touches[0]}-{int(generator.integers(1000, 10_000))}"
        changes = (change(given["kind"], subject, at, touches, cohorts, generator=generator),)
    if "occasion" in body:
        subject = str(body["occasion"])
        day = onset.replace(hour=0, minute=0, second=0, microsecond=0)
        occasions = (Occasion(subject, day - timedelta(days=1), day + timedelta(days=4)),)
    common = {"cohort": str(body.get("cohort", EVERYBODY)), "ramp": float(body.get("ramp", 5.0))}
    effects = tuple(_effect(one, common, float(generator.uniform(0.8, 1.3))) for one in body["effects"])
    return Fault(str(body["category"]), subject, effects, changes, occasions)


def _effect(given: Any, common: Mapping[str, Any], factor: float) -> Effect:
    found = dict(zip(("panel", "name", "size"), given, strict=True)) if isinstance(given, list) else given
    metric = any((one.panel, one.name) == (found["panel"], found["name"]) for one in METRICS)
    return Effect(**{**common, **found, "size": found["size"] * (factor if metric else 1.0)})


def _bodies() -> dict[str, dict[str, Any]]:
    text = resources.files("mangaassist.simulation").joinpath("drills.yaml").read_text(encoding="utf-8")
    return {body["name"]: body for body in yaml.safe_load(text)["drills"]}
