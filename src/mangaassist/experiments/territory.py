"""Which users an experiment owns: segments of exclusivity classes, claimed once and never moved."""

from __future__ import annotations

from datetime import datetime

from mangaassist.core.errors import GateRefused, InputError
from mangaassist.experiments.assignment import HoldOut, Segment
from mangaassist.experiments.hashing import BUCKETS
from mangaassist.experiments.plan import Plan
from mangaassist.storage.ledger import Ledger

CLAIMED = "experiment.class.claimed"
RELEASED = "experiment.class.released"
RESERVED = "experiment.hold_out.reserved"

_PREFIX = "experiment-class/"
_HOLD_OUTS = "experiment-hold-outs"


def conflicts(later: Plan, earlier: Plan) -> bool:
    """Whether ``later`` must keep out of users that ``earlier`` may touch.

    Two experiments of one exclusivity class hold disjoint segments already; this is for the overlap rules
    that cross classes. The earlier experiment never loses users to the later one.
    """
    if set(later.population.exclusivity) & set(earlier.population.exclusivity):
        return False
    return bool(
        {"*", earlier.name} & set(later.population.never_with)
        or {"*", later.name} & set(earlier.population.never_with)
    )


def claim(ledger: Ledger, plan: Plan, *, actor: str, at: datetime) -> tuple[Segment, ...]:
    """Segments for a plan that is about to be frozen: one in each of its classes.

    A plan without classes gets a segment of a class of its own, so that its share is a fixed set of users.
    Claiming again after a crash returns what was claimed.

    Raises:
        GateRefused: when a class has no gap as wide as the plan's share.
        Conflict: when somebody else claimed in that class at the same moment.
    """
    size = round(plan.population.share * BUCKETS)
    if not plan.population.exclusivity:
        return () if size == BUCKETS else (Segment(f"own:{plan.name}", 0, size),)
    return tuple(
        _claim(ledger, layer, plan.name, size, actor=actor, at=at) for layer in plan.population.exclusivity
    )


def release(ledger: Ledger, plan: Plan, *, actor: str, at: datetime) -> None:
    """Give the segments of an experiment that is over back to their classes."""
    for layer in plan.population.exclusivity:
        if plan.name in held(ledger, layer):
            body = {"experiment": plan.name}
            ledger.append(kind=RELEASED, subject=_PREFIX + layer, body=body, actor=actor, at=at)


def held(ledger: Ledger, layer: str) -> dict[str, Segment]:
    """Segments in use per experiment of a class."""
    found: dict[str, Segment] = {}
    for entry in ledger.entries(subject=_PREFIX + layer):
        name = entry.body["experiment"]
        if entry.kind == CLAIMED:
            found[name] = Segment(layer, entry.body["start"], entry.body["stop"])
        else:
            found.pop(name, None)
    return found


def reserve(ledger: Ledger, held_out: HoldOut, *, actor: str, at: datetime) -> None:
    """Keep a share of users out of every experiment (of one surface) from now on.

    Raises:
        InputError: for a share that is not between 0 and 1.
        GateRefused: for a name that is taken: changing its share would move users.
    """
    if not 0 < held_out.share < 1:
        raise InputError(
            "share",
            expected="a share between 0 and 1",
            got=f"{held_out.share:g}",
            next_step="Write 2% as 0.02.",
        )
    if held_out.name in {one.name for one in hold_outs(ledger)}:
        raise GateRefused(
            f"hold-out '{held_out.name}'",
            expected="a new name",
            got="one that is in use",
            next_step="Its users are fixed: reserve another one beside it.",
        )
    body = {"name": held_out.name, "share": held_out.share, "surface": held_out.surface}
    head = ledger.head(_HOLD_OUTS)
    ledger.append(kind=RESERVED, subject=_HOLD_OUTS, body=body, actor=actor, at=at, expected=head)


def hold_outs(ledger: Ledger) -> tuple[HoldOut, ...]:
    """Every reserved share, oldest first."""
    return tuple(HoldOut(**entry.body) for entry in ledger.entries(subject=_HOLD_OUTS, kind=RESERVED))


def _claim(ledger: Ledger, layer: str, name: str, size: int, *, actor: str, at: datetime) -> Segment:
    subject = _PREFIX + layer
    head = ledger.head(subject)
    taken = held(ledger, layer)
    if name in taken:
        return taken[name]
    start = _gap(sorted((one.start, one.stop) for one in taken.values()), size)
    if start is None:
        free = BUCKETS - sum(one.stop - one.start for one in taken.values())
        raise GateRefused(
            f"exclusivity class '{layer}'",
            expected=f"a free share of {size / BUCKETS:.1%} in one piece",
            got=f"{free / BUCKETS:.1%} free beside {', '.join(sorted(taken))}",
            next_step="Wait until one of them is decided, or register a smaller population.share.",
        )
    body = {"experiment": name, "start": start, "stop": start + size}
    ledger.append(kind=CLAIMED, subject=subject, body=body, actor=actor, at=at, expected=head)
    return Segment(layer, start, start + size)


def _gap(taken: list[tuple[int, int]], size: int) -> int | None:
    """Start of the first gap of ``size`` buckets between sorted segments."""
    start = 0
    for begin, end in taken:
        if begin - start >= size:
            return start
        start = end
    return start if BUCKETS - start >= size else None
