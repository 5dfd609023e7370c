"""No anonymous runs: the six tags every run carries (TRN-4)."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import mangaassist
from mangaassist.core.errors import GateRefused
from mangaassist.core.identity import digest
from mangaassist.training.code import folder_digests

_PACKAGE = Path(mangaassist.__file__).parent
_GIT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class RunTags:
    """What a registered version can be traced back to.

    Attributes:
        model_target: the story's name.
        code_revision: git commit, with "-dirty" where the tree differs from it; outside git
            "source:<digest>".
        data_snapshot_id: the pinned Iceberg snapshot(s) of the training data.
        label_version: the finalised label version included, as text.
        feature_schema_version: version of the feature catalog read; "none" for a story without features.
        seed: the seed of everything random, as text.
    """

    model_target: str
    code_revision: str
    data_snapshot_id: str
    label_version: str
    feature_schema_version: str
    seed: str

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunTags:
        """The tags in ``values``; anything else in it is ignored.

        Raises:
            GateRefused: when a tag is missing or empty, naming every one that is.
        """
        names = [field.name for field in fields(cls)]
        given = {name: str(values[name]).strip() for name in names if values.get(name) is not None}
        missing = [name for name in names if not given.get(name)]
        if missing:
            raise GateRefused(
                "run tags",
                expected=f"all six: {', '.join(names)}",
                got=f"no {', '.join(missing)}",
                next_step="Run it through 'mangaassist retrain', which sets them; they cannot be typed in.",
            )
        return cls(**given)

    def as_dict(self) -> dict[str, str]:
        """The tags as a JSON object."""
        return asdict(self)


def code_revision(package: Path = _PACKAGE) -> str:
    """The revision of the code in ``package``, asked of git and never taken from the caller.

    A commit with "-dirty" when anything under ``package`` differs from it or is not tracked. Where the
    package is not itself tracked (installed, or git is absent), "source:" and the digest of its sources:
    a repository that merely contains the installation says nothing about it.
    """
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None or _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return f"source:{digest(folder_digests(package))[:40]}"
    dirty = _git(package, "status", "--porcelain", "--untracked-files=all", "--", ".")
    return f"{commit}-dirty" if dirty else commit


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, stripped; None when there is no git or it refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
