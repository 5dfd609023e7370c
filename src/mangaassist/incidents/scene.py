"""What the evidence says about one incident before any cause is weighed: where, when, who, what besides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from mangaassist.incidents.evidence import Evidence
from mangaassist.incidents.records import EVERYBODY, Alarm, Incident, Onset, Series
from mangaassist.stats.domain import FloatArray

_DAY = timedelta(days=1)
# A panel is judged on its last half hour: most of the newest three values beyond the limit.
_RECENT, _NEWEST = 6, 3
# A cohort is spared when it moved less than half as far as the one of its kind that moved furthest.
_SPARED = 0.5


@dataclass(frozen=True, slots=True)
class Failing:
    """A series beyond its limit.

    Attributes:
        since: when the unbroken run beyond the limit began.
        value, limit: the newest value and its limit.
    """

    panel: str
    name: str
    component: str
    cohort: str
    since: datetime
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Scene:
    """One incident as the evidence shows it.

    Attributes:
        incident: whose.
        now: when the evidence was gathered.
        onset: when it began, from all alarms that agree with the sharpest.
        alarmed: (panel, component) of everything in alarm.
        watched: components that could have alarmed.
        hurt: the cohorts that are hurt while others of their kind are spared; empty for everybody.
        failing: series beyond a limit.
        measured: (panel, component) of everything that has a limit and fresh values.
        silent: panels that exist and have no fresh value.
    """

    incident: Incident
    now: datetime
    onset: Onset
    alarmed: frozenset[tuple[str, str]]
    watched: frozenset[str]
    hurt: frozenset[str]
    failing: tuple[Failing, ...]
    measured: frozenset[tuple[str, str]]
    silent: frozenset[str]

    @property
    def components(self) -> frozenset[str]:
        return frozenset(component for _, component in self.alarmed)


def scene(incident: Incident, evidence: Evidence) -> Scene:
    """Gather the scene of ``incident``; reads every panel once."""
    found = {panel: evidence.series(panel) for panel in evidence.panels()}
    limited = [one for panel in found.values() for one in panel if one.limit is not None]
    fresh = [one for one in limited if np.isfinite(one.values[-_RECENT:]).any()]
    failing = tuple(bad for one in fresh if (bad := _failing(one)) is not None)
    watched = {one.component for panel in found.values() for one in panel if one.limit is None}
    measured = frozenset((one.panel, one.component) for one in fresh)
    began = _onset(incident.alarms)
    first = incident.alarms[0].panel
    # Minutes after it began, minutes tell cohorts apart.
    closest = evidence.minutes(first, began.earliest - _DAY) or found.get(first, ())
    return Scene(
        incident,
        evidence.now,
        began,
        frozenset((alarm.panel, alarm.component) for alarm in incident.alarms),
        frozenset(watched | set(incident.components)),
        _hurt(incident.alarms[0], began, closest),
        failing,
        measured,
        frozenset({one.panel for one in limited} - {panel for panel, _ in measured}),
    )


def _onset(alarms: Sequence[Alarm]) -> Onset:
    """The onset most alarms agree with, the sharpest of such, narrowed by every other that overlaps it."""
    every = [one.onset for one in alarms]
    first = min(every, key=lambda one: (-sum(_overlap(one, other) for other in every), _width(one)))
    low, best, high = first.earliest, first.likeliest, first.latest
    for other in sorted(every, key=_width):
        if other.earliest <= high and other.latest >= low:
            low, high = max(low, other.earliest), min(high, other.latest)
    return Onset(low, min(max(best, low), high), high)


def _width(one: Onset) -> timedelta:
    return one.latest - one.earliest


def _overlap(one: Onset, other: Onset) -> bool:
    return other.earliest <= one.latest and other.latest >= one.earliest


def _failing(series: Series) -> Failing | None:
    """The series as beyond its limit; None when it is not."""
    assert series.limit is not None
    known = np.flatnonzero(np.isfinite(series.values))
    values = series.values[known]
    beyond = values > series.limit if series.worse == "high" else values < series.limit
    if beyond[-_NEWEST:].sum() * 2 <= len(beyond[-_NEWEST:]):
        return None
    first = len(beyond) - 1
    for place in range(len(beyond) - 1, -1, -1):
        if beyond[place]:
            first = place
        elif first - place >= _NEWEST:
            break
    since = series.at(int(known[first]))
    return Failing(
        series.panel, series.name, series.component, series.cohort, since, float(values[-1]), series.limit
    )


def _hurt(alarm: Alarm, began: Onset, panel: Iterable[Series]) -> frozenset[str]:
    moved: dict[str, dict[str, float]] = {}
    for one in panel:
        if one.name == alarm.name and one.cohort != EVERYBODY:
            moved.setdefault(one.cohort.partition("=")[0], {})[one.cohort] = _moved(one, began, alarm.rising)
    hurt: set[str] = set()
    for shifts in moved.values():
        furthest = max(shifts.values())
        kept = {cohort for cohort, shift in shifts.items() if shift >= _SPARED * furthest}
        if furthest > 0 and len(kept) < len(shifts):
            hurt |= kept
    return frozenset(hurt)


def _moved(series: Series, began: Onset, rising: bool) -> float:
    """How far the values since the onset lie from those a day before, in the direction of the alarm."""
    first = min(max(int((began.likeliest - series.start) / series.step) + 1, 0), len(series.values) - 1)
    day = int(_DAY / series.step)
    now = series.values[first:]
    before = series.values[max(first - day, 0) : max(len(series.values) - day, 1)]
    usual = _mean(before) if first >= day else _mean(series.values[:first])
    shift = _mean(now) - usual
    shift = shift if np.isfinite(shift) else 0.0
    return shift if rising else -shift


def _mean(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
