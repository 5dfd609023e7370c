"""Traffic for the drift tests: seeded frames shaped like the prediction log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from mangaassist.core.story import Story
from mangaassist.drift.reference import Reference, fit_reference

START = datetime(2026, 3, 2, tzinfo=UTC)
LABELS = ("order_status", "recommend", "return_request", "stock")
STORY = Story("intent", "text-classification", "What a shopper wants.")


def traffic(
    rows: int,
    *,
    seed: int,
    start: datetime = START,
    lasts: timedelta = timedelta(hours=1),
    length: float = 30.0,
    japanese: float = 0.3,
    confidence: float = 9.0,
    prior: tuple[float, ...] = (0.4, 0.3, 0.1, 0.2),
    accuracy: float = 0.9,
) -> pl.DataFrame:
    """Requests with late labels: ``at``, ``known_at`` a day later, ``truth`` and the predicted ``label``."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(len(LABELS), rows, p=prior)
    wrong = generator.random(rows) > accuracy
    answer = np.where(wrong, (truth + generator.integers(1, len(LABELS), rows)) % len(LABELS), truth)
    offsets = np.sort(generator.integers(0, int(lasts.total_seconds() * 1e6), rows))
    at = pl.lit(start).cast(pl.Datetime("us", "UTC")) + pl.Series(offsets).cast(pl.Duration("us"))
    names = np.array(LABELS)
    return pl.DataFrame(
        {
            "text_length": generator.poisson(length, rows),
            "unknown_share": generator.beta(1, 30, rows),
            "language": np.where(generator.random(rows) < japanese, "ja", "en"),
            "device": generator.choice(["web", "ios", "android"], rows, p=[0.5, 0.3, 0.2]),
            "confidence": generator.beta(confidence, 1.5, rows),
            "label": names[answer],
            "truth": names[truth],
        }
    ).select(at.alias("at"), (at + timedelta(days=1)).alias("known_at"), pl.all())


def reference(rows: int = 8000, *, seed: int = 1, story: Story = STORY, **changes: float) -> Reference:
    """A reference fitted on stationary traffic."""
    return fit_reference(story, traffic(rows, seed=seed, **changes), at=START)  # type: ignore[arg-type]
