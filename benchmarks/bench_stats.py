"""Array mathematics against its obvious twin and against the package a team would otherwise call.

Run: python -m benchmarks.bench_stats [--rounds N] [--json]

Ours and the other alternate in one process; a ratio is the other's median time over ours (larger is better).
Where the two may differ, the difference of the answers is printed beside the times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import krippendorff
import numpy as np
from scipy import stats
from sklearn.metrics import cohen_kappa_score, f1_score

from mangaassist.stats.agreement import cohen_kappa, dawid_skene, krippendorff_alpha
from mangaassist.stats.cusum import cusum
from mangaassist.stats.effects import Metric, Term, compare
from mangaassist.stats.group_sequential import boundary_plan, spending_plan
from mangaassist.stats.intervals import macro_f1_interval
from mangaassist.stats.moments import of_rows
from mangaassist.stats.srm import sample_ratio

LOOKS = (4 / 14, 7 / 14, 11 / 14, 1.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; times in milliseconds, ``difference`` between the two answers where they have one."""

    what: str
    ours_ms: float
    other: str
    other_ms: float | None
    difference: float | None

    @property
    def ratio(self) -> float | None:
        return None if self.other_ms is None else self.other_ms / self.ours_ms


def race(
    what: str,
    ours: Callable[[], float],
    other_name: str,
    other: Callable[[], float] | None,
    rounds: int,
    *,
    times_other: float = 1.0,
) -> Row:
    """Alternate the two, so that the machine's moods hit both.

    ``times_other`` scales the other up where it was timed on a part of the work.
    """
    times: tuple[list[float], list[float]] = ([], [])
    answers = [0.0, 0.0]
    for _ in range(rounds):
        for side, call in enumerate((ours, other)):
            if call is not None:
                begun = time.perf_counter()
                answers[side] = call()
                times[side].append(1e3 * (time.perf_counter() - begun))
    mine = float(np.median(times[0]))
    if other is None:
        return Row(what, mine, other_name, None, None)
    return Row(what, mine, other_name, times_other * float(np.median(times[1])), abs(answers[0] - answers[1]))


def boundaries(rng: np.random.Generator, rounds: int) -> Iterator[Row]:
    z = np.asarray(spending_plan(LOOKS).z)
    steps = np.sqrt(np.diff(np.asarray(LOOKS), prepend=0.0))

    def simulate() -> float:
        paths = np.cumsum(rng.normal(size=(200_000, 4)) * steps, axis=1) / np.sqrt(LOOKS)
        return float((np.abs(paths) >= z).any(axis=1).mean())

    yield race(
        "alpha of a 4-look plan",
        lambda: boundary_plan(LOOKS, z).alpha,
        "200,000 simulated paths",
        simulate,
        rounds,
    )
    hundred = np.arange(1, 101) / 100
    yield race(
        "100 looks, O'Brien-Fleming spending (aim: < 200 ms)",
        lambda: spending_plan(hundred).z[-1],
        "no peer",
        None,
        rounds,
    )


def agreement(rng: np.random.Generator, rounds: int) -> Iterator[Row]:
    a = rng.integers(0, 14, 20_000)
    b = np.where(rng.random(20_000) < 0.8, a, rng.integers(0, 14, 20_000))
    yield race(
        "Cohen's kappa with interval, 20,000 items",
        lambda: cohen_kappa(a, b).value,
        "scikit-learn, no interval",
        lambda: float(cohen_kappa_score(a, b)),
        rounds,
    )
    table = np.stack([a, b, np.where(rng.random(20_000) < 0.8, a, 0)], axis=1)[:2000].astype(float)
    yield race(
        "Krippendorff's alpha with 1,000 resamples, 2,000 items",
        lambda: krippendorff_alpha(table, generator=rng).value,
        "krippendorff, 1 run times 1,001",
        lambda: float(krippendorff.alpha(table.T, level_of_measurement="nominal")),
        rounds,
        times_other=1001,
    )
    n, workers = 200_000, 500
    truth = rng.integers(0, 14, n)
    item, worker = np.repeat(np.arange(n), 5), rng.integers(0, workers, 5 * n)
    skill = rng.uniform(0.5, 0.95, workers)
    label = np.where(rng.random(5 * n) < skill[worker], truth[item], rng.integers(0, 14, 5 * n))

    def consensus() -> float:
        model = dawid_skene(item, worker, label, n_items=n, n_workers=workers, n_classes=14)
        return float((model.posterior.argmax(axis=1) == truth).mean())

    yield race("Dawid-Skene, 1,000,000 answers, 14 classes", consensus, "no peer", None, max(1, rounds // 5))


def bootstraps(rng: np.random.Generator, rounds: int) -> Iterator[Row]:
    true = rng.integers(0, 150, 4500)
    predicted = np.where(rng.random(4500) < 0.93, true, rng.integers(0, 150, 4500))
    table = np.bincount(true * 150 + predicted, minlength=22_500).reshape(150, 150)

    def resample() -> float:
        draws = []
        for _ in range(20):
            rows = rng.integers(0, 4500, 4500)
            draws.append(f1_score(true[rows], predicted[rows], average="macro"))
        return float(np.mean(draws))

    yield race(
        "macro-F1, 1,000 resamples, 150 classes",
        lambda: macro_f1_interval(table, generator=rng).value,
        "scikit-learn, 20 resamples times 50",
        resample,
        max(1, rounds // 5),
        times_other=50,
    )


def tests(rng: np.random.Generator, rounds: int) -> Iterator[Row]:
    rows = rng.normal(size=(200_000, 3)) + rng.normal(size=(200_000, 1))
    arm = np.arange(200_000) % 2
    design = np.column_stack([np.ones(200_000), arm, rows[:, 1:]])
    metric = Metric(Term(0), (Term(1), Term(2)))
    treated, untreated = rows[arm == 1], rows[arm == 0]
    yield race(
        "CUPED with 2 covariates, 200,000 rows, scan included",
        lambda: compare(of_rows(treated), of_rows(untreated), metric).value,
        "numpy least squares",
        lambda: float(np.linalg.lstsq(design, rows[:, 0], rcond=None)[0][1]),
        rounds,
    )
    arms = of_rows(treated), of_rows(untreated)
    yield race(
        "the same from sufficient statistics",
        lambda: compare(*arms, metric).value,
        "no peer",
        None,
        rounds,
    )
    yield race(
        "sample-ratio mismatch",
        lambda: sample_ratio([821_588, 815_482], [1, 1]).p_value,
        "scipy chisquare",
        lambda: float(stats.chisquare([821_588, 815_482]).pvalue),
        rounds,
    )
    week = rng.normal(size=(2016, 480))
    yield race(
        "CUSUM, 480 series, a week of 5-minute ticks",
        lambda: float(cusum(week, h=12.6).high.mean()),
        "no peer",
        None,
        rounds,
    )


def show(rows: list[Row]) -> None:
    for row in rows:
        other = "" if row.ratio is None else f"x{row.ratio:<8.2f} {row.other} ({row.other_ms:,.3f} ms)"
        gap = "" if row.difference is None else f"  |difference| {row.difference:.1e}"
        print(f"{row.what:55} {row.ours_ms:10,.3f} ms  {other}{gap}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = [row for part in (boundaries, agreement, bootstraps, tests) for row in part(rng, given.rounds)]
    if given.json:
        print(json.dumps({"benchmark": "stats", "results": [asdict(row) for row in rows]}))
    else:
        show(rows)


if __name__ == "__main__":
    main()
