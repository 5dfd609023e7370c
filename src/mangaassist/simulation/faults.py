"""Faults for fire drills: what a shop's metrics, panels and change log look like when a known thing breaks.

A :class:`Fleet` is a shop in good health: metrics per cohort with a season and autocorrelated heavy-tailed
noise, panels with their limits, innocent changes, panels that fail by accident. A :class:`Fault` disturbs
some of it from its onset on. Whoever localises gets :class:`Observed`, which holds no fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from mangaassist.incidents.alarms import TICK, TICKS_A_WEEK, Label
from mangaassist.incidents.baselines import hours_of
from mangaassist.incidents.records import EVERYBODY, Change, Occasion, Series
from mangaassist.stats.domain import FloatArray

HISTORY = 4 * TICKS_A_WEEK
HISTORY_START = datetime(2026, 9, 7, tzinfo=UTC)
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

_MINUTE = timedelta(minutes=1)


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


@dataclass(frozen=True, slots=True)
class Effect:
    """What a fault does to one series.

    Attributes:
        panel, name: of the series.
        size: of a metric in its standard deviations, for the worse; of a gauge the value it goes to.
        cohort: whose; everybody's moves by that cohort's share.
        delay, ramp: minutes after the onset until it begins, and from then until it is complete.
        mix: it comes from who asks, not from worse answers.
    """

    panel: str
    name: str
    size: float
    cohort: str = EVERYBODY
    delay: float = 0.0
    ramp: float = 5.0
    mix: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One cause and all it does.

    Attributes:
        category: the truth: its category.
        subject: the truth: what a right suspect names.
        effects: on the series.
        changes: that the change log has of it; none for a silent one.
        occasions: calendar entries that belong to it.
    """

    category: str
    subject: str
    effects: tuple[Effect, ...]
    changes: tuple[Change, ...] = ()
    occasions: tuple[Occasion, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """A healthy shop: how each of its series behaves, drawn once per seed.

    Attributes:
        labels: metric by metric, cohort by cohort.
        correlation, amplitude, phase: of each series, shape (series,).
    """

    labels: tuple[Label, ...]
    correlation: FloatArray
    amplitude: FloatArray
    phase: FloatArray

    @classmethod
    def drawn(cls, generator: np.random.Generator) -> Fleet:
        """A fleet of all metrics and cohorts."""
        labels = tuple(Label(one.panel, one.name, cohort) for one in METRICS for cohort in SHARES)
        metrics, cohorts = len(METRICS), len(SHARES)
        amplitude = np.repeat(generator.uniform(0.5, 3.0, metrics), cohorts)
        phase = np.repeat(generator.uniform(0.0, 24.0, metrics), cohorts)
        return cls(labels, generator.uniform(0.1, 0.5, metrics * cohorts), amplitude, phase)

    def quiet(self, start: datetime, ticks: int, generator: np.random.Generator) -> FloatArray:
        """Values of a quiet stretch from ``start`` on, shape (ticks, series)."""
        from scipy.signal import lfilter

        shape = (ticks, len(self.labels))
        draws = generator.standard_t(5.0, size=shape) / np.sqrt(5.0 / 3.0)
        # Cohorts share what moves everybody.
        common = draws.reshape(ticks, len(METRICS), len(SHARES))[:, :, :1]
        draws = (0.6 * common + 0.8 * draws.reshape(ticks, len(METRICS), len(SHARES))).reshape(shape)
        noise = np.empty(shape)
        for column, a in enumerate(self.correlation):
            noise[:, column] = lfilter([np.sqrt(1.0 - a * a)], [1.0, -a], draws[:, column])
        day = np.cos(2.0 * np.pi * (hours_of(start, TICK, ticks)[:, None] - self.phase) / 24.0)
        strays = self.amplitude * day + noise * (1.0 + 0.4 * (1.0 - day) / 2.0) * self.widths
        values = self.levels + self.spreads * strays
        values[generator.random(shape) < 0.003] = np.nan
        return np.asarray(values)

    @property
    def levels(self) -> FloatArray:
        return np.repeat([one.level for one in METRICS], len(SHARES)).astype(np.float64)

    @property
    def spreads(self) -> FloatArray:
        """Standard deviation of everybody's metric, per series."""
        return np.repeat([one.spread for one in METRICS], len(SHARES)).astype(np.float64)

    @property
    def widths(self) -> FloatArray:
        """A cohort's noise over everybody's: fewer people, more noise."""
        return np.tile([share**-0.5 for share in SHARES.values()], len(METRICS))

    @property
    def worse(self) -> FloatArray:
        """-1 where lower is worse, else 1, per series."""
        return np.repeat([-1.0 if one.worse == "low" else 1.0 for one in METRICS], len(SHARES))


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Everything there is to observe around one fault, and nothing about the fault.

    Attributes:
        start: instant of the first tick.
        metrics: shape (ticks, series), in the fleet's order.
        gauges: shape (ticks, gauges), in the order of GAUGES.
        log: changes, guilty and innocent alike.
        calendar: occasions.
    """

    fleet: Fleet
    start: datetime
    metrics: FloatArray
    gauges: FloatArray
    log: tuple[Change, ...]
    calendar: tuple[Occasion, ...]

    def at(self, tick: int) -> datetime:
        """The instant of one tick."""
        return self.start + tick * TICK


@dataclass(slots=True)
class Observed:
    """The evidence of one instant of a recording; see :class:`mangaassist.incidents.records.Evidence`."""

    recording: Recording
    now: datetime
    _found: dict[str, list[Series]] = field(default_factory=dict)

    def panels(self) -> Sequence[str]:
        return tuple(dict.fromkeys([one.panel for one in METRICS] + [one.panel for one in GAUGES]))

    def series(self, panel: str) -> Sequence[Series]:
        if panel not in self._found:
            self._found[panel] = [*self._metrics(panel), *self._gauges(panel)]
        return self._found[panel]

    def changes(self, since: datetime, until: datetime) -> Sequence[Change]:
        return [one for one in self.recording.log if since <= one.at <= until and one.known_at <= self.now]

    def occasions(self, since: datetime, until: datetime) -> Sequence[Occasion]:
        return [one for one in self.recording.calendar if one.since <= until and one.until >= since]

    @property
    def _ticks(self) -> int:
        return int((self.now - self.recording.start) / TICK) + 1

    def _metrics(self, panel: str) -> list[Series]:
        own, worse = self.recording, {one.name: one.worse for one in METRICS}
        return [
            Series(
                panel,
                one.name,
                one.cohort,
                own.start,
                TICK,
                own.metrics[: self._ticks, column],
                None,
                worse[one.name],
            )
            for column, one in enumerate(own.fleet.labels)
            if one.panel == panel
        ]

    def _gauges(self, panel: str) -> list[Series]:
        own = self.recording
        return [
            Series(
                panel,
                one.name,
                EVERYBODY,
                own.start,
                TICK,
                own.gauges[: self._ticks, column],
                one.limit,
                one.worse,
            )
            for column, one in enumerate(GAUGES)
            if one.panel == panel
        ]


def record(
    fleet: Fleet,
    faults: Sequence[tuple[datetime, Fault]],
    *,
    start: datetime,
    ticks: int,
    generator: np.random.Generator,
) -> Recording:
    """Play ``faults`` at their onsets on a quiet stretch, with innocent changes and accidents around them."""
    metrics = fleet.quiet(start, ticks, generator)
    gauges = _quiet_gauges(ticks, generator)
    losses = np.zeros((ticks, len(METRICS)))
    for onset, fault in faults:
        for effect in fault.effects:
            share = _progress(effect, onset, start, ticks)
            _disturb(fleet, metrics, gauges, losses, effect, share=share)
    _adjust(gauges, losses)
    _accidents(gauges, generator)
    log = [one for _, fault in faults for one in fault.changes]
    log += innocent(start, ticks, [onset for onset, _ in faults], generator)
    calendar = tuple(one for _, fault in faults for one in fault.occasions)
    if generator.random() < 0.15:
        calendar += (Occasion("golden-week", start, start + timedelta(days=8)),)
    return Recording(fleet, start, metrics, gauges, tuple(sorted(log, key=lambda one: one.at)), calendar)


def _progress(effect: Effect, onset: datetime, start: datetime, ticks: int) -> FloatArray:
    """Share of an effect that each tick's window saw, shape (ticks,)."""
    minutes = np.arange(ticks) * (TICK / _MINUTE) - (onset - start) / _MINUTE - effect.delay
    # A tick speaks for the five minutes before it: the middle of them is what it saw.
    return np.clip((minutes - TICK / _MINUTE / 2.0) / max(effect.ramp, 5.0), 0.0, 1.0)


def _disturb(
    fleet: Fleet,
    metrics: FloatArray,
    gauges: FloatArray,
    losses: FloatArray,
    effect: Effect,
    *,
    share: FloatArray,
) -> None:
    columns = [
        index
        for index, one in enumerate(fleet.labels)
        if (one.panel, one.name) == (effect.panel, effect.name)
    ]
    for column in columns:
        size = effect.size * _portion(effect.cohort, fleet.labels[column].cohort)
        metrics[:, column] += fleet.worse[column] * size * fleet.spreads[column] * share
    if columns:
        metric = columns[0] // len(SHARES)
        losses[:, metric] += 0.0 if effect.mix else effect.size * SHARES[effect.cohort] * share
        return
    place = next(i for i, one in enumerate(GAUGES) if (one.panel, one.name) == (effect.panel, effect.name))
    gauges[:, place] += (effect.size - GAUGES[place].level) * share


def _portion(hurt: str, cohort: str) -> float:
    """How much of an effect on ``hurt`` a cohort feels: its share of them, as far as the two overlap."""
    if hurt in (EVERYBODY, cohort):
        return 1.0
    return 0.0 if hurt.partition("=")[0] == cohort.partition("=")[0] else SHARES[hurt]


def _quiet_gauges(ticks: int, generator: np.random.Generator) -> FloatArray:
    level = np.array([one.level for one in GAUGES])
    spread = np.array([one.spread for one in GAUGES])
    return np.asarray(level + spread * generator.standard_t(6.0, size=(ticks, len(GAUGES))) / np.sqrt(1.5))


def _adjust(gauges: FloatArray, losses: FloatArray) -> None:
    """The fall of quality that is left when traffic is weighted as it usually is."""
    names = {one.name.partition(".")[0]: index for index, one in enumerate(METRICS) if one.panel == "quality"}
    for place, one in enumerate(GAUGES):
        if one.panel == "adjusted":
            gauges[:, place] += losses[:, names[one.name.partition(".")[0]]]


def _accidents(gauges: FloatArray, generator: np.random.Generator) -> None:
    """Panels fail for reasons of their own now and then, for up to two hours."""
    for place, one in enumerate(GAUGES):
        if generator.random() < 0.03:
            begin = int(generator.integers(0, max(len(gauges) - 12, 1)))
            length = int(generator.integers(4, 24))
            gauges[begin : begin + length, place] += 1.3 * (one.limit - one.level)


_KINDS = {
    "deploy": 0.34,
    "configuration": 0.18,
    "switch": 0.08,
    "model": 0.08,
    "prompt": 0.08,
    "interface": 0.08,
    "campaign": 0.05,
    "managed_service": 0.05,
    "index": 0.03,
    "schema": 0.03,
}
_PLACES = {
    "deploy": ("gateway", "intent", "reranker", "recommendation", "answers", "feature_store", "sentiment"),
    "configuration": ("gateway", "intent", "reranker", "recommendation", "answers", "language_model"),
    "switch": ("intent", "reranker", "recommendation"),
    "model": ("intent", "embedding", "reranker", "recommendation", "sentiment", "spam", "forecasting"),
    "prompt": ("answers",),
    "interface": ("frontend",),
    "campaign": ("gateway",),
    "managed_service": ("language_model", "catalog_index", "feature_store"),
    "index": ("catalog_index",),
    "schema": ("catalog_feed", "orders_feed", "reviews_feed"),
}


def innocent(
    start: datetime, ticks: int, onsets: Sequence[datetime], generator: np.random.Generator
) -> list[Change]:
    """Changes that did nothing: twelve a day, and one in the hour and a half before each onset."""
    span = ticks * TICK
    count = int(generator.poisson(12.0 * (span / timedelta(days=1))))
    times = [start + generator.random() * span for _ in range(count)]
    times += [onset - float(generator.uniform(5.0, 90.0)) * _MINUTE for onset in onsets]
    return [_innocent(at, generator) for at in times]


def _innocent(at: datetime, generator: np.random.Generator) -> Change:
    kind = str(generator.choice(list(_KINDS), p=list(_KINDS.values())))
    place = str(generator.choice(_PLACES[kind]))
    serial = int(generator.integers(1000, 10_000))
    cohorts = (str(generator.choice(["locale=ja", "locale=en"])),) if generator.random() < 0.1 else ()
    return change(kind, f"{place}-{serial}", at, (place,), cohorts, generator=generator)


def change(
    kind: str,
    subject: str,
    at: datetime,
    touches: tuple[str, ...],
    cohorts: tuple[str, ...] = (),
    *,
    generator: np.random.Generator,
) -> Change:
    """An entry of the change log, known some minutes after it happened."""
    at = at.replace(microsecond=0)
    known = at + timedelta(seconds=int(generator.integers(5, 240)))
    revert = f"mangaassist rollback {touches[0]}" if kind == "model" else f"shopctl revert {kind} {subject}"
    return Change(kind, subject, at, known, "pipeline", f"{kind} of {subject}.", touches, cohorts, revert)
