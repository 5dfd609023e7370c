"""Guardrails: the two questions kept apart, the corrections, and the incidents of the design chapters."""

from __future__ import annotations

import numpy as np
import pytest

from mangaassist.core.verdict import Status, worst
from mangaassist.experiments.cohorts import Month, erosion_verdicts, floor_verdict
from mangaassist.experiments.guardrails import Finding, judge, measure
from mangaassist.experiments.plan import Correction, Guardrail, Kind, Metric, Rule
from mangaassist.experiments.readings import Method, Reading
from mangaassist.stats.effects import Effect, Term, compare
from mangaassist.stats.effects import Metric as Form
from mangaassist.stats.inference import fixed, non_inferiority
from mangaassist.stats.intervals import Estimate
from mangaassist.stats.moments import of_rows

IUT = Correction.INTERSECTION_UNION


def harm(
    name: str, value: float, limit: float, p: float, *, rule: Rule = Rule.HARM, safe_p: float = 1.0
) -> Finding:
    return Finding(name, rule, value, limit, "down" if limit < 0 else "up", p, safe_p)


# AML-05: the five guardrails as they stood at the launch review, p-values as printed there.
REVIEW = [
    Finding("latency_p95_ms", Rule.CEILING, 740.0, 800.0, "up", 1.0, 1.0, relative=False),
    harm("csat", -0.0143, -0.01, 0.02),
    harm("retention_28d", -0.0059, -0.005, 0.18),
    harm("spam_rate", 0.0, 0.05, 0.5),
    harm("cohort.locale=ja", 0.018, -0.03, 0.96, rule=Rule.COHORT),
]


def test_incident_csat_is_vetoed_mechanically() -> None:
    """AML-05, GRD-1: CSAT -1.43% at p .02 against -1% is a veto; retention -0.59% at p .18 is a near veto."""
    verdicts = {one.name: one for one in judge(REVIEW, IUT, final=True)}
    assert verdicts["guardrail.csat"].status is Status.FAIL
    assert "Mechanical veto" in verdicts["guardrail.csat"].sentence
    assert verdicts["guardrail.retention_28d"].status is Status.INSUFFICIENT
    assert "near veto" in verdicts["guardrail.retention_28d"].sentence
    assert not verdicts["guardrail.retention_28d"].blocking
    for name in ("latency_p95_ms", "spam_rate", "cohort.locale=ja"):
        assert verdicts[f"guardrail.{name}"].status is Status.PASS
    assert worst(verdicts.values()) is Status.FAIL


@pytest.mark.parametrize("correction", [Correction.BONFERRONI, Correction.HOLM])
def test_the_correction_decides_and_is_registered_in_advance(correction: Correction) -> None:
    """GRD-1: under Bonferroni or Holm the same p of .02 among four is .08, a near veto. Chosen beforehand."""
    verdicts = {one.name: one for one in judge(REVIEW, correction, final=True)}
    assert verdicts["guardrail.csat"].status is Status.INSUFFICIENT


def test_incident_japan_is_vetoed_while_everybody_wins() -> None:
    """AML-06, COH-1: aggregate +2.8%, EN +4.1%, mixed +2.5%, JP -8.2% against -3%."""
    cohorts = [
        harm("cohort.locale=en", 0.041, -0.03, 1.0, rule=Rule.COHORT),
        harm("cohort.locale=ja", -0.082, -0.03, 1e-6, rule=Rule.COHORT),
        harm("cohort.locale=mixed", 0.025, -0.03, 0.9, rule=Rule.COHORT),
    ]
    for correction in Correction:
        found = {one.name: one.status for one in judge(cohorts, correction, final=False)}
        assert found["guardrail.cohort.locale=ja"] is Status.FAIL
        assert found["guardrail.cohort.locale=en"] is Status.PASS


