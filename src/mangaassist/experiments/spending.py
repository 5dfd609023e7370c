"""Look times written by people, and the bounds they lead to."""

from __future__ import annotations

from typing import Any, Literal, cast

from mangaassist.core.errors import InputError, nearest
from mangaassist.stats.group_sequential import inflation, spending_plan

_CONVENTIONS = ("one-sided", "two-sided")


def bounds_report(at: str, *, spending: str, convention: str, alpha: float) -> dict[str, Any]:
    """Bounds of a two-sided plan as one JSON object.

    Args:
        at: information fractions separated by commas, each a number or a quotient like 4/14.
        convention: of statistics texts: "one-sided" spends alpha/2 inside each side, "two-sided" halves the
            two-sided function. Both levels are reported per side, as the reference tables print them: double
            them for the two-sided p-value a crossing needs.

    Raises:
        InputError: for times that are not numbers or do not rise within (0, 1], or unknown names.
    """
    if convention not in _CONVENTIONS:
        raise InputError(
            "convention",
            expected="one-sided or two-sided",
            got=repr(convention),
            next_step=nearest(convention, _CONVENTIONS),
        )
    fractions = [fraction(one) for one in at.split(",")]
    chosen = cast(Literal["one-sided", "two-sided"], convention)
    plan = spending_plan(fractions, spending=spending, alpha=alpha, convention=chosen)
    rows = [
        {
            "fraction": bound.fraction,
            "z": bound.z,
            "nominal_p": bound.nominal_p / plan.sides,
            "cumulative_alpha": bound.cumulative_alpha / plan.sides,
        }
        for bound in plan.bounds
    ]
    return {
        "spending": spending,
        "convention": convention,
        "alpha": alpha,
        "sides": plan.sides,
        "nominal_p_and_cumulative_alpha_are": "per side",
        "bounds": rows,
        "inflation": {"80%": inflation(plan, 0.8), "90%": inflation(plan, 0.9)},
    }


def fraction(text: str) -> float:
    """A number or a quotient like 4/14.

    Raises:
        InputError: for anything else.
    """
    above, slash, below = text.strip().partition("/")
    try:
        return float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(
            "at",
            expected="fractions separated by commas",
            got=repr(text),
            next_step="Write them like 4/14,7/14,11/14,1.",
        ) from error
