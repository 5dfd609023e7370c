"""Deploys, read from git: where a checkout stands, when it came there and what is new in it (AML-08).

A home names the checkouts that are deployed in its ``deploys.yaml``; whatever moves one of them, a pull, a
tag or a roll-back, is a change.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mangaassist.core.clock import parse_instant
from mangaassist.core.errors import InputError, Unavailable
from mangaassist.incidents.records import Change
from mangaassist.retraining.documents import malformed, of_home

FILE = "deploys.yaml"
NEW = timedelta(days=1)
"""A move before the first look is a change when it is younger than this; an older one is how things were."""

_PATIENCE = 10.0
_KEYS = ("subject", "checkout", "touches", "cohorts", "revert")


@dataclass(frozen=True, slots=True)
class Checkout:
    """One thing that is deployed by moving a git checkout.

    Attributes:
        subject: what it is called ("gateway").
        folder: of the checkout, or the bare repository whose HEAD is what runs.
        touches, cohorts: as of :class:`Change`.
        revert: the command that undoes a move, with ``{before}`` and ``{after}`` for the two commits.
    """

    subject: str
    folder: Path
    touches: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    revert: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a checkout stands.

    Attributes:
        commit: its full name; short: what people call it, with the nearest tag where there is one.
        says, author: of the commit.
        moved: when it came there; None where git keeps no log of that, as in a bare repository.
    """

    commit: str
    short: str
    says: str
    author: str
    moved: datetime | None


def checkouts(home: Path) -> tuple[Checkout, ...]:
    """What the home's ``deploys.yaml`` names under ``checkouts``; relative folders are below the home.

    Raises:
        InputError: an entry without a subject or folder, or with a key nobody knows.
    """
    found = of_home(home, FILE).get("checkouts") or []
    if not isinstance(found, list):
        raise malformed(FILE, "a list of checkouts", found)
    return tuple(_checkout(home, body) for body in found)


def head(folder: Path) -> Head:
    """Where a checkout stands now.

    Raises:
        InputError: it is no git repository. Unavailable: git does not answer.
    """
    commit, says, author = _git(folder, "log", "-1", "--format=%H%x00%s%x00%an").split("\0")
    short = _git(folder, "describe", "--tags", "--always", "--abbrev=7", "HEAD")
    # In a reflog line the instant stands where the number of the entry would.
    line = _git(folder, "log", "-g", "-1", "--format=%gd", "--date=iso-strict", "HEAD", wanted=False)
    moved = line.partition("{")[2].partition("}")[0]
    return Head(commit, short, says, author, parse_instant(moved, field="git reflog") if moved else None)


def change(one: Checkout, now_at: Head, before: str | None, *, now: datetime) -> Change | None:
    """The change a checkout has been through since it stood at ``before``; None for none.

    Args:
        before: full name of a commit; None at the first look.
    """
    if before == now_at.commit:
        return None
    moved = min(now_at.moved or now, now)
    if before is None and (now_at.moved is None or now - moved > NEW):
        return None
    since = f" {_since(one.folder, before)}" if before else ""
    revert = one.revert.format(before=before or "HEAD@{1}", after=now_at.commit) if one.revert else None
    said = f"{now_at.short} {now_at.says}{since}"[:300]
    return Change("deploy", one.subject, moved, now, now_at.author, said, one.touches, one.cohorts, revert)


def _since(folder: Path, before: str) -> str:
    """What lies between two moves, in words."""
    forth = _git(folder, "rev-list", "--count", f"{before}..HEAD", wanted=False)
    back = _git(folder, "rev-list", "--count", f"HEAD..{before}", wanted=False)
    if not forth or not back:
        return f"(from {before[:7]}, which git no longer knows)"
    parts = [f"{forth} commits on" if forth != "0" else "", f"{back} back" if back != "0" else ""]
    return f"({' and '.join(part for part in parts if part)} from {before[:7]})"


def _checkout(home: Path, body: Any) -> Checkout:
    if not isinstance(body, Mapping) or not body.get("subject") or not body.get("checkout"):
        raise malformed(FILE, "checkouts with 'subject' and 'checkout'", body)
    for key in body:
        if key not in _KEYS:
            raise malformed(FILE, f"only {', '.join(_KEYS)}", key)
    subject, revert = str(body["subject"]), str(body.get("revert") or "")
    try:
        revert.format(before="", after="")
    except (KeyError, IndexError, ValueError) as error:
        raise malformed(f"{FILE}: {subject}.revert", "only {before} and {after} in braces", revert) from error
    names = [tuple(str(one) for one in body.get(key) or ()) for key in ("touches", "cohorts")]
    return Checkout(subject, home / str(body["checkout"]), names[0], names[1], revert)


def _git(folder: Path, *arguments: str, wanted: bool = True) -> str:
    """What git says; empty when it refuses and that is no error."""
    place = ["git", "-C", str(folder), "-c", f"safe.directory={folder.resolve()}"]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*place, *arguments], env=quiet, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(
            "git", expected=f"an answer about {folder}", got=str(error), next_step="Install git, or wait."
        ) from error
    if done.returncode and wanted:
        raise InputError(
            f"{FILE}: {folder}",
            expected="a git checkout with a commit",
            got=done.stderr.decode(errors="replace").strip()[:200],
            next_step="Correct the folder in the home's deploys.yaml.",
        )
    return "" if done.returncode else done.stdout.decode(errors="replace").strip()
