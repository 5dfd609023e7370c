"""YAML that ships with the package and may be added to by a home."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from mangaassist.core.errors import InputError


def shipped(name: str) -> dict[str, Any]:
    """The package's own document."""
    text = resources.files("mangaassist.retraining").joinpath(name).read_text(encoding="utf-8")
    body: dict[str, Any] = yaml.safe_load(text)
    return body


def of_home(home: Path | None, name: str) -> dict[str, Any]:
    """The home's document of that name; empty where there is none.

    Raises:
        InputError: it is not a YAML mapping.
    """
    path = home / name if home is not None else None
    if path is None or not path.exists():
        return {}
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise malformed(name, "YAML", " ".join(str(error).split())) from error
    if not isinstance(body, dict):
        raise malformed(name, "a mapping", type(body).__name__)
    return body


def malformed(where: str, expected: str, got: object) -> InputError:
    """One clear sentence about a document a person wrote."""
    return InputError(where, expected=expected, got=str(got), next_step="Correct the document.")
