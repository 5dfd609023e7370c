"""From recorded looks to what the page shows of them: effects, guardrails, looks and boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mangaassist.core.clock import parse_instant
from mangaassist.core.verdict import Decision, Verdict
from mangaassist.experiments.analysis import Look, method_for
from mangaassist.experiments.information import users_at
from mangaassist.experiments.plan import Guardrail, Plan, Rule
from mangaassist.experiments.readings import ALL, Method
from mangaassist.experiments.registry import Experiment
from mangaassist.stats.intervals import two_sided_z
from mangaassist.stats.sequential import critical_z
from mangaassist.storage.ledger import Entry
from mangaassist.web.experiment_view import EffectGroup, EffectRow, EffectsView, GuardRow, MetricRow
from mangaassist.web.look_view import (
    Boundary,
    Ending,
    LookReading,
    LooksView,
    LookView,
    Observation,
    RefusedLook,
    Span,
)

Body = Mapping[str, Any]

_CURVE_POINTS = 48
_TOGETHER = ("experiment.cohorts.", "experiment.simpson.")


def effects(plan: Plan, last: Body, verdicts: Sequence[Verdict]) -> EffectsView | None:
    """The last look's primary in everybody and every cohort; None when no arm could be compared."""
    metric = plan.primary.metric
    primaries = [one for one in _aggregates(last) if one["metric"] == metric.name]
    if not primaries:
        return None
    relative = all(one["relative"] for one in (*primaries, *last["cohorts"]))
    sign = 1.0 if metric.better == "higher" else -1.0
    scale = plan.primary.baseline if relative and plan.primary.baseline else 1.0
    groups = tuple(
        EffectGroup(one["arm"], tuple(_rows(plan, one, last, verdicts, relative))) for one in primaries
    )
    together = tuple(one for one in verdicts if one.name.startswith(_TOGETHER))
    mde = sign * plan.primary.mde / scale
    return EffectsView(metric.name, metric.better, relative, mde, groups, together)


def _rows(
    plan: Plan, everybody: Body, last: Body, verdicts: Sequence[Verdict], relative: bool
) -> Iterable[EffectRow]:
    yield _effect("Everybody", "", everybody, relative)
    known = {one.name: one for one in verdicts}
    for one in last["cohorts"]:
        if one["arm"] != everybody["arm"]:
            continue
        dimension, _, value = one["cohort"].partition("=")
        guard = known.get(_of_arm(plan, f"guardrail.cohort.{one['cohort']}", one["arm"]))
        yield _effect(value, dimension, one, relative, guard)


def _effect(label: str, dimension: str, one: Body, relative: bool, guard: Verdict | None = None) -> EffectRow:
    return EffectRow(
        label,
        dimension,
        one["n"],
        one["control"],
        one["treatment"],
        _span(one["relative"] if relative else one["absolute"]),
        one["adjusted_p"],
        one["significant"],
        one.get("threshold") if relative else None,
        one.get("pooled_relative") if relative else None,
        one.get("probability_of_harm"),
        one.get("conditional_mde"),
        guard,
    )


def _span(one: Body) -> Span:
    return Span(one["value"], one["low"], one["high"])


def _aggregates(look: Body) -> list[Body]:
    return [one for one in look["readings"] if one["cohort"] == ALL]


def _of_arm(plan: Plan, name: str, arm: str) -> str:
    """With several treated arms each verdict of an arm is named after it."""
    return f"{name}.{arm}" if len(plan.treatments) > 1 else name


def others(plan: Plan, last: Body) -> Iterable[MetricRow]:
    """Metrics beside the primary."""
    for one in _aggregates(last):
        if one["metric"] != plan.primary.metric.name:
            relative = one["relative"] is not None
            shown = _span(one["relative"] or one["absolute"])
            yield MetricRow(
                one["metric"], one["arm"], shown, relative, one["adjusted_p"], one["significant"], one["n"]
            )


def guards(plan: Plan, verdicts: Sequence[Verdict]) -> Iterable[GuardRow]:
    """Every registered guardrail per arm, with its verdict where there is one; cohorts after the metrics."""
    known = {one.name: one for one in verdicts}
    for arm in plan.treatments:
        for name, rule, limit, relative in _guarded(plan):
            verdict = known.get(_of_arm(plan, f"guardrail.{name}", arm))
            yield GuardRow(name.replace("cohort.", "cohort "), arm, rule, limit, relative, verdict)


def _guarded(plan: Plan) -> Iterable[tuple[str, str, float, bool]]:
    for rail in plan.guardrails:
        if rail.metric is not None:
            yield rail.name, str(rail.rule), _limit(rail), rail.relative and rail.rule is not Rule.CEILING
    for dimension in plan.cohorts:
        for value in dimension.shares:
            yield f"cohort.{dimension.dimension}={value}", str(Rule.COHORT), dimension.threshold, True


def _limit(rail: Guardrail) -> float:
    return rail.ceiling if rail.rule is Rule.CEILING and rail.ceiling is not None else rail.threshold


