"""Finding and loading stories: a folder with a ``story.py`` is one, in this package or in a home.

There is no list to edit. Built-in stories win over a user's folder of the same name, so that an upgrade
never changes which code a known name means.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import digest_bytes
from mangaassist.core.story import Story, StoryModule

STORY_FILE = "story.py"
FEATURES_FILE = "features.yaml"
_BUILT_IN = Path(__file__).parent

# What a mistake in somebody's module can raise while it is being imported.
_MISTAKES = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def user_folder(home: Path) -> Path:
    """Where the stories of a home live."""
    return home / "stories"


def built_in_names() -> tuple[str, ...]:
    """Names of the stories in this package, sorted."""
    return _names_in(_BUILT_IN)


def story_names(home: Path) -> tuple[str, ...]:
    """Names of all stories a home knows, built-in and its own, sorted."""
    return tuple(sorted({*built_in_names(), *_names_in(user_folder(home))}))


def _names_in(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in folder.glob(f"[a-z]*/{STORY_FILE}")))


def story_path(name: str, home: Path) -> Path:
    """The ``story.py`` of ``name``.

    Raises:
        InputError: for an unknown name, with the nearest known one.
    """
    known = story_names(home)
    if name not in known:
        raise InputError(
            "story",
            expected="a story of this home",
            got=repr(name),
            next_step=f"{nearest(name, known)} Or write one with 'mangaassist story new NAME'.",
        )
    folder = _BUILT_IN if name in built_in_names() else user_folder(home)
    return folder / name / STORY_FILE


def features_path(name: str, home: Path) -> Path:
    """The feature catalog of ``name``: ``features/<name>.yaml`` of the home where there is one, else the
    ``features.yaml`` beside its ``story.py``, whether or not that exists.

    Raises:
        InputError: for an unknown name, with the nearest known one.
    """
    own = home / "features" / f"{name}.yaml"
    return own if own.exists() else story_path(name, home).with_name(FEATURES_FILE)


def load_story(name: str, home: Path) -> StoryModule:
    """The module of story ``name``.

    Raises:
        InputError: for an unknown name, or a user's ``story.py`` that does not import or lacks a part; the
            message names the file and, where there is one, the line.
    """
    path = story_path(name, home)
    if path.parent.parent == _BUILT_IN:
        return cast(StoryModule, importlib.import_module(f"mangaassist.stories.{name}.story"))
    return _load_file(path, digest_bytes(path.read_bytes()))


@cache
def _load_file(path: Path, content: str) -> StoryModule:
    """The module in ``path``, imported once per ``content``."""
    module_name = f"mangaassist_story_{path.parent.name}_{content[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise _broken(path, None, "a Python file", "something Python cannot import")
    module = importlib.util.module_from_spec(spec)
    # Registered while it runs, because dataclasses look their own module up.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except _MISTAKES as error:
        del sys.modules[module_name]
        got = f"{type(error).__name__}: {error}"
        raise _broken(path, _line(error, path), "a module that imports", got) from error
    return _checked(module, path)


def _line(error: BaseException, path: Path) -> int | None:
    """The line of ``path`` an error comes from: of the syntax, else the innermost frame inside it."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
    return frames[-1].lineno if frames else None


def _checked(module: ModuleType, path: Path) -> StoryModule:
    story = getattr(module, "STORY", None)
    if not isinstance(story, Story):
        raise _broken(path, None, "STORY, a mangaassist.core.story.Story", type(story).__name__)
    if story.name != path.parent.name:
        raise _broken(path, None, f"name='{path.parent.name}', like its folder", repr(story.name))
    for part in ("load", "fit"):
        if not callable(getattr(module, part, None)):
            raise _broken(path, None, f"a function '{part}'", "none")
    return cast(StoryModule, module)


def _broken(path: Path, line: int | None, expected: str, got: str) -> InputError:
    return InputError(
        f"{path}, line {line}" if line else str(path),
        expected=expected,
        got=got,
        next_step="Correct the file; 'mangaassist story new NAME' writes a whole one to compare with.",
    )
