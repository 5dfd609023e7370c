"""Drift of a champion: its reference, the five-minute windows of its traffic, and what to do about it.

The reference of a version is fitted when it becomes champion, on what it itself saw and answered in shadow
and canary. A later difference then means that the world moved, not that training rows differ from traffic
(docs/decisions/0004).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import GateRefused
from mangaassist.core.identity import digest_bytes
from mangaassist.core.story import Story
from mangaassist.drift import history as past
from mangaassist.drift import hub
from mangaassist.drift.history import Kind
from mangaassist.drift.hub import DriftReport
from mangaassist.drift.profile import Profile
from mangaassist.drift.reference import COHORT, Reference, fit_reference
from mangaassist.drift.windows import Tally, Window, outcome_windows, request_windows
from mangaassist.labels.consensus import consensus
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.rollout import read_predictions
from mangaassist.lifecycle.triage import as_counted, barred
from mangaassist.retraining.policy import MONTH, RetrainPolicy
from mangaassist.retraining.schedule import Proposed, RetrainProposal, propose
from mangaassist.retraining.triage import Triage
from mangaassist.serving.prediction_log import predictions_table

REFERENCE = "drift.reference"
PROPOSED = "retraining.proposed"
_OWN_ARMS = ("champion", "holdout", "canary", "shadow")


def subject(story: str) -> str:
    """The ledger subject of a story's monitoring."""
    return f"monitoring/{story}"


def own_rows(predictions: pl.DataFrame, version: int) -> pl.DataFrame:
    """Rows of the log that ``version`` itself answered without an error."""
    return predictions.filter(
        (pl.col("version") == version) & (pl.col("answered_by") == version) & pl.col("error").is_null()
    )


def truths(platform: Platform, story: Story) -> pl.DataFrame:
    """Settled labels of the requests that were drawn for labelling.

    A request is found in the log by what it said and when, so that a text everybody types counts as often as
    it was drawn and not as often as it was sent.

    Returns:
        input_digest and at (of the request), truth, and known_at (when the last vote on it had come).
    """
    examples, labels = platform.labels.examples(story), platform.labels.labels(story)
    drawn = examples.filter(pl.col("role") == "train")
    if drawn.is_empty() or labels.is_empty():
        instant = pl.Datetime("us", "UTC")
        schema = {"input_digest": pl.String(), "at": instant, "truth": pl.String(), "known_at": instant}
        return pl.DataFrame(schema=schema)
    settled = consensus(drawn, labels, story.labels).select("example_id", truth="label")
    voted = labels.group_by("example_id").agg(voted_at=pl.col("labeled_at").max())
    found = drawn.join(settled, on="example_id").join(voted, on="example_id")
    digests = [digest_bytes(text.encode("utf-8", "surrogatepass")) for text in found["text"]]
    return found.select(
        pl.Series("input_digest", digests, dtype=pl.String),
        pl.col("captured_at").alias("at"),
        "truth",
        pl.max_horizontal("voted_at", "ingested_at").alias("known_at"),
    ).unique(["input_digest", "at"])


def fit_champion(platform: Platform, name: str, predictions: pl.DataFrame | None = None) -> Reference | None:
    """Freeze the champion's reference on its own traffic so far and write it to the ledger, once.

    Args:
        predictions: the log so far; read when it is left out and needed.

    Returns:
        The reference; None when the champion has not answered anything yet.
    """
    story, champion = platform.story(name), platform.registry.deployment(name).champion
    if champion is None:
        return None
    known = stored_reference(platform, name, champion)
    if known is not None:
        return known
    # Taken before the log is read: a row that comes in between is counted after the reference, not lost.
    log = platform.tables.since(predictions_table(name), 0, columns=["at"])[1]
    rows = own_rows(read_predictions(platform, name) if predictions is None else predictions, champion)
    if rows.is_empty():
        return None
    labelled = rows.join(truths(platform, story).drop("known_at"), on=["input_digest", "at"], how="left")
    reference = fit_reference(story, labelled, at=platform.clock.now())
    digest = platform.artifacts.put(reference.to_bytes(), durable=True)
    platform.ledger.append(
        kind=REFERENCE,
        subject=subject(name),
        body={"version": champion, "digest": digest, "rows": rows.height, "log": log},
        actor="monitoring",
        at=platform.clock.now(),
    )
    return reference


