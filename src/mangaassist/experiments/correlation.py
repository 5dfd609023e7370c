"""Does the offline metric still predict the online one? Tracked per surface, and binding on launches.

Every finished experiment leaves (offline change, online change). Over the last ones their Pearson correlation
says trust (above .6), yellow (.5 to .6: the next four launches must clear the MDE on both) or freeze (below).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.stats.correlation import TrueCorrelation, pearson, true_correlation
from mangaassist.stats.domain import FloatArray
from mangaassist.storage.ledger import Ledger

RECORDED = "correlation.recorded"
TRUST, COLLAPSE = 0.6, 0.5
WINDOW = 6
LEAST = 4
CAUTIOUS_LAUNCHES = 4

_PREFIX = "correlation/"


class Zone(StrEnum):
    """What the correlation allows."""

    TRUST = "trust"
    YELLOW = "yellow"
    FREEZE = "freeze"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Pair:
    """One finished experiment.

    Attributes:
        experiment: its name.
        offline, online: relative changes.
        offline_error, online_error: their standard errors, 0 where unknown.
    """

    experiment: str
    offline: float
    online: float
    offline_error: float = 0.0
    online_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Correlation:
    """How well offline changes predicted online ones.

    Attributes:
        surface: where.
        n: experiments in the window.
        pearson: as measured.
        low, high: 95% interval.
        corrected: of the true changes, measurement noise taken out; None where no errors were recorded.
        collapsed: probability that the true correlation lies below the freeze limit; None likewise.
        agreement: share of experiments whose two signs agree.
        weakest, strongest: correlation with the most and the least favourable experiment left out.
        zone: what it allows.
    """

    surface: str
    n: int
    pearson: float
    low: float
    high: float
    corrected: float | None
    collapsed: float | None
    agreement: float
    weakest: float
    strongest: float
    zone: Zone

    def verdict(self) -> Verdict:
        """The correlation as a finding."""
        status = {
            Zone.TRUST: Status.PASS,
            Zone.YELLOW: Status.INSUFFICIENT,
            Zone.FREEZE: Status.FAIL,
            Zone.UNKNOWN: Status.INSUFFICIENT,
        }[self.zone]
        said = {
            Zone.TRUST: "offline evidence may be trusted",
            Zone.YELLOW: f"fragile: the next {CAUTIOUS_LAUNCHES} launches must clear the MDE on both",
            Zone.FREEZE: "launches on this surface are frozen until the harness is rebuilt",
            Zone.UNKNOWN: f"fewer than {WINDOW} experiments say nothing yet",
        }[self.zone]
        noise = f", {self.corrected:.2f} without measurement noise" if self.corrected is not None else ""
        sentence = (
            f"Offline and online correlate at {self.pearson:.2f}{noise} over {self.n} experiments: {said}."
        )
        return Verdict(
            f"correlation.{self.surface}", status, sentence, self.pearson, self.low, self.high, TRUST, self.n
        )


def record(ledger: Ledger, surface: str, pair: Pair, *, actor: str, at: datetime) -> None:
    """Add one finished experiment to a surface's record.

    Raises:
        InputError: when it is there already; counted twice it would vouch for itself.
    """
    if any(one.experiment == pair.experiment for one in pairs(ledger, surface)):
        raise InputError(
            f"experiment '{pair.experiment}'",
            expected=f"one that is not on the record of {surface} yet",
            got="one that is",
            next_step="Nothing to do: every experiment counts once.",
        )
    body = {
        "experiment": pair.experiment,
        "offline": pair.offline,
        "online": pair.online,
        "offline_error": pair.offline_error,
        "online_error": pair.online_error,
    }
    ledger.append(kind=RECORDED, subject=_PREFIX + surface, body=body, actor=actor, at=at)


def pairs(ledger: Ledger, surface: str) -> list[Pair]:
    """Every finished experiment of a surface, oldest first."""
    return [Pair(**entry.body) for entry in ledger.entries(subject=_PREFIX + surface, kind=RECORDED)]


def correlate(surface: str, past: Sequence[Pair], *, window: int = WINDOW) -> Correlation:
    """The correlation over the last ``window`` experiments.

    Args:
        past: oldest first; with fewer than ``window`` the zone is unknown.

    Raises:
        InputError: for changes that are all equal on one side, which correlate with nothing.
    """
    last = list(past)[-window:]
    offline, online = np.array([one.offline for one in last]), np.array([one.online for one in last])
    if len(last) < LEAST:
        return Correlation(surface, len(last), 0.0, -1.0, 1.0, None, None, 0.0, -1.0, 1.0, Zone.UNKNOWN)
    found = pearson(offline, online)
    true = _corrected(last, offline, online)
    without = [_pearson_without(offline, online, at) for at in range(len(last))]
    return Correlation(
        surface,
        len(last),
        found.value,
        found.low,
        found.high,
        true.estimate.value if true else None,
        true.probability_below(COLLAPSE) if true else None,
        float(np.mean(np.sign(offline) == np.sign(online))),
        min(without),
        max(without),
        Zone.UNKNOWN if len(last) < window else zone_of(found.value),
    )


def zone_of(value: float) -> Zone:
    """EVA-5: above .6 trust, .5 to .6 yellow, below .5 freeze."""
    if value > TRUST:
        return Zone.TRUST
    return Zone.YELLOW if value >= COLLAPSE else Zone.FREEZE


def _pearson_without(offline: FloatArray, online: FloatArray, at: int) -> float:
    x, y = np.delete(offline, at), np.delete(online, at)
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0


def _corrected(last: Sequence[Pair], offline: FloatArray, online: FloatArray) -> TrueCorrelation | None:
    errors = np.array([(one.offline_error, one.online_error) for one in last])
    if not errors.any():
        return None
    return true_correlation(offline, online, errors[:, 0] ** 2, errors[:, 1] ** 2)


def cautious_launches(past: Sequence[Pair], *, window: int = WINDOW) -> int:
    """How many of the next launches must clear their MDE offline and online; 0 in a trusted zone.

    A reading in the yellow zone makes the next four launches cautious. They stay so when the correlation
    recovers in between, because one good experiment is not yet a harness that works.
    """
    left = 0
    for n in range(window, len(past) + 1):
        last = past[n - window : n]
        x, y = np.array([one.offline for one in last]), np.array([one.online for one in last])
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        zone = Zone.FREEZE if constant else zone_of(float(np.corrcoef(x, y)[0, 1]))
        left = CAUTIOUS_LAUNCHES if zone is Zone.YELLOW else left - (zone is Zone.TRUST and left > 0)
    return left


def launch_verdict(
    ledger: Ledger, surface: str, *, clears_mde: bool, clears_offline: bool | None = None
) -> Verdict:
    """Whether a launch on ``surface`` may go ahead today.

    In the yellow zone, and for the rest of the four launches after it, both changes must reach the MDE, not
    only significance. A surface without a record is not held up.

    Args:
        clears_mde: whether the online change does.
        clears_offline: whether the registered offline change does; None when none was registered, which
            clears nothing.
    """
    found = pairs(ledger, surface)
    known = correlate(surface, found) if len(found) >= LEAST else None
    name = f"correlation.{surface}"
    if known is None or known.zone is Zone.UNKNOWN:
        sentence = f"{len(found)} of {WINDOW} experiments are on record for {surface}: nothing is held up."
        return Verdict(name, Status.INSUFFICIENT, sentence, n=len(found), blocking=False)
    left = cautious_launches(found)
    if known.zone is Zone.FREEZE or not left:
        return known.verdict()
    where = "is in the yellow zone" if known.zone is Zone.YELLOW else "has just left the yellow zone"
    short = _short(clears_mde, clears_offline)
    sentence = (
        f"{surface} {where} ({known.pearson:.2f}), so this launch and {left - 1} more must clear the MDE "
        f"offline and online: {short or 'it does'}."
    )
    status = Status.FAIL if short else Status.PASS
    return Verdict(name, status, sentence, known.pearson, known.low, known.high, TRUST, known.n)


def _short(online: bool, offline: bool | None) -> str:
    """What a cautious launch lacks; empty when nothing."""
    lacks = [] if online else ["its online change stays below it"]
    if offline is None:
        lacks.append("no offline change was registered")
    elif not offline:
        lacks.append("its offline change stays below it")
    return " and ".join(lacks)


def replayed(surface: str, past: Sequence[Pair], offline: Sequence[float]) -> dict[str, Any]:
    """Past experiments through another metric set: their correlation before and after.

    Args:
        offline: the new harness's change for each of ``past``, in the same order.

    Raises:
        InputError: for another number of changes than experiments.
    """
    if len(offline) != len(past):
        raise InputError(
            "replay",
            expected=f"one change for each of {len(past)} experiments",
            got=str(len(offline)),
            next_step="Replay every experiment; leaving out the awkward ones is how a metric is fooled.",
        )
    again = [
        Pair(one.experiment, change, one.online, 0.0, one.online_error)
        for one, change in zip(past, offline, strict=True)
    ]
    size = len(past)
    before, after = (correlate(surface, some, window=size) for some in (past, again))
    uneven = after.strongest - after.weakest > 0.4
    return {
        "before": before,
        "after": after,
        "adopt": after.zone in (Zone.TRUST, Zone.YELLOW),
        "uneven": uneven,
        "sentence": after.verdict().sentence
        + (" It rests on single experiments: look at each of them." if uneven else ""),
    }
