"""The 3am page from its snapshot: geometry of the charts, words, and the page itself (INC-2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mangaassist.core.verdict import Status, Verdict, worst
from mangaassist.incidents.clock import STAGES
from mangaassist.incidents.records import EVERYBODY, Change
from mangaassist.incidents.snapshot import (
    COHORTS,
    QUALITY,
    IncidentView,
    OncallSnapshot,
    PanelView,
    Points,
    SeriesView,
    rank,
)
from mangaassist.web.pages import asset, render

OLD = timedelta(seconds=60)
"""Data older than this is said to be old."""

WIDTH, HEIGHT = 420.0, 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 30.0, 26.0
SPARK_WIDTH, SPARK_HEIGHT = 84.0, 20.0
CLOCK_WIDTH = 400.0
_CLASH = 17.0

WORDS = {
    Status.PASS: ("OK", "pass"),
    Status.FAIL: ("Trouble", "fail"),
    Status.INSUFFICIENT: ("No data", "unsure"),
    Status.STALE: ("Stale", "stale"),
}
TREE_WORDS = {
    Status.PASS: ("Ruled out", "pass"),
    Status.FAIL: ("Points here", "fail"),
    Status.INSUFFICIENT: ("No evidence", "unsure"),
    Status.STALE: ("Old evidence", "stale"),
}
DEADLINE_WORDS = {
    Status.PASS: ("In time", "pass"),
    Status.FAIL: ("Late", "fail"),
    Status.INSUFFICIENT: ("Open", "trial"),
    Status.STALE: ("Stale", "stale"),
}
LETTERS = {
    "deploy": ("D", "code"),
    "model": ("M", "model"),
    "configuration": ("C", "configuration"),
    "switch": ("K", "switch"),
    "prompt": ("P", "prompt"),
    "schema": ("S", "schema"),
    "index": ("I", "index"),
    "infrastructure": ("N", "infrastructure"),
    "managed_service": ("X", "managed service"),
    "interface": ("U", "user interface"),
    "campaign": ("E", "campaign"),
}
# Where each panel stands and what it is called; panels nobody named come after these under their own name.
PLACES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Upstream data": ("data", ("upstream", "schema", "upstream_data")),
    "Feature drift, top 10": ("features", ("feature_drift", "input_drift")),
    "Cohorts": ("cohorts", (COHORTS,)),
    "Stages: latency, errors": ("stages", ("latency", "errors")),
    "Recall by shard": ("shards", ("shard_recall",)),
}


@dataclass(frozen=True, slots=True)
class Marker:
    """One or more changes at one place of a chart: x, the letter shown, and what they are in words."""

    x: float
    letter: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One window of the metric in focus, in viewBox units.

    Attributes:
        title: of the window; spoken: the whole in one sentence, for those who hear the page.
        lines: per series, polylines as point lists; the first series is the one in trouble.
        last: (x, y) of the newest known value of the first series.
        ticks: (y, text) of the value axis; times: (x, text) of the time axis.
        usual, limit: y; None where there is none or it lies outside.
        trouble: x at which the alarm's onset lies; None outside the window.
    """

    title: str
    spoken: str
    lines: tuple[tuple[str, ...], ...]
    last: tuple[float, float] | None
    ticks: tuple[tuple[float, str], ...]
    times: tuple[tuple[float, str], ...]
    usual: float | None
    limit: float | None
    trouble: float | None
    markers: tuple[Marker, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """One panel as placed on the page: its series, each with the shortest name that tells it apart."""

    title: str
    key: str
    verdict: Verdict
    rows: tuple[tuple[str, SeriesView], ...] = ()
    more: int = 0


def page(
    snapshot: OncallSnapshot, *, now: datetime | None = None, root: str = "", inline: bool = False
) -> str:
    """The page as HTML; it needs no script.

    Args:
        now: when it is served, so that it can say how old it is; None for a page kept as a file.
        root: path under which the pages are mounted.
        inline: put the style into the page, so that the file stands alone.
    """
    age = max(timedelta(0), now - snapshot.at) if now else None
    left = 60 if age is None else max(0, 60 - int(age.total_seconds()))
    tone, headline = said(snapshot)
    return render(
        "oncall.html",
        snapshot,
        root=root,
        address="/oncall",
        age=age,
        old=age is not None and age > OLD,
        left=left // 10 * 10,
        style=asset("oncall.css").decode() if inline else "",
        tone=tone,
        headline=headline,
        charts_of_focus=charts(snapshot),
        boxes=boxes(snapshot),
        dial=dial(snapshot.incidents[0]) if snapshot.incidents else None,
        spark=spark,
        LETTERS=LETTERS,
        WORDS=WORDS,
        TREE=TREE_WORDS,
        DEADLINE=DEADLINE_WORDS,
        EVERYBODY=EVERYBODY,
        lasting_from=snapshot.at,
        number=number,
        short_name=short_name,
        worded=worded,
        split=split,
        worst=worst(snapshot.dependencies),
    )


def said(snapshot: OncallSnapshot) -> tuple[str, str]:
    """The tone and the one sentence at the top."""
    if snapshot.problem:
        return "fail", snapshot.problem
    if snapshot.incidents:
        many = len(snapshot.incidents)
        first = snapshot.incidents[0]
        what = " and ".join(first.components) or first.id
        rest = f", and {many - 1} more" if many > 1 else ""
        return "fail", f"Incident: {what}{rest}"
    troubled = [
        one.name for one in snapshot.panels if one.verdict.status is Status.FAIL and one.verdict.blocking
    ]
    broken = [short_name(one.name) for one in snapshot.dependencies if one.status is Status.FAIL]
    if troubled or broken:
        return "rising", f"No incident, but look at {', '.join([*broken, *troubled]).replace('_', ' ')}"
    if not snapshot.panels and not snapshot.dependencies:
        return "unsure", "Nothing is watched yet"
    stopped = [one.name for one in snapshot.panels if one.verdict.status is Status.STALE]
    if QUALITY in stopped:
        return "stale", "No incident known, but no answers have come in"
    return "pass", "No incident"


def boxes(snapshot: OncallSnapshot) -> tuple[Box, ...]:
    """Every panel in its place; one that has nothing to show says why."""
    by_name = {one.name: one for one in snapshot.panels}
    named = {panel for _, names in PLACES.values() for panel in names} | {QUALITY}
    found = []
    for title, (key, names) in PLACES.items():
        there = [by_name[one] for one in names if one in by_name]
        why = next(
            (snapshot.absent[one] for one in names if one in snapshot.absent), "Nothing measures it here."
        )
        found.append(_box(title, key, there, why))
    rest = [one for one in snapshot.panels if one.name not in named]
    rest.sort(key=lambda one: rank(one.verdict))
    found.extend(_box(one.name.replace("_", " ").capitalize(), one.name, [one], "") for one in rest)
    return tuple(found)


def _box(title: str, key: str, there: Sequence[PanelView], why: str) -> Box:
    series = tuple(row for one in there for row in one.series)
    if not series:
        return Box(title, key, Verdict(f"panel.{key}", Status.INSUFFICIENT, why))
    found = min(there, key=lambda one: rank(one.verdict)).verdict
    ordered = sorted(series, key=lambda one: rank(one.verdict))
    shown = tuple(ordered[:10])
    more = sum(one.more for one in there) + len(series) - len(shown)
    return Box(title, key, found, tuple((_label(one, series), one) for one in shown), more)


def _label(one: SeriesView, beside: Sequence[SeriesView]) -> str:
    """The component is left out where all share it, the metric where the cohort says it all."""
    components = {other.name.partition(".")[0] for other in beside}
    if one.cohort != EVERYBODY and sum(other.cohort == one.cohort for other in beside) == 1:
        return one.cohort
    name = one.name.partition(".")[2] if len(components) == 1 and "." in one.name else one.name
    return name if one.cohort == EVERYBODY else f"{name} {one.cohort}"


def charts(snapshot: OncallSnapshot) -> tuple[Chart, ...]:
    """The focus over seven days, a day and an hour, each with what changed in it."""
    titles = {"168": "7 days", "24": "24 hours", "1": "60 minutes"}
    if not snapshot.focus:
        return ()
    return tuple(_chart(snapshot, key, title, timedelta(hours=int(key))) for key, title in titles.items())


def _chart(snapshot: OncallSnapshot, key: str, title: str, span: timedelta) -> Chart:
    first, end = snapshot.focus[0], snapshot.at
    begin = end - span
    drawn = [one.points.get(key, ()) for one in snapshot.focus]
    low, high = _range(drawn, first)

    def x(at: datetime) -> float:
        return round(_LEFT + (at - begin) / span * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    known = [(at, value) for at, value in drawn[0] if value is not None]
    inside = [one for one in (first.usual, first.limit) if one is not None and low <= one <= high]
    began = snapshot.incidents[0].began if snapshot.incidents else None
    shown = [one for one in snapshot.changes if begin <= one.at <= end]
    return Chart(
        title,
        f"{first.name} over {title}: now {number(first.value)}, usually {number(first.usual)}; "
        f"{len(shown)} changes.",
        tuple(tuple(_segments(points, x, y)) for points in drawn),
        (x(known[-1][0]), y(known[-1][1])) if known else None,
        tuple((y(value), number(value)) for value in (low + (high - low) * 0.1, high - (high - low) * 0.1)),
        tuple((x(begin + span * part), _time(begin + span * part, span)) for part in (0.02, 0.5, 0.98)),
        y(first.usual) if first.usual in inside and first.usual is not None else None,
        y(first.limit) if first.limit in inside and first.limit is not None else None,
        x(began) if began is not None and begin <= began <= end else None,
        _markers(shown, x),
    )


def _range(drawn: Iterable[Points], first: SeriesView) -> tuple[float, float]:
    values = [value for points in drawn for _, value in points if value is not None]
    if first.usual is not None:
        values.append(first.usual)
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def _segments(points: Points, x: Callable[[datetime], float], y: Callable[[float], float]) -> Iterable[str]:
    run: list[str] = []
    for at, value in points:
        if value is not None:
            run.append(f"{x(at)},{y(value)}")
        elif run:
            yield " ".join(run)
            run = []
    if run:
        yield " ".join(run)


def _markers(changes: Sequence[Change], x: Callable[[datetime], float]) -> tuple[Marker, ...]:
    """Changes from left to right; those too close to tell apart are one marker with their number."""
    groups: list[list[tuple[float, Change]]] = []
    for place, change in sorted(((x(one.at), one) for one in changes), key=lambda pair: pair[0]):
        if groups and place - groups[-1][0][0] < _CLASH:
            groups[-1].append((place, change))
        else:
            groups.append([(place, change)])
    return tuple(
        Marker(
            group[-1][0],
            LETTERS.get(group[0][1].kind, ("?", ""))[0] if len(group) == 1 else str(len(group)),
            "; ".join(f"{one.kind.replace('_', ' ')} {one.subject}: {one.summary}" for _, one in group),
        )
        for group in groups
    )


def spark(series: SeriesView) -> tuple[tuple[str, ...], tuple[float, float] | None]:
    """The last day in a row's picture: polylines, and the newest point."""
    points = series.points.get("24", ())
    values = [value for _, value in points if value is not None]
    if len(values) < 2:
        return (), None
    low, high = min(values), max(values)
    span, first = (high - low) or 1.0, points[0][0]
    length = (points[-1][0] - first) or timedelta(seconds=1)

    def x(at: datetime) -> float:
        return round(2 + (at - first) / length * (SPARK_WIDTH - 8), 1)

    def y(value: float) -> float:
        return round(SPARK_HEIGHT - 3 - (value - low) / span * (SPARK_HEIGHT - 6), 1)

    at, newest = next((at, value) for at, value in reversed(points) if value is not None)
    return tuple(_segments(points, x, y)), (x(at), y(newest))


@dataclass(frozen=True, slots=True)
class Dial:
    """The clock as a bar: three windows of equal width, and how far the hand is, in viewBox units."""

    windows: tuple[tuple[float, str, str], ...]
    hand: float


def dial(incident: IncidentView) -> Dial:
    """Fifteen, sixty and two hundred and forty minutes side by side, so that the first can be read, too."""
    windows = [one for one in STAGES if one.ends is not None]
    width = CLOCK_WIDTH / len(windows)
    drawn = tuple(
        (round(place * width, 1), one.milestone, f"{one.ends}") for place, one in enumerate(windows)
    )
    for place, one in enumerate(windows):
        if one.ends is not None and incident.elapsed <= one.ends:
            part = (incident.elapsed - one.starts) / (one.ends - one.starts)
            return Dial(drawn, round((place + max(0.0, part)) * width, 1))
    return Dial(drawn, CLOCK_WIDTH)


def number(value: float | None) -> str:
    """Three significant figures, as short as a tired person needs."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:,.0f}k"
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if size >= 0.01 or size == 0 else f"{value:.1g}"


def split(name: str) -> list[str]:
    """A name in the parts between which a narrow column may break it."""
    return re.findall(r"[^_.= ]+[_.= ]*|[_.= ]+", name)


def worded(verdict: Verdict) -> tuple[str, str]:
    """The word and the icon of a verdict."""
    return WORDS[verdict.status] if verdict.blocking else ("Moved", "rising")


def short_name(name: str) -> str:
    """ "probe.model.intent" reads "model.intent"."""
    return name.partition(".")[2] or name


def _time(at: datetime, span: timedelta) -> str:
    return f"{at:%a %-d}" if span > timedelta(days=1) else f"{at:%H:%M}"
