"""The live pointer: who answers now, resolved in microseconds, with its staleness reported.

A pointer keeps one immutable view per story and swaps it when the ledger grew. Readers in other processes
acknowledge the epoch they serve in a small file each, held by a lock that dies with them, so that "the last
reader has seen the rollback" is something one can wait for and time.

A reader holds what it serves on a lease, renewed by every look at the ledger. One that is cut off for longer
serves known good versions only; so whoever has not acknowledged an entry when a lease has passed since it was
written is pinned, and a rollback need not wait for it (docs/decisions/0013-readers-hold-leases.md).
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from mangaassist.core.errors import MangaAssistError, Unavailable
from mangaassist.core.home import Home, unwritable
from mangaassist.governance.switches import Permissions
from mangaassist.promotion.bundles import Bundles
from mangaassist.promotion.pairs import Bundle, BundleState
from mangaassist.promotion.pairs import subject as bundle_subject
from mangaassist.promotion.readers import Acknowledged
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.versions import Deployment
from mangaassist.serving.rounds import Rounds

POLL = timedelta(milliseconds=250)
LEASE = timedelta(seconds=30)
SKEW = 0.1
"""How much slower than ours a reader's clock may run, as a part of the lease, requests under way included."""
_FOLDER = "readers"
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _elapsed() -> float:
    """Seconds on a clock that also counts while the machine sleeps, as a lease does."""
    return time.clock_gettime(_BOOT)


@dataclass(frozen=True, slots=True)
class Live:
    """Who answers one story's requests now.

    Attributes:
        deployment: the last one read.
        permissions: what the kill switches allow; the fail-safe defaults when the store did not answer.
        stale_seconds: time since the last look at the ledger that was answered began.
        pinned: the lease has ended: ``deployment`` is the known good version alone, without a challenger.
    """

    deployment: Deployment
    permissions: Permissions
    stale_seconds: float
    pinned: bool = False

    @property
    def epoch(self) -> int:
        return self.deployment.epoch


@dataclass(frozen=True, slots=True)
class LiveBundle:
    """Which bundle is read now; its members belong together, whatever is flipped meanwhile.

    Attributes:
        bundle: None before the first flip.
        epoch, stale_seconds, pinned: as of :class:`Live`; the pinned bundle is the one before.
    """

    bundle: Bundle | None
    epoch: int
    stale_seconds: float
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    deployment: Deployment
    permissions: Permissions
    pinned: Deployment


