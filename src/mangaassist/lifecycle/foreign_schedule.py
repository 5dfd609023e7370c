"""Handing the schedule of a home to Dagster, where it is installed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mangaassist.core.errors import InputError
from mangaassist.core.home import Home

DEFINITIONS = "mangaassist.lifecycle.dagster_definitions"


def dagster_home(home: Home) -> Path:
    """A folder of the home for Dagster's own state, with its telemetry switched off."""
    folder = home.folder("dagster")
    settings = folder / "dagster.yaml"
    if not settings.exists():
        settings.write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n", encoding="utf-8")
    return folder


def start(home: Home, *, host: str, port: int, execute: Callable[..., Any] = os.execvpe) -> None:
    """Become ``dagster dev`` on this home.

    Raises:
        InputError: the extra is not installed.
    """
    beside = Path(sys.executable).with_name("dagster")
    program = str(beside) if beside.exists() else shutil.which("dagster")
    if program is None:
        raise InputError(
            "run --dagster",
            expected="the program 'dagster'",
            got="none",
            next_step="Install the extra: pip install 'mangaassist[dagster]'.",
        )
    environ = {
        **os.environ,
        "MANGAASSIST_HOME": str(home.path),
        "DAGSTER_HOME": str(dagster_home(home)),
    }
    arguments = ["dev", "-m", DEFINITIONS, "-h", host, "-p", str(port)]
    execute(program, [program, *arguments], environ)
