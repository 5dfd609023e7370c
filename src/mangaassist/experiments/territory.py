"""Which users an experiment owns: segments of exclusivity classes, claimed once and never moved."""

from __future__ import annotations

from datetime import datetime

from mangaassist.core.errors import GateRefused
from mangaassist.experiments.assignment import Segment
from mangaassist.experiments.hashing import BUCKETS
from mangaassist.experiments.plan import Plan
from mangaassist.storage.ledger import Ledger

CLAIMED = "experiment.class.claimed"
RELEASED = "experiment.class.released"

_PREFIX = "experiment-class/"


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
