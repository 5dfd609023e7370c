"""Quantiles as linearised means (EXP-4).

Tolerances: COVER 2.9 points, three standard errors of .95 over 500 runs; TWIN 8%, since 1,500 bootstrap draws
know a standard error to 2% and 4,000 rows a density to 5%; SAME 1e-9, the same algebra in another order.
"""

from __future__ import annotations

import numpy as np
import pytest

from mangaassist.core.errors import InputError
from mangaassist.stats.effects import Metric, Term, compare
from mangaassist.stats.inference import fixed
from mangaassist.stats.quantiles import quantile_effect, quantile_moments

COVER, TWIN, SAME = 0.029, 0.08, 1e-9
CUPED = Metric(Term(0), (Term(1),))


def latencies(g: np.random.Generator, n: int, factor: float = 1.0) -> np.ndarray:
    """Latency now and before, correlated, shape (n, 2)."""
    habit = g.normal(0, 0.6, n)
    now, before = (np.exp(habit + g.normal(0, 0.3, n)) for _ in range(2))
    return np.stack([now * factor, before], axis=1)


def test_covers_a_tail_quantile_and_clusters_widen_it() -> None:
    """Two latency samples with equal p95."""
    rng = np.random.default_rng(14)
    hits = 0
    for _ in range(500):
        a, b = rng.lognormal(size=800), rng.lognormal(size=800)
        interval = fixed(quantile_effect(a, b, 0.95)).estimate
        hits += interval.low <= 0 <= interval.high
    assert hits / 500 == pytest.approx(0.95, abs=COVER)
    user = np.repeat(np.arange(100), 10)
    a = np.exp(np.repeat(rng.normal(size=100), 10) + 0.1 * rng.normal(size=1000))
    b = np.exp(np.repeat(rng.normal(size=100), 10) + 0.1 * rng.normal(size=1000))
    naive = quantile_effect(a, b, 0.8)
    honest = quantile_effect(a, b, 0.8, treatment_clusters=user, control_clusters=user)
    assert honest.value == pytest.approx(naive.value, rel=SAME)
    assert honest.standard_error > 2 * naive.standard_error
    with pytest.raises(InputError, match="bracket"):
        quantile_effect(a[:20], b[:20], 0.99)


def test_clusters_of_one_row_are_rows() -> None:
    rng = np.random.default_rng(2)
    a, b, unit = rng.lognormal(size=500), rng.lognormal(size=500), np.arange(500)
    plain = quantile_effect(a, b, 0.7)
    grouped = quantile_effect(a, b, 0.7, treatment_clusters=unit, control_clusters=unit)
    assert grouped.value == pytest.approx(plain.value, rel=SAME)
    assert grouped.standard_error == pytest.approx(plain.standard_error, rel=0.05)


def test_cuped_of_a_quantile_against_the_bootstrap_that_refits_everything() -> None:
    """The twin draws users anew and adjusts with its own slope each time, without any density estimate."""
    rng, n, q = np.random.default_rng(5), 4_000, 0.75
    t, c = latencies(rng, n, 1.1), latencies(rng, n)
    effect = compare(*(quantile_moments(x[:, 0], q, covariates=x[:, 1:]) for x in (t, c)), CUPED)
    draws = np.array([_refitted(rng, t, c, q) for _ in range(1_500)])
    # The best slope is the one the draws themselves show: of the raw difference on that of the covariate.
    slope = np.cov(draws.T)[0, 1] / draws[:, 1].var(ddof=1)
    twin = (draws[:, 0] - slope * draws[:, 1]).std(ddof=1)
    assert effect.standard_error == pytest.approx(twin, rel=TWIN)
    raw = quantile_effect(t[:, 0], c[:, 0], q).standard_error
    assert raw == pytest.approx(draws[:, 0].std(ddof=1), rel=TWIN)
    assert effect.variance_reduction == pytest.approx(1 - (twin / draws[:, 0].std(ddof=1)) ** 2, abs=0.05)
    assert effect.variance_reduction > 0.2


def _refitted(g: np.random.Generator, t: np.ndarray, c: np.ndarray, q: float) -> tuple[float, float]:
    own = [x[g.integers(0, len(x), len(x))] for x in (t, c)]
    return (
        float(np.quantile(own[0][:, 0], q) - np.quantile(own[1][:, 0], q)),
        float(own[0][:, 1].mean() - own[1][:, 1].mean()),
    )


def test_cuped_covers_a_real_shift_of_clustered_rows() -> None:
    """Five turns a user, a past per user: the median moves by a known amount."""
    rng, hits, reduced = np.random.default_rng(7), 0, []
    user = np.repeat(np.arange(200), 5)
    for _ in range(500):
        arms = []
        for shift in (0.5, 0.0):
            habit = rng.normal(size=200)
            now = shift + habit[user] + rng.normal(0, 0.5, 1000)
            past = habit[user] + np.repeat(rng.normal(0, 0.5, 200), 5)
            arms.append(quantile_moments(now, 0.5, covariates=past, clusters=user))
        effect = compare(arms[0], arms[1], Metric(Term(0, 1), (Term(2),)))
        interval = fixed(effect).estimate
        hits += interval.low <= 0.5 <= interval.high
        reduced.append(effect.variance_reduction)
    assert hits / 500 == pytest.approx(0.95, abs=COVER)
    assert np.mean(reduced) > 0.3


def test_what_has_no_quantile_is_refused() -> None:
    with pytest.raises(InputError):
        quantile_moments([1.0, np.nan, 2.0], 0.5)
    with pytest.raises(InputError, match=r"quantile\.clusters"):
        quantile_moments(np.arange(100.0), 0.5, clusters=np.zeros(100))
    with pytest.raises(InputError, match="differ from each other"):
        quantile_effect(np.ones(200), np.ones(200), 0.5)
