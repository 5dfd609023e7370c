"""From an experiment file to a :class:`Plan`: every rule of the registration, each refusal with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import Literal, TypeVar, cast

from mangaassist.core.document import Value, read
from mangaassist.experiments import schema_design as design
from mangaassist.experiments import schema_metrics as metrics
from mangaassist.experiments.catalog import Catalog, load
from mangaassist.experiments.plan import (
    Columns,
    Correction,
    Hypothesis,
    Looks,
    Plan,
    Population,
    Rule,
)

SECTIONS = (
    "experiment", "owner", "surface", "hypothesis", "population", "unit", "columns", "arms", "ramp",
    "primary", "power", "alpha", "alternative", "sequential", "covariates", "secondary", "guardrails",
    "correction", "cohorts", "stop", "budgets", "sign_off", "offline",
)  # fmt: skip
BINDING = (
    "experiment", "owner", "surface", "hypothesis", "population", "unit", "arms", "primary", "power", "alpha",
    "sequential", "guardrails", "correction", "cohorts", "stop", "sign_off",
)  # fmt: skip
"""What a registration may not leave out; sizing and exploring need only ``primary``."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_INTERVENTION = re.compile(r"do\(\s*[^=\s][^=]*=\s*\S.*\)")

T = TypeVar("T")


class Purpose(StrEnum):
    """What the file is read for, which decides what it must hold."""

    REGISTER = "register"
    SIZE = "size"
    EXPLORE = "explore"


def read_plan(
    text: str, *, source: str, purpose: Purpose = Purpose.REGISTER, catalog: Catalog | None = None
) -> Plan:
    """Read and check an experiment file.

    Args:
        text: YAML.
        source: its name, for messages.
        catalog: what ``use`` and cohort dimensions refer to; the shipped one by default.

    Raises:
        InputError: for the first thing wrong, with its line, what was expected and the nearest known name.
    """
    catalog = catalog or load()
    needs = BINDING if purpose is Purpose.REGISTER else ("primary",)
    document = read(text, source=source)
    top = document.mapping(known=SECTIONS, needs=needs)
    covariates = _all(top, "covariates", metrics.covariate)
    columns = tuple(one.column for one in covariates)
    sized = purpose is not Purpose.EXPLORE
    primary = metrics.target(top["primary"], sized=sized, covariates=columns)
    alternative = _or(
        top, "alternative", lambda v: v.text(one_of=("two-sided", "greater", "less")), "two-sided"
    )
    plan = Plan(
        name=_or(top, "experiment", _name, "unregistered"),
        primary=primary,
        arms=_or(top, "arms", design.arms, {"control": 0.5, "treatment": 0.5}),
        alpha=_or(top, "alpha", _share, 0.05),
        power=_or(top, "power", _share, 0.8),
        alternative=cast(Literal["two-sided", "greater", "less"], alternative),
        looks=_or(top, "sequential", design.looks, Looks()),
        population=_or(top, "population", design.population, Population()),
        columns=_or(top, "columns", design.columns, Columns()),
        covariates=covariates,
        secondary=_all(top, "secondary", metrics.metric),
        guardrails=_all(top, "guardrails", partial(metrics.guardrail, catalog=catalog)),
        correction=_or(top, "correction", _correction, Correction.INTERSECTION_UNION),
        cohorts=_all(top, "cohorts", partial(design.cohort, catalog=catalog)),
        ramp=_or(top, "ramp", design.ramp, (1.0,)),
        early_win=_or(top, "stop", _early_win, True),
        hypothesis=_or(top, "hypothesis", _hypothesis, None),
        budgets=_or(top, "budgets", _budgets, {}),
        owner=_or(top, "owner", Value.text, ""),
        surface=_or(top, "surface", Value.text, ""),
        sign_off=_or(top, "sign_off", Value.texts, ()),
        floor=catalog.floor,
        offline=_or(top, "offline", metrics.offline, None),
    )
    if plan.looks.method == "group-sequential" and plan.alternative != "two-sided":
        raise top["alternative"].refuse(
            expected="two-sided with method: group-sequential", next_step="Its boundaries are symmetric."
        )
    if purpose is Purpose.REGISTER:
        _check_promises(plan, top, catalog)
    return plan


