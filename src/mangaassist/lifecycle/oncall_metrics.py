"""What Prometheus is told of the on-call surface: a pager that does not reach anybody must page elsewhere."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from mangaassist.core.errors import MangaAssistError
from mangaassist.lifecycle import oncall
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.running import last_runs


def expose(platform: Platform) -> bytes:
    """The exposition text, as the state database and the last probes say now."""
    registry, now = CollectorRegistry(), platform.clock.now()
    readable = Gauge("mangaassist_oncall_readable", "0 when the state database is away.", registry=registry)
    try:
        standing, runs = platform.outbox.standing(now=now), last_runs(platform)
        view, probes = oncall.stored(platform), oncall.probed(platform)
    except MangaAssistError:
        return generate_latest(registry)
    readable.set(1)
    notices = Gauge("mangaassist_notices", "Deliveries by state.", ("state",), registry=registry)
    for state in ("pending", "failing", "expired", "delivered", "unrouted"):
        notices.labels(state).set(getattr(standing, state))
    waiting = Gauge("mangaassist_notices_waiting_seconds", "Age of the oldest failing.", registry=registry)
    waiting.set((now - standing.waiting_since).total_seconds() if standing.waiting_since else 0.0)
    failures = Gauge("mangaassist_job_failures", "Failures in a row.", ("job",), registry=registry)
    for name, last in runs.items():
        failures.labels(name).set(last.failures)
    probe = Gauge("mangaassist_probe_ok", "1 when a dependency answers.", ("dependency",), registry=registry)
    for verdict in probes:
        probe.labels(verdict.name.partition(".")[2]).set(verdict.passed)
    if view is not None:
        age = Gauge("mangaassist_oncall_snapshot_age_seconds", "Of the 3am page.", registry=registry)
        age.set((now - view.at).total_seconds())
    return generate_latest(registry)
