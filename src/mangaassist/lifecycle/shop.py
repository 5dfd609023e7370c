"""A simulated shop on a simulated clock, played through the real router, model server, log and controller.

It knows the truth and the platform does not: only examples, votes, requests and outcomes cross over, each at
the time it would have been known.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from time import thread_time
from typing import TypeVar

import polars as pl

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.verdict import Action, Decision
from mangaassist.drift.hub import DriftReport
from mangaassist.labels.distillation import prompt_labeller
from mangaassist.labels.functions import agreed
from mangaassist.labels.labellers import register
from mangaassist.labels.lots import review_lots
from mangaassist.labels.records import Label, examples_frame, labels_frame
from mangaassist.lifecycle.features import required_catalog
from mangaassist.lifecycle.labelling import audit_labels, load_prompt, rules_labeller
from mangaassist.lifecycle.monitoring import Monitor, next_step, truths
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.triage import judge
from mangaassist.promotion.accumulator import EvidenceAccumulator
from mangaassist.promotion.controller import Controller
from mangaassist.promotion.versions import SHADOW, Deployment
from mangaassist.retraining.schedule import Proposed, RetrainProposal
from mangaassist.serving.live import LivePointer
from mangaassist.serving.prediction_log import (
    PREDICTION_SCHEMA,
    Outcome,
    PredictionLog,
    PredictionRecord,
)
from mangaassist.serving.router import Request, Router
from mangaassist.simulation.annotators import Misreading
from mangaassist.simulation.labeller import PROMPTS
from mangaassist.simulation.phrasings import OUT_OF_SCOPE
from mangaassist.simulation.samples import Sample
from mangaassist.simulation.traffic import Request as Visit
from mangaassist.simulation.world import World
from mangaassist.stories.intent.labelling import RULES

Known = TypeVar("Known")

STORY = "intent"
PROMPT = "intent-v3"
"""The prompt in force; what the simulated language model answers is its answer to it."""
TICK = timedelta(minutes=5)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
LOOK_HOURS = 6
"""Production looks at drift every five minutes; every six hours shows the same in a demo's time."""
DELIVERY_DAYS = 3
"""Features and labels are handed over, and the log moved into its tables, every so many nights."""
REVIEW_EVERY = 2
"""Agreement is measured at every so many deliveries, and before each retrain."""
READ_BY_REVIEWER = 100
"""Disagreements a simulated reviewer reads before accepting a shadow."""
LABELLED_A_DAY = 300
"""Live utterances drawn for labelling each day."""


