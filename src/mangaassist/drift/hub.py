"""The drift hub: one implementation for every story. Windows and history in, one report out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist.core.clock import isoformat, utc
from mangaassist.core.identity import digest_bytes
from mangaassist.core.story import DriftPolicy
from mangaassist.core.verdict import Verdict
from mangaassist.drift import history as past
from mangaassist.drift.detect import (
    detect_concept,
    detect_input,
    detect_label,
    detect_prediction,
    input_measures,
)
from mangaassist.drift.estimate import estimate_accuracy
from mangaassist.drift.history import Kind, Standing, State
from mangaassist.drift.measures import Measure
from mangaassist.drift.profile import Profile, merge_labels, merge_requests
from mangaassist.drift.reference import Reference
from mangaassist.drift.windows import Window

if TYPE_CHECKING:
    from mangaassist.storage.tables import Tables

# How often each kind is looked at (DRF-2).
CADENCE = {
    Kind.INPUT: timedelta(minutes=5),
    Kind.PREDICTION: timedelta(minutes=5),
    Kind.LABEL: timedelta(days=1),
    Kind.CONCEPT: timedelta(days=1),
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """How far a look reaches back: ``at_least``, then on until ``rows`` are there, never past ``at_most``."""

    at_least: timedelta
    at_most: timedelta
    rows: int


# Traffic has a daily rhythm and the reference holds whole days of it, so a look at less than one whole day
# would find drift every night and lose it every noon. It is never more than that either, so that requests can
# be kept added up. Labels come days late: their looks reach back further.
REACH = timedelta(days=1)
"""How far a look at requests reaches back."""
STRETCH = {
    Kind.INPUT: Stretch(REACH, REACH, 0),
    Kind.PREDICTION: Stretch(REACH, REACH, 0),
    Kind.LABEL: Stretch(timedelta(days=1), timedelta(days=14), 1000),
    Kind.CONCEPT: Stretch(timedelta(days=1), timedelta(days=14), 2000),
}


LATE = frozenset({Kind.LABEL, Kind.CONCEPT})
"""Kinds that are looked at on labels; the others on requests."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """One check.

    Attributes:
        story, version: what was watched.
        at: when.
        verdicts: what this look found.
        kinds: the leading finding of each kind, from the whole history; None when nothing was ever decided.
        measures: every distance of the columns looked at.
        estimates: what is guessed without labels; never part of the history, never a reason to act.
    """

    story: str
    version: int
    at: datetime
    verdicts: tuple[Verdict, ...]
    kinds: dict[Kind, Standing | None]
    measures: tuple[Measure, ...] = ()
    estimates: tuple[Verdict, ...] = ()

    @property
    def fired(self) -> tuple[Kind, ...]:
        """Kinds that have failed for as long as the policy asks."""
        return tuple(kind for kind, one in self.kinds.items() if one and one.state is State.FIRED)

    @property
    def not_fired(self) -> tuple[Kind, ...]:
        """All other kinds, whatever the reason."""
        return tuple(kind for kind in self.kinds if kind not in self.fired)

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "story": self.story,
            "version": self.version,
            "at": isoformat(self.at),
            "fired": [str(kind) for kind in self.fired],
            "not_fired": [str(kind) for kind in self.not_fired],
            "kinds": {str(kind): _standing_dict(one) for kind, one in self.kinds.items()},
            "verdicts": [one.as_dict() for one in self.verdicts],
            "measures": [one.as_dict() for one in self.measures],
            "estimates": [one.as_dict() for one in self.estimates],
        }


def check(
    reference: Reference,
    windows: Sequence[Window],
    history: pl.DataFrame,
    *,
    version: int,
    now: datetime,
    kinds: Collection[Kind] = tuple(Kind),
) -> DriftReport:
    """Look at the recent windows and say what drifts, and what has drifted for long enough.

    Pure: append ``report_rows(report)`` to the history to make the look part of it.

    Args:
        reference: of the version under watch; its pinned policy holds.
        windows: request and outcome windows, sorted by start; those that end after ``now`` are not seen.
        history: earlier rows (:data:`mangaassist.drift.history.SCHEMA`), of any version.
        version: the version under watch.
        now: the time of this look.
        kinds: which detectors to run; the standing of the others is derived from the history alone.
    """
    seen = {kind: recent(reference, windows, now, kind) for kind in Kind if kind in kinds}
    return judge(reference, seen, history, version=version, now=now)


def judge(
    reference: Reference, seen: Mapping[Kind, Profile], history: pl.DataFrame, *, version: int, now: datetime
) -> DriftReport:
    """:func:`check` on what its looks would see, for callers that keep it added up.

    Args:
        seen: by kind to look at, what :func:`recent` would find at ``now``.
    """
    now = utc(now, field="now")
    evidence = (digest_bytes(reference.to_bytes()),)
    verdicts = [
        replace(verdict, evidence=evidence)
        for kind, profile in seen.items()
        for verdict in _detect(kind, reference, profile)
    ]
    told = pl.concat([history, past.rows(verdicts, at=now, version=version)])
    found = past.standings(told, reference.policy, version=version, now=now)
    return DriftReport(
        reference.story,
        version,
        now,
        tuple(verdicts),
        past.by_kind(found),
        _measures(reference, seen.get(Kind.INPUT)),
        _estimates(reference, seen.get(Kind.PREDICTION)),
    )


def due(history: pl.DataFrame, *, version: int, now: datetime) -> tuple[Kind, ...]:
    """The kinds whose cadence has passed since they were last looked at."""
    seen = history.filter(pl.col("version") == version, pl.col("at") <= now)
    last = dict(seen.group_by(pl.col("name").str.split(".").list.get(1)).agg(pl.col("at").max()).iter_rows())
    return tuple(kind for kind in Kind if kind not in last or now - last[kind] >= CADENCE[kind])


def report_rows(report: DriftReport) -> pl.DataFrame:
    """The history rows of one report."""
    return past.rows(report.verdicts, at=report.at, version=report.version)


def table(story: str) -> str:
    """Name of the Iceberg table that holds a story's history."""
    return f"drift.{story}"


