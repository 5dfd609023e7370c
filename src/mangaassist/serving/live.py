"""The live pointer: who answers now, resolved in microseconds, with its staleness reported.

A pointer keeps one immutable view per story and swaps it when the ledger grew. Readers in other processes
acknowledge the epoch they serve in a small file each, held by a lock that dies with them, so that "the last
reader has seen the rollback" is something one can wait for and time.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import orjson

from mangaassist.core.errors import MangaAssistError, Unavailable
from mangaassist.core.home import Home
from mangaassist.governance.switches import Permissions
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.versions import Deployment

POLL = timedelta(milliseconds=250)
_FOLDER = "readers"


@dataclass(frozen=True, slots=True)
class Live:
    """Who answers one story's requests now.

    Attributes:
        deployment: the last one read.
        permissions: what the kill switches allow; the fail-safe defaults when the store did not answer.
        stale_seconds: time since the ledger was last seen to be unchanged or read.
    """

    deployment: Deployment
    permissions: Permissions
    stale_seconds: float

    @property
    def epoch(self) -> int:
        return self.deployment.epoch


@dataclass(frozen=True, slots=True)
class _View:
    deployment: Deployment
    permissions: Permissions


class LivePointer:
    """The deployments of all watched stories; safe to share between threads.

    Args:
        prepare: called with a story and a version before users meet it there, to load the model.
        home: where to acknowledge epochs for other processes to see; None acknowledges in process only.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        prepare: Callable[[str, int], object] | None = None,
        home: Home | None = None,
    ) -> None:
        self._registry = registry
        self._prepare = prepare
        self._views: dict[str, _View] = {}
        self._version = -1
        self._refreshed = perf_counter()
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._acknowledgement = Acknowledgement(home) if home is not None else None
        self.problem = ""

    def resolve(self, story: str) -> Live:
        """Who answers ``story``: no lock, no input or output after the first call for a story."""
        view = self._views.get(story) or self._watch(story)
        return Live(view.deployment, view.permissions, perf_counter() - self._refreshed)

    def refresh(self) -> None:
        """Read what is new for every watched story; with an unreachable store champions stay as they are.

        Simulated time calls this itself; :meth:`start` calls it in the background.
        """
        with self._lock:
            try:
                version = self._registry.ledger.version()
                if version != self._version or self.problem:
                    self._swap({story: self._read(story) for story in self._views})
                self._version, self.problem = version, ""
                self._refreshed = perf_counter()
            except MangaAssistError as error:
                # Last known good: champions stay; permissions() answers with its fail-safe defaults.
                self.problem = str(error)
                self._swap(
                    {
                        story: _View(view.deployment, self._registry.switches.permissions(story))
                        for story, view in self._views.items()
                    }
                )

    def start(self, interval: timedelta = POLL) -> None:
        """Refresh every ``interval`` in a daemon thread until :meth:`stop`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._poll, args=(interval,), name="live", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the background refresh and withdraw the acknowledgement."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._acknowledgement is not None:
            self._acknowledgement.withdraw()

    def acknowledge(self, story: str, epoch: int, *, within: timedelta) -> int:
        """Return 1 once this reader serves ``epoch`` or a newer one.

        Raises:
            Unavailable: it did not get there in time.
        """
        self._watch(story)
        self.refresh()
        with self._changed:
            seen = self._changed.wait_for(
                lambda: self._views[story].deployment.epoch >= epoch, within.total_seconds()
            )
        if not seen:
            raise _late(story, epoch, ["this process"], within)
        return 1

    def _poll(self, interval: timedelta) -> None:
        while not self._stop.wait(interval.total_seconds()):
            self.refresh()

    def _watch(self, story: str) -> _View:
        with self._lock:
            if story not in self._views:
                self._swap({**self._views, story: self._read(story)})
            return self._views[story]

    def _read(self, story: str) -> _View:
        deployment = self._registry.deployment(story)
        before = self._views.get(story)
        if self._prepare is not None and (before is None or before.deployment != deployment):
            for number in (deployment.champion, deployment.challenger):
                if number is not None:
                    self._prepare(story, number)
        return _View(deployment, self._registry.switches.permissions(story))

    def _swap(self, views: dict[str, _View]) -> None:
        with self._changed:
            self._views = views
            self._changed.notify_all()
        if self._acknowledgement is not None:
            self._acknowledgement.write({story: view.deployment.epoch for story, view in views.items()})


class Acknowledgement:
    """This process's line among the readers: the epoch it serves for each story."""

    def __init__(self, home: Home) -> None:
        self._path = home.folder(_FOLDER) / f"{os.getpid()}-{uuid.uuid4().hex}.json"
        draft = self._path.with_suffix(".draft")
        self._file = draft.open("wb", buffering=0)
        # Locked before it has its name: an unlocked reader is a dead one to everybody else.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        draft.rename(self._path)

    def write(self, epochs: Mapping[str, int]) -> None:
        """Say which epochs are served now; short enough for one write."""
        line = orjson.dumps(epochs)
        os.pwrite(self._file.fileno(), line, 0)
        os.ftruncate(self._file.fileno(), len(line))

    def withdraw(self) -> None:
        """Leave the readers; a killed process leaves by losing its lock."""
        self._path.unlink(missing_ok=True)
        self._file.close()


class Readers:
    """Every reader process of a home that is alive, as seen from any process of the same machine."""

    def __init__(self, home: Home) -> None:
        self._folder = home.folder(_FOLDER)

    def epochs(self, story: str) -> dict[str, int | None]:
        """Reader name to the epoch of ``story`` it serves; None for a reader that does not serve it yet."""
        found: dict[str, int | None] = {}
        for path in sorted(self._folder.glob("*.json")):
            line = _line_of_living(path)
            if line is not None:
                try:
                    found[path.stem] = orjson.loads(line or b"{}").get(story)
                except orjson.JSONDecodeError:
                    found[path.stem] = 0  # between write and truncate: not there yet, ask again
        return found

    def acknowledge(self, story: str, epoch: int, *, within: timedelta) -> int:
        """Return once every living reader that serves ``story`` serves ``epoch`` or a newer one.

        Returns:
            How many there are.

        Raises:
            Unavailable: some did not get there in time; they are named.
        """
        started, pause = perf_counter(), threading.Event()
        while True:
            serving = {name: seen for name, seen in self.epochs(story).items() if seen is not None}
            late = [name for name, seen in serving.items() if seen < epoch]
            if not late:
                return len(serving)
            if perf_counter() - started > within.total_seconds():
                raise _late(story, epoch, late, within)
            pause.wait(0.005)


def _line_of_living(path: Path) -> bytes | None:
    """What a reader wrote; None, and its file removed, when its process is gone."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read()
            path.unlink(missing_ok=True)
            return None
    except FileNotFoundError:
        return None


def _late(story: str, epoch: int, readers: list[str], within: timedelta) -> Unavailable:
    return Unavailable(
        f"readers of '{story}'",
        expected=f"epoch {epoch} seen by all within {within.total_seconds():g} s",
        got=f"not yet by {', '.join(readers)}",
        next_step="Look at these processes; they still serve the earlier deployment.",
    )
