"""Group-sequential designs: boundaries for a few planned looks, what they spend and what they cost.

Two conventions for a two-sided alpha with a spending function exist, and they differ:

- ``"one-sided"`` (A, what ldbounds, gsDesign and rpact use): each side spends f(t; alpha / 2).
- ``"two-sided"`` (B): both sides together spend f(t; alpha), so each spends half of it.

They agree for spending functions that are linear in alpha (Pocock's and power), not for O'Brien-Fleming's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mangaassist.core.errors import InputError, nearest
from mangaassist.stats.crossing import Crossing, Walk, checked_fractions, crossing, start
from mangaassist.stats.domain import FloatArray, finite, open_unit, positive

Convention = Literal["one-sided", "two-sided"]
Sides = Literal[1, 2]
Spending = Callable[[float, float], float]

_TINY = 1e-20
_SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Bound:
    """One look of a plan.

    Attributes:
        fraction: information fraction.
        z: critical value; stop when |z| (two-sided) or z (one-sided) reaches it.
        nominal_p: the p-value equivalent to ``z``, with the plan's sides.
        cumulative_alpha: error spent by this look, all sides together.
    """

    fraction: float
    z: float
    nominal_p: float
    cumulative_alpha: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A boundary with its name.

    Attributes:
        name: what was asked for ("obf", "pocock", "power:2", "wang-tsiatis:0.3", "custom").
        alpha: total error all sides together; of a custom plan, what it really spends.
        sides: 2 for a symmetric two-sided test, 1 for an upper one-sided test.
        convention: how ``alpha`` was split; None where the choice makes no difference.
        bounds: one per look.
        information: how much there was at each look, scaled to end at the last fraction; None where it is
            the fractions themselves.
    """

    name: str
    alpha: float
    sides: Sides
    convention: Convention | None
    bounds: tuple[Bound, ...]
    information: tuple[float, ...] | None = None

    @property
    def times(self) -> tuple[float, ...]:
        """Information of the looks, which decides how their z-values move together."""
        return self.information if self.information is not None else self.fractions

    @property
    def fractions(self) -> tuple[float, ...]:
        return tuple(bound.fraction for bound in self.bounds)

    @property
    def z(self) -> tuple[float, ...]:
        return tuple(bound.z for bound in self.bounds)


def obrien_fleming_spending(fraction: float, alpha: float) -> float:
    """Lan and DeMets (1983), Biometrika 70, 659-663: 2 - 2 Phi(z[alpha / 2] / sqrt(t))."""
    return float(2.0 * special.ndtr(special.ndtri(alpha / 2.0) / np.sqrt(fraction)))


def pocock_spending(fraction: float, alpha: float) -> float:
    """Lan and DeMets (1983): alpha ln(1 + (e - 1) t)."""
    return float(alpha * np.log1p((np.e - 1.0) * fraction))


def power_spending(rho: float) -> Spending:
    """Kim and DeMets (1987), Biometrika 74, 149-154: alpha t^rho."""
    positive("power", rho)

    def spend(fraction: float, alpha: float) -> float:
        return float(alpha * fraction**rho)

    return spend


def spending_named(name: str) -> Spending:
    """The spending function written ``obf``, ``pocock`` or ``power:R``.

    Raises:
        InputError: for an unknown name or a power that is not a positive number.
    """
    family, _, parameter = name.partition(":")
    if family == "power" and parameter:
        try:
            rho = float(parameter)
        except ValueError as error:
            raise InputError(
                "spending",
                expected="power:R with a number R",
                got=repr(name),
                next_step="For example power:2.",
            ) from error
        return power_spending(rho)
    known: dict[str, Spending] = {"obf": obrien_fleming_spending, "pocock": pocock_spending}
    if name not in known:
        raise InputError(
            "spending",
            expected="obf, pocock or power:R",
            got=repr(name),
            next_step=nearest(name, [*known, "power:2"]),
        )
    return known[name]


def spending_plan(
    fractions: ArrayLike,
    *,
    spending: str | Spending = "obf",
    alpha: float = 0.05,
    sides: Sides = 2,
    convention: Convention = "one-sided",
    information: ArrayLike | None = None,
) -> Plan:
    """Boundaries that spend alpha as a function of information, at whatever fractions the looks fall.

    Source: Lan and DeMets (1983). Only the looks up to now are needed, so a look that slips moves no earlier
    boundary. Alpha is spent in full only if the last fraction is 1. With ``information`` the fractions are
    the registered times that alpha is spent by, and the boundary follows from what arrived by then: Lan and
    DeMets (1989), Biometrics 45, 1017-1020, so that looks with too few or too many units keep their error.

    Args:
        fractions: when alpha is spent, rising within (0, 1], shape (looks,).
        information: units or any other measure of information at each look, rising, on any scale; None where
            it is the fractions themselves.

    Raises:
        InputError: for fractions or information that do not rise, or an unknown spending function.
    """
    at = tuple(checked_fractions(fractions))
    open_unit("alpha", alpha)
    return _spending_plan(
        at, _scaled(information, at), spending, alpha=alpha, sides=sides, convention=convention
    )


