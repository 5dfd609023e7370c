"""How often each position is looked at, per surface and device; nothing is corrected with a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from mangaassist.core.story import ImplicitPolicy
from mangaassist.core.verdict import Status, Verdict
from mangaassist.stats.click_models import Examination, examination, read_exposures
from mangaassist.stats.domain import IntArray
from mangaassist.stats.off_policy import effective_sample_size

PLACE = ("surface", "device")
Method = Literal["shuffled", "harvested"]


@dataclass(frozen=True, slots=True)
class Propensity:
    """Examination of one position, relative to the first one of its surface and device.

    Attributes:
        low, high: its 95% interval over requests.
        usable: whether labels may be corrected with it.
        weight: 1 / the value, or 1 / the floor where the value is smaller.
    """

    surface: str
    device: str
    position: int
    value: float
    low: float
    high: float
    usable: bool
    weight: float

    def as_dict(self) -> dict[str, Any]:
        """The propensity as a JSON object; None where there is no number."""
        numbers = {name: getattr(self, name) for name in ("value", "low", "high", "weight")}
        known = {name: round(one, 6) if np.isfinite(one) else None for name, one in numbers.items()}
        return {
            "surface": self.surface,
            "device": self.device,
            "position": self.position,
            **known,
            "usable": self.usable,
        }


@dataclass(frozen=True, slots=True)
class Correction:
    """The propensities of one surface and device, and whether they may be used.

    Attributes:
        method: from shuffled positions, or harvested from items that moved for other reasons.
        requests: informative requests.
        effective: effective number of clicks, Kish, under the weights.
    """

    surface: str
    device: str
    method: Method
    requests: int
    effective: float
    propensities: tuple[Propensity, ...]
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """The correction as a JSON object."""
        return {
            "surface": self.surface,
            "device": self.device,
            "method": self.method,
            "requests": self.requests,
            "effective": round(self.effective, 1),
            "positions": [one.as_dict() for one in self.propensities],
            "verdict": self.verdict.as_dict(),
        }


def corrections(rows: pl.DataFrame, policy: ImplicitPolicy, *, seed: int) -> list[Correction]:
    """One correction per surface and device, in their order.

    Lists with shuffled positions decide where there are enough of them, because what moved an item there is
    known to be chance. Elsewhere the estimate is harvested from pairs of query and item that stood at several
    positions.

    Args:
        rows: of :class:`mangaassist.labels.exposures.Shown`.
        seed: of the bootstrap.
    """
    found = []
    for (surface, device), part in rows.sort(*PLACE).group_by(*PLACE, maintain_order=True):
        place = (str(surface), str(device))
        ordered = part.sort("request_id", "position")
        shuffled = ordered.drop_nulls("randomised")
        chance = _examine(shuffled, ("randomised",), seed) if shuffled.height else None
        if chance is not None and chance.requests >= policy.least_requests and chance.identified.sum() > 1:
            found.append(_judge(place, "shuffled", chance, part, policy))
        else:
            harvested = _examine(ordered, ("query", "item"), seed)
            found.append(_judge(place, "harvested", harvested, part, policy))
    return found


def _examine(rows: pl.DataFrame, unit: Sequence[str], seed: int) -> Examination:
    exposures = read_exposures(
        _codes(rows, unit),
        rows["position"].to_numpy(),
        rows["clicked"].cast(pl.Float64()).to_numpy(),
        _codes(rows, ["request_id"]),
    )
    return examination(exposures, generator=np.random.default_rng(seed))


def _codes(rows: pl.DataFrame, columns: Sequence[str]) -> IntArray:
    """(rows,) one integer per combination of ``columns``, in order of first appearance."""
    keys = rows.select(columns).unique(maintain_order=True).with_row_index("code")
    coded = rows.select(columns).join(keys, on=list(columns), how="left", maintain_order="left")
    return coded["code"].cast(pl.Int64()).to_numpy()


def _judge(
    place: tuple[str, str], method: Method, found: Examination, rows: pl.DataFrame, policy: ImplicitPolicy
) -> Correction:
    propensities = tuple(_propensity(place, found, index, policy) for index in range(len(found.positions)))
    usable = {one.position: one.weight for one in propensities if one.usable}
    clicks = rows.filter("clicked")["position"]
    weights = [usable[one] for one in clicks.to_list() if one in usable]
    effective = effective_sample_size(weights) if weights else 0.0
    verdict = _verdict(place, method, found, propensities, effective, policy)
    return Correction(*place, method, found.requests, effective, propensities, verdict)


def _propensity(place: tuple[str, str], found: Examination, index: int, policy: ImplicitPolicy) -> Propensity:
    value, low, high = (float(one[index]) for one in (found.value, found.low, found.high))
    narrow = bool(found.identified[index]) and (high - low) / 2 <= policy.widest * value
    weight = 1.0 / max(value, policy.floor) if found.identified[index] else float("nan")
    return Propensity(*place, int(found.positions[index]), value, low, high, narrow, weight)


def _verdict(  # noqa: PLR0917 - the parts of one estimate, each needed once
    place: tuple[str, str],
    method: Method,
    found: Examination,
    propensities: tuple[Propensity, ...],
    effective: float,
    policy: ImplicitPolicy,
) -> Verdict:
    where = " on ".join(place)
    missing = _missing(found, propensities, effective, policy)
    status = Status.INSUFFICIENT if missing else Status.PASS
    sentence = f"No label can be made of clicks in {where}: {missing}"
    if not missing:
        usable = [one for one in propensities if one.usable]
        sentence = (
            f"In {where} {len(usable)} of {len(propensities)} positions can be corrected for ({method}); "
            f"position {usable[-1].position} is looked at {usable[-1].value:.2f} times as often as the first "
            f"({usable[-1].low:.2f} to {usable[-1].high:.2f})."
        )
    return Verdict(
        f"implicit.examination.{place[0]}.{place[1]}",
        status,
        sentence,
        effective,
        threshold=policy.least_effective,
        n=found.requests,
        blocking=False,
    )


def _missing(
    found: Examination, propensities: Sequence[Propensity], effective: float, policy: ImplicitPolicy
) -> str:
    """Why there is too little to correct with, in one sentence; empty when there is enough."""
    if not found.units:
        return found.reason
    if found.requests < policy.least_requests:
        return f"{found.requests:,} requests inform it and {policy.least_requests:,} are needed."
    if not found.identified.any():
        return found.reason
    if sum(one.usable for one in propensities) < 2:
        return "The intervals of its positions are too wide."
    if effective < policy.least_effective:
        return f"The effective number of clicks is {effective:.1f}, below {policy.least_effective:g}."
    return ""
