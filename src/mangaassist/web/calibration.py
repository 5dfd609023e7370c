"""From a home to what its calibration page shows. Reads only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from mangaassist.core.errors import InputError, MangaAssistError
from mangaassist.lifecycle.platform import Platform
from mangaassist.portfolio.audit import Audit, audit
from mangaassist.portfolio.calibration import Calibration, Factor
from mangaassist.web.calibration_view import BinView, CalibrationView, FactorView, MeasureRow, Target, Unit
from mangaassist.web.look_view import Span
from mangaassist.web.view import SERVICE

_QUARTER = re.compile(r"(2\d{3})-Q([1-4])")
_MEASURES: dict[str, tuple[str, Unit, Target]] = {
    "hit_rate": ("Shipped lifts still there after 28 days", "share", "at least"),
    "pick_hit_rate": ("Picks that shipped a lift that lasted", "share", "at least"),
    "veto_effectiveness": ("Vetoes that spared real harm", "share", "at least"),
    "confidence": ("Wins against stated confidence", "points", "within"),
    "confidence_calibrated": ("Wins against calibrated confidence", "points", "within"),
    "effort": ("Weeks taken for a week estimated", "times", "at most"),
    "override_rate": ("Vetoes set aside", "share", "at most"),
    "pre_registration": ("Experiments signed before they ran", "share", "at least"),
    "learning": ("Swing bets that taught what they promised", "share", "at least"),
    "realised_worth": ("Worth brought for worth predicted", "times", "at least"),
    "cohort_regressions": ("Cohorts worse after a launch", "count", "at most"),
    "recovery_minutes": ("Minutes to recover", "minutes", "at most"),
}


def calibration_view(platform: Platform, quarter: str = "") -> CalibrationView:
    """The audit of ``quarter`` ("2026-Q4"; empty for the running one).

    Raises:
        InputError: for a name that is no quarter.
    """
    now = platform.clock.now()
    name = quarter or named(now)
    since, until = span_of(name)
    try:
        first = platform.ledger.entries(limit=1)
        start = first[0].at if first else since
        own = audit(platform.ledger, since=since, until=until)
        record = audit(platform.ledger, since=start, until=max(now, until))
    except MangaAssistError as error:
        return CalibrationView(now, name, since, until, links=SERVICE, problem=str(error))
    return CalibrationView(
        now,
        name,
        since,
        until,
        named(_before(since)) if start < since else "",
        named(until) if until <= now else "",
        tuple(_rows(own, record)),
        tuple(
            BinView(one.stated, Span(one.realised.value, one.realised.low, one.realised.high), one.realised.n)
            for one in record.reliability
        ),
        record.brier,
        tuple(_factors(record.calibration)),
        SERVICE,
    )


def named(at: datetime) -> str:
    """The quarter an instant falls into."""
    day = at.astimezone(UTC)
    return f"{day.year}-Q{(day.month + 2) // 3}"


def span_of(quarter: str) -> tuple[datetime, datetime]:
    """Its first instant, and the first after it.

    Raises:
        InputError: for a name that is no quarter.
    """
    found = _QUARTER.fullmatch(quarter)
    if found is None:
        raise InputError(
            "quarter", expected="a quarter", got=repr(quarter), next_step="Write it like 2026-Q4."
        )
    year, number = int(found[1]), int(found[2])
    start = datetime(year, 3 * number - 2, 1, tzinfo=UTC)
    return start, datetime(year + number // 4, 3 * (number % 4) + 1, 1, tzinfo=UTC)


def _before(start: datetime) -> datetime:
    """Some instant of the quarter before the one that starts at ``start``."""
    return datetime(start.year - (start.month == 1), (start.month - 2) % 12 + 1, 1, tzinfo=UTC)


def _rows(own: Audit, record: Audit) -> Iterable[MeasureRow]:
    known = {one.name: one for one in record.verdicts}
    for verdict in own.verdicts:
        name = verdict.name.removeprefix("audit.")
        title, unit, target = _MEASURES[name]
        yield MeasureRow(name, title, unit, target, verdict, known[verdict.name])


def _factors(found: Calibration) -> Iterable[FactorView]:
    yield _factor("Stated confidence", found.confidence)
    yield _factor("Estimated weeks", found.effort)
    for name, one in sorted(found.classes.items()):
        yield _factor(f"Estimated weeks, {name.replace('_', ' ')}", one)


def _factor(title: str, one: Factor) -> FactorView:
    return FactorView(title, Span(one.value, one.low, one.high), one.n, one.shown)
