"""The nouns of an incident and its ledger kinds.

Everything watched is a :class:`Series` on a regular grid, whatever it measures: a quality metric of a cohort,
the drift of a feature, the recall of a shard, the answers of a probe. What a series belongs to is the first
part of its name: "reranker.ndcg" is of component "reranker", which the dependency map knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.identity import digest
from mangaassist.core.verdict import Verdict
from mangaassist.stats.domain import FloatArray

OPENED = "incident.opened"
LOCALISED = "incident.localised"
MITIGATED = "incident.mitigated"
RECOVERED = "incident.recovered"
"""Ledger kinds; all entries of one incident share the subject ``incident/<id>``."""

SUBJECT = "incident/"
EVERYBODY = "all"
"""The cohort that is everybody."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed: by us, by a provider, or in the world.

    Attributes:
        kind: deploy, model, switch, configuration, prompt, schema, index, managed_service, interface,
            campaign, or any other word a webhook brings and the tree names.
        subject: what changed ("registry/intent", "search-api").
        at: when it took effect.
        known_at: when the log learned of it; evidence at an earlier instant does not contain it.
        actor: who or what did it.
        summary: one line.
        touches: components it may break, in the words of the dependency map; empty when nobody knows.
        cohorts: cohorts it reaches ("locale=ja"); empty for everybody.
        revert: the command that undoes it; None where there is none.
    """

    kind: str
    subject: str
    at: datetime
    known_at: datetime
    actor: str
    summary: str
    touches: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    revert: str | None = None

    @property
    def id(self) -> str:
        """Twelve hexadecimal characters of what it says; a change sent twice is one change."""
        return digest([self.kind, self.subject, self.at, self.actor, self.summary])[:12]

    def as_dict(self) -> dict[str, Any]:
        """The change as a JSON object."""
        return {
            "id": self.id,
            "kind": self.kind,
            "subject": self.subject,
            "at": isoformat(self.at),
            "known_at": isoformat(self.known_at),
            "actor": self.actor,
            "summary": self.summary,
            "touches": list(self.touches),
            "cohorts": list(self.cohorts),
            "revert": self.revert,
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Change:
        """The inverse of :meth:`as_dict`."""
        return cls(
            kind=body["kind"],
            subject=body["subject"],
            at=parse_instant(body["at"], field="change.at"),
            known_at=parse_instant(body["known_at"], field="change.known_at"),
            actor=body["actor"],
            summary=body["summary"],
            touches=tuple(body["touches"]),
            cohorts=tuple(body["cohorts"]),
            revert=body["revert"],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Values on a regular grid of time.

    Attributes:
        panel: what kind of thing it measures ("quality", "feature_drift", "shard_recall").
        name: component first ("reranker.ndcg", "catalog_index.shard_3").
        cohort: whose ("all", "locale=ja").
        start: instant of ``values[0]``: the end of the window it was measured over.
        step: from one value to the next.
        values: shape (ticks,); NaN where nothing was measured.
        limit: beyond which one value is bad by itself; None where only an alarm can tell.
        worse: "high" or "low": on which side of its limit, or of its usual value, trouble lies.
    """

    panel: str
    name: str
    cohort: str
    start: datetime
    step: timedelta
    values: FloatArray
    limit: float | None = None
    worse: str = "high"

    @property
    def component(self) -> str:
        return component(self.name)

    def at(self, tick: int) -> datetime:
        """The instant of one tick."""
        return self.start + tick * self.step


@dataclass(frozen=True, slots=True)
class Onset:
    """When something began: the likeliest instant, and an interval that holds it with 90% probability."""

    earliest: datetime
    likeliest: datetime
    latest: datetime

    def as_dict(self) -> dict[str, str]:
        return {
            "earliest": isoformat(self.earliest),
            "likeliest": isoformat(self.likeliest),
            "latest": isoformat(self.latest),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, str]) -> Onset:
        return cls(**{name: parse_instant(text, field=f"onset.{name}") for name, text in body.items()})


