"""Is this installation and this home fit to work? Each problem comes with what to do about it."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mangaassist.core.clock import SystemClock
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.home import Home
from mangaassist.lifecycle.auditing import audit_home
from mangaassist.lifecycle.platform import Platform

_LIBRARIES = ("numpy", "scipy", "polars", "pyarrow", "pyiceberg", "sqlalchemy", "sklearn", "sudachipy")
_ROOM = 1 << 30
_NEXT = {"notices": "See 'mangaassist incident notices', and the [notices] addresses in settings.toml."}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    next_step: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The check as a JSON object."""
        return asdict(self)


def examine(path: Path) -> list[Check]:
    """Every check, cheapest first. Never raises for what it looks at; what it finds wrong it reports."""
    checks = [_python(), *_libraries(), _japanese()]
    try:
        home = Home.open(path, create=False)
    except MangaAssistError as error:
        checks.append(Check("home", False, error.got, error.next_step))
    else:
        checks.extend(_home(home))
    return [replace(check, next_step="") if check.ok else check for check in checks]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), found, "Use Python 3.11 or newer.")


def _libraries() -> Iterator[Check]:
    for name in _LIBRARIES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            yield Check(name, False, str(error), "Install again: make demo")
        else:
            yield Check(name, True, str(getattr(module, "__version__", "present")))


def _japanese() -> Check:
    """The dictionary is a package of its own, and a broken one only shows when it is used."""
    from mangaassist.training.text.preprocessing import tokenize

    try:
        tokens = tokenize("引っ越ししたので住所を変えたい")
    except MangaAssistError as error:
        return Check("japanese", False, str(error), "Install again: make demo")
    return Check("japanese", len(tokens) > 2, " ".join(tokens[:4]), "Install sudachidict-core again.")


def _home(home: Home) -> Iterator[Check]:
    yield Check("home", os.access(home.path, os.W_OK), str(home.path), "Change its permissions.")
    free = shutil.disk_usage(home.path).free
    yield Check("disk", free > _ROOM, f"{free / _ROOM:.1f} GiB free", "Free at least 1 GiB.")
    platform = Platform.open(home, SystemClock())
    looks: dict[str, Callable[[], tuple[bool, str]]] = {
        "ledger": lambda: _audit(platform),
        "tables": lambda: (True, f"{len(platform.tables.names())} tables"),
        "notices": lambda: _delivered(platform),
        "switches": lambda: (True, "frozen" if platform.switches.permissions("").frozen else "not frozen"),
    }
    for name, look in looks.items():
        try:
            ok, found = look()
        except MangaAssistError as error:
            yield Check(name, False, error.got, error.next_step)
        else:
            yield Check(name, ok, found, "" if ok else _NEXT.get(name, "Restore the home from a backup."))


def _delivered(platform: Platform) -> tuple[bool, str]:
    """A page that reaches nobody is a fault of the installation."""
    from mangaassist.lifecycle.probing import notices

    return notices(platform)


def _audit(platform: Platform) -> tuple[bool, str]:
    audit = audit_home(platform)
    return audit.ok, audit.sentence
