"""Work that a serving process repeats in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta


class Rounds:
    """Calls ``work`` again and again in a daemon thread, between :meth:`start` and :meth:`stop`."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._name = name
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, interval: timedelta) -> None:
        """The first call comes after ``interval``; started already, it goes on as it does."""
        if self._thread is None:
            self._end.clear()
            self._thread = threading.Thread(target=self._go, args=(interval,), name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Return when the last call has ended."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _go(self, interval: timedelta) -> None:
        while not self._end.wait(interval.total_seconds()):
            self._work()
