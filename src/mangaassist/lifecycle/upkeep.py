"""What a serving process does beside answering: move the log, judge rollouts, look at drift."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

from mangaassist.core.errors import GateRefused, MangaAssistError
from mangaassist.core.verdict import Action
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.rollout import drain, judge_now
from mangaassist.lifecycle.watch import SAVED_EVERY, Watch

INTERVAL = timedelta(minutes=5)


class Upkeep:
    """The five-minute round of one home, in a thread of its own.

    Attributes:
        problem: what the last round could not do, as one sentence; empty when all went well.
    """

    def __init__(self, platform: Platform, *, notify: Callable[[str], None]) -> None:
        self._platform = platform
        self._watch = Watch(platform)
        self._notify = notify
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.problem = ""

    def start(self, interval: timedelta = INTERVAL) -> None:
        """Go round every ``interval`` until :meth:`stop`."""
        self._thread = threading.Thread(target=self._rounds, args=(interval,), name="upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the round that is running."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._watch.save()

    def round(self) -> None:
        """One round over every registered story; a story that fails does not keep the others waiting."""
        problems = []
        for name in self._platform.registry.stories():
            try:
                self._look(name)
            except MangaAssistError as error:
                problems.append(f"{name}: {error}")
        try:
            self._watch.save(every=SAVED_EVERY)
        except MangaAssistError as error:
            problems.append(str(error))
        if problems and (said := " ".join(problems)) != self.problem:
            self._notify(said)
        self.problem = " ".join(problems)

    def _look(self, name: str) -> None:
        drain(self._platform, name)
        deployment = self._platform.registry.deployment(name)
        if deployment.challenger is not None:
            decision = judge_now(self._platform, name)
            if decision.action is not Action.HOLD:
                self._notify(f"{decision.subject}: {decision.action}. {decision.reason}")
        if deployment.champion is not None:
            try:
                self._watch.look(name)
            except GateRefused:
                return  # a champion that has not answered anything yet has no drift

    def _rounds(self, interval: timedelta) -> None:
        while not self._stop.wait(interval.total_seconds()):
            self.round()
