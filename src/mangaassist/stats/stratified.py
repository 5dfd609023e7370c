"""Effects within strata (days, cohorts) against the crude effect of all units: Simpson's paradox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, at_least
from mangaassist.stats.effects import Effect, Metric, compare
from mangaassist.stats.moments import Moments, merge

Weighting = Literal["equal", "size", "precision"]


@dataclass(frozen=True, slots=True)
class Stratified:
    """One effect per stratum and their weighted mean beside the crude one.

    Attributes:
        strata: effect per stratum.
        adjusted: weighted mean of the strata.
        crude: effect of all units thrown together.
        reversed: the two point in opposite directions.
        contradicted: they differ by more than ``z`` standard errors of the more careful of the two; the split
            between arms moved with the strata, and only ``adjusted`` may be believed.
    """

    strata: tuple[Effect, ...]
    adjusted: Effect
    crude: Effect
    reversed: bool
    contradicted: bool


def stratify(
    treatment: Sequence[Moments],
    control: Sequence[Moments],
    metric: Metric,
    *,
    weighting: Weighting = "size",
    z: float = 3.0,
) -> Stratified:
    """Compare arms within strata and alarm when pooling them tells another story.

    Sources: Simpson (1951), JRSS B 13, 238-241; the ramp-up form in Crook, Frasca, Kohavi and Longbotham
    (2009), KDD. A ramp that changes the split between days makes the crude effect compare days, not arms.

    Args:
        treatment, control: moments per stratum, the same strata in the same order.
        weighting: "equal" per stratum, "size" of the stratum (the population's effect), or "precision".

    Raises:
        InputError: for unequal numbers of strata, none, or a stratum that cannot be compared.
    """
    if len(treatment) != len(control):
        raise InputError(
            "strata",
            expected="the same strata in both arms",
            got=f"{len(treatment)} and {len(control)}",
            next_step="Report strata that exist in one arm only as insufficient and leave them out of both.",
        )
    at_least("strata", len(treatment), 1)
    strata = tuple(compare(t, c, metric) for t, c in zip(treatment, control, strict=True))
    crude = compare(reduce(merge, treatment), reduce(merge, control), metric)
    adjusted = _average(strata, _weights(strata, weighting))
    apart = abs(adjusted.value - crude.value)
    return Stratified(
        strata,
        adjusted,
        crude,
        bool(adjusted.value * crude.value < 0),
        bool(apart > z * max(adjusted.standard_error, crude.standard_error)),
    )


def _weights(strata: Sequence[Effect], weighting: Weighting) -> FloatArray:
    raw = {
        "equal": [1.0 for _ in strata],
        "size": [float(effect.n) for effect in strata],
        "precision": [1.0 / effect.variance for effect in strata],
    }[weighting]
    return np.asarray(raw, dtype=np.float64) / sum(raw)


def _average(strata: Sequence[Effect], weight: FloatArray) -> Effect:
    variances = np.array([effect.variance for effect in strata])
    parts = weight**2 * variances
    lost = sum(part**2 / effect.df for part, effect in zip(parts, strata, strict=True))
    return Effect(
        value=float(weight @ [effect.value for effect in strata]),
        standard_error=float(np.sqrt(parts.sum())),
        df=float(parts.sum() ** 2 / lost) if lost > 0 else float("inf"),
        n=sum(effect.n for effect in strata),
        treatment=float(weight @ [effect.treatment for effect in strata]),
        control=float(weight @ [effect.control for effect in strata]),
    )


@dataclass(frozen=True, slots=True)
class WorstCohort:
    """The cohort with the lowest metric relative to everybody (COH-1: at least .95).

    Attributes:
        index: which cohort.
        ratio: its metric over the aggregate.
        holds: whether ``ratio`` reaches the floor.
    """

    index: int
    ratio: float
    holds: bool


def worst_cohort(values: Sequence[float], aggregate: float, *, floor: float = 0.95) -> WorstCohort:
    """Fairness floor on a metric where more is better; point values, the caller states their intervals.

    Raises:
        InputError: for no cohorts or an aggregate that is not above 0.
    """
    at_least("cohorts", len(values), 1)
    if not aggregate > 0:
        raise InputError(
            "aggregate", expected="above 0", got=repr(aggregate), next_step="Use a metric that is positive."
        )
    ratios = np.asarray(values, dtype=np.float64) / aggregate
    index = int(ratios.argmin())
    return WorstCohort(index, float(ratios[index]), bool(ratios[index] >= floor))
