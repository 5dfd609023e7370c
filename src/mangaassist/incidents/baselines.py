"""What a fleet of series usually does at each hour of the week, and how far it strays from that.

Medians and median absolute deviations: an incident inside the history moves neither. What is left after the
season is whitened by its lag-one correlation, because a CUSUM's run lengths hold for independent steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray

WEEK = 168
DAY = 24
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_FEWEST = 20
# How many full periods show a season: two weeks for the week, three days for the day, else none is assumed.
_WEEKS_FOR_WEEK = 2
_DAYS_FOR_DAY = 3
_NORMAL = 1.4826
# An hour that happened to be quiet in the history may not make ordinary noise look like a shift.
_SCALE_FLOOR = 0.5
# A value further out says no more: one wild reading must not echo through the whitening.
_FURTHEST = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Usual:
    """The baseline of many series at once.

    Attributes:
        centre: median per hour of the period, shape (hours, series); the period is 168, 24 or 1 hours.
        scale: robust standard deviation around it, shape (hours, series).
        autocorrelation: lag-one correlation of what the season leaves, shape (series,).
    """

    centre: FloatArray
    scale: FloatArray
    autocorrelation: FloatArray

    def expected(self, hours: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Centre and scale at ``hours`` since a Monday midnight (UTC), shapes (ticks, series).

        Between the middles of two hours it is interpolated: a season has no steps.
        """
        return _between(self.centre, hours), _between(self.scale, hours)

    def strays(self, values: FloatArray, hours: FloatArray) -> FloatArray:
        """(value - centre) / scale, at most 10 either way, shape (ticks, series)."""
        centre, scale = self.expected(hours)
        return np.clip((values - centre) / scale, -_FURTHEST, _FURTHEST)

    def residuals(self, strays: FloatArray, before: FloatArray) -> FloatArray:
        """One-step residuals: what each tick adds to what the last one said.

        Args:
            strays: shape (ticks, series).
            before: the row before the first, shape (series,); NaN after a gap, which starts afresh.
        """
        a = self.autocorrelation
        previous = np.vstack([before[None, :], strays[:-1]])
        white = (strays - a * previous) / np.sqrt(1.0 - a * a)
        return np.where(np.isnan(previous), strays, white)

    @property
    def step_response(self) -> FloatArray:
        """What a lasting shift of one standard deviation adds to each residual after the first, (series,)."""
        a = self.autocorrelation
        return np.asarray((1.0 - a) / np.sqrt(1.0 - a * a))


def hours_of(start: datetime, step: timedelta, ticks: int) -> FloatArray:
    """Hours since a Monday midnight (UTC) of each tick, shape (ticks,)."""
    first = (start.astimezone(UTC) - _MONDAY) / _HOUR
    return np.asarray(first + np.arange(ticks) * (step / _HOUR))


def fit(values: FloatArray, hours: FloatArray) -> Usual:
    """The baseline of a stretch of history.

    Args:
        values: shape (ticks, series), NaN where nothing was measured. Two weeks show a season of the week,
            three days one of the day; less, or steps above an hour, none.
        hours: since a Monday midnight of each tick, shape (ticks,), increasing.

    Raises:
        InputError: for a series of fewer than 20 values, or one of which more than half are equal.
    """
    counted = np.isfinite(values).sum(axis=0)
    _enough(counted)
    period = _period(hours)
    overall = _median(values)
    centre = _season(values, hours, period, overall)
    left = values - _between(centre, hours)
    scale = _scale(left, hours, period)
    return Usual(centre, scale, _correlation(left, hours, scale))


def finer(coarse: Usual, values: FloatArray, hours: FloatArray) -> Usual:
    """The baseline of the same series at a shorter step, of which there is less history.

    The season is that of the longer step; only how far the level lies from it, how wide the noise is at each
    hour of the day and how it hangs together are the shorter step's own.

    Args:
        values: shape (ticks, series), some days of the shorter step; hours: as in :func:`fit`.

    Raises:
        InputError: as :func:`fit`.
    """
    _enough(np.isfinite(values).sum(axis=0))
    left = values - _between(coarse.centre, hours)
    level = _median(left)
    left -= level
    scale = _scale(left, hours, min(_period(hours), DAY))
    return Usual(coarse.centre + level, scale, _correlation(left, hours, scale))


def _scale(left: FloatArray, hours: FloatArray, period: int) -> FloatArray:
    """Robust deviations of what the season leaves, per hour of the period, shape (period, series)."""
    typical = _NORMAL * _median(np.abs(left))
    _varies(typical)
    found = _NORMAL * _cells(np.abs(left), hours, period, typical / _NORMAL)
    return np.maximum(_smooth(found, (1, 2, 3, 2, 1)), _SCALE_FLOOR * typical)


