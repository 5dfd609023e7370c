"""Identity of source code: the digest that makes a step stale when its code changes."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from mangaassist.core.errors import InputError
from mangaassist.core.identity import digest, digest_bytes

# Data that changes what code does counts as code: a feature catalog, a list of rules.
_SOURCES = ("*.py", "*.yaml", "*.yml", "*.json", "*.toml")


@cache
def code_digest(*modules: str) -> str:
    """SHA-256 of the sources of ``modules`` (dotted names; a package stands for everything under it).

    Each set of names is read once per process: code that changes under a running process is not what
    that process runs.

    Raises:
        InputError: when a module does not exist or has no source.
    """
    return digest({module: _sources_digest(module) for module in modules})


def _sources_digest(module: str) -> dict[str, str]:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # a parent package is missing
        spec = None
    if spec is None or spec.origin is None:
        raise InputError(
            "code",
            expected="an importable module with source",
            got=module,
            next_step="Name a module or package, for example 'mangaassist.training'.",
        )
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return {origin.name: digest_bytes(origin.read_bytes())}
    return folder_digests(origin.parent)


def folder_digests(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every source file under ``folder``."""
    found = {path for pattern in _SOURCES for path in folder.rglob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): digest_bytes(path.read_bytes()) for path in sorted(found)}