class LivePointer:
    """The deployments of all watched stories; safe to share between threads.

    Args:
        prepare: called with a story and a version before users meet it there, to load the model.
        home: where to acknowledge epochs for other processes to see; None acknowledges in process only.
        lease: how long a view is served without another look at the ledger; None for a pointer that is
            refreshed by hand, in simulated time.
        bundles: what :meth:`coupled` reads; by default those of ``registry``.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        prepare: Callable[[str, int], object] | None = None,
        home: Home | None = None,
        lease: timedelta | None = None,
        bundles: Bundles | None = None,
    ) -> None:
        self._registry = registry
        self._bundles = bundles or Bundles(registry)
        self._prepare = prepare
        self._lease = lease.total_seconds() if lease is not None else None
        self._views: dict[str, _View] = {}
        self._coupled: dict[str, BundleState] = {}
        self._version = -1
        self._refreshed = _elapsed()
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._rounds = Rounds(self.refresh, "live")
        self._acknowledgement = Acknowledgement(home, self._lease) if home is not None else None
        self.problem = ""

    def resolve(self, story: str) -> Live:
        """Who answers ``story``: no lock, no input or output after the first call for a story."""
        view = self._views.get(story) or self._watch(story)
        stale = _elapsed() - self._refreshed
        # Judged here and not by the refreshing thread: a stopped process goes on with whichever runs first.
        if self._lease is not None and stale > self._lease:
            return Live(view.pinned, _cut_off(view.permissions, stale), stale, pinned=True)
        return Live(view.deployment, view.permissions, stale)

    def coupled(self, name: str) -> LiveBundle:
        """Which bundle ``name`` is read: one value, so nobody meets old and new members mixed."""
        state = self._coupled.get(name) or self._couple(name)
        stale = _elapsed() - self._refreshed
        pinned = self._lease is not None and stale > self._lease
        return LiveBundle(state.known_good if pinned else state.live, state.epoch, stale, pinned)

    def refresh(self) -> None:
        """Read what is new for every watched story; with an unreachable store champions stay as they are.

        Simulated time calls this itself; :meth:`start` calls it in the background.
        """
        with self._lock:
            # What this look can know is what was there when it began, so the lease runs from here.
            began = _elapsed()
            try:
                version = self._registry.ledger.version()
                if version != self._version or self.problem:
                    self._swap(
                        {story: self._read(story) for story in self._views},
                        {name: self._read_bundle(name) for name in self._coupled},
                    )
                self._version, self.problem = version, ""
                self._refreshed = began
            except MangaAssistError as error:
                # Last known good: champions stay; permissions() answers with its fail-safe defaults.
                self.problem = str(error)
                self._views = {
                    story: replace(view, permissions=self._registry.switches.permissions(story))
                    for story, view in self._views.items()
                }

    def start(self, interval: timedelta = POLL) -> None:
        """Refresh every ``interval`` in a daemon thread until :meth:`stop`."""
        self.refresh()
        self._rounds.start(interval)

    def stop(self) -> None:
        """End the background refresh and withdraw the acknowledgement."""
        self._rounds.stop()
        if self._acknowledgement is not None:
            self._acknowledgement.withdraw()

    def acknowledge(
        self,
        story: str,
        epoch: int,
        *,
        within: timedelta,
        withdrawn: int,  # noqa: ARG002 - in process nobody is cut off
    ) -> Acknowledged:
        """Return once this reader serves ``epoch`` or a newer one.

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
            raise _late(story, epoch, {"this process": "not yet"}, within)
        return Acknowledged(1)

    def _watch(self, story: str) -> _View:
        with self._lock:
            if story not in self._views:
                self._swap({**self._views, story: self._read(story)}, self._coupled)
            return self._views[story]

    def _couple(self, name: str) -> BundleState:
        with self._lock:
            if name not in self._coupled:
                self._swap(self._views, {**self._coupled, name: self._read_bundle(name)})
            return self._coupled[name]

    def _read_bundle(self, name: str) -> BundleState:
        state, before = self._bundles.state(name), self._coupled.get(name)
        if self._prepare is not None and (before is None or before.epoch != state.epoch):
            for bundle in (state.known_good, state.live):
                for member in bundle.members if bundle is not None else ():
                    if member.version is not None:
                        self._prepare(*member.version)
        return state

    def _read(self, story: str) -> _View:
        deployment = self._registry.deployment(story)
        before = self._views.get(story)
        if self._prepare is not None and (before is None or before.deployment != deployment):
            # The version to be pinned too: without the ledger nobody could verify it any more.
            pinned = deployment.known_good if self._lease is not None else None
            for number in dict.fromkeys((pinned, deployment.champion, deployment.challenger)):
                if number is not None:
                    self._prepare(story, number)
        return _View(deployment, self._registry.switches.permissions(story), deployment.pinned())

    def _swap(self, views: dict[str, _View], coupled: dict[str, BundleState]) -> None:
        with self._changed:
            self._views, self._coupled = views, coupled
            self._changed.notify_all()
        if self._acknowledgement is not None:
            stories = {name: (view.deployment.epoch, view.pinned.champion) for name, view in views.items()}
            bundles = {
                bundle_subject(name): (state.epoch, state.known_good.number if state.known_good else None)
                for name, state in coupled.items()
            }
            self._acknowledgement.write({**stories, **bundles})


class Acknowledgement:
    """This process's line among the readers: the epoch it serves for each story, and what it would pin.

    Args:
        lease: seconds for which it serves an epoch without looking again; None for no limit.
    """

    def __init__(self, home: Home, lease: float | None) -> None:
        self._lease = lease
        self._path = home.folder(_FOLDER) / f"{os.getpid()}-{uuid.uuid4().hex}.json"
        draft = self._path.with_suffix(".draft")
        self._file = draft.open("wb", buffering=0)
        # Locked before it has its name: an unlocked reader is a dead one to everybody else.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        draft.rename(self._path)

    def write(self, served: Mapping[str, tuple[int, int | None]]) -> None:
        """Say what is served now; short enough for one write.

        Args:
            served: epoch and the number that would be pinned, by story or bundle subject.

        Raises:
            Unavailable, InputError: the home cannot be written, so nobody will know.
        """
        stories = {name: {"epoch": epoch, "pin": pin} for name, (epoch, pin) in served.items()}
        line = orjson.dumps({"lease": self._lease, "stories": stories})
        try:
            os.pwrite(self._file.fileno(), line, 0)
            os.ftruncate(self._file.fileno(), len(line))
        except OSError as error:
            raise unwritable(self._path, error) from error

    def withdraw(self) -> None:
        """Leave the readers; a killed process leaves by losing its lock."""
        self._path.unlink(missing_ok=True)
        self._file.close()


