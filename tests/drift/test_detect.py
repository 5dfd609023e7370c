"""Each detector finds its own kind of drift and is blind to the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score
from tests.drift.frames import START, reference, traffic

from mangaassist.core.story import DriftPolicy, Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.drift.detect import detect_concept, detect_input, detect_label, detect_prediction
from mangaassist.drift.profile import Profile, merge_profiles
from mangaassist.drift.reference import fit_reference
from mangaassist.drift.windows import outcome_windows, request_windows

REFERENCE = reference(20_000)
POLICY = DriftPolicy()
DAY = timedelta(days=1)


def profile(frame: pl.DataFrame) -> Profile:
    windows = [*request_windows(REFERENCE, frame), *outcome_windows(REFERENCE, frame)]
    return merge_profiles([window.profile for window in windows])


def labelled(frame: pl.DataFrame) -> Profile:
    """Its labels alone."""
    return merge_profiles([one.profile for one in outcome_windows(REFERENCE, frame, every=DAY)])


def every(now: Profile, against: Profile = REFERENCE.profile) -> dict[str, Verdict]:
    detectors: list[Callable[..., list[Verdict]]] = [
        detect_input,
        detect_prediction,
        detect_label,
        detect_concept,
    ]
    return {verdict.name: verdict for detector in detectors for verdict in detector(against, now, POLICY)}


def failing(found: dict[str, Verdict]) -> set[str]:
    return {name for name, verdict in found.items() if verdict.status is Status.FAIL}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, set()),
        ({"length": 40.0}, {"drift.input.text_length"}),
        ({"japanese": 0.6}, {"drift.input.language"}),
        ({"confidence": 5.0}, {"drift.prediction"}),
        ({"prior": (0.1, 0.3, 0.4, 0.2)}, {"drift.label", "drift.prediction.label"}),
        ({"accuracy": 0.75}, {"drift.concept"}),
    ],
)
def test_each_kind_is_detected_independently(change: dict[str, float], expected: set[str]) -> None:
    """DRF-1: the drift that was put in is found, and nothing else."""
    found = every(profile(traffic(4000, seed=7, **change)))  # type: ignore[arg-type]
    assert failing(found) == expected
    assert {verdict.status for verdict in found.values()} <= {Status.PASS, Status.FAIL}
    for name in ("input.text_length", "input.device", "prediction", "label", "concept"):
        assert f"drift.{name}" in found


def test_label_drift_alone_does_not_look_like_a_model_gone_wrong() -> None:
    """DRF-1: with a hard class five times as frequent, macro-F1 at the reference's shares does not fall."""
    generator = np.random.default_rng(5)

    def drawn(prior: tuple[float, float], rows: int) -> pl.DataFrame:
        truth = generator.choice(2, rows, p=prior)
        right = generator.random(rows) < np.where(truth == 0, 0.98, 0.6)
        names = np.array(["easy", "hard"])
        frame = traffic(rows, seed=1)
        return frame.with_columns(
            truth=pl.Series(names[truth]), label=pl.Series(names[np.where(right, truth, 1 - truth)])
        )

    fitted = fit_reference(Story("s", "k", "p"), drawn((0.9, 0.1), 20_000), at=START)
    now = merge_profiles([one.profile for one in outcome_windows(fitted, drawn((0.5, 0.5), 6000))])
    (label,) = detect_label(fitted.profile, now, POLICY)
    (concept,) = detect_concept(fitted.profile, now, POLICY)
    assert label.status is Status.FAIL
    assert concept.status is Status.PASS, concept.sentence


def test_a_million_rows_do_not_fire_on_a_difference_nobody_notices() -> None:
    """DRF-1: chi-square p alone fires at a million rows; with the effect size beside it, it does not."""
    big = replace(
        REFERENCE.profile,
        truth=replace(REFERENCE.profile.truth, counts=(400_000, 300_000, 100_000, 200_000, 0)),
    )
    now = profile(traffic(1000, seed=3))
    now = replace(
        now,
        truth=replace(now.truth, counts=(404_000, 298_000, 99_000, 199_000, 0)),
        confusion=replace(now.confusion, cells={(0, 0): 1_000_000}),
    )
    (verdict,) = detect_label(big, now, POLICY)
    p_value = float(verdict.sentence.split("p = ")[1].split()[0])
    assert p_value < 1e-6
    assert verdict.status is Status.PASS
    assert verdict.value is not None
    assert verdict.value < 0.02


@pytest.mark.parametrize("rows", [0, 1, 40, 99])
def test_too_few_rows_are_insufficient(rows: int) -> None:
    """DRF-1: no drift is claimed, and none denied, from a handful of rows."""
    blank = profile(traffic(1, seed=1))
    now = profile(traffic(rows, seed=2, length=90.0, accuracy=0.1)) if rows else blank
    assert {verdict.status for verdict in every(now).values()} == {Status.INSUFFICIENT}