def looks(known: Experiment, refused: Sequence[RefusedLook], verdicts: Sequence[Verdict]) -> LooksView:
    """The registered looks with what became of each, and the boundary they are held to."""
    plan = known.plan
    so_far = Look(0, False, users=users_at(known.looks))
    method = method_for(plan, so_far, alpha=plan.alpha / len(plan.treatments))
    if plan.looks.method == "always-valid":
        untaken = [LookView(title_of(plan, number), "taken") for number in range(len(known.looks))]
        rows = [_taken(one, plan, method, body) for one, body in zip(untaken, known.looks, strict=True)]
        if not (known.paused or known.over):
            rows.append(LookView(f"Look {len(rows) + 1}", "next"))
    else:
        rows = [_planned(known, method, number) for number in range(len(plan.looks.fractions))]
    boundaries = tuple(_boundary(known, method, arm) for arm in plan.treatments)
    arrived = next((one for one in verdicts if one.name == "experiment.information"), None)
    return LooksView(_described(plan), tuple(rows), boundaries, tuple(refused), arrived)


def _described(plan: Plan) -> str:
    named = {"obf": "O'Brien-Fleming", "pocock": "Pocock"}
    spending = named.get(plan.looks.spending, plan.looks.spending)
    count = len(plan.looks.fractions)
    pace = ", by the users that came" if plan.looks.information == "arrived" else ""
    return {
        "fixed": "One look, at the end.",
        "group-sequential": f"{count} registered looks that spend the error by {spending}{pace}.",
        "always-valid": "Any number of looks, at any time; the boundary pays for all of them in advance.",
    }[plan.looks.method]


def critical(method: Method, number: int, n: float) -> float:
    """What look ``number`` has to reach after ``n`` users, in standard errors."""
    if method.boundary is not None:
        return method.boundary.bounds[number].z
    if method.name == "always-valid":
        return critical_z(n, tuning_n=method.tuning_n, level=method.level)
    return two_sided_z(method.level)


def _planned(known: Experiment, method: Method, number: int) -> LookView:
    plan, boundary = known.plan, method.boundary
    spent = boundary.bounds[number].cumulative_alpha * len(plan.treatments) if boundary else plan.alpha
    taken = {one["number"]: one for one in known.looks}
    ending = _ending(known, number, max(taken, default=-1))
    planned = LookView(title_of(plan, number), ending, critical(method, number, 1.0), spent)
    return _taken(planned, plan, method, taken[number]) if number in taken else planned


def _ending(known: Experiment, number: int, newest: int) -> Ending:
    if number < newest:
        return "skipped"
    if known.paused or known.over:
        return "cancelled"
    return "next" if number == newest + 1 and known.frozen_at else "ahead"


def title_of(plan: Plan, number: int) -> str:
    """How people call a look."""
    if plan.looks.method == "always-valid":
        return f"Look {number + 1}"
    if plan.looks.days:
        return f"Day {plan.looks.days[number]}"
    return "End" if plan.looks.method == "fixed" else f"{plan.looks.fractions[number]:.0%}"


def _taken(planned: LookView, plan: Plan, method: Method, body: Body) -> LookView:
    decision = Decision.from_dict(body["decision"])
    return replace(
        planned,
        ending="taken",
        at=decision.at,
        readings=tuple(_reading(plan, method, body, one) for one in _primaries(plan, body)),
        action=str(decision.action),
        reason=decision.reason,
        users=sum(body["units"].values()),
    )


def _primaries(plan: Plan, body: Body) -> list[Body]:
    return [one for one in _aggregates(body) if one["metric"] == plan.primary.metric.name]


def _reading(plan: Plan, method: Method, body: Body, one: Body) -> LookReading:
    z = _z(plan, body, one["arm"])
    bound = critical(method, body["number"], one["n"])
    shown = _span(one["relative"] or one["absolute"])
    return LookReading(one["arm"], shown, z / bound if z is not None else None, one["adjusted_p"])


def _z(plan: Plan, body: Body, arm: str) -> float | None:
    """The primary's z of a look, above 0 towards better; compared with the boundary only, never shown."""
    found = body["z"].get(f"{plan.primary.metric.name}|{arm}|{ALL}")
    if found is None:
        return None
    return float(found) if plan.primary.metric.better == "higher" else -float(found)


def _boundary(known: Experiment, method: Method, arm: str) -> Boundary:
    plan = known.plan
    if method.name == "always-valid":
        return _curve(known, method, arm)
    places = [(at, critical(method, number, 1.0)) for number, at in enumerate(plan.looks.fractions)]
    gates = tuple((at, z, title_of(plan, number)) for number, (at, z) in enumerate(places))
    seen = [
        Observation(plan.looks.fractions[body["number"]], z, abs(z) >= places[body["number"]][1])
        for body in known.looks
        if (z := _z(plan, body, arm)) is not None
    ]
    return Boundary(arm, False, gates, tuple(places), tuple(seen))


def _curve(known: Experiment, method: Method, arm: str) -> Boundary:
    plan = known.plan
    seen = []
    for body in known.looks:
        n = next((one["n"] for one in _primaries(plan, body) if one["arm"] == arm), 0)
        z = _z(plan, body, arm)
        if n and z is not None:
            seen.append(Observation(n, z, abs(z) >= critical(method, body["number"], n)))
    far = max(method.tuning_n, *(one.x for one in seen), 1.0)
    places = [far * (0.03 + 0.97 * at / (_CURVE_POINTS - 1)) for at in range(_CURVE_POINTS)]
    curve = tuple((n, critical(method, 0, n)) for n in places)
    return Boundary(arm, True, (), curve, tuple(seen))


def refused_looks(entries: Iterable[Entry]) -> tuple[RefusedLook, ...]:
    """Looks whose data was no experiment, oldest first."""
    return tuple(
        RefusedLook(parse_instant(one.body["decision"]["at"], field="at"), one.body["decision"]["reason"])
        for one in entries
    )
