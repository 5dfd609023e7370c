"""Sizes with their inputs, claims per cohort, and the sources' 18,420 explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mangaassist.core.errors import InputError
from mangaassist.experiments.schema import Purpose, read_plan
from mangaassist.experiments.simulated_sizing import size_by_simulation
from mangaassist.experiments.sizing import Sizing, size_plan

# Reference sizes are printed to three decimals of a user; 0.1% covers the normal approximation they may hide.
RELATIVE = 1e-3

SOURCE = """\
primary: {baseline: 0.183, sigma: 0.142, mde: 3%, horizon_days: 14, claimed_per_arm: 18420}
population: {per_day: 200000}
"""


def sized(text: str) -> Sizing:
    return size_plan(read_plan(text, source="size.yaml", purpose=Purpose.SIZE))


def test_the_sources_sample_size_is_explained_not_repeated() -> None:
    """EXP-3: 18,420 does not follow from its own inputs, which give 10.5 K before CUPED and 5.2 K after."""
    before = sized(SOURCE)
    assert before.per_arm == pytest.approx(10_500, rel=0.002)
    after = sized(SOURCE + "covariates: [{column: x, measured: before, variance_reduction: 50%}]\n")
    assert after.per_arm == pytest.approx(5_251, rel=0.002)
    note = " ".join(after.notes)
    assert "18,420 per arm does not follow" in note
    assert "10,503" in note
    assert "at power 0.9" in note
    right = sized(SOURCE.replace("18420", "10500"))
    assert right.notes == ("The claimed 10,500 per arm follows from the inputs.",)


@pytest.mark.parametrize(
    ("primary", "extra", "per_arm"),
    [
        ("{baseline: 1, sigma: 1, mde_absolute: 0.5}", "", 63.766),
        ("{baseline: 1, sigma: 1, mde_absolute: 0.2}", "", 393.407),
        ("{baseline: 1, sigma: 1, mde_absolute: 1}", "power: 0.9\n", 22.021),
        ("{kind: proportion, baseline: 10%, mde_absolute: 0.02}", "", 3838.1),
        ("{kind: proportion, baseline: 20%, mde_absolute: 0.05}", "", 1091.0),
    ],
)
def test_reference_sizes(primary: str, extra: str, per_arm: float) -> None:
    """EXP-3: the reference sizes; proportions by the unpooled formula, which the step names."""
    found = sized(f"primary: {primary}\n{extra}")
    assert found.steps[0].per_arm == pytest.approx(per_arm, rel=RELATIVE)
    assert found.per_arm == int(np.ceil(found.steps[-1].per_arm))


def test_looks_arms_clusters_and_proofs_each_add_their_factor() -> None:
    """EXP-3: inflation 1.02201 for O'Brien-Fleming at 4, 7, 11, 14; design effect; power for proofs."""
    base = "primary: {baseline: 1, sigma: 1, mde_absolute: 0.1, cluster_size: 5, intraclass: 0.1}\n"
    found = sized(base + "sequential: {method: group-sequential, days: [4, 7, 11, 14]}\n")
    factors = {step.name: step.factor for step in found.steps[1:]}
    assert factors["looks (obf)"] == pytest.approx(1.02201, abs=1e-5)
    assert factors["clusters"] == pytest.approx(1.4)
    proofs = sized(base + "guardrails: [{name: g, column: g, rule: safe, threshold: -1%}]\n")
    assert proofs.inputs["power"] == pytest.approx(0.9)
    assert "0.900" in proofs.notes[0]
    uneven = sized(base + "arms: {control: 80%, treatment: 20%}\n")
    assert uneven.total > sized(base).total


def test_cohort_claims_are_powered_marginal_or_refused_in_advance() -> None:
    """EXP-3, AML-03: claims per cohort from traffic; a marginal one is inconclusive between its bounds."""
    text = (
        "primary: {baseline: 0.183, sigma: 0.142, mde: 3%, horizon_days: 14}\n"
        "population: {per_day: 5000}\n"
        "sequential: {method: group-sequential, days: [4, 7, 11, 14]}\n"
        "cohorts: [{dimension: locale, shares: {en: 55%, ja: 28%, mixed: 15%}}]\n"
    )
    found = sized(text)
    assert {one.cohort: one.claim for one in found.cohorts} == {
        "locale=en": "powered",
        "locale=ja": "marginal",
        "locale=mixed": "refused",
    }
    marginal = found.cohorts[1]
    assert "inconclusive, said in advance" in marginal.sentence
    assert marginal.detectable is not None
    assert 0.03 < marginal.detectable < 0.035
    assert found.days == pytest.approx(14 + found.total / 5000)


def test_the_curve_falls_with_the_root_of_the_size() -> None:
    """EXP-3: MDE curves."""
    curve = sized(SOURCE).curve
    assert curve[2][1] == pytest.approx(0.00549, rel=1e-3)
    assert curve[0][1] / curve[2][1] == pytest.approx(2.0, rel=1e-3)


def test_no_formula_means_simulation_from_past_users(tmp_path: Path) -> None:
    """EXP-3: power by simulation; on a normal metric it agrees with the formula."""
    generator = np.random.default_rng(8)
    values = generator.normal(10, 2, 20_000)
    pl.DataFrame({"y": values}).write_parquet(tmp_path / "past.parquet")
    text = "primary: {column: y, baseline: 10, sigma: 2, mde: 5%}\n"
    plan = read_plan(text, source="x", purpose=Purpose.SIZE)
    simulated = size_by_simulation(plan, tmp_path / "past.parquet", seed=1)
    assert simulated.per_arm == pytest.approx(size_plan(plan).per_arm, rel=0.2)
    pl.DataFrame({"z": values}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match="column 'y'"):
        size_by_simulation(plan, tmp_path / "other.parquet", seed=1)
