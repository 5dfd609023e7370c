"""Geometry of the small pictures, in viewBox units; the templates draw it.

The same numbers stand as text beside every picture, so the pictures themselves are hidden from screen readers
unless they carry something the text does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mangaassist.core.verdict import Verdict
from mangaassist.web.view import LanguageView

BAR_WIDTH = 120.0
SPARK_WIDTH, SPARK_HEIGHT = 150.0, 36.0
PLOT_WIDTH = 190.0
_MARGIN = 5.0


@dataclass(frozen=True, slots=True)
class Bar:
    """Positions along :data:`BAR_WIDTH`; None for what the verdict lacks."""

    value: float
    low: float | None
    high: float | None
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A line with gaps, its limit, and its last point.

    Attributes:
        segments: polylines as SVG point lists.
        threshold: y of the limit; None without one.
        last: (x, y) of the last known point; None without one.
        over: x where the current run above the limit starts; None when there is none.
    """

    segments: tuple[str, ...]
    threshold: float | None
    last: tuple[float, float] | None
    over: float | None


@dataclass(frozen=True, slots=True)
class Dot:
    """One language on the common scale of :class:`Plot`."""

    row: LanguageView
    value: float
    low: float | None
    high: float | None
    floor: float | None
    ceiling: float | None


@dataclass(frozen=True, slots=True)
class Plot:
    """Rows on one scale, with (x, value) ticks."""

    dots: tuple[Dot, ...]
    ticks: tuple[tuple[float, float], ...]


def verdict_bar(verdict: Verdict) -> Bar | None:
    """Value, interval and threshold on one line; None without a value to show.

    Shares are drawn on 0 to 1 when that does not squeeze them, everything else on its own span from zero.
    """
    if verdict.value is None:
        return None
    shown = [one for one in (verdict.value, verdict.low, verdict.high, verdict.threshold) if one is not None]
    start, end = min(0.0, *shown), max(*shown, 0.0)
    if 0.5 < end <= 1.0 and start == 0.0:
        end = 1.0
    if start == 0.0 and end > 0 and min(shown) > 0.6 * end:
        start = min(shown) - (end - min(shown)) * 0.5
    if end <= start:
        end = start + 1.0

    def x(value: float | None) -> float | None:
        if value is None:
            return None
        return _round(_MARGIN + (value - start) / (end - start) * (BAR_WIDTH - 2 * _MARGIN))

    return Bar(x(verdict.value) or 0.0, x(verdict.low), x(verdict.high), x(verdict.threshold))


def sparkline(
    points: Sequence[tuple[datetime, float | None]], threshold: float | None, since: datetime | None
) -> Sparkline | None:
    """The history from its first to its last time; None with fewer than two known points."""
    known = [(at, value) for at, value in points if value is not None]
    if len(known) < 2 or points[0][0] == points[-1][0]:
        return None
    first, span = points[0][0], points[-1][0] - points[0][0]
    top = max(*(value for _, value in known), threshold * 1.3 if threshold else 0.0) or 1.0
    bottom = min(0.0, *(value for _, value in known))

    def x(at: datetime) -> float:
        return _round(2 + (at - first) / span * (SPARK_WIDTH - 8))

    def y(value: float) -> float:
        return _round(SPARK_HEIGHT - 4 - (value - bottom) / (top - bottom) * (SPARK_HEIGHT - 8))

    segments: list[list[str]] = [[]]
    for at, value in points:
        if value is None:
            segments.append([])
        else:
            segments[-1].append(f"{x(at)},{y(value)}")
    last = known[-1]
    return Sparkline(
        segments=tuple(" ".join(segment) for segment in segments if len(segment) > 1),
        threshold=y(threshold) if threshold is not None else None,
        last=(x(last[0]), y(last[1])),
        over=x(max(since, first)) if since is not None else None,
    )


def language_plot(rows: Sequence[LanguageView]) -> Plot:
    """All languages on one scale that starts a tenth under the lowest number shown and ends at 1."""
    shown = [
        value
        for row in rows
        for value in (row.accuracy.value, row.accuracy.low, row.floor)
        if value is not None
    ]
    start = max(0.0, int((min(shown, default=0.0) - 1e-9) * 10) / 10)
    start = min(start, 0.8)

    def x(value: float | None) -> float | None:
        if value is None:
            return None
        return _round(_MARGIN + (value - start) / (1 - start) * (PLOT_WIDTH - 2 * _MARGIN))

    dots = tuple(
        Dot(
            row,
            x(row.accuracy.value) or 0.0,
            x(row.accuracy.low),
            x(row.accuracy.high),
            x(row.floor),
            x(row.ceiling),
        )
        for row in rows
    )
    values = [start, (start + 1) / 2, 1.0]
    return Plot(dots, tuple((x(value) or 0.0, value) for value in values))


def _round(value: float) -> float:
    return round(value, 1)
