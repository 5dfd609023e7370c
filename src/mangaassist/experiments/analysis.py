"""One look at the data: integrity first, then readings, guardrails and cohorts, then one decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.identity import digest_bytes
from mangaassist.core.verdict import Action, Decision, Status, Verdict, decide, worst
from mangaassist.experiments.aggregation import Table, aggregate
from mangaassist.experiments.checks import integrity
from mangaassist.experiments.cohorts import (
    CohortReading,
    cohort_readings,
    floor_verdict,
    pooled_verdict,
    resolve,
)
from mangaassist.experiments.guardrails import Finding, ceiling_finding, judge, measure, path_values
from mangaassist.experiments.information import boundary_at, information_verdict
from mangaassist.experiments.plan import CohortDimension, Guardrail, Kind, Metric, Plan, Rule
from mangaassist.experiments.readings import (
    ALL,
    Method,
    Reading,
    corrected,
    effects,
    quantile_effects,
    reading,
)
from mangaassist.experiments.sizing import size_plan
from mangaassist.experiments.trends import trends
from mangaassist.stats.effects import Effect

POLICY = "experiment-policy/1"


@dataclass(frozen=True, slots=True)
class Look:
    """Which look this is.

    Attributes:
        number: from 0.
        final: whether it is the last registered one.
        earlier: z-values of earlier looks per reading key.
        users: at each look so far, by number; an analysis adds this one's.
    """

    number: int
    final: bool
    earlier: Mapping[str, Sequence[float]] = field(default_factory=dict)
    users: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything one look found.

    Attributes:
        plan: what was registered.
        look: which look.
        readings: metrics of everybody; empty when the data is no experiment.
        cohorts: the primary per registered cohort.
        shared: verdicts on the data and on trends.
        by_arm: verdicts per treated arm: primary, guardrails, cohorts.
        z: of every reading of this look, for later boundaries.
        evidence: digest of the sums everything was computed from.
        units: users per arm.
    """

    plan: Plan
    look: Look
    readings: tuple[Reading, ...]
    cohorts: tuple[CohortReading, ...]
    shared: tuple[Verdict, ...]
    by_arm: Mapping[str, tuple[Verdict, ...]]
    z: Mapping[str, float]
    evidence: str
    units: Mapping[str, int]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All of them; with several treated arms each verdict of an arm is named after it."""
        several = len(self.by_arm) > 1
        named = [
            replace(one, name=f"{one.name}.{arm}") if several else one
            for arm, verdicts in self.by_arm.items()
            for one in verdicts
        ]
        return (*self.shared, *named)

    def decision(self, *, actor: str, at: datetime) -> Decision:
        """What follows: broken data is refused, else the one rule of the house.

        With several treated arms, shown harm in any of them stops the experiment at once; at the end the best
        arm that passes everything wins.
        """
        subject = f"experiment/{self.plan.name}"
        if not self.by_arm:
            broken = [one for one in self.shared if one.blocking and one.status is Status.FAIL]
            reason = " ".join(one.sentence for one in broken[:3])
            return Decision(Action.REFUSE, subject, reason, actor, at, self.verdicts, POLICY)
        verdicts = (*self.shared, *self._deciding())
        found = decide(subject, verdicts, actor=actor, at=at, policy=POLICY)
        return replace(found, verdicts=self.verdicts)

    def _deciding(self) -> tuple[Verdict, ...]:
        """Verdicts of the arm that decides."""
        order = {Status.PASS: 0, Status.INSUFFICIENT: 1, Status.STALE: 2, Status.FAIL: 3}
        vetoed = [
            one
            for verdicts in self.by_arm.values()
            for one in verdicts
            if one.status is Status.FAIL and one.blocking and one.name.startswith("guardrail.")
        ]
        if vetoed and not self.look.final:
            return tuple(vetoed)
        lifts = {one.arm: one.absolute.value for one in self.readings if one.cohort == ALL}
        sign = -1.0 if self.plan.primary.metric.better == "higher" else 1.0
        best = min(self.by_arm, key=lambda arm: (order[worst(self.by_arm[arm])], sign * lifts.get(arm, 0.0)))
        return self.by_arm[best]

    def as_dict(self) -> dict[str, Any]:
        """The analysis as a JSON object: adjusted significance only."""
        return {
            "experiment": self.plan.name,
            "look": self.look.number + 1,
            "final": self.look.final,
            "method": self.plan.looks.method,
            "units": dict(self.units),
            "readings": [one.as_dict() for one in self.readings],
            "cohorts": [one.as_dict() for one in self.cohorts],
            "verdicts": [one.as_dict() for one in self.verdicts],
            "status": str(worst(self.verdicts)),
            "evidence": self.evidence,
        }


def analyse(plan: Plan, frame: pl.LazyFrame, look: Look) -> Analysis:
    """Analyse one look.

    Raises:
        InputError: for a missing column or an infinite value, or for users that have become fewer where the
            plan's boundaries go by what arrived.
    """
    dimensions = [one.dimension for one in plan.cohorts]
    table = aggregate(frame, plan.metrics, columns=plan.columns, dimensions=dimensions)
    found = integrity(plan, table)
    evidence = _evidence(table)
    units = {name or "none": n for name, n in table.counts(plan.columns.arm).items()}
    look = replace(look, users={**look.users, look.number: sum(units.values())})
    if any(one.status is Status.FAIL and one.blocking for one in found):
        return Analysis(plan, look, (), (), tuple(found), {}, {}, evidence, units)
    work = _Work(plan, frame, table, look)
    for arm in plan.treatments:
        work.arm(arm)
    shared = (*found, *information_verdict(plan, look.users), *trends(plan, table))
    by_arm = {arm: tuple(verdicts) for arm, verdicts in work.verdicts.items()}
    return Analysis(
        plan, look, tuple(work.readings), tuple(work.cohorts), shared, by_arm, work.z, evidence, units
    )


def _evidence(table: Table) -> str:
    """Digest of keys and sums: two analyses with the same one saw the same data."""
    parts = [table.keys.write_csv().encode(), table.rows.tobytes()]
    for name in sorted(table.blocks):
        block = table.blocks[name]
        # Rounded, because a parallel sum may differ in its last digit from run to run.
        parts += [name.encode(), block.n.tobytes(), np.char.mod("%.9g", block.totals).tobytes()]
    return digest_bytes(b"\x1f".join(parts))


def method_for(plan: Plan, look: Look, *, alpha: float, spending: str | None = None) -> Method:
    """How this look reads an effect at a two-sided ``alpha``, by default as the primary registered it."""
    boundary = boundary_at(plan, look.users, alpha=alpha, spending=spending)
    return Method(plan.looks.method, 1 - alpha, boundary, look.earlier, look.number, _tuning(plan))


def _tuning(plan: Plan) -> float:
    """Units at which an always-valid reading is tightest: the planned total, or a common default."""
    sized = plan.primary.sigma > 0 and plan.primary.mde > 0
    return float(size_plan(plan).total) if sized else 5000.0


class _Work:
    """Collects what each treated arm adds to the analysis."""

    def __init__(self, plan: Plan, frame: pl.LazyFrame, table: Table, look: Look) -> None:
        self.plan, self.frame, self.table, self.look = plan, frame, table, look
        self.readings: list[Reading] = []
        self.cohorts: list[CohortReading] = []
        self.verdicts: dict[str, list[Verdict]] = {arm: [] for arm in plan.treatments}
        self.z: dict[str, float] = {}
        self.method = method_for(plan, look, alpha=plan.alpha / len(plan.treatments))

    def arm(self, arm: str) -> None:
        """One treated arm: every metric, then guardrails and cohorts, judged as one family."""
        own: dict[str, Reading] = {}
        for metric in self.plan.metrics:
            found = self._effects(metric, arm)
            if found is not None:
                own[metric.name] = self._read(metric.name, arm, ALL, found)
        primary = own.get(self.plan.primary.metric.name)
        others = [one for one in own.values() if one is not primary]
        self.readings += [*([primary] if primary else []), *corrected(others, alpha=self.plan.alpha)]
        if primary is not None:
            self.verdicts[arm].append(primary_verdict(self.plan, primary, self.look))
        rails = [one for rail in self.plan.guardrails for one in self._guardrail(rail, own, arm)]
        cohorts = [one for dimension in self.plan.cohorts for one in self._cohorts(dimension, arm, primary)]
        harms = [self._harm(one) for one in cohorts]
        judged = judge([*rails, *harms], self.plan.correction, final=self.look.final)
        self.verdicts[arm] += judged[: len(rails)]
        for cohort, veto, finding in zip(cohorts, judged[len(rails) :], harms, strict=True):
            self.verdicts[arm].append(resolve(cohort, veto, finding, final=self.look.final))

    def _effects(self, metric: Metric, arm: str) -> tuple[Effect, Effect | None] | None:
        """Effects of everybody; what cannot be compared becomes a verdict instead of a number."""
        plan = self.plan
        try:
            return self._compare(metric, arm)
        except InputError as error:
            guarded = {one.metric.name for one in plan.guardrails if one.metric is not None}
            decides = metric.name in guarded | {plan.primary.metric.name}
            name = f"experiment.metric.{metric.name}"
            self.verdicts[arm].append(Verdict(name, Status.INSUFFICIENT, str(error), blocking=decides))
            return None

    def _compare(self, metric: Metric, arm: str, **within: str) -> tuple[Effect, Effect | None]:
        plan = self.plan
        if metric.kind is not Kind.QUANTILE:
            return effects(self.table, metric, plan, arm=arm, within=self.table.where(**within))
        rows = self.frame.filter(*(pl.col(name).cast(pl.String) == value for name, value in within.items()))
        return quantile_effects(rows, metric, plan.columns, arm=arm, control=plan.control)

    def _read(self, metric: str, arm: str, cohort: str, found: tuple[Effect, Effect | None]) -> Reading:
        one = reading(metric, arm, cohort, found, method=self.method, arms=len(self.plan.treatments))
        self.z[one.key] = one.z
        return one

    def _guardrail(self, rail: Guardrail, own: Mapping[str, Reading], arm: str) -> list[Finding]:
        one = own.get(rail.metric.name) if rail.metric is not None else None
        if one is None:
            return []
        if rail.rule is Rule.CEILING:
            return [ceiling_finding(rail, level=one.treatment, n=one.n)]
        effect = one.relative_effect if rail.relative else one.effect
        if effect is None:
            sentence = f"{rail.name} is registered relative to control, which is 0."
            name = f"guardrail.{rail.name}"
            self.verdicts[arm].append(Verdict(name, Status.INSUFFICIENT, sentence, n=one.n))
            return []
        key = f"guardrail|{one.key}"
        self.z.update(path_values(rail, effect, key))
        return [measure(rail, effect, method=self._guard_method(rail.alpha), key=key)]

    def _guard_method(self, alpha: float) -> Method:
        """Guardrails spend evenly over the looks (Pocock): harm should show early, not last."""
        return method_for(self.plan, self.look, alpha=2 * alpha, spending="pocock")

    def _cohorts(self, dimension: CohortDimension, arm: str, primary: Reading | None) -> list[CohortReading]:
        metric, own = self.plan.primary.metric, []
        for value in dimension.shares:
            name = f"{dimension.dimension}={value}"
            try:
                found = self._compare(metric, arm, **{dimension.dimension: value})
            except InputError as error:
                missing = Verdict(f"guardrail.cohort.{name}", Status.INSUFFICIENT, str(error))
                self.verdicts[arm].append(missing)
                continue
            own.append(self._read(metric.name, arm, name, found))
        together = cohort_readings(self.plan, dimension, corrected(own, alpha=self.plan.alpha))
        self.cohorts += together
        self.verdicts[arm] += pooled_verdict(self.plan, dimension, together)
        if primary is not None and metric.better == "higher":
            self.verdicts[arm] += floor_verdict(own, primary, floor=self.plan.floor)
        return together

    def _harm(self, one: CohortReading) -> Finding:
        rails = [rail for rail in self.plan.guardrails if rail.rule is Rule.COHORT]
        rail = replace(rails[0] if rails else Guardrail("", Rule.COHORT, None), threshold=one.threshold)
        effect, key = one.effect, f"harm|{one.reading.key}"
        self.z.update(path_values(rail, effect, key))
        named = replace(rail, name=f"cohort.{one.reading.cohort}")
        return measure(named, effect, method=self._guard_method(rail.alpha), key=key)


def primary_verdict(plan: Plan, one: Reading, look: Look) -> Verdict:
    """The claim itself: a crossed boundary in the good direction, or why there is none yet."""
    good = one.absolute.value > 0 if plan.primary.metric.better == "higher" else one.absolute.value < 0
    lift = f"{one.relative.value:+.2%}" if one.relative else f"{one.absolute.value:+.4g}"
    shown = f"{one.metric} {lift} in {one.arm}, adjusted p {one.adjusted_p:.2g}"
    stoppable = look.final or plan.early_win
    if one.significant and not good:
        status, said = Status.FAIL, "harm on the primary is shown"
    elif one.significant and stoppable:
        status, said = Status.PASS, "the boundary is crossed"
    elif one.significant:
        status, said = Status.INSUFFICIENT, "crossed, but registered to run to the end"
    elif look.final:
        status, said = Status.FAIL, "not shown at the last look"
    else:
        status, said = Status.INSUFFICIENT, "the boundary of this look is not crossed"
    return Verdict(
        f"experiment.primary.{one.metric}",
        status,
        f"{shown}: {said}.",
        one.absolute.value,
        one.absolute.low,
        one.absolute.high,
        0.0,
        one.n,
    )
