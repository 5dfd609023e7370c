"""Status views for the page tests: a busy one and an empty one, every number made up and seeded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from mangaassist.core.verdict import Status, Verdict
from mangaassist.web.view import (
    ChallengerView,
    ChampionView,
    DriftView,
    LanguageView,
    LedgerRow,
    LedgerView,
    Link,
    Measure,
    StageView,
    StatusView,
    StoryView,
    SwitchView,
    VerdictGroup,
    VersionView,
)

NOW = datetime(2026, 3, 24, 14, 5, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def curve(
    seed: int, *, start: float, end: float, turn: int = 20
) -> tuple[tuple[datetime, float | None], ...]:
    """Thirty days, four looks a day, level until the turn, with a gap of half a day."""
    generator = np.random.default_rng(seed)
    found: list[tuple[datetime, float | None]] = []
    for look in range(120):
        level = start + max(0.0, (look / 4 - turn) / (30 - turn)) * (end - start)
        value = abs(level * (1 + 0.18 * generator.normal()))
        found.append((NOW - 30 * DAY + look * 6 * HOUR, None if 47 <= look <= 49 else round(float(value), 4)))
    return tuple(found)


DRIFT = (
    DriftView(
        "input", "fired", "drift.input.language", 0.312, 0.2, NOW - 3 * DAY, curve(1, start=0.03, end=0.33)
    ),
    DriftView(
        "prediction",
        "rising",
        "drift.prediction",
        0.171,
        0.15,
        NOW - 9 * HOUR,
        curve(2, start=0.04, end=0.18),
    ),
    DriftView("label", "quiet", "drift.label", 0.041, 0.1, None, curve(3, start=0.04, end=0.045)),
    DriftView("concept", "insufficient", "drift.concept", None, 0.03),
)

VERDICTS = (
    VerdictGroup(
        "labels",
        "labels/intent 7",
        NOW - 4 * DAY,
        (
            Verdict(
                "labels.agreement.en", Status.PASS, "Annotators agree well.", 0.81, 0.77, 0.85, 0.65, 420
            ),
            Verdict("labels.agreement.ja", Status.PASS, "Annotators agree.", 0.74, 0.66, 0.81, 0.65, 180),
            Verdict("labels.sources", Status.PASS, "Three sources.", 3, threshold=2, n=6120),
        ),
    ),
    VerdictGroup(
        "evaluation",
        "intent/5",
        NOW - 4 * DAY,
        (
            Verdict("golden.accuracy", Status.PASS, "Not worse than v4.", 0.941, 0.927, 0.953, 0.925, 1200),
            Verdict(
                "safety.recall.return_request",
                Status.PASS,
                "No more misses than v4.",
                0.982,
                0.951,
                0.994,
                0.97,
                165,
            ),
            Verdict(
                "slice.language=mixed x cohort=new",
                Status.INSUFFICIENT,
                "14 rows are too few to compare.",
                0.857,
                0.6,
                0.96,
                0.9,
                14,
                blocking=False,
            ),
            Verdict("adversarial.accuracy", Status.PASS, "Falls 3.1 points.", 0.031, 0.02, 0.043, 0.08, 1200),
            Verdict("latency.p95_ms", Status.PASS, "One utterance.", 1.84, 1.71, 2.02, 15, 1200),
        ),
    ),
    VerdictGroup(
        "promotion",
        "intent/5 canary_5",
        NOW - 12 * timedelta(minutes=1),
        (
            Verdict(
                "canary.outcome",
                Status.PASS,
                "Resolved share against the hold-out.",
                0.004,
                -0.011,
                0.019,
                -0.05,
                8120,
            ),
            Verdict(
                "canary.error_rate",
                Status.PASS,
                "Errors beside the hold-out's.",
                0.0004,
                0,
                0.0011,
                0.002,
                8120,
            ),
            Verdict(
                "canary.latency_p99",
                Status.STALE,
                "Last sketch is 22 minutes old.",
                6.1,
                threshold=9.2,
                n=610,
            ),
            Verdict(
                "canary.outcome.ja",
                Status.FAIL,
                "Resolved share in Japanese fell.",
                -0.071,
                -0.098,
                -0.044,
                -0.05,
                1904,
            ),
        ),
    ),
)

STORY = StoryView(
    name="intent",
    predicts="Which of fourteen things a shopper wants, in English, Japanese or both.",
    champion=ChampionView(4, NOW - 11 * DAY, 0.95, Measure(0.938, 0.924, 0.951, 1200)),
    challenger=ChallengerView(
        5,
        NOW - 2 * DAY - 3 * HOUR,
        (
            StageView("Gate", "done"),
            StageView("Shadow", "done"),
            StageView("1%", "done"),
            StageView("5%", "current", 0.71, "2 d of 3 d, 8,120 of at least 100 requests"),
            StageView("25%", "ahead"),
            StageView("Full", "ahead"),
        ),
        "Holding: canary.latency_p99 is stale.",
        NOW + 3 * DAY + 21 * HOUR,
    ),
    verdicts=VERDICTS,
    drift=DRIFT,
    languages=(
        LanguageView("en", Measure(0.951, 0.935, 0.964, 760), 0.31, 0.982),
        LanguageView("ja", Measure(0.918, 0.884, 0.943, 340), 0.29, 0.961),
        LanguageView("mixed", Measure(0.89, 0.813, 0.938, 100), 0.27, None),
    ),
    versions=(
        VersionView(5, "canary", NOW - 4 * DAY, Measure(0.941, 0.927, 0.953), "7", "9f2c61d07be1aa", ""),
        VersionView(4, "champion", NOW - 30 * DAY, Measure(0.938, 0.924, 0.951), "6", "41b8e0c2d94f7a", ""),
        VersionView(
            3,
            "failed_promotion",
            NOW - 37 * DAY,
            Measure(0.931, 0.915, 0.944),
            "5",
            "c07d5ae913f2b6",
            "Rolled back from 1% after 41 s: return_request missed more often than by v2.",
        ),
        VersionView(2, "retired", NOW - 44 * DAY, Measure(0.929, 0.913, 0.943), "4", "0a6be7714cd352", ""),
    ),
    next_retrain=NOW + 3 * DAY,
    proposal="Input drift has lasted 3 d without a loss of quality: review before a retrain.",
)

BUSY = StatusView(
    at=NOW,
    stories=(STORY,),
    switches=(
        SwitchView("Global freeze", on=False, usual=False),
        SwitchView("Promotion of intent", on=True, usual=True),
        SwitchView("Shadow traffic", on=False, usual=True, detail="off since 09:12 by mika: load test"),
    ),
    ledger=LedgerView(
        tuple(
            LedgerRow(131 - index, NOW - offset, actor, kind, subject, summary)
            for index, (offset, actor, kind, subject, summary) in enumerate(
                [
                    (
                        12 * timedelta(minutes=1),
                        "controller",
                        "promotion.decided",
                        "registry/intent",
                        "Hold intent/5 at 5%: canary.latency_p99 is stale.",
                    ),
                    (3 * HOUR, "mika", "switch.set", "switches/shadow", "Shadow traffic off: load test."),
                    (
                        2 * DAY,
                        "controller",
                        "promotion.decided",
                        "registry/intent",
                        "intent/5 advances from 1% to 5%: all 9 verdicts pass.",
                    ),
                    (
                        4 * DAY,
                        "pipeline",
                        "version.registered",
                        "registry/intent",
                        "intent/5 from label version 7.",
                    ),
                    (
                        4 * DAY + HOUR,
                        "pipeline",
                        "labels.finalised",
                        "labels/intent",
                        "Label version 7: 6,120 rows from three sources.",
                    ),
                    (
                        37 * DAY,
                        "controller",
                        "promotion.rolled_back",
                        "registry/intent",
                        "intent/3 rolled back in 41 s.",
                    ),
                ]
            )
        ),
        131,
        True,
    ),
    links=(Link("Metrics", "/metrics"), Link("OpenAPI", "/openapi.json")),
)

CALM = StatusView(
    at=NOW,
    stories=(
        StoryView(
            name="sentiment",
            predicts="How a reviewer feels about a volume.",
            champion=ChampionView(1, NOW - HOUR),
            drift=(DriftView("input", "quiet", "drift.input.text_length", 0.012, 0.2),),
        ),
    ),
    switches=(SwitchView("Global freeze", on=False, usual=False),),
    ledger=LedgerView((LedgerRow(1, NOW, "mika", "version.registered", "registry/sentiment"),), 1, None),
)

EMPTY = StatusView(at=NOW)
