"""The whole journey of somebody's own data by the commands a stranger would type, on CLINC150 and xSID.

Prints wall time of each command and accuracy beside floor and interval. Absolute times are this machine's;
the accuracies are comparable with Larson et al. (2019), Table 2, "Full": SVM 91.0, BERT 96.9 in scope.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

DATA = Path(os.environ.get("MANGAASSIST_DATA", "../shared/data"))
REASON = "public benchmark with one label source"


class Journey:
    """One home, and how long each command on it took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}

    def run(self, step: str, *arguments: str) -> dict[str, Any]:
        """Run one command with ``--json`` and return its answer."""
        command = [
            sys.executable,
            "-m",
            "mangaassist",
            "--home",
            str(self.folder / "home"),
            *arguments,
            "--json",
        ]
        began = perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(f"{step}: {done.stdout}{done.stderr}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def write(self, name: str, rows: Iterable[Sequence[str]]) -> str:
        """A CSV with columns text and label; its path."""
        path = self.folder / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows(rows)
        return str(path)

    def learn(self, story: str, train: str, golden: str) -> dict[str, Any]:
        """Import, retrain, evaluate."""
        columns = ("--text-column", "text", "--label-column", "label", "--source", "vendor")
        self.run("story new", "story", "new", story, "--kind", "text-classification")
        self.run("import", "labels", "import", story, train, *columns)
        self.run("import", "labels", "import", story, golden, *columns, "--role", "golden")
        self.run("retrain", "retrain", story, "--waive", "single-source", "--reason", REASON)
        return self.run("evaluate", "evaluate", story, "--on", "golden")


def clinc(folder: Path) -> dict[str, Any]:
    """CLINC150, official split; the 100 out-of-scope training rows teach abstention."""
    splits = json.loads((DATA / "intent_clinc150_en" / "data_full.json").read_text(encoding="utf-8"))
    journey = Journey(folder)
    outside = [(text, "out_of_scope") for text, _ in splits["oos_train"]]
    unseen = [(text, "out_of_scope") for text, _ in splits["oos_test"]]
    train = journey.write("train", [*splits["train"], *outside])
    golden = journey.write("golden", [*splits["test"], *unseen])
    return {"answer": journey.learn("clinc", train, golden), "seconds": journey.seconds}


def xsid(folder: Path) -> dict[str, Any]:
    """xSID: English training rows and the 150 Japanese validation rows; test rows of both languages.

    Training texts that occur in the test are dropped by the platform itself; Japanese comes tokenised and is
    joined again.
    """
    source = DATA / "intent_xsid_en_ja"

    def rows(name: str) -> list[tuple[str, str]]:
        with (source / f"{name}.tsv").open(encoding="utf-8") as file:
            found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        joined = name.startswith("ja")
        return [(one["text"].replace(" ", "") if joined else one["text"], one["intent"]) for one in found]

    journey = Journey(folder)
    train = journey.write("train", sorted({*rows("en.train"), *rows("ja.valid")}))
    golden = journey.write("golden", [*rows("en.test"), *rows("ja.test")])
    return {"answer": journey.learn("xsid", train, golden), "seconds": journey.seconds}


def report(name: str, found: dict[str, Any]) -> None:
    """A short table."""
    metrics = {**found["answer"]["metrics"], **found["answer"]["languages"]}
    for metric in ("accuracy", "coverage", "accuracy_when_answering", "out_of_scope_recall", "en", "ja"):
        if metric in metrics:
            one = metrics[metric]
            interval = f"({one['low']:.3f} to {one['high']:.3f})"
            floor = "" if one["floor"] is None else f"  floor {one['floor']:.3f}"
            print(f"{name:<10}{metric:<26}{one['value']:.4f} {interval}  n {one['n']}{floor}")
    spent = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in found["seconds"].items())
    print(f"{name:<10}{sum(found['seconds'].values()):.1f} s in all: {spent}\n")


def main() -> int:
    """Run both journeys; skipped cleanly where the data is absent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    if not DATA.is_dir():
        print(f"No datasets at {DATA}; set MANGAASSIST_DATA.")
        return 0
    found = {}
    for name, journey in (("CLINC150", clinc), ("xSID", xsid)):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = journey(Path(folder))
        if not as_json:
            report(name, found[name])
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