def test_small_healthy_samples_are_not_called_drifted() -> None:
    """DRF-1: at 200 rows a fixed PSI limit of 0.1 fires on a quarter of healthy samples; here 1% may.

    Bound: 200 samples, 2 expected at the 1% family level, 7 or fewer with probability 0.998.
    """
    policy = replace(POLICY, input_psi=0.1)
    fired = 0
    for seed in range(200):
        now = profile(traffic(200, seed=1000 + seed))
        fired += any(one.status is Status.FAIL for one in detect_input(REFERENCE.profile, now, policy))
    assert fired <= 7


def test_the_fall_of_macro_f1_equals_a_weighted_twin() -> None:
    """DRF-1: at the reference's class shares, as scikit-learn computes it from rows with weights.

    Tolerance 1e-9: the two add the same numbers in another order.
    """
    then, current = (
        traffic(3000, seed=31, prior=(0.55, 0.25, 0.05, 0.15)),
        traffic(2500, seed=32, accuracy=0.8, prior=(0.2, 0.2, 0.3, 0.3)),
    )
    fitted = fit_reference(Story("s", "k", "p"), then, at=START)
    now = merge_profiles([one.profile for one in outcome_windows(fitted, current)])
    (found,) = detect_concept(fitted.profile, now, POLICY)
    shares = dict(then["truth"].value_counts(normalize=True).iter_rows())
    present = dict(current["truth"].value_counts(normalize=True).iter_rows())
    weights = [shares[label] / present[label] for label in current["truth"]]
    before = f1_score(then["truth"], then["label"], average="macro")
    after = f1_score(current["truth"], current["label"], average="macro", sample_weight=weights)
    assert found.value == pytest.approx(before - after, abs=1e-9)


def test_concept_interval_covers_the_true_fall() -> None:
    """DRF-1: the bootstrap interval of the macro-F1 fall covers the truth about 95% of the time.

    Truth: accuracy .9 to .8 at equal error spread, from one very large sample. 60 repeats: at least 51 cover
    with probability 0.996 when coverage is 95%.
    """
    huge = labelled(traffic(200_000, seed=50, accuracy=0.8))
    base = labelled(traffic(200_000, seed=51))
    (truth,) = detect_concept(base, huge, POLICY, replicates=10)
    covered = 0
    for seed in range(60):
        then = labelled(traffic(3000, seed=100 + seed))
        now = labelled(traffic(2000, seed=300 + seed, accuracy=0.8))
        (found,) = detect_concept(then, now, POLICY, seed=seed)
        assert found.low is not None
        assert found.high is not None
        assert truth.value is not None
        covered += found.low <= truth.value <= found.high
    assert covered >= 51


def test_concept_drift_that_could_be_chance_is_insufficient() -> None:
    """DRF-1: a fall beyond the limit whose interval includes zero is neither pass nor fail."""
    (verdict,) = detect_concept(REFERENCE.profile, profile(traffic(110, seed=12, accuracy=0.86)), POLICY)
    assert verdict.status is Status.INSUFFICIENT
    assert verdict.low is not None
    assert verdict.low < 0


def test_a_rise_in_quality_is_not_drift() -> None:
    """DRF-1: only a fall counts."""
    (verdict,) = detect_concept(REFERENCE.profile, profile(traffic(4000, seed=2, accuracy=0.99)), POLICY)
    assert verdict.status is Status.PASS
    assert verdict.value is not None
    assert verdict.value < 0


def test_missing_values_are_input_drift() -> None:
    """DRF-1: a column that starts to be empty has moved."""
    frame = traffic(2000, seed=4).with_columns(
        text_length=pl.when(pl.int_range(2000) % 4 == 0).then(None).otherwise("text_length")
    )
    found = every(profile(frame))
    assert failing(found) == {"drift.input.text_length"}
    assert "most moved: missing, 0.0% to 25.0%" in found["drift.input.text_length"].sentence


def test_a_new_value_is_named() -> None:
    """DRF-1: a device never seen before is drift in that column, and the sentence says where it went."""
    frame = traffic(2000, seed=4).with_columns(
        device=pl.when(pl.int_range(2000) % 3 == 0).then(pl.lit("tv")).otherwise("device")
    )
    found = every(profile(frame))
    assert failing(found) == {"drift.input.device"}
    assert "most moved: other" in found["drift.input.device"].sentence
    assert "KL on the top 10" in found["drift.input.device"].sentence


def test_detectors_repeat_themselves() -> None:
    """DRF-1: same counts, same verdicts, to the last digit."""
    now = profile(traffic(1500, seed=21, accuracy=0.85))
    assert every(now) == every(now)
