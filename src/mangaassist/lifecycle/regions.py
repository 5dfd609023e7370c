"""Signed copies of a version in other regions: the same files, another store, that region's own key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mangaassist.lifecycle.platform import Platform
    from mangaassist.promotion.versions import Version


def copy(platform: Platform, name: str, number: int, *, region: str, to: Path, actor: str) -> Version:
    """Put a version's files into the artifact store at ``to`` and sign them for ``region``.

    The files are checked byte by byte against this region's signed manifest before anything is written, and
    the copy has the same id, so a copy that differs cannot come to be. Copying twice changes no file.

    Args:
        to: the ``artifacts`` folder of the other region's home.

    Raises:
        IntegrityError: the files here are damaged or not vouched for.
        GateRefused: this machine does not hold the other region's key.
    """
    from mangaassist.core.errors import IntegrityError
    from mangaassist.storage.artifacts import ArtifactStore

    version = platform.registry.verified(name, number)
    copied = ArtifactStore(to).put_files(platform.artifacts.files(version.artifact), durable=True)
    if copied != version.artifact:
        raise IntegrityError(
            f"copy of {version.name}",
            expected=version.artifact,
            got=copied,
            next_step="The manifest was written by another release: retrain the version.",
        )
    return platform.registry.sign(name, number, region=region, actor=actor, at=platform.clock.now())
