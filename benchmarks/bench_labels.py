"""Agreement and Dawid-Skene on 1 M annotations, beside crowd-kit 1.4 in an environment of its own.

Run: python -m benchmarks.bench_labels [--annotations N] [--workers N] [--classes N] [--peer PYTHON] [--json]

Make the peer with: python -m venv DIR && DIR/bin/pip install crowd-kit==1.4.2; then pass --peer
DIR/bin/python or set MANGAASSIST_PEER_CROWDKIT to it. Without it only our own times are printed.

First both must agree: the same majority labels on every item without a tie, and the same Dawid-Skene
probabilities after the same number of EM steps with our smoothing made negligible. Then the peer is timed
with as many steps as ours needed to converge. Times are of the calls alone, without imports or reading data;
both CPU and wall time, because other work on the machine stretches the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.stats.agreement import alpha_of_votes, dawid_skene, majority
from mangaassist.stats.pairwise import pairwise_kappa

Codes = NDArray[np.int64]
Votes = tuple[Codes, Codes, Codes]

LIMIT_SECONDS = 5.0
_VOTES = 3
_CLOSE = 1e-6
_PEER = """
import sys, time, json, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
from crowdkit.aggregation import DawidSkene, MajorityVote
data = np.load(sys.argv[1]); steps = int(sys.argv[2])
answers = pd.DataFrame({"task": data["item"], "worker": data["worker"], "label": data["label"]})
def timed(run):
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return found, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
vote, vote_time = timed(lambda: MajorityVote().fit_predict(answers))
model, model_time = timed(lambda: DawidSkene(n_iter=steps, tol=0.0).fit_predict_proba(answers))
model = model.sort_index()[sorted(model.columns)]
np.savez(sys.argv[3], vote=vote.sort_index().to_numpy(), posterior=model.to_numpy())
print(json.dumps({"majority": vote_time, "Dawid-Skene": model_time}))
"""


def simulate(annotations: int, workers: int, classes: int, *, seed: int) -> tuple[Votes, Codes]:
    """Three votes an item by workers of differing skill, and the truth."""
    generator = np.random.default_rng(seed)
    items = -(-annotations // _VOTES)
    truth = generator.integers(0, classes, items)
    item = np.repeat(np.arange(items), _VOTES)
    # Three different workers an item: an offset that steps past each other.
    first = generator.integers(0, workers, items)
    steps = np.cumsum(generator.integers(1, workers // _VOTES, (items, _VOTES)), axis=1)
    worker = ((first[:, None] + steps) % workers).ravel()
    right = generator.random(len(item)) < generator.beta(8, 2, workers)[worker]
    label = np.where(right, truth[item], generator.integers(0, classes, len(item)))
    return (item, worker, label), truth


def timed(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return found, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def ask_peer(python: str, votes: Votes, steps: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The peer's times and its results, from a process in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "votes.npz", Path(folder) / "found.npz"
        np.savez(given, item=votes[0], worker=votes[1], label=votes[2])
        said = subprocess.run(
            [python, "-c", _PEER, str(given), str(steps), str(found)],
            check=True,
            capture_output=True,
            text=True,
        )
        with np.load(found) as loaded:
            return json.loads(said.stdout.splitlines()[-1]), dict(loaded)


def check_equal(python: str, workers: int, classes: int) -> float:
    """The largest difference of the two posteriors on a small set; SystemExit when they are not equal."""
    votes, _ = simulate(30_000, min(workers, 40), classes, seed=2)
    sizes = {"n_items": int(votes[0].max()) + 1, "n_classes": classes}
    _, theirs = ask_peer(python, votes, 10)
    vote = majority(votes[0], votes[2], **sizes)
    model = dawid_skene(
        *votes, n_workers=min(workers, 40), **sizes, smoothing=1e-9, tolerance=0.0, max_iterations=10
    )
    apart = float(np.abs(model.posterior - theirs["posterior"]).max())
    settled = ~vote.tied
    if (vote.winner[settled] != theirs["vote"][settled]).any() or apart > _CLOSE:
        raise SystemExit(f"The two disagree (posteriors by {apart:.2g}): nothing to time.")
    return apart


def measure(annotations: int, workers: int, classes: int, peer: str | None) -> dict[str, Any]:
    apart = check_equal(peer, workers, classes) if peer else None
    votes, truth = simulate(annotations, workers, classes, seed=1)
    item, _, label = votes
    sizes = {"n_items": len(truth), "n_classes": classes}
    generator = np.random.default_rng(3)
    runs: dict[str, Callable[[], Any]] = {
        "majority": lambda: majority(item, label, **sizes),
        "Dawid-Skene": lambda: dawid_skene(*votes, n_workers=workers, **sizes),
        "kappa of all pairs, with interval": lambda: pairwise_kappa(*votes, n_workers=workers, **sizes),
        "alpha, with interval": lambda: alpha_of_votes(item, label, generator=generator, **sizes),
    }
    found = {name: timed(run) for name, run in runs.items()}
    model, vote = found["Dawid-Skene"][0], found["majority"][0]
    theirs = ask_peer(peer, votes, model.iterations)[0] if peer else {}
    return {
        "annotations": len(item),
        "workers": workers,
        "classes": classes,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "posteriors_apart": apart,
        "steps": model.iterations,
        "accuracy": {
            "majority": float((vote.winner == truth).mean()),
            "Dawid-Skene": float((model.posterior.argmax(axis=1) == truth).mean()),
        },
        "work": {name: {"ours": one[1], "crowd-kit": theirs.get(name)} for name, one in found.items()},
    }


def show(result: dict[str, Any], peer: str | None) -> None:
    print(f"{result['annotations']:,} annotations, {result['workers']} workers, {result['classes']} classes")
    if peer is None:
        print("crowd-kit is not there (see --help): no comparison, only our own times.")
    else:
        print(f"Equal first: posteriors differ by at most {result['posteriors_apart']:.1e} after 10 steps.")
    print(f"{'work':<36}{'CPU s':>8}{'wall s':>8}{'crowd-kit CPU s':>17}{'times':>8}")
    for name, one in result["work"].items():
        theirs = one["crowd-kit"]
        compared = f"{theirs['cpu']:>17.2f}{theirs['cpu'] / one['ours']['cpu']:>8.1f}" if theirs else ""
        print(f"{name:<36}{one['ours']['cpu']:>8.2f}{one['ours']['wall']:>8.2f}{compared}")
    cpu = sum(one["ours"]["cpu"] for one in result["work"].values())
    wall = sum(one["ours"]["wall"] for one in result["work"].values())
    verdict = "within" if cpu <= LIMIT_SECONDS else "over"
    print(f"{'all':<36}{cpu:>8.2f}{wall:>8.2f}   {verdict} the {LIMIT_SECONDS:.0f} s aimed at, by CPU time")
    shares = ", ".join(f"{name} {share:.4f}" for name, share in result["accuracy"].items())
    print(f"Accuracy on the simulated truth: {shares}; {result['steps']} EM steps.")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--peer", default=os.environ.get("MANGAASSIST_PEER_CROWDKIT"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = measure(options.annotations, options.workers, options.classes, options.peer)
    if options.json:
        print(json.dumps(result))
        return
    show(result, options.peer)


if __name__ == "__main__":
    main()
