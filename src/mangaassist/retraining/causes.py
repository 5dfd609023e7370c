"""What may be behind a drift: one finding per possible cause, each blind to the others.

``fail`` says "this is there", ``pass`` "this is not it", ``insufficient`` that nobody can tell. What follows
from them together is :mod:`mangaassist.retraining.triage`'s part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mangaassist.core.verdict import Status, Verdict
from mangaassist.drift.history import Kind, Standing, State
from mangaassist.drift.hub import DriftReport
from mangaassist.drift.measures import rows as rows_of
from mangaassist.drift.profile import ConfusionSketch, Profile
from mangaassist.drift.sketch import CategoricalSketch, NumericSketch, Sketch
from mangaassist.retraining.lineage import Lineage
from mangaassist.retraining.seasons import SeasonCalendar
from mangaassist.stats.intervals import newcombe
from mangaassist.stats.multiple import holm

MINIMUM_ROWS = 100
SUSTAINED = timedelta(days=7)
"""Drift that lasts longer without a cause proposes a retrain (DRF-3)."""

# A column is broken when nearly all of what it held is gone; data are going missing when a tenth is.
_BROKEN, _WHOLE = 0.9, 0.5
_OUTSIDE = 0.95
_LOST = 0.1
_VOLUME = 0.5
_CHANCE = 1e-4
# A look covers a day, and a promotion reaches traffic over some hours: a change this long before explains.
_REACH = timedelta(days=3)
_SLICE_DROP = 0.05
# Labels come daily and every day is another chance to be wrong, so once in a thousand, not in a hundred.
_SLICE_CHANCE = 0.001
_SLICE_ROWS = 30


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed in a model: what, in one sentence, and when."""

    model: str
    at: datetime
    sentence: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many rows came.

    Attributes:
        last_at: arrival of the newest row; None for no row ever.
        today: rows of the last 24 hours.
        days: rows of the days before, newest first. An outage as long as these days is what is usual.
    """

    last_at: datetime | None
    today: int
    days: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a triage looks at.

    Attributes:
        story, at: what, and when it is looked at.
        report: the latest look of the drift hub.
        reference: the reference's counts.
        now: the counts of the last 24 hours; its confusion holds the labels that came in the last 14 days.
        traffic: how much came.
        broken: columns that came in another type or not at all, one sentence each.
        changes: promotions and rollbacks of the models upstream, oldest first.
        cohorts: true against predicted label by language, reference and recent.
        safety_critical: labels whose recall may never regress.
        calendar, lineage: known seasons; who reads whom.
    """

    story: str
    at: datetime
    report: DriftReport
    reference: Profile
    now: Profile
    traffic: Traffic
    calendar: SeasonCalendar
    lineage: Lineage
    broken: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    cohorts: Mapping[str, tuple[ConfusionSketch, ConfusionSketch]] = field(default_factory=dict)
    safety_critical: tuple[str, ...] = ()

    @property
    def moving(self) -> tuple[Standing, ...]:
        """The leading finding of every kind that fails now, fired or not yet."""
        found = self.report.kinds.values()
        return tuple(one for one in found if one and one.state in (State.FIRED, State.RISING))

    @property
    def fired(self) -> tuple[Standing, ...]:
        """Those that have lasted as long as the policy asks."""
        return tuple(one for one in self.moving if one.state is State.FIRED)

    @property
    def since(self) -> datetime | None:
        """When the oldest of them began; None when nothing moves."""
        return min((one.since for one in self.moving if one.since), default=None)


def drift(facts: Facts) -> Verdict:
    """``triage.drift``: is there a drift that has lasted as long as the policy asks?"""
    if facts.fired:
        return _found("drift", f"Fired: {told(facts.fired, facts.at)}.")
    if facts.moving:
        return _cannot_tell("drift", f"Not long enough yet: {told(facts.moving, facts.at)}.")
    if not any(one for one in facts.report.kinds.values()):
        return _cannot_tell("drift", "Nothing was ever decided for lack of rows.")
    return _not_it("drift", "No kind of drift fails now.")


def schema(facts: Facts) -> Verdict:
    """``triage.schema``: a column that has lost its type, its name, its unit or its code."""
    found = list(facts.broken)
    for name, then, now in _columns(facts):
        found += _broken_column(name, then, now)
    if found:
        return _found("schema", f"{'; '.join(found)}.")
    if facts.now.rows < MINIMUM_ROWS:
        return _cannot_tell("schema", f"{facts.now.rows} rows in the last day say nothing about columns.")
    return _not_it("schema", f"All {len(facts.reference.inputs)} columns hold what they held.")


