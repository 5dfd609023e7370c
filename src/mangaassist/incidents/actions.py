"""What is done so that it does not happen again: action items, and the monitors some of them become.

An item with a monitor is more than a promise: from the moment it is recorded the series it names is held
against its limit every round, beside the alarms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import digest
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents.records import SUBJECT, Alarm, Series
from mangaassist.storage.ledger import Ledger

ACTION: Final = "incident.action"
ACTION_CLOSED: Final = "incident.action_closed"


@dataclass(frozen=True, slots=True)
class Monitor:
    """One series and the limit it is held against.

    Attributes:
        panel, name, cohort: which series.
        limit: in the series' own unit.
        worse: "high" or "low": on which side of the limit trouble lies.
    """

    panel: str
    name: str
    cohort: str
    limit: float
    worse: str

    @classmethod
    def of(cls, alarm: Alarm) -> Monitor:
        """A monitor that would have seen ``alarm``: its limit lies half way from the usual value."""
        limit = float(f"{(alarm.usual + alarm.value) / 2:.4g}")
        return cls(alarm.panel, alarm.name, alarm.cohort, limit, "high" if alarm.rising else "low")

    @classmethod
    def parse(cls, text: str) -> Monitor:
        """Read "PANEL:NAME[@COHORT]<LIMIT" or "…>LIMIT": trouble is below, or above, the limit.

        Raises:
            InputError: for anything else.
        """
        sign = "<" if "<" in text else ">"
        series, _, limit = text.partition(sign)
        panel, _, rest = series.strip().partition(":")
        name, _, cohort = rest.partition("@")
        try:
            number = float(limit)
        except ValueError:
            number = float("nan")
        if not panel or not name or not np.isfinite(number):
            raise InputError(
                "--watch",
                expected="PANEL:NAME[@COHORT]<LIMIT or >LIMIT",
                got=repr(text),
                next_step="Write it like 'shard_recall:catalog_index.shard_3<0.8'.",
            )
        return cls(panel, name.strip(), cohort.strip() or "all", number, "low" if sign == "<" else "high")

    @property
    def sentence(self) -> str:
        whose = "" if self.cohort == "all" else f" of {self.cohort}"
        side = "above" if self.worse == "high" else "below"
        return f"{self.name}{whose} {side} {self.limit:g}"

    def look(self, found: Iterable[Series]) -> Verdict:
        """Hold the newest known value of the series against the limit."""
        name = f"monitor.{self.name}.{self.cohort}"
        one = next((one for one in found if (one.name, one.cohort) == (self.name, self.cohort)), None)
        known = one.values[np.isfinite(one.values)] if one is not None else np.array([])
        if not known.size:
            return Verdict(
                name, Status.INSUFFICIENT, f"Nothing measures {self.name} now.", threshold=self.limit
            )
        value = float(known[-1])
        bad = value > self.limit if self.worse == "high" else value < self.limit
        said = f"{self.name} is {value:.4g}; trouble is {self.sentence.rpartition(self.name)[2].strip()}."
        return Verdict(
            name, Status.FAIL if bad else Status.PASS, said, value, threshold=self.limit, n=known.size
        )

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class ActionItem:
    """One thing to do after an incident.

    Attributes:
        incident: id.
        title: what.
        owner: a role, not a person.
        due: until when.
        monitor: what it watches from now on; None for work that is not a monitor.
        closed_at, outcome: when and how it ended; None and empty while it is open.
    """

    incident: str
    title: str
    owner: str
    due: datetime
    monitor: Monitor | None = None
    closed_at: datetime | None = None
    outcome: str = ""

    @property
    def id(self) -> str:
        """Eight characters of what it is about; the same item proposed twice is one item."""
        return digest([self.incident, self.title])[:8]

    @property
    def open(self) -> bool:
        return self.closed_at is None

    def as_dict(self) -> dict[str, Any]:
        """The item as a JSON object."""
        return {
            "id": self.id,
            "incident": self.incident,
            "title": self.title,
            "owner": self.owner,
            "due": isoformat(self.due),
            "monitor": self.monitor.as_dict() if self.monitor else None,
            "closed_at": isoformat(self.closed_at) if self.closed_at else None,
            "outcome": self.outcome,
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> ActionItem:
        """An item as it was opened."""
        monitor = Monitor(**body["monitor"]) if body["monitor"] else None
        due = parse_instant(body["due"], field="action.due")
        return cls(body["incident"], body["title"], body["owner"], due, monitor)


def record(ledger: Ledger, item: ActionItem, *, actor: str, at: datetime) -> None:
    """Open ``item``; one that is known already is left as it is."""
    if any(one.id == item.id for one in items(ledger, item.incident)):
        return
    ledger.append(kind=ACTION, subject=SUBJECT + item.incident, body=item.as_dict(), actor=actor, at=at)


def close(ledger: Ledger, key: str, *, outcome: str, actor: str, at: datetime) -> ActionItem:
    """End the open item ``key``.

    Raises:
        InputError: there is no such open item, or no word on how it ended.
    """
    known = {one.id: one for one in items(ledger) if one.open}
    if key not in known:
        raise InputError("action", expected="an open action item", got=key, next_step=nearest(key, known))
    if not outcome.strip():
        raise InputError("--reason", expected="how it ended", got="nothing", next_step="Say what was done.")
    item = known[key]
    body = {"id": key, "outcome": outcome}
    ledger.append(kind=ACTION_CLOSED, subject=SUBJECT + item.incident, body=body, actor=actor, at=at)
    return replace(item, closed_at=at, outcome=outcome)


def items(ledger: Ledger, incident: str | None = None) -> list[ActionItem]:
    """Every action item, of one incident or of all, in the order in which they were opened."""
    subject = SUBJECT + incident if incident else None
    ended = {
        entry.body["id"]: (entry.at, str(entry.body["outcome"]))
        for entry in ledger.entries(subject=subject, kind=ACTION_CLOSED)
    }
    found = []
    for entry in ledger.entries(subject=subject, kind=ACTION):
        item = ActionItem.from_dict(entry.body)
        at, outcome = ended.get(item.id, (None, ""))
        found.append(replace(item, closed_at=at, outcome=outcome))
    return found


def monitors(found: Sequence[ActionItem]) -> list[tuple[ActionItem, Monitor]]:
    """The items that watch something; closing an item does not stop its monitor, which is its point."""
    return [(one, one.monitor) for one in found if one.monitor is not None]
