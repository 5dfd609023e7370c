"""What the 3am page shows, as one value made in advance from evidence and the ledger (INC-2).

It is made the same way from the live platform and from a drill. The page serves what the schedule wrote and
never computes while somebody waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents import clock
from mangaassist.incidents.evidence import Evidence
from mangaassist.incidents.records import EVERYBODY, Change, Known, Localisation, Series, Suspect
from mangaassist.stats.domain import FloatArray

QUALITY, COHORTS = "quality", "cohorts"
"""The panel whose series is drawn large, and the one made of what stands beside it."""
WEEK, DAY, HOUR = timedelta(days=7), timedelta(days=1), timedelta(hours=1)
WINDOWS = (WEEK, DAY, HOUR)
MOST_POINTS = 120
"""Points of one line; a longer window is averaged down to it."""
MOST_SERIES = 10
_FRESH_STEPS = 3
_MOVED = 8.0
"""Spreads from the usual value beyond which a series is said to have moved before its alarm has decided."""
Points = tuple[tuple[datetime, float | None], ...]


@dataclass(frozen=True, slots=True)
class SeriesView:
    """One line.

    Attributes:
        verdict: of its newest value: in alarm, beyond its limit, stale, or as usual.
        value, usual: the newest, and the median of the day before the last hour.
        limit, worse: as of the series.
        points: by window, in hours ("168", "24", "1"); a series that is not in focus has one.
    """

    panel: str
    name: str
    cohort: str
    verdict: Verdict
    value: float | None
    usual: float | None
    limit: float | None
    worse: str
    points: Mapping[str, Points]

    @property
    def shift(self) -> float:
        """How far the newest value is from the usual, relative; 0 where one is missing."""
        if self.value is None or not self.usual:
            return 0.0
        return (self.value - self.usual) / abs(self.usual)


@dataclass(frozen=True, slots=True)
class PanelView:
    """One panel: its worst verdict, and its series, those in trouble first.

    Attributes:
        more: how many series are not shown.
    """

    name: str
    verdict: Verdict
    series: tuple[SeriesView, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class IncidentView:
    """The incident that runs.

    Attributes:
        opened, began: first alarm and likeliest onset.
        alarms: one sentence each.
        components, shared: what alarmed, and what all of it depends on.
        elapsed: minutes; stage, task: of the clock; None and empty when over.
        deadlines: one verdict each.
        acknowledged: when; None for nobody yet.
        category, probability: as localised; empty before.
        tree: the verdicts of the walk.
        suspects: likeliest first.
        proposal, command, roll_back, runbook: the mitigation; command None where there is none.
    """

    id: str
    opened: datetime
    began: datetime
    alarms: tuple[str, ...]
    components: tuple[str, ...]
    shared: tuple[str, ...]
    elapsed: float
    stage: str | None
    task: str
    deadlines: tuple[Verdict, ...]
    acknowledged: datetime | None
    category: str = ""
    probability: float = 0.0
    tree: tuple[Verdict, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    proposal: str = ""
    command: str | None = None
    roll_back: bool = False
    runbook: str = ""


@dataclass(frozen=True, slots=True)
class OncallSnapshot:
    """Everything on the page.

    Attributes:
        at: of the evidence; its age is the age of the page.
        source: "platform", or the name of a drill.
        incidents: that run, oldest first.
        focus: the series whose three windows are drawn large; empty when nothing is measured.
        panels: everything measured, by panel.
        absent: panel to one sentence why there is nothing to show.
        changes: of the last week, newest first.
        occasions: names of the calendar entries in force within a day.
        dependencies: one verdict per probe, and those of the platform's own jobs and notices.
        problem: what kept the rest from being gathered; empty when nothing did.
    """

    at: datetime
    source: str
    incidents: tuple[IncidentView, ...] = ()
    focus: tuple[SeriesView, ...] = ()
    panels: tuple[PanelView, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    occasions: tuple[str, ...] = ()
    dependencies: tuple[Verdict, ...] = ()
    problem: str = ""


def snapshot(
    evidence: Evidence,
    incidents: Sequence[Known] = (),
    *,
    source: str = "platform",
    dependencies: Sequence[Verdict] = (),
    absent: Mapping[str, str] | None = None,
) -> OncallSnapshot:
    """The page of ``evidence`` at its instant.

    Args:
        incidents: that have not recovered.
        dependencies: what probes, jobs and notices found.
        absent: panels that do not exist here, and why.
    """
    now = evidence.now
    alarmed = {(one.panel, one.name, one.cohort) for known in incidents for one in known.incident.alarms}
    found = {panel: list(evidence.series(panel)) for panel in evidence.panels()}
    focus = _focus(found.get(QUALITY, []), incidents)
    shown = {name: series for name, series in found.items() if series}
    if rest := _beside(found.get(QUALITY, []), focus):
        shown[COHORTS] = rest
    nothing = {name: "Nothing has been measured yet." for name, series in found.items() if not series}
    return OncallSnapshot(
        now,
        source,
        tuple(_incident(known, now) for known in incidents),
        tuple(_view(one, alarmed, now, WINDOWS) for one in focus),
        tuple(_panel(name, series, alarmed, now) for name, series in shown.items()),
        {**(absent or {}), **nothing},
        tuple(sorted(evidence.changes(now - WEEK, now), key=lambda one: one.at, reverse=True)),
        tuple(one.name for one in evidence.occasions(now - DAY, now)),
        tuple(dependencies),
    )


def _incident(known: Known, now: datetime) -> IncidentView:
    view, incident, walk = clock.standing(known, now=now), known.incident, known.localisation
    found: dict[str, Any] = {} if walk is None else _localised(walk)
    return IncidentView(
        incident.id,
        incident.opened,
        clock.onset(known),
        tuple(one.sentence for one in incident.alarms),
        incident.components,
        incident.shared,
        round(clock.minutes(view.elapsed), 1),
        view.stage.name if view.stage else None,
        view.stage.task if view.stage else "",
        view.verdicts,
        view.moments.get("acknowledged"),
        **found,
    )


def _localised(walk: Localisation) -> dict[str, Any]:
    return {
        "category": walk.category,
        "probability": walk.probability,
        "tree": walk.verdicts,
        "suspects": walk.suspects[:5],
        "proposal": walk.mitigation.sentence,
        "command": walk.mitigation.command,
        "roll_back": walk.mitigation.roll_back,
        "runbook": walk.mitigation.runbook,
    }


def _focus(quality: Sequence[Series], incidents: Sequence[Known]) -> list[Series]:
    """The series drawn large: that of the earliest alarm and, for a cohort, its everybody; else the first."""
    alarms = [
        alarm
        for known in incidents
        for alarm in sorted(known.incident.alarms, key=lambda one: one.onset.likeliest)
        if alarm.panel == QUALITY
    ]
    for alarm in alarms[:1]:
        same = [one for one in quality if one.name == alarm.name]
        chosen = [one for one in same if one.cohort == alarm.cohort]
        return chosen + [one for one in same if one.cohort == EVERYBODY and one not in chosen]
    touched = {name for known in incidents for name in known.incident.components}
    everybody = [one for one in quality if one.cohort == EVERYBODY]
    return sorted(everybody, key=lambda one: one.component not in touched)[:1]


def _beside(quality: Sequence[Series], focus: Sequence[Series]) -> list[Series]:
    """The metric in focus by cohort, then every other metric for everybody."""
    names = {one.name for one in focus}
    own = [one for one in quality if one.name in names and one.cohort != EVERYBODY]
    return own + [one for one in quality if one.name not in names and one.cohort == EVERYBODY]


def _panel(
    name: str, series: Sequence[Series], alarmed: Iterable[tuple[str, str, str]], now: datetime
) -> PanelView:
    views = [_view(one, alarmed, now, (DAY,)) for one in series]
    views.sort(key=lambda one: (rank(one.verdict), -abs(one.shift)))
    worst, n = views[0].verdict, len(views)
    troubled = sum(one.verdict.status is Status.FAIL for one in views)
    said = f"{troubled} of {n} {'in trouble' if worst.blocking else 'have moved'}."
    if not troubled:
        said = _CALM[worst.status].format(n=n)
    verdict = Verdict(
        f"panel.{name}", worst.status, said, float(troubled), threshold=0.0, n=n, blocking=worst.blocking
    )
    return PanelView(name, verdict, tuple(views[:MOST_SERIES]), max(0, len(views) - MOST_SERIES))


def rank(verdict: Verdict) -> int:
    """What to show first: trouble, then what has stopped, then what has moved, then the rest."""
    if verdict.status is Status.FAIL:
        return 0 if verdict.blocking else 2
    return {Status.STALE: 1, Status.INSUFFICIENT: 3, Status.PASS: 4}[verdict.status]


_CALM = {
    Status.PASS: "All {n} as usual.",
    Status.STALE: "Some of {n} have stopped coming in.",
    Status.INSUFFICIENT: "Some of {n} have no data yet.",
}


def _view(
    series: Series, alarmed: Iterable[tuple[str, str, str]], now: datetime, windows: Sequence[timedelta]
) -> SeriesView:
    known = np.flatnonzero(np.isfinite(series.values))
    value = float(series.values[known[-1]]) if known.size else None
    usual, moved = _compared(series)
    late = now - series.at(int(known[-1])) if known.size else None
    firing = (series.panel, series.name, series.cohort) in alarmed
    return SeriesView(
        series.panel,
        series.name,
        series.cohort,
        _judged(series, value, usual, late, firing=firing, moved=moved),
        value,
        usual,
        series.limit,
        series.worse,
        {f"{window / HOUR:.0f}": _points(series, now, window) for window in windows},
    )


def _compared(series: Series) -> tuple[float | None, float]:
    """The median of the day before the last hour, and how many of its spreads the last values are away.

    The spread is 1.4826 times the median absolute deviation, a standard deviation that outliers do not move.
    """
    per_hour = max(1, round(HOUR / series.step))
    before, last = series.values[-25 * per_hour : -per_hour], series.values[-3:]
    before, last = before[np.isfinite(before)], last[np.isfinite(last)]
    if before.size < MOST_SERIES:
        return (float(np.median(before)) if before.size else None), 0.0
    usual = float(np.median(before))
    spread = 1.4826 * float(np.median(np.abs(before - usual)))
    if not last.size or spread == 0.0:
        return usual, 0.0
    return usual, abs(float(np.median(last)) - usual) / spread


def _judged(
    series: Series,
    value: float | None,
    usual: float | None,
    late: timedelta | None,
    *,
    firing: bool,
    moved: float,
) -> Verdict:
    name = f"{series.panel}.{series.name}.{series.cohort}"
    if value is None or late is None:
        return Verdict(name, Status.INSUFFICIENT, "Nothing measured yet.", threshold=series.limit)
    shown = f"{value:.3g}"
    if late > _FRESH_STEPS * series.step:
        said = f"{shown}, and nothing for {clock.minutes(late):.0f} min."
        return Verdict(name, Status.STALE, said, value, threshold=series.limit)
    limit = series.limit
    beyond = limit is not None and (value > limit if series.worse == "high" else value < limit)
    if firing or beyond:
        why = f"limit {limit:.3g}" if beyond else f"usually {usual:.3g}" if usual is not None else "in alarm"
        return Verdict(name, Status.FAIL, f"{shown} ({why}).", value, threshold=limit)
    if limit is None and moved > _MOVED:
        said = f"{shown}, {moved:.0f} times its spread from {usual:.3g}; no alarm yet."
        return Verdict(name, Status.FAIL, said, value, blocking=False)
    return Verdict(name, Status.PASS, f"{shown}, as usual.", value, threshold=limit)


def _points(series: Series, now: datetime, window: timedelta) -> Points:
    """The last ``window`` as at most :data:`MOST_POINTS` means; None where nothing was measured."""
    count = int(window / series.step)
    values = series.values[-count:] if count else series.values
    first = series.values.size - values.size
    each = max(1, -(-values.size // MOST_POINTS))
    found = []
    for start in range(0, values.size, each):
        block: FloatArray = values[start : start + each]
        at = series.at(first + start + block.size - 1)
        if at >= now - window:
            mean = float(np.nanmean(block)) if np.isfinite(block).any() else None
            found.append((at, mean if mean is None else float(f"{mean:.5g}")))
    return tuple(found)
