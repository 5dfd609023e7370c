"""Point-in-time reads beside Feast 0.67 (DuckDB) and a bare DuckDB as-of join; cost per row up to 50 M rows.

Run: python -m benchmarks.bench_features [--job main|deep|large|flat ...] [--repeats N] [--largest M] [--json]

Peers run in an environment of their own (python -m venv DIR; DIR/bin/pip install "feast[duckdb]==0.67"), set
as MANGAASSIST_FEAST_PYTHON=DIR/bin/python; without it only our side is timed. Every side is its own process
and gets the same rows: three features, moments over 90 days, in no order. Rows have no serving lag and arrive
when they happen, because the peers know neither; ours checks both all the same, and gives reasons. Feast has
the three features in one view ("feast1") or each in a view of its own ("feast3"), and gives an Arrow table
or, as "-pandas", the data frame of its guide. Feast and "duckdb" read one Parquet file, "ours" the same rows
in the same codec from its Iceberg table, with checksums; "in memory" both begin with loaded tables. Equality
comes first: every label row once, the same values where Feast and DuckDB have one within its life, and
the default where they have none. Medians of warm runs; CPU seconds are of all threads and hold on a machine
that others use.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.peer_features import TTL
from benchmarks.three_features import NAMES, catalog, has_peer, last_line, peer
from mangaassist.core.home import Home
from mangaassist.features.point_in_time import point_in_time
from mangaassist.features.store import FeatureStore
from mangaassist.storage.tables import Tables

PEER = Path(__file__).with_name("peer_features.py")
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
SPAN = 90 * 86_400 * 10**6
FLAT = (1, 2, 5, 10, 20, 50)
CATALOG = catalog(TTL.days)


@dataclass(frozen=True, slots=True)
class Job:
    """How much is read, by whom, and the numbers to reach."""

    rows: int
    asked: int
    entities: int
    sides: tuple[str, ...]
    target: str


JOBS = {
    "main": Job(
        1_000_000,
        200_000,
        20_000,
        (
            *("ours", "feast1", "feast1-pandas", "feast3", "feast3-pandas", "duckdb"),
            *("ours-memory", "duckdb-memory"),
        ),
        ">= 15x Feast, <= 1.3x DuckDB",
    ),
    "deep": Job(2_000_000, 50_000, 2_000, ("ours", "feast1", "duckdb"), "<= 1 s"),
    "large": Job(10_000_000, 2_000_000, 200_000, ("ours", "duckdb"), "<= 6 s, <= 4096 MB"),
}


def frames(rows: int, asked: int, entities: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Feature rows and label rows (numbered by ``n``) at random moments."""
    generator = np.random.default_rng(rows + asked)

    def moments(count: int) -> pl.Series:
        return pl.Series(START + generator.integers(0, SPAN, count)).cast(pl.Datetime("us", "UTC"))

    def users(count: int) -> pl.Series:
        return "u" + pl.Series(generator.integers(0, entities, count)).cast(pl.String)

    happened = moments(rows)
    stored = pl.DataFrame(
        {
            "user_id": users(rows),
            "event_ts": happened,
            "ingested_at": happened,
            "f1": generator.integers(0, 100, rows),
            "f2": generator.random(rows),
            "f3": generator.random(rows),
        }
    )
    labels = pl.DataFrame({"user_id": users(asked), "at": moments(asked), "n": np.arange(asked)})
    return stored, labels


def prepare(folder: Path, job: Job) -> float:
    """Write the Parquet files and our table; seconds of the append."""
    stored, labels = frames(job.rows, job.asked, job.entities)
    stored.write_parquet(folder / "rows.parquet")
    labels.write_parquet(folder / "asked.parquet")
    tables = Tables.open(Home.open(folder / "home"))
    start = time.perf_counter()
    FeatureStore(tables).append(CATALOG, "shopper", stored)
    taken = time.perf_counter() - start
    tables.close()
    return taken


