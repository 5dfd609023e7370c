"""What the calibration page shows, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from mangaassist.core.verdict import Status, Verdict
from mangaassist.web.look_view import Span
from mangaassist.web.view import Link

Unit = Literal["share", "points", "times", "minutes", "count"]
Tone = Literal["calm", "open", "alert"]
Target = Literal["at least", "at most", "within"]


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One measure of the audit, in the quarter and over everything on record.

    Attributes:
        name: of the measure, stable ("hit_rate").
        title: as people read it.
        unit: how its numbers read: a share, a gap in points, a ratio ("times"), minutes or a count.
        target: which side of its threshold is good.
        quarter, record: its verdicts; ``threshold`` is None where there is nothing to compare with yet.
    """

    name: str
    title: str
    unit: Unit
    target: Target
    quarter: Verdict
    record: Verdict


@dataclass(frozen=True, slots=True)
class BinView:
    """Finished picks of similar stated confidence (mean, 0 to 1), the share that won, and how many."""

    stated: float
    realised: Span
    n: int


@dataclass(frozen=True, slots=True)
class FactorView:
    """A correction of the next quarter's numbers; ``shown`` when its interval leaves out "none"."""

    title: str
    value: Span
    n: int
    shown: bool


@dataclass(frozen=True, slots=True)
class CalibrationView:
    """The audit of one quarter beside everything on record.

    Attributes:
        at: when the view was taken.
        quarter: its name ("2026-Q4"), also its address.
        since, until: what it covers; ``until`` lies ahead while it runs.
        earlier, later: names of the neighbouring quarters; empty where nothing is on record.
        rows: one per measure.
        reliability: stated against realised confidence, over everything on record.
        brier: mean squared error of stated confidence; None without finished picks.
        factors: what the next quarter's numbers are multiplied by.
        links: other pages of this server.
        problem: set when the audit could not be made, as one sentence.
    """

    at: datetime
    quarter: str
    since: datetime
    until: datetime
    earlier: str = ""
    later: str = ""
    rows: tuple[MeasureRow, ...] = ()
    reliability: tuple[BinView, ...] = ()
    brier: float | None = None
    factors: tuple[FactorView, ...] = ()
    links: tuple[Link, ...] = ()
    problem: str = ""

    @property
    def last_day(self) -> datetime:
        return self.until - timedelta(days=1)

    @property
    def address(self) -> str:
        """Its own path under the mount point."""
        return f"/calibration/{self.quarter}"


def calibration_headline(view: CalibrationView) -> tuple[Tone, str]:
    """(tone, one sentence) for the quarter: "open" where nothing can be told, neither good nor bad."""
    if view.problem:
        return "alert", view.problem
    off = [row.title for row in view.rows if row.quarter.status is Status.FAIL]
    if off:
        return "alert", f"Off target in {view.quarter}: {'; '.join(off)}."
    met = sum(row.quarter.status is Status.PASS for row in view.rows)
    said = f"{met or 'None'} of {len(view.rows)} measures is shown to be on target in {view.quarter}"
    said = said.replace(" is ", " are ") if met > 1 else said
    before = [row.title for row in view.rows if row.record.status is Status.FAIL]
    if before:
        return "alert", f"{said}; over everything on record, off target: {'; '.join(before)}."
    return ("calm" if met else "open"), f"{said}; nothing is shown to be off."
