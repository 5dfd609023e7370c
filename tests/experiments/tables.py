"""Unit tables with a planted effect and experiments with a planted correlation, shared by the tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from mangaassist.experiments.correlation import Pair

SHARES = {"en": 0.55, "ja": 0.30, "mixed": 0.15}


def table(
    n: int = 24_000,
    *,
    lift: float = 0.06,
    cohort_lift: Mapping[str, float] | None = None,
    csat: float = 0.0,
    control_share: float = 0.5,
    seed: int = 11,
) -> pl.DataFrame:
    """Users with a locale, a past rate, a rate that the treatment multiplies, and a satisfaction score."""
    generator = np.random.default_rng(seed)
    locale = generator.choice(list(SHARES), n, p=list(SHARES.values()))
    treated = generator.random(n) >= control_share
    before = np.clip(generator.normal(0.183, 0.1, n), 0, None)
    own = dict.fromkeys(SHARES, lift) | dict(cohort_lift or {})
    factor = 1 + treated * np.array([own[name] for name in locale])
    return pl.DataFrame(
        {
            "user_id": [f"u{index}" for index in range(n)],
            "arm": np.where(treated, "treatment", "control"),
            "locale": locale,
            "useful_rate": (0.5 * before + 0.0915 + generator.normal(0, 0.1, n)) * factor,
            "useful_rate_before": before,
            "csat": (4.21 + generator.normal(0, 0.9, n)) * (1 + csat * treated),
        }
    )


def pairs_at(target: float, *, n: int = 6, error: float = 0.0) -> list[Pair]:
    """Experiments whose sample correlation is exactly ``target``."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=n)
    x = (x - x.mean()) / x.std()
    noise = generator.normal(size=n)
    noise = noise - noise.mean() - x * (noise @ x) / n
    y = target * x + np.sqrt(1 - target**2) * noise / noise.std()
    return [
        Pair(f"e{i}", 0.03 + 0.02 * a, 0.01 + 0.01 * b, error, error / 2)
        for i, (a, b) in enumerate(zip(x, y, strict=True))
    ]
