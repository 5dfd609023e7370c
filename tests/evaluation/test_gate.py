"""The offline gate: every rule passes, fails and holds where it should, in sentences a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.scripted import STORY, answers_of

from mangaassist.core.story import Story, Threshold
from mangaassist.core.verdict import Status, Verdict, worst
from mangaassist.evaluation.answers import Answers
from mangaassist.evaluation.gate import metric, offline_gate
from mangaassist.evaluation.paired import paired_change, unpaired_change
from mangaassist.evaluation.report import Adversarial, Attack, EvaluationReport, Latency, Metric
from mangaassist.evaluation.slices import slice_matrix
from mangaassist.stats.intervals import wilson

ORDER, RETURN, ESCALATION = 2, 3, 1


def report(
    right: dict[int, tuple[int, int]],
    *,
    attacked: float = 0.85,
    p95: float = 2.0,
    abstain_escalations: int = 0,
    rows_id: str = "rows",
    floor: float = 0.4,
) -> EvaluationReport:
    """(right, n) per label code; wrong rows are answered with "order", wrong orders with "return"."""
    actual: list[int] = []
    said: list[int] = []
    abstains: list[bool] = []
    for label, (correct, n) in right.items():
        actual += [label] * n
        said += [label] * correct + [RETURN if label == ORDER else ORDER] * (n - correct)
        quiet = abstain_escalations if label == ESCALATION else 0
        abstains += [True] * quiet + [False] * (n - quiet)
    language = ["en" if i % 2 else "ja" for i in range(len(actual))]
    answers = answers_of(actual, said, abstains=abstains, rows_id=rows_id, language=language)
    return built(answers, attacked, p95, floor)


def built(answers: Answers, attacked: float, p95: float, floor: float) -> EvaluationReport:
    n = len(answers.actual)
    recalls = {
        label: Metric.of(wilson(int(answers.correct[rows].sum()), int(rows.sum())))
        for label in answers.labels
        if (rows := answers.with_label(label)).any()
    }
    hard = Metric(attacked, attacked - 0.01, attacked + 0.01, 4000)
    return EvaluationReport(
        story="intent",
        on="golden",
        metrics={
            "accuracy": Metric.of(wilson(int(answers.correct.sum()), n), floors={"majority": floor}),
            "log_loss": Metric(0.5, 0.4, 0.6, n),
        },
        recalls=recalls,
        languages={},
        answers=answers,
        adversarial=Adversarial(hard, 0.9, (Attack("homoglyphs", 500, 0.9, 0.8, 0.76, 0.84, ("a", "b")),)),
        latency=Latency(1000, p95 / 2, p95, p95 * 1.5, p95 * 0.9, p95 * 1.1, p95 / 2),
    )


GOOD = {ORDER: (930, 1000), RETURN: (95, 100), ESCALATION: (38, 40)}


def found(verdicts: Sequence[Verdict], name: str) -> Verdict:
    [one] = [verdict for verdict in verdicts if verdict.name == name]
    return one


def story(*thresholds: Threshold) -> Story:
    return replace(STORY, thresholds=thresholds)


def test_a_first_version_passes_without_a_champion() -> None:
    """PRO-6: comparisons say that there is nothing to compare with."""
    verdicts = offline_gate(STORY, report(GOOD), None)
    assert worst(verdicts) is Status.PASS
    accuracy = found(verdicts, "golden.accuracy")
    assert accuracy.sentence.startswith(
        "Accuracy on the golden set is 93.2% (91.6% to 94.6%, n = 1,140), no champion"
    )
    assert found(verdicts, "latency.p95_ms").sentence.endswith("2.00 ms, at most 15 ms required.")
    assert "no champion" in found(verdicts, "safety.label=return").sentence


def test_every_number_is_carried() -> None:
    """PRO-9: value, interval, threshold and n stand in the verdict, not only in the sentence."""
    verdict = found(
        offline_gate(story(Threshold("golden.accuracy", minimum=0.9)), report(GOOD), None), "golden.accuracy"
    )
    assert (verdict.value, verdict.threshold, verdict.n) == (pytest.approx(1063 / 1140), 0.9, 1140)
    assert verdict.low < verdict.value < verdict.high


@pytest.mark.parametrize(("right", "status"), [(930, Status.PASS), (928, Status.PASS), (927, Status.FAIL)])
def test_accuracy_may_fall_by_two_tenths_of_a_point(right: int, status: Status) -> None:
    """PRO-6: candidate >= champion - 0.2 points, exactly 0.2 included."""
    plain = replace(STORY, safety_critical=())
    verdicts = offline_gate(plain, report({ORDER: (right, 1000)}), report({ORDER: (930, 1000)}))
    verdict = found(verdicts, "golden.accuracy")
    assert verdict.status is status
    assert "a loss of 0.20 points is allowed" in verdict.sentence
    if right == 927:
        assert "0.30 points lower than the champion's" in verdict.sentence


def test_a_storys_minimum_keeps_the_default_regression() -> None:
    """PRO-6: setting one number does not switch the other off."""
    rule = story(Threshold("golden.accuracy", minimum=0.5))
    assert found(
        offline_gate(rule, report(GOOD), report({**GOOD, ORDER: (950, 1000)})), "golden.accuracy"
    ).status is (Status.FAIL)


def test_below_its_minimum_it_fails() -> None:
    verdict = found(
        offline_gate(story(Threshold("golden.accuracy", minimum=0.95)), report(GOOD), None), "golden.accuracy"
    )
    assert verdict.status is Status.FAIL
    assert verdict.sentence.endswith("at least 95.0% is required.")


@pytest.mark.parametrize(
    "name", ["golden.f2", "golden.recall.gift", "slice.language=fr", "adversarial.x", "latency.p42_ms"]
)
def test_a_metric_the_report_lacks_holds(name: str) -> None:
    """EVA-1: nothing passes for lack of evidence."""
    verdict = found(offline_gate(story(Threshold(name, minimum=0.1)), report(GOOD), None), name)
    assert verdict.status is Status.INSUFFICIENT
    assert "0 rows" in verdict.sentence


def test_too_few_rows_hold() -> None:
    verdicts = offline_gate(replace(STORY, safety_critical=()), report({ORDER: (20, 20)}), None)
    assert found(verdicts, "golden.accuracy").status is Status.INSUFFICIENT


def test_a_threshold_can_name_any_metric() -> None:
    whole = replace(report(GOOD), slices=slice_matrix(report(GOOD).answers, ("language",)))
    for name in (
        "golden.recall.return",
        "slice.language=ja",
        "adversarial.homoglyphs",
        "adversarial.accuracy",
    ):
        assert metric(whole, name) is not None
        assert (
            found(offline_gate(story(Threshold(name, minimum=0.5)), whole, None), name).status is Status.PASS
        )
    flag = found(
        offline_gate(story(Threshold("golden.recall.return", 0.99, blocking=False)), whole, None),
        "golden.recall.return",
    )
    assert (flag.status, flag.blocking) == (Status.FAIL, False)
    assert flag.sentence.startswith("Recall of 'return' on the golden set is 95.0%")


def test_lower_is_better_where_it_is() -> None:
    """A minimum of a loss or a latency reads as the most that is allowed."""
    rule = story(Threshold("golden.log_loss", minimum=0.4))
    assert found(offline_gate(rule, report(GOOD), None), "golden.log_loss").status is Status.FAIL
    rule = story(Threshold("golden.log_loss", regression=0.05))
    worse = replace(report(GOOD), metrics={**report(GOOD).metrics, "log_loss": Metric(0.6, 0.5, 0.7, 1140)})
    verdict = found(offline_gate(rule, worse, report(GOOD)), "golden.log_loss")
    assert verdict.status is Status.FAIL
    assert "0.1 worse than the champion's" in verdict.sentence


@pytest.mark.parametrize(("p95", "status"), [(15.0, Status.PASS), (15.2, Status.FAIL)])
def test_latency_has_a_limit(p95: float, status: Status) -> None:
    """PRO-6, STO-1: p95 within 15 ms."""
    assert found(offline_gate(STORY, report(GOOD, p95=p95), None), "latency.p95_ms").status is status


def test_the_adversarial_regression_has_a_ceiling() -> None:
    """EVA-1: more than 2 points worse under attack than the champion is a hard fail."""
    verdict = found(offline_gate(STORY, report(GOOD, attacked=0.82), report(GOOD)), "adversarial.accuracy")
    assert (verdict.status, verdict.blocking) == (Status.FAIL, True)
    assert found(
        offline_gate(STORY, report(GOOD, attacked=0.84), report(GOOD)), "adversarial.accuracy"
    ).passed


def test_a_model_below_a_trivial_one_is_broken() -> None:
    verdict = found(offline_gate(STORY, report(GOOD, floor=0.99), None), "golden.floor")
    assert verdict.status is Status.FAIL
    assert "below the 99.0% of the majority" in verdict.sentence


def test_a_safety_critical_label_may_not_regress() -> None:
    """PRO-6: 12 of 100 returns newly missed is no accident, whatever the average gains."""
    better = {ORDER: (990, 1000), RETURN: (83, 100), ESCALATION: (38, 40)}
    verdicts = offline_gate(STORY, report(better), report(GOOD))
    assert found(verdicts, "golden.accuracy").passed
    verdict = found(verdicts, "safety.label=return")
    assert (verdict.status, verdict.blocking) == (Status.FAIL, True)
    assert verdict.sentence == (
        "Recall where label=return is 83.0%, down 12.0 points from the champion's 95.0% "
        "(12 rows lost, 0 gained, n = 100): more than chance explains."
    )
    assert verdict.value == pytest.approx(-0.12)
    assert verdict.low < -0.12 < verdict.high < 0


def test_noise_in_a_safety_critical_label_is_not_a_regression() -> None:
    verdict = found(
        offline_gate(STORY, report({**GOOD, RETURN: (93, 100)}), report(GOOD)), "safety.label=return"
    )
    assert verdict.status is Status.PASS
    assert verdict.sentence.endswith("within chance.")


def test_different_rows_are_compared_as_such() -> None:
    """PRO-6: a refreshed golden set still compares, less sharply, and says so."""
    worse = report({**GOOD, RETURN: (70, 100)}, rows_id="refreshed")
    verdict = found(offline_gate(STORY, worse, report(GOOD)), "safety.label=return")
    assert verdict.status is Status.FAIL
    assert "measured on different rows" in verdict.sentence


def test_a_safety_critical_label_without_rows_holds() -> None:
    """EVA-1: a golden set that cannot judge a safety-critical label does not promote."""
    verdicts = offline_gate(STORY, report({ORDER: (930, 1000), RETURN: (5, 5)}), None)
    assert found(verdicts, "safety.label=return").status is Status.INSUFFICIENT
    assert found(verdicts, "golden.escalation_misses").status is Status.INSUFFICIENT
    assert worst(verdicts) is Status.INSUFFICIENT


def test_one_more_missed_escalation_is_one_too_many() -> None:
    """PRO-6: no increase at all; an abstention is a miss."""
    same = offline_gate(STORY, report(GOOD), report(GOOD))
    assert found(same, "golden.escalation_misses").passed
    worse = offline_gate(STORY, report({**GOOD, ESCALATION: (37, 40)}), report(GOOD))
    verdict = found(worse, "golden.escalation_misses")
    assert verdict.status is Status.FAIL
    assert verdict.sentence == (
        "3 of 40 escalations are missed (7.5%); the champion misses 2 of 40, and the rate may not rise."
    )
    quiet = offline_gate(STORY, report(GOOD, abstain_escalations=1), report(GOOD))
    assert found(quiet, "golden.escalation_misses").status is Status.FAIL


def test_business_weighted_harm_may_not_rise() -> None:
    """PRO-6: same accuracy, costlier misses."""
    costs = {"return": 10.0, "order": 1.0}
    champion = report({ORDER: (900, 1000), RETURN: (95, 100), ESCALATION: (38, 40)})
    candidate = report({ORDER: (907, 1000), RETURN: (88, 100), ESCALATION: (38, 40)})
    verdict = found(offline_gate(STORY, candidate, champion, costs=costs), "golden.harm")
    assert verdict.status is Status.FAIL
    assert verdict.value == pytest.approx((93 + 120) / 1140)
    assert found(offline_gate(STORY, champion, champion, costs=costs), "golden.harm").passed
    assert found(offline_gate(STORY, champion, None, costs=costs), "golden.harm").passed
    assert not [v for v in offline_gate(STORY, champion, None) if v.name == "golden.harm"]


def test_worse_slices_flag_and_the_widest_speaks() -> None:
    """EVA-1: slice regressions inform; a label inside a bad language is not told twice."""
    n = 400
    language = ["ja"] * 100 + ["en"] * 300
    actual = [ORDER if i % 2 else RETURN for i in range(n)]
    champion = answers_of(actual, actual, language=language, cohort=["a", "b", "b", "a"] * 100)
    said = [ESCALATION if i < 40 else code for i, code in enumerate(actual)]
    candidate = answers_of(actual, said, language=language, cohort=["a", "b", "b", "a"] * 100)
    reports = [
        replace(report(GOOD), answers=a, slices=slice_matrix(a, STORY.slices)) for a in (candidate, champion)
    ]
    verdicts = offline_gate(STORY, *reports)
    flags = [v.name for v in verdicts if v.name.startswith(("slice.", "regression."))]
    assert "slice.language=ja" in flags
    assert "regression.language=ja" in flags
    assert not any("language=ja &" in name for name in flags)
    assert all(not v.blocking for v in verdicts if v.name in flags)
    told = found(verdicts, "regression.language=ja").sentence
    assert told == (
        "Where language=ja, accuracy is down 40.0 points from the champion's 100.0% "
        "(40 rows lost, 0 gained, n = 100)."
    )


def test_verdict_names_are_unique() -> None:
    whole = replace(report(GOOD), slices=slice_matrix(report(GOOD).answers, STORY.slices))
    names = [verdict.name for verdict in offline_gate(STORY, whole, whole, costs={"order": 1})]
    assert len(names) == len(set(names))


def test_paired_p_is_mcnemars() -> None:
    """McNemar's exact test by its definition: P(X >= lost) with X ~ Binomial(lost + gained, 1/2)."""
    before = np.array([True] * 8 + [False] * 2)
    after = np.array([False] * 5 + [True] * 3 + [True] + [False])
    change = paired_change(before, after)
    assert (change.lost, change.gained) == (5, 1)
    assert change.p_worse == pytest.approx((6 + 1) / 64)
    assert change.low <= change.difference <= change.high
    still = paired_change(before, before)
    assert (still.p_worse, still.difference) == (1.0, 0.0)
    assert still.low < 0 < still.high


def test_the_paired_interval_covers() -> None:
    """The 95% interval of a paired difference holds the truth at least 93% of the time at n = 60."""
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(600):
        draw = generator.random(60)
        before, after = draw < 0.9, (draw < 0.82) | (draw > 0.97)
        change = paired_change(before, after)
        hits += change.low <= (0.82 + 0.03 - 0.90) <= change.high
    assert hits / 600 >= 0.93


def test_unpaired_p_is_fishers() -> None:
    from scipy.stats import fisher_exact

    change = unpaired_change((95, 100), (80, 100))
    assert change.p_worse == pytest.approx(fisher_exact([[80, 20], [95, 5]], alternative="less").pvalue)
    assert change.low < change.difference < change.high < 0