def test_harm_veto_and_must_prove_safe_answer_different_questions() -> None:
    """GRD-1: no shown harm passes a veto and fails a proof; the proof's alpha is never corrected."""
    unsure = {"value": -0.004, "limit": -0.01, "p": 0.3}
    veto, proof = judge(
        [harm("a", **unsure), harm("b", **unsure, rule=Rule.SAFE, safe_p=0.2)], IUT, final=True
    )
    assert veto.status is Status.PASS
    assert proof.status is Status.INSUFFICIENT
    assert proof.blocking
    many = [harm(f"s{i}", 0.0, -0.01, 0.5, rule=Rule.SAFE, safe_p=0.04) for i in range(5)]
    assert all(one.status is Status.PASS for one in judge(many, Correction.BONFERRONI, final=True))


def test_the_reference_family_is_corrected_as_published() -> None:
    """Reference: p = [.01, .04, .03, .005] is Holm [.03, .06, .06, .02], Bonferroni [.04, .16, .12, .02]."""
    family = [harm(str(i), -0.02, -0.01, p) for i, p in enumerate([0.01, 0.04, 0.03, 0.005])]
    vetoed = {c: [v.status is Status.FAIL for v in judge(family, c, final=True)] for c in Correction}
    assert vetoed[Correction.HOLM] == [True, False, False, True]
    assert vetoed[Correction.BONFERRONI] == [True, False, False, True]
    assert vetoed[IUT] == [True] * 4


@pytest.mark.parametrize("relative", [True, False])
def test_the_safety_question_is_the_test_against_the_margin(relative: bool) -> None:
    """GRD-1: the shifted reading of must-prove-safe is the non-inferiority test, Fieller's included."""
    generator = np.random.default_rng(3)
    arms = [of_rows(generator.normal(mean, 1.0, 900)) for mean in (4.19, 4.21)]
    effect = compare(arms[0], arms[1], Form(Term(0)), relative=relative)
    limit = -0.02 if relative else -0.08
    rail = Guardrail("g", Rule.SAFE, Metric("g", Kind.MEAN, "g"), limit, relative)
    found = measure(rail, effect, method=Method("fixed", 0.9, None, {}, 0, 5000.0), key="g")
    twin = non_inferiority(effect, margin=-limit)
    assert found.safe_p == pytest.approx(twin.p_value, rel=1e-9)
    assert found.harm_p == pytest.approx(fixed(effect, alternative="less").p_value, rel=1e-9)


def reading(cohort: str, treatment: float, control: float) -> Reading:
    estimate = Estimate(treatment - control, 0, 0, 100)
    effect = Effect(treatment - control, 0.001, 99.0, 100, treatment, control)
    return Reading(
        "ctr", "t", cohort, 100, treatment, control, estimate, None, 1.0, False, 0.0, 0.0, effect, None
    )


def test_the_floor_tells_a_launch_from_a_standing_problem() -> None:
    """COH-1: floor .95. JP-new falls to .873 of everybody; a cohort that always stood there passes."""
    everybody = reading("all", 0.189, 0.184)
    japan = [reading("locale=en", 0.190, 0.183), reading("tenure=new", 0.165, 0.182)]
    verdict = floor_verdict(japan, everybody, floor=0.95)[0]
    assert verdict.status is Status.FAIL
    assert verdict.value == pytest.approx(0.873, abs=5e-4)
    standing = [reading("locale=en", 0.19, 0.184), reading("tenure=new", 0.170, 0.164)]
    assert floor_verdict(standing, everybody, floor=0.95)[0].status is Status.PASS


def test_slow_erosion_is_found_in_the_cohort_it_happens_in() -> None:
    """COH-1: six months after launch JP retention has slipped by .4% in small steps, EN has not."""
    months = [
        *(Month("locale=ja", m, -0.0008 * m, 0.0005**2) for m in range(1, 7)),
        *(Month("locale=en", m, 0.0003 * (-1) ** m, 0.0005**2) for m in range(1, 7)),
    ]
    found = {one.name: one for one in erosion_verdicts(months)}
    assert found["cohort.erosion.locale=ja"].status is Status.FAIL
    assert found["cohort.erosion.locale=en"].status is Status.PASS
