"""Sizing where no formula fits: draw experiments from past users, plant the effect, count the finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.experiments.plan import Kind, Metric, Plan, Transform
from mangaassist.experiments.sizing import boundary
from mangaassist.experiments.unit_table import require_columns, scan
from mangaassist.stats.domain import FloatArray, finite
from mangaassist.stats.effects import Effect, Term, compare
from mangaassist.stats.effects import Metric as Form
from mangaassist.stats.group_sequential import inflation
from mangaassist.stats.inference import fixed
from mangaassist.stats.intervals import Estimate
from mangaassist.stats.moments import of_rows
from mangaassist.stats.quantiles import quantile_effect
from mangaassist.stats.ranks import capped, rank_effect
from mangaassist.stats.sizing import simulated_power

_RUNS = 400
_LARGEST = 2_000_000


@dataclass(frozen=True, slots=True)
class SimulatedSize:
    """A size found by simulation.

    Attributes:
        per_arm: smallest tried size whose power reaches the plan's, looks included.
        power: at that size, with its interval over runs.
        tried: (users per arm, power) in the order tried.
        method: what was simulated.
    """

    per_arm: int
    power: Estimate
    tried: tuple[tuple[int, float], ...]
    method: str

    def as_dict(self) -> dict[str, Any]:
        """The size as a JSON object."""
        return asdict(self)


def size_by_simulation(plan: Plan, history: Path, *, seed: int, runs: int = _RUNS) -> SimulatedSize:
    """Double the size until the planted effect is found often enough, then halve the gap.

    Args:
        history: past users with the primary's columns.
        runs: simulated experiments per size; 400 put the power within 4 points.

    Raises:
        InputError: for a missing column, or an effect that two million users would not show.
    """
    metric = plan.primary.metric
    frame = scan(history)
    require_columns(frame, metric.columns[:1])
    column = frame.select(pl.col(metric.column).cast(pl.Float64)).drop_nulls().collect(engine="streaming")
    values = finite(f"column '{metric.column}'", column[metric.column].to_numpy(), ndim=1)
    test = _experiment(metric, values, plan.primary.mde)
    generator = np.random.default_rng(seed)
    tried: list[tuple[int, float]] = []

    def power_at(n: int) -> Estimate:
        found = simulated_power(test, n, runs=runs, generator=generator, alpha=plan.alpha)
        tried.append((n, found.value))
        return found

    low, high = 32, 64
    found = power_at(high)
    while found.value < plan.power:
        low, high = high, high * 2
        if high > _LARGEST:
            raise InputError(
                "primary.mde",
                expected=f"an effect that {_LARGEST:,} users per arm can show",
                got=f"power {found.value:.0%} at {low:,}",
                next_step="Look for a larger effect, or a metric with a lighter tail.",
            )
        found = power_at(high)
    while high - low > max(8, high // 20):
        middle = (low + high) // 2
        between = power_at(middle)
        if between.value >= plan.power:
            high, found = middle, between
        else:
            low = middle
    looks = boundary(plan)
    factor = inflation(looks, plan.power) if looks is not None else 1.0
    described = f"{metric.kind}, {metric.transform} transform, resampled from {len(values):,} past users"
    return SimulatedSize(int(np.ceil(high * factor)), found, tuple(tried), described)


def _experiment(
    metric: Metric, values: FloatArray, effect: float
) -> Callable[[np.random.Generator, int], float]:
    """Draws one experiment with the effect planted as a factor on every treated user; returns its p-value."""
    mean = float(values.mean())
    factor = 1.0 + effect / mean if mean else 1.0
    shift = 0.0 if mean else effect

    def draw(generator: np.random.Generator, n: int) -> float:
        treated = generator.choice(values, n) * factor + shift
        return fixed(_effect(metric, treated, generator.choice(values, n))).p_value

    return draw


def _effect(metric: Metric, treated: FloatArray, control: FloatArray) -> Effect:
    if metric.kind is Kind.QUANTILE:
        return quantile_effect(treated, control, metric.quantile)
    if metric.transform is Transform.RANK:
        return rank_effect(treated, control)
    if metric.transform is Transform.WINSORISE:
        treated, control = capped(treated, control, upper=metric.cap_quantile)
    if metric.transform is Transform.LOG:
        treated, control = np.log1p(treated), np.log1p(control)
    return compare(of_rows(treated), of_rows(control), Form(Term(0)))
