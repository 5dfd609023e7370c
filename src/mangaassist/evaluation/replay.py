"""Counterfactual replay: quality, latency and cost had the candidate answered the logged requests (EVA-1).

Two logs can tell. In shadow the candidate answered the requests of the version that served, unseen. Where
the two answers agree, what became of the request is what would have become of it under the candidate; where
they differ nobody knows. The requests on which they agree stand for those on which they do not, weighted by
one over the chance of agreement given what is known about the request and the candidate's answer. That rests
on an assumption the log cannot check: among requests alike in those respects, agreement says nothing more
about how they would have ended. So limits without any assumption stand beside it (Manski 1990, AER 80,
319-323): every open request lost, and every one resolved. In a canary the arm was drawn by lot with a known
chance, and the estimate needs no such assumption.

The result informs and never blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.verdict import Status, Verdict
from mangaassist.stats.domain import FloatArray
from mangaassist.stats.intervals import Estimate, two_sided_z
from mangaassist.stats.off_policy import Estimator, Log, Support, contributions, read_log, support

ESTIMATORS: tuple[Estimator, ...] = ("ips", "snips", "dr")
CLIP = 10.0
LEAST_EFFECTIVE = 100.0
_PRIOR = 10.0
_THIN = 0.05
"""Share of requests whose kind of answer may lack agreement altogether before the replay is refused."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What one log says about the candidate's quality.

    Attributes:
        log: "shadow" (agreement) or "canary" (drawn arm).
        sessions: requests used, one for each user.
        agreement: share on which the two answers agree; None for a canary.
        served: share resolved as served.
        values: estimator to the candidate's share resolved; empty when refused.
        differences: estimator to candidate less served.
        bounds: the candidate's share resolved without any assumption; None for a canary.
        support: whether the log carries the estimate.
        verdict: pass, fail, or insufficient with the reason.
    """

    log: str
    sessions: int
    agreement: float | None
    served: float
    values: dict[str, Estimate]
    differences: dict[str, Estimate]
    bounds: tuple[float, float] | None
    support: Support
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """The replay as a JSON object; a refused one holds no estimate."""
        return {
            "log": self.log,
            "sessions": self.sessions,
            "agreement": self.agreement,
            "served": self.served,
            "refused": not self.values,
            "effective_sample_size": self.support.effective_n,
            "values": {name: one.as_dict() for name, one in self.values.items()},
            "differences": {name: one.as_dict() for name, one in self.differences.items()},
            "bounds": list(self.bounds) if self.bounds else None,
            "verdict": self.verdict.as_dict(),
        }


def replay_shadow(
    kind: NDArray[np.int64],
    agreed: NDArray[np.bool_],
    resolved: NDArray[np.bool_],
    *,
    margin: float,
    generator: np.random.Generator,
) -> Replay:
    """The candidate on requests it answered unseen.

    Args:
        kind: what is known about the request and the candidate's answer to it, as a code, shape (n,).
        agreed: whether both gave the same answer, shape (n,).
        resolved: whether the request ended well as served, shape (n,).
        margin: the loss that is tolerated.
        generator: splits the rows in two halves, so that no row's chance or expected outcome is its own.
    """
    outcome = resolved.astype(np.float64)
    fold = generator.integers(0, 2, len(kind))
    chance, expected = (
        _cross_fitted(kind, values, fold, where)
        for values, where in (
            (agreed.astype(np.float64), np.ones(len(kind), dtype=np.bool_)),
            (outcome, agreed),
        )
    )
    log = read_log(
        np.clip(chance, 1e-6, 1.0), agreed.astype(np.float64), outcome, predicted=expected, value=expected
    )
    thin = float(np.mean(np.bincount(kind, weights=agreed)[kind] == 0))
    known = float((outcome * agreed).mean())
    open_share = float(1.0 - agreed.mean())
    return _replay(
        "shadow",
        log,
        outcome,
        np.ones(len(kind)),
        margin=margin,
        agreement=float(agreed.mean()),
        bounds=(known, known + open_share),
        lacking=thin,
    )


def replay_canary(
    share: FloatArray,
    drawn: NDArray[np.bool_],
    kind: NDArray[np.int64],
    resolved: NDArray[np.bool_],
    *,
    margin: float,
    generator: np.random.Generator,
) -> Replay:
    """The candidate on all requests of its canary, from those it was drawn for.

    Args:
        share: the chance of being drawn at the time, shape (n,); ``drawn``: who was, shape (n,).
        kind: what is known about the request before it is answered, as a code, shape (n,).
    """
    outcome = resolved.astype(np.float64)
    fold = generator.integers(0, 2, len(kind))
    expected = _cross_fitted(kind, outcome, fold, drawn)
    logged = np.where(drawn, share, 1.0 - share)
    log = read_log(logged, drawn.astype(np.float64), outcome, predicted=expected, value=expected)
    return _replay(
        "canary",
        log,
        outcome,
        ~drawn / (1.0 - share),
        margin=margin,
        agreement=None,
        bounds=None,
        lacking=0.0,
    )


def _cross_fitted(
    kind: NDArray[np.int64], values: FloatArray, fold: NDArray[np.int64], where: NDArray[np.bool_]
) -> FloatArray:
    """Mean of ``values`` by kind over the other half's rows in ``where``, ten of the overall mean added."""
    kinds, made = int(kind.max()) + 1, np.empty(len(kind))
    for side in (0, 1):
        train = (fold != side) & where
        prior = float(values[train].mean()) if train.any() else 0.0
        n = np.bincount(kind[train], minlength=kinds)
        total = np.bincount(kind[train], weights=values[train], minlength=kinds)
        made[fold == side] = ((total + _PRIOR * prior) / (n + _PRIOR))[kind[fold == side]]
    return made


