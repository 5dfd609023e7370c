"""Whole analyses under no effect and under a known one: how often they cry wolf, how often they cover.

The long form, `make soak`, holds every cell to what was promised: type-I error within half a point of nominal
and intervals that cover 94 to 96 times in a hundred, over 20,000 runs (half a point is 3.2 standard errors
there). The short form runs fewer and allows three standard errors of its own on top, which still catches a
broken cell (a rate of .09, a coverage of .90). Runs go through the room's own path from moments to reading;
only the scan is left out.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from mangaassist.experiments.aggregation import Block, Table, UnitCheck, aggregate
from mangaassist.experiments.analysis import Look, method_for
from mangaassist.experiments.plan import Columns, Kind, Looks, Metric, Plan, Target, Transform
from mangaassist.experiments.plan import Method as Way
from mangaassist.experiments.readings import Method, effects
from mangaassist.experiments.unit_table import scan
from mangaassist.stats.effects import Effect
from mangaassist.stats.moments import Moments, of_rows
from mangaassist.stats.quantiles import quantile_moments

Users = dict[str, np.ndarray]

UNITS, LOOKS, ALPHA, LIFT = 400, (0.25, 0.5, 0.75, 1.0), 0.05, 0.2
PROMISED, LONG_RUNS, SHORT_RUNS = 0.005, 20_000, 400
COVERED = 0.01
WAYS: tuple[Way, ...] = ("fixed", "group-sequential", "always-valid")

ADJUSTED: dict[str, tuple[str, ...]] = {
    "": (),
    ", CUPED": ("before",),
    ", ratio-CUPED": ("before_useful/before_turns",),
}
OWN = {
    "mean": Metric("m", Kind.MEAN, "yen"),
    "proportion": Metric("m", Kind.PROPORTION, "bought"),
    "ratio": Metric("m", Kind.RATIO, "useful", denominator="turns"),
    "quantile": Metric("m", Kind.QUANTILE, "yen", quantile=0.8),
    "log": Metric("m", Kind.MEAN, "yen", transform=Transform.LOG),
    "winsorised": Metric("m", Kind.MEAN, "yen", transform=Transform.WINSORISE),
    "rank": Metric("m", Kind.MEAN, "yen", transform=Transform.RANK),
}
CELLS = {
    name + way: replace(one, covariates=names) for name, one in OWN.items() for way, names in ADJUSTED.items()
}


def users(g: np.random.Generator, n: int, lift: float = 0.0) -> Users:
    """Users whose taste drives what they did before and what they do now, the latter times 1 + lift."""
    taste = g.beta(2, 3, n)
    turns, before_turns = g.poisson(4, n) + 1.0, g.poisson(4, n) + 1.0
    useful = np.minimum(taste * (1 + lift), 0.99)
    return {
        "before": np.exp(2 * taste + 0.5 * g.normal(size=n)),
        "before_turns": before_turns,
        "before_useful": g.binomial(before_turns.astype(int), taste) * 1.0,
        "turns": turns,
        "useful": g.binomial(turns.astype(int), useful) * 1.0,
        "bought": (g.random(n) < 0.6 * useful) * 1.0,
        "yen": np.exp(2 * taste + 0.5 * g.normal(size=n)) * (1 + lift),
    }


def transformed(metric: Metric, arms: dict[str, Users]) -> dict[str, Users]:
    """The numpy twin of what the scan does to a column; limits and ranks are those of both arms together."""
    if metric.transform is Transform.NONE:
        return arms
    pooled = np.concatenate([one[metric.column] for one in arms.values()])
    if metric.transform is Transform.LOG:
        pooled = np.log1p(pooled)
    elif metric.transform is Transform.WINSORISE:
        pooled = np.minimum(pooled, np.quantile(pooled, metric.cap_quantile, method="nearest"))
    else:
        pooled = stats.rankdata(pooled) / len(pooled)
    ends = np.cumsum([len(one[metric.column]) for one in arms.values()])[:-1]
    parts = np.split(pooled, ends)
    return {name: {**arms[name], metric.column: part} for name, part in zip(arms, parts, strict=True)}


def moments(metric: Metric, one: Users) -> Moments:
    rows = np.stack([one[name] for name in metric.columns], axis=1)
    if metric.kind is not Kind.QUANTILE:
        return of_rows(rows)
    return quantile_moments(
        rows[:, 0], metric.quantile, covariates=rows[:, 1:] if metric.covariates else None
    )


def table_of(metric: Metric, arms: dict[str, Moments]) -> Table:
    """The table a scan of these users would have left."""
    names = list(arms)
    n = np.array([arms[name].n for name in names])
    pivot = arms["control"].mean
    shift = np.stack([arms[name].mean - pivot for name in names])
    products = np.stack([arms[k].scatter + np.outer(shift[i], shift[i]) * n[i] for i, k in enumerate(names)])
    columns = tuple(map(str, range(len(pivot))))
    block = Block(columns, pivot, n, shift * n[:, None], products)
    return Table(pl.DataFrame({"arm": names}), n, {metric.name: block}, UnitCheck(0, 0, 1, 0, 0, ""))


def plan_of(metric: Metric, way: Way) -> Plan:
    looks = Looks(way, LOOKS if way == "group-sequential" else (1.0,))
    return Plan("x", Target(metric), {"control": 0.5, "treatment": 0.5}, alpha=ALPHA, looks=looks)


def effect_of(plan: Plan, arms: dict[str, Users], upto: int) -> Effect:
    """The effect on the users who have come by one look."""
    metric = plan.primary.metric
    come = {name: {key: column[:upto] for key, column in one.items()} for name, one in arms.items()}
    found = {name: moments(metric, one) for name, one in transformed(metric, come).items()}
    return effects(table_of(metric, found), metric, plan, arm="treatment", within=np.ones(2, dtype=bool))[0]


def methods_of(plan: Plan) -> list[Method]:
    """How each of four looks reads; a fixed plan has the last one only."""
    grouped = plan.looks.method == "group-sequential"
    return [method_for(plan, Look(k if grouped else 0, final=False), alpha=ALPHA) for k in range(len(LOOKS))]


def truth_of(metric: Metric, lift: float) -> float:
    """The effect itself, from a million users: an error far below that of any experiment here."""
    if lift == 0.0:
        return 0.0
    generator, n = np.random.default_rng(3), 1_000_000
    arms = {"control": users(generator, n), "treatment": users(generator, n, lift)}
    return effect_of(plan_of(metric, "fixed"), arms, n).value


def misses(name: str, *, lift: float, runs: int, ways: Sequence[Way] = WAYS) -> dict[Way, float]:
    """Share of experiments of which any look's interval leaves out the truth.

    Without an effect this is the type-I error. With one it is what a repeated or an always-valid interval
    promises to hold down over all looks together; a fixed interval is read at the last look only.
    """
    metric, generator = CELLS[name], np.random.default_rng(11)
    plans = {way: plan_of(metric, way) for way in ways}
    readers = {way: methods_of(plan) for way, plan in plans.items()}
    truth, found = truth_of(metric, lift), dict.fromkeys(ways, 0)
    for _ in range(runs):
        arms = {"control": users(generator, UNITS), "treatment": users(generator, UNITS, lift)}
        effects_seen = [effect_of(plans[ways[0]], arms, round(f * UNITS)) for f in LOOKS]
        for way in ways:
            looked = list(zip(readers[way], effects_seen, strict=True))[-1 if way == "fixed" else 0 :]
            found[way] += any(_outside(method, effect, truth) for method, effect in looked)
    return {way: count / runs for way, count in found.items()}


def _outside(method: Method, effect: Effect, truth: float) -> bool:
    interval = method.interval(effect)
    return not interval.low <= truth <= interval.high


def check(name: str, *, lift: float, runs: int, promised: float, sampling: float) -> None:
    """Every way of looking within what is promised plus the sampling error of the check itself."""
    allowed = promised + sampling * np.sqrt(ALPHA * (1 - ALPHA) / runs)
    for way, rate in misses(name, lift=lift, runs=runs).items():
        assert rate <= ALPHA + allowed, (name, way)
        if way != "always-valid":  # which stays below its level as long as looking goes on
            assert rate >= ALPHA - allowed, (name, way)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_holds_its_error_in_short(name: str) -> None:
    """EXP-4, EXP-5: every kind and transform x {raw, CUPED, ratio-CUPED} x three ways of looking."""
    check(name, lift=0.0, runs=SHORT_RUNS, promised=PROMISED, sampling=3.0)


@pytest.mark.parametrize("name", ["mean, CUPED", "quantile, CUPED", "rank, CUPED"])
def test_intervals_cover_a_real_effect_in_short(name: str) -> None:
    """EXP-4: not only no effect is covered; a mean, a quantile and a rank form stand for the rest."""
    check(name, lift=LIFT, runs=SHORT_RUNS, promised=COVERED, sampling=3.0)


@pytest.mark.soak
@pytest.mark.parametrize("name", CELLS)
def test_type_one_error_of_every_cell(name: str) -> None:
    """EXP-4, EXP-5: within half a point of nominal over 20,000 experiments a cell."""
    check(name, lift=0.0, runs=LONG_RUNS, promised=PROMISED, sampling=0.0)


@pytest.mark.soak
@pytest.mark.parametrize("name", CELLS)
def test_coverage_of_every_cell(name: str) -> None:
    """EXP-4, EXP-5: 94 to 96% over 20,000 experiments with an effect of a fifth."""
    check(name, lift=LIFT, runs=LONG_RUNS, promised=COVERED, sampling=0.0)


def test_planted_naive_peeking_is_what_the_methods_prevent() -> None:
    """Planted bug: 1.96 at each of four looks is wrong about one null experiment in eight."""
    generator, plan, false = np.random.default_rng(2), plan_of(CELLS["mean"], "fixed"), 0
    method = methods_of(plan)[0]
    for _ in range(600):
        arms = {"control": users(generator, UNITS), "treatment": users(generator, UNITS)}
        false += any(_outside(method, effect_of(plan, arms, round(f * UNITS)), 0.0) for f in LOOKS)
    assert 0.09 < false / 600 < 0.17


@pytest.mark.soak
def test_a_hundred_million_users_in_a_partitioned_folder(tmp_path: Path) -> None:
    """EXP-4: out of core; 100 M users in 100 partitions, analysed under 2 GB beyond what the process had."""
    folder, generator = tmp_path, np.random.default_rng(0)
    for part in range(100):
        n = 1_000_000
        frame = pl.DataFrame(
            {
                "user_id": np.arange(part * n, (part + 1) * n),
                "arm": np.where(generator.random(n) < 0.5, "control", "treatment"),
                "y": generator.normal(size=n).astype(np.float32),
            }
        )
        (folder / f"day={part:03d}").mkdir()
        frame.write_parquet(folder / f"day={part:03d}" / "part.parquet")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = aggregate(scan(folder), [Metric("y", Kind.MEAN, "y")], columns=Columns())
    assert table.rows.sum() == 100_000_000
    assert table.units.repeated == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000
