"""Ten million users, ten metrics, three methods each (raw, CUPED, ratio): one scan against tea-tasting.

Run: python -m benchmarks.bench_experiments [--rows N] [--repeats N] [--peer PYTHON] [--json]

Two jobs: everybody, and everybody plus each of three locales, which sums per cell answer from the same scan
and the peer from one scan each. The peer runs in an interpreter of its own (``python -m venv peer``, then
``peer/bin/pip install tea-tasting==1.14 "ibis-framework[duckdb]" polars`` and ``--peer peer/bin/python``) on
the same Parquet file, through DuckDB and through a lazy polars frame. Effects and intervals are checked equal
before anything is reported; runs are interleaved; wall and processor time are medians, memory is the peak of
each process. Ours also checks that every user is there once, which the peer does not. Without ``--peer`` only
our side runs. The floor reads the columns and adds each up, nothing more: no analysis of the file takes less,
so the peer's time over the floor's is the most that any other reader of it could be ahead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

METRICS = 10
LOCALES = ("en", "ja", "mixed")
CHUNK = 250_000
# CUPED coefficients are pooled within arms here, over all users there: alike to 1e-4 of an interval's width.
AGREE = 1e-4

OURS = """
import json, resource, sys, time
from pathlib import Path
from mangaassist.experiments.aggregation import aggregate
from mangaassist.experiments.checks import integrity
from mangaassist.experiments.readings import effects as compare
from mangaassist.experiments.schema import Purpose, read_plan
from mangaassist.experiments.unit_table import scan
from mangaassist.stats.inference import fixed
rows = "".join(
    f"  - {{name: raw{k}, column: y{k}}}\\n"
    f"  - {{name: cuped{k}, column: y{k}, covariates: [x{k}]}}\\n"
    f"  - {{name: ratio{k}, kind: ratio, column: y{k}, denominator: turns}}\\n"
    for k in range(int(sys.argv[2]))
)
text = "primary: {name: first, column: y0}\\nsecondary:\\n" + rows
plan = read_plan(text, source="bench", purpose=Purpose.EXPLORE)
locales = sys.argv[4].split(",") if sys.argv[4] else []
wall, cpu = time.perf_counter(), time.process_time()
dimensions = ["locale"] if locales else []
table = aggregate(scan(Path(sys.argv[1])), plan.metrics, columns=plan.columns, dimensions=dimensions)
checked = integrity(plan, table)
effects = {}
for cohort in ["", *locales]:
    cells = table.where(locale=cohort) if cohort else table.where()
    for metric in plan.secondary:
        found = fixed(compare(table, metric, plan, arm="treatment", within=cells)[0]).estimate
        effects[metric.name + cohort] = [found.value, found.low, found.high]
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
"""
PEER = """
import json, resource, sys, time
import tea_tasting as tt
if sys.argv[3] == "duckdb":
    import ibis
    data = ibis.duckdb.connect().read_parquet(sys.argv[1])
    within = lambda locale: data.filter(data.locale == locale)
else:
    import polars as pl
    data = pl.scan_parquet(sys.argv[1])
    within = lambda locale: data.filter(pl.col("locale") == locale)
metrics = {}
for k in range(int(sys.argv[2])):
    metrics[f"raw{k}"] = tt.Mean(f"y{k}")
    metrics[f"cuped{k}"] = tt.Mean(f"y{k}", f"x{k}")
    metrics[f"ratio{k}"] = tt.RatioOfMeans(f"y{k}", "turns")
experiment = tt.Experiment(metrics, variant="arm")
locales = sys.argv[4].split(",") if sys.argv[4] else []
effects = {}
wall, cpu = time.perf_counter(), time.process_time()
for cohort in ["", *locales]:
    found = experiment.analyze(within(cohort) if cohort else data, control="control")
    for name in metrics:
        one = found[name]
        effects[name + cohort] = [one.effect_size, one.effect_size_ci_lower, one.effect_size_ci_upper]
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
"""
FLOOR = """
import json, resource, sys, time
import polars as pl
wall, cpu = time.perf_counter(), time.process_time()
names = [f"{letter}{k}" for k in range(int(sys.argv[2])) for letter in "xy"]
pl.scan_parquet(sys.argv[1]).select(pl.col(*names, "turns").sum()).collect(engine="streaming")
wall, cpu, effects = time.perf_counter() - wall, time.process_time() - cpu, {}
"""
REPORT = """
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"wall": wall, "cpu": cpu, "peak_gb": peak, "effects": effects}))
"""


def write_table(path: Path, rows: int) -> None:
    """Users with ten outcomes, a covariate for each and a count, in row groups as a warehouse writes them."""
    generator = np.random.default_rng(0)
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, CHUNK):
        n = min(CHUNK, rows - start)
        columns: dict[str, Any] = {
            "user_id": [f"u{index:09d}" for index in range(start, start + n)],
            "arm": np.where(generator.random(n) < 0.5, "control", "treatment"),
            "locale": generator.choice(LOCALES, n, p=[0.55, 0.30, 0.15]),
        }
        for k in range(METRICS):
            before = generator.normal(10, 3, n)
            columns[f"x{k}"], columns[f"y{k}"] = before, 0.7 * before + generator.normal(0, 2, n)
        columns["turns"] = generator.poisson(5, n) + 1.0
        table: pa.Table = pl.DataFrame(columns).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def run(python: str, script: str, path: Path, engine: str, cohorts: str) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [python, "-c", script + REPORT, str(path), str(METRICS), engine, cohorts]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether every effect and both ends of its interval are the same, measured in interval widths."""
    return all(
        np.abs(np.subtract(ours["effects"][name], values)).max() <= AGREE * (values[2] - values[1])
        for name, values in theirs["effects"].items()
    )


def compare(path: Path, peer: str, repeats: int, cohorts: str) -> dict[str, dict[str, float]]:
    """Medians per side for one job.

    Raises:
        ValueError: when the two sides disagree.
    """
    sides = {"mangaassist": (sys.executable, OURS, ""), "floor (read, add up)": (sys.executable, FLOOR, "")}
    if peer:
        sides |= {f"tea-tasting ({engine})": (peer, PEER, engine) for engine in ("duckdb", "polars")}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, (python, script, engine) in sides.items():
            runs[name].append(run(python, script, path, engine, cohorts))
    if not all(agree(runs["mangaassist"][0], found[0]) for found in runs.values()):
        raise ValueError("the two sides disagree; nothing is reported")
    return {
        name: {key: statistics.median(one[key] for one in found) for key in ("wall", "cpu", "peak_gb")}
        for name, found in runs.items()
    }


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "users.parquet"
        write_table(path, options.rows)
        jobs = {"everybody": "", "everybody and 3 locales": ",".join(LOCALES)}
        body = {job: compare(path, options.peer, options.repeats, cohorts) for job, cohorts in jobs.items()}
    if options.json:
        print(json.dumps({"rows": options.rows, "metrics": METRICS, "methods": 3, "jobs": body}, indent=2))
        return 0
    for job, sides in body.items():
        print(f"{job}: {options.rows:,} users x {METRICS} metrics x 3 methods, median of {options.repeats}")
        own = sides["mangaassist"]
        for name, one in sides.items():
            print(
                f"  {name:24s} {one['wall']:6.2f} s wall ({one['wall'] / own['wall']:.1f}x)  "
                f"{one['cpu']:6.2f} s cpu ({one['cpu'] / own['cpu']:.1f}x)  {one['peak_gb']:.2f} GB"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
