"""Geometry of the experiment pictures, in viewBox units; the templates draw it.

Every number drawn here also stands as text beside its picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from mangaassist.web.calibration_view import BinView, MeasureRow
from mangaassist.web.charts import BAR_WIDTH
from mangaassist.web.experiment_view import EffectRow, EffectsView, GuardRow
from mangaassist.web.look_view import Boundary

EFFECT_WIDTH = 300.0
GUARD_WIDTH = 180.0
LOOKS_WIDTH, LOOKS_HEIGHT = 460.0, 232.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 14.0, 16.0, 12.0, 28.0
_MARGIN = 8.0
# Ends of intervals may stretch the scale this many times what everything else needs; beyond, they are cut.
_STRETCH = 1.5
# Guardrails are drawn up to this many limits away from 0.
_LEAST_REACH, _MOST_REACH = 2.0, 8.0
_HEADROOM = 1.3


@dataclass(frozen=True, slots=True)
class Whisker:
    """A value and its interval on a scale; ``cut_low`` and ``cut_high`` say that an end lies outside."""

    value: float
    low: float | None
    high: float | None
    cut_low: bool = False
    cut_high: bool = False


@dataclass(frozen=True, slots=True)
class EffectMark:
    """One row of the effects: positions of its whisker, its limit and its pooled value."""

    row: EffectRow
    whisker: Whisker
    threshold: float | None
    pooled: float | None


@dataclass(frozen=True, slots=True)
class EffectPlot:
    """All rows of all arms on one scale.

    Attributes:
        groups: (arm, marks).
        ticks: (x, value).
        zero: x of no change.
        mde: x of the smallest effect worth finding.
    """

    groups: tuple[tuple[str, tuple[EffectMark, ...]], ...]
    ticks: tuple[tuple[float, float], ...]
    zero: float
    mde: float


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map of [start, end] onto a picture's width; values outside are drawn at its edge."""

    start: float
    end: float
    width: float

    def x(self, value: float) -> float:
        inside = min(max(value, self.start), self.end)
        along = (inside - self.start) / (self.end - self.start)
        return round(_MARGIN + along * (self.width - 2 * _MARGIN), 1)

    def whisker(self, value: float, low: float | None, high: float | None) -> Whisker:
        """An end that is None has no bound: the whisker runs to the edge and is cut."""
        known = low is not None or high is not None
        left = low if low is not None else self.start
        right = high if high is not None else self.end
        return Whisker(
            self.x(value),
            self.x(left) if known else None,
            self.x(right) if known else None,
            known and (low is None or low < self.start),
            known and (high is None or high > self.end),
        )


def effect_plot(view: EffectsView) -> EffectPlot:
    """Everybody and every cohort on one scale that holds all values, limits and 0.

    Very wide intervals are cut rather than squeezing all others.
    """
    rows = [row for group in view.groups for row in group.rows]
    scale = _effect_scale(rows, view.mde)
    groups = tuple((group.arm, tuple(_mark(scale, row) for row in group.rows)) for group in view.groups)
    ticks = tuple((scale.x(value), value) for value in _ticks(scale.start, scale.end))
    return EffectPlot(groups, ticks, scale.x(0.0), scale.x(view.mde))


def _mark(scale: Scale, row: EffectRow) -> EffectMark:
    return EffectMark(
        row,
        scale.whisker(row.lift.value, row.lift.low, row.lift.high),
        scale.x(row.threshold) if row.threshold is not None else None,
        scale.x(row.pooled) if row.pooled is not None else None,
    )


def _effect_scale(rows: Sequence[EffectRow], mde: float) -> Scale:
    core = [0.0, mde, *_known(row.lift.value for row in rows)]
    core += _known(row.threshold for row in rows) + _known(row.pooled for row in rows)
    for row in rows:
        if not row.dimension:
            core += _known((row.lift.low, row.lift.high))
    low, high = min(core), max(core)
    room = (high - low) * _STRETCH or 1.0
    ends = _known(end for row in rows for end in (row.lift.low, row.lift.high))
    start = max(min([low, *ends]), low - room)
    end = min(max([high, *ends]), high + room)
    pad = 0.04 * (end - start)
    return Scale(start - pad, end + pad, EFFECT_WIDTH)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _ticks(start: float, end: float) -> list[float]:
    """Round values inside [start, end], four to seven of them."""
    raw = (end - start) / 5
    size = 10.0 ** floor(log10(raw))
    step = min((1, 2, 5, 10), key=lambda one: abs(one * size - raw)) * size
    return [round(step * at, 12) for at in range(ceil(start / step), floor(end / step) + 1)]


@dataclass(frozen=True, slots=True)
class GuardMark:
    """A guardrail in shares of its limit, harm to the left: the limit stands at the same x for all."""

    whisker: Whisker
    limit: float
    zero: float


def guard_marks(rows: Sequence[GuardRow]) -> tuple[tuple[GuardRow, GuardMark | None], ...]:
    """Every guardrail on one scale; None without a measured value, or with a limit of 0 to be a share of."""
    values = [abs(one[0]) for row in rows if (one := _shares(row)) is not None]
    reach = min(max([_LEAST_REACH, *(1.15 * one for one in values)]), _MOST_REACH)
    scale = Scale(-reach, reach, GUARD_WIDTH)
    return tuple((row, _guard_mark(scale, row)) for row in rows)


