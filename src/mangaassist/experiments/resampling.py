"""When in doubt, bootstrap: the primary's effect by resampling users, where no formula is trusted."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.experiments.plan import Kind, Metric, Plan
from mangaassist.experiments.sums import transformed
from mangaassist.experiments.unit_table import require_columns
from mangaassist.stats.domain import FloatArray
from mangaassist.stats.intervals import Estimate, Rows, bootstrap

LARGEST = 400_000
"""Above this many users the delta method and the bootstrap agree to every digit anybody reads."""


def bootstrap_effect(
    plan: Plan, frame: pl.LazyFrame, *, arm: str, replicates: int, generator: np.random.Generator
) -> Estimate:
    """Difference between ``arm`` and control on the primary with a percentile bootstrap interval.

    Randomised units are drawn whole (clusters where the plan names them). Covariates are not used: this is a
    check on the adjusted reading, not a copy of it.

    Raises:
        InputError: for more users than :data:`LARGEST`, or an arm without any.
    """
    metric, columns = plan.primary.metric, plan.columns
    own = [metric.column, *([metric.denominator] if metric.denominator else [])]
    unit = columns.cluster or columns.unit
    require_columns(frame, [columns.arm, unit, *own])
    rows = (
        frame.filter(pl.col(columns.arm).cast(pl.String).is_in([arm, plan.control]))
        .select(
            (pl.col(columns.arm).cast(pl.String) == arm).alias("treated"),
            pl.col(unit).rank("dense").alias("unit"),
            transformed(pl.col(own[0]).cast(pl.Float64), metric).fill_nan(None).alias("value"),
            *(pl.col(name).cast(pl.Float64).fill_nan(None).alias("below") for name in own[1:]),
        )
        .drop_nulls()
        .collect()
    )
    if len(rows) > LARGEST:
        raise InputError(
            "--bootstrap",
            expected=f"at most {LARGEST:,} users",
            got=f"{len(rows):,}",
            next_step="At this size the ordinary interval is right; leave --bootstrap out.",
        )
    treated = rows["treated"].to_numpy()
    if treated.all() or not treated.any():
        raise InputError(
            "--bootstrap", expected="users in both arms", got="one arm only", next_step="Check --spec."
        )
    groups = rows["unit"].to_numpy() if columns.cluster else None
    below = rows["below"].to_numpy() if metric.denominator else None

    value = rows["value"].to_numpy()

    def difference(chosen: Rows) -> float:
        return _difference(metric, treated[chosen], value[chosen], None if below is None else below[chosen])

    return bootstrap(
        difference,
        len(rows),
        generator=generator,
        replicates=replicates,
        level=1 - plan.alpha / len(plan.treatments),
        groups=groups,
    )


def _difference(
    metric: Metric, treated: NDArray[np.bool_], value: FloatArray, below: FloatArray | None
) -> float:
    arms = []
    for side in (treated, ~treated):
        if metric.kind is Kind.QUANTILE:
            arms.append(float(np.quantile(value[side], metric.quantile)))
        else:
            arms.append(float(value[side].sum() / (side.sum() if below is None else below[side].sum())))
    return arms[0] - arms[1]


def bootstrapped(
    plan: Plan, frame: pl.LazyFrame, *, replicates: int, seed: int
) -> dict[str, dict[str, float | int]]:
    """:func:`bootstrap_effect` of every treated arm, as a JSON object."""
    generator = np.random.default_rng(seed)
    return {
        arm: bootstrap_effect(plan, frame, arm=arm, replicates=replicates, generator=generator).as_dict()
        for arm in plan.treatments
    }
