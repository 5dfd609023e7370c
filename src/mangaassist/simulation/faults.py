"""Faults for fire drills: what a shop's metrics, panels and change log look like when a known thing breaks.

A :class:`Fault` disturbs a healthy shop (:mod:`.recordings`) from its onset on, beside innocent changes and
panels that fail by accident. Whoever localises gets what there is to observe, which holds no fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from mangaassist.incidents.alarms import MINUTE, TICK
from mangaassist.incidents.calibration import EACH, five_minutes
from mangaassist.incidents.records import EVERYBODY, Change, Occasion
from mangaassist.simulation.change_log import innocent
from mangaassist.simulation.instruments import GAUGES, METRICS, SHARES
from mangaassist.simulation.recordings import Fleet, Recording
from mangaassist.stats.domain import FloatArray


@dataclass(frozen=True, slots=True)
class Effect:
    """What a fault does to one series.

    Attributes:
        panel, name: of the series.
        size: of a metric in its standard deviations, for the worse; of a gauge the value it goes to.
        cohort: whose; everybody's moves by that cohort's share.
        delay, ramp: minutes after the onset until it begins, and from then until it is complete.
        mix: it comes from who asks, not from worse answers.
    """

    panel: str
    name: str
    size: float
    cohort: str = EVERYBODY
    delay: float = 0.0
    ramp: float = 5.0
    mix: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One cause and all it does.

    Attributes:
        category: the truth: its category.
        subject: the truth: what a right suspect names.
        effects: on the series.
        changes: that the change log has of it; none for a silent one.
        occasions: calendar entries that belong to it.
    """

    category: str
    subject: str
    effects: tuple[Effect, ...]
    changes: tuple[Change, ...] = ()
    occasions: tuple[Occasion, ...] = ()


def record(
    fleet: Fleet,
    faults: Sequence[tuple[datetime, Fault]],
    *,
    start: datetime,
    ticks: int,
    generator: np.random.Generator,
) -> Recording:
    """Play ``faults`` at their onsets on a quiet stretch, with innocent changes and accidents around them."""
    minutes = fleet.quiet(start, ticks, generator)
    gauges = _quiet_gauges(ticks, generator)
    losses = np.zeros((ticks, len(METRICS)))
    for onset, fault in faults:
        for effect in fault.effects:
            if not _disturb(fleet, minutes, effect, onset, start=start):
                _move(gauges, effect, onset, start=start)
            elif not effect.mix:
                which = next(i for i, one in enumerate(METRICS) if one.name == effect.name)
                share = _progress(effect, onset, start, TICK, ticks)
                losses[:, which] += effect.size * SHARES[effect.cohort] * share
    _adjust(gauges, losses)
    _accidents(gauges, generator)
    log = [one for _, fault in faults for one in fault.changes]
    log += innocent(start, ticks, [onset for onset, _ in faults], generator)
    calendar = tuple(one for _, fault in faults for one in fault.occasions)
    if generator.random() < 0.15:
        calendar += (Occasion("golden-week", start, start + timedelta(days=8)),)
    log.sort(key=lambda one: one.at)
    return Recording(fleet, start, minutes, five_minutes(minutes), gauges, tuple(log), calendar)


def _progress(effect: Effect, onset: datetime, first: datetime, step: timedelta, count: int) -> FloatArray:
    """Share of an effect that each window saw, shape (count,); the first window ends at ``first``."""
    minutes = (first - onset) / MINUTE + np.arange(count) * (step / MINUTE) - effect.delay
    # What the middle of a window saw stands for the window.
    return np.clip((minutes - step / MINUTE / 2.0) / max(effect.ramp, 5.0), 0.0, 1.0)


def _disturb(fleet: Fleet, minutes: FloatArray, effect: Effect, onset: datetime, *, start: datetime) -> bool:
    """Move the metric of ``effect`` for every cohort it reaches; False when it is no metric."""
    share = _progress(effect, onset, start - (EACH - 1) * MINUTE, MINUTE, len(minutes))
    found = False
    for column, one in enumerate(fleet.labels):
        if (one.panel, one.name) == (effect.panel, effect.name):
            size = effect.size * _portion(effect.cohort, one.cohort)
            minutes[:, column] += fleet.worse[column] * size * fleet.spreads[column] * share
            found = True
    return found


def _move(gauges: FloatArray, effect: Effect, onset: datetime, *, start: datetime) -> None:
    """Move the gauge of ``effect`` to its value."""
    place = next(i for i, one in enumerate(GAUGES) if (one.panel, one.name) == (effect.panel, effect.name))
    share = _progress(effect, onset, start, TICK, len(gauges))
    gauges[:, place] += (effect.size - GAUGES[place].level) * share


def _portion(hurt: str, cohort: str) -> float:
    """How much of an effect on ``hurt`` a cohort feels: its share of them, as far as the two overlap."""
    if hurt in (EVERYBODY, cohort):
        return 1.0
    return 0.0 if hurt.partition("=")[0] == cohort.partition("=")[0] else SHARES[hurt]


def _quiet_gauges(ticks: int, generator: np.random.Generator) -> FloatArray:
    level = np.array([one.level for one in GAUGES])
    spread = np.array([one.spread for one in GAUGES])
    return np.asarray(level + spread * generator.standard_t(6.0, size=(ticks, len(GAUGES))) / np.sqrt(1.5))


def _adjust(gauges: FloatArray, losses: FloatArray) -> None:
    """The fall of quality that is left when traffic is weighted as it usually is."""
    names = {one.name.partition(".")[0]: index for index, one in enumerate(METRICS) if one.panel == "quality"}
    for place, one in enumerate(GAUGES):
        if one.panel == "adjusted":
            gauges[:, place] += losses[:, names[one.name.partition(".")[0]]]


def _accidents(gauges: FloatArray, generator: np.random.Generator) -> None:
    """Panels fail for reasons of their own now and then, for up to two hours."""
    for place, one in enumerate(GAUGES):
        if generator.random() < 0.03:
            begin = int(generator.integers(0, max(len(gauges) - 12, 1)))
            length = int(generator.integers(4, 24))
            gauges[begin : begin + length, place] += 1.3 * (one.limit - one.level)
