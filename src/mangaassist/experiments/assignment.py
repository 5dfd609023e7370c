"""Who is in which experiment and in which arm: a pure function of identity and registration.

Three independent buckets decide: the class bucket (does the experiment own this user at all), the exposure
bucket (has the ramp reached them) and the arm bucket. A ramp changes only the second: nobody changes arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.experiments.hashing import (
    BUCKETS,
    Hashes,
    Users,
    bucket,
    buckets,
    fingerprint,
    fingerprints,
    salt,
)
from mangaassist.experiments.plan import Condition, Plan

Mask = NDArray[np.bool_]


class Outcome(StrEnum):
    """Why a user is or is not in an experiment."""

    ASSIGNED = "assigned"
    HELD_OUT = "held out"
    INELIGIBLE = "not eligible"
    OUTSIDE = "outside its share of the class"
    EXCLUDED = "belongs to another experiment"
    NOT_YET = "the ramp has not reached them"


@dataclass(frozen=True, slots=True)
class Segment:
    """Buckets of one class that belong to one experiment until it ends.

    Attributes:
        layer: name of the class.
        start, stop: first bucket and the one after the last, out of 1,000,000.
    """

    layer: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Territory:
    """Everybody an experiment may ever touch, whatever its ramp: the users in all of its segments."""

    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class HoldOut:
    """Users no experiment touches.

    Attributes:
        name: salts the choice.
        share: of all users.
        surface: only for experiments on this surface; empty for all.
    """

    name: str
    share: float
    surface: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """One experiment as the resolver needs it.

    Attributes:
        name, surface: as registered.
        salt: of the frozen registration.
        arms: upper bucket limits per arm, rising to 1,000,000.
        territory: its segments.
        excluded: territories of experiments that were there first and may not share users with it.
        exposure: the ramp's current share, 0 when paused.
        eligibility: rules on attributes.
    """

    name: str
    surface: str
    salt: str
    arms: Mapping[str, int]
    territory: Territory
    excluded: tuple[Territory, ...] = ()
    exposure: float = 1.0
    eligibility: tuple[Condition, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Assignment:
    """One user in one experiment; ``arm`` is empty unless the outcome is ``assigned``."""

    experiment: str
    arm: str
    outcome: Outcome


def limits(arms: Mapping[str, float]) -> dict[str, int]:
    """Upper bucket limit per arm; the last one takes the rounding."""
    edges = [round(edge * BUCKETS) for edge in accumulate(arms.values())]
    return dict(zip(arms, [*edges[:-1], BUCKETS], strict=True))


def running(
    plan: Plan,
    frozen: str,
    segments: tuple[Segment, ...],
    *,
    excluded: tuple[Territory, ...],
    exposure: float,
) -> Running:
    """The resolver's view of a frozen plan whose registration has the digest ``frozen``."""
    return Running(
        plan.name,
        plan.surface,
        f"{plan.name}:{frozen}",
        limits(plan.arms),
        Territory(segments),
        excluded,
        exposure,
        plan.population.eligibility,
    )


def assign(
    experiment: Running,
    user: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    hold_outs: Sequence[HoldOut] = (),
) -> Assignment:
    """Where ``user`` stands in one experiment.

    Args:
        attributes: of the user; None skips eligibility (the caller has checked it).
    """
    return _assign(experiment, fingerprint(user), attributes, hold_outs)


def resolve(
    experiments: Sequence[Running],
    user: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    hold_outs: Sequence[HoldOut] = (),
) -> tuple[Assignment, ...]:
    """Where ``user`` stands in every running experiment; the identity is hashed once."""
    hashed = fingerprint(user)
    return tuple(_assign(one, hashed, attributes, hold_outs) for one in experiments)


def _assign(
    experiment: Running, hashed: int, attributes: Mapping[str, Any] | None, hold_outs: Sequence[HoldOut]
) -> Assignment:
    outcome = _outcome(experiment, hashed, attributes, hold_outs)
    if outcome is not Outcome.ASSIGNED:
        return Assignment(experiment.name, "", outcome)
    drawn = bucket(hashed, salt(experiment.salt, "arm"))
    arm = next(name for name, limit in experiment.arms.items() if drawn < limit)
    return Assignment(experiment.name, arm, outcome)


def _outcome(
    experiment: Running, hashed: int, attributes: Mapping[str, Any] | None, hold_outs: Sequence[HoldOut]
) -> Outcome:
    for held in hold_outs:
        if _applies(held, experiment) and bucket(hashed, salt("hold-out", held.name)) < held.share * BUCKETS:
            return Outcome.HELD_OUT
    if attributes is not None and not eligible(experiment.eligibility, attributes):
        return Outcome.INELIGIBLE
    if not _inside(experiment.territory, hashed):
        return Outcome.OUTSIDE
    if any(_inside(one, hashed) for one in experiment.excluded):
        return Outcome.EXCLUDED
    if bucket(hashed, salt(experiment.salt, "exposure")) >= experiment.exposure * BUCKETS:
        return Outcome.NOT_YET
    return Outcome.ASSIGNED


