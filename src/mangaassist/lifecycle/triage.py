"""The facts a triage needs, gathered from a home; and what it came to, in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.drift.history import Kind
from mangaassist.drift.hub import STRETCH, DriftReport
from mangaassist.drift.profile import ConfusionSketch, merge_confusions
from mangaassist.drift.reference import Reference
from mangaassist.drift.sketch import NumericSketch
from mangaassist.drift.windows import Window
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.versions import PROMOTED, ROLLED_BACK
from mangaassist.retraining.causes import Change, Facts, Traffic
from mangaassist.retraining.lineage import Lineage
from mangaassist.retraining.seasons import SeasonCalendar
from mangaassist.retraining.triage import CORRUPTED, Conclusion, Triage, triage

if TYPE_CHECKING:
    from mangaassist.lifecycle.monitoring import Monitor

TRIAGED = "retraining.triaged"
USUAL_DAYS = 7
"""How many earlier days say what volume is usual."""
_DAY = timedelta(days=1)
_WORDS = {PROMOTED: "was promoted", ROLLED_BACK: "was rolled back"}


def judge(monitor: Monitor, report: DriftReport) -> Triage:
    """The triage of a report; a conclusion that is news is written to the ledger."""
    found = triage(gather(monitor, report))
    platform, subject = monitor.platform, f"monitoring/{report.story}"
    entries = platform.ledger.entries(subject=subject, kind=TRIAGED)
    known = entries[-1].body if entries else {"conclusion": str(Conclusion.NO_DRIFT), "occasion": ""}
    news = known["occasion"] != found.occasion and {known["conclusion"], found.conclusion} != {"no_drift"}
    if news:
        body = {**found.as_dict(), "occasion": found.occasion}
        platform.ledger.append(kind=TRIAGED, subject=subject, body=body, actor="retraining", at=report.at)
    return found


def barred(platform: Platform, name: str) -> str:
    """Why nothing may be retrained on the data as they are; empty when nothing bars it.

    The newest triage holds until the next one says otherwise.
    """
    entries = platform.ledger.entries(subject=f"monitoring/{name}", kind=TRIAGED)
    if entries and entries[-1].body["conclusion"] in {str(one) for one in CORRUPTED}:
        body = entries[-1].body
        return f"The triage of {isoformat(entries[-1].at)} found {body['conclusion']}: {body['reason']}"
    return ""


def gather(monitor: Monitor, report: DriftReport) -> Facts:
    """Everything known about a champion and its surroundings at the time of ``report``."""
    platform, story, now = monitor.platform, monitor.story, report.at
    home = platform.home.path
    late = monitor.recent(Kind.CONCEPT, now)
    lineage = Lineage.load(home)
    return Facts(
        story=story.name,
        at=now,
        report=report,
        reference=monitor.reference.profile,
        now=replace(monitor.recent(Kind.INPUT, now), truth=late.truth, confusion=late.confusion),
        traffic=traffic_of(monitor.volume, since=monitor.reference.fitted_at, now=now),
        calendar=SeasonCalendar.load(home),
        lineage=lineage,
        broken=broken_columns(monitor.reference, monitor.schema),
        changes=_changes(platform, lineage.upstream(story.name), now),
        cohorts=_cohorts(monitor.reference, monitor.outcomes, now),
        safety_critical=story.safety_critical,
    )


def traffic_of(volume: Mapping[datetime, int], *, since: datetime, now: datetime) -> Traffic:
    """Rows of the last day and of each whole day before, back to ``since``.

    Args:
        volume: rows by the end of their five minutes.
    """
    days = [0] * (USUAL_DAYS + 1)
    for end, rows in volume.items():
        back = (now - end) // _DAY
        if 0 <= back < len(days):
            days[back] += rows
    whole = min(USUAL_DAYS, (now - since) // _DAY - 1)
    arrived = max((end for end in volume if end <= now), default=None)
    return Traffic(arrived, days[0], tuple(days[1 : max(0, whole) + 1]))


def broken_columns(reference: Reference, schema: Mapping[str, pl.DataType]) -> tuple[str, ...]:
    """Columns that the log no longer has, or has in a type that the reference cannot count."""
    made = {one.name for one in reference.derived}
    found = []
    for name, sketch in reference.profile.inputs.items():
        if not schema or name in made:
            continue
        if name not in schema:
            found.append(f"{name} is no longer in the log")
        elif isinstance(sketch, NumericSketch) != _counts_as_number(schema[name]):
            kind = "a number" if isinstance(sketch, NumericSketch) else "a category"
            found.append(f"{name} was {kind} and is {schema[name]}")
    return tuple(found)


def as_counted(reference: Reference, rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` with every input column that is broken replaced by missing values, so that a look goes on."""
    made = {one.name for one in reference.derived}
    absent = [
        pl.lit(None, dtype=pl.Float64 if isinstance(sketch, NumericSketch) else pl.String).alias(name)
        for name, sketch in reference.profile.inputs.items()
        if name not in made
        and (
            name not in rows.columns
            or isinstance(sketch, NumericSketch) != _counts_as_number(rows.schema[name])
        )
    ]
    return rows.with_columns(absent) if absent else rows


def _counts_as_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric()


def _changes(platform: Platform, models: tuple[str, ...], now: datetime) -> tuple[Change, ...]:
    found = [
        Change(
            model,
            entry.at,
            f"{model} version {entry.body.get('version', '?')} {_WORDS[entry.kind]}",
        )
        for model in models
        for entry in platform.ledger.entries(subject=f"registry/{model}")
        if entry.kind in _WORDS and entry.at <= now
    ]
    return tuple(sorted(found, key=lambda one: one.at))


def _cohorts(
    reference: Reference, outcomes: list[Window], now: datetime
) -> dict[str, tuple[ConfusionSketch, ConfusionSketch]]:
    oldest = now - STRETCH[Kind.CONCEPT].at_most
    recent: dict[str, list[ConfusionSketch]] = {}
    for window in outcomes:
        if oldest <= window.start and window.end <= now:
            recent.setdefault(window.cohort, []).append(window.profile.confusion)
    return {
        name: (then, merge_confusions(recent[name]))
        for name, then in reference.cohorts.items()
        if name in recent
    }