def outage(facts: Facts) -> Verdict:
    """``triage.outage``: values that stop coming, fewer rows than usual, or none for too long."""
    found = [
        _is_missing(name, then, now)
        for name, (then, now) in _missing(facts).items()
        if now - then >= _LOST and not (now >= _BROKEN and then < _WHOLE)
    ]
    usual = median(facts.traffic.days) if len(facts.traffic.days) >= 3 else None
    if usual and facts.traffic.today < _VOLUME * usual and _poisson(facts.traffic.today, usual) < _CHANCE:
        found.append(f"{facts.traffic.today} rows in the last day where {usual:.0f} are usual")
    if usual and facts.traffic.last_at is not None:
        silent = facts.at - facts.traffic.last_at
        expected = usual * (silent / timedelta(days=1))
        if math.exp(-expected) < _CHANCE and silent > timedelta(hours=1):
            found.append(f"no row for {_hours(silent)} where {expected:.0f} are usual")
    if found:
        return _found("outage", f"{'; '.join(found)}.")
    if usual is None:
        return _cannot_tell("outage", "Fewer than three earlier days to compare the volume with.")
    return _not_it("outage", "As many rows as usual, and no more values missing.")


def upstream(facts: Facts) -> Verdict:
    """``triage.upstream``: did a model this one reads change shortly before the drift began?"""
    models = facts.lineage.upstream(facts.story)
    if not facts.lineage.knows(facts.story):
        return _cannot_tell("upstream", f"'{facts.story}' is not in models.yaml: its upstream is unknown.")
    since = facts.since
    if since is None or not models:
        what = "Nothing drifts." if models else "It reads no other model."
        return _not_it("upstream", what)
    near = [one for one in facts.changes if one.model in models and since - _REACH <= one.at <= since]
    if near:
        said = "; ".join(f"{one.sentence}, {_hours(since - one.at)} before the drift" for one in near)
        return _found("upstream", f"{said}.")
    return _not_it("upstream", f"No change of {', '.join(models)} in the three days before the drift.")


def season(facts: Facts) -> Verdict:
    """``triage.season``: does the drift lie in a known season? A fall in quality is never seasonal."""
    since = facts.since
    if since is None:
        return _not_it("season", "Nothing drifts.")
    if any(one.kind is Kind.CONCEPT for one in facts.moving):
        return _not_it("season", "A season moves traffic and labels; it does not make answers wrong.")
    known = facts.calendar.explaining(facts.story, since=since, now=facts.at)
    if known is None:
        return _not_it("season", "No known season covers it from its beginning until now.")
    return _found("season", f"{known[0].name}: {known[0].says} It ends on {known[1]}.")


def slices(facts: Facts) -> list[Verdict]:
    """``triage.slice.label.<label>`` (recall) and ``triage.slice.language.<language>`` (accuracy).

    A slice fails when it fell by :data:`_SLICE_DROP` or more and that is no chance after Holm's correction
    over the slices with enough labels on both sides (two proportions, Newcombe's interval beside it).
    """
    counted = [(name, then, now) for name, then, now in _slice_counts(facts) if min(then[1], now[1]) > 0]
    tested = [one for one in counted if min(one[1][1], one[2][1]) >= _SLICE_ROWS]
    p_values = [_fell_by_chance(then, now) for _, then, now in tested]
    adjusted = dict(zip((one[0] for one in tested), holm(p_values) if tested else (), strict=True))
    return [_slice_verdict(name, then, now, adjusted.get(name)) for name, then, now in counted]


def sustained(facts: Facts) -> Verdict:
    """``triage.sustained``: has a fired drift lasted for more than seven days?"""
    began = min((one.since for one in facts.fired if one.since), default=None)
    if began is None:
        return _not_it("sustained", "No drift has fired.")
    lasted = facts.at - began
    if lasted >= SUSTAINED:
        return _found("sustained", f"It has lasted for {_hours(lasted)}.")
    return _not_it("sustained", f"It has lasted for {_hours(lasted)}, less than seven days.")


def told(standings: Sequence[Standing], now: datetime) -> str:
    """Findings in words: name, value, limit, how long."""
    parts = []
    for one in standings:
        value = "" if one.value is None else f" at {one.value:.3f}"
        limit = "" if one.threshold is None else f" (limit {one.threshold:g})"
        parts.append(f"{one.name}{value}{limit} for {_hours(now - one.since if one.since else timedelta(0))}")
    return "; ".join(parts)


def _columns(facts: Facts) -> list[tuple[str, Sketch, Sketch]]:
    return [(name, then, facts.now.inputs[name]) for name, then in facts.reference.inputs.items()]


def _missing(facts: Facts) -> dict[str, tuple[float, float]]:
    """Share of missing values, then and now, of columns with enough rows."""
    return {
        name: (_missing_share(then), _missing_share(now))
        for name, then, now in _columns(facts)
        if rows_of(now) >= MINIMUM_ROWS
    }