def _applies(held: HoldOut, experiment: Running) -> bool:
    return held.surface in ("", experiment.surface)


def _inside(territory: Territory, hashed: int) -> bool:
    return all(one.start <= bucket(hashed, salt("class", one.layer)) < one.stop for one in territory.segments)


def eligible(rules: Sequence[Condition], attributes: Mapping[str, Any]) -> bool:
    """Whether every rule holds; a missing attribute is not eligible."""
    return all(_holds(rule, attributes.get(rule.attribute)) for rule in rules)


def _holds(rule: Condition, value: Any) -> bool:
    if value is None:
        return False
    if isinstance(rule.operand, tuple):
        return (str(value) in rule.operand) == (rule.operator == "in")
    if not isinstance(value, int | float):
        raise _not_a_number(rule, repr(value))
    return value >= rule.operand if rule.operator == "at_least" else value <= rule.operand


def _not_a_number(rule: Condition, got: str) -> InputError:
    return InputError(
        f"attribute '{rule.attribute}'",
        expected="a number",
        got=got,
        next_step="The registration compares it with a number.",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Many users in one experiment.

    Attributes:
        experiment: its name.
        arms: names of the arms.
        codes: index into ``arms`` per user, -1 where the user is not in, shape (n,).
    """

    experiment: str
    arms: tuple[str, ...]
    codes: NDArray[np.int8]

    def counts(self) -> dict[str, int]:
        """Users per arm."""
        found = np.bincount(self.codes[self.codes >= 0], minlength=len(self.arms))
        return {name: int(count) for name, count in zip(self.arms, found, strict=True)}


def assign_batch(
    experiments: Sequence[Running],
    users: Users,
    *,
    attributes: Mapping[str, NDArray[Any]] | None = None,
    hold_outs: Sequence[HoldOut] = (),
) -> tuple[Batch, ...]:
    """:func:`resolve` for many users at once, with the same answers.

    Args:
        users: identities, shape (n,), as a list, a numpy array or an Arrow array.
        attributes: one column of shape (n,) per attribute; None skips eligibility.
    """
    hashed = fingerprints(users)
    drawn: dict[str, NDArray[np.int64]] = {}
    return tuple(_assign_batch(one, hashed, attributes, hold_outs, drawn) for one in experiments)


def _assign_batch(
    experiment: Running,
    hashed: Hashes,
    attributes: Mapping[str, NDArray[Any]] | None,
    hold_outs: Sequence[HoldOut],
    drawn: dict[str, NDArray[np.int64]],
) -> Batch:
    entered = buckets(hashed, salt(experiment.salt, "exposure")) < experiment.exposure * BUCKETS
    entered &= _inside_batch(experiment.territory, hashed, drawn)
    for held in hold_outs:
        if _applies(held, experiment):
            entered &= _layer(("hold-out", held.name), hashed, drawn) >= held.share * BUCKETS
    for territory in experiment.excluded:
        entered &= ~_inside_batch(territory, hashed, drawn)
    if attributes is not None:
        for rule in experiment.eligibility:
            entered &= _holds_batch(rule, attributes, len(hashed))
    edges = np.array(list(experiment.arms.values()))
    arms = np.searchsorted(edges, buckets(hashed, salt(experiment.salt, "arm")), side="right")
    codes = np.where(entered, arms, -1).astype(np.int8)
    return Batch(experiment.name, tuple(experiment.arms), codes)


def _inside_batch(territory: Territory, hashed: Hashes, drawn: dict[str, NDArray[np.int64]]) -> Mask:
    inside = np.ones(len(hashed), dtype=bool)
    for one in territory.segments:
        if (one.start, one.stop) == (0, BUCKETS):
            continue
        layer = _layer(("class", one.layer), hashed, drawn)
        inside &= (layer >= one.start) & (layer < one.stop)
    return inside


def _layer(named: tuple[str, str], hashed: Hashes, drawn: dict[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Buckets of a class or hold-out, computed once for all experiments of a batch."""
    key = "\x1f".join(named)
    if key not in drawn:
        drawn[key] = buckets(hashed, salt(*named))
    return drawn[key]


def _holds_batch(rule: Condition, attributes: Mapping[str, NDArray[Any]], n: int) -> Mask:
    if rule.attribute not in attributes:
        return np.zeros(n, dtype=bool)
    values = np.asarray(attributes[rule.attribute])
    if isinstance(rule.operand, tuple):
        known = (
            np.array([value is not None for value in values]) if values.dtype == object else np.ones(n, bool)
        )
        member = np.isin(values.astype(str), rule.operand)
        return np.asarray(known & (member == (rule.operator == "in")), dtype=bool)
    try:
        number = values.astype(np.float64)  # None becomes NaN, which no comparison accepts
    except ValueError as error:
        raise _not_a_number(rule, str(error)) from error
    return np.asarray(
        number >= rule.operand if rule.operator == "at_least" else number <= rule.operand, dtype=bool
    )
