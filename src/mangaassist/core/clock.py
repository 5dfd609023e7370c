"""Time is an argument. Production passes the system clock, tests and the demo a simulated one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from mangaassist.core.errors import InputError


class Clock(Protocol):
    """Anything that knows the current instant, always timezone-aware and in UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock: the only place in the project that reads it."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the one place the ban exists for


class SimulatedClock:
    """A clock that moves only when told to, so that a 17-day canary runs in seconds."""

    def __init__(self, start: datetime) -> None:
        self._now = utc(start, field="start")

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move forward by ``by``; time never runs backwards."""
        if by < timedelta(0):
            raise InputError(
                "clock", expected="a step forward", got=str(by), next_step="Pass a non-negative timedelta."
            )
        self._now += by
        return self._now

    def advance_to(self, instant: datetime) -> datetime:
        """Move forward to ``instant``."""
        return self.advance(utc(instant, field="instant") - self._now)


def utc(instant: datetime, *, field: str) -> datetime:
    """``instant`` in UTC; a naive datetime is refused because its meaning would be a guess."""
    if instant.tzinfo is None:
        raise InputError(
            field,
            expected="a timezone-aware datetime",
            got=instant.isoformat(),
            next_step="Add an offset, for example +00:00.",
        )
    return instant.astimezone(UTC)


def isoformat(instant: datetime) -> str:
    """One spelling of an instant everywhere: UTC, microseconds, a trailing Z."""
    return utc(instant, field="instant").isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_instant(text: str, *, field: str) -> datetime:
    """Read an ISO 8601 instant; a missing offset means UTC and is the only assumption made."""
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InputError(
            field,
            expected="an ISO 8601 time",
            got=repr(text),
            next_step="Write it like 2026-11-20T09:30:00Z.",
        ) from error
    try:
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except OverflowError as error:
        raise InputError(
            field, expected="a time in years 1 to 9999 UTC", got=repr(text), next_step="Correct the year."
        ) from error
