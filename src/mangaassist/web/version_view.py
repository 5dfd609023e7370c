"""What the page of one version shows: where it comes from, what happened to it, how each slice fares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mangaassist.core.verdict import Status, Verdict, worst
from mangaassist.web.view import Link, Measure

STEPS = (0.0, 0.02, 0.05, 0.10)
"""How far below the whole a cell's accuracy lies where its shade gets darker, in shares."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One slice in the heat map.

    Attributes:
        shade: 0 for at or above the whole, then one per step of ``STEPS`` it lies below.
        insufficient: too few rows to be tested.
        flagged: worse than the rest, Holm-adjusted over all slices.
    """

    accuracy: Measure
    shade: int
    insufficient: bool
    flagged: bool


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Accuracy of every value of one dimension, alone and crossed with each value of another.

    Attributes:
        rows, columns: names of the dimensions.
        heads: the columns' values; the first, "", is the row by itself.
        body: row value and its cells in the order of ``heads``; None where no row of data lies.
    """

    rows: str
    columns: str
    heads: tuple[str, ...]
    body: tuple[tuple[str, tuple[Cell | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class FlaggedSlice:
    """A slice worse than the rest: its name, accuracy, difference from the rest and adjusted probability."""

    name: str
    accuracy: Measure
    gap: float
    p: float


@dataclass(frozen=True, slots=True)
class Event:
    """One ledger entry about the version, or a run of them that say the same.

    Attributes:
        sequence: its place in the ledger; of a run, the last one's, as are time, reason and verdicts.
        override: a person decided, or a switch was set.
        entries: how many there are in a row.
    """

    sequence: int
    at: datetime
    actor: str
    what: str
    reason: str
    verdicts: tuple[Verdict, ...]
    override: bool
    entries: int = 1

    @property
    def status(self) -> Status | None:
        """What its verdicts say together; None without any."""
        return worst(self.verdicts) if self.verdicts else None


@dataclass(frozen=True, slots=True)
class VersionPage:
    """The whole page.

    Attributes:
        at: when the view was taken.
        status: the version's registry status in one word.
        origin: what it was made from, as (name, value, note).
        accuracy: golden accuracy; None if never evaluated.
        maps: heat maps, the widest dimension first.
        slices, tested: how many slices there are and how many are large enough to be tested.
        flagged: slices worse than the rest.
        events: in the order they happened.
        problem: one sentence when a stored part could not be read; the rest is shown.
    """

    at: datetime
    story: str
    number: int
    status: str
    origin: tuple[tuple[str, str, str], ...]
    accuracy: Measure | None
    maps: tuple[HeatMap, ...]
    slices: int
    tested: int
    flagged: tuple[FlaggedSlice, ...]
    events: tuple[Event, ...]
    links: tuple[Link, ...] = ()
    problem: str = ""

    @property
    def overrides(self) -> tuple[Event, ...]:
        """Where a person, not a policy, decided."""
        return tuple(event for event in self.events if event.override)
