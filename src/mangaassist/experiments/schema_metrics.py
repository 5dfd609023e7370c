"""The parts of an experiment file that say what is measured: metrics, the primary target, guardrails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from mangaassist.core.document import Value
from mangaassist.core.errors import nearest
from mangaassist.experiments.catalog import Catalog
from mangaassist.experiments.plan import (
    Better,
    Covariate,
    Guardrail,
    Kind,
    Metric,
    Offline,
    Rule,
    Target,
    Transform,
)

_METRIC = (
    "name", "kind", "column", "denominator", "quantile", "better", "transform", "cap", "cap_quantile",
    "covariates",
)  # fmt: skip
_SIZING = ("cluster_size", "intraclass", "claimed_per_arm")
_TARGET = (*_METRIC, "baseline", "sigma", "mde", "mde_absolute", "horizon_days", *_SIZING)
_GUARDRAIL = (*_METRIC, "use", "rule", "threshold", "threshold_absolute", "ceiling", "alpha")


def metric(value: Value, *, known: Sequence[str] = _METRIC, covariates: Sequence[str] = ()) -> Metric:
    """One metric of the file."""
    body = value.mapping(known=known)
    kind = Kind(body["kind"].text(one_of=list(Kind))) if "kind" in body else Kind.MEAN
    column = _first(body, value, "column", "name")
    own = body["covariates"].texts() if "covariates" in body else tuple(covariates)
    found = Metric(
        name=body["name"].text() if "name" in body else column,
        kind=kind,
        column=column,
        denominator=body["denominator"].text() if "denominator" in body else "",
        quantile=body["quantile"].number(above=0, below=1) if "quantile" in body else 0.0,
        better=cast(Better, body["better"].text(one_of=("higher", "lower")))
        if "better" in body
        else "higher",
        transform=Transform(body["transform"].text(one_of=list(Transform)))
        if "transform" in body
        else Transform.NONE,
        cap=body["cap"].number() if "cap" in body else None,
        cap_quantile=body["cap_quantile"].number(above=0, below=1) if "cap_quantile" in body else 0.99,
        covariates=own,
    )
    _check_kind(found, value)
    return found


def _first(body: Mapping[str, Value], value: Value, *names: str) -> str:
    for name in names:
        if name in body:
            return body[name].text()
    raise value.refuse(
        expected=f"'{names[0]}'", got="nothing", next_step=f"Add '{names[0]}:' with a column's name."
    )


def _check_kind(found: Metric, value: Value) -> None:
    """Each kind with exactly the parts it has."""
    if (found.kind is Kind.RATIO) != bool(found.denominator):
        raise value.refuse(
            expected="'denominator' with kind: ratio, and only there",
            got=f"kind: {found.kind}, denominator: {found.denominator or 'nothing'}",
            next_step="A ratio is a sum over a sum; a share per user is a mean and has another variance.",
        )
    if (found.kind is Kind.QUANTILE) != bool(found.quantile):
        raise value.refuse(
            expected="'quantile' with kind: quantile, and only there",
            got=f"kind: {found.kind}, quantile: {found.quantile or 'nothing'}",
            next_step="For example 'quantile: 0.95'.",
        )
    if found.transform is not Transform.NONE and found.kind is not Kind.MEAN:
        raise value.refuse(
            expected="kind: mean for a transformed metric",
            got=f"kind: {found.kind}, transform: {found.transform}",
            next_step="Log, winsorised and rank forms are of a mean per unit.",
        )
    if len(set(found.columns)) < len(found.columns):
        raise value.refuse(
            expected="different columns",
            got=", ".join(found.columns),
            next_step="A metric cannot adjust itself.",
        )


def target(value: Value, *, sized: bool, covariates: Sequence[str]) -> Target:
    """The primary: its metric and, when ``sized``, baseline, spread and smallest effect worth finding."""
    needs = ("baseline",) if sized else ()
    body = value.mapping(known=_TARGET, needs=needs)
    found = (
        metric(value, known=_TARGET, covariates=covariates) if "column" in body or "name" in body else None
    )
    if found is None:
        if not sized:
            raise value.refuse(
                expected="'column'", got="nothing", next_step="Name the column of the primary."
            )
        kind = Kind(body["kind"].text(one_of=list(Kind))) if "kind" in body else Kind.MEAN
        found = Metric("primary", kind, "primary", covariates=tuple(covariates))
    baseline = body["baseline"].number() if "baseline" in body else 0.0
    return Target(
        found,
        baseline,
        _sigma(body, value, found.kind, baseline) if sized else 0.0,
        _mde(body, value, baseline) if sized else 0.0,
        "mde" in body,
        body["horizon_days"].integer(at_least=0) if "horizon_days" in body else 0,
        body["cluster_size"].number(above=0) if "cluster_size" in body else 1.0,
        body["intraclass"].number(above=-1e-12, below=1) if "intraclass" in body else 0.0,
        body["claimed_per_arm"].integer(at_least=1) if "claimed_per_arm" in body else 0,
    )


def _sigma(body: Mapping[str, Value], value: Value, kind: Kind, baseline: float) -> float:
    """The spread per unit: given, or implied by the rate of a proportion."""
    if kind is Kind.PROPORTION:
        if not 0 < baseline < 1:
            raise body["baseline"].refuse(
                expected="a rate between 0 and 1", next_step="Write 18.3% or 0.183."
            )
        return float((baseline * (1 - baseline)) ** 0.5)
    if "sigma" not in body:
        raise value.refuse(
            expected="'sigma', the standard deviation per user",
            got="nothing",
            next_step="Measure it on the weeks before; for a ratio, of (numerator - ratio * denominator) "
            "/ mean denominator.",
        )
    return body["sigma"].number(above=0)


def _mde(body: Mapping[str, Value], value: Value, baseline: float) -> float:
    if ("mde" in body) == ("mde_absolute" in body):
        raise value.refuse(
            expected="one of 'mde' (relative) and 'mde_absolute'",
            got="both" if "mde" in body else "neither",
            next_step="Write 'mde: 3%' for 3% of the baseline.",
        )
    if "mde_absolute" in body:
        return body["mde_absolute"].number(above=0)
    mde = body["mde"].number(above=0) * abs(baseline)
    if mde == 0:
        raise body["mde"].refuse(
            expected="a baseline other than 0",
            got="0",
            next_step="Give 'mde_absolute' instead of a share of nothing.",
        )
    return mde


def covariate(value: Value) -> Covariate:
    """Something known before assignment; anything later is refused here and tested for in the data."""
    body = value.mapping(known=("column", "measured", "variance_reduction"), needs=("column", "measured"))
    if body["measured"].text() != "before":
        raise body["measured"].refuse(
            expected="before",
            next_step="A later covariate can carry the effect itself: take one from before.",
        )
    reduction = body.get("variance_reduction")
    return Covariate(body["column"].text(), reduction.number(above=-1e-12, below=1) if reduction else 0.0)


def offline(value: Value) -> Offline:
    """The offline evidence, for the surface's offline-online record."""
    names = ("metric", "change", "error", "mde")
    body = value.mapping(known=names, needs=("metric", "change", "mde"))
    return Offline(
        body["metric"].text(),
        body["change"].number(),
        body["error"].number(above=0) if "error" in body else 0.0,
        body["mde"].number(above=0),
    )


