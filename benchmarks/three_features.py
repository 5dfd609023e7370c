"""What the feature benchmarks share: three features of a shopper, and a peer in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mangaassist.features.catalog import Catalog

NAMES = ("f1", "f2", "f3")
_INTERPRETER = "MANGAASSIST_FEAST_PYTHON"


def catalog(ttl_days: int) -> Catalog:
    """f1 (int), f2 and f3 (float) by user_id, without serving lag."""
    return Catalog.parse(
        "namespace: bench\nviews:\n  shopper:\n    entity: user_id\n    owner: bench\n    features:\n"
        + "".join(
            f"      {name}: {{description: B., dtype: {dtype}, default: {default}, serving_lag: 0s, "
            f"ttl: {ttl_days}d, freshness_sla: 1h, recency_window: 1d}}\n"
            for name, dtype, default in (("f1", "int", -1), ("f2", "float", -1.0), ("f3", "float", -1.0))
        ),
        source="bench.yaml",
    )


def has_peer() -> bool:
    """Whether there is an interpreter with the peer; says so where there is none."""
    found = bool(os.environ.get(_INTERPRETER))
    if not found:
        print(f"No peer: set {_INTERPRETER} (see the top of this file).", file=sys.stderr)
    return found


def peer(script: Path, *arguments: object) -> Any:
    """The JSON that ``script`` prints last, run by the peer's interpreter."""
    return last_line([os.environ[_INTERPRETER], str(script), *map(str, arguments)])


def last_line(command: Sequence[str]) -> Any:
    """The JSON that ``command`` prints last; SystemExit with what it said where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
