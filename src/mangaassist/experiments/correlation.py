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
from mangaassist.stats.domain import FloatArray
from mangaassist.storage.ledger import Ledger

RECORDED = "correlation.recorded"
TRUST, COLLAPSE = 0.6, 0.5
WINDOW = 6
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
        low, high: 95% interval by Fisher's z (n of 4 or more, else -1 to 1).
        corrected: after taking out the noise of both measurements; None where the errors are unknown or leave
            nothing of the spread.
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
    """Add one finished experiment to a surface's record."""
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


def correlate(surface: str, found: Sequence[Pair], *, window: int = WINDOW) -> Correlation:
    """The correlation over the last ``window`` experiments.

    Args:
        found: oldest first; with fewer than ``window`` the zone is unknown.

    Raises:
        InputError: for changes that are all equal on one side, which correlate with nothing.
    """
    last = list(found)[-window:]
    offline, online = np.array([one.offline for one in last]), np.array([one.online for one in last])
    if len(last) < 3:
        return Correlation(surface, len(last), 0.0, -1.0, 1.0, None, 0.0, -1.0, 1.0, Zone.UNKNOWN)
    if not (np.ptp(offline) > 0 and np.ptp(online) > 0):
        raise InputError(
            f"correlation of '{surface}'",
            expected="changes that differ between experiments",
            got="the same change in all of them",
            next_step="Check what was recorded: a harness that always says the same measures nothing.",
        )
    pearson = float(np.corrcoef(offline, online)[0, 1])
    low, high = _interval(pearson, len(last))
    without = [_pearson_without(offline, online, at) for at in range(len(last))]
    zone = Zone.UNKNOWN if len(last) < window else zone_of(pearson)
    return Correlation(
        surface,
        len(last),
        pearson,
        low,
        high,
        _corrected(pearson, last, offline, online),
        float(np.mean(np.sign(offline) == np.sign(online))),
        min(without),
        max(without),
        zone,
    )


def zone_of(pearson: float) -> Zone:
    """EVA-5: above .6 trust, .5 to .6 yellow, below .5 freeze."""
    if pearson > TRUST:
        return Zone.TRUST
    return Zone.YELLOW if pearson >= COLLAPSE else Zone.FREEZE


def _interval(pearson: float, n: int) -> tuple[float, float]:
    if n < 4 or abs(pearson) >= 1:
        return (-1.0, 1.0) if n < 4 else (pearson, pearson)
    centre, half = np.arctanh(pearson), 1.959963984540054 / np.sqrt(n - 3)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def _pearson_without(offline: FloatArray, online: FloatArray, at: int) -> float:
    x, y = np.delete(offline, at), np.delete(online, at)
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0


def _corrected(pearson: float, last: Sequence[Pair], offline: FloatArray, online: FloatArray) -> float | None:
    """Spearman's (1904) correction for attenuation: divide by the root of both reliabilities."""
    noise = [
        (float(np.mean([one.offline_error**2 for one in last])), float(offline.var(ddof=1))),
        (float(np.mean([one.online_error**2 for one in last])), float(online.var(ddof=1))),
    ]
    if not any(error for error, _ in noise):
        return None
    reliability = [1 - error / spread for error, spread in noise]
    if min(reliability) <= 0:
        return None
    return float(np.clip(pearson / np.sqrt(reliability[0] * reliability[1]), -1.0, 1.0))


def launch_verdict(ledger: Ledger, surface: str, *, clears_mde: bool) -> Verdict:
    """Whether a launch on ``surface`` may go ahead today.

    In the yellow zone the online change must reach the MDE, not only significance; the offline side is
    recorded with the pair. A surface without a record is not held up.
    """
    found = pairs(ledger, surface)
    known = correlate(surface, found) if len(found) >= 3 else None
    name = f"correlation.{surface}"
    if known is None or known.zone is Zone.UNKNOWN:
        sentence = f"{len(found)} of {WINDOW} experiments are on record for {surface}: nothing is held up."
        return Verdict(name, Status.INSUFFICIENT, sentence, n=len(found), blocking=False)
    if known.zone is Zone.YELLOW and clears_mde:
        sentence = f"{surface} is in the yellow zone ({known.pearson:.2f}) and this launch clears its MDE."
        return Verdict(name, Status.PASS, sentence, known.pearson, known.low, known.high, TRUST, known.n)
    if known.zone is Zone.YELLOW:
        sentence = (
            f"{surface} is in the yellow zone ({known.pearson:.2f}) and this launch stays below its MDE."
        )
        return Verdict(name, Status.FAIL, sentence, known.pearson, known.low, known.high, TRUST, known.n)
    return known.verdict()


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
