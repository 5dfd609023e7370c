"""Two questions that must stay apart: "is harm shown?" vetoes, "is safety shown?" has to be proven.

Harm: the change lies beyond the registered threshold and harm is significant after the registered correction.
Intersection-union leaves each test at its own alpha, because a false veto can be repeated and a false ship
cannot; Holm and Bonferroni hold down false vetoes over the whole family. Safety: "the harm is smaller than
the margin" must be shown; alpha is not corrected, the sizing pays with power (Schultzberg et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments.plan import Correction, Guardrail, Rule
from mangaassist.experiments.readings import Method
from mangaassist.stats.effects import Effect
from mangaassist.stats.inference import Inference, z_value
from mangaassist.stats.intervals import Estimate
from mangaassist.stats.multiple import bonferroni, holm

Direction = Literal["down", "up"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured for one guardrail or cohort, already adjusted for looks.

    Attributes:
        name: of the verdict.
        rule: the question asked.
        value: the change (relative or absolute as registered), or the level for a ceiling.
        low, high: its interval; None where it has none.
        limit: threshold, margin or ceiling.
        harm: the direction in which the metric gets worse.
        harm_p: one-sided p-value of "no harm", small when harm is shown.
        safe_p: one-sided p-value of "harm beyond the limit", small when safety is shown.
        alpha: one-sided level.
        n: units.
        relative: whether ``value`` is a share of control.
    """

    name: str
    rule: Rule
    value: float
    limit: float
    harm: Direction
    harm_p: float
    safe_p: float
    alpha: float = 0.05
    n: int = 0
    low: float | None = None
    high: float | None = None
    relative: bool = True

    @property
    def beyond(self) -> bool:
        """Whether the estimate lies past the limit."""
        return self.value < self.limit if self.harm == "down" else self.value > self.limit


def measure(guardrail: Guardrail, effect: Effect, *, method: Method, key: str) -> Finding:
    """Read an effect (relative or absolute, as the guardrail registered) for both questions.

    Args:
        method: whose boundary spends over looks at twice the guardrail's one-sided alpha.
        key: under which earlier z-values are kept; the safety question keeps its own.
    """
    metric = guardrail.metric
    harm: Direction = "down" if metric is None or metric.better == "higher" else "up"
    plain = method.read(effect, key)
    safety = method.read(against(effect, guardrail.threshold), f"{key}|safe")
    return Finding(
        guardrail.name,
        guardrail.rule,
        effect.value,
        guardrail.threshold,
        harm,
        _towards(plain, harm),
        _towards(safety, "up" if harm == "down" else "down"),
        guardrail.alpha,
        effect.n,
        *_bounded(plain.estimate),
        guardrail.relative,
    )


def _bounded(estimate: Estimate) -> tuple[float | None, float | None]:
    """Ends of an interval; None where it has none because control cannot be told from 0."""
    low, high = (end if isfinite(end) else None for end in (estimate.low, estimate.high))
    return low, high


def ceiling_finding(guardrail: Guardrail, *, level: float, n: int) -> Finding:
    """The treated arm's level beside its ceiling."""
    limit = guardrail.ceiling if guardrail.ceiling is not None else float("inf")
    return Finding(
        guardrail.name, Rule.CEILING, level, limit, "up", 1.0, 1.0, guardrail.alpha, n, relative=False
    )


def path_values(guardrail: Guardrail, effect: Effect, key: str) -> dict[str, float]:
    """z-values of this look for both questions, for the boundary of later looks."""
    return {key: z_value(effect), f"{key}|safe": z_value(against(effect, guardrail.threshold))}


def against(effect: Effect, limit: float) -> Effect:
    """The same evidence measured from ``limit`` instead of 0: what is left beyond a margin.

    A relative effect read by Fieller's theorem compares treatment with (1 + limit) times control.
    """
    if effect.arm_variances is None:
        return replace(effect, value=effect.value - limit)
    scale, (own, other) = 1.0 + limit, effect.arm_variances
    return replace(
        effect,
        value=effect.treatment / (scale * effect.control) - 1.0,
        control=scale * effect.control,
        arm_variances=(own, scale**2 * other),
    )


def _towards(inference: Inference, side: Direction) -> float:
    """Half of a symmetric two-sided p-value, on the asked side."""
    half = 0.5 * inference.p_value
    right_side = inference.estimate.value < 0 if side == "down" else inference.estimate.value > 0
    return half if right_side else 1.0 - half


def judge(findings: Sequence[Finding], correction: Correction, *, final: bool) -> list[Verdict]:
    """Verdicts over a whole family: the harm family corrected as registered, the rest on their own.

    Args:
        final: the last registered look; before it, what is not shown yet may still be shown.
    """
    family = [one for one in findings if one.rule in (Rule.HARM, Rule.COHORT)]
    corrected = dict(zip([id(one) for one in family], _corrected(family, correction), strict=True))
    return [_verdict(one, corrected.get(id(one), one.harm_p), correction, final=final) for one in findings]


def _corrected(family: Sequence[Finding], correction: Correction) -> list[float]:
    p = [one.harm_p for one in family]
    if not p or correction is Correction.INTERSECTION_UNION:
        return p
    return [float(one) for one in (holm(p) if correction is Correction.HOLM else bonferroni(p))]


def _verdict(one: Finding, harm_p: float, correction: Correction, *, final: bool) -> Verdict:
    if one.rule is Rule.CEILING:
        return _ceiling(one)
    status, said = _safe(one, harm_p) if one.rule is Rule.SAFE else _harm(one, harm_p, correction)
    shown = f"{one.value:+.2%}" if one.relative else f"{one.value:+.4g}"
    limit = f"{one.limit:+.2%}" if one.relative else f"{one.limit:+.4g}"
    blocking = not (final and status is Status.INSUFFICIENT and one.rule is Rule.HARM)
    return Verdict(
        f"guardrail.{one.name}",
        status,
        f"{one.name} {shown} against {limit}: {said}",
        one.value,
        one.low,
        one.high,
        one.limit,
        one.n,
        blocking=blocking,
    )


def _harm(one: Finding, harm_p: float, correction: Correction) -> tuple[Status, str]:
    if one.beyond and harm_p <= one.alpha:
        return Status.FAIL, f"harm is shown (adjusted p {harm_p:.2g}, {correction}). Mechanical veto."
    if one.beyond:
        return (
            Status.INSUFFICIENT,
            f"near veto, the harm is not shown (adjusted p {harm_p:.2g}, {correction}).",
        )
    return Status.PASS, "within the threshold."


def _safe(one: Finding, harm_p: float) -> tuple[Status, str]:
    if one.safe_p <= one.alpha:
        return Status.PASS, f"shown to be safe (p {one.safe_p:.2g})."
    if one.beyond and harm_p <= one.alpha:
        return Status.FAIL, f"harm is shown (p {harm_p:.2g})."
    return Status.INSUFFICIENT, f"safety is not shown (p {one.safe_p:.2g})."


def _ceiling(one: Finding) -> Verdict:
    status = Status.FAIL if one.beyond else Status.PASS
    said = "over the ceiling. Mechanical veto." if one.beyond else "under the ceiling."
    sentence = f"{one.name} at {one.value:.4g} against {one.limit:.4g}: {said}"
    return Verdict(f"guardrail.{one.name}", status, sentence, one.value, one.low, one.high, one.limit, one.n)
