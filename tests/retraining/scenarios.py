"""Days of traffic with one or two causes put in, seen through the real sketches, detectors and triage.

The generator knows what it put in; the triage gets only what a home would have: windows, labels that come a
day late, promotions in the ledger, the calendar.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
from tests.drift.frames import LABELS, traffic

from mangaassist.core.story import Story
from mangaassist.drift import hub
from mangaassist.drift.history import SCHEMA, Kind
from mangaassist.drift.reference import Reference, fit_reference
from mangaassist.drift.windows import Window, outcome_windows, request_windows
from mangaassist.lifecycle.triage import traffic_of
from mangaassist.retraining.causes import Change, Facts
from mangaassist.retraining.lineage import Lineage
from mangaassist.retraining.seasons import SeasonCalendar
from mangaassist.retraining.triage import CORRUPTED, Conclusion

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
STORY = Story("reranker", "text-classification", "Simulated.", safety_critical=("return_request",))
# The fourth Friday of January 2026 is the 23rd; the day before belongs to the season.
BEGINS = datetime(2026, 1, 22, tzinfo=UTC)
FITTED = BEGINS - 6 * DAY
ORDINARY = BEGINS - 16 * DAY
"""Where no season lies between the beginning and the look."""
ROWS_A_DAY = 1500
CAUSES = tuple(Conclusion)[:6]


def expected(causes: Collection[Conclusion]) -> Conclusion:
    """The most pressing of the causes; a season that is over explains nothing."""
    left = set(causes)
    if Conclusion.SUSTAINED in left:
        left.discard(Conclusion.SEASON)
    return next((one for one in Conclusion if one in left), Conclusion.NO_DRIFT)


def played(causes: Collection[Conclusion], *, seed: int) -> Facts:
    """The facts at the end of some days in which every one of ``causes`` was at work from one moment on."""
    begins = BEGINS if Conclusion.SEASON in causes else ORDINARY
    lasts = 9 if Conclusion.SUSTAINED in causes else 3
    reference, fitted = _reference(), begins - 6 * DAY
    reference = replace(reference, fitted_at=fitted)
    windows: list[Window] = []
    volume: dict[datetime, int] = {}
    for number in range(6 + lasts):
        day = fitted + number * DAY
        here = causes if day >= begins else ()
        if number < 3 + lasts:  # data are broken or lost for the last three days, whatever else lasts longer
            here = [one for one in here if one not in CORRUPTED]
        frame = _day(day, seed=seed * 100 + number, causes=here)
        requests = request_windows(reference, frame, every=HOUR)
        for one in requests:
            volume[one.end] = volume.get(one.end, 0) + one.profile.rows
        windows += requests
        windows += outcome_windows(reference, frame.gather_every(2), every=HOUR, apart=True)
    windows.sort(key=lambda one: one.start)
    now = fitted + (6 + lasts) * DAY
    report = _looked_at(reference, windows, since=begins - DAY, now=now)
    early = hub.recent(reference, windows, now, Kind.INPUT)
    late = hub.recent(reference, windows, now, Kind.CONCEPT)
    change = Change("embedding", begins - 5 * HOUR, "embedding version 3 was promoted")
    return Facts(
        story=STORY.name,
        at=now,
        report=report,
        reference=reference.profile,
        now=replace(early, truth=late.truth, confusion=late.confusion),
        traffic=traffic_of(volume, since=fitted, now=now),
        calendar=SeasonCalendar.load(),
        lineage=Lineage.load(),
        changes=(change,) if Conclusion.UPSTREAM in causes else (),
        safety_critical=STORY.safety_critical,
    )


@cache
def _reference() -> Reference:
    return fit_reference(STORY, traffic(12_000, seed=1), at=FITTED)


def _looked_at(
    reference: Reference, windows: list[Window], *, since: datetime, now: datetime
) -> hub.DriftReport:
    history, at = pl.DataFrame(schema=SCHEMA), since
    while True:
        kinds = hub.due(history, version=1, now=at)
        report = hub.check(reference, windows, history, version=1, now=at, kinds=kinds)
        if at >= now:
            return report
        history = pl.concat([history, hub.report_rows(report)])
        at += 6 * HOUR


def _day(day: datetime, *, seed: int, causes: Collection[Conclusion]) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    moves = {Conclusion.SEASON, Conclusion.UPSTREAM, Conclusion.SUSTAINED} & set(causes)
    lasts = DAY - 5 * HOUR if Conclusion.OUTAGE in causes and seed // 100 % 3 == 2 else DAY
    frame = traffic(
        int(generator.poisson(ROWS_A_DAY)),
        seed=seed,
        start=day,
        lasts=lasts,
        japanese=0.62 if Conclusion.SUSTAINED in causes else 0.3,
        length=40.0 if Conclusion.UPSTREAM in moves else 30.0,
        prior=(0.15, 0.6, 0.1, 0.15) if Conclusion.SEASON in moves else (0.4, 0.3, 0.1, 0.2),
    )
    if Conclusion.SLICE_REGRESSION in causes:
        frame = _worse(frame, generator)
    if Conclusion.SCHEMA_BREAK in causes:
        frame = _broken(frame, seed // 100 % 3)
    if Conclusion.OUTAGE in causes:
        frame = _lost(frame, seed // 100 % 3, generator)
    return frame


def _worse(frame: pl.DataFrame, generator: np.random.Generator) -> pl.DataFrame:
    """Half of one label's rows are answered with another."""
    hit = (frame["truth"] == "return_request").to_numpy() & (generator.random(frame.height) < 0.5)
    return frame.with_columns(
        label=pl.when(pl.Series(hit)).then(pl.lit(LABELS[1])).otherwise(pl.col("label"))
    )


def _broken(frame: pl.DataFrame, how: int) -> pl.DataFrame:
    """A renamed column, another unit, another code."""
    return frame.with_columns(
        (
            pl.lit(None, dtype=pl.String).alias("device"),
            (pl.col("text_length") * 10).alias("text_length"),
            ("d:" + pl.col("device")).alias("device"),
        )[how]
    )


def _lost(frame: pl.DataFrame, how: int, generator: np.random.Generator) -> pl.DataFrame:
    """Values that stop coming for a third of the rows, two thirds of the rows gone, or hours of silence."""
    if how == 0:
        gone = pl.Series(generator.random(frame.height) < 0.35)
        return frame.with_columns(unknown_share=pl.when(gone).then(None).otherwise(pl.col("unknown_share")))
    return frame.filter(pl.Series(generator.random(frame.height) < 0.35)) if how == 1 else frame
