"""kill -9 anywhere in retrain, promote, flip and rollback: nothing lost or doubled, the same bytes after."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from tests.cli.journeys import STORY, Shell, importing, new_story, rows, traffic, write
from tests.lifecycle.victims import attempt, command

from mangaassist.core.identity import canonical_json
from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.versions import VersionStatus
from mangaassist.storage.ledger import Entry

KILLED = -signal.SIGKILL
PAIR = "search"
WEEKS, LOOKS, UNDECIDED = 4, 5, 9
STANDING = (VersionStatus.CHAMPION, VersionStatus.RETIRED)


class Homes:
    """Homes that start the same, one after the other: a filled story of few rows, and pairs to flip to.

    All are at one path, because the catalog names its files by their whole path.
    """

    def __init__(self, folder: Path) -> None:
        self.shell, self._start = Shell(folder / "home"), folder / "start"
        new_story(self.shell, quick=True)
        for name, content in (("vendor", rows(0, 3)), ("crowd", rows(2, 5))):
            self.shell.load(write(folder / f"{name}.csv", content), name)
        self.shell.load(write(folder / "golden.csv", rows(8, 10)[:32]), "vendor", "--role", "golden")
        for week in range(WEEKS):
            self._pair(folder / f"pair-{week}.json", week)
        shutil.copytree(self.shell.home, self._start)

    def fresh(self) -> Shell:
        """The home as it was before the first week."""
        shutil.rmtree(self.shell.home)
        shutil.copytree(self._start, self.shell.home)
        return self.shell

    def _pair(self, path: Path, week: int) -> None:
        store = self.shell.platform().artifacts
        members = {
            role: store.put_files({"vectors": f"{role} {week}".encode()}, durable=True)
            for role in ("embedding", "reranker")
        }
        verdict = Verdict("search.top3", Status.PASS, "Top-3 hit rate is .91.", value=0.91, n=2000)
        path.write_bytes(canonical_json({"members": members, "verdicts": [verdict.as_dict()]}))
        given = [f"--member={role}={digest}" for role, digest in members.items()]
        self.shell("bundle", "register", PAIR, *given, "--evaluation", str(path))


def a_week(home: str, week: int) -> int:
    """Retrain, shadow, canary, full, flip, and in every other week all of it back.

    It starts wherever an earlier attempt was killed, as a person would: by looking what is there.
    """
    shell, number = Shell(Path(home)), week + 1
    known = {one.number: one for one in shell.platform().registry.versions(STORY)}
    if number not in known or known[number].status not in (*STANDING, VersionStatus.FAILED_PROMOTION):
        code = roll_out(shell, week)
        if code:
            return code
    return next((code for line in rest_of(shell, week) if (code := command(home, *line))), 0)


def rest_of(shell: Shell, week: int) -> Iterator[tuple[str, ...]]:
    """The commands that are still to be given, each once the one before is done."""
    number, registry, pairs = week + 1, shell.platform().registry, shell.platform().bundles
    if number not in {*pairs.state(PAIR).lives, *pairs.state(PAIR).withdrawn}:
        yield "bundle", "flip", PAIR, str(number)
    if week % 2 and registry.deployment(STORY).champion == number:
        yield "rollback", STORY, "--reason", "worse"
    if week % 2 and pairs.state(PAIR).lives[-1] == number:
        yield "bundle", "back", PAIR, "--reason", "worse"


def roll_out(shell: Shell, week: int) -> int:
    """Retrain with a seed of the week's own and promote until the version is champion."""
    code = command(str(shell.home), "retrain", STORY, "--seed", str(week))
    registry = shell.platform().registry
    for _ in range(LOOKS):
        if registry.deployment(STORY).challenger != week + 1:
            return code
        traffic(shell, 100)
        code = command(str(shell.home), "promote", STORY)
    return UNDECIDED


def moves(shell: Shell) -> Counter[tuple[str, str, int]]:
    """How often each move of each version and pair is in the ledger."""
    kept = ("version", "stage", "number", "to")
    return Counter(
        (entry.subject, entry.kind, *(str(entry.body.get(one)) for one in kept))
        for subject in (f"registry/{STORY}", f"bundle/{PAIR}")
        for entry in shell.platform().ledger.entries(subject=subject)
    )


