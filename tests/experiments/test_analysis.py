"""One look at the data: what it finds, and the planted mistakes it must catch."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from tests.experiments.examples import RERANKER
from tests.experiments.tables import table

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.verdict import Action, Status
from mangaassist.experiments.analysis import Analysis, Look, analyse
from mangaassist.experiments.checks import sample_ratio_verdict
from mangaassist.experiments.plan import Plan
from mangaassist.experiments.schema import Purpose, read_plan

Change = Callable[[pl.DataFrame], pl.DataFrame]
FINAL = Look(3, final=True)
FIRST = Look(0, final=False)
PLAN = read_plan(RERANKER, source="test")


def exploring(text: str) -> Plan:
    return read_plan(text, source="test", purpose=Purpose.EXPLORE)


def statuses(found: Analysis) -> dict[str, Status]:
    return {one.name: one.status for one in found.verdicts}


def test_a_clear_win_passes_everything_and_cuped_halves_the_variance(clock: SimulatedClock) -> None:
    """EXP-4, EXP-6: Welch with CUPED at the last look; every guardrail and cohort settled."""
    found = analyse(PLAN, table().lazy(), FINAL)
    assert found.decision(actor="test", at=clock.now()).action is Action.PROMOTE
    primary = found.readings[0]
    assert primary.relative is not None
    assert primary.relative.low < 0.06 < primary.relative.high
    # The twin: the residual variance of the planted model, .0025 of .01 + .0025 explained.
    frame = table()
    explained = np.corrcoef(frame["useful_rate"], frame["useful_rate_before"])[0, 1] ** 2
    assert primary.variance_reduction == pytest.approx(explained, abs=0.01)


def test_the_json_shows_adjusted_significance_only() -> None:
    """EXP-5: no raw p-value, z or standard error anywhere a person looks."""
    body = json.loads(json.dumps(analyse(PLAN, table().lazy(), FIRST).as_dict(), default=str))
    shown = {key for one in (*body["readings"], *body["cohorts"]) for key in one}
    assert {"adjusted_p", "significant"} <= shown
    assert not shown & {"p_value", "p", "z", "effect", "standard_error"}


def test_the_same_data_needs_more_at_an_early_look() -> None:
    """EXP-5: z of 2.6 is significant at the end and not at day 4."""
    frame = table(lift=0.019).lazy()
    first, last = (analyse(PLAN, frame, look).readings[0] for look in (FIRST, FINAL))
    assert (first.significant, last.significant) == (False, True)
    assert first.adjusted_p > 0.05 > last.adjusted_p
    assert first.absolute.high - first.absolute.low > last.absolute.high - last.absolute.low


def test_japan_is_vetoed_while_everybody_wins(clock: SimulatedClock) -> None:
    """AML-06 on data, COH-1: the cohort veto stops a significant aggregate win at the first look."""
    frame = table(60_000, lift=0.12, cohort_lift={"ja": -0.082}).lazy()
    found = analyse(PLAN, frame, FIRST)
    assert found.readings[0].significant
    assert statuses(found)["experiment.primary.useful_answer_rate"] is Status.PASS
    assert statuses(found)["guardrail.cohort.locale=ja"] is Status.FAIL
    assert found.decision(actor="test", at=clock.now()).action is Action.ROLL_BACK
    japan = next(one for one in found.cohorts if one.reading.cohort == "locale=ja")
    assert japan.harm_probability is not None
    assert japan.harm_probability > 0.99


def test_no_early_win_while_a_cohort_is_open(clock: SimulatedClock) -> None:
    """EXP-6, AML-03: the aggregate crosses, JP stands at -2.8%: the experiment goes on."""
    found = analyse(PLAN, table(9_000, lift=0.2, cohort_lift={"ja": -0.03}).lazy(), Look(2, final=False))
    assert statuses(found)["experiment.primary.useful_answer_rate"] is Status.PASS
    assert statuses(found)["guardrail.cohort.locale=ja"] is Status.INSUFFICIENT
    decision = found.decision(actor="test", at=clock.now())
    assert decision.action is Action.HOLD
    assert "still open" in decision.reason


@pytest.mark.parametrize(
    ("counts", "arms", "says"),
    [
        ([821_588, 815_482], "{control: 50%, treatment: 50%}", Status.FAIL),
        ([5000, 5200], "{control: 50%, treatment: 50%}", Status.PASS),
        ([990_000, 10_100], "{control: 99%, treatment: 1%}", Status.PASS),
    ],
)
def test_sample_ratio_alarm(counts: list[int], arms: str, says: Status) -> None:
    """EXP-2, 821588 vs 815482 has p = 1.82e-6."""
    verdict = sample_ratio_verdict(exploring(f"primary: {{column: y}}\narms: {arms}\n"), counts)
    assert verdict.status is says
    if counts[0] == 821_588:
        assert verdict.value == pytest.approx(1.82e-6, rel=0.005)


def test_a_broken_split_is_refused_not_analysed(clock: SimulatedClock) -> None:
    """EXP-2: under a mismatch no effect is read at all."""
    found = analyse(PLAN, table(control_share=0.54).lazy(), FINAL)
    assert found.readings == ()
    decision = found.decision(actor="test", at=clock.now())
    assert decision.action is Action.REFUSE
    assert "No effect may be read" in decision.reason


def test_planted_covariate_measured_after_assignment_is_caught(clock: SimulatedClock) -> None:
    """Planted bug: CUPED on a post-treatment covariate would remove the effect it carries."""
    frame = table().with_columns(useful_rate_before=pl.col("useful_rate") * 0.9)
    found = analyse(PLAN, frame.lazy(), FINAL)
    assert statuses(found)["experiment.covariates.useful_answer_rate"] is Status.FAIL
    assert found.decision(actor="test", at=clock.now()).action is Action.REFUSE


def test_planted_simpson_ramp_up_is_caught() -> None:
    """Planted bug, both days favour treatment, pooled counts favour control."""
    cells = [
        ("fri", "control", 9_900, 200),
        ("fri", "treatment", 100, 2.3),
        ("sat", "control", 5_000, 50),
        ("sat", "treatment", 5_000, 60),
    ]
    rows = [(day, arm, int(i < round(c * 10))) for day, arm, n, c in cells for i in range(n * 10)]
    frame = pl.DataFrame(rows, schema=["day", "arm", "converted"], orient="row").with_row_index("user_id")
    text = "primary: {column: converted, kind: proportion}\ncolumns: {day: day}\n"
    plan = exploring(text + "arms: {control: 149/200, treatment: 51/200}\n")
    verdict = {one.name: one for one in analyse(plan, frame.lazy(), Look(0, final=True)).verdicts}[
        "experiment.simpson.day"
    ]
    assert verdict.status is Status.FAIL
    assert verdict.value is not None
    assert verdict.threshold is not None
    assert verdict.value < 0 < verdict.threshold
    assert verdict.value == pytest.approx(-0.00456, abs=2e-4)


def test_planted_ratio_averaged_per_user_is_not_what_is_computed() -> None:
    """Planted bug: a mean of per-user ratios weighs a user of one turn like a user of fifty."""
    generator = np.random.default_rng(2)
    n = 20_000
    turns = generator.poisson(3, n) + 1
    treated = generator.random(n) < 0.5
    # Only heavy users gain: the ratio of sums moves, the mean of ratios hardly.
    useful = generator.binomial(turns, np.where(treated & (turns > 6), 0.6, 0.4))
    frame = pl.DataFrame(
        {
            "user_id": range(n),
            "arm": np.where(treated, "treatment", "control"),
            "useful": useful,
            "turns": turns,
        }
    )
    plan = exploring("primary: {name: rate, kind: ratio, column: useful, denominator: turns}\n")
    found = analyse(plan, frame.lazy(), Look(0, final=True)).readings[0]
    sums = frame.group_by("arm").agg(pl.col("useful").sum() / pl.col("turns").sum())
    twin = dict(sums.iter_rows())
    assert found.absolute.value == pytest.approx(twin["treatment"] - twin["control"], rel=1e-9)


@pytest.mark.parametrize(
    ("change", "name", "says"),
    [
        (lambda f: pl.concat([f, f.head(5)]), "experiment.units.once", "several rows"),
        (
            lambda f: pl.concat([f, *(f.head(4).with_columns(arm=pl.lit(arm)) for arm in PLAN.arms)]),
            "experiment.units.one_arm",
            "both arms",
        ),
        (
            lambda f: f.with_columns(user_id=pl.col("user_id").replace("u3", None)),
            "experiment.units.known",
            "nobody knows",
        ),
        (
            lambda f: f.with_columns(arm=pl.when(user_id="u3").then(pl.lit("b2")).otherwise("arm")),
            "experiment.arms",
            "nobody registered under 'arms': b2",
        ),
        (
            lambda f: f.with_columns(
                useful_rate=pl.when((pl.col("arm") == "control") & (pl.int_range(pl.len()) % 20 == 0))
                .then(None)
                .otherwise("useful_rate")
            ),
            "experiment.missing.useful_answer_rate",
            "no longer comparable",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_a_verdict_with_its_sentence(
    change: object, name: str, says: str, clock: SimulatedClock
) -> None:
    """Bad input: duplicates, both arms, missing units, unknown arms, values missing unevenly."""
    found = analyse(PLAN, change(table(12_000)).lazy(), FINAL)
    verdict = next(one for one in found.verdicts if one.name == name)
    assert verdict.status is Status.FAIL
    assert says in verdict.sentence
    assert found.decision(actor="test", at=clock.now()).action is Action.REFUSE


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (
            table(200).with_columns(useful_rate=pl.lit(0.2), useful_rate_before=pl.lit(0.1)),
            "differ from each other",
        ),
        (table(200).filter(pl.col("arm") == "control"), "none"),
        (
            pl.concat([table(300).filter(arm="control"), table(300).filter(arm="treatment").head(1)]),
            "2 or more",
        ),
    ],
)
def test_nothing_to_compare_is_insufficient_not_zero(frame: pl.DataFrame, says: str) -> None:
    """Bad input: zero variance, an empty arm, one user."""
    plan = exploring("primary: {column: useful_rate}\narms: {control: 99/100, treatment: 1/100}\n")
    found = analyse(plan, frame.lazy(), Look(0, final=True))
    verdicts = {one.name: one for one in found.verdicts}
    if "experiment.metric.useful_rate" in verdicts:
        assert verdicts["experiment.metric.useful_rate"].status is Status.INSUFFICIENT
        assert says in verdicts["experiment.metric.useful_rate"].sentence
    else:
        assert verdicts["experiment.sample_ratio"].status is Status.FAIL


def test_a_cohort_that_appears_mid_experiment_holds_the_decision() -> None:
    """Bad input, COH-1: a cohort without a registered threshold cannot be shown to be safe."""
    locale = pl.when(pl.int_range(pl.len()) % 50 == 0).then(pl.lit("ko")).otherwise("locale")
    found = analyse(PLAN, table().with_columns(locale=locale).lazy(), FINAL)
    assert statuses(found)["experiment.cohort.registered.locale=ko"] is Status.INSUFFICIENT


def test_novelty_and_weekdays_are_reported() -> None:
    """EXP-4: an effect that fades over entry days is named."""
    generator = np.random.default_rng(4)
    n = 28_000
    day = generator.integers(0, 14, n)
    treated = generator.random(n) < 0.5
    y = generator.normal(1, 0.5, n) + treated * (0.3 - 0.02 * day)
    frame = pl.DataFrame(
        {
            "user_id": range(n),
            "arm": np.where(treated, "treatment", "control"),
            "day": [f"2026-10-{5 + d:02d}" for d in day],
            "y": y,
        }
    )
    plan = exploring("primary: {column: y}\ncolumns: {day: day}\n")
    found = {one.name: one for one in analyse(plan, frame.lazy(), Look(0, final=True)).verdicts}
    assert found["experiment.novelty"].status is Status.FAIL
    assert found["experiment.novelty"].value == pytest.approx(-0.02, abs=0.008)
    assert found["experiment.weekdays"].status is Status.PASS


def test_several_treated_arms_share_the_error_budget(clock: SimulatedClock) -> None:
    """EXP-4: p-values are adjusted for the number of arms, the best passing arm wins."""
    frame = table(30_000, lift=0.0)
    generator = np.random.default_rng(0)
    arm = generator.choice(["control", "a", "b"], len(frame))
    lifted = pl.Series("useful_rate", frame["useful_rate"].to_numpy() * np.where(arm == "b", 1.08, 1.0))
    frame = frame.with_columns(pl.Series("arm", arm), lifted)
    plan = exploring("primary: {column: useful_rate}\narms: {control: 1/3, a: 1/3, b: 1/3}\n")
    found = analyse(plan, frame.lazy(), Look(0, final=True))
    by_arm = {one.arm: one for one in found.readings}
    assert (by_arm["a"].significant, by_arm["b"].significant) == (False, True)
    assert found.decision(actor="t", at=clock.now()).action is Action.PROMOTE


def test_quantiles_are_compared_by_their_order_statistics() -> None:
    """EXP-4: p95 latency, absolute and against its ceiling."""
    generator = np.random.default_rng(6)
    n = 20_000
    treated = generator.random(n) < 0.5
    latency = generator.lognormal(6, 0.3, n) * np.where(treated, 1.1, 1.0)
    frame = pl.DataFrame(
        {"user_id": range(n), "arm": np.where(treated, "treatment", "control"), "latency_ms": latency}
    )
    plan = exploring(
        "primary: {column: latency_ms, better: lower, name: mean_latency}\n"
        "guardrails: [{use: latency_p95_ms}]\n"
    )
    found = analyse(plan, frame.lazy(), Look(0, final=True))
    p95 = next(one for one in found.readings if one.metric == "latency_p95_ms")
    assert p95.relative is not None
    assert p95.relative.low < 0.1 < p95.relative.high
    twin = np.quantile(latency[treated], 0.95)
    assert p95.treatment == pytest.approx(twin)
    assert statuses(found)["guardrail.latency_p95_ms"] is (Status.FAIL if twin > 800 else Status.PASS)
    assert statuses(found)["experiment.primary.mean_latency"] is Status.FAIL


def test_a_quantile_primary_is_read_in_its_cohorts_too() -> None:
    """COH-1: no kind of primary escapes the cohort guardrails."""
    generator = np.random.default_rng(9)
    frame = table(12_000).with_columns(latency=pl.Series(generator.lognormal(6, 0.3, 12_000)))
    plan = exploring(
        "primary: {column: latency, kind: quantile, quantile: 0.5}\n"
        "cohorts: [{dimension: locale, shares: {en: 55%, ja: 30%, mixed: 15%}}]\n"
    )
    found = analyse(plan, frame.lazy(), Look(0, final=True))
    assert [one.reading.cohort for one in found.cohorts] == ["locale=en", "locale=ja", "locale=mixed"]
    assert "guardrail.cohort.locale=ja" in statuses(found)


def quantile_table(n: int = 12_000) -> pl.DataFrame:
    """Latency that follows the latency of the weeks before, 4% higher under treatment; some have no past."""
    generator = np.random.default_rng(10)
    habit, treated = generator.normal(6, 0.4, n), generator.random(n) < 0.5
    latency = np.exp(habit + generator.normal(0, 0.15, n)) * np.where(treated, 1.04, 1.0)
    before = np.exp(habit + generator.normal(0, 0.15, n))
    past = pl.when(pl.int_range(pl.len()) % 9 > 0).then(pl.lit(pl.Series("before", before)))
    frame = table(n).with_columns(
        arm=pl.Series(np.where(treated, "treatment", "control")), latency=pl.Series(latency)
    )
    return frame.with_columns(before=past, before_turns=pl.lit(1.0) + pl.int_range(pl.len()) % 3)


@pytest.mark.parametrize("covariates", ["before", "before/before_turns"])
def test_a_quantile_is_adjusted_like_a_mean(covariates: str) -> None:
    """EXP-4: quantile x {CUPED, ratio-CUPED}: a narrower interval around the same effect, cohorts too."""
    frame = quantile_table()
    body = "{column: latency, kind: quantile, quantile: 0.9, covariates: [%s]}"
    cohorts = "cohorts: [{dimension: locale, shares: {en: 55%, ja: 30%, mixed: 15%}}]\n"
    found = [
        analyse(exploring(f"primary: {body % names}\n{cohorts}"), frame.lazy(), Look(0, final=True))
        for names in ("", covariates)
    ]
    raw, adjusted = (one.readings[0] for one in found)
    assert raw.relative is not None
    assert adjusted.relative is not None
    assert adjusted.variance_reduction > 0.1
    assert adjusted.relative.high - adjusted.relative.low < raw.relative.high - raw.relative.low
    assert adjusted.relative.low < 0.04 < adjusted.relative.high
    assert all(one.reading.variance_reduction > 0 for one in found[1].cohorts)
    assert statuses(found[1])["experiment.covariates.latency"] is Status.PASS
    assert statuses(found[1])["experiment.units.once"] is Status.PASS


def test_a_quantile_covariate_measured_after_assignment_is_caught() -> None:
    """Planted bug: the balance test guards quantiles too."""
    frame = quantile_table().with_columns(before=pl.col("latency"))
    plan = exploring("primary: {column: latency, kind: quantile, quantile: 0.9, covariates: [before]}\n")
    assert statuses(analyse(plan, frame.lazy(), FINAL))["experiment.covariates.latency"] is Status.FAIL
