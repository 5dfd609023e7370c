"""The step runner's own cost, and the default text classifier on public data.

Run: python benchmarks/bench_training.py [--repeats N] [--steps-only] [--json]

Steps: ten steps that do nothing, chained, on a fresh home; each uncached run has other parameters. Text:
CLINC150 (official split, in scope; once without and once with its 100 out-of-scope training rows) and xSID
(English training rows without those that occur in a test or validation file, plus the 150 Japanese validation
rows), beside the plain scikit-learn pipeline of the same features. Data is looked for in MANGAASSIST_DATA,
default ../shared/data, and left out where it is missing. Times are wall times of this machine; "fit" includes
out-of-fold calibration, which the plain pipeline does not do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_text
from mangaassist.evaluation.latency import measure_latency
from mangaassist.stats.intervals import wilson
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.training.floors import Floor, fit_floors
from mangaassist.training.pipeline import Runner, Step, StepInputs
from mangaassist.training.text.classifier import fit

Rows = list[tuple[str, str]]
Report = dict[str, Any]
OUTSIDE = "oos"


def no_op_steps(parameter: int) -> list[Step]:
    """Ten chained steps, each storing one small file."""

    def run(inputs: StepInputs) -> dict[str, bytes]:
        return {"out.json": json.dumps(dict(inputs.params)).encode()}

    return [
        Step(f"step_{i}", run, needs=(f"step_{i - 1}",) if i else (), params={"i": i, "parameter": parameter})
        for i in range(10)
    ]


def step_costs(repeats: int) -> Report:
    """Milliseconds of ten steps, run and remembered; the best run is the least disturbed one."""
    start = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    with tempfile.TemporaryDirectory() as folder:
        home = Home.open(Path(folder) / "home")
        runner = Runner(home, ArtifactStore(home.folder("artifacts")), start)
        uncached = [timed(runner.run, no_op_steps(parameter)) for parameter in range(repeats)]
        cached = [timed(runner.run, no_op_steps(parameter)) for parameter in range(repeats)]
    return {
        "ten_steps_uncached_ms": statistics.median(uncached) * 1e3,
        "ten_steps_cached_ms": statistics.median(cached) * 1e3,
        "ten_steps_uncached_best_ms": min(uncached) * 1e3,
        "ten_steps_cached_best_ms": min(cached) * 1e3,
    }


def timed(work: Callable[[Sequence[Step]], object], steps: Sequence[Step]) -> float:
    began = perf_counter()
    work(steps)
    return perf_counter() - began


def clinc(folder: Path) -> tuple[Rows, Rows, Rows, Rows]:
    """Train, test, out-of-scope train and out-of-scope test rows of the official split."""
    data = json.loads((folder / "intent_clinc150_en" / "data_full.json").read_text(encoding="utf-8"))
    train, test, outside, strangers = (
        [(text, label) for text, label in data[name]] for name in ("train", "test", "oos_train", "oos_test")
    )
    return train, test, outside, strangers


def xsid(folder: Path) -> tuple[Rows, dict[str, Rows]]:
    """Leak-free training rows and test rows by language; Japanese is joined, as the file is pre-tokenised."""

    def read(name: str, *, joined: bool = False) -> Rows:
        frame = pl.read_csv(
            folder / "intent_xsid_en_ja" / name, separator="\t", quote_char=None, infer_schema=False
        )
        texts = [text.replace(" ", "") if joined else text for text in frame["text"]]
        return list(zip(texts, frame["intent"], strict=True))

    tests = {"en": read("en.test.tsv"), "ja": read("ja.test.tsv", joined=True)}
    valid = {"en": read("en.valid.tsv"), "ja": read("ja.valid.tsv", joined=True)}
    seen = {canonical_text(text) for rows in (*tests.values(), valid["en"]) for text, _ in rows}
    train = [row for row in [*read("en.train.tsv"), *valid["ja"]] if canonical_text(row[0]) not in seen]
    return train, tests


def judge(name: str, train: Rows, tests: dict[str, Rows], strangers: Rows) -> Report:
    """Fit once, then accuracy by test set, its floors, the plain pipeline's accuracy, abstention, speed."""
    texts, labels = [text for text, _ in train], [label for _, label in train]
    began = perf_counter()
    model = fit(
        texts, labels, [str(row) for row in range(len(train))], seed=0, out_of_scope_label=OUTSIDE
    ).model
    seconds = perf_counter() - began
    floors = fit_floors(texts, labels, out_of_scope_label=OUTSIDE)
    plain, plain_seconds = plain_pipeline(train, tests)
    report: Report = {
        "set": name,
        "rows": len(train),
        "fit_seconds": seconds,
        "plain_fit_seconds": plain_seconds,
    }
    for part, rows in tests.items():
        answers = model.predict([text for text, _ in rows])
        right = np.array([answer.label == label for answer, (_, label) in zip(answers, rows, strict=True)])
        kept = np.array([not answer.abstains for answer in answers])
        estimate = wilson(int(right.sum()), len(right))
        report[part] = {
            "accuracy": estimate.as_dict(),
            "plain_accuracy": plain[part],
            "floors": {floor: share_right(said, rows) for floor, said in floors.items()},
            "coverage": float(kept.mean()),
            "accuracy_when_answering": float(right[kept].mean()),
        }
    if strangers:
        turned_away = [answer.abstains for answer in model.predict([text for text, _ in strangers])]
        report["out_of_scope_recall"] = float(np.mean(turned_away))
    latency = measure_latency(model, [text for rows in tests.values() for text, _ in rows], calls=2000)
    return {**report, "p50_ms": latency.p50_ms, "p95_ms": latency.p95_ms, "artifact_mb": artifact_size(model)}