@dataclass(slots=True)
class Shop:
    """The shop while it is being played.

    Attributes:
        misreading: a guideline error in force for labels given from now on; None for none.
        decisions: every decision of the controller that moved something, oldest first.
        proposals: every retraining proposal, oldest first.
        requests: how many requests were answered.
        strongest: the drift report in which most kinds had fired so far, the latest of those.
    """

    platform: Platform
    world: World
    clock: SimulatedClock
    notify: Callable[[str], None]
    misreading: Misreading | None = None
    decisions: list[Decision] = field(default_factory=list)
    proposals: list[tuple[datetime, RetrainProposal]] = field(default_factory=list)
    requests: int = 0
    strongest: DriftReport | None = None
    monitor: Monitor | None = None
    _pointer: LivePointer = field(init=False)
    _router: Router = field(init=False)
    _controller: Controller = field(init=False)
    _log: PredictionLog = field(init=False)
    _evidence: EvidenceAccumulator | None = None
    _visits: list[Visit] = field(default_factory=list)
    _outcomes: list[tuple[datetime, int, Outcome]] = field(default_factory=list)
    _votes: list[tuple[datetime, int, Label]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)
    _deliveries: int = 0
    _told: set[tuple[object, ...]] = field(default_factory=set)
    _disagreements: list[tuple[Visit, str | None, str | None]] = field(default_factory=list)
    _unwritten: list[PredictionRecord] = field(default_factory=list)
    _known: list[Outcome] = field(default_factory=list)
    _today: list[PredictionRecord] = field(default_factory=list)
    _rows: pl.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        registry = self.platform.registry
        self._pointer = LivePointer(registry, prepare=self.platform.models.warm)
        # Processor time: a simulated shop shares its machine with whatever else runs there, and how busy
        # that is must not decide about a version.
        self._router = Router(self._pointer, self.platform.models, timer=thread_time)
        self._controller = Controller(registry, readers=(self._pointer,))
        self._log = PredictionLog.open(self.platform.home, STORY)
        self._rows = _frame([])

    def open_doors(self) -> None:
        """The past: twelve weeks of labelled history, the golden set, and a feature history."""
        world, store, story = self.world, self.platform.labels, self.platform.story(STORY)
        catalog = required_catalog(self.platform, STORY)
        features = world.feature_rows(world.history_start, world.start)
        self.platform.features.append(catalog, "shopper", features)
        self._register_labellers()
        history, golden = world.history(), world.golden()
        self._add_examples([*history, *golden])
        labels = [*self._label(history), *world.vendor_labels(golden), *world.golden_labels(golden)]
        arrived = [one for one in labels if one.labeled_at <= self.clock.now()]
        self._keep([one for one in labels if one.labeled_at > self.clock.now()])
        store.add_labels(story, labels_frame(arrived, model_target=STORY), actor="simulation")
        self.review_labels()

    def _register_labellers(self) -> None:
        """Who speaks for rules and language model: exactly what the commands would register."""
        module = self.platform.module(STORY)
        story, prompt = module.STORY, load_prompt(module, PROMPT)
        asked = prompt_labeller(PROMPTS[PROMPT].name, prompt, story.labels.classes)
        for labeller in (rules_labeller(RULES), asked):
            register(self.platform.labels, story, labeller, actor="simulation")

    def until_settled(self, story: str, number: int, stage: str) -> None:
        """Play on until version ``number`` has left ``stage`` ("shadow", or "canary" for all its steps)."""
        while self._running(story, number, stage):
            self.play(_HOUR)

    def _running(self, story: str, number: int, stage: str) -> bool:
        deployment = self.platform.registry.deployment(story)
        return deployment.challenger == number and (deployment.stage == SHADOW) == (stage == SHADOW)

    def play(self, duration: timedelta) -> None:
        """Let ``duration`` pass, five minutes at a time; drift looks every few hours, nightly chores."""
        end = self.clock.now() + duration
        while self.clock.now() < end:
            self._tick()
            now = self.clock.now()
            if now.minute == 0 and now.hour % LOOK_HOURS == 0:
                self._write()
                self._watch(now)
            if now.minute == 0 and now.hour == 0 and (now - self.world.start).days % DELIVERY_DAYS == 0:
                self._night(now)

    def close(self) -> None:
        """Make what is logged durable, move it into the tables and let go of the files."""
        self._write()
        self._count_today()
        self._log.drain(self.platform.tables)
        if self.monitor is not None:
            self.monitor.record()
        self._log.close()

    def _write(self) -> None:
        """Make some hours of rows durable at once: nobody real waits for a simulated answer."""
        self._log.write(self._unwritten)
        self._log.write_outcomes(self._known)
        self._today.extend(self._unwritten)
        self._unwritten.clear()
        self._known.clear()

    def _tick(self) -> None:
        """Answer five minutes of requests by what the ledger says now, then look at the rollout."""
        self._pointer.refresh()
        until = self.clock.now() + TICK
        rows = [row for visit in self._arrivals(until) for row in self._answer(visit)]
        self.clock.advance_to(until)
        known = _due(self._outcomes, until)
        self._unwritten.extend(rows)
        self._known.extend(known)
        self._look(rows, known, until)

    def _arrivals(self, until: datetime) -> list[Visit]:
        now = self.clock.now()
        if not self._visits or self._visits[-1].at < now:
            self._visits = self.world.requests(now, now + _DAY)[::-1]
        found = []
        while self._visits and self._visits[-1].at < until:
            found.append(self._visits.pop())
        return found

    def _answer(self, visit: Visit) -> tuple[PredictionRecord, ...]:
        request = Request(
            visit.text, visit.request_id, visit.at, visit.user_id, cohort=visit.cohort, device=visit.device
        )
        answer = self._router.serve(STORY, request)
        became = self.world.outcome(visit, answer.prediction.label, abstains=answer.prediction.abstains)
        outcome = Outcome(visit.request_id, STORY, became.resolved, became.known_at)
        heapq.heappush(self._outcomes, (became.known_at, next(self._order), outcome))
        self.requests += 1
        self._compare(visit, answer.records)
        return answer.records

    def _compare(self, visit: Visit, records: tuple[PredictionRecord, ...]) -> None:
        """Keep what a reviewer would read: requests on which champion and shadow differ."""
        said = [None if one.abstains else one.label for one in records]
        if len(said) == 2 and said[0] != said[1]:
            self._disagreements.append((visit, said[0], said[1]))

    def _review(self, decision: Decision, now: datetime) -> None:
        """The simulated reviewer PRO-6 asks for: reads disagreements by the guideline then in force.

        They accept the challenger when it is right more often than the champion. A misread guideline misleads
        them like everybody else.
        """
        waiting = {one.name for one in decision.verdicts if one.blocking and not one.passed}
        if not waiting or any(not name.startswith("shadow.agreement") for name in waiting):
            return
        read = self._disagreements[-READ_BY_REVIEWER:]
        right = [(self._meant(visit) == old, self._meant(visit) == new) for visit, old, new in read]
        before, after = sum(old for old, _ in right), sum(new for _, new in right)
        if after <= before:
            return
        number = int(decision.subject.rpartition("/")[2])
        reason = (
            f"Of {len(read)} disagreements version {number} is right in {after}, the champion in {before}."
        )
        self._controller.review_disagreement(
            self.platform.story(STORY), number, actor="simulated-reviewer", reason=reason, at=now
        )
        self.notify(f"{now:%b %d %H:%M}  {reason} The simulated reviewer accepts them.")

    def _meant(self, visit: Visit) -> str | None:
        """What the guideline says a request means; None for nothing to act on."""
        if self.misreading is not None and self.misreading.families in visit.family:
            return self.misreading.label
        return None if visit.true_intent == OUT_OF_SCOPE else visit.true_intent

    def _look(self, rows: list[PredictionRecord], known: list[Outcome], now: datetime) -> None:
        deployment = self.platform.registry.deployment(STORY)
        if deployment.challenger is None:
            self._evidence = None
            return
        if self._evidence is None:
            self._evidence = EvidenceAccumulator(
                deployment, safety_labels=self.platform.story(STORY).safety_critical
            )
        self._evidence.observe(row.as_row() for row in rows)
        self._evidence.observe_outcomes(one.as_row() for one in known)
        decision = self._controller.step(self.platform.story(STORY), self._evidence.evidence(now), now)
        if decision.action in (Action.PROMOTE, Action.ROLL_BACK):
            self._disagreements.clear()
            self._moved(decision, deployment)
        elif deployment.stage == SHADOW:
            self._review(decision, now)

    def _moved(self, decision: Decision, before: Deployment) -> None:
        self.decisions.append(decision)
        after = self.platform.registry.deployment(STORY)
        if after.challenger is None:
            self._evidence = None
        elif self._evidence is not None:
            self._evidence.enter(after)
        verb = "passed" if decision.action is Action.PROMOTE else "was rolled back from"
        reason = "" if decision.action is Action.PROMOTE else f": {decision.reason}"
        self.notify(f"{decision.at:%b %d %H:%M}  version {before.challenger} {verb} {before.stage}{reason}")

    def _watch(self, now: datetime) -> None:
        """One drift look at the champion, and what the schedule makes of it."""
        champion = self.platform.registry.deployment(STORY).champion
        if champion is None:
            return
        self._count_today()
        if self.monitor is None or self.monitor.version != champion:
            self._log.drain(self.platform.tables)
            self.monitor = Monitor.open(self.platform, STORY, self._rows)
        report = self.monitor.look(now)
        if self.strongest is None or len(report.fired) >= len(self.strongest.fired):
            self.strongest = report
        proposal = next_step(self.platform, STORY, judge(self.monitor, report))
        if proposal.action is not Proposed.NOTHING:
            self.proposals.append((now, proposal))
            occasion = (report.version, str(proposal.action), *map(str, report.fired))
            if occasion not in self._told:
                self._told.add(occasion)
                self.notify(f"{now:%b %d %H:%M}  {proposal.action} proposed: {proposal.reason}")

    def _count_today(self) -> None:
        fresh = _frame(self._today)
        self._today.clear()
        self._rows = pl.concat([self._rows, fresh])
        if self.monitor is not None:
            self.monitor.observe(fresh)

    def _night(self, now: datetime) -> None:
        """Move the log into its tables, deliver features and labels, learn what has become true."""
        self._count_today()
        self._log.drain(self.platform.tables)
        since = now - DELIVERY_DAYS * _DAY
        catalog = required_catalog(self.platform, STORY)
        self.platform.features.append(catalog, "shopper", self.world.feature_rows(since, now))
        drawn = self.world.requests(since, now)
        samples = self.world.live(drawn, limit=DELIVERY_DAYS * LABELLED_A_DAY)
        self._add_examples(samples)
        self._keep(self._label(samples))
        self._deliver(now)
        if self.monitor is not None:
            self.monitor.learn(self._rows, truths(self.platform, self.monitor.story))
            self.monitor.record()

    def _deliver(self, now: datetime) -> None:
        """Hand over the votes that have come in; every other time measure the agreement of every lot."""
        story, store = self.platform.story(STORY), self.platform.labels
        votes = _due(self._votes, now)
        if votes:
            store.add_labels(story, labels_frame(votes, model_target=STORY), actor="simulation")
        self._deliveries += 1
        if self._deliveries % REVIEW_EVERY == 0:
            self.review_labels()

    def review_labels(self) -> None:
        """Let lots count or not by their agreement, take failing rules and prompts back (LAB-4, LAB-6)."""
        review_lots(self.platform.labels, self.platform.story(STORY), actor="label-qa")
        for one in audit_labels(self.platform, STORY, apply=True)["audits"]:
            if one["rolled_back"]:
                back = f"{one['source']} labels are taken back to {one['now_in_force'] or 'nobody'}"
                self.notify(f"{self.clock.now():%b %d %H:%M}  {back}: {one['reason']}")

    def _label(self, samples: list[Sample]) -> list[Label]:
        """Votes of all three sources, each with the time it will be known."""
        world = self.world
        return [
            *world.vendor_labels(samples, misreading=self.misreading),
            *world.llm_labels(samples),
            *world.programmatic_labels(samples, partial(agreed, RULES), version=RULES.version),
        ]

    def _add_examples(self, samples: list[Sample]) -> None:
        rows = examples_frame(
            (sample.example for sample in samples), model_target=STORY, ingested_at=self.clock.now()
        )
        self.platform.labels.add_examples(self.platform.story(STORY), rows, actor="simulation")

    def _keep(self, votes: list[Label]) -> None:
        for vote in votes:
            heapq.heappush(self._votes, (vote.labeled_at, next(self._order), vote))


def _due(waiting: list[tuple[datetime, int, Known]], now: datetime) -> list[Known]:
    """What ``waiting`` (a heap) holds that is known by ``now``, oldest first."""
    found = []
    while waiting and waiting[0][0] <= now:
        found.append(heapq.heappop(waiting)[2])
    return found


def _frame(records: list[PredictionRecord]) -> pl.DataFrame:
    import pyarrow as pa

    rows = pa.Table.from_pylist([record.as_row() for record in records], schema=PREDICTION_SCHEMA)
    found = pl.from_arrow(rows)
    return found if isinstance(found, pl.DataFrame) else found.to_frame()