def outcome(shell: Shell) -> dict[str, Any]:
    """What every home has to end up with, however often somebody was killed in it."""
    platform = shell.platform()
    found, pairs = platform.registry, platform.bundles.state(PAIR)
    return {
        "versions": [(one.number, one.artifact, one.status) for one in found.versions(STORY)],
        "champion": found.deployment(STORY).champion,
        "pairs": (pairs.lives, pairs.withdrawn),
        "moves": moves(shell),
    }


def consistent(shell: Shell, before: list[Entry]) -> list[Entry]:
    """The ledger after a kill, checked: nothing of it was lost, and whatever it points to can be loaded."""
    platform = shell.platform()
    entries = platform.ledger.entries()
    assert entries[: len(before)] == before
    assert platform.ledger.verify().ok
    deployment = platform.registry.deployment(STORY)
    for version in platform.registry.versions(STORY):
        platform.artifacts.files(platform.registry.verified(STORY, version.number).artifact)
        waiting = version.status in (VersionStatus.SHADOW, VersionStatus.CANARY)
        assert waiting == (deployment.challenger == version.number)
    live = platform.bundles.state(PAIR).live
    for member in live.members if live else ():
        assert len(platform.artifacts.files(member.artifact)) == 1
    platform.ledger.close()
    return entries


class Unbroken:
    """The same weeks where nobody was killed: their outcome, and how many changes and seconds each took."""

    def __init__(self, homes: Homes, weeks: int) -> None:
        shell, self.weeks = homes.fresh(), []
        for week in range(weeks):
            started = perf_counter()
            code, changes = attempt(a_week, shell.home, week)
            assert code == 0
            self.weeks.append((changes, perf_counter() - started))
        self.outcome = outcome(shell)
        assert set(self.outcome["moves"].values()) == {1}


def kill_and_finish(homes: Homes, unbroken: Unbroken, kills: int, generator: np.random.Generator) -> int:
    """One home's weeks with up to ``kills`` seeded deaths, every fourth from outside; how many struck.

    Every attempt goes on where the one before was killed, for at most a third of a week: so the deaths are
    spread over all of it.
    """
    shell, struck, entries = homes.fresh(), 0, []
    for week, (changes, seconds) in enumerate(unbroken.weeks):
        code = KILLED
        while code == KILLED:
            share, fatal, within = generator.uniform() / 3, None, None
            if struck < kills and struck % 4 == 3:
                within = seconds * share
            elif struck < kills:
                fatal = 1 + int(changes * share)
            code, _ = attempt(a_week, shell.home, week, fatal=fatal, within=within)
            assert code in (0, KILLED)
            entries = consistent(shell, entries)
            struck += code == KILLED
    assert outcome(shell) == unbroken.outcome
    assert shell.json("audit", "verify")["verified"]
    return struck


def test_retrain_promote_flip_and_rollback_killed_anywhere(tmp_path: Path) -> None:
    """Issue, numbers, the short form: a champion, then another that is taken back, with its pair."""
    homes = Homes(tmp_path)
    assert kill_and_finish(homes, Unbroken(homes, 2), 10, np.random.default_rng(21)) >= 8


@pytest.fixture(scope="module")
def long_lives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Homes, Unbroken]:
    homes = Homes(tmp_path_factory.mktemp("lives"))
    return homes, Unbroken(homes, WEEKS)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_a_thousand_random_points(long_lives: tuple[Homes, Unbroken], seed: int) -> None:
    """Issue, numbers: twenty times fifty deaths across retrain, promote, flip and rollback."""
    generator, struck = np.random.default_rng(1000 + seed), 0
    while struck < 50:
        struck += kill_and_finish(*long_lives, 50 - struck, generator)


def test_an_import_killed_anywhere(tmp_path: Path) -> None:
    """LAB-8: the same command afterwards completes the batch; no row is lost, none is there twice."""
    content = rows(0, 2)
    line = importing(write(tmp_path / "train.csv", content), "v")
    counted = Shell(tmp_path / "counted")
    new_story(counted)
    code, changes = attempt(command, counted.home, *line)
    assert code == 0
    for number, fatal in enumerate(np.random.default_rng(24).integers(1, changes + 1, 4)):
        shell = Shell(tmp_path / f"home{number}")
        new_story(shell)
        assert attempt(command, shell.home, *line, fatal=int(fatal))[0] == KILLED
        assert attempt(command, shell.home, *line)[0] == 0
        platform = shell.platform()
        story = platform.story(STORY)
        assert sorted(platform.labels.examples(story)["text"]) == sorted(row["text"] for row in content)
        assert platform.labels.labels(story).height == len(content)
        assert platform.ledger.verify().ok
