"""The parts of an experiment file that say who is compared and when: arms, looks, population, cohorts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, cast

from mangaassist.core.document import Value
from mangaassist.core.errors import nearest
from mangaassist.experiments.catalog import Catalog
from mangaassist.experiments.plan import CohortDimension, Columns, Condition, Looks, Method, Population

_OPERATORS = ("in", "not_in", "at_least", "at_most")
_TOLERANCE = 1e-9


def arms(value: Value) -> dict[str, float]:
    """Shares per arm, control first, adding up to 1."""
    found = {name: one.number(above=0, below=1) for name, one in value.mapping().items()}
    if len(found) < 2 or abs(sum(found.values()) - 1) > _TOLERANCE:
        raise value.refuse(
            expected="two arms or more whose shares add up to 1, control first",
            got=", ".join(f"{name} {share:g}" for name, share in found.items()) or "nothing",
            next_step="An arm that gets nobody is left out, not given 0.",
        )
    return found


def ramp(value: Value) -> tuple[float, ...]:
    """Exposure steps, rising to at most 1."""
    steps = tuple(one.number(above=0) for one in value.items())
    if not steps or max(steps) > 1 or any(a >= b for a, b in pairwise(steps)):
        raise value.refuse(
            expected="rising shares from above 0 to 1",
            got=str(list(steps)),
            next_step="For example [1%, 10%, 100%].",
        )
    return steps


def looks(value: Value) -> Looks:
    """When to look: registered days or fractions, or any number of always-valid looks."""
    planned = ("days", "at", "spending", "convention", "information")
    body = value.mapping(known=("method", *planned), needs=("method",))
    method = cast(Method, body["method"].text(one_of=("fixed", "group-sequential", "always-valid")))
    if method != "group-sequential":
        extra = [name for name in planned if name in body]
        if extra:
            raise body[extra[0]].refuse(
                expected=f"no '{extra[0]}' with method: {method}",
                next_step="Looks are planned by group-sequential.",
            )
        return Looks(method)
    if ("days" in body) == ("at" in body):
        raise value.refuse(
            expected="one of 'days' and 'at'",
            got="both or neither",
            next_step="For example days: [4, 7, 11, 14].",
        )
    days = tuple(one.integer(at_least=1) for one in body["days"].items()) if "days" in body else ()
    fractions = (
        tuple(day / days[-1] for day in days)
        if days
        else tuple(one.number(above=0) for one in body["at"].items())
    )
    _check_fractions(value, fractions)
    spending = body["spending"].text() if "spending" in body else "obf"
    _check_spending(body.get("spending", value), spending)
    convention = (
        body["convention"].text(one_of=("one-sided", "two-sided")) if "convention" in body else "one-sided"
    )
    source = body["information"].text(one_of=("planned", "arrived")) if "information" in body else "planned"
    return Looks(
        method,
        fractions,
        days,
        spending,
        cast(Literal["one-sided", "two-sided"], convention),
        cast(Literal["planned", "arrived"], source),
    )


def _check_fractions(value: Value, fractions: tuple[float, ...]) -> None:
    rising = all(a < b for a, b in pairwise(fractions))
    if not fractions or not rising or abs(fractions[-1] - 1) > _TOLERANCE:
        raise value.refuse(
            expected="looks that rise and end at 1 (the last day)",
            got=", ".join(f"{one:.4g}" for one in fractions) or "none",
            next_step="The last look is the end of the experiment.",
        )


def _check_spending(value: Value, spending: str) -> None:
    name, _, power = spending.partition(":")
    if name == "power" and power:
        Value(value.path, value.line, power, value.source).number(above=0)
    elif spending not in ("obf", "pocock"):
        raise value.refuse(
            expected="obf, pocock or power:R", next_step=nearest(spending, ("obf", "pocock", "power:2"))
        )


def population(value: Value) -> Population:
    """Who may enter."""
    known = ("description", "eligibility", "exclusivity", "never_with", "share", "per_day")
    body = value.mapping(known=known)
    rules = tuple(map(_condition, body["eligibility"].items())) if "eligibility" in body else ()
    share = body["share"].number(above=0) if "share" in body else 1.0
    if share > 1:
        raise body["share"].refuse(expected="a share of at most 1", next_step="Write 50% or 0.5.")
    return Population(
        body["description"].text() if "description" in body else "",
        rules,
        body["exclusivity"].texts() if "exclusivity" in body else (),
        body["never_with"].texts() if "never_with" in body else (),
        share,
        body["per_day"].number(above=0) if "per_day" in body else 0.0,
    )


def _condition(value: Value) -> Condition:
    body = value.mapping(known=("attribute", *_OPERATORS), needs=("attribute",))
    asked = [name for name in _OPERATORS if name in body]
    if len(asked) != 1:
        raise value.refuse(
            expected=f"one of {', '.join(_OPERATORS)}",
            got=", ".join(asked) or "none",
            next_step="One rule asks one thing; add another rule for another.",
        )
    operator = asked[0]
    operand: float | tuple[str, ...] = body[operator].texts() if "in" in operator else body[operator].number()
    return Condition(
        body["attribute"].text(), cast(Literal["in", "not_in", "at_least", "at_most"], operator), operand
    )


def columns(value: Value) -> Columns:
    """Names of the bookkeeping columns."""
    body = value.mapping(known=("unit", "arm", "day", "cluster"))
    return Columns(**{name: one.text() for name, one in body.items()})


def cohort(value: Value, *, catalog: Catalog) -> CohortDimension:
    """One guarded dimension of the cohort catalog with its traffic shares."""
    body = value.mapping(known=("dimension", "shares", "threshold", "mde"), needs=("dimension", "shares"))
    name = body["dimension"].text()
    shares = {key: one.number(above=0) for key, one in body["shares"].mapping().items()}
    if not shares or sum(shares.values()) > 1 + _TOLERANCE:
        raise body["shares"].refuse(
            expected="a traffic share per cohort, adding up to at most 1",
            got=", ".join(f"{key} {share:g}" for key, share in shares.items()) or "nothing",
            next_step="Measure them on the weeks before.",
        )
    _check_values(body["shares"], name, shares, catalog)
    return CohortDimension(
        name,
        shares,
        body["threshold"].number(below=0) if "threshold" in body else catalog.margin,
        body["mde"].number(above=0) if "mde" in body else 0.03,
    )


def _check_values(value: Value, dimension: str, shares: Mapping[str, float], catalog: Catalog) -> None:
    """A dimension of the catalog has the catalog's values; others are extensions of a surface."""
    known = catalog.dimensions.get(dimension)
    unknown = [] if known is None else [name for name in shares if name not in known]
    if unknown and known is not None:
        raise value.mapping()[unknown[0]].refuse(
            expected=f"a value of '{dimension}'", got=repr(unknown[0]), next_step=nearest(unknown[0], known)
        )
