"""How often is each position of a list looked at? Examination from clicks, apart from what is worth clicking.

The position-based model says P(click) = examination(position) x attraction(unit). Only ratios of examinations
can be learnt, and only from units that were seen at more than one position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, IntArray, at_least, same_length
from mangaassist.stats.intervals import two_sided_z

_STEPS = 100
_BOOTSTRAP_STEPS = 4
_TOLERANCE = 1e-10
_MOST_UNDEFINED = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Exposures:
    """Shown rows, one per request and position; all arrays have shape (rows,).

    Attributes:
        unit: what keeps its attraction wherever it stands: a (query, item) pair, or a set of positions whose
            items were shuffled among themselves. Any integers.
        position: from 1.
        clicked: whether it was clicked.
        request: which request the row belongs to; rows of one request are resampled together. Any integers.
    """

    unit: IntArray
    position: IntArray
    clicked: FloatArray
    request: IntArray


def read_exposures(unit: ArrayLike, position: ArrayLike, clicked: ArrayLike, request: ArrayLike) -> Exposures:
    """Check and align the columns.

    Raises:
        InputError: for unequal lengths, no rows, or a position below 1.
    """
    units, places = np.asarray(unit, dtype=np.int64), np.asarray(position, dtype=np.int64)
    clicks, requests = np.asarray(clicked, dtype=np.float64), np.asarray(request, dtype=np.int64)
    at_least("exposures.rows", len(units), 1)
    for column in (places, clicks, requests):
        same_length("exposures", units, column)
    if places.min() < 1:
        raise InputError(
            "exposures.position",
            expected="positions from 1",
            got=str(places.min()),
            next_step="Count positions from 1 at the top of the list.",
        )
    return Exposures(units, places, clicks, requests)


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """Examination relative to the first position; arrays have shape (positions,).

    Attributes:
        positions: those that occur, ascending.
        value, low, high: the estimate and its interval; NaN where ``identified`` is False.
        identified: whether the log says anything about the position relative to the first.
        requests: requests with a row that informs the estimate.
        units: units that inform it: clicked, and shown at two positions or more.
        reason: why positions are missing, in one sentence; empty when none is.
    """

    positions: IntArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    identified: np.ndarray[tuple[int], np.dtype[np.bool_]]
    requests: int
    units: int
    reason: str


def examination(
    rows: Exposures, *, generator: np.random.Generator, replicates: int = 200, level: float = 0.95
) -> Examination:
    """Examination of every position relative to the first, with bootstrap intervals over requests.

    Conditional on how often a unit was clicked at all, its clicks spread over positions like
    shown x examination, whatever its attraction; maximising that likelihood needs no attraction to be
    estimated, so many rarely shown units do no harm. It is intervention harvesting (Agarwal et al. 2019,
    WSDM, "Estimating position bias without intrusive interventions") with all pairs of positions combined by
    likelihood, and for shuffled positions the swap estimate of Joachims, Swaminathan and Schnabel (2017,
    WSDM). The conditional estimator needs only the mean to be right: Wooldridge (1999), Journal of
    Econometrics 90, 77-97.

    What it assumes: attraction does not change with what made the item move. Where a ranker moved an item
    because it had become more attractive, only shuffled lists tell the truth.

    Returns:
        Intervals are normal on the logarithm. Positions that cannot be compared with the first one (no chain
        of units shown and clicked at both ends) are not identified, and nothing is when the resamples lose
        that chain too often.
    """
    places, place = np.unique(rows.position, return_inverse=True)
    table = _Table.of(rows, place, len(places))
    found = table.connected(*table.counts(None))
    if found.sum() < 2:
        reason = "No unit was clicked at one position and also shown at another, so nothing can be compared."
        return _nothing(places, table, reason)
    shown, clicks = (part[:, found] for part in table.counts(None))
    point = _maximise(shown, clicks, np.zeros(int(found.sum())), _STEPS)
    draws = table.resample(found, point, generator, replicates)
    if len(draws) < (1 - _MOST_UNDEFINED) * replicates:
        reason = f"{replicates - len(draws)} of {replicates} resamples leave positions without a comparison."
        return _nothing(places, table, reason)
    half = two_sided_z(level) * draws.std(axis=0, ddof=1)
    value, low, high = (np.full(len(places), np.nan) for _ in range(3))
    value[found], low[found], high[found] = np.exp(point), np.exp(point - half), np.exp(point + half)
    lost = ", ".join(str(one) for one in places[~found])
    reason = f"No chain of comparisons leads from position {places[0]} to {lost}." if lost else ""
    return Examination(places, value, low, high, found, table.requests, table.units, reason)


def _nothing(places: IntArray, table: _Table, reason: str) -> Examination:
    empty = np.full(len(places), np.nan)
    nowhere = np.zeros(len(places), dtype=bool)
    return Examination(places, empty, empty, empty, nowhere, table.requests, table.units, reason)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Informative rows, coded: ``cell`` is unit x positions + position, shape (rows,)."""

    cell: IntArray
    clicked: FloatArray
    request: IntArray
    units: int
    width: int
    requests: int

    @classmethod
    def of(cls, rows: Exposures, place: IntArray, width: int) -> _Table:
        """Drop units that were never clicked or seen at one position only: they say nothing about ratios."""
        _, unit = np.unique(rows.unit, return_inverse=True)
        cells = np.unique(unit * width + place)
        spread = np.bincount(cells // width, minlength=unit.max() + 1) > 1
        attractive = np.bincount(unit, weights=rows.clicked) > 0
        kept = (spread & attractive)[unit]
        unit = np.unique(unit[kept], return_inverse=True)[1]
        request = np.unique(rows.request[kept], return_inverse=True)[1]
        units = int(unit.max()) + 1 if len(unit) else 0
        requests = int(request.max()) + 1 if len(request) else 0
        return cls(unit * width + place[kept], rows.clicked[kept], request, units, width, requests)

    def counts(self, weight: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        """(units, positions) shown and clicked; ``weight`` is how often each request was drawn."""
        each = np.ones(len(self.cell)) if weight is None else weight[self.request]
        size, shape = self.units * self.width, (self.units, self.width)
        shown = np.bincount(self.cell, weights=each, minlength=size).reshape(shape)
        clicks = np.bincount(self.cell, weights=each * self.clicked, minlength=size).reshape(shape)
        return shown.astype(np.float64), clicks.astype(np.float64)

    def connected(self, shown: FloatArray, clicks: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which positions have a finite ratio to the first one.

        Ford's condition for paired comparisons: an arc leads to a position from every other one at which a
        unit clicked here was also shown; ratios are finite within a strongly connected component.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        if not self.units:
            return np.zeros(self.width, dtype=bool)
        arcs = (shown > 0).astype(np.float64).T @ (clicks > 0).astype(np.float64)
        np.fill_diagonal(arcs, 0.0)
        _, component = connected_components(csr_array(arcs), directed=True, connection="strong")
        same: np.ndarray[tuple[int], np.dtype[np.bool_]] = component == component[0]
        return same

    def resample(
        self,
        found: np.ndarray[tuple[int], np.dtype[np.bool_]],
        point: FloatArray,
        generator: np.random.Generator,
        replicates: int,
    ) -> FloatArray:
        """(usable replicates, found positions) log examination on requests drawn with replacement."""
        draws = []
        for _ in range(replicates):
            drawn = generator.integers(0, self.requests, self.requests)
            shown, clicks = self.counts(np.bincount(drawn, minlength=self.requests).astype(np.float64))
            if self.connected(shown, clicks)[found].all():
                # A resample's optimum is close to the estimate: a few Newton steps from there reach it.
                draws.append(_maximise(shown[:, found], clicks[:, found], point, _BOOTSTRAP_STEPS))
        return np.array(draws).reshape(len(draws), len(point))


def _maximise(shown: FloatArray, clicks: FloatArray, start: FloatArray, steps: int) -> FloatArray:
    """(positions,) log examination, the first one 0, by Newton's method with step halving.

    The log likelihood sum(clicks x b) - sum(unit clicks x log(shown @ exp(b))) is concave in b.
    """
    b = start.copy()
    totals = clicks.sum(axis=1)
    used = totals > 0
    shown, totals, by_position = shown[used], totals[used], clicks[used].sum(axis=0)
    height = _likelihood(b, shown, totals, by_position)
    for _ in range(steps):
        expected = shown * np.exp(b)
        share = expected / expected.sum(axis=1, keepdims=True)
        weighted = share * totals[:, None]
        slope = by_position - weighted.sum(axis=0)
        curve = np.diag(weighted.sum(axis=0)) - weighted.T @ share
        step = np.zeros_like(b)
        step[1:] = np.linalg.solve(curve[1:, 1:], slope[1:])
        while (new := _likelihood(b + step, shown, totals, by_position)) < height - 1e-9 * abs(height):
            step *= 0.5
        b, height = b + step, new
        if np.abs(step).max() < _TOLERANCE:
            break
    return b


def _likelihood(b: FloatArray, shown: FloatArray, totals: FloatArray, by_position: FloatArray) -> float:
    return float(by_position @ b - totals @ np.log(shown @ np.exp(b)))
