"""What a server tells Prometheus, in a registry of its own so that two servers in one process stay apart."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mangaassist.core.errors import IntegrityError
from mangaassist.drift.metrics import DIMENSIONS, read_latest
from mangaassist.serving.live import Live
from mangaassist.serving.router import Answer

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)


class ServingMetrics:
    """Counters and histograms of one server."""

    def __init__(self, home: Path | None = None) -> None:
        """
        Args:
            home: whose drift is told too; None for a server's own numbers alone.
        """
        self._drift = DriftMetrics(home) if home is not None else None
        self._registry = CollectorRegistry()
        self._requests = self._counter(
            "requests", "Answered requests.", "story", "arm", "version", "language"
        )
        self._errors = self._counter(
            "model_errors", "Exceptions of the routed version.", "story", "arm", "type"
        )
        self._abstentions = self._counter("abstentions", "Answers not to be acted on.", "story", "arm")
        self._latency = self._histogram("prediction", "From routing to the model's answer.", "story", "arm")
        self._commit = self._histogram("log_commit", "One durable group commit of the prediction log.")
        self._rows = self._counter("log_rows", "Rows made durable.")
        self._dropped = self._counter("shadow_dropped", "Shadow copies left out under load.", "story")
        self._epoch = self._gauge("live_epoch", "Deployment served.")
        self._stale = self._gauge("live_stale_seconds", "Since the ledger was last read.")
        self._pinned = self._gauge(
            "live_pinned", "1 while the lease has ended and the known good version is pinned."
        )
        self._frozen = self._gauge("promotion_denied", "1 while a kill switch denies promotion.")

    def answered(self, answer: Answer) -> None:
        """Count one answer."""
        story, arm = answer.story, str(answer.arm)
        self._requests.labels(story, arm, str(answer.version or "none"), str(answer.language)).inc()
        self._latency.labels(story, arm).observe(answer.latency_ms / 1000.0)
        if answer.prediction.abstains:
            self._abstentions.labels(story, arm).inc()
        error = answer.records[0].error
        if error is not None:
            self._errors.labels(story, arm, error).inc()

    def committed(self, rows: int, seconds: float) -> None:
        """Count one group commit."""
        self._rows.inc(rows)
        self._commit.observe(seconds)

    def shadow_dropped(self, story: str) -> None:
        """Count a shadow copy that was not made."""
        self._dropped.labels(story).inc()

    def expose(self, live: dict[str, Live]) -> bytes:
        """The exposition text, with the live pointer as it is now."""
        for story, view in live.items():
            self._epoch.labels(story).set(view.epoch)
            self._stale.labels(story).set(view.stale_seconds)
            self._pinned.labels(story).set(view.pinned)
            self._frozen.labels(story).set(not view.permissions.may_promote)
        return generate_latest(self._registry) + (self._drift.expose() if self._drift else b"")

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"mangaassist_{name}", says, labels, registry=self._registry)

    def _histogram(self, name: str, says: str, *labels: str) -> Histogram:
        named = f"mangaassist_{name}_seconds"
        return Histogram(named, says, labels, buckets=_SECONDS, registry=self._registry)

    def _gauge(self, name: str, says: str) -> Gauge:
        return Gauge(f"mangaassist_{name}", says, ("story",), registry=self._registry)


class DriftMetrics:
    """The newest look of the drift hub, whichever process looked: MangaAssist/MLDrift by model and kind."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._registry = CollectorRegistry()
        self._unreadable = Gauge(
            "mangaassist_mldrift_unreadable", "1 when the hub's file is damaged.", registry=self._registry
        )
        self._state = self._gauge("state", "-1 insufficient, 0 quiet, 1 rising, 2 fired.")
        self._value = self._gauge("value", "The leading finding, in its own unit.")
        self._threshold = self._gauge("threshold", "What the value is held against.")
        self._sustained = self._gauge("sustained_seconds", "For how long it has failed without a break.")
        self._looked = self._gauge("looked_timestamp_seconds", "When it was last looked at.")

    def expose(self) -> bytes:
        """The exposition text."""
        for gauge in (self._state, self._value, self._threshold, self._sustained, self._looked):
            gauge.clear()
        try:
            found = read_latest(self._home)
        except IntegrityError:
            found = []
            self._unreadable.set(1)
        else:
            self._unreadable.set(0)
        for one in found:
            labels = (one.model_target, one.kind)
            self._state.labels(*labels).set(one.state)
            self._sustained.labels(*labels).set(one.sustained.total_seconds())
            self._looked.labels(*labels).set(one.at.timestamp())
            if one.value is not None:
                self._value.labels(*labels).set(one.value)
            if one.threshold is not None:
                self._threshold.labels(*labels).set(one.threshold)
        return generate_latest(self._registry)

    def _gauge(self, name: str, says: str) -> Gauge:
        return Gauge(f"mangaassist_mldrift_{name}", says, DIMENSIONS, registry=self._registry)
