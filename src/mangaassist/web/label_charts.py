"""Geometry of the label page's pictures, in viewBox units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mangaassist.labels.reporting import Volume
from mangaassist.stats.intervals import Estimate

VOLUME_WIDTH, VOLUME_HEIGHT = 560.0, 150.0
RUN_WIDTH, RUN_HEIGHT = 150.0, 36.0
_LEFT, _FOOT, _GAP = 44.0, 20.0, 0.25
_WEEKS = 16


@dataclass(frozen=True, slots=True)
class Stack:
    """One week of the volume chart.

    Attributes:
        x, width: where its bar stands; week, total: what it is.
        parts: (source, y, height, votes), bottom first.
        labelled: whether there is room for its date.
    """

    x: float
    width: float
    week: datetime
    total: int
    parts: tuple[tuple[str, float, float, int], ...]
    labelled: bool


@dataclass(frozen=True, slots=True)
class VolumeChart:
    """Stacked bars of the last weeks, with (y, votes) ticks and the order of the sources."""

    stacks: tuple[Stack, ...]
    ticks: tuple[tuple[float, int], ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """An annotator's kappa by week.

    Attributes:
        segments: polylines as SVG point lists; bands: polygons of the intervals.
        limit: y of the pause limit; None without one.
        last: (x, y) of the last known point.
    """

    segments: tuple[str, ...]
    bands: tuple[str, ...]
    limit: float | None
    last: tuple[float, float]


def volume_chart(rows: Sequence[Volume]) -> VolumeChart | None:
    """The last sixteen weeks that have votes; None without any."""
    if not rows:
        return None
    weeks = sorted({one.week for one in rows})[-_WEEKS:]
    shown = [one for one in rows if one.week in weeks]
    sources = tuple(sorted({one.source for one in shown}, key=lambda name: -sum(_of(shown, name))))
    top = max(sum(one.votes for one in shown if one.week == week) for week in weeks)
    scale = (VOLUME_HEIGHT - _FOOT - 6) / top
    step = (VOLUME_WIDTH - _LEFT) / len(weeks)
    every = max(1, -(-len(weeks) // 8))
    stacks = []
    for place, week in enumerate(weeks):
        parts, floor = [], VOLUME_HEIGHT - _FOOT
        for source in sources:
            votes = sum(one.votes for one in shown if one.week == week and one.source == source)
            floor -= votes * scale
            parts.append((source, round(floor, 1), round(votes * scale, 1), votes))
        total = sum(part[3] for part in parts)
        width = min(step * (1 - _GAP), 48.0)
        x = round(_LEFT + place * step + (step - width) / 2, 1)
        stacks.append(Stack(x, round(width, 1), week, total, tuple(parts), place % every == 0))
    ticks = tuple((round(VOLUME_HEIGHT - _FOOT - value * scale, 1), value) for value in (0, top // 2, top))
    return VolumeChart(tuple(stacks), ticks, sources)


def _of(rows: Sequence[Volume], source: str) -> list[int]:
    return [one.votes for one in rows if one.source == source]


def run_chart(points: Sequence[tuple[datetime, Estimate | None]], limit: float | None) -> Run | None:
    """Kappa by week on a scale from the lowest thing shown to 1; None with fewer than two known weeks."""
    known = [one for _, one in points if one is not None]
    if len(known) < 2:
        return None
    bottom = min(0.8, *(one.low for one in known), *([limit] if limit is not None else []))

    def x(place: int) -> float:
        return round(3 + place * (RUN_WIDTH - 8) / (len(points) - 1), 1)

    def y(value: float) -> float:
        return round(RUN_HEIGHT - 4 - (min(value, 1.0) - bottom) / (1 - bottom) * (RUN_HEIGHT - 8), 1)

    runs: list[list[tuple[int, Estimate]]] = [[]]
    for place, (_, one) in enumerate(points):
        if one is None:
            runs.append([])
        else:
            runs[-1].append((place, one))
    lines = tuple(" ".join(f"{x(at)},{y(one.value)}" for at, one in run) for run in runs if len(run) > 1)
    bands = tuple(
        " ".join(
            [f"{x(at)},{y(one.low)}" for at, one in run]
            + [f"{x(at)},{y(one.high)}" for at, one in reversed(run)]
        )
        for run in runs
        if len(run) > 1
    )
    at, last = next((place, one) for place, (_, one) in reversed(list(enumerate(points))) if one is not None)
    return Run(lines, bands, y(limit) if limit is not None else None, (x(at), y(last.value)))