def _or(top: Mapping[str, Value], name: str, reader: Callable[[Value], T], default: T) -> T:
    """What the file says, or what holds when it says nothing (sizing and exploring only)."""
    return reader(top[name]) if name in top else default


def _all(top: Mapping[str, Value], name: str, reader: Callable[[Value], T]) -> tuple[T, ...]:
    return tuple(reader(one) for one in top[name].items()) if name in top else ()


def _share(value: Value) -> float:
    return value.number(above=0, below=1)


def _correction(value: Value) -> Correction:
    return Correction(value.text(one_of=list(Correction)))


def _name(value: Value) -> str:
    if not _NAME.fullmatch(value.text()):
        raise value.refuse(
            expected="lower-case letters, digits, '.', '_' or '-', 64 at most",
            next_step="The name is also the ledger's: keep it short.",
        )
    return value.text()


def _early_win(value: Value) -> bool:
    body = value.mapping(known=("early_win", "harm"), needs=("early_win",))
    if "harm" in body and body["harm"].text() != "always":
        raise body["harm"].refuse(
            expected="always",
            next_step="A guardrail breach stops every experiment; this cannot be registered away.",
        )
    return body["early_win"].flag()


def _budgets(value: Value) -> dict[str, float]:
    return {name: one.number(above=0) for name, one in value.mapping().items()}


def _hypothesis(value: Value) -> Hypothesis:
    names = ("statement", "intervention", "prior", "prior_evidence", "disconfirming")
    body = value.mapping(known=names, needs=names)
    if not _INTERVENTION.fullmatch(body["intervention"].text()):
        raise body["intervention"].refuse(
            expected="the do-operator wording, do(what = value)",
            next_step="Name what is set and to what, for example do(reranker = minilm-l12).",
        )
    disconfirming = body["disconfirming"].texts()
    if not disconfirming:
        raise body["disconfirming"].refuse(
            expected="at least one finding that would count against it",
            next_step="A hypothesis nothing can count against is not one.",
        )
    return Hypothesis(
        body["statement"].text(),
        body["intervention"].text(),
        _share(body["prior"]),
        body["prior_evidence"].text(),
        disconfirming,
    )


def _check_promises(plan: Plan, top: Mapping[str, Value], catalog: Catalog) -> None:
    """What no single section can check about itself."""
    if top["unit"].text() != "user":
        raise top["unit"].refuse(
            expected="user",
            next_step="Users are randomised, never sessions or requests; finer rows need columns.cluster.",
        )
    if not plan.sign_off or len(set(plan.sign_off)) < len(plan.sign_off):
        raise top["sign_off"].refuse(
            expected="the roles that must sign, each once",
            next_step="For example [pm, applied_ml_engineer, em].",
        )
    named = {one.name for one in plan.guardrails}
    for name in catalog.mandatory(plan.surface):
        if name not in named:
            raise top["guardrails"].refuse(
                expected=f"'{name}', which every launch on '{plan.surface}' must hold",
                got="no such guardrail",
                next_step=f"Add '- use: {name}'.",
            )
    if not any(one.rule is Rule.COHORT for one in plan.guardrails) and not plan.cohorts:
        raise top["cohorts"].refuse(
            expected="at least one guarded cohort dimension",
            got="none",
            next_step="Cohort fairness applies to every launch: add '- dimension: locale' with its shares.",
        )
    _check_names(plan, top)


def _check_names(plan: Plan, top: Mapping[str, Value]) -> None:
    """Each guardrail and cohort dimension once, and no guardrail on the primary itself."""
    for section, names in (
        ("guardrails", [one.name for one in plan.guardrails]),
        ("cohorts", [one.dimension for one in plan.cohorts]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise top[section].refuse(
                expected="each name once", got=f"{twice[0]} twice", next_step="Remove one."
            )
