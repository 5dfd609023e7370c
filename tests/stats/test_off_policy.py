"""Off-policy evaluation (issue: off-policy and correlation).

Tolerances: EXACT 1e-9 for the hand fixture; PRINTED 5e-11, the Open Bandit references carry ten decimals;
ESS .005.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mangaassist.core.errors import GateRefused, InputError
from mangaassist.stats.off_policy import (
    Log,
    effective_sample_size,
    estimate,
    evaluate,
    read_log,
    support,
)

EXACT = 1e-9
PRINTED = 5e-11


def hand() -> Log:
    return read_log(
        [0.25, 0.5, 0.5, 0.2],
        [0.5, 0.25, 0.75, 0.1],
        [1, 0, 1, 1],
        predicted=[0.8, 0.3, 0.6, 0.4],
        value=[0.6, 0.4, 0.5, 0.5],
    )


def test_hand_fixture() -> None:
    log = hand()
    for name, value in (("ips", 1.0), ("snips", 8 / 9), ("dm", 0.5), ("dr", 0.7875)):
        assert estimate(log, name).value == pytest.approx(value, abs=EXACT)
    assert estimate(log, "ips", clip=1.0).value == pytest.approx(0.625, abs=EXACT)
    assert effective_sample_size(log.weight) == pytest.approx(3.0, abs=EXACT)


def test_switching_moves_from_doubly_robust_to_the_model() -> None:
    log = hand()
    assert estimate(log, "switch-dr", switch=np.inf).value == estimate(log, "dr").value
    assert estimate(log, "switch-dr", switch=0.1).value == estimate(log, "dm").value
    # Only the row of weight 2 exceeds 1.5: its correction 2 * (1 - .8) / 4 is dropped.
    assert estimate(log, "switch-dr", switch=1.5).value == pytest.approx(0.7875 - 0.1, abs=EXACT)


def bandit(folder: Path, campaign: str, arms: int) -> Log:
    with (folder / "bandit_open_bandit" / "bts" / campaign / f"{campaign}.csv").open(
        encoding="utf-8"
    ) as lines:
        header, *rows = list(csv.reader(lines))
    column = next(i for i, name in enumerate(header) if name in ("propensity_score", "action_prob"))
    logged = [float(row[column]) for row in rows]
    reward = [float(row[header.index("click")]) for row in rows]
    return read_log(logged, np.full(len(rows), 1 / arms), reward)


@pytest.mark.data
def test_open_bandit_men(data_dir: Path) -> None:
    """The uniform policy from the Thompson-sampling log; the uniform policy's own log clicked at .0046."""
    log = bandit(data_dir, "men", 34)
    assert estimate(log, "ips").value == pytest.approx(0.0030086263, abs=PRINTED)
    assert estimate(log, "snips").value == pytest.approx(0.0031894232, abs=PRINTED)
    clipped = evaluate(log, "snips", clip=10.0)
    assert clipped.value == pytest.approx(0.0038310784, abs=PRINTED)
    assert clipped.low < 0.0046 < clipped.high
    assert support(log).effective_n == pytest.approx(655.71, abs=0.005)


@pytest.mark.data
def test_open_bandit_women_is_refused(data_dir: Path) -> None:
    log = bandit(data_dir, "women", 46)
    assert estimate(log, "ips").value == pytest.approx(0.0074375775, abs=PRINTED)
    assert estimate(log, "snips").value == pytest.approx(0.0023730461, abs=PRINTED)
    assert support(log).effective_n == pytest.approx(2.078, abs=5e-4)
    for estimator in ("ips", "snips"):
        with pytest.raises(GateRefused, match=r"effective sample size is 2\.1"):
            evaluate(log, estimator)


def world(rng: np.random.Generator, n: int) -> tuple[Log, float]:
    """Three actions, four contexts, a known truth and a reward model that is wrong by a constant."""
    reward = rng.uniform(0.1, 0.6, (4, 3))
    logging, target = rng.dirichlet([3, 3, 3], 4), rng.dirichlet([2, 2, 2], 4)
    context = rng.integers(0, 4, n)
    action = (rng.random((n, 1)) > np.cumsum(logging[context], axis=1)[:, :-1]).sum(axis=1)
    seen = (rng.random(n) < reward[context, action]) * 1.0
    model = reward + 0.1
    log = read_log(
        logging[context, action],
        target[context, action],
        seen,
        predicted=model[context, action],
        value=(target * model).sum(axis=1)[context],
    )
    return log, float((target * reward).sum(axis=1).mean())


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_estimators_are_unbiased_and_cover(estimator: str) -> None:
    """400 logs of 800 rows: 95% intervals cover within 4 points and errors have no side."""
    rng = np.random.default_rng(0)
    hits, errors = 0, []
    for _ in range(400):
        log, truth = world(rng, 800)
        found = estimate(log, estimator)
        hits += found.low <= truth <= found.high
        errors.append((found.value - truth) / max((found.high - found.low) / 3.92, 1e-9))
    assert hits / 400 == pytest.approx(0.95, abs=0.04)
    assert abs(np.mean(errors)) < 0.25


def test_doubly_robust_survives_a_wrong_model_and_dm_does_not() -> None:
    rng = np.random.default_rng(1)
    dm, dr, ips = [], [], []
    for _ in range(200):
        log, truth = world(rng, 800)
        dm.append(estimate(log, "dm").value - truth)
        dr.append(estimate(log, "dr").value - truth)
        ips.append(estimate(log, "ips").value - truth)
    assert np.mean(dm) == pytest.approx(0.1, abs=0.01)
    assert abs(np.mean(dr)) < 0.01
    assert np.std(dr) < np.std(ips)


def test_missing_support_is_noticed() -> None:
    """The target mostly plays an action the log never shows: weights average far below 1."""
    rng = np.random.default_rng(2)
    log = read_log(np.full(2000, 0.5), np.full(2000, 0.05), rng.integers(0, 2, 2000))
    found = support(log)
    assert not found.sufficient
    assert "mean weight" in found.reason
    with pytest.raises(GateRefused):
        evaluate(log, "snips")
    assert support(read_log(np.full(2000, 0.5), np.full(2000, 0.5), rng.integers(0, 2, 2000))).sufficient


def test_impossible_logs_are_refused() -> None:
    for logged, target in (
        ([0.0, 0.5], [0.5, 0.5]),
        ([-0.1, 0.5], [0.5, 0.5]),
        ([0.5, 0.5], [1.2, 0.5]),
        ([0.5], [0.5, 0.5]),
    ):
        with pytest.raises(InputError):
            read_log(logged, target, [1.0] * len(logged))
    with pytest.raises(InputError, match="both"):
        read_log([0.5], [0.5], [1.0], predicted=[0.5])
    with pytest.raises(InputError, match="reward model"):
        estimate(read_log([0.5, 0.5], [0.5, 0.5], [1.0, 0.0]), "dr")
