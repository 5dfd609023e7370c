"""The deep text classifier beside the default one, on the simulated shop and on public data.

Run: python benchmarks/bench_deep.py [--rows N] [--json]

Shop: N labelled texts with the labels that were meant (no annotator's mistakes), judged on its golden set.
xSID: as in bench_training.py, N of the training rows and all 150 Japanese ones. Both models get the same
rows, groups and seed; "fit" is processor time and includes the calibration of both. Accuracies are of all
answers, abstained or not, with Wilson intervals; the shop's phrases are few and speak for no real traffic.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import polars as pl

from benchmarks.bench_training import artifact_size, xsid
from mangaassist.evaluation.latency import measure_latency
from mangaassist.simulation.world import Size, build_world
from mangaassist.stats.intervals import wilson
from mangaassist.stories.intent.intents import OUT_OF_SCOPE
from mangaassist.training.deep.text import fit_examples as fit_deep
from mangaassist.training.text.classifier import fit_examples as fit_linear

FITS: dict[str, Callable[..., Any]] = {"linear": fit_linear, "deep": fit_deep}


def frame(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["text", "label", "group_id"], orient="row")


def shop(rows: int) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    world = build_world(7, datetime(2026, 9, 1, tzinfo=UTC), Size(labelled=rows))
    train, golden = (
        frame([(one.example.text, one.intent, one.example.group_id) for one in samples])
        for samples in (world.history(), world.golden())
    )
    return train, {"golden": golden}


def public(folder: Path, rows: int) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    train, tests = xsid(folder)
    japanese = train[-150:]
    chosen = np.random.default_rng(0).permutation(len(train) - 150)[:rows]
    numbered = [
        (text, label, str(n)) for n, (text, label) in enumerate([*(train[one] for one in chosen), *japanese])
    ]
    return frame(numbered), {
        name: frame([(text, label, "") for text, label in part]) for name, part in tests.items()
    }


def compare(name: str, train: pl.DataFrame, tests: dict[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """One row per model and test set; out-of-scope rows of a test measure abstention, not accuracy."""
    found = []
    for kind, fit in FITS.items():
        began = process_time()
        model = fit(train, seed=0, out_of_scope_label=OUT_OF_SCOPE)
        seconds = process_time() - began
        for part, test in tests.items():
            inside = test.filter(pl.col("label") != OUT_OF_SCOPE)
            strangers = test.filter(pl.col("label") == OUT_OF_SCOPE)["text"].to_list()
            answers = model.predict(inside["text"].to_list())
            right = sum(one.label == label for one, label in zip(answers, inside["label"], strict=True))
            found.append(
                {
                    "set": name,
                    "test": part,
                    "model": kind,
                    "rows": train.height,
                    "accuracy": wilson(right, inside.height).as_dict(),
                    "coverage": float(np.mean([not one.abstains for one in answers])),
                    "out_of_scope_recall": (
                        float(np.mean([one.abstains for one in model.predict(strangers)]))
                        if strangers
                        else None
                    ),
                    "fit_cpu_seconds": seconds,
                    "p50_ms": measure_latency(model, inside["text"].to_list(), calls=500).p50_ms,
                    "artifact_mb": artifact_size(model),
                }
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    report = compare("shop", *shop(given.rows))
    data = Path(os.environ.get("MANGAASSIST_DATA", "../shared/data"))
    if (data / "intent_xsid_en_ja").is_dir():
        report += compare("xsid", *public(data, given.rows))
    if given.json:
        print(json.dumps(report, indent=2))
        return 0
    for row in report:
        accuracy = row["accuracy"]
        strangers = row["out_of_scope_recall"]
        turned = "-" if strangers is None else f"{strangers:.3f}"
        print(
            f"{row['set']:5} {row['test']:7} {row['model']:7} accuracy {accuracy['value']:.3f} "
            f"({accuracy['low']:.3f} to {accuracy['high']:.3f}, n = {accuracy['n']})  "
            f"coverage {row['coverage']:.3f}  out of scope turned away {turned}  "
            f"fit {row['fit_cpu_seconds']:.1f} CPU s  "
            f"p50 {row['p50_ms']:.2f} ms  {row['artifact_mb']:.1f} MB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