def _correlation(left: FloatArray, hours: FloatArray, scale: FloatArray) -> FloatArray:
    """Lag-one correlation of standardised values, shape (series,)."""
    return _lag_one(np.clip(left / _between(scale, hours), -3.0, 3.0))


def _period(hours: FloatArray) -> int:
    span = hours[-1] - hours[0]
    if np.median(np.diff(hours)) > 1.0 or span < _DAYS_FOR_DAY * DAY:
        return 1
    return WEEK if span >= _WEEKS_FOR_WEEK * WEEK - 1.0 else DAY


def _season(values: FloatArray, hours: FloatArray, period: int, overall: FloatArray) -> FloatArray:
    """Medians per hour, shape (period, series).

    An hour of the week has few values. What it shares with the same hour of other days is taken from all of
    them; only how it differs, which changes slowly, is its own, and smoothed.
    """
    day = _smooth(_cells(values, hours, min(period, DAY), overall), (1, 2, 1))
    if period != WEEK:
        return day
    left = values - _between(day, hours)
    own = _cells(left, hours, WEEK, np.zeros_like(overall))
    return np.asarray(np.tile(day, (WEEK // DAY, 1)) + _smooth(own, (1, 2, 3, 4, 3, 2, 1)))


def _cells(values: FloatArray, hours: FloatArray, period: int, otherwise: FloatArray) -> FloatArray:
    """Median per hour of the period, shape (period, series); ``otherwise`` where an hour has no value."""
    if period == 1:
        return otherwise[None, :].copy()
    which = np.floor(hours).astype(np.int64) % period
    found = np.stack([_median(values[which == hour]) for hour in range(period)])
    return np.where(np.isfinite(found), found, otherwise)


def _median(values: FloatArray) -> FloatArray:
    """Median of what was measured in each column, shape (series,); NaN for nothing.

    ``np.nanmedian`` takes twenty times as long on the few dozen values of an hour.
    """
    counted = np.isfinite(values).sum(axis=0)
    if not len(values):
        return np.full(values.shape[1], np.nan)
    ordered = np.sort(values, axis=0)
    columns = np.arange(values.shape[1])
    low, high = np.maximum(counted - 1, 0) // 2, np.minimum(counted // 2, len(values) - 1)
    return np.asarray((ordered[low, columns] + ordered[high, columns]) / 2.0)


def _smooth(cells: FloatArray, weights: tuple[int, ...]) -> FloatArray:
    """A weighted mean over neighbouring hours, around the end of the period to its beginning."""
    if len(cells) == 1:
        return cells
    reach = len(weights) // 2
    shifts = zip(range(-reach, reach + 1), weights, strict=True)
    total = sum(weight * np.roll(cells, shift, axis=0) for shift, weight in shifts)
    return np.asarray(total / sum(weights))


def _between(cells: FloatArray, hours: FloatArray) -> FloatArray:
    if len(cells) == 1:
        return np.broadcast_to(cells, (len(hours), cells.shape[1]))
    place = (hours - 0.5) % len(cells)
    low = np.floor(place).astype(np.int64)
    share = (place - low)[:, None]
    return np.asarray(cells[low % len(cells)] * (1.0 - share) + cells[(low + 1) % len(cells)] * share)


def _lag_one(strays: FloatArray) -> FloatArray:
    now, before = strays[1:], strays[:-1]
    both = np.isfinite(now) & np.isfinite(before)
    product = np.where(both, now * before, 0.0).sum(axis=0)
    square = np.where(both, now * now + before * before, 0.0).sum(axis=0) / 2.0
    return np.asarray(np.clip(product / np.maximum(square, 1e-12), -0.5, 0.995))


def _enough(counted: NDArray[np.int64]) -> None:
    if counted.size and counted.min() >= _FEWEST:
        return
    fewest = int(counted.min()) if counted.size else 0
    raise InputError(
        "baseline.values",
        expected=f"{_FEWEST} values or more of every series",
        got=str(fewest),
        next_step="Wait until there is more history, or leave the series out.",
    )


def _varies(typical: FloatArray) -> None:
    if (typical > 0).all():
        return
    raise InputError(
        "baseline.values",
        expected="values that vary",
        got=f"more than half of those of series {int(np.argmin(typical))} equal",
        next_step="Give such a counter a limit of its own instead of an alarm.",
    )
