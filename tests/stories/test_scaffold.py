"""`story new`: one folder, ready to read and to run."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.core.errors import InputError
from mangaassist.stories.discovery import load_story
from mangaassist.stories.scaffold import check_name, create_story, kinds


def test_a_new_story_loads_as_written(tmp_path: Path) -> None:
    folder = create_story("tickets", "text-classification", tmp_path)
    assert folder == tmp_path / "stories" / "tickets"
    assert [path.name for path in folder.iterdir()] == ["story.py"]
    story = load_story("tickets", tmp_path).STORY
    assert (story.name, story.kind) == ("tickets", "text-classification")
    assert len(story.labels.sources) >= 2
    assert any(one.metric == "golden.accuracy" and one.minimum for one in story.thresholds)
    assert "story_name" not in (folder / "story.py").read_text(encoding="utf-8")


def test_a_new_story_trains(tmp_path: Path) -> None:
    """Issue 2, part 8: a stranger's own text file makes the same journey."""
    create_story("tickets", "text-classification", tmp_path)
    module = load_story("tickets", tmp_path)
    texts = [
        f"{word} number {n}" for n in range(12) for word in ("please refund order", "hello good morning")
    ]
    examples = pl.DataFrame(
        {
            "text": texts,
            "label": ["refund", "greeting"] * 12,
            "language": ["en"] * 24,
            "group_id": [f"g{n}" for n in range(24)],
            "captured_at": [datetime(2026, 1, 1, tzinfo=UTC)] * 24,
            "attributes": ["{}"] * 24,
        }
    )
    frame = module.load(examples)
    assert "attributes" not in frame.columns
    model = module.fit(frame, seed=1)
    assert model.predict(["refund please"])[0].label == "refund"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("My Story", "'my_story'"),
        ("2fast", "'my_story'"),
        ("", "'my_story'"),
        ("class", "'class_story'"),
        ("../escape", "'escape'"),
        ("a" * 49, "'" + "a" * 48 + "'"),
        ("映画", "'my_story'"),
        ("tickets-jp", "'tickets_jp'"),
        ("tickets\n", "'tickets'"),
    ],
)
def test_a_bad_name_is_refused_with_a_good_one_near_it(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(InputError) as refused:
        create_story(name, "text-classification", tmp_path)
    assert hint in refused.value.next_step
    assert not (tmp_path / "stories").exists()


@given(st.text(max_size=60))
def test_no_accepted_name_can_leave_its_folder(name: str) -> None:
    try:
        accepted = check_name(name)
    except InputError as refused:
        hint = refused.next_step.split("'")[1]
        assert check_name(hint) == hint
    else:
        assert accepted.isidentifier()
        assert accepted.isascii()


def test_taken_names_are_refused(tmp_path: Path) -> None:
    create_story("tickets", "text-classification", tmp_path)
    written = (tmp_path / "stories" / "tickets" / "story.py").read_bytes()
    with pytest.raises(InputError, match="not taken"):
        create_story("tickets", "text-classification", tmp_path)
    with pytest.raises(InputError, match="built in"):
        create_story("intent", "text-classification", tmp_path)
    assert (tmp_path / "stories" / "tickets" / "story.py").read_bytes() == written


def test_an_unknown_kind_gets_the_nearest(tmp_path: Path) -> None:
    assert "text-classification" in kinds()
    with pytest.raises(InputError, match="Did you mean 'text-classification'"):
        create_story("tickets", "text-clasification", tmp_path)
    assert not (tmp_path / "stories").exists()


def test_a_story_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(Exception, match="free space"):
        create_story("tickets", "text-classification", tmp_path)
    assert list((tmp_path / "stories").iterdir()) == []


def test_losing_the_race_for_a_name_keeps_the_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        target.mkdir(parents=True)
        (target / "story.py").write_text("# the winner", encoding="utf-8")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(InputError, match="not taken"):
        create_story("tickets", "text-classification", tmp_path)
    assert (tmp_path / "stories" / "tickets" / "story.py").read_text(encoding="utf-8") == "# the winner"
    assert len(list((tmp_path / "stories").iterdir())) == 1
