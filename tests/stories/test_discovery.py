"""A folder with a story.py is a story; a broken one says where it is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from mangaassist.core.errors import ExitCode, InputError
from mangaassist.core.story import Story
from mangaassist.stories.discovery import built_in_names, load_story, story_names, story_path
from mangaassist.stories.scaffold import create_story

_WHOLE = """
from mangaassist.core.story import Story

STORY = Story(name="mine", kind="text-classification", predicts="Something.")


def load(examples):
    return examples


def fit(examples, *, seed):
    return None
"""


def _write(home: Path, text: str, name: str = "mine") -> Path:
    path = home / "stories" / name / "story.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_built_in_stories_are_found_by_folder(tmp_path: Path) -> None:
    """A new story changes no file outside its folder."""
    assert "intent" in built_in_names()
    assert "template" not in built_in_names()
    assert story_names(tmp_path) == built_in_names()
    assert load_story("intent", tmp_path).STORY.name == "intent"


@pytest.mark.parametrize("name", built_in_names())
def test_every_built_in_story_keeps_the_contract(name: str, tmp_path: Path) -> None:
    module = load_story(name, tmp_path)
    assert isinstance(module.STORY, Story)
    assert module.STORY.name == name
    assert len(module.STORY.labels.sources) >= 2
    assert callable(module.load)
    assert callable(module.fit)


def test_a_users_story_is_found_and_loaded(tmp_path: Path) -> None:
    path = _write(tmp_path, _WHOLE)
    assert story_names(tmp_path) == (*built_in_names(), "mine")
    assert story_path("mine", tmp_path) == path
    assert load_story("mine", tmp_path).STORY.predicts == "Something."


def test_an_edited_story_is_loaded_anew_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    _write(tmp_path, _WHOLE)
    first = load_story("mine", tmp_path)
    assert load_story("mine", tmp_path) is first
    _write(tmp_path, _WHOLE.replace("Something.", "Something else."))
    assert load_story("mine", tmp_path).STORY.predicts == "Something else."


def test_homes_do_not_see_each_others_stories(tmp_path: Path) -> None:
    _write(tmp_path / "a", _WHOLE)
    with pytest.raises(InputError):
        load_story("mine", tmp_path / "b")


def test_a_built_in_name_cannot_be_taken_over(tmp_path: Path) -> None:
    _write(tmp_path, _WHOLE, name="intent")
    assert load_story("intent", tmp_path).STORY.safety_critical == ("return_request", "escalation")


def test_an_unknown_story_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'intent'") as refused:
        load_story("intnet", tmp_path)
    assert refused.value.exit_code == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    ("broken", "line", "says"),
    [
        (_WHOLE.replace("def fit(examples, *, seed):", "def fit(examples, *, seed)"), 11, "SyntaxError"),
        (_WHOLE.replace("kind=", "kid="), 4, "unexpected keyword argument 'kid'"),
        (
            _WHOLE.replace("from mangaassist.core.story import Story", "import no_such_library"),
            2,
            "no_such_library",
        ),
        (_WHOLE.replace("Story(name", "Storey(name"), 4, "Storey"),
        ("x = 1\ny = {}['a']\n", 2, "KeyError"),
        ("\n\nraise RuntimeError('not today')\n", 3, "not today"),
    ],
)
def test_a_broken_story_names_file_and_line(tmp_path: Path, broken: str, line: int, says: str) -> None:
    path = _write(tmp_path, broken)
    with pytest.raises(InputError) as refused:
        load_story("mine", tmp_path)
    assert refused.value.field == f"{path}, line {line}"
    assert says in refused.value.got
    assert refused.value.exit_code == ExitCode.BAD_INPUT


def test_an_error_below_the_story_is_shown_at_the_story_s_own_line(tmp_path: Path) -> None:
    _write(tmp_path, "import json\n\nSTORY = json.loads('{')\n")
    with pytest.raises(InputError, match="line 3"):
        load_story("mine", tmp_path)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("x = 1\n", "STORY"),
        ("STORY = 'intent'\n", "STORY"),
        (_WHOLE.replace('name="mine"', 'name="yours"'), "name='mine'"),
        (_WHOLE.replace("def load", "def lode"), "a function 'load'"),
        (_WHOLE.replace("def fit", "def fitted"), "a function 'fit'"),
        ("", "STORY"),
    ],
)
def test_a_story_that_lacks_a_part_says_which(tmp_path: Path, broken: str, says: str) -> None:
    _write(tmp_path, broken)
    with pytest.raises(InputError) as refused:
        load_story("mine", tmp_path)
    assert says in refused.value.expected


def test_a_story_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "")
    path.write_bytes(b"STORY = '\xff\xfe'\n")
    with pytest.raises(InputError, match="a module that imports"):
        load_story("mine", tmp_path)


def test_a_corrected_story_loads_after_a_broken_one(tmp_path: Path) -> None:
    _write(tmp_path, "STORY =\n")
    with pytest.raises(InputError):
        load_story("mine", tmp_path)
    _write(tmp_path, _WHOLE)
    assert load_story("mine", tmp_path).STORY.name == "mine"


def test_folders_without_a_story_are_not_stories(tmp_path: Path) -> None:
    (tmp_path / "stories" / "notes").mkdir(parents=True)
    (tmp_path / "stories" / ".draft.12").mkdir()
    (tmp_path / "stories" / ".draft.12" / "story.py").write_text(_WHOLE, encoding="utf-8")
    create_story("mine", "text-classification", tmp_path)
    assert story_names(tmp_path) == (*built_in_names(), "mine")
