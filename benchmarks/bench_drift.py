"""Drift on 1 M rows x 50 columns: frozen-bin sketches against a plain numpy version of the same counts.

Run: python benchmarks/bench_drift.py [--rows N] [--columns N] [--repeats N] [--json]

The plain version bins by binary search (np.searchsorted + np.bincount). Both sides get the same columns and
must give the same counts before anything is timed. Time is the median of interleaved repeats; extra memory is
what tracemalloc sees (numpy reports its buffers to it), measured in a separate, untimed run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.drift import sketch as sketches
from mangaassist.drift.sketch import NumericSketch
from mangaassist.stats.divergence import psi

Columns = dict[str, pl.Series]


def columns(rows: int, count: int, *, seed: int) -> Columns:
    """Normal, skewed and discrete columns in turn, a percent of each missing."""
    generator = np.random.default_rng(seed)
    draw = (
        lambda: generator.normal(size=rows),
        lambda: generator.lognormal(size=rows),
        lambda: generator.poisson(30, rows).astype(np.float64),
    )
    found = {}
    for index in range(count):
        values = draw[index % len(draw)]()
        values[generator.random(rows) < 0.01] = np.nan
        found[f"c{index}"] = pl.Series(values)
    return found


def fit(reference: Columns) -> dict[str, NumericSketch]:
    return {name: sketches.fit_numeric(values) for name, values in reference.items()}


def score(frozen: dict[str, NumericSketch], now: Columns) -> list[float]:
    """PSI of every column."""
    return [psi(sketch.cells, sketches.count(sketch, now[name]).cells) for name, sketch in frozen.items()]


def score_plain(frozen: dict[str, NumericSketch], now: Columns) -> list[float]:
    """The same by binary search."""
    return [psi(sketch.cells, plain_cells(sketch, now[name].to_numpy())) for name, sketch in frozen.items()]


def plain_cells(sketch: NumericSketch, values: NDArray[np.float64]) -> NDArray[np.int64]:
    codes = np.searchsorted(np.array(sketch.edges), values, side="left")
    codes[np.isnan(values)] = len(sketch.edges) + 1
    return np.bincount(codes, minlength=len(sketch.edges) + 2)


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def extra_megabytes(run: Callable[[], Any]) -> float:
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def measure(rows: int, count: int, repeats: int) -> dict[str, Any]:
    reference, now = columns(rows, count, seed=1), columns(rows, count, seed=2)
    frozen = fit(reference)
    if score(frozen, now) != score_plain(frozen, now):
        raise SystemExit("the two versions disagree: nothing to time")
    runs: dict[str, Callable[[], Any]] = {
        "fit": lambda: fit(reference),
        "score": lambda: score(frozen, now),
        "score, plain numpy": lambda: score_plain(frozen, now),
        "merge 288 windows": _merge_run(frozen, now),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {
        "rows": rows,
        "columns": count,
        "repeats": repeats,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "polars": pl.__version__,
        "work": {
            name: {"seconds": statistics.median(times[name]), "extra_mb": extra_megabytes(run)}
            for name, run in runs.items()
        },
    }


def _merge_run(frozen: dict[str, NumericSketch], now: Columns) -> Callable[[], Any]:
    """A day of five-minute sketches of every column."""
    rows = len(next(iter(now.values())))
    window = np.minimum(np.arange(rows) * 288 // rows, 287)
    parts = {name: sketches.count_windows(sketch, now[name], window, 288) for name, sketch in frozen.items()}
    return lambda: {name: sketches.merge(found) for name, found in parts.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = measure(options.rows, options.columns, options.repeats)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['rows']:,} rows x {result['columns']} columns, median of {result['repeats']}")
    print(f"{'work':<22}{'seconds':>10}{'extra MB':>10}")
    for name, found in result["work"].items():
        print(f"{name:<22}{found['seconds']:>10.3f}{found['extra_mb']:>10.1f}")


if __name__ == "__main__":
    main()