def guardrail(value: Value, *, catalog: Catalog) -> Guardrail:
    """One guardrail: a catalog entry named with ``use``, tightened or completed here, or one of its own."""
    body = dict(value.mapping(known=_GUARDRAIL))
    if "use" not in body:
        return _guardrail(value, body, _first(body, value, "name", "column"))
    name = body.pop("use").text()
    entries = catalog.guardrails
    if name not in entries:
        raise value.mapping()["use"].refuse(
            expected="a guardrail of the catalog", next_step=nearest(name, entries)
        )
    shipped = dict(entries[name].mapping())
    for extra in ("why", "surfaces"):
        shipped.pop(extra, None)
    found = _guardrail(value, {**shipped, **body}, name)
    _refuse_loosening(value, found, _guardrail(entries[name], shipped, name))
    return found


def _guardrail(value: Value, body: Mapping[str, Value], name: str) -> Guardrail:
    rule = Rule(body["rule"].text(one_of=list(Rule))) if "rule" in body else Rule.HARM
    found = None
    if rule is not Rule.COHORT:
        parts = {key: one for key, one in body.items() if key in _METRIC}
        parts.setdefault("name", Value(value.path, value.line, name, value.source))
        found = metric(Value(value.path, value.line, parts, value.source))
    ceiling = body["ceiling"].number() if "ceiling" in body else None
    if (rule is Rule.CEILING) != (ceiling is not None):
        raise value.refuse(
            expected="'ceiling' with rule: ceiling, and only there",
            got=f"rule: {rule}",
            next_step="A ceiling is a level in the metric's unit; a change is a 'threshold'.",
        )
    alpha = body["alpha"].number(above=0, below=1) if "alpha" in body else 0.05
    threshold, relative = _threshold(value, body, rule, found)
    return Guardrail(name, rule, found, threshold, relative, ceiling, alpha)


def _threshold(
    value: Value, body: Mapping[str, Value], rule: Rule, found: Metric | None
) -> tuple[float, bool]:
    """The change that is too much, whose sign must point to harm."""
    if rule is Rule.CEILING:
        return 0.0, True
    relative = "threshold_absolute" not in body
    if "threshold" not in body and relative:
        raise value.refuse(
            expected="'threshold'", got="nothing", next_step="Write -1% for 'at most 1% lower than control'."
        )
    written = body["threshold_absolute"] if not relative else body["threshold"]
    number = written.number()
    harmful_is_negative = found is None or found.better == "higher"
    if number == 0 or (number < 0) != harmful_is_negative:
        raise written.refuse(
            expected="a harmful change (below 0 when higher is better, above 0 when lower is)",
            next_step="Correct the sign, or 'better'.",
        )
    return number, relative


def _refuse_loosening(value: Value, found: Guardrail, shipped: Guardrail) -> None:
    """A launch may tighten what the catalog says, never loosen it."""
    looser = abs(found.threshold) > abs(shipped.threshold) + 1e-12 and found.relative == shipped.relative
    if found.ceiling is not None and shipped.ceiling is not None:
        looser = found.ceiling > shipped.ceiling
    if looser or found.rule is not shipped.rule:
        limit = shipped.ceiling if shipped.ceiling is not None else shipped.threshold
        raise value.refuse(
            expected=f"'{found.name}' at {limit:g} ({shipped.rule}) or tighter, as in the catalog",
            got=f"{found.ceiling if found.ceiling is not None else found.threshold:g} ({found.rule})",
            next_step="Loosening changes the catalog for everybody: see 'experiment threshold'.",
        )
