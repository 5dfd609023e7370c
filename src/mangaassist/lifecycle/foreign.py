"""Calls into a story's own code: whatever it raises becomes one sentence with its file and line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mangaassist.core.errors import InputError, MangaAssistError
from mangaassist.core.story import StoryModule


@contextmanager
def story_code(module: StoryModule, part: str) -> Iterator[None]:
    """Run ``part`` ("load", "fit") of a story, and read what it returned, inside this block.

    Raises:
        InputError: whatever the story raised, at the innermost line of its own file that led there.
    """
    try:
        yield
    except MangaAssistError:
        raise
    except Exception as error:  # a story is anybody's code and may raise anything
        file = str(getattr(module, "__file__", module.STORY.name))
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == file]
        raise InputError(
            f"{file}, line {frames[-1].lineno}" if frames else file,
            expected=f"'{part}' to do its work on these examples",
            got=f"{type(error).__name__}: {error}",
            next_step="Correct the file and run the command again; finished steps are kept.",
        ) from error
