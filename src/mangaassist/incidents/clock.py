"""The 15/60/240-minute clock of an incident: what must have happened by when, and who is told (AML-08).

The table is the source's escalation playbook. The clock starts when the first alarm fired; what has happened
is read from the incident's ledger entries and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents import records
from mangaassist.incidents.notices import Notice
from mangaassist.incidents.records import Known

ACKNOWLEDGED: Final = "incident.acknowledged"
CLOSED: Final = "incident.closed"
UNKNOWN = "unknown"
"""The category of a walk that found no cause: the incident is escalated, not localised."""

LARGE_IMPACT = 8_000
"""Answers within an hour above which the director is told at 60 minutes. The source leaves the number open;
its own large incident hurt 50,000 interactions in six hours, which is this rate."""

ON_CALL, PARTNER, MANAGER, OWNER = "on_call", "platform_partner", "em", "ml_platform_owner"
DIRECTOR, VP, DATA_PLATFORM, STAFF = "director", "vp", "data_platform", "staff"


@dataclass(frozen=True, slots=True)
class Stage:
    """One window of the playbook.

    Attributes:
        name: of the window.
        starts, ends: minutes after the alarm; ``ends`` is None for the last.
        task: what happens in it.
        milestone: what must have happened by its end.
        acts, told: roles; ``told`` hear of it when it starts and the incident still hurts.
    """

    name: str
    starts: int
    ends: int | None
    task: str
    milestone: str
    acts: tuple[str, ...]
    told: tuple[str, ...]


STAGES: Final = (
    Stage("localise", 0, 15, "Name the category.", "localised", (ON_CALL,), (ON_CALL,)),
    Stage(
        "mitigate",
        15,
        60,
        "Roll back first for categories 1, 2, 3 and 8; page the data team for 4; freeze for 5, 6, 7.",
        "mitigated",
        (ON_CALL, PARTNER),
        (MANAGER,),
    ),
    Stage(
        "command",
        60,
        240,
        "An incident commander assembles the team.",
        "recovered",
        (ON_CALL, MANAGER, OWNER),
        (OWNER, DIRECTOR),
    ),
    Stage("review", 240, None, "Full review; tell customers.", "closed", (MANAGER,), (DIRECTOR, VP)),
)
COMMAND: Final = timedelta(minutes=next(one.starts for one in STAGES if one.name == "command"))
"""After this it matters how many are hurt."""
_KINDS: Final[Mapping[str, str]] = {
    "acknowledged": ACKNOWLEDGED,
    "mitigated": records.MITIGATED,
    "recovered": records.RECOVERED,
    "closed": CLOSED,
}
_SEVERITY = {"localise": "SEV-2", "mitigate": "SEV-2", "command": "SEV-1", "review": "SEV-1"}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the clock of one incident stands.

    Attributes:
        elapsed: since the first alarm, until it was over or now.
        stage: the window that runs; None once it is over.
        moments: when each milestone was reached; only those that were.
        verdicts: one per deadline, in order.
    """

    elapsed: timedelta
    stage: Stage | None
    moments: Mapping[str, datetime]
    verdicts: tuple[Verdict, ...]

    @property
    def over(self) -> bool:
        return self.stage is None

    def as_dict(self) -> dict[str, Any]:
        """The standing as a JSON object."""
        return {
            "elapsed_minutes": round(minutes(self.elapsed), 1),
            "stage": self.stage.name if self.stage else None,
            "task": self.stage.task if self.stage else None,
            "moments": {name: at.isoformat() for name, at in self.moments.items()},
            "verdicts": [one.as_dict() for one in self.verdicts],
        }


def onset(known: Known) -> datetime:
    """When it began: the earliest of the likeliest onsets of its alarms."""
    return min((one.onset.likeliest for one in known.incident.alarms), default=known.incident.opened)


def moments(known: Known) -> dict[str, datetime]:
    """When each milestone was reached for the first time."""
    found: dict[str, datetime] = {"began": onset(known), "opened": known.incident.opened}
    for at, kind, _, body in known.timeline:
        named = kind == records.LOCALISED and body.get("category", UNKNOWN) != UNKNOWN
        for name in ["localised"] if named else [one for one, wanted in _KINDS.items() if wanted == kind]:
            found.setdefault(name, at)
    return found


