"""Run tags: complete or refused, and the code revision comes from git or says that it does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mangaassist.core.errors import GateRefused
from mangaassist.training.tags import RunTags, code_revision

COMPLETE = {
    "model_target": "intent",
    "code_revision": "abc",
    "data_snapshot_id": 12,
    "label_version": 3,
    "feature_schema_version": "none",
    "seed": 0,
}


def test_six_tags_are_kept() -> None:
    """TRN-4: a seed of 0 is a seed; extra values are ignored."""
    tags = RunTags.of({**COMPLETE, "note": "x"})
    assert tags.as_dict() == {name: str(value) for name, value in COMPLETE.items()}


@pytest.mark.parametrize("absent", [None, "", "  "])
def test_every_missing_tag_is_named(absent: object) -> None:
    """TRN-4: a run lacking one is refused, and all that are lacking are listed at once."""
    with pytest.raises(GateRefused, match="no code_revision, label_version, seed") as refused:
        RunTags.of({**COMPLETE, "code_revision": absent, "label_version": absent, "seed": absent})
    assert refused.value.exit_code == 1


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_revision_comes_from_git(tmp_path: Path) -> None:
    """TRN-4: a clean tree is its commit, a changed or untracked file makes it dirty."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert code_revision(package) == commit
    (tmp_path / "notes.txt").write_text("outside the package")
    assert code_revision(package) == commit
    (package / "new.py").write_text("x = 1")
    assert code_revision(package) == f"{commit}-dirty"
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("x = 1")
    assert code_revision(package) == f"{commit}-dirty"


def test_an_installation_inside_somebody_elses_repository_is_not_their_commit(tmp_path: Path) -> None:
    """TRN-4: untracked code says "source:" with its own digest, which changes with the code."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
    package = tmp_path / "venv" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    first = code_revision(package)
    assert first.startswith("source:")
    (package / "__init__.py").write_text("x = 1")
    assert code_revision(package) != first


def test_without_git_the_source_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setenv("PATH", "")
    assert code_revision(tmp_path).startswith("source:")
