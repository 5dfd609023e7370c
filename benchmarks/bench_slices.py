"""The slice matrix of a million predictions: six dimensions and the label, with crosses of two and three.

Run: python -m benchmarks.bench_slices [--rows N] [--repeats N] [--json]

The floor is what a group-by engine needs for the counts alone: polars, one group-by for each cross, in one
lazy run. It must count what the matrix counts, slice by slice, before anything is timed. The matrix also has
intervals, Fisher's tests and Holm's correction in its time, and it starts from the answers as a report holds
them, tuples of Python values; polars starts from its own columns. Processor time, the median of interleaved
repeats; wall time beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import polars as pl

from mangaassist.evaluation.answers import Answers
from mangaassist.evaluation.slices import LABEL, slice_matrix

SIZES = {"language": 3, "cohort": 3, "device": 3, "catalog_tier": 3, "time_of_day": 4, "surface": 5}
LABELS = tuple(f"intent_{code:02d}" for code in range(14))
AIM = 5.0
Counts = dict[str, tuple[int, int, int]]


def answers(rows: int, *, seed: int) -> Answers:
    """Predictions that are right four times in five, with skewed dimensions."""
    generator = np.random.default_rng(seed)
    actual = generator.integers(0, len(LABELS), rows)
    wrong = generator.random(rows) < 0.2
    predicted = np.where(wrong, generator.integers(0, len(LABELS), rows), actual)
    dimensions = {
        name: tuple(f"{name[0]}{code}" for code in (generator.random(rows) ** 2 * size).astype(int).tolist())
        for name, size in SIZES.items()
    }
    abstains = generator.random(rows) < 0.05
    return Answers(
        "bench",
        LABELS,
        tuple(actual.tolist()),
        tuple(predicted.tolist()),
        tuple(abstains.tolist()),
        dimensions=dimensions,
    )


def crosses() -> Iterator[tuple[str, ...]]:
    """The crosses of the matrix, in its order of dimensions."""
    for depth in (1, 2, 3):
        yield from combinations((*SIZES, LABEL), depth)


def frame(found: Answers) -> pl.DataFrame:
    """The same rows as columns."""
    return pl.DataFrame(
        {
            **{name: list(values) for name, values in found.dimensions.items()},
            LABEL: [LABELS[code] for code in found.actual],
            "correct": found.correct,
            "answered": found.answered,
        }
    )


def by_polars(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """One group-by for each cross, all of them in one lazy run."""
    sums = (pl.len().alias("n"), pl.col("correct").sum(), pl.col("answered").sum())
    return pl.collect_all([rows.lazy().group_by(list(cross)).agg(*sums) for cross in crosses()])


def require_equal(found: Answers, rows: pl.DataFrame) -> int:
    """Both count the same in every slice; returns how many slices there are."""
    matrix = slice_matrix(found, tuple(SIZES))
    ours: Counts = {one.name: (one.n, one.correct, round(one.answered * one.n)) for one in matrix.slices}
    peers: Counts = {}
    for cross, part in zip(crosses(), by_polars(rows), strict=True):
        for row in part.iter_rows(named=True):
            peers[_name(cross, row)] = (row["n"], row["correct"], row["answered"])
    if ours != peers:
        raise SystemExit("The matrix and polars count differently; nothing is timed.")
    return len(ours)


def _name(cross: tuple[str, ...], row: dict[str, object]) -> str:
    return " & ".join(f"{name}={row[name]}" for name in cross)


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """(processor, wall) seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description="The slice matrix beside group-by.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = answers(options.rows, seed=7)
    rows = frame(found)
    slices = require_equal(found, rows)
    runs: dict[str, Callable[[], object]] = {
        "mangaassist": lambda: slice_matrix(found, tuple(SIZES)),
        "polars counts": lambda: by_polars(rows),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            times[name].append(timed(run))
    cpu = {name: statistics.median(one for one, _ in many) for name, many in times.items()}
    wall = {name: statistics.median(one for _, one in many) for name, many in times.items()}
    body = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rows": options.rows,
        "slices": slices,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "aim_seconds": AIM,
        "met": wall["mangaassist"] <= AIM,
    }
    if options.json:
        print(json.dumps(body))
        return
    print(f"{options.rows:,} rows, {slices:,} slices, equal in both ({body['machine']})")
    for name in runs:
        ratio = cpu[name] / cpu["mangaassist"]
        print(f"  {name:<16} {cpu[name]:7.2f} s processor  {wall[name]:7.2f} s wall  {ratio:5.2f} x")
    print(f"Aim: {AIM:g} s wall; {'met' if body['met'] else 'MISSED'}.")


if __name__ == "__main__":
    main()
