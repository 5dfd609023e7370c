"""What a simulated shop measures: metrics per cohort that an alarm judges, gauges with a limit."""

from __future__ import annotations

from dataclasses import dataclass

from mangaassist.incidents.records import EVERYBODY

SHARES = {
    EVERYBODY: 1.0,
    "locale=ja": 0.4,
    "locale=en": 0.6,
    "device=mobile": 0.65,
    "device=desktop": 0.35,
    "tenure=new": 0.3,
    "tenure=power": 0.7,
}
"""Cohorts and their share of the traffic."""

EVERY_MINUTE = ("quality", "clicks", "latency", "errors")
"""Panels of which a minute has hundreds of requests: labels and offline runs come too seldom for that."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that only an alarm can judge: its level and the standard deviation of everybody's."""

    panel: str
    name: str
    level: float
    spread: float
    worse: str = "low"


@dataclass(frozen=True, slots=True)
class Gauge:
    """A series of a panel with a limit."""

    panel: str
    name: str
    level: float
    spread: float
    limit: float
    worse: str = "high"


METRICS = (
    Metric("quality", "intent.resolved", 0.71, 0.008),
    Metric("labelled", "intent.accuracy", 0.94, 0.006),
    Metric("latency", "intent.p95_ms", 38.0, 1.5, "high"),
    Metric("errors", "intent.error_rate", 0.004, 0.0006, "high"),
    Metric("quality", "reranker.ndcg", 0.78, 0.011),
    Metric("clicks", "reranker.ctr", 0.12, 0.003),
    Metric("offline", "reranker.golden_ndcg", 0.80, 0.006),
    Metric("latency", "reranker.p95_ms", 180.0, 6.0, "high"),
    Metric("quality", "recommendation.useful", 0.34, 0.007),
    Metric("clicks", "recommendation.ctr", 0.081, 0.002),
    Metric("latency", "recommendation.p95_ms", 120.0, 5.0, "high"),
    Metric("quality", "answers.resolved", 0.66, 0.009),
    Metric("latency", "answers.p95_ms", 760.0, 22.0, "high"),
    Metric("errors", "answers.error_rate", 0.006, 0.0008, "high"),
    Metric("quality", "embedding.recall", 0.88, 0.006),
    Metric("labelled", "sentiment.accuracy", 0.87, 0.008),
    Metric("labelled", "spam.precision", 0.96, 0.005),
    Metric("quality", "forecasting.coverage", 0.80, 0.012),
)

_FEATURES = (
    "intent.query_length",
    "intent.japanese_share",
    "embedding.norm",
    "reranker.score_distribution",
    "reranker.query_length",
    "recommendation.session_length",
    "recommendation.series_age",
    "sentiment.review_length",
    "forecasting.stock_level",
    "answers.context_length",
)
_QUALITY = tuple(one.name.partition(".")[0] for one in METRICS if one.panel == "quality")
GAUGES = (
    *(
        Gauge("upstream", f"{one}_feed.rows", 1.0, 0.04, 0.7, "low")
        for one in ("catalog", "orders", "reviews")
    ),
    *(
        Gauge("upstream", f"{one}_feed.schema_mismatch", 0.0005, 0.0003, 0.01)
        for one in ("catalog", "orders", "reviews")
    ),
    *(Gauge("feature_drift", one, 0.04, 0.012, 0.2) for one in _FEATURES),
    *(Gauge("shard_recall", f"catalog_index.shard_{one}", 0.91, 0.012, 0.85, "low") for one in range(5)),
    Gauge("probe", "language_model.answer_seconds", 0.62, 0.05, 0.95),
    Gauge("probe", "catalog_index.query_ms", 21.0, 1.5, 40.0),
    Gauge("probe", "feature_store.read_ms", 3.1, 0.3, 8.0),
    Gauge("probe", "registry.read_ms", 6.0, 0.6, 20.0),
    Gauge("traffic_mix", "gateway.query_classes", 0.03, 0.01, 0.15),
    *(Gauge("adjusted", f"{one}.loss", 0.0, 0.6, 3.0) for one in _QUALITY),
    Gauge("click_position", "frontend.positions", 0.03, 0.01, 0.15),
    Gauge("answer_shape", "answers.length", 0.03, 0.01, 0.2),
    *(
        Gauge("label_mix", f"{one}.vendor_labels", 0.03, 0.012, 0.15)
        for one in ("intent", "sentiment", "spam")
    ),
    *(Gauge("evaluation_age", f"{one}.turnover", 0.1, 0.005, 0.3) for one in ("reranker", "intent")),
)