def _scaled(information: ArrayLike | None, at: Sequence[float]) -> tuple[float, ...] | None:
    if information is None:
        return None
    arrived = finite("information", information, ndim=1)
    if len(arrived) != len(at) or not arrived[-1] > 0:
        raise InputError(
            "information",
            expected=f"{len(at)} rising numbers, one per look",
            got=", ".join(f"{x:g}" for x in arrived[:12]),
            next_step="Write the units that had arrived at each look.",
        )
    return tuple(checked_fractions(arrived * (at[-1] / arrived[-1])))


@lru_cache(maxsize=2048)
def _spending_plan(
    at: tuple[float, ...],
    information: tuple[float, ...] | None,
    spending: str | Spending,
    *,
    alpha: float,
    sides: Sides,
    convention: Convention,
) -> Plan:
    """Solved once per plan: a dashboard asks for the same boundaries again and again."""
    function = spending_named(spending) if isinstance(spending, str) else spending
    if sides == 2 and convention == "one-sided":
        per_side = [function(t, alpha / 2) for t in at]
    else:
        per_side = [function(t, alpha) / sides for t in at]
    name = spending if isinstance(spending, str) else "custom"
    bounds = _solve(at, per_side, sides, information=information or at)
    return Plan(name, alpha, sides, convention if sides == 2 else None, bounds, information)


def cumulative_plan(fractions: ArrayLike, cumulative_alpha: ArrayLike, *, sides: Sides = 2) -> Plan:
    """Boundaries that spend exactly the registered cumulative alpha (all sides together) at each look.

    Raises:
        InputError: for alphas that do not rise within (0, 1), or one too few.
    """
    at = checked_fractions(fractions)
    spent = finite("cumulative_alpha", cumulative_alpha, ndim=1)
    if len(spent) != len(at) or (np.diff(spent, prepend=0.0) <= 0).any() or spent[-1] >= 1:
        raise InputError(
            "cumulative_alpha",
            expected=f"{len(at)} numbers rising within (0, 1)",
            got=", ".join(f"{x:g}" for x in spent[:12]),
            next_step="Write the error spent up to and including each look.",
        )
    bounds = _solve(at, [float(x) / sides for x in spent], sides, information=at)
    return Plan("custom", float(spent[-1]), sides, None, bounds)


def boundary_plan(fractions: ArrayLike, z: ArrayLike, *, sides: Sides = 2, name: str = "custom") -> Plan:
    """A plan from critical values someone chose; ``alpha`` says what they really cost.

    This is how a table of nominal levels is audited: 1.96 at each of four looks costs .123, not .05.

    Raises:
        InputError: for as many critical values as there are not looks, or non-positive ones.
    """
    at = checked_fractions(fractions)
    critical = finite("z", z, ndim=1)
    if len(critical) != len(at) or (critical <= 0).any():
        raise InputError(
            "z",
            expected=f"{len(at)} positive critical values",
            got=", ".join(f"{x:g}" for x in critical[:12]),
            next_step="One per look.",
        )
    alpha = float(_cross(at, critical, sides).cumulative[-1])
    return Plan(name, alpha, sides, None, _bounds(at, critical, sides))


def nominal_z(p: ArrayLike, *, sides: Sides = 2) -> FloatArray:
    """Critical values of nominal p-values, shape (looks,)."""
    return np.asarray(-special.ndtri(finite("p", p) / sides), dtype=np.float64)


def wang_tsiatis(fractions: ArrayLike, *, delta: float, alpha: float = 0.05, sides: Sides = 2) -> Plan:
    """Boundaries C t^(delta - 1/2): O'Brien-Fleming at delta 0, Pocock at 1/2.

    Source: Wang and Tsiatis (1987), Biometrics 43, 193-199.
    """
    at = checked_fractions(fractions)
    shape = np.asarray(at) ** (delta - 0.5)
    open_unit("alpha", alpha)

    def excess(constant: float) -> float:
        return float(_cross(at, constant * shape, sides).cumulative[-1]) - alpha

    single = float(-special.ndtri(alpha / sides))
    low = single / float(shape.max())
    constant = _root(excess, low, _doubled_until_negative(excess, max(low, single)))
    return Plan(f"wang-tsiatis:{delta:g}", alpha, sides, None, _bounds(at, constant * shape, sides))


