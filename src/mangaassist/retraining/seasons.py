"""The calendar of known seasons: data, with the few rules that turn a year into days."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError, nearest
from mangaassist.retraining.documents import malformed, of_home, shipped

FILE = "seasons.yaml"
_DAY = timedelta(days=1)
_WEEKDAYS = [name.lower() for name in calendar.day_name]
_KEYS = {"name", "says", "weekday", "nth", "month", "from", "to", "days_before", "days_after"}


@dataclass(frozen=True, slots=True)
class Season:
    """Days that come back every year or month.

    Attributes:
        name, says: for the verdict.
        weekday, nth, month: the ``nth`` (-1: the last) ``weekday`` (0 is Monday) of every month, or of one.
        first, last: (month, day) of a yearly span instead; the last may lie in the next year.
        before, after: days around it that belong to it.
    """

    name: str
    says: str
    weekday: int | None = None
    nth: int = 1
    month: int | None = None
    first: tuple[int, int] = (1, 1)
    last: tuple[int, int] = (1, 1)
    before: int = 0
    after: int = 0

    def around(self, day: date) -> tuple[date, date] | None:
        """First and last day of the occurrence ``day`` lies in; None for none."""
        for year in (day.year - 1, day.year, day.year + 1):
            for first, last in self._occurrences(year):
                if first - self.before * _DAY <= day <= last + self.after * _DAY:
                    return first - self.before * _DAY, last + self.after * _DAY
        return None

    def _occurrences(self, year: int) -> list[tuple[date, date]]:
        if self.weekday is None:
            wraps = self.last < self.first
            return [(date(year, *self.first), date(year + wraps, *self.last))]
        months = range(1, 13) if self.month is None else (self.month,)
        found = [
            [week[self.weekday] for week in calendar.monthcalendar(year, month) if week[self.weekday]]
            for month in months
        ]
        days = [
            date(year, month, of_month[self.nth - 1 if self.nth > 0 else self.nth])
            for month, of_month in zip(months, found, strict=True)
            if abs(self.nth) <= len(of_month)
        ]
        return [(day, day) for day in days]


@dataclass(frozen=True, slots=True)
class SeasonCalendar:
    """Every known season, and which do not hold for a story."""

    seasons: tuple[Season, ...]
    without: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, home: Path | None = None) -> SeasonCalendar:
        """The shipped calendar with what the home's own says.

        Raises:
            InputError: a document that does not say what a season is, or names one nobody knows.
        """
        own = of_home(home, FILE)
        found = {one.name: one for one in _seasons(shipped(FILE))}
        found |= {one.name: one for one in _seasons(own)}
        stories = own.get("stories") or {}
        if not isinstance(stories, dict) or not all(isinstance(one, dict) for one in stories.values()):
            raise malformed(f"{FILE}: stories", "a mapping per story", stories)
        without = {story: frozenset(body.get("without", ())) for story, body in stories.items()}
        for name in sorted(frozenset().union(*without.values())):
            if name not in found:
                raise InputError(
                    f"{FILE}: without", expected="a season", got=f"'{name}'", next_step=nearest(name, found)
                )
        return cls(tuple(found.values()), without)

    def explaining(self, story: str, *, since: datetime, now: datetime) -> tuple[Season, date] | None:
        """The season in which a drift that began at ``since`` and lasts until ``now`` lies, and its last day.

        A look covers a whole day, so what a season does is seen from its first day until one day after its
        last. A drift that goes on longer is not explained by it.
        """
        began, today = utc(since, field="since").date(), utc(now, field="now").date()
        for season in self.seasons:
            if season.name in self.without.get(story, frozenset()):
                continue
            for day in (began, began - _DAY):
                span = season.around(day)
                if span is not None and today <= span[1] + _DAY:
                    return season, span[1]
        return None


def _seasons(body: Mapping[str, Any]) -> Sequence[Season]:
    found = body.get("seasons") or []
    if not isinstance(found, list):
        raise malformed(f"{FILE}: seasons", "a list", type(found).__name__)
    return [_season(one) for one in found]


def _season(body: Any) -> Season:
    where = f"{FILE}: {body.get('name', 'season')}" if isinstance(body, dict) else FILE
    if not isinstance(body, dict) or not isinstance(body.get("name"), str) or not body.get("says"):
        raise malformed(where, "a season with a name and what it says", body)
    for key in body:
        if key not in _KEYS:
            raise InputError(
                where, expected="a known key", got=f"'{key}'", next_step=nearest(str(key), _KEYS)
            )
    season = Season(
        body["name"],
        str(body["says"]),
        before=_days(where, body.get("days_before", 0)),
        after=_days(where, body.get("days_after", 0)),
    )
    if "weekday" not in body:
        return replace(
            season, first=_month_day(where, body.get("from")), last=_month_day(where, body.get("to"))
        )
    weekday, nth, month = str(body["weekday"]).lower(), body.get("nth"), body.get("month")
    if weekday not in _WEEKDAYS:
        raise InputError(
            where, expected="a weekday", got=f"'{weekday}'", next_step=nearest(weekday, _WEEKDAYS)
        )
    if nth not in (1, 2, 3, 4, 5, -1) or month not in (None, *range(1, 13)):
        raise malformed(where, "nth from 1 to 5 or -1, and a month from 1 to 12 or none", f"{nth}, {month}")
    return replace(season, weekday=_WEEKDAYS.index(weekday), nth=nth, month=month)


def _days(where: str, value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= 31:
        raise malformed(where, "0 to 31 days", value)
    return value


def _month_day(where: str, value: Any) -> tuple[int, int]:
    try:
        day = date.fromisoformat(f"2027-{value}")
    except ValueError as error:
        raise malformed(where, "from and to as MM-DD", value) from error
    return day.month, day.day
