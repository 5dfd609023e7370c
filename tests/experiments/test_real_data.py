"""Real experiments and a real bandit log, compared with numbers published beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status
from mangaassist.experiments.analysis import Look, analyse
from mangaassist.experiments.off_policy import LogColumns, OffPolicy, evaluate_file, judge
from mangaassist.experiments.schema import Purpose, read_plan
from mangaassist.experiments.unit_table import scan
from mangaassist.stats.off_policy import Estimator, estimate, read_log

# The listed estimates carry ten decimals: half of the last one.
LISTED = 5e-11

HILLSTROM = """\
primary: {name: visit, column: visit, kind: proportion}
secondary:
  - {name: spend, column: spend}
  - {name: conversion, column: conversion, kind: proportion}
arms: {No E-Mail: 1/3, Mens E-Mail: 1/3, Womens E-Mail: 1/3}
columns: {unit: customer, arm: segment}
cohorts: [{dimension: channel, shares: {Phone: 44%, Web: 44%, Multichannel: 12%}}]
"""


@pytest.mark.data
def test_hillstrom_is_reproduced_with_intervals_and_cohorts(data_dir: Path) -> None:
    """EXP-4, COH-1: 64,000 customers, three arms; rates per arm as published, Welch as scipy."""
    frame = scan(data_dir / "ab_hillstrom_email" / "hillstrom.csv").with_row_index("customer").collect()
    plan = read_plan(HILLSTROM, source="hillstrom", purpose=Purpose.EXPLORE)
    found = analyse(plan, frame.lazy(), Look(0, final=True))
    by_key = {(one.metric, one.arm): one for one in found.readings}
    mens, womens = by_key["visit", "Mens E-Mail"], by_key["visit", "Womens E-Mail"]
    assert (mens.control, mens.treatment, womens.treatment) == pytest.approx(
        (0.10617, 0.18276, 0.1514), abs=5e-6
    )
    spend = by_key["spend", "Mens E-Mail"]
    assert (spend.control, spend.treatment) == pytest.approx((0.6528, 1.4226), abs=5e-5)
    arms = [frame.filter(segment=name)["spend"].to_numpy() for name in ("Mens E-Mail", "No E-Mail")]
    twin = stats.ttest_ind(*arms, equal_var=False).confidence_interval(0.975)
    assert (spend.absolute.low, spend.absolute.high) == pytest.approx((twin.low, twin.high), rel=1e-9)
    assert all(one.significant for one in (mens, womens, spend))
    assert len(found.cohorts) == 6
    assert {one.name: one.status for one in found.shared}["experiment.sample_ratio"] is Status.PASS


def judged(data_dir: Path, campaign: str, clip: float = float("inf")) -> OffPolicy:
    path = data_dir / "bandit_open_bandit" / "bts" / campaign / f"{campaign}.csv"
    generator = np.random.default_rng(0)
    return evaluate_file(path, policy="uniform", columns=LogColumns(), clip=clip, generator=generator)


@pytest.mark.data
def test_open_bandit_men_as_listed(data_dir: Path) -> None:
    """EVA-4: IPS, SNIPS, clipped SNIPS and effective sample size; the on-policy rate lies in the interval."""
    found = judged(data_dir, "men")
    assert found.actions == 34
    assert found.estimates["ips"].value == pytest.approx(0.0030086263, abs=LISTED)
    assert found.estimates["snips"].value == pytest.approx(0.0031894232, abs=LISTED)
    assert found.support.effective_n == pytest.approx(655.71, abs=0.005)
    assert judged(data_dir, "men", clip=10.0).estimates["snips"].value == pytest.approx(
        0.0038310784, abs=LISTED
    )
    # The truth beside it, 46 clicks in 10,000 random impressions, has an error of its own.
    for name in ("ips", "snips", "dr", "switch-dr"):
        error = np.hypot((found.estimates[name].high - found.estimates[name].low) / 3.92, 46**0.5 / 1e4)
        assert abs(found.estimates[name].value - 0.0046) < 1.96 * error
    assert set(found.estimates) == {"ips", "snips", "dm", "dr", "switch-dr"}


@pytest.mark.data
def test_open_bandit_women_is_refused_not_printed(data_dir: Path) -> None:
    """EVA-4: an estimator with an effective sample size of 2 must be refused."""
    found = judged(data_dir, "women")
    body = found.as_dict()
    assert found.verdict.status is Status.INSUFFICIENT
    assert (body["refused"], body["estimates"]) == (True, {})
    assert found.support.effective_n == pytest.approx(2.078, abs=5e-4)
    assert "0.0023" not in str(body)


def test_the_hand_fixture_of_every_estimator() -> None:
    """EVA-4: IPS 1.0, SNIPS .888889, DM .5, DR .7875, ESS 3; clipped at 1 .625."""
    columns = {"logged": [0.25, 0.5, 0.5, 0.2], "target": [0.5, 0.25, 0.75, 0.1], "reward": [1, 0, 1, 1]}
    log = read_log(**columns, predicted=[0.8, 0.3, 0.6, 0.4], value=[0.6, 0.4, 0.5, 0.5])
    names: tuple[Estimator, ...] = ("ips", "snips", "dm", "dr")
    estimates = {name: estimate(log, name).value for name in names}
    assert estimates == pytest.approx({"ips": 1.0, "snips": 0.888889, "dm": 0.5, "dr": 0.7875}, abs=1e-6)
    assert judge(log, policy="fixture", actions=4).verdict.status is Status.INSUFFICIENT


def test_bad_logs_are_refused_with_their_column(tmp_path: Path) -> None:
    """Bad input: negative propensities, an unknown policy, a missing column."""
    rows = {"action": ["a", "b"] * 50, "reward": [0, 1] * 50, "propensity": [0.5, -0.1] * 50}
    path = tmp_path / "log.parquet"
    pl.DataFrame(rows).write_parquet(path)
    generator = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"log\.logged.*-0\.1"):
        evaluate_file(path, policy="uniform", columns=LogColumns(), generator=generator)
    with pytest.raises(InputError, match="policy"):
        evaluate_file(path, policy="greedy", columns=LogColumns(), generator=generator)
    with pytest.raises(InputError, match=r"Did you mean 'reward'\?"):
        evaluate_file(path, policy="uniform", columns=LogColumns(reward="rewards"), generator=generator)
