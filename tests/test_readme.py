"""The README's commands are run as they stand there, and its output is the output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def commands(language: str = "bash") -> list[str]:
    """Every command of the README's shell blocks, continued lines joined."""
    text = "\n".join(body for name, body in BLOCKS if name == language)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    """Running them here would install and test from inside a test; CI runs them from a fresh clone."""
    made = [line for line in commands() if line.startswith("make ")]
    assert made == ["make demo", "make test"]
    for line in made:
        dry = subprocess.run(
            [*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert dry.returncode == 0, dry.stderr
        assert ".venv" in dry.stdout


def test_the_worked_example_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": binaries, "PYTHONPATH": str(ROOT / "src")}
    printed = ""
    for line in commands():
        if not line.startswith("mangaassist "):
            continue
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    shown = [line for name, body in BLOCKS if name == "text" for line in body.splitlines() if line.strip()]
    assert shown
    for line in shown:
        assert " ".join(line.split()) in [" ".join(one.split()) for one in printed.splitlines()]


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
