"""The embedded scheduler: the jobs of a home, each in its lane, until somebody stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from mangaassist.core.errors import InputError, MangaAssistError, Unavailable, nearest
from mangaassist.lifecycle.jobs import jobs, tell
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.schedule import Job, Lane, Last, Schedule

POLL = timedelta(seconds=1)
SERVING = (Lane.DESK, Lane.PROBES, Lane.WORK)
"""The lanes a serving process runs beside answering."""

Notify = Callable[[Last], None]


class Running:
    """The lanes of one process, each a thread; the schedule in the state database keeps processes apart.

    Attributes:
        problem: what the last failing job said; empty while all go well.
    """

    def __init__(
        self,
        platform: Platform,
        *,
        lanes: Sequence[Lane] = tuple(Lane),
        notify: Notify = lambda _: None,
    ) -> None:
        """
        Args:
            lanes: which jobs this process runs.
            notify: told how every run ended.
        """
        self._platform = platform
        self._schedule = Schedule.open(platform.home, platform.clock)
        self._jobs = [one for one in jobs(platform) if one.lane in lanes]
        self._notify = notify
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.problem = ""

    def start(self, poll: timedelta = POLL) -> None:
        """Run every lane in a thread of its own until :meth:`stop`."""
        for lane in dict.fromkeys(one.lane for one in self._jobs):
            own = [one for one in self._jobs if one.lane is lane]
            thread = threading.Thread(target=self._go, args=(own, poll), name=f"lane-{lane}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End after the jobs that are running."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def wait(self) -> None:
        """Until :meth:`stop`, or an interrupt."""
        while not self._stop.wait(POLL.total_seconds()):
            pass

    def once(self, names: Sequence[str] = ()) -> list[Last]:
        """Run every job that is due, or those named whether due or not, and return how each ended.

        Raises:
            InputError: for a name that is no job. Unavailable: another process is running a named job.
        """
        known = {one.name: one for one in self._jobs}
        for name in names:
            if name not in known:
                raise InputError("--job", expected="a job", got=name, next_step=nearest(name, known))
        chosen = [known[name] for name in names] or self._schedule.due(self._jobs)
        found = []
        for job in chosen:
            last = self._run(job)
            if last is None and names:
                raise _busy(f"the job '{job.name}'")
            found.extend([last] if last else [])
        return found

    def _go(self, own: list[Job], poll: timedelta) -> None:
        while not self._stop.is_set():
            try:
                for job in self._schedule.due(own):
                    if self._stop.is_set():
                        return
                    self._run(job)
            except MangaAssistError as error:
                self.problem = str(error)  # the state database is away; the lane waits for it
            self._stop.wait(poll.total_seconds())

    def _run(self, job: Job) -> Last | None:
        last = self._schedule.run(job)
        if last is not None:
            self.problem = "" if last.ok else f"{last.name}: {last.said}"
            tell(self._platform, last)
            self._notify(last)
        return last


@contextmanager
def alone(platform: Platform) -> Iterator[None]:
    """Be the one ``mangaassist run`` of a home.

    Raises:
        Unavailable: another one runs.
    """
    try:
        with platform.home.lock("run", wait=False):
            yield
    except Unavailable as error:
        if error.field != "lock 'run'":
            raise
        raise _busy("the schedule of this home") from error


def last_runs(platform: Platform) -> dict[str, Last]:
    """The last run of every job, by name."""
    return Schedule.open(platform.home, platform.clock).last()


def _busy(what: str) -> Unavailable:
    return Unavailable(
        "run",
        expected=f"nobody else to run {what}",
        got="another process that does",
        next_step="One is enough: look at it, or end it and run the command again.",
    )
