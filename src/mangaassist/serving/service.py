"""Everything a server holds while it runs: pointer, models, router, logs, and the threads behind them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta

from mangaassist.core.clock import Clock
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.home import Home
from mangaassist.labels.event_intake import EventIntake
from mangaassist.promotion.registry import Registry
from mangaassist.serving.commit import GroupCommit
from mangaassist.serving.feature_reads import FeatureReads
from mangaassist.serving.live import LEASE, Live, LivePointer
from mangaassist.serving.metrics import ServingMetrics
from mangaassist.serving.model_server import ModelServer
from mangaassist.serving.prediction_log import PredictionLog
from mangaassist.serving.router import Answer, Request, Router
from mangaassist.storage.tables import Tables

_SHADOW_QUEUE = 1_000


@dataclass(frozen=True, slots=True)
class Health:
    """Whether requests should be sent here.

    Attributes:
        ready: True when every story can be answered and logged.
        reasons: why not, one sentence each.
        stories: the deployment served of each story.
    """

    ready: bool
    reasons: tuple[str, ...] = ()
    stories: dict[str, Live] = field(default_factory=dict)


class Service:
    """A serving process.

    Args:
        stories: names that may be asked besides those with a registered version.
        features: the online features read beside every answer; None where no story has any.
        admit: raises GateRefused for a story whose data may not be touched in this region (GOV-3).
        lease: how long deployments are served without another look at the ledger (PRO-4).
    """

    def __init__(
        self,
        home: Home,
        registry: Registry,
        clock: Clock,
        *,
        server: ModelServer | None = None,
        stories: Callable[[], Collection[str]] = tuple,
        features: FeatureReads | None = None,
        admit: Callable[[str], None] = lambda _: None,
        lease: timedelta = LEASE,
    ) -> None:
        self.home = home
        self.registry = registry
        self.clock = clock
        self.server = server or ModelServer(registry)
        self.pointer = LivePointer(registry, prepare=self.server.warm, home=home, lease=lease)
        self.router = Router(self.pointer, self.server)
        self.metrics = ServingMetrics(home.path)
        self.commits = GroupCommit(self._log, on_commit=self.metrics.committed)
        self._declared = stories
        self._features = features
        self._admit = admit
        self._known: frozenset[str] = frozenset()
        self._known_at = -1
        self._logs: dict[str, PredictionLog] = {}
        self._intakes: dict[str, EventIntake] = {}
        self._logs_lock = threading.Lock()
        self._copies: queue.Queue[tuple[str, Request] | None] = queue.Queue(_SHADOW_QUEUE)
        self._copier: threading.Thread | None = None

    def start(self) -> None:
        """Load what is deployed, then begin following the ledger, writing and copying."""
        for story in self.stories():
            self.pointer.resolve(story)
        self.pointer.start()
        self.commits.start()
        if self._features is not None:
            self._features.start()
        self._copier = threading.Thread(target=self._copy, name="shadow", daemon=True)
        self._copier.start()

    def stop(self) -> None:
        """Finish what was accepted and leave everything durable."""
        if self._copier is not None:
            self._copies.put(None)
            self._copier.join()
            self._copier = None
        self.commits.stop()
        if self._features is not None:
            self._features.stop()
        self.pointer.stop()
        with self._logs_lock:
            for log in self._logs.values():
                log.close()
            for intake in self._intakes.values():
                intake.close()
            self._logs.clear()
            self._intakes.clear()

    def stories(self) -> frozenset[str]:
        """Every story that may be asked; read anew only when the ledger has grown."""
        version = self.registry.ledger.version()
        if version != self._known_at:
            self._known = frozenset(self.registry.stories()) | frozenset(self._declared())
            self._known_at = version
        return self._known

    def live(self) -> dict[str, Live]:
        """Who answers every known story now; asks nobody, so it also answers for a reader that is cut off."""
        return {story: self.pointer.resolve(story) for story in sorted(self._known)}

    def require(self, story: str) -> None:
        """Raise InputError with the nearest name unless ``story`` may be asked."""
        if story not in self._known and story not in self.stories():
            raise InputError(
                "story", expected="a known story", got=repr(story), next_step=nearest(story, self._known)
            )
        self._admit(story)

    def answer(self, story: str, request: Request) -> Answer:
        """The answer, not yet durable: give it only when :meth:`settle` is done."""
        return self.answer_many(story, [request])[0]

    def answer_many(self, story: str, requests: Sequence[Request]) -> list[Answer]:
        """The answers of one batch, in order, not yet durable either."""
        answers = self.router.answer_many(story, requests)
        if self._features is not None:
            answers = [self._features.beside(*pair) for pair in zip(answers, requests, strict=True)]
        for answer in answers:
            self.metrics.answered(answer)
        return answers

    def settle(self, story: str, answers: Collection[Answer]) -> Future[None]:
        """Make the rows of ``answers`` durable."""
        return self.commits.submit(story, [record for answer in answers for record in answer.records])

    def copy_to_shadow(self, story: str, request: Request) -> None:
        """Ask the version in shadow later, beside the user's answer; left out when too many wait."""
        live = self.pointer.resolve(story)
        if live.deployment.challenger is None or live.deployment.in_canary:
            return
        try:
            self._copies.put_nowait((story, request))
        except queue.Full:
            self.metrics.shadow_dropped(story)

    def events(self, story: str) -> EventIntake:
        """The way in for what shoppers did with the answers of ``story``."""
        with self._logs_lock:
            if story not in self._intakes:
                self._intakes[story] = EventIntake.open(self.home, story, self.clock)
            return self._intakes[story]

    def health(self) -> Health:
        """Whether this process can answer and log, and if not, why."""
        live, reasons = self.live(), []
        pinned = [name for name, view in live.items() if view.pinned]
        if pinned:
            stands = f"{live[pinned[0]].permissions.sentence} ({', '.join(pinned)})"
            reasons.append(f"{stands} {self.pointer.problem}".rstrip())
        elif self.pointer.problem:
            reasons.append(f"The ledger does not answer; champions stay as they are. {self.pointer.problem}")
        if self.commits.problem:
            reasons.append(f"The prediction log cannot be written. {self.commits.problem}")
        loaded = set(self.server.loaded())
        for story, view in live.items():
            champion = view.deployment.champion
            if champion is not None and (story, champion) not in loaded:
                failure = self.server.warm(story, champion)
                if failure:
                    reasons.append(f"Champion {story}/{champion} cannot be loaded ({failure}).")
        return Health(not reasons, tuple(reasons), live)

    def drain(self, tables: Tables) -> int:
        """Move what is durable into the tables; returns the number of rows."""
        return sum(self._log(story).drain(tables) for story in sorted(self.stories()))

    def _log(self, story: str) -> PredictionLog:
        with self._logs_lock:
            if story not in self._logs:
                self._logs[story] = PredictionLog.open(self.home, story)
            return self._logs[story]

    def _copy(self) -> None:
        while (job := self._copies.get()) is not None:
            story, request = job
            record = self.router.shadow(story, request)
            if record is not None:
                self.commits.submit(story, [record])