def stored_reference(platform: Platform, name: str, version: int) -> Reference | None:
    """The reference frozen for a version; None before it became champion."""
    found = _reference_entry(platform, name, version)
    return None if found is None else Reference.from_bytes(platform.artifacts.get(found["digest"]))


def reference_cursor(platform: Platform, name: str, version: int) -> int:
    """The last commit of the prediction log when a version's reference was frozen."""
    found = _reference_entry(platform, name, version) or {}
    # References of the first release do not say; then all of the log is counted, and older rows left out.
    cursor: int = found.get("log", 0)
    return cursor


def _reference_entry(platform: Platform, name: str, version: int) -> Mapping[str, Any] | None:
    for entry in platform.ledger.entries(subject=subject(name), kind=REFERENCE):
        if entry.body["version"] == version:
            return entry.body
    return None


@dataclass(slots=True)
class Monitor:
    """The windows of one champion, grown as rows arrive; every look is the hub's pure check.

    What it holds is what a restart would find again: the findings and windows in their tables, and what was
    counted or found since, which a restart counts again from the log.

    Attributes:
        version, reference: who is watched against what.
        requests: windows of traffic, added up.
        outcomes: windows of labels, oldest first.
        history: earlier findings, from the drift table and this process.
        unrecorded: looks that the drift table should have and does not yet.
        volume: rows by the end of their five minutes, for as long as volumes are compared.
        schema: columns of the newest rows of the log.
    """

    platform: Platform
    story: Story
    version: int
    reference: Reference
    history: pl.DataFrame
    requests: Tally
    outcomes: list[Window] = field(default_factory=list)
    unrecorded: list[DriftReport] = field(default_factory=list)
    volume: dict[datetime, int] = field(default_factory=dict)
    schema: Mapping[str, pl.DataType] = field(default_factory=dict)
    _latest: pl.DataFrame | None = None

    @classmethod
    def open(cls, platform: Platform, name: str, predictions: pl.DataFrame | None = None) -> Monitor:
        """The monitor of the present champion.

        Raises:
            GateRefused: there is no champion, or it has not answered anything yet.
        """
        champion = platform.registry.deployment(name).champion
        reference = fit_champion(platform, name, predictions)
        if champion is None or reference is None:
            raise GateRefused(
                f"drift of '{name}'",
                expected="a champion that has answered requests",
                got="no champion" if champion is None else "an empty prediction log",
                next_step="Drift is watched from the first promoted version on.",
            )
        history = hub.read_history(platform.tables, name)
        tally = Tally(reference.profile)
        return cls(platform, platform.story(name), champion, reference, history, tally)

    def observe(self, predictions: pl.DataFrame) -> None:
        """Count new rows of the log into windows; rows of other versions are left out."""
        found = self.counted(predictions)
        self.requests.add(found)
        add_volume(self.volume, found)

    def counted(self, predictions: pl.DataFrame) -> list[Window]:
        """Windows of the rows of the log that belong to the version, since the reference was frozen."""
        rows = own_rows(predictions, self.version).filter(pl.col("at") >= self.reference.fitted_at)
        if rows.is_empty():
            return []
        self.schema = rows.schema
        return request_windows(self.reference, as_counted(self.reference, rows.sort("at")), apart=True)

    def learn(self, predictions: pl.DataFrame, known: pl.DataFrame) -> None:
        """Count labels that have become known for rows of the log since the reference was frozen."""
        rows = own_rows(predictions, self.version).filter(pl.col("at") >= self.reference.fitted_at)
        answers = rows.select("input_digest", "at", "label", COHORT)
        labelled = answers.join(known, on=["input_digest", "at"]).sort("known_at")
        self.outcomes = outcome_windows(self.reference, labelled, apart=True) if labelled.height else []

    def due(self, now: datetime) -> tuple[Kind, ...]:
        """The kinds whose cadence has passed since they were last looked at."""
        return hub.due(self._told(), version=self.version, now=now)

    def look(self, now: datetime) -> DriftReport:
        """One check of the kinds whose cadence is due.

        A look is kept for the drift table when a finding changed or an hour has passed; the newest of the
        others is remembered until the next.
        """
        self.requests.forget(now - hub.REACH)  # no later look reaches further back; the table keeps them
        seen = {kind: self.recent(kind, now) for kind in self.due(now)}
        report = hub.judge(self.reference, seen, self._told(), version=self.version, now=now)
        found = hub.report_rows(report)
        if past.is_news(found, self.history):
            self.history = pl.concat([self.history, found])
            self.unrecorded.append(report)
            self._latest = None
        else:
            self._latest = found
        return report

    def recent(self, kind: Kind, now: datetime) -> Profile:
        """What a look at ``kind`` sees at ``now``."""
        if kind in hub.LATE:
            return hub.recent(self.reference, self.outcomes, now, kind)
        return self.requests.within(now - hub.REACH, now)

    def record(self) -> None:
        """Write the findings since the last record into the drift table in one commit."""
        hub.record(self.platform.tables, self.unrecorded)
        self.unrecorded.clear()

    def _told(self) -> pl.DataFrame:
        return self.history if self._latest is None else pl.concat([self.history, self._latest])