def ours(folder: Path, *, memory: bool) -> Callable[[], pl.DataFrame]:
    asked = pl.read_parquet(folder / "asked.parquet")
    if memory:
        rows = {"shopper": pl.read_parquet(folder / "rows.parquet").rechunk()}
        return lambda: point_in_time(rows, CATALOG.chosen(NAMES), asked, as_of="at")
    store = FeatureStore(Tables.open(Home.open(folder / "home")))
    return lambda: store.read(CATALOG, asked, NAMES, as_of="at")


def timed(run: Callable[[], pl.DataFrame], repeats: int) -> tuple[dict[str, Any], pl.DataFrame]:
    """A cold run, then the others: seconds and CPU seconds of each, peak memory of this process."""
    found, seconds, cpu = run(), [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        found = run()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": cpu, "peak_mb": peak}, found


def child(folder: Path, side: str, repeats: int) -> dict[str, Any]:
    """What a process of its own does: prepare, one of our sides, or one point of the curve."""
    if side.startswith("flat"):
        stored, labels = frames(*(int(part) for part in side.split(":")[1:]))
        features = CATALOG.chosen(NAMES)
        return timed(lambda: point_in_time({"shopper": stored}, features, labels, as_of="at"), repeats)[0]
    if side.startswith("prepare"):
        return {"append": prepare(folder, JOBS[side.split(":")[1]])}
    body, found = timed(ours(folder, memory=side.endswith("memory")), repeats)
    found.write_parquet(folder / f"{side}.parquet")
    return body


def ask(folder: Path, side: str, repeats: int) -> dict[str, Any]:
    """The JSON a side's process prints last."""
    if side.startswith(("feast", "duckdb")):
        found = peer(PEER, folder, side, repeats)
    else:
        command = [sys.executable, "-m", "benchmarks.bench_features", "--child", side]
        found = last_line([*command, "--folder", str(folder), "--repeats", str(repeats)])
    assert isinstance(found, dict)
    return found


def check_equal(folder: Path, side: str) -> None:
    """Every label row is there once, with the values that ours gives it."""
    mine = pl.read_parquet(folder / "ours.parquet").sort("n")
    theirs = pl.read_parquet(folder / f"{side}.parquet").sort("n")
    if not theirs["n"].equals(mine["n"]):
        raise SystemExit(f"{side} gives {theirs.height} label rows instead of {mine.height}: nothing to time")
    for name in NAMES:
        value = theirs[name].cast(mine.schema[name])
        if "event_ts" in theirs.columns:  # the bare join has no time to live
            fresh = theirs["at"] - theirs["event_ts"] <= TTL
            value = pl.select(pl.when(fresh).then(value)).to_series()
        if not side.startswith("ours"):
            value = value.fill_null(-1)
        if not value.rename(name).equals(mine[name]):
            raise SystemExit(f"{side} and ours differ in {name}: nothing to time")


def compare(job: Job, name: str, repeats: int, *, peers: bool) -> dict[str, Any]:
    """Times of every side of one job, after checking that they are times of the same work."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        append = ask(folder, f"prepare:{name}", 1)["append"]
        sides = [side for side in job.sides if peers or side.startswith("ours")]
        found = {side: ask(folder, side, repeats) for side in sides}
        for side in sides[1:]:
            check_equal(folder, side)
    for one in found.values():
        one["seconds"], one["cpu"] = (statistics.median(one[key]) for key in ("seconds", "cpu"))
    return {"rows": job.rows, "asked": job.asked, "append": append, "target": job.target, "sides": found}


def flatten(largest: int, repeats: int) -> list[dict[str, float]]:
    """Our join in memory, a fifth as many label rows as rows, fifty rows an entity."""
    points = []
    with tempfile.TemporaryDirectory() as scratch:
        for millions in (one for one in FLAT if one <= largest):
            rows = millions * 10**6
            found = ask(Path(scratch), f"flat:{rows}:{rows // 5}:{rows // 50}", repeats)
            per_row = {key: statistics.median(found[key]) / rows * 1e6 for key in ("seconds", "cpu")}
            points.append({"rows": rows, **per_row, "peak_mb": found["peak_mb"]})
    return points


def plot(points: Sequence[dict[str, float]]) -> str:
    """Microseconds per row over rows (log scale) as an SVG of its own."""
    width, height, left, bottom = 560, 300, 60, 250
    top = max(point["cpu"] for point in points) * 1.25
    last = np.log10(points[-1]["rows"] / points[0]["rows"]) or 1.0

    def x(point: dict[str, float]) -> float:
        return left + float(np.log10(point["rows"] / points[0]["rows"]) / last) * (width - left - 30)

    def line(key: str, colour: str, name: str) -> str:
        places = [(x(one), bottom - one[key] / top * (bottom - 30)) for one in points]
        dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in places)
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        end = f'x="{places[-1][0]:.0f}" y="{places[-1][1] - 9:.0f}" text-anchor="end" fill="{colour}"'
        label = f"<text {end}>{name}</text>"
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}{label}'

    ticks = "".join(
        f'<text x="{x(one):.0f}" y="{bottom + 18}" text-anchor="middle">{one["rows"] / 1e6:.0f} M</text>'
        for one in points
    )
    levels = "".join(
        f'<line x1="{left}" x2="{width - 30}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{top * part / 4:.2f}</text>'
        for part in range(5)
        for y in [bottom - part / 4 * (bottom - 30)]
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="#333"><rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="{left}" y="18" font-weight="bold">Point-in-time join: microseconds per feature row</text>'
        f"{levels}{ticks}"
        f"{line('cpu', '#a65a00', 'CPU, all threads')}{line('seconds', '#1f5fa8', 'wall clock')}"
        f'<text x="{(left + width) / 2:.0f}" y="{height - 10}" text-anchor="middle">feature rows</text>'
        "</svg>\n"
    )


def show(name: str, found: dict[str, Any]) -> None:
    print(
        f"\n{name}: {found['rows']:,} rows x {found['asked']:,} labels x 3 features ({found['target']}); "
        f"append {found['append']:.2f} s; equal"
    )
    print(f"{'side':<16}{'seconds':>9}{'over ours':>11}{'CPU s':>9}{'over ours':>11}{'peak MB':>10}  version")
    for side, one in found["sides"].items():
        base = found["sides"]["ours-memory" if side.endswith("memory") else "ours"]
        print(
            f"{side:<16}{one['seconds']:>9.3f}{one['seconds'] / base['seconds']:>10.1f}x{one['cpu']:>9.3f}"
            f"{one['cpu'] / base['cpu']:>10.1f}x{one['peak_mb']:>10.0f}  {one.get('version', '')}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--job", nargs="*", choices=[*JOBS, "flat"], default=[*JOBS, "flat"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--largest", type=int, default=50, help="millions of rows of the curve's last point")
    parser.add_argument("--svg", type=Path, help="where to write the curve")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(child(options.folder, options.child, options.repeats)))
        return
    peers = has_peer()
    result: dict[str, Any] = {}
    for name in options.job:
        if name != "flat":
            result[name] = compare(JOBS[name], name, options.repeats, peers=peers)
            if not options.json:
                show(name, result[name])
            continue
        result["flat"] = flatten(options.largest, min(options.repeats, 2))
        if options.svg:
            options.svg.write_text(plot(result["flat"]), encoding="utf-8")
        if not options.json:
            print(f"\ncost per row, in memory\n{'rows':>12}{'us a row':>10}{'CPU us':>9}{'peak MB':>10}")
            for one in result["flat"]:
                print(
                    f"{one['rows']:>12,.0f}{one['seconds']:>10.3f}{one['cpu']:>9.3f}{one['peak_mb']:>10.0f}"
                )
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
