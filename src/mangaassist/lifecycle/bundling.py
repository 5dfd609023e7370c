"""A bundle as the command line gives it: members as ROLE=REFERENCE, the evaluation as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from mangaassist.core.errors import InputError
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.pairs import Bundle


def register(
    platform: Platform, name: str, members: Sequence[str], evaluation: Path | None, *, actor: str
) -> Bundle:
    """Enter a bundle.

    Raises:
        InputError: a member that is not ROLE=REFERENCE or is given twice, or a file that is not JSON.
    """
    found: dict[str, str] = {}
    for member in members:
        role, separator, reference = member.partition("=")
        if not (role and separator and reference) or role in found:
            raise InputError(
                "--member",
                expected="ROLE=STORY/VERSION or ROLE=DIGEST, each role once",
                got=repr(member),
                next_step="Write it like --member embedding=embedding/3.",
            )
        found[role] = reference
    document = _document(evaluation) if evaluation is not None else None
    return platform.bundles.register(name, found, evaluation=document, actor=actor, at=platform.clock.now())


def _document(path: Path) -> dict[str, object]:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InputError(
            "--evaluation",
            expected="a readable JSON file",
            got=str(error),
            next_step="Correct the path or file.",
        ) from error
    if not isinstance(found, dict):
        raise InputError(
            "--evaluation",
            expected="a JSON object",
            got=type(found).__name__,
            next_step='Write {"members": {...}, "verdicts": [...]}.',
        )
    return found