def record(tables: Tables, reports: Sequence[DriftReport]) -> None:
    """Append reports of one story in one commit; give it many at a time, commits are what costs."""
    if reports:
        found = pl.concat([report_rows(report) for report in reports])
        tables.append(table(reports[0].story), found.to_arrow())


def read_history(tables: Tables, story: str) -> pl.DataFrame:
    """The story's history, empty when nothing was recorded yet."""
    name = table(story)
    if not tables.exists(name):
        return pl.DataFrame(schema=past.SCHEMA)
    found: pl.DataFrame = tables.read(name)
    return found.select([pl.col(key).cast(dtype) for key, dtype in past.SCHEMA.items()])


def recent(reference: Reference, windows: Sequence[Window], now: datetime, kind: Kind) -> Profile:
    """What a look at ``kind`` sees of ``windows``, which are sorted by start: see :data:`STRETCH`.

    Returns:
        The requests of those windows; for :data:`LATE` kinds their labels.
    """
    stretch, late = STRETCH[kind], kind in LATE
    first = bisect_left(windows, now - stretch.at_most, key=lambda one: one.start)
    chosen: list[Profile] = []
    seen = 0
    for window in reversed(windows[first:]):
        if window.end > now:
            continue
        if window.end <= now - stretch.at_least and seen >= stretch.rows:
            break
        here = window.profile.labelled if late else window.profile.rows
        if here:
            chosen.append(window.profile)
            seen += here
    return (merge_labels if late else merge_requests)(reference.profile, chosen)


def _detect(kind: Kind, reference: Reference, now: Profile) -> list[Verdict]:
    detect = {
        Kind.INPUT: detect_input,
        Kind.PREDICTION: detect_prediction,
        Kind.LABEL: detect_label,
        Kind.CONCEPT: detect_concept,
    }[kind]
    policy: DriftPolicy = reference.policy
    return detect(reference.profile, now, policy)


def _measures(reference: Reference, now: Profile | None) -> tuple[Measure, ...]:
    return tuple(input_measures(reference.profile, now, reference.policy).values()) if now else ()


def _estimates(reference: Reference, now: Profile | None) -> tuple[Verdict, ...]:
    if now is None:
        return ()
    threshold = reference.policy.concept_f1
    return (estimate_accuracy(reference.profile, now, reference.confidences, threshold=threshold),)


def _standing_dict(one: Standing | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "name": one.name,
        "state": str(one.state),
        "since": isoformat(one.since) if one.since else None,
        "value": one.value,
        "threshold": one.threshold,
    }
