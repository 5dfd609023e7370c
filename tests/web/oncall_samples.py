"""Evidence of a bad night for the page tests: the source's shard-3 story, every number made up and seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents import clock, records
from mangaassist.incidents.records import (
    Alarm,
    Change,
    Incident,
    Known,
    Localisation,
    Mitigation,
    Occasion,
    Onset,
    Series,
    Suspect,
)
from mangaassist.incidents.snapshot import OncallSnapshot, snapshot

NOW = datetime(2026, 11, 20, 3, 18, tzinfo=UTC)
STEP = timedelta(minutes=5)
TICKS = 7 * 288
COHORTS = ("locale=ja", "locale=en", "device=mobile", "device=desktop", "tenure=new", "tenure=power")
FEATURES = (
    "score_distribution",
    "query_length",
    "japanese_share",
    "price_range",
    "series_age",
    "click_position",
    "session_length",
    "catalog_tier",
    "stock_level",
    "review_count",
)
STAGES = ("gateway", "intent", "retrieval", "reranker", "generation", "response")


def series(
    panel: str,
    name: str,
    cohort: str = "all",
    *,
    level: float = 0.78,
    noise: float = 0.01,
    fall: float = 0.0,
    limit: float | None = None,
    worse: str = "low",
    minutes: int = 30,
    stopped: int = 0,
) -> Series:
    """A week with a season; in its last ``minutes`` it moves by ``fall``; ``stopped``: minutes of silence."""
    generator = np.random.default_rng(sum(map(ord, panel + name + cohort)))
    hour = np.arange(TICKS) * (STEP / timedelta(days=1))
    values = level * (1 + 0.02 * np.sin(2 * np.pi * hour)) + noise * generator.standard_normal(TICKS)
    ticks = minutes // 5
    values[TICKS - ticks :] += fall * np.minimum(1, np.arange(1, ticks + 1) / 3)
    values[700:716] = np.nan
    if stopped:
        values[-stopped // 5 :] = np.nan
    return Series(panel, name, cohort, NOW - (TICKS - 1) * STEP, STEP, values, limit, worse)


class Night:
    """The evidence of 03:18."""

    now = NOW

    def __init__(self, *, calm: bool = False) -> None:
        hurt = 0.0 if calm else 1.0
        quality = [series("quality", "reranker.ndcg", fall=-0.17 * hurt)]
        quality += [
            series("quality", "reranker.ndcg", one, fall=-0.17 * hurt * (1.2 if "ja" in one else 0.9))
            for one in COHORTS
        ]
        quality += [
            series("quality", "intent.accuracy", level=0.94, noise=0.004),
            series("quality", "recsys.ctr", level=0.081, noise=0.001, fall=-0.012 * hurt),
        ]
        self._panels = {
            "quality": quality,
            "upstream": [
                series("upstream", "catalog_feed.rows", level=41_200, noise=240, limit=30_000),
                series("upstream", "orders_feed.rows", level=1_180, noise=40, limit=600),
                series(
                    "upstream",
                    "catalog_feed.schema_mismatch",
                    level=0.0001,
                    noise=0.00001,
                    limit=0.001,
                    worse="high",
                ),
                series("upstream", "reviews_feed.rows", level=310, noise=16, limit=100, stopped=55),
            ],
            "feature_drift": [
                series(
                    "feature_drift",
                    f"reranker.{name}",
                    level=0.03 + 0.004 * place,
                    noise=0.004,
                    fall=0.28 * hurt if place == 0 else 0.0,
                    limit=0.2,
                    worse="high",
                )
                for place, name in enumerate(FEATURES)
            ],
            "latency": [
                series(
                    "latency",
                    f"{name}.p95_ms",
                    level=40.0 + 38 * place,
                    noise=3,
                    limit=60.0 + 48 * place,
                    worse="high",
                )
                for place, name in enumerate(STAGES)
            ],
            "errors": [
                series("errors", f"{name}.error_rate", level=0.002, noise=0.0004, limit=0.01, worse="high")
                for name in STAGES[:3]
            ],
            "shard_recall": [
                series(
                    "shard_recall",
                    f"catalog_index.shard_{number}",
                    level=0.91,
                    noise=0.006,
                    limit=0.85,
                    fall=-0.48 * hurt if number == 3 else 0.0,
                )
                for number in range(1, 6)
            ],
        }

        if calm:
            del self._panels["shard_recall"]

    @property
    def absent(self) -> Mapping[str, str]:
        return {}

    def minutes(self, panel: str, since: datetime) -> Sequence[Series]:
        return []

    def panels(self) -> Sequence[str]:
        return list(self._panels)

    def series(self, panel: str) -> Sequence[Series]:
        return self._panels[panel]

    def changes(self, since: datetime, until: datetime) -> Sequence[Change]:
        return [one for one in CHANGES if since <= one.at <= until]

    def occasions(self, since: datetime, until: datetime) -> Sequence[Occasion]:
        return []


def change(
    kind: str, hours: float, subject: str, actor: str, summary: str, revert: str | None = None
) -> Change:
    at = NOW - timedelta(hours=hours)
    return Change(kind, subject, at, at, actor, summary, (), (), revert)


CHANGES = (
    change("managed_service", 0.62, "search-api", "provider", "Upgraded to 2.11.1 overnight (automatic)."),
    change("campaign", 9.4, "winter-sale", "marketing", "Newsletter to 400,000 readers."),
    change("deploy", 31, "gateway", "ci", "4f2a91c Timeouts per stage.", "git revert 4f2a91c && make deploy"),
    change(
        "model", 55, "registry/intent", "promotion", "Version 14 is champion.", "mangaassist rollback intent"
    ),
    change("prompt", 80, "answer-style", "yuki", "Shorter greetings."),
    change("schema", 101, "features/reranker", "catalog", "Schema 7: stock_level is an integer."),
    change("configuration", 101.5, "gateway", "ci", "Cache of 5 minutes."),
    change("deploy", 146, "web", "ci", "99aa102 New footer."),
)


def alarm(name: str, usual: float, value: float, *, cohort: str = "all", minutes: float = 18) -> Alarm:
    at = NOW - timedelta(minutes=minutes)
    began = at - timedelta(minutes=9)
    onset = Onset(began - timedelta(minutes=5), began, began + timedelta(minutes=5))
    return Alarm("quality", name, cohort, at, value, usual, False, onset)


def walk(incident: str) -> Localisation:
    def node(name: str, status: Status, sentence: str) -> Verdict:
        return Verdict(name, status, sentence)

    verdicts = (
        node("code_deploy", Status.PASS, "No deploy in the 24 h before the onset."),
        node("model_version", Status.PASS, "No version changed in 24 h."),
        node("configuration", Status.PASS, "No configuration changed in 24 h."),
        node("prompt", Status.PASS, "No prompt changed in 24 h."),
        node("upstream_data", Status.PASS, "Rows and schema of what the reranker reads are as usual."),
        node("label_drift", Status.INSUFFICIENT, "No label has arrived for this hour."),
        node("feature_drift", Status.FAIL, "reranker.score_distribution is at 0.31 (limit 0.2)."),
        node("index", Status.FAIL, "Recall of catalog_index.shard_3 is 0.43 (limit 0.85)."),
    )
    suspects = (
        Suspect(
            "index", "catalog_index.shard_3", 0.74, "Fell 2 min before the onset; the reranker reads it."
        ),
        Suspect("managed_service", "search-api", 0.19, "Upgraded 10 min before the onset; serves the index."),
        Suspect(
            "feature_drift", "reranker.score_distribution", 0.04, "Moved with the onset; follows the index."
        ),
    )
    mitigation = Mitigation(
        "Rebuild shard 3 beside the old one, then flip.",
        "mangaassist index rebuild catalog --shard 3 --reason 20261120-0300-1f2e",
        False,
        "index.md",
    )
    return Localisation(incident, NOW - timedelta(minutes=9), "index", 0.74, verdicts, suspects, mitigation)


def incident() -> Known:
    alarms = (alarm("reranker.ndcg", 0.78, 0.61), alarm("recsys.ctr", 0.081, 0.069, minutes=12))
    opened = Incident("20261120-0300-1f2e", alarms[0].at, alarms, ("catalog_index", "search-api"))
    found = walk(opened.id)
    timeline = (
        (opened.opened, records.OPENED, "alarms", opened.as_dict()),
        (opened.opened + timedelta(minutes=4), clock.ACKNOWLEDGED, "ana", {"reason": "On it."}),
        (found.at, records.LOCALISED, "triage", found.as_dict()),
    )
    return Known(opened, 3, found, timeline=timeline)


def probe(
    name: str, value: float | None, limit: float, said: str, *, status: Status = Status.PASS
) -> Verdict:
    return Verdict(f"probe.{name}", status, said, value, threshold=limit, n=1)


PROBES = (
    probe("ledger", 1.1, 1000, "Entry 8,112 is intact."),
    probe("tables", 34.0, 1000, "22 tables."),
    probe("artifacts", 4.2, 1000, "Wrote and read an artifact."),
    probe("online", 0.9, 100, "40 of 40 rows found."),
    probe("model.intent", 6.3, 1000, "Version 14 answers 'order_tracking', 'order_tracking'."),
    probe("language_model", 2_412.0, 2000, "It answered after 2412 ms (limit 2000 ms).", status=Status.FAIL),
    probe("notices", 2.2, 1000, "3 deliveries today, 0 on their way, none failing."),
)

BAD_NIGHT: OncallSnapshot = snapshot(Night(), [incident()], dependencies=PROBES)
CALM_NIGHT: OncallSnapshot = replace(
    snapshot(
        Night(calm=True),
        dependencies=PROBES[:5],
        absent={"shard_recall": "No retrieval index exists in this home."},
    )
)
NOTHING_YET = OncallSnapshot(NOW, "platform", absent={"quality": "No story answers requests yet."})
