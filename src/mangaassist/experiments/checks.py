"""Is this an experiment at all? What must hold before any effect may be read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments.aggregation import Table
from mangaassist.experiments.plan import Metric, Plan
from mangaassist.experiments.readings import form_of
from mangaassist.stats.effects import covariate_balance, two_proportions
from mangaassist.stats.inference import fixed
from mangaassist.stats.moments import of_counts
from mangaassist.stats.srm import sample_ratio, sequential_sample_ratio

# One false alarm in a thousand experiments, because each of these stops the analysis.
_ALARM = 1e-3
_SEQUENTIAL_ALARM = 1e-2
_NEW_COHORT = 0.001


def integrity(plan: Plan, table: Table) -> list[Verdict]:
    """Every check on the data itself, in the order a reader should fix them."""
    return [
        *_units(table),
        *_arms(plan, table),
        *_cohorts(plan, table),
        *(verdict for metric in plan.metrics for verdict in _missing(plan, table, metric)),
        *(verdict for metric in plan.metrics for verdict in _covariates(plan, table, metric)),
    ]


def _units(table: Table) -> Iterator[Verdict]:
    found = table.units
    checked = "" if found.one_in == 1 else f" (checked on one unit in {found.one_in})"
    if found.nobody:
        yield _fail(
            "experiment.units.known",
            f"{found.nobody:,} rows have no unit; nobody knows whose they are.",
            found.nobody,
        )
    if found.both_arms:
        sentence = f"{found.both_arms:,} units are in both arms{checked}, for example '{found.example}'."
        yield _fail("experiment.units.one_arm", sentence, found.both_arms)
    once = found.repeated - found.both_arms
    if once:
        sentence = (
            f"{once:,} units have several rows{checked}, for example '{found.example}': duplicated events, "
            "or rows finer than a unit, which need columns.cluster."
        )
        yield _fail("experiment.units.once", sentence, once)
    if not (found.nobody or found.repeated):
        sentence = f"Every unit is there once, in one arm{checked}."
        yield Verdict(
            "experiment.units.once", Status.PASS, sentence, value=0.0, threshold=0.0, n=found.checked
        )


def _fail(name: str, sentence: str, count: int) -> Verdict:
    return Verdict(name, Status.FAIL, sentence, value=float(count), threshold=0.0, n=count)


def _arms(plan: Plan, table: Table) -> Iterator[Verdict]:
    counts = table.counts(plan.columns.arm)
    strange = {name: n for name, n in counts.items() if name not in plan.arms}
    if strange:
        listed = ", ".join(f"{name or 'none'} ({n:,})" for name, n in strange.items())
        yield _fail(
            "experiment.arms",
            f"Units in arms nobody registered under 'arms': {listed}.",
            sum(strange.values()),
        )
    observed = [counts.get(name, 0) for name in plan.arms]
    if sum(observed):
        yield sample_ratio_verdict(plan, observed)


def sample_ratio_verdict(plan: Plan, observed: list[int]) -> Verdict:
    """EXP-2: the alarm. At a fixed end by chi-square, at looks by the always-valid multinomial test."""
    sequential = plan.looks.method != "fixed"
    test = sequential_sample_ratio if sequential else sample_ratio
    found = test(observed, list(plan.arms.values()))
    threshold = _SEQUENTIAL_ALARM if sequential else _ALARM
    shares = ", ".join(
        f"{name} {n:,} ({n / sum(observed):.2%} for {share:.2%})"
        for (name, share), n in zip(plan.arms.items(), observed, strict=True)
    )
    mismatch = found.p_value < threshold
    sentence = f"The split is {'not ' if mismatch else ''}the registered one: {shares}."
    if mismatch:
        sentence += " No effect may be read from it."
    return Verdict(
        "experiment.sample_ratio",
        Status.FAIL if mismatch else Status.PASS,
        sentence,
        value=found.p_value,
        threshold=threshold,
        n=sum(observed),
    )


def _cohorts(plan: Plan, table: Table) -> Iterator[Verdict]:
    """A cohort nobody registered has no guardrail, so nothing can be said about its harm."""
    for dimension in plan.cohorts:
        counts = table.counts(dimension.dimension)
        total = sum(counts.values())
        for value, n in sorted(counts.items(), key=lambda item: str(item[0])):
            if value not in dimension.shares:
                name = f"{dimension.dimension}={value}"
                large = n > _NEW_COHORT * total
                yield Verdict(
                    f"experiment.cohort.registered.{name}",
                    Status.INSUFFICIENT,
                    f"{n:,} units are in {name}, which nobody registered: it has no threshold to be held to.",
                    value=n / total,
                    threshold=_NEW_COHORT,
                    n=n,
                    blocking=large,
                )


def _missing(plan: Plan, table: Table, metric: Metric) -> Iterator[Verdict]:
    """Values missing at different rates in the arms are an effect on who is measured."""
    block = table.blocks[metric.name]
    masks = {name: table.where(**{plan.columns.arm: name}) for name in plan.arms}
    rows = {name: int(table.rows[mask].sum()) for name, mask in masks.items()}
    usable = {name: int(block.n[mask].sum()) for name, mask in masks.items()}
    gone = {name: rows[name] - usable[name] for name in rows}
    if not any(gone.values()) or plan.columns.cluster:
        return
    for arm in plan.treatments:
        if not (rows[arm] and rows[plan.control]):
            continue
        moments = [of_counts(gone[name], rows[name]) for name in (arm, plan.control)]
        p = fixed(two_proportions(*moments)).p_value if sum(m.scatter[0, 0] for m in moments) > 0 else 0.0
        differs = p < _ALARM
        rates = (
            f"{gone[arm] / rows[arm]:.2%} in {arm}, {gone[plan.control] / rows[plan.control]:.2%} in control"
        )
        yield Verdict(
            f"experiment.missing.{metric.name}",
            Status.FAIL if differs else Status.PASS,
            f"{metric.name} is missing for {rates}"
            + (": the arms are no longer comparable." if differs else ", alike in both; they are left out."),
            value=p,
            threshold=_ALARM,
            n=sum(gone.values()),
        )


def _covariates(plan: Plan, table: Table, metric: Metric) -> Iterator[Verdict]:
    """CUPED needs covariates the treatment cannot have touched: their means must agree between arms."""
    if not metric.covariates:
        return
    form = form_of(metric, clustered=bool(plan.columns.cluster))
    block = table.blocks[metric.name]
    for arm in plan.treatments:
        arms = [block.moments(table.where(**{plan.columns.arm: name})) for name in (arm, plan.control)]
        if arms[0] is None or arms[1] is None:
            continue
        try:
            found = covariate_balance(arms[0], arms[1], form)
        except InputError:
            continue  # constant covariates adjust nothing
        touched = bool(np.isfinite(found.p_value)) and found.p_value < _ALARM
        names = ", ".join(metric.covariates)
        yield Verdict(
            f"experiment.covariates.{metric.name}",
            Status.FAIL if touched else Status.PASS,
            f"{names} {'differ' if touched else 'agree'} between {arm} and control"
            + (": measured after assignment, or the assignment is broken." if touched else "."),
            value=found.p_value,
            threshold=_ALARM,
            n=arms[0].n + arms[1].n,
        )
