"""Is the discipline working? Each claim of the quarter against what came, with n and an interval.

A number passes when it meets its target on enough cases, fails when its interval leaves the target out on the
wrong side, and is insufficient otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
from scipy import special

from mangaassist.core.verdict import Status, Verdict
from mangaassist.portfolio import ledger_facts as known
from mangaassist.portfolio.calibration import Calibration, calibrate
from mangaassist.portfolio.evidence import Evidence, FinishedPick, Period, gather
from mangaassist.stats.domain import FloatArray
from mangaassist.stats.intervals import Estimate, bootstrap, wilson
from mangaassist.storage.ledger import Ledger

LEAST = 8
"""Fewer cases than this say nothing, whatever their rate."""
_CLOSE = 0.10
_OVERRIDES, _BREAKDOWN = 0.10, 0.20
_SEED = 11

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Bin:
    """Finished picks of similar stated confidence: mean stated, and the realised rate with its interval."""

    stated: float
    realised: Estimate


@dataclass(frozen=True, slots=True)
class Audit:
    """One period's answer.

    Attributes:
        period: what it covers.
        verdicts: one per measure.
        reliability: stated against realised confidence, in up to four bins.
        brier: mean squared error of stated confidence, None without finished picks.
        calibration: factors for the next quarter, from everything ever finished.
    """

    period: Period
    verdicts: tuple[Verdict, ...]
    reliability: tuple[Bin, ...]
    brier: float | None
    calibration: Calibration

    def verdict(self, name: str) -> Verdict:
        """The measure ``name``, which must be there."""
        return next(one for one in self.verdicts if one.name == f"audit.{name}")

    def as_dict(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return {
            "since": self.period.since,
            "until": self.period.until,
            "verdicts": [one.as_dict() for one in self.verdicts],
            "reliability": [
                {"stated": one.stated, "realised": one.realised.as_dict()} for one in self.reliability
            ],
            "brier": self.brier,
            "calibration": self.calibration.as_dict(),
        }


def audit(ledger: Ledger, *, since: datetime | None = None, until: datetime | None = None) -> Audit:
    """Audit a period of the ledger."""
    evidence = gather(ledger, Period(since, until))
    history = known.facts(ledger).history
    decided = [one for one in evidence.picks if one.past.won is not None]
    return Audit(
        evidence.period,
        measures(evidence),
        reliability(decided),
        float(np.mean([(one.past.confidence - bool(one.past.won)) ** 2 for one in decided]))
        if decided
        else None,
        calibrate(history),
    )


def measures(evidence: Evidence) -> tuple[Verdict, ...]:
    """Every measure of the audit, from its evidence alone."""
    picks = evidence.picks
    judged = [one for one in picks if one.past.won is False or one.sustained is not None]
    bets = [one for one in picks if one.swing and one.learned is not None]
    return (
        _share(
            "hit_rate",
            (sum(evidence.sustained), len(evidence.sustained)),
            "shipped experiments still had their lift after 28 days",
            at_least=0.8,
        ),
        _share(
            "pick_hit_rate",
            (sum(one.sustained is True for one in judged), len(judged)),
            "finished picks shipped a lift that lasted",
            at_least=0.6,
        ),
        _share(
            "veto_effectiveness",
            (sum(evidence.harmful), len(evidence.harmful)),
            "vetoed experiments would have done harm",
            at_least=0.7,
        ),
        _confidence("confidence", picks, [one.past.confidence for one in picks]),
        _confidence("confidence_calibrated", picks, [one.calibrated for one in picks]),
        _effort(picks),
        _override_rate(evidence),
        _pre_registration(evidence),
        _share(
            "learning",
            (sum(bool(one.learned) and not one.hindsight for one in bets), len(bets)),
            "swing bets met a learning target registered before their experiment froze",
            at_least=0.8,
        ),
        _worth(picks),
        _cohorts(evidence),
        _recovery(evidence),
    )


def _verdict(
    name: str, estimate: Estimate, target: float, better: Better, sentence: str, *, least: int = LEAST
) -> Verdict:
    """The one rule of the audit."""
    met = estimate.value >= target if better == "higher" else estimate.value <= target
    shown = estimate.high < target if better == "higher" else estimate.low > target
    status = Status.INSUFFICIENT
    if estimate.n >= least:
        status = Status.PASS if met else Status.FAIL if shown else Status.INSUFFICIENT
    if estimate.n < least:
        sentence += f" {estimate.n} cases say nothing yet; {least} would."
    elif status is Status.INSUFFICIENT:
        sentence += " The interval still holds the target."
    return Verdict(
        f"audit.{name}", status, sentence, estimate.value, estimate.low, estimate.high, target, estimate.n,
        blocking=False,
    )  # fmt: skip


def _nothing(name: str, target: float | None, sentence: str) -> Verdict:
    return Verdict(f"audit.{name}", Status.INSUFFICIENT, sentence, threshold=target, blocking=False)


def _share(name: str, counted: tuple[int, int], what: str, *, at_least: float) -> Verdict:
    hits, n = counted
    if n == 0:
        return _nothing(name, at_least, f"0 of 0 {what}.")
    found = wilson(hits, n)
    said = f"{_of(counted, found)} {what}, target at least {at_least:.0%}."
    return _verdict(name, found, at_least, "higher", said)


def _of(counted: tuple[int, int], found: Estimate) -> str:
    return f"{counted[0]} of {counted[1]} ({found.value:.0%}, {found.low:.0%} to {found.high:.0%})"


def _confidence(name: str, picks: Sequence[FinishedPick], stated: Sequence[float]) -> Verdict:
    """Predicted against realised: within ten points passes, outside the interval of what came fails."""
    both = zip(picks, stated, strict=True)
    pairs = [(bool(one.past.won), p) for one, p in both if one.past.won is not None]
    what = "after calibration" if name.endswith("calibrated") else "as stated"
    if not pairs:
        return _nothing(name, _CLOSE, f"No finished pick has a confidence {what} to compare.")
    won, expected = sum(one for one, _ in pairs), sum(p for _, p in pairs)
    found, mean = wilson(won, len(pairs)), expected / len(pairs)
    gap = Estimate(found.value - mean, found.low - mean, found.high - mean, len(pairs))
    said = (
        f"{won} of {len(pairs)} picks won, {expected:.1f} were expected {what}: {gap.value:+.0%} "
        f"({gap.low:+.0%} to {gap.high:+.0%}), target within {_CLOSE:.0%}."
    )
    status = Status.INSUFFICIENT
    if len(pairs) < LEAST:
        said += f" {len(pairs)} cases say nothing yet; {LEAST} would."
    elif not gap.low <= 0.0 <= gap.high:
        status = Status.FAIL
    elif abs(gap.value) <= _CLOSE:
        status = Status.PASS
    return Verdict(
        f"audit.{name}", status, said, gap.value, gap.low, gap.high, _CLOSE, len(pairs), blocking=False
    )


def _effort(picks: Sequence[FinishedPick]) -> Verdict:
    ratios = np.array(
        [one.past.actual_weeks / one.past.weeks for one in picks if one.past.actual_weeks is not None]
    )
    found = _mean(ratios)
    if found is None:
        return _nothing("effort", 1.3, f"{len(ratios)} finished picks: no ratio of weeks yet.")
    over = int((ratios >= 2.0).sum())
    said = (
        f"Picks took {found.value:.2f} times their estimate ({found.low:.2f} to {found.high:.2f}), {over} of "
        f"{found.n} twice or more; target at most 1.3."
    )
    return _verdict("effort", found, 1.3, "lower", said)


def _override_rate(evidence: Evidence) -> Verdict:
    counted = (evidence.overrides, evidence.vetoes)
    if not evidence.vetoes:
        return _nothing("override_rate", _OVERRIDES, "0 of 0 vetoes were overridden.")
    found = wilson(*counted)
    said = f"{_of(counted, found)} vetoes were overridden, target at most {_OVERRIDES:.0%}."
    if found.low > _BREAKDOWN:
        said += f" Above {_BREAKDOWN:.0%} the guardrails are no longer what decides."
    return _verdict("override_rate", found, _OVERRIDES, "lower", said)


def _pre_registration(evidence: Evidence) -> Verdict:
    """Experiments that ran, and picks whose result no registered experiment gave.

    Everything that ran is counted, so one violation is a fact whatever n is; the interval speaks of the team.
    """
    untested = [one.past.name for one in evidence.picks if not one.registered and not one.abandoned]
    broken = [f"{one.experiment} {one.problem}" for one in evidence.registrations if one.problem]
    broken += [f"{name} finished without an experiment" for name in untested]
    n = len(evidence.registrations) + len(untested)
    counted = (n - len(broken), n)
    what = "experiments were signed by every role before they touched anybody"
    found = _share("pre_registration", counted, what, at_least=1.0)
    if not n:
        return found
    named = f": {'; '.join(broken[:5])}." if broken else "."
    said = f"{_of(counted, wilson(*counted))} {what}{named}"
    return replace(found, status=Status.FAIL if broken else Status.PASS, sentence=said)


def _worth(picks: Sequence[FinishedPick]) -> Verdict:
    """Realised over predicted worth of the picks whose lift is known, drawn again over picks."""
    known_lifts = [(one.realised, one.predicted) for one in picks if one.realised is not None]
    pairs = np.array(known_lifts, dtype=float).reshape(-1, 2)
    if len(pairs) < 2 or pairs[:, 1].sum() <= 0:
        return _nothing("realised_worth", 0.7, f"{len(pairs)} picks have a measured lift.")
    found = bootstrap(
        lambda rows: float(pairs[rows, 0].sum() / max(pairs[rows, 1].sum(), 1e-12)),
        len(pairs),
        generator=np.random.default_rng(_SEED),
    )
    said = (
        f"{len(pairs)} picks brought {found.value:.2f} of the worth they were picked for "
        f"({found.low:.2f} to {found.high:.2f}), target at least 0.7."
    )
    return _verdict("realised_worth", found, 0.7, "higher", said)


def _cohorts(evidence: Evidence) -> Verdict:
    """Cohorts that turned out worse after a launch that cleared them; at most one a quarter."""
    count, n = evidence.cohort_regressions, len(evidence.sustained)
    allowed = float(evidence.period.quarters)
    # The exact Poisson interval of a count (Garwood 1936, Biometrika 28, 437-442).
    low = float(special.gammaincinv(count, 0.025)) if count else 0.0
    found = Estimate(float(count), low, float(special.gammaincinv(count + 1, 0.975)), n)
    said = f"{count} cohorts turned out worse after {n} launches; at most {allowed:g} are accepted."
    verdict = _verdict("cohort_regressions", found, allowed, "lower", said)
    if count > allowed and n:
        # More than accepted is a fact about this quarter, not an estimate of a rate.
        return replace(verdict, status=Status.FAIL, sentence=said)
    return verdict


def _recovery(evidence: Evidence) -> Verdict:
    """Mean minutes to recovery; the target is the mean of the time before."""
    found = _mean(np.array(evidence.recoveries))
    before = float(np.mean(evidence.earlier_recoveries)) if evidence.earlier_recoveries else None
    if found is None:
        return _nothing("recovery_minutes", before, f"{len(evidence.recoveries)} recovered incidents.")
    interval = f"{found.value:.0f} minutes to recover ({found.low:.0f} to {found.high:.0f})"
    said = f"{found.n} incidents took {interval}"
    if before is None:
        said += ", with none before to compare."
        verdict = _verdict("recovery_minutes", found, found.value, "lower", said)
        return replace(verdict, status=Status.INSUFFICIENT, threshold=None)
    said = f"{said}, {before:.0f} on {len(evidence.earlier_recoveries)} before."
    return _verdict("recovery_minutes", found, before, "lower", said)


def _mean(values: FloatArray) -> Estimate | None:
    """A mean with a bootstrap interval; None for fewer than two values."""
    if len(values) < 2:
        return None
    return bootstrap(
        lambda rows: float(values[rows].mean()), len(values), generator=np.random.default_rng(_SEED)
    )


def reliability(decided: Sequence[FinishedPick], *, bins: int = 4) -> tuple[Bin, ...]:
    """Stated against realised confidence in bins of equal size, at least four picks each."""
    ordered = sorted(decided, key=lambda one: one.past.confidence)
    groups = min(bins, len(ordered) // 4)
    if groups == 0:
        return ()
    found = []
    for rows in np.array_split(np.arange(len(ordered)), groups):
        own = [ordered[row].past for row in rows]
        won = sum(bool(one.won) for one in own)
        found.append(Bin(float(np.mean([one.confidence for one in own])), wilson(won, len(own))))
    return tuple(found)
