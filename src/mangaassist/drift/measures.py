"""How far columns have moved: one size, one chance, and the other distances beside them.

Fifty columns looked at together find drift somewhere by chance alone, so the p-values of one look are judged
together: Benjamini and Hochberg (1995) hold the share of false discoveries among the columns that are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from mangaassist.drift.centroid import CentroidSketch
from mangaassist.drift.sketch import BinSketch, CategoricalSketch, NumericSketch, Sketch
from mangaassist.stats.divergence import jensen_shannon, kl_top_k, ks_binned, psi_test
from mangaassist.stats.multiple import benjamini_hochberg

# At most this share of the columns a look names has not moved; when none has, no more looks name any.
FALSE_DISCOVERIES = 0.01
POWER = 0.8
MINIMUM_ROWS = 100
TOP_K = 10
# Cohen (1988), ch. 2: 0.2 standard deviations are a small effect.
CENTROID_SHIFT = 0.2


@dataclass(frozen=True, slots=True)
class Measure:
    """One column, now against the reference.

    Attributes:
        name: the column.
        n: rows now.
        value: how far it moved: PSI in nats; of a centroid its way in units of the reference's spread.
        threshold: how far matters.
        p_value: chance of at least ``value`` when nothing moved.
        adjusted: the same after false-discovery control over the columns of the look.
        sufficient: whether a move of ``threshold`` would have been found at these sample sizes.
        moved: what moved most, in words.
        jensen_shannon: in bits.
        ks: largest gap of the distribution functions at the bins' edges.
        kl: Kullback-Leibler divergence on the top values, in nats.
    """

    name: str
    n: int
    value: float
    threshold: float
    p_value: float
    adjusted: float
    sufficient: bool
    moved: str
    jensen_shannon: float | None = None
    ks: float | None = None
    kl: float | None = None

    @property
    def fires(self) -> bool:
        """Far enough to matter, and too far for chance."""
        return self.value >= self.threshold and self.adjusted <= FALSE_DISCOVERIES

    def as_dict(self) -> dict[str, Any]:
        """The measure as a JSON object."""
        return asdict(self)


def measures(
    reference: Mapping[str, Sketch], now: Mapping[str, Sketch], *, threshold: float
) -> dict[str, Measure]:
    """Every column with at least :data:`MINIMUM_ROWS` rows on both sides, judged together.

    Args:
        threshold: the PSI that matters; a centroid is held against :data:`CENTROID_SHIFT`.
    """
    # The least favourable place in the Benjamini-Hochberg order is that of Bonferroni.
    level = 1 - FALSE_DISCOVERIES / max(1, len(reference))
    single = [
        _centroid(name, sketch, current, level)
        if isinstance(sketch, CentroidSketch) and isinstance(current := now[name], CentroidSketch)
        else _bins(name, sketch, now[name], threshold, level)
        for name, sketch in reference.items()
        if rows(sketch) >= MINIMUM_ROWS and rows(now[name]) >= MINIMUM_ROWS
    ]
    if not single:
        return {}
    adjusted = benjamini_hochberg([one.p_value for one in single]).tolist()
    return {one.name: replace(one, adjusted=q) for one, q in zip(single, adjusted, strict=True)}


def rows(sketch: Sketch) -> int:
    """Rows counted, the missing ones included."""
    if isinstance(sketch, CentroidSketch):
        return sketch.counted + sketch.missing
    return int(sketch.cells.sum())


def most_moved(reference: BinSketch, now: BinSketch) -> str:
    """The bin whose share changed most, in words."""
    then, current = reference.cells / reference.cells.sum(), now.cells / now.cells.sum()
    index = int(np.abs(current - then).argmax())
    return f"most moved: {reference.names[index]}, {then[index]:.1%} to {current[index]:.1%}"


def _bins(name: str, reference: Sketch, now: Sketch, threshold: float, level: float) -> Measure:
    if isinstance(reference, CentroidSketch) or isinstance(now, CentroidSketch):
        raise TypeError(f"column '{name}' is a centroid on one side only")
    then, current = reference.cells, now.cells
    n = int(current.sum())
    occupied = (then + current) > 0
    if occupied.sum() < 2:
        return Measure(name, n, 0.0, threshold, 1.0, 1.0, True, "one value then and now", 0.0, 0.0)
    test = psi_test(then[occupied], current[occupied], threshold=threshold, level=level, power=POWER)
    ordered = isinstance(reference, NumericSketch) and then[:-1].sum() > 0 and current[:-1].sum() > 0
    return Measure(
        name,
        n,
        test.value,
        threshold,
        test.p_value,
        test.p_value,
        test.power >= POWER,
        most_moved(reference, now),
        jensen_shannon(then, current),
        ks_binned(then[:-1], current[:-1]).statistic if ordered else None,
        kl_top_k(then, current, k=TOP_K) if isinstance(reference, CategoricalSketch) else None,
    )


def _centroid(name: str, reference: CentroidSketch, now: CentroidSketch, level: float) -> Measure:
    """The way of the centroid.

    Without drift the squared way is about (1/n + 1/m) tr(S) / k times a chi-square with k degrees of freedom,
    k = (tr S)^2 / tr(S^2) (Box 1954, Annals of Mathematical Statistics 25, 290-302).
    """
    n, k = now.counted, reference.dimensions
    if not n or not reference.counted or not reference.spread:
        same = n > 0 and bool(np.allclose(reference.mean, now.mean))
        moved = "one point then and now" if same else "no spread, or no embedding, to compare with"
        return Measure(name, n, 0.0, CENTROID_SHIFT, 1.0, 1.0, same, moved)
    way = float(np.linalg.norm(now.mean - reference.mean)) / reference.spread
    scale = (1 / n + 1 / reference.counted) / k
    chance = float(special.chdtrc(k, way**2 / scale))
    null = float(special.chdtri(k, 1 - level))
    power = 1 - float(special.chndtr(null, k, CENTROID_SHIFT**2 / scale))
    moved = f"the centroid moved by {way:.3f} of the reference's spread"
    return Measure(name, n, way, CENTROID_SHIFT, chance, chance, power >= POWER, moved)