def _broken_column(name: str, then: Sketch, now: Sketch) -> list[str]:
    if rows_of(now) < MINIMUM_ROWS:
        return []
    if _missing_share(now) >= _BROKEN and _missing_share(then) < _WHOLE:
        return [_is_missing(name, _missing_share(then), _missing_share(now))]
    if isinstance(now, CategoricalSketch) and isinstance(then, CategoricalSketch):
        return _unknown_values(name, float(_shares(then)[-1]), float(_shares(now)[-1]))
    if isinstance(now, NumericSketch) and isinstance(then, NumericSketch) and now.edges:
        return _another_unit(name, then, now)
    return []


def _unknown_values(name: str, then: float, now: float) -> list[str]:
    if now >= _BROKEN and then < _WHOLE:
        return [f"{name} holds values never seen before in {now:.0%} of the rows"]
    return []


def _another_unit(name: str, then: NumericSketch, now: NumericSketch) -> list[str]:
    before, after = _shares(then), _shares(now)
    outer = max((0, -1), key=lambda index: float(after[index]))
    if after[outer] >= _OUTSIDE and before[outer] < _WHOLE:
        where = now.names[0] if outer == 0 else now.names[-2]
        share = f"{after[outer]:.0%} of the rows, was {before[outer]:.0%}"
        return [f"{name} is {where} in {share}: another unit?"]
    return []


def _is_missing(name: str, then: float, now: float) -> str:
    return f"{name} is missing in {now:.0%} of the rows, was {then:.0%}"


def _shares(sketch: NumericSketch | CategoricalSketch) -> NDArray[np.float64]:
    """Shares of the values that are there."""
    counts = sketch.cells[:-1].astype(np.float64)
    shares: NDArray[np.float64] = counts / max(1.0, float(counts.sum()))
    return shares


def _missing_share(sketch: Sketch) -> float:
    return sketch.missing / max(1, rows_of(sketch))


def _poisson(rows: int, usual: float) -> float:
    """Chance of ``rows`` or fewer where ``usual`` come, at twice the Poisson variance, as days vary."""
    return float(special.pdtr(rows // 2, usual / 2))


Counts = tuple[int, int]
"""How many were right, of how many."""


def _slice_counts(facts: Facts) -> list[tuple[str, Counts, Counts]]:
    then, now = facts.reference.confusion.matrix(), facts.now.confusion.matrix()
    labels = [
        (f"label.{label}", (int(then[i, i]), int(then[i].sum())), (int(now[i, i]), int(now[i].sum())))
        for i, label in enumerate(facts.reference.confusion.labels)
    ]
    languages = [
        (f"language.{name}", _right(before), _right(after)) for name, (before, after) in facts.cohorts.items()
    ]
    return labels + languages


def _right(confusion: ConfusionSketch) -> Counts:
    known = len(confusion.labels)
    right = sum(rows for (true, said), rows in confusion.cells.items() if true == said < known)
    return right, confusion.rows


def _fell_by_chance(then: Counts, now: Counts) -> float:
    """One-sided p-value of the pooled two-proportion test that the slice has not fallen."""
    pooled = (then[0] + now[0]) / (then[1] + now[1])
    error = math.sqrt(pooled * (1 - pooled) * (1 / then[1] + 1 / now[1]))
    return float(special.ndtr(-(then[0] / then[1] - now[0] / now[1]) / error)) if error else 1.0


def _slice_verdict(name: str, then: Counts, now: Counts, chance: float | None) -> Verdict:
    before, after = then[0] / then[1], now[0] / now[1]
    change = newcombe(*now, *then)
    sentence = (
        f"{name.replace('.', ' ')}: {before:.1%} of {then[1]} right before, {after:.1%} of {now[1]} now"
    )
    if chance is None:
        status, sentence = Status.INSUFFICIENT, f"{sentence}: too few labels."
    elif before - after >= _SLICE_DROP and chance <= _SLICE_CHANCE:
        status, sentence = Status.FAIL, f"{sentence} (p = {chance:.2g} after Holm's correction)."
    else:
        able = change.low > -2 * _SLICE_DROP
        status, sentence = Status.PASS if able else Status.INSUFFICIENT, f"{sentence}."
    return Verdict(
        f"triage.slice.{name}",
        status,
        sentence,
        after - before,
        change.low,
        change.high,
        -_SLICE_DROP,
        now[1],
    )


def _hours(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.1f} days"


def _found(name: str, sentence: str) -> Verdict:
    return Verdict(f"triage.{name}", Status.FAIL, sentence)


def _not_it(name: str, sentence: str) -> Verdict:
    return Verdict(f"triage.{name}", Status.PASS, sentence)


def _cannot_tell(name: str, sentence: str) -> Verdict:
    return Verdict(f"triage.{name}", Status.INSUFFICIENT, sentence)
