"""Looks at an experiment as the pages show them: the plan, what was reached, and the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mangaassist.core.verdict import Verdict

Ending = Literal["taken", "next", "ahead", "skipped", "cancelled"]


@dataclass(frozen=True, slots=True)
class Span:
    """A number with its interval; an end is None where control cannot be told from 0."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class LookReading:
    """The primary at one look in one treated arm.

    Attributes:
        arm: which.
        lift: as in :class:`EffectRow`.
        reached: evidence as a share of the look's boundary, above 0 towards better; 1 crosses.
        adjusted_p: for looks and arms.
    """

    arm: str
    lift: Span
    reached: float | None
    adjusted_p: float


@dataclass(frozen=True, slots=True)
class LookView:
    """One look, taken or to come.

    Attributes:
        title: "Day 4", "36%" or "Look 3".
        ending: taken, next, ahead, skipped or cancelled (the experiment ended before it).
        boundary: critical value in standard errors; None where it depends on the users.
        spent: error spent up to here, all sides and arms, 0 to 1; None likewise.
        at: when it was taken.
        readings: per treated arm.
        action: what it led to.
        reason: in one sentence.
        users: in all arms.
    """

    title: str
    ending: Ending
    boundary: float | None = None
    spent: float | None = None
    at: datetime | None = None
    readings: tuple[LookReading, ...] = ()
    action: str = ""
    reason: str = ""
    users: int = 0


@dataclass(frozen=True, slots=True)
class RefusedLook:
    """Data that was no experiment; it spent no look."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Observation:
    """One observed point: ``x`` as in :class:`Boundary`, ``z`` above 0 towards better."""

    x: float
    z: float
    crossed: bool


@dataclass(frozen=True, slots=True)
class Boundary:
    """What one treated arm has to cross, and where it stood.

    Attributes:
        arm: which.
        by_users: x counts users (any time) instead of planned information (0 to 1).
        gates: (x, critical value, title) of every registered look; empty when any time will do.
        curve: (x, critical value), rising in x.
        observed: every look so far.
    """

    arm: str
    by_users: bool
    gates: tuple[tuple[float, float, str], ...]
    curve: tuple[tuple[float, float], ...]
    observed: tuple[Observation, ...] = ()

    @property
    def drawable(self) -> bool:
        """Whether there is a course to draw; a single look is one number beside another."""
        return len(self.curve) > 1


@dataclass(frozen=True, slots=True)
class LooksView:
    """The plan of looks.

    Attributes:
        plan: in words.
        rows: one per look, taken or to come.
        boundaries: one picture per treated arm.
        refused: looks whose data was no experiment.
        arrived: how the users that came compare with those planned for; None before the first look.
    """

    plan: str
    rows: tuple[LookView, ...]
    boundaries: tuple[Boundary, ...]
    refused: tuple[RefusedLook, ...] = ()
    arrived: Verdict | None = None