def standing(known: Known, *, now: datetime) -> Standing:
    """Where the clock stands at ``now``; an incident is over when it has recovered or was closed."""
    reached = moments(known)
    ended = min((reached[one] for one in ("recovered", "closed") if one in reached), default=None)
    elapsed = (ended or now) - known.incident.opened
    stage = None if ended else [one for one in STAGES if minutes(elapsed) >= one.starts][-1]
    return Standing(elapsed, stage, reached, deadlines(reached, now=now))


def deadlines(reached: Mapping[str, datetime], *, now: datetime) -> tuple[Verdict, ...]:
    """One verdict per deadline.

    A milestone that a later one implies counts as reached with it: what recovered needed no more mitigation.

    Args:
        reached: as :func:`moments` gives it; ``opened`` is there.
    """
    names = [one.milestone for one in STAGES]
    found = []
    for place, stage in enumerate(STAGES):
        if stage.ends is not None:
            at = min((reached[one] for one in names[place:] if one in reached), default=None)
            found.append(_deadline(stage.milestone, stage.ends, reached["opened"], at, now))
    return tuple(found)


def announcements(known: Known, *, now: datetime, affected: int | None = None) -> list[Notice]:
    """What people are to be told of an incident that still hurts: one notice per window that has begun.

    The keys are the incident's, so that telling twice tells once.

    Args:
        affected: answers of the last hour by what alarmed; None where nobody counted, which counts as many.
    """
    view = standing(known, now=now)
    if view.over:
        return []
    found = [
        _announcement(known, stage, affected) for stage in STAGES if minutes(view.elapsed) >= stage.starts
    ]
    if known.localisation is not None:
        found.extend(_call_for_help(known))
    return found


def minutes(span: timedelta) -> float:
    """A span in minutes."""
    return span.total_seconds() / 60


def _deadline(milestone: str, limit: int, opened: datetime, at: datetime | None, now: datetime) -> Verdict:
    name, threshold = f"incident.{milestone}", float(limit)
    if at is not None:
        took = minutes(at - opened)
        status = Status.PASS if took <= limit else Status.FAIL
        said = f"{milestone.capitalize()} after {took:.0f} min (limit {limit} min)."
        return Verdict(name, status, said, round(took, 2), threshold=threshold, n=1)
    spent = minutes(now - opened)
    if spent > limit:
        said = f"Not {milestone} after {spent:.0f} min (limit {limit} min)."
        return Verdict(name, Status.FAIL, said, round(spent, 2), threshold=threshold, n=1)
    said = f"Not {milestone} yet; {limit - spent:.0f} min left."
    return Verdict(name, Status.INSUFFICIENT, said, round(spent, 2), threshold=threshold, n=1)


def _announcement(known: Known, stage: Stage, affected: int | None) -> Notice:
    incident = known.incident
    small = affected is not None and affected < LARGE_IMPACT
    told = tuple(role for role in stage.told if not (role == DIRECTOR and stage.name == "command" and small))
    what = incident.alarms[0].sentence if incident.alarms else "An incident was opened."
    after = f" after {stage.starts} min" if stage.starts else ""
    title = f"{', '.join(incident.components) or incident.id}: {stage.name}{after}"
    body = "\n".join(
        [
            what,
            *(one.sentence for one in incident.alarms[1:4]),
            stage.task,
            _proposal(known),
        ]
    )
    runbook = known.localisation.mitigation.runbook if known.localisation else ""
    key = f"{incident.id}/{stage.name}"
    return Notice(key, _SEVERITY[stage.name], title, body.strip(), told, incident.id, _name(runbook))


def _call_for_help(known: Known) -> Sequence[Notice]:
    """The data platform for its own outage, staff for a cause that has no name."""
    found, incident = known.localisation, known.incident
    assert found is not None
    role = {"upstream_data": DATA_PLATFORM, UNKNOWN: STAFF}.get(found.category)
    if role is None:
        return []
    title = f"{', '.join(incident.components)}: your help is needed ({found.category.replace('_', ' ')})"
    runbook = _name(found.mitigation.runbook)
    return [Notice(f"{incident.id}/{role}", "SEV-2", title, _proposal(known), (role,), incident.id, runbook)]


def _proposal(known: Known) -> str:
    if known.localisation is None:
        return ""
    found = known.localisation
    command = f" Command: {found.mitigation.command}" if found.mitigation.command else ""
    category = found.category.replace("_", " ")
    return f"Localised: {category} ({found.probability:.0%}). {found.mitigation.sentence}{command}"


def _name(runbook: str) -> str:
    return runbook.rpartition("/")[2].removesuffix(".md")
