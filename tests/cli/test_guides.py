"""The commands of docs/evaluation.md are run as they stand there, for another story."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.journeys import HOSTILE, STORY, Shell, write
from tests.incidents.test_runbooks import parse

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE, flags=re.DOTALL)


def lines(language: str) -> list[str]:
    """The commands of the guide's blocks in ``language``, continued lines joined."""
    text = "\n".join(body for name, body in BLOCKS if name == language)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_guide_s_commands_run_in_their_order(
    own: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which is quicker than one for each."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "hostile.csv", HOSTILE)
    ran = 0
    for line in lines("bash"):
        words, _, target = re.sub(r"\bintent\b", STORY, line).partition(" > ")
        name, *arguments = shlex.split(words)
        if name == "mangaassist":
            done = own(*arguments)
            ran += 1
            if target:
                Path(target).write_text(done.out, encoding="utf-8")
    assert ran == len(lines("bash")) - 1


def test_the_redaction_it_shows_is_what_comes_out() -> None:
    [line] = [one for one in lines("bash") if not one.startswith("mangaassist")]
    name, *arguments = shlex.split(line)
    assert name == "python"
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "[NAME]様 [PHONE]\n"


@pytest.mark.parametrize("line", [one for one in lines("sh") if one.startswith("mangaassist")])
def test_what_needs_traffic_or_names_parses(line: str) -> None:
    assert parse(line)


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http)[^)]+)\)", GUIDE))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()
