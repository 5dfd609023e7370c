"""Ten million users, ten metrics, three methods each (raw, CUPED, ratio): one scan against tea-tasting.

Run: python -m benchmarks.bench_experiments [--rows N] [--repeats N] [--peer PYTHON] [--json]

The peer runs in an interpreter of its own (``python -m venv peer && peer/bin/pip install tea-tasting==1.14
"ibis-framework[duckdb]" polars``, then ``--peer peer/bin/python``) on the same Parquet file, through DuckDB and
through a lazy polars frame. Effects and intervals are checked equal before anything is timed; runs are interleaved;
wall and processor time are medians, memory is the peak of each process. Ours also checks that every user is there
once, which the peer does not. Without ``--peer`` only our side runs.
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
CHUNK = 250_000
# The two compute the same sums in another order; the ninth digit of an interval may differ.
AGREE = 1e-6

OURS = """
import json, resource, sys, time
from pathlib import Path
from mangaassist.experiments.analysis import Look, analyse
from mangaassist.experiments.schema import Purpose, read_plan
from mangaassist.experiments.unit_table import scan
rows = "".join(
    f"  - {{name: raw{k}, column: y{k}}}\\n"
    f"  - {{name: cuped{k}, column: y{k}, covariates: [x{k}]}}\\n"
    f"  - {{name: ratio{k}, kind: ratio, column: y{k}, denominator: turns}}\\n"
    for k in range(int(sys.argv[2]))
)
plan = read_plan("primary: {name: first, column: y0}\\nsecondary:\\n" + rows, source="bench", purpose=Purpose.EXPLORE)
wall, cpu = time.perf_counter(), time.process_time()
found = analyse(plan, scan(Path(sys.argv[1])), Look(0, final=True))
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
effects = {one.metric: [one.absolute.value, one.absolute.low, one.absolute.high] for one in found.readings}
"""
PEER = """
import json, resource, sys, time
import tea_tasting as tt
if sys.argv[3] == "duckdb":
    import ibis
    data = ibis.duckdb.connect().read_parquet(sys.argv[1])
else:
    import polars as pl
    data = pl.scan_parquet(sys.argv[1])
metrics = {}
for k in range(int(sys.argv[2])):
    metrics[f"raw{k}"] = tt.Mean(f"y{k}")
    metrics[f"cuped{k}"] = tt.Mean(f"y{k}", f"x{k}")
    metrics[f"ratio{k}"] = tt.RatioOfMeans(f"y{k}", "turns")
experiment = tt.Experiment(metrics, variant="arm")
wall, cpu = time.perf_counter(), time.process_time()
found = experiment.analyze(data, control="control")
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
effects = {
    name: [found[name].effect_size, found[name].effect_size_ci_lower, found[name].effect_size_ci_upper]
    for name in metrics
}
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


def run(python: str, script: str, path: Path, engine: str = "") -> dict[str, Any]:
    """One run in a process of its own."""
    command = [python, "-c", script + REPORT, str(path), str(METRICS), engine]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether every effect and both ends of its interval are the same."""
    return all(
        np.allclose(ours["effects"][name], values, rtol=AGREE, atol=1e-9)
        for name, values in theirs["effects"].items()
    )


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
        sides = {"mangaassist": (sys.executable, OURS, "")}
        if options.peer:
            for engine in ("duckdb", "polars"):
                sides[f"tea-tasting ({engine})"] = (options.peer, PEER, engine)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for _ in range(options.repeats):
            for name, (python, script, engine) in sides.items():
                runs[name].append(run(python, script, path, engine))
    first = runs["mangaassist"][0]
    if not all(agree(first, found[0]) for name, found in runs.items() if name != "mangaassist"):
        print("The two sides disagree; nothing is timed.", file=sys.stderr)
        return 1
    body = {
        name: {key: statistics.median(one[key] for one in found) for key in ("wall", "cpu", "peak_gb")}
        for name, found in runs.items()
    }
    if options.json:
        print(json.dumps({"rows": options.rows, "metrics": METRICS, "methods": 3, "runs": body}, indent=2))
        return 0
    own = body["mangaassist"]
    print(f"{options.rows:,} users x {METRICS} metrics x 3 methods, median of {options.repeats}")
    for name, one in body.items():
        print(
            f"{name:24s} {one['wall']:6.2f} s wall ({one['wall'] / own['wall']:.1f}x)  "
            f"{one['cpu']:6.2f} s cpu ({one['cpu'] / own['cpu']:.1f}x)  {one['peak_gb']:.2f} GB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
