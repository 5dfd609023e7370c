"""From sums to readings: a metric in an arm and a cohort, absolute and relative, by the plan's method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.experiments.aggregation import Mask, Table
from mangaassist.experiments.plan import Columns, Kind, Metric, Plan
from mangaassist.stats.effects import Effect, Term, compare, two_proportions
from mangaassist.stats.effects import Metric as Form
from mangaassist.stats.group_sequential import Plan as Boundary
from mangaassist.stats.inference import Inference, always_valid, fixed, group_sequential, z_value
from mangaassist.stats.intervals import Estimate
from mangaassist.stats.moments import Moments
from mangaassist.stats.multiple import holm
from mangaassist.stats.quantiles import quantile_moments

ALL = "all"
"""The cohort of everybody."""

_ARM, _CLUSTER = "__arm", "__cluster"


@dataclass(frozen=True, slots=True)
class Method:
    """How effects are read at this look.

    Attributes:
        name: fixed, group-sequential or always-valid.
        level: confidence, 1 - alpha of one claim.
        boundary: of a group-sequential plan.
        earlier: z-values of all earlier looks per reading key, first to last; a key that is new was not
            looked at before and counts as not having crossed.
        looks: how many earlier looks there were.
        tuning_n: units at which an always-valid reading is tightest.
    """

    name: str
    level: float
    boundary: Boundary | None
    earlier: Mapping[str, Sequence[float]]
    looks: int
    tuning_n: float

    def interval(self, effect: Effect) -> Estimate:
        """The interval of one effect: at a planned look the repeated one, at that look's own confidence."""
        if self.boundary is not None:
            nominal = self.boundary.bounds[self.looks].nominal_p
            return replace(fixed(effect, level=1 - nominal).estimate, level=self.level)
        if self.name == "always-valid":
            return self.read(effect, "").estimate
        return fixed(effect, level=self.level).estimate

    def read(self, effect: Effect, key: str) -> Inference:
        """The reading of one effect."""
        if self.boundary is not None:
            path = list(self.earlier.get(key, [0.0] * self.looks))
            return group_sequential(effect, self.boundary, earlier=path)
        if self.name == "always-valid":
            return always_valid(effect, tuning_n=self.tuning_n, level=self.level)
        return fixed(effect, level=self.level)


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric, one treated arm, one cohort.

    Attributes:
        metric, arm, cohort: what was compared with control ("all", or "locale=ja").
        n: units in both arms.
        treatment, control: the (adjusted) level in each arm.
        absolute: the difference with its interval.
        relative: the same as a share of control; None where control is 0 or the metric has no ratio scale.
        adjusted_p: accounts for looks, for the number of treated arms and for the other claims of its kind
            (:func:`corrected`); no other p-value is shown.
        significant: whether the plan's error budget allows the claim.
        variance_reduction: share of variance the covariates removed.
        z: of this look, for the boundary of later ones; never shown.
        effect: the variance object behind the absolute value.
        relative_effect: the one behind the relative value.
    """

    metric: str
    arm: str
    cohort: str
    n: int
    treatment: float
    control: float
    absolute: Estimate
    relative: Estimate | None
    adjusted_p: float
    significant: bool
    variance_reduction: float
    z: float
    effect: Effect
    relative_effect: Effect | None

    @property
    def key(self) -> str:
        return f"{self.metric}|{self.arm}|{self.cohort}"

    def as_dict(self) -> dict[str, Any]:
        """The reading as a JSON object: adjusted significance only."""
        return {
            "metric": self.metric,
            "arm": self.arm,
            "cohort": self.cohort,
            "n": self.n,
            "treatment": self.treatment,
            "control": self.control,
            "absolute": interval_dict(self.absolute),
            "relative": interval_dict(self.relative) if self.relative else None,
            "adjusted_p": self.adjusted_p,
            "significant": self.significant,
            "variance_reduction": self.variance_reduction,
        }


def interval_dict(estimate: Estimate) -> dict[str, float | int | None]:
    """An estimate as JSON; an end that is not bounded (control cannot be told from 0) is null."""
    return {name: value if isfinite(value) else None for name, value in asdict(estimate).items()}


def form_of(metric: Metric, *, clustered: bool) -> Form:
    """Which columns of the block make up the metric and its covariates."""
    own = 2 if metric.kind is Kind.RATIO or clustered else 1
    covariates, at = [], own
    for name in metric.covariates:
        covariates.append(Term(at, at + 1) if "/" in name else Term(at))
        at += 2 if "/" in name else 1
    return Form(Term(0, 1) if own == 2 else Term(0), tuple(covariates))


def effects(
    table: Table, metric: Metric, plan: Plan, *, arm: str, within: Mask
) -> tuple[Effect, Effect | None]:
    """Absolute and relative effect of one treated arm on a metric of sums, within some cells.

    Raises:
        InputError: for an arm without usable units, one unit, or no variation.
    """
    clustered = bool(plan.columns.cluster)
    form = form_of(metric, clustered=clustered)
    block = table.blocks[metric.name]
    arms = []
    for name in (arm, plan.control):
        found = block.moments(within & table.where(**{plan.columns.arm: name}))
        if found is None:
            raise _empty(metric.name, name)
        arms.append(found)
    relative = None
    if not _is_zero(arms[1].mean[0]):
        relative = compare(arms[0], arms[1], form, relative=True)
    if metric.kind is Kind.PROPORTION and not form.covariates and not clustered:
        _refuse_non_binary(metric, arms[0].mean[0], arms[1].mean[0])
        return two_proportions(arms[0], arms[1]), relative
    return compare(arms[0], arms[1], form), relative


def _is_zero(value: float) -> bool:
    return bool(abs(value) < 1e-300)


def _empty(metric: str, arm: str) -> InputError:
    return InputError(
        f"metric '{metric}'",
        expected=f"units with a value in arm '{arm}'",
        got="none",
        next_step="Check that the arm received traffic and the metric was logged.",
    )


def _refuse_non_binary(metric: Metric, *means: float) -> None:
    if min(means) < 0 or max(means) > 1:
        raise InputError(
            f"column '{metric.column}'",
            expected="zeros and ones for kind: proportion",
            got=f"arm means of {', '.join(f'{one:g}' for one in means)}",
            next_step="Declare it as kind: mean.",
        )


def quantile_effects(
    frame: pl.LazyFrame, metric: Metric, columns: Columns, *, arm: str, control: str
) -> tuple[Effect, Effect | None]:
    """Absolute and relative effect on a quantile: the one kind that needs the values, of its own columns.

    A missing covariate (a user without a past) takes the mean over both arms, which adjusts nothing.

    Raises:
        InputError: for an arm without values, or too few to bracket the quantile.
    """
    clustered = bool(columns.cluster)
    wanted = (
        frame.filter(pl.col(columns.arm).cast(pl.String).is_in([arm, control]))
        .select(
            pl.col(columns.arm).cast(pl.String).alias(_ARM),
            *([pl.col(columns.cluster).alias(_CLUSTER)] if clustered else []),
            *(pl.col(name).cast(pl.Float64).fill_nan(None) for name in metric.columns),
        )
        .drop_nulls(metric.column)
        .with_columns(pl.col(name).fill_null(strategy="mean") for name in metric.covariate_columns)
        .collect(engine="streaming")
    )
    arms = []
    for name in (arm, control):
        rows = wanted.filter(pl.col(_ARM) == name)
        if not len(rows):
            raise _empty(metric.name, name)
        arms.append(_quantile_arm(rows, metric, clustered=clustered))
    form = form_of(metric, clustered=clustered)
    relative = None if _is_zero(arms[1].mean[0]) else compare(arms[0], arms[1], form, relative=True)
    return compare(arms[0], arms[1], form), relative


def _quantile_arm(rows: pl.DataFrame, metric: Metric, *, clustered: bool) -> Moments:
    return quantile_moments(
        rows[metric.column].to_numpy(),
        metric.quantile,
        covariates=rows.select(metric.covariate_columns).to_numpy() if metric.covariates else None,
        clusters=rows[_CLUSTER].to_numpy() if clustered else None,
    )


def corrected(readings: Sequence[Reading], *, alpha: float) -> list[Reading]:
    """Readings that are claims side by side, their p-values adjusted by Holm: what may be shown of them."""
    if not readings:
        return []
    adjusted = holm([one.adjusted_p for one in readings])
    return [
        replace(one, adjusted_p=float(p), significant=bool(one.significant and p <= alpha))
        for one, p in zip(readings, adjusted, strict=True)
    ]


def reading(
    metric: str, arm: str, cohort: str, found: tuple[Effect, Effect | None], *, method: Method, arms: int
) -> Reading:
    """Read one effect by the plan's method; ``arms`` treated arms share the error budget."""
    effect, relative = found
    key = f"{metric}|{arm}|{cohort}"
    inference = method.read(effect, key)
    return Reading(
        metric,
        arm,
        cohort,
        effect.n,
        effect.treatment,
        effect.control,
        inference.estimate,
        method.interval(relative) if relative else None,
        min(1.0, inference.p_value * arms),
        inference.significant,
        effect.variance_reduction,
        z_value(effect),
        effect,
        relative,
    )