def check(platform: Platform, name: str) -> DriftReport:
    """One look at all that any process has logged so far, recorded, with the proposal that follows.

    A process that looks again and again keeps a :class:`mangaassist.lifecycle.watch.Watch` instead.
    """
    from mangaassist.lifecycle.watch import Watch

    watch = Watch(platform)
    report = watch.look(name)
    watch.save()
    return report


@dataclass(frozen=True, slots=True)
class Fleet:
    """One look at every story.

    Attributes:
        at: when.
        reports: by story, the findings of its champion.
        unwatched: by story, one sentence why there is nothing to look at, or what went wrong.
    """

    at: datetime
    reports: Mapping[str, DriftReport]
    unwatched: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The look as a JSON object."""
        return {
            "at": isoformat(self.at),
            "reports": {name: report.as_dict() for name, report in self.reports.items()},
            "unwatched": dict(self.unwatched),
        }


def check_all(platform: Platform) -> Fleet:
    """:func:`check` of every registered story; one that fails does not keep the others waiting."""
    from mangaassist.lifecycle.watch import Watch

    watch = Watch(platform)
    fleet = watch.look_all()
    watch.save()
    return fleet


def add_volume(volume: dict[datetime, int], windows: Iterable[Window]) -> None:
    """Add the rows of ``windows`` to ``volume``, by their end."""
    for one in windows:
        volume[one.end] = volume.get(one.end, 0) + one.profile.rows


def next_step(platform: Platform, name: str, found: Triage | None) -> RetrainProposal:
    """What the schedule and a triage propose; a new proposal is written to the ledger once.

    Args:
        found: of the latest look; None where nobody looked now, and then the last one on record may bar it.
    """
    story, now = platform.story(name), platform.clock.now()
    entries = platform.ledger.entries(subject=subject(name), kind=PROPOSED)
    proposal = propose(
        story,
        last_retrain_at=last_retrain(platform, name),
        now=now,
        triage=found,
        frozen=not platform.switches.permissions(name).drift_triggers,
        barred="" if found else barred(platform, name),
        recorded=[entry.body["key"] for entry in entries],
        policy=RetrainPolicy.load(story, platform.home.path),
        spent=spent(platform, name, now),
    )
    if proposal.action is not Proposed.NOTHING:
        platform.ledger.append(
            kind=PROPOSED, subject=subject(name), body=proposal.as_dict(), actor="retraining", at=now
        )
    return proposal


def last_retrain(platform: Platform, name: str) -> datetime | None:
    """When a story was last retrained, whatever became of it; None for never.

    A run that registered nothing counts, too: otherwise its cadence would stay due without a new occasion,
    and it would never be tried again.
    """
    from mangaassist.lifecycle.retrain import ENDED

    runs = platform.ledger.entries(subject=f"run/{name}", kind=ENDED)
    versions = platform.registry.versions(name)
    began = [*(one.registered_at for one in versions[-1:])]
    began += [one.at for one in runs[-1:] if one.body.get("version") is None]
    return max(began, default=None)


def spent(platform: Platform, name: str, now: datetime) -> float:
    """Cost of a story's runs in the last thirty days, at the price of the settings."""
    runs = platform.ledger.entries(subject=f"run/{name}")
    seconds = sum(
        step.get("compute_seconds") or 0.0
        for entry in runs
        if now - entry.at <= MONTH
        for step in entry.body.get("steps", ())
        # A step that was done before cost nothing again.
        if step.get("status") == "done"
    )
    return float(seconds) * platform.home.settings.cpu_second_price
