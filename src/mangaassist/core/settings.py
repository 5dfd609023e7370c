"""Where the state lives and which engine holds it: one home directory, one small file, one variable each."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from mangaassist.core.errors import InputError, nearest

_PREFIX = "MANGAASSIST_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Engine choices; the defaults are the embedded column of docs/architecture.md.

    Attributes:
        ledger_url: SQLAlchemy URL of the ledger; empty means SQLite in the home.
        catalog_url: SQLAlchemy URL of the Iceberg catalog; empty means SQLite in the home.
        warehouse: URI of the Iceberg warehouse; empty means a folder in the home.
        region: the region this process serves and trains in.
    """

    ledger_url: str = ""
    catalog_url: str = ""
    warehouse: str = ""
    region: str = "us"

    @classmethod
    def load(cls, home: Path, environ: Mapping[str, str] = os.environ) -> Settings:
        """``settings.toml`` in the home, overridden by ``MANGAASSIST_<FIELD>`` variables.

        Raises:
            InputError: for broken TOML, an unknown field or a value that is not text.
        """
        known = [field.name for field in fields(cls)]
        values = _read_toml(home / "settings.toml", known)
        for name in known:
            if _PREFIX + name.upper() in environ:
                values[name] = environ[_PREFIX + name.upper()]
        return cls(**values)


def _read_toml(path: Path, known: list[str]) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            str(path), expected="TOML", got=str(error), next_step="Correct the line or remove the file."
        ) from error
    for name, value in values.items():
        if name not in known:
            raise InputError(
                f"{path.name}: {name}", expected="a known setting", got=name, next_step=nearest(name, known)
            )
        if not isinstance(value, str):
            raise InputError(
                f"{path.name}: {name}", expected="text", got=repr(value), next_step="Put it in quotes."
            )
    return values