def share_right(floor: Floor, rows: Rows) -> float:
    said = floor.predict([text for text, _ in rows])
    return float(np.mean([answer == label for answer, (_, label) in zip(said, rows, strict=True)]))


def artifact_size(model: Any) -> float:
    return sum(len(data) for data in model.files().values()) / 1e6


def plain_pipeline(train: Rows, tests: dict[str, Rows]) -> tuple[dict[str, float], float]:
    """Word (1,2) and in-word character (2,5) tf-idf, each scaled to length 1, and a linear SVM with C = 1."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    inside = [row for row in train if row[1] != OUTSIDE]
    began = perf_counter()
    blocks = [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    ]
    matrix = hstack([block.fit_transform([text for text, _ in inside]) for block in blocks]).tocsr()
    machine = LinearSVC(C=1, random_state=0).fit(matrix, [label for _, label in inside])
    seconds = perf_counter() - began
    scores = {}
    for part, rows in tests.items():
        made = hstack([block.transform([text for text, _ in rows]) for block in blocks]).tocsr()
        scores[part] = float(np.mean(machine.predict(made) == np.array([label for _, label in rows])))
    return scores, seconds


def text_reports(folder: Path) -> list[Report]:
    """Every public set that is there."""
    reports = []
    if (folder / "intent_clinc150_en" / "data_full.json").exists():
        train, test, outside, strangers = clinc(folder)
        reports.append(judge("CLINC150", train, {"en": test}, strangers))
        reports.append(judge("CLINC150 + out-of-scope rows", [*train, *outside], {"en": test}, strangers))
    if (folder / "intent_xsid_en_ja" / "en.train.tsv").exists():
        train, tests = xsid(folder)
        reports.append(judge("xSID", train, tests, []))
    return reports


def table(steps: Report, texts: Sequence[Report]) -> str:
    uncached, cached = (
        f"{steps[f'ten_steps_{kind}_ms']:.2f} ({steps[f'ten_steps_{kind}_best_ms']:.2f})"
        for kind in ("uncached", "cached")
    )
    lines = [
        f"ten no-op steps, median (best): {uncached} ms uncached, aim 10; {cached} ms cached, aim 1",
    ]
    for report in texts:
        outside = report.get("out_of_scope_recall")
        lines += [
            "",
            f"{report['set']}: {report['rows']:,} rows, fit {report['fit_seconds']:.1f} s "
            f"(plain pipeline without calibration {report['plain_fit_seconds']:.1f} s)",
            f"  one prediction {report['p50_ms']:.3f} ms p50 / {report['p95_ms']:.3f} ms p95, "
            f"artifact {report['artifact_mb']:.0f} MB"
            + (f", out-of-scope recall {outside:.3f}" if outside is not None else ""),
        ]
        for part in ("en", "ja"):
            if part in report:
                lines.append(_line(part, report[part]))
    return "\n".join(lines)


def _line(part: str, found: Report) -> str:
    accuracy = found["accuracy"]
    floors = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found["floors"].items())
    return (
        f"  {part}: accuracy {accuracy['value']:.4f} ({accuracy['low']:.4f} to {accuracy['high']:.4f}, "
        f"n = {accuracy['n']:,}), plain pipeline {found['plain_accuracy']:.4f}, floors: {floors}; "
        f"answers {found['coverage']:.3f} of it at {found['accuracy_when_answering']:.4f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--steps-only", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    folder = Path(os.environ.get("MANGAASSIST_DATA", "../shared/data"))
    steps = step_costs(options.repeats)
    texts = [] if options.steps_only else text_reports(folder)
    if options.json:
        print(json.dumps({"steps": steps, "text": texts}))
        return 0
    print(table(steps, texts))
    if not texts and not options.steps_only:
        print(f"\nNo public data at {folder}: set MANGAASSIST_DATA to measure the classifier.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
