"""Drift on 1 M rows x 50 columns, the merge of a month of windows, and what the hub costs in a day.

Run: python -m benchmarks.bench_drift [--rows N] [--columns N] [--repeats N] [--rounds N] [--seeds N] [--json]

Scoring is measured beside a plain numpy version (np.searchsorted + np.bincount), which must give the same
counts first, and beside Evidently's PSI where MANGAASSIST_PEER_EVIDENTLY names the Python of an environment
with it (``python -m venv DIR; DIR/bin/pip install evidently==0.7.23 "pandas<3"``). Evidently bins numbers
of more than 20 values anew on both sides together, so equality is asked where the definitions agree, on
columns of ten values, without our smoothing. It gets the same columns and recomputes its reference at every
run, as it stores none. Time is processor and wall time, the median of interleaved repeats; extra memory is
what tracemalloc sees in an untimed run (numpy reports its buffers to it), of the peer its process's peak.

The hub's day: eight models, a million predictions, a look at every model every five minutes through the real
tables; ``--rounds`` plays a part of the day. Only looking is timed, not the writing of the log. The triage is
told simulated causes, each alone and in pairs, ``--seeds`` times each, and says what it concludes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tests.retraining.scenarios import CAUSES, expected, played

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.core.story import Story
from mangaassist.drift import sketch as sketches
from mangaassist.drift.profile import merge_profiles
from mangaassist.drift.reference import fit_reference
from mangaassist.drift.sketch import NumericSketch
from mangaassist.drift.store import merge_rows, rows_of
from mangaassist.drift.windows import request_windows
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.watch import SAVED_EVERY, Watch
from mangaassist.retraining.triage import triage
from mangaassist.serving.prediction_log import PREDICTION_SCHEMA, predictions_table
from mangaassist.stats.divergence import psi

PEER = "MANGAASSIST_PEER_EVIDENTLY"
MODELS = 8
A_DAY = 1_000_000
WINDOW = timedelta(minutes=5)
START = datetime(2026, 3, 2, tzinfo=UTC)

EVIDENTLY = """
import json, resource, sys, time
import pandas as pd
import evidently
from evidently import Report
from evidently.presets import DataDriftPreset
reference, now = pd.read_parquet(sys.argv[1]), pd.read_parquet(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wall, cpu = time.perf_counter(), time.process_time()
report = Report([DataDriftPreset(num_method="psi", cat_method="psi")]).run(now, reference).dict()
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
found = {}
for metric in report["metrics"]:
    name = str(metric.get("metric_id") or metric.get("metric_name"))
    if name.startswith("ValueDrift(column="):
        found[name.split("column=")[1].split(",")[0]] = float(metric["value"])
extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
timed = {"wall": wall, "cpu": cpu, "extra_mb": extra, "version": evidently.__version__}
print(json.dumps({**timed, "psi": found}))
"""

Columns = dict[str, pl.Series]


def columns(rows: int, count: int, *, seed: int) -> Columns:
    """Normal, skewed, ten-valued and discrete columns in turn; a percent is missing, but not of the third."""
    generator = np.random.default_rng(seed)
    draw = (
        lambda: generator.normal(size=rows),
        lambda: generator.lognormal(size=rows),
        lambda: generator.binomial(9, 0.4 + 0.02 * (seed % 2), rows).astype(np.float64),
        lambda: generator.poisson(30, rows).astype(np.float64),
    )
    found = {}
    for index in range(count):
        values = draw[index % len(draw)]()
        if index % len(draw) != 2:
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


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


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
        **month_of_windows(),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(run))
    work = {
        name: {
            "wall": statistics.median(wall for wall, _ in times[name]),
            "cpu": statistics.median(cpu for _, cpu in times[name]),
            "extra_mb": extra_megabytes(run),
        }
        for name, run in runs.items()
    }
    if os.environ.get(PEER):
        work["score, Evidently"] = evidently(reference, now)
    return {
        "rows": rows,
        "columns": count,
        "repeats": repeats,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "polars": pl.__version__,
        "work": work,
    }


def evidently(reference: Columns, now: Columns) -> dict[str, Any]:
    """One run of the peer, after its values were found equal where the definitions agree."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "reference.parquet", Path(folder) / "now.parquet"]
        for path, found in zip(files, (reference, now), strict=True):
            pl.DataFrame(found).fill_nan(None).write_parquet(path)
        command = [os.environ[PEER], "-W", "ignore", "-c", EVIDENTLY, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Evidently failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    alike = [name for name in reference if int(name[1:]) % 4 == 2]
    for name in alike:
        values = [np.bincount(side[name].to_numpy().astype(int), minlength=10) for side in (reference, now)]
        kept = (values[0] > 0) & (values[1] > 0)
        ours = psi(values[0][kept], values[1][kept], smoothing=0.0)
        if abs(ours - found["psi"][name]) > 1e-6 + 1e-3 * ours:
            raise SystemExit(f"{name}: PSI {ours} here, {found['psi'][name]} there: nothing to time")
    return {
        **{key: found[key] for key in ("wall", "cpu", "extra_mb", "version")},
        "equal_columns": len(alike),
    }


def month_of_windows() -> dict[str, Callable[[], Any]]:
    """8,640 five-minute windows (30 days) of eight sketches each: as objects, and as rows of their table."""
    reference = fit_reference(STORY, predictions(20_000, seed=1, lasts=timedelta(days=1)), at=START)
    windows = request_windows(reference, predictions(200_000, seed=2, lasts=timedelta(days=30)))
    link = {"version": 1, "commit": "a", "after": 0, "upto": 1, "now": START}
    rows = rows_of(windows, **link)  # type: ignore[arg-type]
    profiles = [window.profile for window in windows]
    if merge_rows(rows, reference.profile) != merge_profiles(profiles):
        raise SystemExit("the two merges disagree: nothing to time")
    return {
        f"merge {len(windows)} windows": lambda: merge_profiles(profiles),
        f"merge {len(windows)} stored rows": lambda: merge_rows(rows, reference.profile),
    }


STORY = Story("m0", "text-classification", "Measured.")


def predictions(rows: int, *, seed: int, start: datetime = START, lasts: timedelta = WINDOW) -> pl.DataFrame:
    """Rows of the prediction log: the inputs, an answer, its confidence."""
    generator = np.random.default_rng(seed)
    micros = np.sort(generator.integers(0, lasts // timedelta(microseconds=1), rows))
    labels = np.array([f"label_{index}" for index in range(12)])
    share = generator.random(rows)
    return pl.DataFrame(
        {
            "at": pl.Series(micros + int(start.timestamp()) * 1_000_000).cast(pl.Datetime("us", "UTC")),
            "text_length": generator.poisson(30, rows),
            "japanese_share": np.where(share < 0.3, generator.beta(9, 2, rows), 0.0),
            "unknown_share": generator.beta(1, 30, rows),
            "language": np.where(share < 0.25, "ja", np.where(share < 0.3, "mixed", "en")),
            "device": generator.choice(["web", "ios", "android"], rows),
            "cohort": generator.choice(["new", "regular"], rows),
            "confidence": generator.beta(9, 1.5, rows),
            "label": generator.choice(labels, rows),
            "truth": generator.choice(labels, rows),
        }
    )


class Fleet(Platform):
    """Eight stories, each with version 1 as its champion and no labels."""

    @property
    def registry(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(
            stories=lambda: [f"m{index}" for index in range(MODELS)],
            versions=lambda _: [],
            deployment=lambda _: SimpleNamespace(champion=1),
        )

    @property
    def labels(self) -> Any:  # type: ignore[override]
        empty = pl.DataFrame(schema={"role": pl.String()})
        return SimpleNamespace(examples=lambda _: empty, labels=lambda _: empty)

    def story(self, name: str) -> Story:
        return Story(name, "text-classification", "Measured.")

    def serve(self, name: str, rows: int, *, seed: int, start: datetime, lasts: timedelta) -> None:
        """Log what one model answered."""
        found = predictions(rows, seed=seed, start=start, lasts=lasts).drop("truth")
        ids = pl.Series([f"{seed}-{index}" for index in range(rows)])
        found = found.with_columns(
            request_id=ids,
            input_digest=ids,
            story=pl.lit(name),
            version=pl.lit(1),
            answered_by=pl.lit(1),
            arm=pl.lit("champion"),
            epoch=pl.lit(1),
            abstains=pl.lit(value=False),
            latency_ms=pl.lit(1.0),
            features_stale=pl.lit(value=False),
        )
        absent = [pl.lit(None).alias(one) for one in PREDICTION_SCHEMA.names if one not in found.columns]
        rows_ = found.with_columns(absent).select(PREDICTION_SCHEMA.names)
        self.tables.append(predictions_table(name), rows_.to_arrow().cast(PREDICTION_SCHEMA))


def hub_day(rounds: int) -> dict[str, Any]:
    """Processor seconds of a day of looks at every model, from ``rounds`` of its 288 rounds."""
    share, day = A_DAY // MODELS // 288, timedelta(days=1)
    with tempfile.TemporaryDirectory() as folder:
        clock = SimulatedClock(START + day)
        fleet = Fleet(Home.open(Path(folder) / "home"), clock)
        with closing(fleet.tables), closing(fleet.ledger):
            for name in fleet.registry.stories():
                fleet.serve(name, 288 * share, seed=1, start=START, lasts=day)
            watch = Watch(fleet)
            watch.look_all()  # freezes the references
            for name in fleet.registry.stories():
                fleet.serve(name, 288 * share, seed=2, start=clock.now(), lasts=day)
            clock.advance_to(clock.now() + day)
            watch.look_all()
            watch.save()
            spent = []
            for number in range(rounds):
                for name in fleet.registry.stories():
                    fleet.serve(name, share, seed=number + 9, start=clock.now(), lasts=WINDOW)
                clock.advance_to(clock.now() + WINDOW)

                def look() -> None:
                    found = watch.look_all()
                    if found.unwatched:
                        raise SystemExit(f"not watched: {found.unwatched}")
                    watch.save(every=SAVED_EVERY)

                spent.append(seconds(look)[1])
    total = sum(spent) / rounds * 288
    return {
        "rounds": rounds,
        "cpu_seconds_a_round": statistics.mean(spent),
        "cpu_seconds_a_day": total,
        "share_of_a_core": total / 86_400,
    }


def triage_matrix(seeds: int) -> dict[str, Any]:
    """How often what was put in is what is concluded, each cause alone and in pairs."""
    matrix: Counter[tuple[str, str]] = Counter()
    right = 0
    cases = [(), *((one,) for one in CAUSES), *combinations(CAUSES, 2)]
    for causes in cases:
        for seed in range(100, 100 + seeds):
            wanted, found = expected(causes), triage(played(causes, seed=seed)).conclusion
            matrix[str(wanted), str(found)] += 1
            right += wanted is found
    return {
        "right": right,
        "n": len(cases) * seeds,
        "matrix": [{"put_in": a, "concluded": b, "n": n} for (a, b), n in sorted(matrix.items())],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=288)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = measure(options.rows, options.columns, options.repeats)
    result["hub"] = hub_day(options.rounds) if options.rounds else None
    result["triage"] = triage_matrix(options.seeds) if options.seeds else None
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['rows']:,} rows x {result['columns']} columns, median of {result['repeats']}")
    print(f"{'work':<26}{'wall s':>10}{'cpu s':>10}{'extra MB':>10}")
    for name, found in result["work"].items():
        print(f"{name:<26}{found['wall']:>10.3f}{found['cpu']:>10.3f}{found['extra_mb']:>10.1f}")
    if not os.environ.get(PEER):
        print(f"Evidently: not measured, {PEER} is not set.")
    if hub := result["hub"]:
        print(
            f"hub: {hub['cpu_seconds_a_day']:.0f} processor s for {A_DAY:,} predictions of {MODELS} models "
            f"in a day ({hub['rounds']} of 288 rounds played), {hub['share_of_a_core']:.2%} of a core"
        )
    if found := result["triage"]:
        print(f"triage: {found['right']} of {found['n']} simulated cases concluded as put in")
        for row in found["matrix"]:
            print(f"  {row['put_in']:<18} {row['concluded']:<18} {row['n']:>4}")


if __name__ == "__main__":
    main()
