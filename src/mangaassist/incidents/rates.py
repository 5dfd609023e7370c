"""How well incidents are handled: the numbers of the readiness dashboard (INC-4; AML-08, metrics table)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents import clock
from mangaassist.incidents.records import Known
from mangaassist.stats.intervals import bootstrap, wilson

QUARTER = timedelta(days=91)
FEWEST = 5
"""Below this many incidents a rate says nothing and its verdict is ``insufficient``."""
ROLL_BACK_FIRST = frozenset({"code_deploy", "model_version", "configuration", "prompt"})


@dataclass(frozen=True, slots=True)
class Past:
    """One incident as the rates count it.

    Attributes:
        detect, recover: minutes from onset to alarm, and from alarm to recovery; None while it lasts.
        localised: minutes from alarm to a named category; None for none.
        category: confirmed by a person, else as localised.
        cause: what was confirmed or suspected first; empty when unknown.
        false_alarm: what a person said when closing it; None while it is open.
        opened: when.
    """

    opened: datetime
    detect: float
    recover: float | None
    localised: float | None
    category: str
    cause: str
    false_alarm: bool | None


def past(known: Known) -> Past:
    """What the rates need of one incident."""
    reached = clock.moments(known)
    closing: Mapping[str, object] = next(
        (body for _, kind, _, body in reversed(known.timeline) if kind == clock.CLOSED), {}
    )
    walk = known.localisation
    suspected = walk.suspects[0].subject if walk and walk.suspects else ""

    def after(name: str) -> float | None:
        return clock.minutes(reached[name] - reached["opened"]) if name in reached else None

    return Past(
        reached["opened"],
        clock.minutes(reached["opened"] - reached["began"]),
        after("recovered"),
        after("localised"),
        str(closing.get("category") or (walk.category if walk else clock.UNKNOWN)),
        str(closing.get("cause") or suspected),
        bool(closing["false_alarm"]) if "false_alarm" in closing else None,
    )


def rates(found: Sequence[Past], *, now: datetime, window: timedelta = QUARTER) -> tuple[Verdict, ...]:
    """The verdicts over the incidents opened in the last ``window``.

    False alarms count among pages and nowhere else: there was nothing to detect or to recover.
    """
    recent = [one for one in found if now - window <= one.opened <= now]
    real = [one for one in recent if not one.false_alarm]
    closed = [one for one in recent if one.false_alarm is not None]
    weeks = max(window / timedelta(days=7), 1.0)
    fast = [one.recover for one in real if one.recover is not None and one.category in ROLL_BACK_FIRST]
    all_of_them = [one.recover for one in real if one.recover is not None]
    within = sum(one.localised is not None and one.localised <= 15 for one in real)
    return (
        _mean("incidents.mttd_minutes", "From onset to alarm", [one.detect for one in real], 15),
        _mean("incidents.mttr_minutes", "From alarm to recovery", all_of_them, 240),
        _mean("incidents.mttr_roll_back_minutes", "The same where a roll-back ends it", fast, 30),
        _share("incidents.localised_in_15", "named within 15 minutes", within, len(real), at_least=0.70),
        _share(
            "incidents.false_alarms",
            "were false alarms",
            sum(bool(one.false_alarm) for one in closed),
            len(closed),
            at_most=0.10,
        ),
        _share(
            "incidents.repeats", "had a cause of this quarter again", _repeats(real), len(real), at_most=0.05
        ),
        _pages(len(recent), weeks),
    )


def repeated(one: Past, earlier: Sequence[Past]) -> Past | None:
    """The incident of the quarter before ``one`` with the same confirmed or suspected cause."""
    same = [
        other
        for other in earlier
        if one.cause
        and not other.false_alarm
        and (other.category, other.cause) == (one.category, one.cause)
        and timedelta(0) < one.opened - other.opened <= QUARTER
    ]
    return same[-1] if same else None


def _repeats(real: Sequence[Past]) -> int:
    return sum(repeated(one, real) is not None for one in real)


def _mean(name: str, what: str, values: Sequence[float], limit: float) -> Verdict:
    if not values:
        return Verdict(name, Status.INSUFFICIENT, f"{what}: no incident to measure.", threshold=limit)
    mean = float(np.mean(values))
    low = high = None
    if len(values) >= FEWEST:
        array, generator = np.asarray(values), np.random.default_rng(0)
        interval = bootstrap(lambda rows: float(array[rows].mean()), array.size, generator=generator)
        low, high = interval.low, interval.high
    said = f"{what}: {mean:.0f} min on average over {len(values)} incidents (target {limit:g} min)."
    return Verdict(name, _status(mean <= limit, len(values)), said, mean, low, high, limit, len(values))


def _share(
    name: str, what: str, count: int, n: int, *, at_least: float | None = None, at_most: float | None = None
) -> Verdict:
    limit = at_least if at_least is not None else at_most
    if not n:
        return Verdict(name, Status.INSUFFICIENT, f"No incident to count that {what}.", threshold=limit)
    rate = wilson(count, n)
    good = rate.value >= at_least if at_least is not None else rate.value <= (at_most or 0.0)
    side = "at least" if at_least is not None else "at most"
    said = f"{count} of {n} {what} (target {side} {limit:.0%})."
    return Verdict(name, _status(good, n), said, rate.value, rate.low, rate.high, limit, n)


def _pages(pages: int, weeks: float) -> Verdict:
    """Tired people triage badly: more than two a week is a problem of quality (004, AML-08 A3)."""
    each = pages / weeks
    said = f"{pages} incidents in {weeks:.0f} weeks, {each:.1f} a week (limit 2)."
    status = Status.PASS if each <= 2 else Status.FAIL
    return Verdict("incidents.pages_a_week", status, said, each, threshold=2.0, n=pages)


def _status(good: bool, n: int) -> Status:
    if n < FEWEST:
        return Status.INSUFFICIENT
    return Status.PASS if good else Status.FAIL
