"""Writing the folder of a new story."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.home import unwritable
from mangaassist.stories.discovery import STORY_FILE, built_in_names, user_folder

_TEMPLATE = Path(__file__).parent / "template" / "text_classification" / STORY_FILE
_PLACEHOLDER = "story_name"
_DEFAULT = "text-classification"
# What differs by kind: what ``fit`` says of itself, and who trains.
_FITS = {
    _DEFAULT: ("Train on all rows of ``examples``.", "mangaassist.training.text.classifier"),
    "deep-text-classification": (
        'Train a small network on all rows of ``examples``; needs the extra "deep".',
        "mangaassist.training.deep.text",
    ),
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")


def kinds() -> tuple[str, ...]:
    """Kinds of story that can be written, sorted."""
    return tuple(sorted(_FITS))


def create_story(name: str, kind: str, home: Path) -> Path:
    """Write ``<home>/stories/<name>/story.py`` from the template of ``kind`` and return the folder.

    Raises:
        InputError: for a bad or taken name, an unknown kind, or a folder that cannot be written.
        Unavailable: when the disk is full.
    """
    check_name(name)
    if kind not in kinds():
        raise InputError(
            "--kind", expected=" or ".join(kinds()), got=repr(kind), next_step=nearest(kind, kinds())
        )
    folder = user_folder(home) / name
    if name in built_in_names():
        raise _taken(name, f"'{name}' is built in: choose another name.")
    if folder.exists():
        raise _taken(name, f"Choose another name, or work on the existing one: {folder}.")
    _write(folder, _text(name, kind))
    return folder


def _text(name: str, kind: str) -> str:
    """The template, which is a whole story of the default kind, as one of ``kind``."""
    text = _TEMPLATE.read_text(encoding="utf-8").replace(_PLACEHOLDER, name)
    for default, wanted in zip((_DEFAULT, *_FITS[_DEFAULT]), (kind, *_FITS[kind]), strict=True):
        text = text.replace(default, wanted)
    return text


def check_name(name: str) -> str:
    """``name`` itself when it can be a story's name.

    Raises:
        InputError: otherwise, with a name near it that can.
    """
    if _NAME.fullmatch(name) and not keyword.iskeyword(name):
        return name
    near = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:48]
    near = f"{near}_story" if keyword.iskeyword(near) else near
    raise InputError(
        "story name",
        expected="up to 48 lower-case letters, digits and underscores, starting with a letter",
        got=repr(name[:80]),
        next_step=f"Try '{near}'." if _NAME.fullmatch(near) else "Try 'my_story'.",
    )


def _write(folder: Path, text: str) -> None:
    # Written beside and renamed, so that nobody ever finds a story without its file.
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True, exist_ok=True)
        (draft / STORY_FILE).write_text(text, encoding="utf-8")
        draft.rename(folder)
    except OSError as error:
        (draft / STORY_FILE).unlink(missing_ok=True)
        if draft.exists():
            draft.rmdir()
        if folder.exists():
            raise _taken(folder.name, "Another process has just written it: use that one.") from error
        raise unwritable(folder, error) from error


def _taken(name: str, next_step: str) -> InputError:
    return InputError("story name", expected="a name that is not taken", got=repr(name), next_step=next_step)
