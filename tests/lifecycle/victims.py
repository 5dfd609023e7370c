"""What the fault tests run in processes of their own, and how those are killed at a chosen moment.

A process dies by its own SIGKILL at the n-th time it is about to change something under its home: a file it
opens for writing, renames or removes, a folder it makes, a statement or a commit it sends to a database. So
every state a crash can leave behind has its number, whatever the machine's speed. Nothing runs after SIGKILL:
no handler, no flush, no finally.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.forks import fork_server

from mangaassist.cli.main import run
from mangaassist.core.clock import SystemClock
from mangaassist.core.home import Home
from mangaassist.evaluation.latency import measure_latency
from mangaassist.lifecycle.platform import Platform

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
_PRELOADED = [
    "mangaassist.lifecycle.evaluating",
    "mangaassist.lifecycle.retrain",
    "mangaassist.lifecycle.rollout",
    "mangaassist.labels.importing",
    "mangaassist.training.text.classifier",
    "mangaassist.training.text.preprocessing",
    "sklearn.svm",
]


class Changes:
    """Counts the changes of this process under ``home``; kills it at number ``fatal``."""

    def __init__(self, home: str, fatal: int | None) -> None:
        self.home, self.fatal, self.count = home, fatal, 0
        sys.addaudithook(self._audit)
        sa.event.listen(sa.Engine, "commit", lambda _: self._next())
        sa.event.listen(sa.Engine, "before_cursor_execute", self._statement)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = (mode and set(mode) & set("wxa+")) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and self._inside(path):
                self._next()
        elif event in _CHANGES and self._inside(arguments[0]):
            self._next()

    def _statement(self, _connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE", "CREATE"):
            self._next()

    def _inside(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self.home)

    def _next(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def _quiet() -> None:
    """No output of a victim into the test's."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)


def _work(
    task: Callable[..., int], home: str, fatal: int | None, count: Any, arguments: tuple[Any, ...]
) -> None:
    _quiet()
    # A thousand timed answers are half of what a small retrain costs, and no change to be killed at.
    measure_latency.__kwdefaults__["calls"] = 50
    changes = Changes(home, fatal)
    code = task(home, *arguments)
    count.value = changes.count
    os._exit(code)


def attempt(
    task: Callable[..., int],
    home: Path,
    *arguments: Any,
    fatal: int | None = None,
    within: float | None = None,
) -> tuple[int, int]:
    """Run ``task(home, *arguments)`` in a process of its own; kill it after ``within`` seconds, if given.

    Returns:
        Its exit code (-9 when it was killed) and how many changes it made (0 when it was killed).
    """
    processes = fork_server(*_PRELOADED)
    count = processes.Value("q", 0)
    victim = processes.Process(target=_work, args=(task, str(home), fatal, count, arguments))
    victim.start()
    victim.join(600 if within is None else within)
    if victim.exitcode is None:
        victim.kill()
        victim.join()
        if within is None:
            raise TimeoutError(f"{task.__name__} hangs")
    assert victim.exitcode is not None
    return victim.exitcode, count.value


def command(home: str, *arguments: str) -> int:
    """One command line."""
    return run(["--home", home, *arguments])


def _race(task: Callable[..., int], home: str, start: Any, arguments: tuple[Any, ...]) -> None:
    _quiet()
    start.wait(60)
    os._exit(task(home, *arguments))


def race(task: Callable[..., int], home: Path, runners: list[tuple[Any, ...]]) -> list[int]:
    """Exit codes of ``task(home, *runner)`` for every runner, all let go at the same moment."""
    processes = fork_server(*_PRELOADED)
    start = processes.Barrier(len(runners))
    started = [processes.Process(target=_race, args=(task, str(home), start, one)) for one in runners]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    return [process.exitcode if process.exitcode is not None else -1 for process in started]


def platform(home: str | Path) -> Platform:
    return Platform.open(Home.open(Path(home), create=False), SystemClock())