def obrien_fleming(fractions: ArrayLike, *, alpha: float = 0.05, sides: Sides = 2) -> Plan:
    """The classical boundary: hard early, nearly free at the end.

    Source: O'Brien and Fleming (1979), Biometrics 35, 549-556.
    """
    return wang_tsiatis(fractions, delta=0.0, alpha=alpha, sides=sides)


def pocock(fractions: ArrayLike, *, alpha: float = 0.05, sides: Sides = 2) -> Plan:
    """The constant boundary: easy early, dear at the end. Source: Pocock (1977), Biometrika 64, 191-199."""
    return wang_tsiatis(fractions, delta=0.5, alpha=alpha, sides=sides)


def power_of(plan: Plan, drift: float) -> float:
    """Probability of crossing the upper boundary when the expected z at fraction 1 is ``drift``."""
    return float(_cross(plan.times, np.asarray(plan.z), plan.sides, drift=drift).upper.sum())


def drift_for(plan: Plan, power: float) -> float:
    """The expected final z at which the plan has ``power``."""
    open_unit("power", power)
    fixed = float(-special.ndtri(plan.alpha / plan.sides) + special.ndtri(power))

    def shortfall(drift: float) -> float:
        return power - power_of(plan, drift)

    # A plan never needs less drift than the fixed test of the same alpha.
    return _root(shortfall, 0.9 * fixed, _doubled_until_negative(shortfall, fixed))


def inflation(plan: Plan, power: float) -> float:
    """Maximum sample size relative to a fixed test of the same alpha and power (R in the tables).

    Source: Jennison and Turnbull (2000), section 2.2.
    """
    fixed = float(-special.ndtri(plan.alpha / plan.sides) + special.ndtri(power))
    return (drift_for(plan, power) / fixed) ** 2


def expected_fraction(plan: Plan, drift: float) -> float:
    """Average information fraction at which the experiment ends, at a true ``drift``."""
    ends = _cross(plan.times, np.asarray(plan.z), plan.sides, drift=drift)
    leaving = ends.upper + ends.lower
    last = 1.0 - float(leaving[:-1].sum())
    return float(np.dot(leaving[:-1], plan.times[:-1]) + last * plan.times[-1])


def _cross(fractions: Sequence[float], z: FloatArray, sides: Sides, *, drift: float = 0.0) -> Crossing:
    low = -z if sides == 2 else np.full(len(z), -np.inf)
    return crossing(fractions, low, z, drift=drift)


def _bounds(at: Sequence[float], z: FloatArray, sides: Sides) -> tuple[Bound, ...]:
    spent = _cross(at, z, sides).cumulative
    nominal = sides * special.ndtr(-z)
    return tuple(
        Bound(fraction, float(critical), float(p), float(total))
        for fraction, critical, p, total in zip(at, z, nominal, spent, strict=True)
    )


def _solve(
    at: Sequence[float],
    cumulative: Sequence[float],
    sides: Sides,
    *,
    information: Sequence[float],
) -> tuple[Bound, ...]:
    """Critical values whose upper side spends ``cumulative`` by each look, at that much information."""
    walk, spent, found = start(), 0.0, []
    for k, arrived in enumerate(information):
        z = _critical(walk, arrived, cumulative[k] - spent)
        spent = cumulative[k]
        found.append(Bound(at[k], z, float(sides * special.ndtr(-z)), sides * spent))
        if k + 1 < len(at):
            low = -z if sides == 2 else -np.inf
            walk = walk.advance(arrived, low, z, following=information[k + 1])
    return tuple(found)


def _critical(walk: Walk, fraction: float, spend: float) -> float:
    """The z that a walk exceeds at ``fraction`` with probability ``spend``."""
    # First crossing here is no more probable than exceeding z here at all, so with next to nothing to spend
    # the plain quantile is safe, and exact to the digits that are left.
    plain = float(-special.ndtri(max(spend, _SMALLEST)))
    if spend < _TINY or walk.at == 0.0:
        return plain
    low, high = -10.0, plain
    point = high
    for _ in range(200):
        excess = walk.above(fraction, point) - spend
        low, high = (point, high) if excess > 0 else (low, point)
        # Newton on the logarithm, which is nearly a parabola in z.
        value = excess + spend
        slope = -walk.density(fraction, point) / value if value > 0 else 0.0
        step = point - np.log(value / spend) / slope if slope < 0 else np.inf
        target = step if low < step < high else 0.5 * (low + high)
        if abs(target - point) < 1e-12:
            return float(target)
        point = target
    return float(point)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-12, rtol=1e-14))


def _doubled_until_negative(function: Callable[[float], float], point: float) -> float:
    while function(point) > 0:
        point *= 1.5
    return point
