"""What runs again and what does not (TRN-1): caching, replay from a step, another seed, an interrupt."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.journeys import STORY, Shell, fill, new_story, rows, spawn, trained_home, write

OFFLINE = (
    "data_validation",
    "feature_materialisation",
    "split",
    "training",
    "offline_evaluation",
    "slice_analysis",
    "bias_audit",
)


@pytest.fixture
def own(tmp_path: Path) -> Shell:
    return trained_home(tmp_path)


def statuses(body: dict[str, object]) -> dict[str, str]:
    steps = body["steps"]
    assert isinstance(steps, list)
    return {step["name"]: step["status"] for step in steps}


def artifacts(shell: Shell) -> list[str]:
    return [version.artifact for version in shell.platform().registry.versions(STORY)]


def registrations(shell: Shell) -> int:
    return len(shell.platform().ledger.entries(subject=f"registry/{STORY}"))


def test_unchanged_data_runs_nothing_again(own: Shell) -> None:
    """TRN-1: seven cached steps, the same version, no second registration."""
    before = registrations(own)
    body = own.json("retrain", STORY)
    assert [statuses(body)[name] for name in OFFLINE] == ["cached"] * 7
    assert (body["version"], body["status"]) == (1, "shadow")
    assert registrations(own) == before
    assert len(own.json("labels", "versions", STORY)["versions"]) == 1


def test_replay_from_a_step_gives_the_same_model(own: Shell) -> None:
    known = artifacts(own)
    body = own.json("retrain", STORY, "--from-step", "training")
    found = statuses(body)
    assert [found[name] for name in OFFLINE] == ["cached"] * 3 + ["done"] * 4
    assert body["version"] == 1
    assert artifacts(own) == known


def test_replay_from_any_step_changes_nothing(own: Shell) -> None:
    known, before = artifacts(own), registrations(own)
    for step in OFFLINE:
        found = statuses(own.json("retrain", STORY, "--from-step", step))
        assert found[step] == "done"
        assert all(found[name] == "cached" for name in OFFLINE[: OFFLINE.index(step)])
    assert (artifacts(own), registrations(own)) == (known, before)


def test_another_seed_is_another_version_that_takes_the_place_of_one_nobody_met(own: Shell) -> None:
    body = own.json("retrain", STORY, "--seed", "8")
    assert statuses(body)["data_validation"] == "cached"
    assert statuses(body)["training"] == "done"
    assert body["version"] == 2
    versions = own.json("registry", "list", STORY)["versions"]
    assert [(one["version"], one["status"]) for one in versions] == [(2, "shadow"), (1, "failed_promotion")]
    assert "Superseded in shadow by version 2" in own("explain", STORY, "1").out
    own("retrain", STORY, "--seed", "7", code=1)  # the same run again is the version that has failed


def test_new_labels_are_a_new_label_version_and_a_new_version(own: Shell, tmp_path: Path) -> None:
    more = [{**row, "text": row["text"] + " thanks"} for row in rows(0, 2)]
    own.load(write(tmp_path / "later.csv", more), "vendor")
    body = own.json("retrain", STORY)
    assert body["version"] == 2
    assert statuses(body)["data_validation"] == "done"
    assert [one["number"] for one in own.json("labels", "versions", STORY)["versions"]] == [1, 2]


def test_the_same_labels_train_the_same_bytes_in_another_home(own: Shell, tmp_path: Path) -> None:
    """TRN-6: an artifact is a function of labels, code and seed, not of when or where."""
    other = tmp_path / "other"
    other.mkdir()
    assert artifacts(trained_home(other)) == artifacts(own)


# What a story's fit does the first time it is called.
_FIRST_TIME = """
def fit(examples, *, seed):
    from pathlib import Path

    flag = Path(__file__).with_name("been-here")
    if not flag.exists():
        flag.touch()
        {does}
    return _fit(examples, seed=seed)
"""


def story_that(shell: Shell, folder: Path, does: str) -> None:
    """A filled story whose first ``fit`` does something else."""
    path = new_story(shell) / "story.py"
    text = path.read_text(encoding="utf-8").replace("def fit(", "def _fit(")
    path.write_text(text + _FIRST_TIME.format(does=does), encoding="utf-8")
    fill(shell, folder)


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    """Issue, build 3: Ctrl-C leaves 130 and a sentence; the next run does not repeat what was finished."""
    shell = Shell(tmp_path / "home")
    story_that(shell, tmp_path, "import signal; signal.raise_signal(signal.SIGINT)")
    stopped = spawn("--home", str(shell.home), "retrain", STORY, cwd=tmp_path)
    assert stopped.code == 130
    assert stopped.err.strip().splitlines()[-1].startswith("Stopped; finished steps are kept")
    assert "Traceback" not in stopped.err
    found = statuses(shell.json("retrain", STORY))
    assert [found[name] for name in OFFLINE] == ["cached"] * 3 + ["done"] * 4
    assert len(artifacts(shell)) == 1


@pytest.mark.parametrize(
    ("does", "says"),
    [("1 / 0", "ZeroDivisionError"), ("return None", "'NoneType'"), ("examples['nope']", "nope")],
)
def test_a_story_that_raises_names_its_file_and_line(tmp_path: Path, does: str, says: str) -> None:
    """A mistake in a story's own code is the author's to correct, and finished steps are kept."""
    shell = Shell(tmp_path / "home")
    story_that(shell, tmp_path, does)
    error = shell.json("retrain", STORY, code=2)
    assert says in error["got"]
    place, _, line = error["field"].partition(", line ")
    source = Path(place).read_text(encoding="utf-8").splitlines()
    assert place == str(shell.home / "stories" / STORY / "story.py")
    assert does in (source[int(line) - 1] if line else does)
    assert "'fit'" in error["expected"]
    found = statuses(shell.json("retrain", STORY))
    assert [found[name] for name in OFFLINE] == ["cached"] * 3 + ["done"] * 4


def test_a_load_that_returns_no_frame(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    path = new_story(shell) / "story.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('return examples.drop("attributes")', "return None"), encoding="utf-8")
    fill(shell, tmp_path)
    assert "'load'" in shell.error("retrain", STORY, code=2)["expected"]
