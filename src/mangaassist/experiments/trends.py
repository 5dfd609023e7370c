"""Does the effect hold still? Novelty, days of the week, and Simpson's paradox over days and cohorts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments.aggregation import Table
from mangaassist.experiments.plan import Kind, Metric, Plan
from mangaassist.experiments.readings import form_of
from mangaassist.stats.divergence import chi_square
from mangaassist.stats.effects import Effect
from mangaassist.stats.moments import Moments
from mangaassist.stats.pooling import erosion, pool
from mangaassist.stats.stratified import stratify

_ALARM = 0.01
_MOVED = 1e-6
_LEAST_DAYS = 4
_LEAST_UNITS = 30


def trends(plan: Plan, table: Table) -> list[Verdict]:
    """Every check on how the primary's effect moves over days and differs between cohorts."""
    found: list[Verdict] = []
    if plan.primary.metric.kind is Kind.QUANTILE:
        return found  # its strata cannot be added up from sums
    for arm in plan.treatments:
        for column in (
            *((plan.columns.day,) if plan.columns.day else ()),
            *(c.dimension for c in plan.cohorts),
        ):
            found += _simpson(plan, table, arm, column)
        if plan.columns.day:
            found += _days(plan, table, arm)
    return found


def _strata(
    plan: Plan, table: Table, metric: Metric, arm: str, column: str
) -> tuple[list[str], list[Moments], list[Moments]]:
    """Moments per value of a key column that has enough units in both arms."""
    names, treated, control = [], [], []
    block = table.blocks[metric.name]
    for value in sorted(value for value in table.counts(column) if value is not None):
        cells = table.where(**{column: value})
        sides = [
            block.moments(cells & table.where(**{plan.columns.arm: name})) for name in (arm, plan.control)
        ]
        if sides[0] and sides[1] and min(sides[0].n, sides[1].n) >= _LEAST_UNITS:
            names.append(value)
            treated.append(sides[0])
            control.append(sides[1])
    return names, treated, control


def _simpson(plan: Plan, table: Table, arm: str, column: str) -> Iterator[Verdict]:
    """COH-1: an alarm when the pooled effect tells another story than the strata it is made of.

    Two ways to be wrong: the two estimates differ beyond their errors, or they point in opposite directions
    while the split between arms moved with the strata, which alone makes the pooled one meaningless.
    """
    metric = plan.primary.metric
    names, treated, control = _strata(plan, table, metric, arm, column)
    if len(names) < 2:
        return
    try:
        found = stratify(treated, control, form_of(metric, clustered=bool(plan.columns.cluster)))
    except InputError:
        return  # a stratum without variation cannot contradict anything
    moved = chi_square([one.n for one in treated], [one.n for one in control]).p_value < _MOVED
    wrong = found.contradicted or (found.reversed and moved)
    sentence = (
        f"Within {column} the effect is {found.adjusted.value:+.4g}, all together {found.crude.value:+.4g}"
        + (
            ": the split between arms moved with it, and only the effect within may be believed."
            if wrong
            else ", the same story."
        )
    )
    yield Verdict(
        f"experiment.simpson.{column}",
        Status.FAIL if wrong else Status.PASS,
        sentence,
        value=found.crude.value,
        threshold=found.adjusted.value,
        n=found.crude.n,
    )


def _days(plan: Plan, table: Table, arm: str) -> Iterator[Verdict]:
    metric = plan.primary.metric
    names, treated, control = _strata(plan, table, metric, arm, plan.columns.day)
    if len(names) < _LEAST_DAYS:
        return
    try:
        strata = stratify(treated, control, form_of(metric, clustered=bool(plan.columns.cluster))).strata
    except InputError:
        return
    yield _novelty(strata)
    yield from _weekdays(names, strata)


def _novelty(strata: Sequence[Effect]) -> Verdict:
    """A lift that shrinks from entry day to entry day is curiosity; one that grows is learning."""
    values, variances = [one.value for one in strata], [one.variance for one in strata]
    average = float(np.average(values, weights=1 / np.asarray(variances)))
    sign = 1.0 if average >= 0 else -1.0
    trend = erosion([sign * value for value in values], variances, np.arange(len(strata)))
    fades = trend.p_value < _ALARM
    return Verdict(
        "experiment.novelty",
        Status.FAIL if fades else Status.PASS,
        f"The effect moves by {sign * trend.slope.value:+.3g} a day over {len(strata)} days"
        + (": it fades, so its average overstates what stays." if fades else "; no fading is shown."),
        value=sign * trend.slope.value,
        low=min(sign * trend.slope.low, sign * trend.slope.high),
        high=max(sign * trend.slope.low, sign * trend.slope.high),
        threshold=0.0,
        n=len(strata),
        blocking=False,
    )


def _weekdays(names: Sequence[str], strata: Sequence[Effect]) -> Iterator[Verdict]:
    """Do weekdays disagree, and does every one of them count equally often?"""
    try:
        days = [date.fromisoformat(name[:10]).weekday() for name in names]
    except ValueError:
        return  # numbered days have no weekday
    whole = len(days) % 7 == 0 and len(set(days)) == 7
    effects, variances = [], []
    for weekday in sorted(set(days)):
        own = [one for one, day in zip(strata, days, strict=True) if day == weekday]
        weight = 1 / np.array([one.variance for one in own])
        effects.append(float(np.average([one.value for one in own], weights=weight)))
        variances.append(float(1 / weight.sum()))
    if len(effects) < 2:
        return
    found = pool(effects, variances)
    differ = found.q_p_value < _ALARM
    status = Status.PASS if not differ else Status.INSUFFICIENT if not whole else Status.PASS
    yield Verdict(
        "experiment.weekdays",
        status,
        f"The effect {'differs' if differ else 'does not differ'} between weekdays; {len(days)} days "
        + ("cover whole weeks." if whole else "do not cover whole weeks, so some weekdays count more often."),
        value=found.q_p_value,
        threshold=_ALARM,
        n=len(days),
        blocking=False,
    )