def _replay(
    name: str,
    log: Log,
    outcome: FloatArray,
    base: FloatArray,
    *,
    margin: float,
    agreement: float | None,
    bounds: tuple[float, float] | None,
    lacking: float,
) -> Replay:
    """Estimates beside what was served (rows weighted by ``base``), or a refusal."""
    n, weight = len(outcome), float(base.sum())
    served = float(base @ outcome) / weight if weight else float("nan")
    found = support(log, minimum=LEAST_EFFECTIVE)
    reasons = [found.reason] if found.reason else []
    if lacking > _THIN:
        reasons.append(f"{lacking:.0%} of the requests are of kinds on which the two never agree.")
    if not weight:
        reasons.append("Nobody was served by the other version.")
    if reasons:
        sentence = f"Replay of {n:,} sessions of the {name} is refused: {' '.join(reasons)}"
        verdict = _verdict(name, Status.INSUFFICIENT, sentence, n=n, margin=margin)
        return Replay(name, n, agreement, served, {}, {}, bounds, found, verdict)
    residual = base * (outcome - served) / base.mean()
    values, differences = {}, {}
    for label, estimator, clip in (*((one, one, np.inf) for one in ESTIMATORS), ("clipped", "ips", CLIP)):
        value, terms = contributions(log, estimator, clip=clip)
        values[label] = _estimate(value, terms)
        differences[label] = _estimate(value - served, terms - residual)
    return Replay(
        name,
        n,
        agreement,
        served,
        values,
        differences,
        bounds,
        found,
        _judged(name, differences["dr"], margin),
    )


def _estimate(value: float, terms: FloatArray) -> Estimate:
    half = two_sided_z(0.95) * float(terms.std(ddof=1)) / float(np.sqrt(len(terms)))
    return Estimate(value, value - half, value + half, len(terms), 0.95)


def _judged(name: str, difference: Estimate, margin: float) -> Verdict:
    if difference.high < 0:
        status, end = Status.FAIL, "worse than what was served"
    elif difference.low > -margin:
        status, end = Status.PASS, f"not worse by the {margin:.1%} that matter"
    else:
        status, end = Status.INSUFFICIENT, "which decides nothing"
    sentence = (
        f"Had it served the {difference.n:,} sessions of the {name}, the share resolved would have moved by "
        f"{difference.value:+.1%} ({difference.low:+.1%} to {difference.high:+.1%}, doubly robust): {end}."
    )
    return _verdict(name, status, sentence, n=difference.n, margin=margin, found=difference)


def _verdict(
    name: str, status: Status, sentence: str, *, n: int, margin: float, found: Estimate | None = None
) -> Verdict:
    value, low, high = (found.value, found.low, found.high) if found else (None, None, None)
    return Verdict(
        f"replay.quality.{name}", status, sentence, value, low, high, threshold=-margin, n=n, blocking=False
    )