@dataclass(frozen=True, slots=True)
class _Standing:
    """What one living reader last said about a story."""

    epoch: int
    pin: int | None
    lease: float | None

    def safe_by_lease(self, waited: float, withdrawn: int) -> bool:
        """Whether it must be pinned by now, to something else than ``withdrawn``.

        A look at the ledger that began after an entry was written shows the entry. So a reader that does not
        serve it looked before, and its lease has run at least as long as we have waited.
        """
        return self.lease is not None and self.pin != withdrawn and waited > self.lease * (1.0 + SKEW)


class Readers:
    """Every reader process of a home that is alive, as seen from any process of the same machine."""

    def __init__(self, home: Home) -> None:
        self._folder = home.folder(_FOLDER)

    def epochs(self, story: str) -> dict[str, int | None]:
        """Reader name to the epoch of ``story`` it serves; None for a reader that does not serve it yet."""
        return {name: one.epoch if one else None for name, one in self._standings(story).items()}

    def acknowledge(self, story: str, epoch: int, *, within: timedelta, withdrawn: int) -> Acknowledged:
        """Return once no living reader can serve ``withdrawn``: each serves ``epoch`` or is pinned.

        A crashed reader is not waited for. One that is stopped, or does not see the ledger, is waited for
        until its lease must have ended.

        Args:
            epoch: of an entry that is already in the ledger.

        Raises:
            Unavailable: some did not get there in time; they are named.
        """
        started, pause = _elapsed(), threading.Event()
        while True:
            waited = _elapsed() - started
            serving = {name: one for name, one in self._standings(story).items() if one is not None}
            behind = {name: one for name, one in serving.items() if one.epoch < epoch}
            expired = {name for name, one in behind.items() if one.safe_by_lease(waited, withdrawn)}
            if len(expired) == len(behind):
                return Acknowledged(len(serving) - len(expired), tuple(sorted(expired)))
            if waited > within.total_seconds():
                late = {name: one for name, one in behind.items() if name not in expired}
                pinned = {
                    name: "pinned to it" if one.pin == withdrawn else "not yet" for name, one in late.items()
                }
                raise _late(story, epoch, pinned, within)
            pause.wait(0.005)

    def _standings(self, story: str) -> dict[str, _Standing | None]:
        found: dict[str, _Standing | None] = {}
        for path in sorted(self._folder.glob("*.json")):
            line = _line_of_living(path)
            if line is not None:
                found[path.stem] = _standing(line, story)
        return found


def _standing(line: bytes, story: str) -> _Standing | None:
    try:
        said: dict[str, Any] = orjson.loads(line or b'{"stories": {}}')
    except orjson.JSONDecodeError:
        return _Standing(0, None, None)  # between write and truncate: not there yet, ask again
    one = said["stories"].get(story)
    return _Standing(one["epoch"], one["pin"], said["lease"]) if one else None


def _cut_off(permissions: Permissions, stale: float) -> Permissions:
    """The fail-safe permissions of a reader whose lease has ended; a freeze it knew of stays."""
    sentence = f"The ledger was last seen {stale:.0f} s ago, so known good versions are pinned."
    return replace(permissions, promotion_enabled=False, source="defaults", sentence=sentence)


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


def _late(story: str, epoch: int, readers: Mapping[str, str], within: timedelta) -> Unavailable:
    return Unavailable(
        f"readers of '{story}'",
        expected=f"epoch {epoch} seen by all within {within.total_seconds():g} s",
        got=", ".join(f"{name} ({why})" for name, why in readers.items()),
        next_step="Look at these processes, or end them; they may still serve the earlier deployment.",
    )
