"""The one place that says which extra is missing."""

from __future__ import annotations

from importlib.util import find_spec

from mangaassist.core.errors import InputError


def require(*modules: str) -> None:
    """Return when every one of ``modules`` can be imported; imports none.

    Raises:
        InputError: naming the extra to install.
    """
    absent = [name for name in modules if find_spec(name) is None]
    if absent:
        raise InputError(
            "extra 'deep'",
            expected=f"{' and '.join(modules)} installed",
            got=f"no {' and no '.join(absent)}",
            next_step="Run: pip install 'mangaassist[deep]'.",
        )