def _guard_mark(scale: Scale, row: GuardRow) -> GuardMark | None:
    shares = _shares(row)
    if shares is None:
        return None
    return GuardMark(scale.whisker(*shares), scale.x(-1.0), scale.x(0.0))


def _shares(row: GuardRow) -> tuple[float, float | None, float | None] | None:
    """Value and ends in shares of the limit, which stands at -1: harm is drawn to the left."""
    one = row.verdict
    if one is None or one.value is None or not row.limit:
        return None
    low, high = (-end / row.limit if end is not None else None for end in (one.low, one.high))
    return -one.value / row.limit, *((high, low) if row.limit > 0 else (low, high))


@dataclass(frozen=True, slots=True)
class Gate:
    """A registered look: its title, and the y it has to pass on either side."""

    x: float
    upper: float
    lower: float
    title: str


@dataclass(frozen=True, slots=True)
class Seen:
    """An observed look; ``beyond`` when it lies outside the picture and is drawn at its edge."""

    x: float
    y: float
    crossed: bool
    beyond: bool


@dataclass(frozen=True, slots=True)
class BoundaryPlot:
    """The boundary of one arm, with what was observed.

    Attributes:
        upper, lower: the boundary as SVG point lists; empty with a single gate.
        win, harm: the regions beyond it as SVG polygons; empty likewise.
        gates: registered looks.
        ticks: (x, text) under the axis where there are no gates.
        seen: observed looks in order.
        path: their connection as an SVG point list.
        zero: y of no difference.
    """

    upper: str
    lower: str
    win: str
    harm: str
    gates: tuple[Gate, ...]
    ticks: tuple[tuple[float, str], ...]
    seen: tuple[Seen, ...]
    path: str
    zero: float


def boundary_plot(boundary: Boundary) -> BoundaryPlot:
    """The area between the boundaries is where an experiment goes on; x is information or users."""
    height = max((z for _, z in boundary.curve), default=1.0) * _HEADROOM
    far = max([x for x, _ in boundary.curve] + [one.x for one in boundary.observed], default=1.0)
    far = max(far, 1.0)

    def x(value: float) -> float:
        return round(_LEFT + value / far * (LOOKS_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        inside = min(max(value, -height), height)
        return round(_TOP + (height - inside) / (2 * height) * (LOOKS_HEIGHT - _TOP - _BOTTOM), 1)

    upper = [(x(at), y(z)) for at, z in boundary.curve]
    lower = [(x(at), y(-z)) for at, z in boundary.curve]
    seen = tuple(Seen(x(one.x), y(one.z), one.crossed, abs(one.z) > height) for one in boundary.observed)
    start = [(x(0.0), y(0.0))] if seen and not boundary.by_users else []
    return BoundaryPlot(
        _points(upper),
        _points(lower),
        _region(upper, y(height)),
        _region(lower, y(-height)),
        tuple(Gate(x(at), y(z), y(-z), title) for at, z, title in boundary.gates),
        tuple((x(at), f"{at:,.0f}") for at in _ticks(0.0, far)[1:]) if boundary.by_users else (),
        seen,
        _points([*start, *((one.x, one.y) for one in seen)]),
        y(0.0),
    )


@dataclass(frozen=True, slots=True)
class BinMark:
    """A bin of finished picks on a square of both shares, y upwards in the share that won."""

    x: float
    y: float
    low: float
    high: float


def reliability_marks(bins: Sequence[BinView]) -> tuple[BinMark, ...]:
    """Positions in the square from (30, 190) to (210, 10)."""

    def y(share: float | None, otherwise: float) -> float:
        return round(190 - 180 * (share if share is not None else otherwise), 1)

    return tuple(
        BinMark(
            round(30 + 180 * one.stated, 1),
            y(one.realised.value, 0.0),
            y(one.realised.low, 0.0),
            y(one.realised.high, 1.0),
        )
        for one in bins
    )


@dataclass(frozen=True, slots=True)
class AuditBar:
    """A measure with its interval and the x of its limits: two where it has to stay within."""

    whisker: Whisker
    limits: tuple[float, ...]


def audit_bar(row: MeasureRow) -> AuditBar | None:
    """Shares from 0 to 1, gaps symmetric about 0, anything else from 0 on; None without cases."""
    one = row.record
    if one.value is None or one.low is None or one.high is None or not one.n:
        return None
    threshold = one.threshold
    limits = () if threshold is None else (-threshold, threshold) if row.target == "within" else (threshold,)
    far = max(map(abs, (one.value, one.low, one.high, *limits))) or 1.0
    ends = {"share": (0.0, 1.0), "points": (-far, far)}.get(row.unit, (0.0, far))
    scale = Scale(*ends, BAR_WIDTH)
    return AuditBar(scale.whisker(one.value, one.low, one.high), tuple(scale.x(limit) for limit in limits))


def labels_apart(gates: Sequence[Gate], *, least: float = 44.0) -> tuple[Gate, ...]:
    """The gates whose titles have room under the axis; the last one always has it."""
    kept: list[Gate] = []
    for gate in reversed(gates):
        if not kept or kept[-1].x - gate.x >= least:
            kept.append(gate)
    return tuple(reversed(kept))


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points) if len(points) > 1 else ""


def _region(edge: Sequence[tuple[float, float]], outside: float) -> str:
    if not any(a != b for a, b in pairwise(edge)):
        return ""
    return _points([(edge[0][0], outside), *edge, (edge[-1][0], outside)])
