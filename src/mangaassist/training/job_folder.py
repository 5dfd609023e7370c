"""Where a long training keeps what must survive a kill, and who hears of what befalls it.

A story's ``fit`` is a function of rows and seed; where it may leave checkpoints is no business of its
signature. The wiring says it around the call, and a fit that needs no checkpoints never looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Hear = Callable[[str, Mapping[str, Any]], None]


def _nobody(event: str, facts: Mapping[str, Any]) -> None:
    """Nobody listens; the journal in the job's folder has it all the same."""


@dataclass(frozen=True, slots=True)
class JobFolder:
    """A place for the jobs of one fit.

    Attributes:
        folder: the same for the same rows, code and seed, so that a second attempt finds the first.
        hear: told what a ledger should know ("escalated"), perhaps more than once for one happening.
        machines: by capacity ("spot", "on_demand") the command that reaches a machine of that kind; this
            machine where there is none.
    """

    folder: Path
    hear: Hear = _nobody
    machines: Mapping[str, str] = field(default_factory=dict)


_current: ContextVar[JobFolder | None] = ContextVar("job_folder", default=None)


@contextmanager
def job_folder(place: JobFolder) -> Iterator[None]:
    """Let trainings inside the block keep their jobs in ``place``."""
    token = _current.set(place)
    try:
        yield
    finally:
        _current.reset(token)


def current_job_folder() -> JobFolder | None:
    """What the wiring offers; None when a fit is called by itself."""
    return _current.get()
