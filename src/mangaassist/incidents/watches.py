"""A fleet watched at two paces: a collapse every minute where a minute counts enough, the rest every five.

Both share one budget of false alarms. What alarms at one pace is not told again by the other, and is over
when it is back to usual at both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from mangaassist.incidents.alarms import Label, Watch, fleet_thresholds, rebased, tick, watch
from mangaassist.incidents.baselines import Usual, finer, fit, hours_of
from mangaassist.incidents.records import Alarm, Series
from mangaassist.stats.domain import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Values of many series on one grid.

    Attributes:
        start: instant of the first row: the end of the window it was measured over.
        values: shape (ticks, series), NaN where nothing was measured.
    """

    labels: tuple[Label, ...]
    start: datetime
    step: timedelta
    values: FloatArray

    @classmethod
    def of(cls, series: Sequence[Series], *, until: datetime) -> Stretch:
        """Series of one grid, without what was measured after ``until``."""
        start, step = series[0].start, series[0].step
        ticks = min(len(series[0].values), max(0, (until - start) // step + 1))
        values = np.stack([one.values[:ticks] for one in series], axis=1)
        return cls(tuple(Label(one.panel, one.name, one.cohort) for one in series), start, step, values)

    @property
    def end(self) -> datetime:
        """Instant of the last row."""
        return self.start + (len(self.values) - 1) * self.step

    @property
    def hours(self) -> FloatArray:
        return hours_of(self.start, self.step, len(self.values))

    def rows(self, after: datetime | None) -> Iterator[tuple[datetime, FloatArray]]:
        """What was measured after ``after``, in order."""
        first = 0 if after is None else max(0, (after - self.start) // self.step + 1)
        for place in range(first, len(self.values)):
            yield self.start + place * self.step, self.values[place]


@dataclass(frozen=True, slots=True, eq=False)
class Watches:
    """Where the alarms of a home stand: one watch a pace, that of every five minutes first."""

    parts: tuple[Watch, ...]

    @property
    def series(self) -> int:
        return len(self.parts[0].labels)

    def firing(self) -> dict[Label, bool]:
        """Of every series, whether it is in alarm at any pace."""
        found: dict[Label, bool] = {}
        for part in self.parts:
            for label, fires in zip(part.labels, part.firing.tolist(), strict=True):
                found[label] = found.get(label, False) or fires
        return found


def begun(ticks: Stretch, minutes: Stretch | None = None, *, loud: Collection[Label] = ()) -> Watches:
    """Begin to watch from the end of both stretches on, which are the history.

    Args:
        minutes: of those of the series that are watched every minute, too.
        loud: what is in alarm already.
    """
    stretches = [ticks] if minutes is None else [ticks, minutes]
    share = 1.0 / len(stretches)
    usual = _usual(ticks, minutes)
    return Watches(
        tuple(
            _begun(one, its, fleet_thresholds(len(one.labels), step=one.step, a_week=share), loud)
            for one, its in zip(stretches, usual, strict=True)
        )
    )


def renewed(before: Watches, ticks: Stretch, minutes: Stretch | None = None) -> Watches:
    """The same watches on newer baselines; what they have gathered stays."""
    usual = _usual(ticks, minutes)
    return Watches(tuple(rebased(part, its) for part, its in zip(before.parts, usual, strict=True)))


def advance(
    before: Watches, at: datetime, rows: Mapping[timedelta, FloatArray]
) -> tuple[Watches, tuple[Alarm, ...]]:
    """One instant on.

    Args:
        rows: by step, what was measured in the window that ended ``at``.
    """
    parts, found = list(before.parts), list[Alarm]()
    for place, part in enumerate(parts):
        if part.step in rows:
            parts[place], alarms = tick(part, rows[part.step], at)
            if alarms:
                loud = Watches((*parts[:place], *parts[place + 1 :])).firing() if len(parts) > 1 else {}
                found += [one for one in alarms if not loud.get(Label(one.panel, one.name, one.cohort))]
    return Watches(tuple(parts)), tuple(found)


def follow(before: Watches, stretches: Sequence[Stretch]) -> tuple[Watches, list[Alarm]]:
    """Everything that was measured since, in order."""
    by_step = {part.step: part for part in before.parts}
    new = sorted(
        ((at, one.step, row) for one in stretches for at, row in one.rows(by_step[one.step].last)),
        key=lambda found: found[:2],
    )
    now, alarms = before, list[Alarm]()
    for at, step, row in new:
        now, found = advance(now, at, {step: row})
        alarms += found
    return now, alarms


def _usual(ticks: Stretch, minutes: Stretch | None) -> list[Usual]:
    coarse = fit(ticks.values, ticks.hours)
    if minutes is None:
        return [coarse]
    place = {label: column for column, label in enumerate(ticks.labels)}
    own = [place[label] for label in minutes.labels]
    same = Usual(coarse.centre[:, own], coarse.scale[:, own], coarse.autocorrelation[own])
    return [coarse, finer(same, minutes.values, minutes.hours)]


def _begun(one: Stretch, usual: Usual, thresholds: dict[str, float], loud: Collection[Label]) -> Watch:
    now = watch(one.labels, usual, thresholds=thresholds, step=one.step)
    now = replace(now, firing=np.array([label in loud for label in one.labels]))
    return tick(now, np.full(len(one.labels), np.nan), one.end)[0]
