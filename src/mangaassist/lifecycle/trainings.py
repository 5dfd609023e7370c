"""Where a retrain's long trainings keep their checkpoints, and how the ledger hears of them (TRN-3)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mangaassist.core.errors import Unavailable
from mangaassist.core.identity import digest
from mangaassist.lifecycle.job import Job
from mangaassist.training.job_folder import JobFolder, job_folder

_FOLDER = "trainings"


@contextmanager
def training_place(job: Job, *, rows: str) -> Iterator[None]:
    """Around a story's ``fit`` on the rows with digest ``rows``: a folder that a second attempt finds again.

    One process at a time fits the same thing; what earlier trainings of the story left is removed.
    """
    home, name = job.platform.home, job.story.name
    folder = home.path / _FOLDER / name / digest([rows, job.seed, job.story_code])[:16]

    def hear(event: str, facts: Mapping[str, Any]) -> None:
        record(job, event, folder, facts)

    settings = home.settings
    machines = {"spot": settings.train_spot, "on_demand": settings.train_on_demand}
    with home.lock(_lock(name, folder)):
        _tidy(job, keep=folder)
        with job_folder(JobFolder(folder, hear, machines)):
            yield


def record(job: Job, event: str, folder: Path, facts: Mapping[str, Any]) -> None:
    """Append what befell the training in ``folder`` to the ledger, once however often it is said."""
    ledger, kind, subject = job.platform.ledger, f"training.{event}", f"training/{job.story.name}"
    body = {"training": folder.name, "seed": job.seed, **facts}
    if not any(dict(entry.body) == body for entry in ledger.entries(subject=subject, kind=kind)):
        ledger.append(kind=kind, subject=subject, body=body, actor="training", at=job.platform.clock.now())


def _tidy(job: Job, *, keep: Path) -> None:
    for folder in keep.parent.iterdir() if keep.parent.exists() else ():
        if folder != keep:
            with suppress(Unavailable), job.platform.home.lock(_lock(job.story.name, folder), wait=False):
                shutil.rmtree(folder, ignore_errors=True)


def _lock(story: str, folder: Path) -> str:
    return f"training.{story}.{folder.name}"