@dataclass(frozen=True, slots=True)
class Alarm:
    """A series that left what is usual for it.

    Attributes:
        panel, name, cohort: of the series.
        at: when it fired.
        value, usual: the series then, averaged since the onset, and what it usually is at that hour of the
            week, in its own unit.
        rising: whether it went up.
        onset: when the shift began.
    """

    panel: str
    name: str
    cohort: str
    at: datetime
    value: float
    usual: float
    rising: bool
    onset: Onset

    @property
    def component(self) -> str:
        return component(self.name)

    @property
    def sentence(self) -> str:
        whose = "" if self.cohort == EVERYBODY else f" of {self.cohort}"
        way = "rose" if self.rising else "fell"
        return f"{self.name}{whose} {way} from {self.usual:.4g} to {self.value:.4g}."

    def as_dict(self) -> dict[str, Any]:
        """The alarm as a JSON object."""
        return {
            "panel": self.panel,
            "name": self.name,
            "cohort": self.cohort,
            "at": isoformat(self.at),
            "value": self.value,
            "usual": self.usual,
            "rising": self.rising,
            "onset": self.onset.as_dict(),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Alarm:
        """The inverse of :meth:`as_dict`."""
        at = parse_instant(body["at"], field="alarm.at")
        return cls(**{**body, "at": at, "onset": Onset.from_dict(body["onset"])})


@dataclass(frozen=True, slots=True)
class Incident:
    """Alarms that are one incident until proven otherwise (CC-Q2).

    Attributes:
        id: its opening minute and a digest ("20261120-0305-1f2e").
        opened: when its first alarm fired.
        alarms: in the order in which they fired.
        shared: components all that alarmed depend on, nearest first; for one alarm its own dependencies.
    """

    id: str
    opened: datetime
    alarms: tuple[Alarm, ...]
    shared: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The subject of its ledger entries."""
        return SUBJECT + self.id

    @property
    def components(self) -> tuple[str, ...]:
        """What alarmed, sorted."""
        return tuple(sorted({alarm.component for alarm in self.alarms}))

    def as_dict(self) -> dict[str, Any]:
        """The incident as a JSON object."""
        return {
            "id": self.id,
            "opened": isoformat(self.opened),
            "alarms": [alarm.as_dict() for alarm in self.alarms],
            "shared": list(self.shared),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Incident:
        """The inverse of :meth:`as_dict`."""
        return cls(
            body["id"],
            parse_instant(body["opened"], field="incident.opened"),
            tuple(Alarm.from_dict(one) for one in body["alarms"]),
            tuple(body["shared"]),
        )


@dataclass(frozen=True, slots=True)
class Suspect:
    """One possible cause, and what speaks for it.

    Attributes:
        category: name of the category it belongs to ("code_deploy").
        subject: what is suspected: a change's subject, a failing series, an event.
        probability: among everything considered, the unknown included.
        sentence: time, reach and cohorts against the incident's.
        change: id of the change; None where it is none.
    """

    category: str
    subject: str
    probability: float
    sentence: str
    change: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Mitigation:
    """What to do now.

    Attributes:
        sentence: for people.
        command: exactly what to run; None where there is no command.
        roll_back: whether it takes something of ours back.
        runbook: file under docs/runbooks.
    """

    sentence: str
    command: str | None
    roll_back: bool
    runbook: str

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Localisation:
    """What one walk down the triage tree found.

    Attributes:
        incident: id.
        at: when it was walked, on the evidence's clock.
        category: the likeliest; "unknown" to escalate.
        probability: of the category.
        verdicts: one per node, in the order of the tree: ``fail`` names a cause, ``pass`` rules it out.
        suspects: likeliest first.
        mitigation: what to do now.
    """

    incident: str
    at: datetime
    category: str
    probability: float
    verdicts: tuple[Verdict, ...]
    suspects: tuple[Suspect, ...]
    mitigation: Mitigation

    def as_dict(self) -> dict[str, Any]:
        """The localisation as a JSON object."""
        return {
            "incident": self.incident,
            "at": isoformat(self.at),
            "category": self.category,
            "probability": self.probability,
            "verdicts": [verdict.as_dict() for verdict in self.verdicts],
            "suspects": [suspect.as_dict() for suspect in self.suspects],
            "mitigation": self.mitigation.as_dict(),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Localisation:
        """The inverse of :meth:`as_dict`."""
        return cls(
            body["incident"],
            parse_instant(body["at"], field="localisation.at"),
            body["category"],
            body["probability"],
            tuple(Verdict.from_dict(one) for one in body["verdicts"]),
            tuple(Suspect(**one) for one in body["suspects"]),
            Mitigation(**body["mitigation"]),
        )


@dataclass(frozen=True, slots=True)
class Occasion:
    """An entry of the seasonal calendar: something planned that moves traffic.

    Attributes:
        name: "fourth Friday release".
        since, until: while it moves traffic.
        touches: components whose numbers it moves; empty for all.
        cohorts: whose traffic; empty for everybody's.
    """

    name: str
    since: datetime
    until: datetime
    touches: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """One incident as the ledger tells it.

    Attributes:
        incident: as opened.
        head: sequence of its last entry, for compare-and-swap.
        localisation: the latest walk; None before the first.
        mitigated, recovered: when; None before that.
        timeline: every entry's instant, kind, actor and body, oldest first.
    """

    incident: Incident
    head: int
    localisation: Localisation | None = None
    mitigated: datetime | None = None
    recovered: datetime | None = None
    timeline: tuple[tuple[datetime, str, str, Mapping[str, Any]], ...] = field(default=())


def component(name: str) -> str:
    """What a series belongs to: "reranker.ndcg" is of "reranker"."""
    return name.partition(".")[0]
