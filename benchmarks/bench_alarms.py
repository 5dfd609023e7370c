"""Alarms on the Numenta Anomaly Benchmark beside its windowed Gaussian, and where the thresholds come from.

Run: python benchmarks/bench_alarms.py [--json] [--group NAME ...]
     python benchmarks/bench_alarms.py --calibrate > src/mangaassist/incidents/thresholds.yaml
     python benchmarks/bench_alarms.py --quiet-weeks N     (false alarms of 480 simulated series)

Data: MANGAASSIST_DATA/anomaly_nab (default ../shared/data). Groups: realKnownCause, realAdExchange. One
setting for all series, that of the platform: the thresholds of a fleet of 480, and a baseline refitted every
day on up to four weeks. Nothing counts during the first 15% of a series (at most 750 rows), NAB's probation.

The windowed Gaussian is NAB's: mean and deviation of the last 6,400 values, renewed every 100; the score is
one minus the tail probability. It is shown at a threshold of 1 (8.2 deviations) and at the number of
deviations that gives about as many detections as ours. A detection is a run of flagged values that six calm
ones end, for both; it is right when it begins inside a labelled window.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.incidents import calibration
from mangaassist.incidents.alarms import (
    MINUTE,
    PACES,
    TICK,
    Label,
    Pace,
    fleet_thresholds,
    rebased,
    tick,
    ticks_a_week,
    watch,
)
from mangaassist.incidents.baselines import fit, hours_of
from mangaassist.stats.domain import FloatArray

GROUPS = ("realKnownCause", "realAdExchange")
SERIES_TICKS = (1, 10, 50, 240, 480, 960, 2880)
_SERIES, _WEEKS = 200, 2
_PARTS = 4
"""A fleet of 480 is simulated in so many parts, so that a week of minutes needs 300 MB."""
_CALM = 6
_PROBATION = (0.15, 750)


@dataclass(frozen=True, slots=True)
class Recording:
    """One NAB series: instants, values, labelled windows."""

    name: str
    at: tuple[datetime, ...]
    values: NDArray[np.float64]
    windows: tuple[tuple[datetime, datetime], ...]

    @property
    def probation(self) -> int:
        return min(int(_PROBATION[0] * len(self.at)), _PROBATION[1])

    @property
    def step(self) -> timedelta:
        return timedelta(
            seconds=statistics.median(
                (b - a).total_seconds() for a, b in zip(self.at, self.at[1:], strict=False)
            )
        )


def recordings(folder: Path, groups: Iterable[str]) -> list[Recording]:
    """Every series of ``groups``, a repeated instant once."""
    windows = json.loads((folder / "labels" / "combined_windows.json").read_text())
    found = []
    for group in groups:
        for path in sorted((folder / "data" / group).glob("*.csv")):
            with path.open() as lines:
                rows = {_instant(row["timestamp"]): float(row["value"]) for row in csv.DictReader(lines)}
            at = sorted(rows)
            spans = tuple((_instant(a), _instant(b)) for a, b in windows[f"{group}/{path.name}"])
            found.append(Recording(path.stem, tuple(at), np.array([rows[one] for one in at]), spans))
    return found


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ours(one: Recording, thresholds: dict[str, float]) -> list[datetime]:
    """When our alarm fires."""
    step = one.step
    hours = np.array([hours_of(at, step, 1)[0] for at in one.at])
    values = _varying(one.values)
    now = watch(
        [Label("nab", one.name, "all")],
        fit(values[: one.probation, None], hours[: one.probation]),
        thresholds=thresholds,
        step=step,
    )
    found, fitted = [], hours[one.probation]
    for index in range(one.probation, len(values)):
        if hours[index] - fitted >= 24.0:
            fitted = hours[index]
            recent = (hours < fitted) & (hours >= fitted - 28 * 24)
            now = rebased(now, fit(values[recent, None], hours[recent]))
        now, alarms = tick(now, values[index : index + 1], one.at[index])
        found += [alarm.at for alarm in alarms]
    return found


def _varying(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A counter that mostly repeats one value has no median deviation: give it its rounding error."""
    unit = np.min(np.diff(np.unique(values)), initial=np.inf)
    return values + np.random.default_rng(0).uniform(-0.5, 0.5, len(values)) * (
        unit if np.isfinite(unit) else 1.0
    )


