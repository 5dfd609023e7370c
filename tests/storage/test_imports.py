"""Rooms that need only the ledger or the spool do not pay for Iceberg (`--help` under 0.3 s)."""

from __future__ import annotations

import subprocess
import sys

_IMPORT = """
import sys
import mangaassist.storage.artifacts, mangaassist.storage.ledger, mangaassist.storage.spool
print(*sorted({"polars", "pyarrow", "pyiceberg", "pandas"} & sys.modules.keys()))
"""


def test_the_light_modules_stay_light() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
