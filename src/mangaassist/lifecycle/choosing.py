"""Which version a command means when none is named."""

from __future__ import annotations

from mangaassist.core.errors import InputError
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.versions import Version


def choose_version(platform: Platform, name: str, number: int | None) -> Version:
    """Version ``number``; without one the champion, else the newest candidate that has not failed.

    Raises:
        InputError: for an unknown story or version, or when nothing stands to be asked.
    """
    platform.module(name)
    if number is not None:
        return platform.registry.get(name, number)
    champion = platform.registry.deployment(name).champion
    found = platform.registry.get(name, champion) if champion else platform.registry.latest(name)
    if found is None:
        raise InputError(
            f"version of '{name}'",
            expected="a champion or a candidate",
            got="none that has not failed",
            next_step=f"Run 'mangaassist retrain {name}' first.",
        )
    return found


def standing(version: Version) -> str:
    """Version and status in words ("version 3 (champion)")."""
    capped = f", capped at {version.capped}" if version.capped else ""
    return f"version {version.number} ({version.status}{capped})"
