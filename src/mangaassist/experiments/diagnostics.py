"""Why did offline and online come apart? Five named causes, each a test with a number and a verdict (EVA-5).

``fail`` is a hit. A partial hit is a ``fail`` that does not block, so that the dominant cause stands out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments.correlation import Pair
from mangaassist.stats.divergence import psi, psi_null_quantile
from mangaassist.stats.domain import at_least, counts, finite, same_length
from mangaassist.stats.pooling import erosion

_DRIFTED = 0.2
_LEVEL = 0.99


def selection_bias(evaluation: ArrayLike, production: ArrayLike) -> Verdict:
    """Cause 1: the evaluation set asks other questions than users do.

    Args:
        evaluation, production: queries per category (intent, tier, language), shape (k,) each.

    The index must pass both its usual threshold and what sampling alone would give at these sizes.
    """
    a, b = counts("evaluation", evaluation), counts("production", production)
    same_length("selection_bias", a, b)
    found = psi(b, a)
    floor = psi_null_quantile(int(b.sum()), int(a.sum()), len(a), level=_LEVEL)
    hit, partial = found > max(_DRIFTED, floor), found > max(_DRIFTED / 2, floor)
    unseen = float(b[a == 0].sum() / b.sum())
    return _diagnosis(
        "selection_bias",
        found,
        max(_DRIFTED, floor),
        f"Evaluation and production queries differ by {found:.3f}; {unseen:.0%} of traffic asks what the "
        "set never does",
        hit=hit,
        partial=partial,
        n=int(a.sum()),
        fix="correct the evaluation set by propensity",
    )


def label_leakage(gain: float, strict_gain: float, *, n: int = 0) -> Verdict:
    """Cause 2: part of the offline gain comes from knowing the future.

    Args:
        gain: offline gain as reported.
        strict_gain: the same on a split that is strict in time.
    """
    if gain <= 0:
        raise InputError(
            "gain",
            expected="an offline gain above 0",
            got=f"{gain:g}",
            next_step="There is nothing to explain.",
        )
    lost = 1 - strict_gain / gain
    return _diagnosis(
        "label_leakage",
        lost,
        0.5,
        f"A time-strict split keeps {1 - lost:.0%} of the gain",
        hit=lost >= 0.5,
        partial=lost >= 0.25,
        n=n,
        fix="rebuild the split strictly in time",
    )


def distribution_shift(turnover: float, stale_days: float, *, refresh_days: float = 7.0) -> Verdict:
    """Cause 3: the evaluation set is older than the world it judges.

    Args:
        turnover: share of today's items that the set cannot contain, 0 to 1.
        stale_days: days since it was refreshed.
    """
    hit = turnover >= 0.25 or (turnover >= 0.1 and stale_days > 8 * refresh_days)
    partial = turnover >= 0.1 or stale_days > 2 * refresh_days
    return _diagnosis(
        "distribution_shift",
        turnover,
        0.25,
        f"{turnover:.0%} of items changed in the {stale_days:.0f} days since the set was refreshed",
        hit=hit,
        partial=partial,
        n=0,
        fix="refresh weekly from the last seven days",
    )


def proxy_mismatch(gain_by_position: ArrayLike, clicks_by_position: ArrayLike) -> Verdict:
    """Cause 4: the metric rewards positions nobody looks at.

    Args:
        gain_by_position: contribution of each rank to the offline gain, shape (k,).
        clicks_by_position: clicks at each rank, shape (k,).

    The value is the share of the gain outside the ranks that hold 90% of the clicks.
    """
    gain, clicks = finite("gain_by_position", gain_by_position, ndim=1), counts("clicks", clicks_by_position)
    same_length("proxy_mismatch", gain, clicks)
    seen = int(np.searchsorted(np.cumsum(clicks) / clicks.sum(), 0.9 - 1e-12)) + 1
    positive = np.maximum(gain, 0.0)
    if not positive.any():
        raise InputError(
            "gain_by_position",
            expected="a gain somewhere",
            got="none",
            next_step="There is nothing to explain.",
        )
    unseen = float(positive[seen:].sum() / positive.sum())
    return _diagnosis(
        "proxy_mismatch",
        unseen,
        0.5,
        f"{unseen:.0%} of the gain lies below rank {seen}, which takes 90% of the clicks",
        hit=unseen >= 0.5,
        partial=unseen >= 0.25,
        n=int(clicks.sum()),
        fix=f"measure at rank {seen} and weight by position",
    )


def goodharting(trained_on_metric: bool, primary_gain: float, sibling_gains: Sequence[float]) -> Verdict:
    """Cause 5: the measure became the target.

    Args:
        trained_on_metric: whether the training loss is the offline metric itself.
        primary_gain: relative gain on the primary offline metric.
        sibling_gains: relative gains on the other offline metrics of the portfolio.
    """
    at_least("sibling_gains", len(sibling_gains), 1)
    behind = (
        float(np.mean([gain < 0.25 * primary_gain for gain in sibling_gains])) if primary_gain > 0 else 0.0
    )
    hit = trained_on_metric and behind >= 0.5
    return _diagnosis(
        "goodharting",
        behind,
        0.5,
        f"{behind:.0%} of the sibling metrics do not share the gain; the training target is "
        + ("the metric itself" if trained_on_metric else "another one"),
        hit=hit,
        partial=trained_on_metric or behind >= 0.5,
        n=len(sibling_gains),
        fix="promote on a portfolio of metrics",
    )


def portfolio_win(primary: float, secondary: Sequence[float], *, tolerance: float = 0.01) -> bool:
    """EVA-4: a model must win the primary offline metric and lose at most ``tolerance`` on any secondary."""
    return primary > 0 and all(change >= -tolerance for change in secondary)


def goodhart_watch(pairs: Sequence[Pair]) -> Verdict:
    """Is the offline metric being won more and more while users notice less and less?

    The gap online minus offline, each in its own standard deviation, must not fall from experiment to
    experiment (weighted trend, one-sided 5%).

    Raises:
        InputError: for fewer than 4 experiments.
    """
    at_least("pairs", len(pairs), 4)
    offline, online = np.array([one.offline for one in pairs]), np.array([one.online for one in pairs])
    spread = [float(one.std(ddof=1)) or 1.0 for one in (offline, online)]
    gap = online / spread[1] - offline / spread[0]
    trend = erosion(gap, np.full(len(gap), max(float(gap.var(ddof=1)), 1e-12)), np.arange(len(gap)))
    widening = trend.p_value <= 0.05
    return Verdict(
        "diagnosis.goodhart_watch",
        Status.FAIL if widening else Status.PASS,
        f"The gap between online and offline moves by {trend.slope.value:+.2f} deviations an experiment"
        + (": the metric is being won, not the users." if widening else "."),
        trend.slope.value,
        trend.slope.low,
        trend.slope.high,
        0.0,
        len(pairs),
        blocking=False,
    )


def _diagnosis(
    name: str, value: float, threshold: float, sentence: str, *, hit: bool, partial: bool, n: int, fix: str
) -> Verdict:
    said = f": a hit, {fix}." if hit else f": a partial hit, {fix}." if partial else ": not the cause."
    return Verdict(
        f"diagnosis.{name}",
        Status.FAIL if hit or partial else Status.PASS,
        sentence + said,
        value=value,
        threshold=threshold,
        n=n,
        blocking=hit,
    )
