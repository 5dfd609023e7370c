"""A shop in good health, and what there is to observe of one around a fault.

Everything is simulated minute by minute; a five-minute value is the mean of its minutes. How wide and how
sluggish noise is, is said of five minutes; between two minutes of a sluggish series it is the same process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from mangaassist.incidents.alarms import MINUTE, TICK, Label, ticks_a_week
from mangaassist.incidents.baselines import hours_of
from mangaassist.incidents.calibration import EACH
from mangaassist.incidents.records import EVERYBODY, Change, Occasion, Series
from mangaassist.simulation.instruments import EVERY_MINUTE, GAUGES, METRICS, SHARES
from mangaassist.stats.domain import FloatArray

HISTORY = 4 * ticks_a_week(TICK)
HISTORY_START = datetime(2026, 9, 7, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """A healthy shop: how each of its series behaves, drawn once per seed.

    Attributes:
        labels: metric by metric, cohort by cohort.
        correlation: of five minutes with the five before, shape (series,).
        amplitude, phase: of each series' day, shape (series,).
    """

    labels: tuple[Label, ...]
    correlation: FloatArray
    amplitude: FloatArray
    phase: FloatArray

    @classmethod
    def drawn(cls, generator: np.random.Generator) -> Fleet:
        """A fleet of all metrics and cohorts."""
        labels = tuple(Label(one.panel, one.name, cohort) for one in METRICS for cohort in SHARES)
        metrics, cohorts = len(METRICS), len(SHARES)
        amplitude = np.repeat(generator.uniform(0.5, 3.0, metrics), cohorts)
        phase = np.repeat(generator.uniform(0.0, 24.0, metrics), cohorts)
        return cls(labels, generator.uniform(0.1, 0.5, metrics * cohorts), amplitude, phase)

    def quiet(self, start: datetime, ticks: int, generator: np.random.Generator) -> FloatArray:
        """Minutes of a quiet stretch whose first tick ends at ``start``, shape (ticks * 5, series)."""
        from scipy.signal import lfilter

        minutes = ticks * EACH
        shape = (minutes, len(self.labels))
        draws = generator.standard_t(5.0, size=shape) / np.sqrt(5.0 / 3.0)
        # Cohorts share what moves everybody.
        common = draws.reshape(minutes, len(METRICS), len(SHARES))[:, :, :1]
        draws = (0.6 * common + 0.8 * draws.reshape(minutes, len(METRICS), len(SHARES))).reshape(shape)
        noise = np.empty(shape)
        for column, a in enumerate(self.correlation ** (1.0 / EACH)):
            drive = np.sqrt(1.0 - a * a) / _wander(a)
            noise[:, column] = lfilter([drive], [1.0, -a], draws[:, column])
        hours = hours_of(start - (EACH - 1) * MINUTE, MINUTE, minutes)[:, None]
        day = np.cos(2.0 * np.pi * (hours - self.phase) / 24.0)
        strays = self.amplitude * day + noise * (1.0 + 0.4 * (1.0 - day) / 2.0) * self.widths
        values = self.levels + self.spreads * strays
        values[generator.random(shape) < 0.003] = np.nan
        return np.asarray(values)

    @property
    def levels(self) -> FloatArray:
        return np.repeat([one.level for one in METRICS], len(SHARES)).astype(np.float64)

    @property
    def spreads(self) -> FloatArray:
        """Standard deviation of everybody's metric, per series."""
        return np.repeat([one.spread for one in METRICS], len(SHARES)).astype(np.float64)

    @property
    def widths(self) -> FloatArray:
        """A cohort's noise over everybody's: fewer people, more noise."""
        return np.tile([share**-0.5 for share in SHARES.values()], len(METRICS))

    @property
    def worse(self) -> FloatArray:
        """-1 where lower is worse, else 1, per series."""
        return np.repeat([-1.0 if one.worse == "low" else 1.0 for one in METRICS], len(SHARES))


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Everything there is to observe around one fault, and nothing about the fault.

    Attributes:
        start: instant of the first tick.
        minutes: shape (ticks * 5, series), in the fleet's order; the last of each five ends with its tick.
        metrics: their means over five minutes, shape (ticks, series).
        gauges: shape (ticks, gauges), in the order of GAUGES.
        log: changes, guilty and innocent alike.
        calendar: occasions.
    """

    fleet: Fleet
    start: datetime
    minutes: FloatArray
    metrics: FloatArray
    gauges: FloatArray
    log: tuple[Change, ...]
    calendar: tuple[Occasion, ...]

    def at(self, tick: int) -> datetime:
        """The instant of one tick."""
        return self.start + tick * TICK

    @property
    def first_minute(self) -> datetime:
        """The instant of the first row of ``minutes``."""
        return self.start - (EACH - 1) * MINUTE


@dataclass(slots=True)
class Observed:
    """The evidence of one instant of a recording; see :class:`mangaassist.incidents.evidence.Evidence`."""

    recording: Recording
    now: datetime
    _found: dict[str, list[Series]] = field(default_factory=dict)

    @property
    def absent(self) -> Mapping[str, str]:
        return {}

    def panels(self) -> Sequence[str]:
        return tuple(dict.fromkeys([one.panel for one in METRICS] + [one.panel for one in GAUGES]))

    def series(self, panel: str) -> Sequence[Series]:
        if panel not in self._found:
            self._found[panel] = [*self._metrics(panel), *self._gauges(panel)]
        return self._found[panel]

    def minutes(self, panel: str, since: datetime) -> Sequence[Series]:
        own = self.recording
        first = max(0, (since - own.first_minute) // MINUTE + 1)
        rows = own.minutes[first : (self.now - own.first_minute) // MINUTE + 1]
        if panel not in EVERY_MINUTE or not len(rows):
            return []
        return self._drawn(panel, own.first_minute + first * MINUTE, MINUTE, rows)

    def changes(self, since: datetime, until: datetime) -> Sequence[Change]:
        return [one for one in self.recording.log if since <= one.at <= until and one.known_at <= self.now]

    def occasions(self, since: datetime, until: datetime) -> Sequence[Occasion]:
        return [one for one in self.recording.calendar if one.since <= until and one.until >= since]

    @property
    def _ticks(self) -> int:
        return int((self.now - self.recording.start) / TICK) + 1

    def _metrics(self, panel: str) -> list[Series]:
        return self._drawn(panel, self.recording.start, TICK, self.recording.metrics[: self._ticks])

    def _drawn(self, panel: str, start: datetime, step: timedelta, values: FloatArray) -> list[Series]:
        worse = {one.name: one.worse for one in METRICS}
        return [
            Series(panel, one.name, one.cohort, start, step, values[:, column], None, worse[one.name])
            for column, one in enumerate(self.recording.fleet.labels)
            if one.panel == panel
        ]

    def _gauges(self, panel: str) -> list[Series]:
        own = self.recording
        return [
            Series(
                panel,
                one.name,
                EVERYBODY,
                own.start,
                TICK,
                own.gauges[: self._ticks, column],
                one.limit,
                one.worse,
            )
            for column, one in enumerate(GAUGES)
            if one.panel == panel
        ]


def _wander(a: float) -> float:
    """Standard deviation of the mean of five minutes, of a process of standard deviation one."""
    lags = np.arange(1, EACH)
    return float(np.sqrt((EACH + 2.0 * ((EACH - lags) * a**lags).sum()) / EACH**2))
