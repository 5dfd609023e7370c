"""After an abort: somebody is paged, and a false alarm is undone by somebody who answers for it."""

from __future__ import annotations

from pathlib import Path

from tests.cli.journeys import STORY, Shell, to_champion, traffic, trained_home


def in_canary(shell: Shell, seed: str) -> str:
    """A new version before half of the users; its number."""
    shell("retrain", STORY, "--seed", seed)
    traffic(shell, 300)
    assert shell.json("promote", STORY)["action"] == "promote"
    return str(shell.platform().registry.deployment(STORY).challenger)


def test_aborts_page_and_false_alarms_are_undone(tmp_path: Path) -> None:
    """PRO-3: a page by itself, once; enabled again by a role that may, and only where no harm was done."""
    shell = trained_home(tmp_path, quick=True)
    to_champion(shell)
    says = "expected a champion that was compared with one before it"
    assert says in shell("promotion", "revise", STORY, code=1).err

    bad = in_canary(shell, "8")
    traffic(shell, 300, failing="canary")
    assert shell.json("promote", STORY, code=1)["action"] == "roll_back"
    [notice] = shell.platform().outbox.recent()
    assert (notice["severity"], notice["runbook"]) == ("SEV-3", "canary_abort")
    assert f"version {bad} was taken back" in notice["title"]

    why = ("--reason", "the pager was tested", "--actor", "emi")
    again = ("promotion", "reenable", STORY)
    assert "director or incident_commander" in shell(*again, bad, *why, "--role", "engineer", code=1).err
    assert "no false alarm" in shell(*again, bad, *why, "--role", "director", code=1).err

    good = in_canary(shell, "9")
    traffic(shell, 300)
    shell("rollback", STORY, "--reason", "the pager went off")
    assert shell.json(*again, good, *why, "--role", "director")["challenger"] == int(good)
    said = shell("explain", STORY, good).out
    assert "was enabled again at canary_half as director, by emi" in said
    assert "False alarm: the pager was tested" in said

    shell("promotion", "review", STORY, good, *why, "--role", "engineer")
    assert "had its disagreements reviewed, by emi" in shell("explain", STORY, good).out