def deviations(one: Recording, *, size: int = 6400, every: int = 100) -> NDArray[np.float64]:
    """|value - mean| / deviation of the window before each value, renewed as NAB's windowed Gaussian does."""
    x = one.values - one.values.mean()
    first, second = (np.concatenate([[0.0], np.cumsum(x**power)]) for power in (1, 2))
    place = np.arange(len(x))
    # The window a value is compared with: renewed at every value until it is full, then every 100.
    end = np.where(place <= size, place, size + (place - size) // every * every)
    begin = np.maximum(end - size, 0)
    count = np.maximum(end - begin, 1)
    mean = (first[end] - first[begin]) / count
    spread = np.sqrt(np.maximum((second[end] - second[begin]) / count - mean**2, 0.0))
    found = np.abs(x - mean) / np.where(spread > 0, spread, 1e-6)
    found[0] = 0.0
    return np.asarray(found)


def flagged(one: Recording, scores: NDArray[np.float64], limit: float) -> list[datetime]:
    """Beginnings of runs of scores of at least ``limit`` that six calm ones end, after the probation."""
    found, calm = [], _CALM
    for index in range(one.probation, len(scores)):
        if scores[index] >= limit:
            if calm >= _CALM:
                found.append(one.at[index])
            calm = 0
        else:
            calm += 1
    return found


def judged(series: Sequence[Recording], found: Sequence[Sequence[datetime]]) -> dict[str, Any]:
    """Precision, recall and delay of detections against the labelled windows."""
    right = total = hit = windows = 0
    hours, shares = [], []
    for one, times in zip(series, found, strict=True):
        total += len(times)
        right += sum(any(a <= at <= b for a, b in one.windows) for at in times)
        for a, b in one.windows:
            windows += 1
            first = next((at for at in times if a <= at <= b), None)
            if first is not None:
                hit += 1
                hours.append((first - a).total_seconds() / 3600)
                shares.append((first - a) / (b - a))
    return {
        "detections": total,
        "precision": right / total if total else None,
        "windows": windows,
        "recall": hit / windows if windows else None,
        "delay_hours": statistics.median(hours) if hours else None,
        "delay_share_of_window": statistics.median(shares) if shares else None,
    }


def compare(series: Sequence[Recording]) -> dict[str, Any]:
    """Our alarms and the windowed Gaussian on the same series."""
    thresholds = fleet_thresholds(480)
    mine = [ours(one, thresholds) for one in series]
    scores = [deviations(one) for one in series]
    # A score of 1 in float64 is a tail below 2^-53: 8.2 standard deviations.
    certain = math.sqrt(2.0) * 5.86
    detections = sum(map(len, mine))
    counts = {
        limit: sum(len(flagged(one, s, limit)) for one, s in zip(series, scores, strict=True))
        for limit in np.arange(1.5, 8.3, 0.1)
    }
    matched = min(counts, key=lambda limit: abs(counts[limit] - detections))
    return {
        "ours": judged(series, mine),
        "windowed Gaussian, 8.2 deviations": judged(
            series, [flagged(o, s, certain) for o, s in zip(series, scores, strict=True)]
        ),
        f"windowed Gaussian, {matched:.1f} deviations": judged(
            series, [flagged(o, s, matched) for o, s in zip(series, scores, strict=True)]
        ),
    }


def quiet_fleet(weeks: float, *, seed: int, noise: calibration.Noise | None = None) -> dict[str, Any]:
    """False alarms a week of 480 quiet series, watched at both steps; 90% interval (Garwood)."""
    from scipy.stats import chi2

    limits = {pace.step: fleet_thresholds(480, step=pace.step, a_week=1 / len(PACES)) for pace in PACES}
    alarms, watched = dict.fromkeys(limits, 0), 0.0
    for block in range(round(weeks * _PARTS)):
        generator = np.random.default_rng([seed, block])
        found = calibration.quiet_minutes(1, 480 // _PARTS, noise or calibration.MINUTES, generator)
        for step, residuals in zip((MINUTE, TICK), found, strict=True):
            counted, ticks = calibration.false_alarms(residuals, limits[step])
            alarms[step] += counted
            watched += ticks / 480 / ticks_a_week(step) / len(limits)
    total = sum(alarms.values())
    return {
        "weeks": watched,
        "alarms": total,
        "every_minute": alarms[MINUTE],
        "every_five_minutes": alarms[TICK],
        "a_week": total / watched,
        "low": float(chi2.ppf(0.05, 2 * total) / 2 / watched) if total else 0.0,
        "high": float(chi2.ppf(0.95, 2 * total + 2) / 2 / watched),
    }


def print_table(blocks: int, seed: int) -> None:
    """The threshold table, as the YAML the alarms read; of ticks five times as many blocks as of minutes."""
    print("# Thresholds of the CUSUMs by series-ticks between false alarms of all of them; not edited.")
    print(f'source: "benchmarks/bench_alarms.py --calibrate --blocks {blocks} --seed {seed}"')
    print("steps:")
    for pace in PACES:
        every = pace.step == MINUTE
        noise = calibration.MINUTES if every else calibration.FIVE_MINUTES
        count = blocks if every else blocks * calibration.EACH
        runs = tuple(float(one * ticks_a_week(pace.step)) for one in SERIES_TICKS)
        residuals = (_residuals(pace, noise, np.random.default_rng([seed, block])) for block in range(count))
        found = calibration.calibrate(
            runs, residuals, pace.speeds, on_block=lambda done: print(done, file=sys.stderr)
        )
        ticks = count * _SERIES * _WEEKS * ticks_a_week(pace.step)
        print(f"  {pace.step.total_seconds():.0f}:")
        print(f'    simulated: "{ticks:,} series-ticks of {noise}"')
        print(f"    series_ticks: {[int(run) for run in runs]}")
        print("    thresholds:")
        for name, levels in found.items():
            print(f"      {name}: {[round(level, 2) for level in levels]}", flush=True)


def _residuals(pace: Pace, noise: calibration.Noise, generator: np.random.Generator) -> FloatArray:
    """A quiet fleet after four weeks of history."""
    if pace.step == TICK:
        return calibration.quiet_residuals(_WEEKS, _SERIES, noise, generator)
    return calibration.quiet_minutes(_WEEKS, _SERIES, noise, generator)[0]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--group", action="append", choices=GROUPS)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--quiet-weeks", type=int, default=0)
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--seed", type=int, default=20261121)
    given = parser.parse_args(arguments)
    if given.calibrate:
        print_table(given.blocks, given.seed)
        return
    if given.quiet_weeks:
        print(json.dumps(quiet_fleet(given.quiet_weeks, seed=given.seed + 1), indent=2))
        return
    folder = Path(os.environ.get("MANGAASSIST_DATA", "../shared/data")) / "anomaly_nab"
    if not folder.is_dir():
        raise SystemExit(f"no NAB data at {folder}: set MANGAASSIST_DATA")
    found = compare(recordings(folder, given.group or GROUPS))
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'':42}{'detections':>11}{'precision':>11}{'recall':>8}{'delay h':>9}{'of window':>11}")
    for name, one in found.items():
        numbers = (one["precision"], one["recall"], one["delay_hours"], one["delay_share_of_window"])
        cells = ["–" if value is None else f"{value:.2f}" for value in numbers]
        print(f"{name:42}{one['detections']:>11}{cells[0]:>11}{cells[1]:>8}{cells[2]:>9}{cells[3]:>11}")


if __name__ == "__main__":
    main()
