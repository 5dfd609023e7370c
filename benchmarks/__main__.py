"""Run every benchmark (or those named) one after the other: `python -m benchmarks [storage registry ...]`."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main(names: list[str]) -> int:
    """Each benchmark runs in a process of its own, so that one's memory and imports do not help the next."""
    known = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"No benchmark {', '.join(unknown)}. Known: {', '.join(known)}.", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()} on {platform.machine()}; absolute times are this machine's.\n")
    failed = 0
    for name in names or known:
        print(f"== {name}", flush=True)
        failed += subprocess.call([sys.executable, "-m", f"benchmarks.bench_{name}"]) != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
